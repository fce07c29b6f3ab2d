"""How an image that is in the store reads: what ``show TAG`` prints.

Knows nothing of recipes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprobuild.cli.output import document, table
from reprobuild.cli.show import describe_predictor, predictor_lines
from reprobuild.cli.text import size_text

if TYPE_CHECKING:
    from reprobuild.build.image import Realised


def describe_image(image: Realised) -> dict[str, Any]:
    """Give what there is to say of an image, as a document."""
    return document(
        tag=image.tag,
        recipe=image.recipe,
        version=image.version,
        options=dict(image.options),
        image_id=str(image.image_id),
        input_hash=str(image.input_hash),
        engine=image.engine,
        isolation=image.isolation,
        layers=[
            {"step": layer.step, "diff_id": str(layer.diff_id), "size": layer.size} for layer in image.layers
        ],
        env=dict(image.env),
        workdir=image.workdir,
        predictors={name: describe_predictor(one) for name, one in image.predictors.items()},
    )


def lines_of_image(value: dict[str, Any]) -> list[str]:
    """Write the document for people."""
    made = value["isolation"] if value["engine"] in value["isolation"] else f"by {value['engine']}"
    lines = [
        value["tag"],
        f"  image ID    {value['image_id']}",
        f"  input hash  {value['input_hash']}",
        f"  made        {made}",
    ]
    if value["options"]:
        lines.append("options")
        lines += [f"  {name}={option}" for name, option in value["options"].items()]
    lines.append("layers")
    rows = [
        (f"  {number}", layer["step"], size_text(layer["size"]))
        for number, layer in enumerate(value["layers"], 1)
    ]
    lines += table(rows).split("\n")
    return lines + predictor_lines(value["predictors"])
