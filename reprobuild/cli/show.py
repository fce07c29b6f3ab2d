"""``reprobuild show``: one recipe: options, pins, predictors, realisations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from reprobuild.cli.arguments import pairs
from reprobuild.cli.options import set_option, trust_option
from reprobuild.cli.output import document, print_json, print_text, table
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, size_text
from reprobuild.derivation.recorded import predictor_key, url_of
from reprobuild.derivation.steps import Run

SHOWN_HOSTS = 4

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reprobuild.build.evaluate import Evaluated
    from reprobuild.build.image import Realised
    from reprobuild.derivation.lockfile import Lock
    from reprobuild.derivation.pins import Pin
    from reprobuild.derivation.predictors import Predictor


@click.command("show")
@click.argument("name", metavar="NAME")
@set_option
@trust_option
@click.pass_obj
def command(session: Session, name: str, sets: tuple[str, ...], trust: bool) -> int:
    """Show a recipe: its options, steps and pins, predictors, and the images of it that are here.

    Or an image, by its tag or image ID.
    """
    from reprobuild.build.derive import lock_of
    from reprobuild.build.evaluate import evaluate
    from reprobuild.build.find import images, is_reference

    project = session.project()
    if is_reference(project, name):
        from reprobuild.cli.arguments import image_of
        from reprobuild.cli.show_image import describe_image, lines_of_image

        shown = describe_image(image_of(project, name, sets, trust=trust))
        if session.json:
            print_json(shown)
        else:
            print_text("\n".join(lines_of_image(shown)))
        return 0
    evaluated = evaluate(project, name, pairs(sets, "--set"), trust=trust)
    lock = lock_of(evaluated.folder, name)
    built = sorted(
        (image for image in images(project.store) if image.recipe == name), key=lambda image: image.tag
    )
    value = describe(evaluated, lock, built, project.platform)
    if session.json:
        print_json(value)
    else:
        print_text("\n".join(lines_of(value)))
    return 0


def describe(evaluated: Evaluated, lock: Lock | None, built: list[Realised], platform: str) -> dict[str, Any]:
    """Give what there is to say of a recipe, as a document."""
    recipe = evaluated.recipe
    steps = []
    for step in recipe.image.steps:
        row: dict[str, Any] = {"kind": step.kind, "title": step.title, "where": str(step.where)}
        if step.is_source:
            pins = None if lock is None else lock.sources.get(step.lock_key(platform))
            row["pins"] = None if pins is None else _sum(pins, is_recorded=isinstance(step, Run))
        steps.append(row)
    return document(
        recipe=recipe.name,
        version=recipe.version,
        summary=recipe.summary,
        folder=str(evaluated.folder),
        locked=lock is not None,
        options={
            name: {"type": option.type, "default": option.default, "chosen": recipe.chosen.get(name)}
            for name, option in recipe.options.items()
        },
        steps=steps,
        predictors={
            name: describe_predictor(one) | _recorded(name, one, lock, platform)
            for name, one in recipe.image.predictors.items()
        },
        images=[
            {"tag": image.tag, "image_id": str(image.image_id), "options": dict(image.options)}
            for image in built
        ],
    )


def _sum(pins: Sequence[Pin], *, is_recorded: bool) -> dict[str, Any]:
    """Say of pins how many they are and how large; of exchanges, with which hosts."""
    found: dict[str, Any] = {"count": len(pins), "size": sum(pin.size for pin in pins)}
    if is_recorded:
        found["hosts"] = sorted({urlsplit(url_of(pin)).hostname or "?" for pin in pins})
    return found


def _recorded(name: str, one: Predictor, lock: Lock | None, platform: str) -> dict[str, Any]:
    if not one.network:
        return {}
    pins = None if lock is None else lock.sources.get(predictor_key(name, one, platform))
    return {"pins": None if pins is None else _sum(pins, is_recorded=True)}


def describe_predictor(one: Predictor) -> dict[str, Any]:
    """Give what there is to say of a predictor."""
    return {
        "command": one.command,
        "inputs": dict(one.inputs),
        "outputs": dict(one.outputs),
        "protocol": one.protocol,
        "scope": one.scope,
        "cuda": one.cuda,
        "parameters": {name: parameter.default for name, parameter in one.parameters.items()},
        "examples": len(one.examples),
        **({"macro": one.macro} if one.macro else {}),
    }


def lines_of(value: dict[str, Any]) -> list[str]:
    """Write the document for people."""
    summary = f": {value['summary']}" if value["summary"] else ""
    lines = [f"{value['recipe']} {value['version']}{summary}", f"  {value['folder']}"]
    if not value["locked"]:
        lines.append(f"  not locked: reprobuild lock {value['recipe']}")
    if value["options"]:
        lines.append("options (--set OPTION=VALUE)")
        for name, option in value["options"].items():
            chosen, default = (_plain(option[key]) for key in ("chosen", "default"))
            lines.append(f"  {name}={chosen}  ({option['type']}, by default {default})")
    lines.append("steps")
    rows = [(f"  {number}", step["title"], _pins(step)) for number, step in enumerate(value["steps"], 1)]
    lines += table(rows).split("\n")
    lines += predictor_lines(value["predictors"])
    lines.append("images here" if value["images"] else "no image here")
    lines += [f"  {image['tag']}  {image['image_id']}" for image in value["images"]]
    return lines


def predictor_lines(predictors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Write predictors for people: a heading, and two lines each."""
    lines = ["predictors"] if predictors else []
    for name, one in predictors.items():
        inputs = ", ".join(f"{key}: {kind}" for key, kind in one["inputs"].items())
        outputs = ", ".join(f"{key}: {kind}" for key, kind in one["outputs"].items())
        lines.append(f"  {name}({inputs}) → {outputs}")
        given = "".join(f", {key}={default}" for key, default in one["parameters"].items())
        recorded = f"; {_pins({'kind': 'predictor', **one})}" if "pins" in one else ""
        macro = f"macro {one['macro']}, " if "macro" in one else ""
        gpu = "can use a GPU, " if one["cuda"] else ""
        lines.append(
            f"    scope {one['scope']}, {gpu}{macro}{count_text(one['examples'], 'example')}{given}{recorded}"
        )
    return lines


def _plain(value: object) -> str:
    """Write an option's value as ``--set`` reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pins(step: dict[str, Any]) -> str:
    if "pins" not in step:
        return ""
    if step["pins"] is None:
        return "not recorded" if step["kind"] in ("run", "predictor") else "not pinned"
    pins = step["pins"]
    if "hosts" not in pins:
        return f"{count_text(pins['count'], 'pin')}, {size_text(pins['size'])}"
    hosts = pins["hosts"][:SHOWN_HOSTS]
    more = len(pins["hosts"]) - len(hosts)
    named = ", ".join(hosts) + (f" and {more} more" if more else "")
    told = f"{count_text(pins['count'], 'exchange')}, {size_text(pins['size'])}"
    return told + (f", with {named}" if named else "")
