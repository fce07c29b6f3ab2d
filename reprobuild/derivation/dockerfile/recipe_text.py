"""The text of a recipe, given its steps as they are to be written.

Knows nothing of what the steps are of.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence

from reprobuild.derivation.predictors import Json


def recipe_text(name: str, steps: Sequence[str], env: Mapping[str, str], workdir: str, start: str) -> str:
    """Give a recipe with a predictor to be replaced; ``start``: what the Dockerfile's image starts with."""
    words = sorted({step.partition("(")[0] for step in steps} | {"image", "predictor", "recipe"})
    lines = "\n".join(f"        {step}," for step in steps)
    more = f"        env={q(dict(env))},\n" if env else ""
    more += f"        workdir={q(workdir)},\n" if workdir else ""
    said = f"        # The Dockerfile's own: {start}\n" if start else ""
    function = name.replace("-", "_")
    head = textwrap.dedent(f'''\
        """{name}: drafted from a Dockerfile. Say here in a line what it is."""
        from reprobuild import {", ".join(words)}


        @recipe(version="0.1")
        def {function}():
            return image(
        ''')
    return (
        f"{head}{lines}\n{more}{said}"
        "        predictors={\n"
        '            "default": predictor(\n'
        "                # Write here what reads JSON Lines and writes one line for each.\n"
        '                "cp {input} {output}",\n'
        '                inputs={"text": str},\n'
        '                outputs={"text": str},\n'
        '                examples=[({"text": "abc"}, {"text": "abc"})],\n'
        "            ),\n"
        "        },\n"
        "    )\n"
    )


def q(value: Json) -> str:
    """Give a text, or a list or mapping of texts, as Python writes it, in double quotes."""
    return json.dumps(value, ensure_ascii=False)
