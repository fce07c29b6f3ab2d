"""``reprobuild export``: write an image as an OCI layout or a docker archive."""

from __future__ import annotations

from pathlib import Path

import click

from reprobuild.cli.arguments import image_of, pairs
from reprobuild.cli.options import set_option, trust_option
from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, size_text
from reprobuild.errors import UsageError

NEXT = {
    "oci": "skopeo inspect oci-archive:{path}",
    "oci-dir": "skopeo inspect oci:{path}",
    "docker": "docker load --input {path}",
}
"""What to do with an export."""


@click.command("export")
@click.argument("name", metavar="NAME")
@click.option("--to", "path", metavar="PATH", help="Where to write it.")
@click.option(
    "--sources", metavar="DIR", help="Write every pinned file to this folder instead, named by its digest."
)
@click.option(
    "--closure", metavar="FILE", help="Write image, lock and provenance as one file for reprobuild import."
)
@click.option("--with-sources", is_flag=True, help="With --closure: every pinned file too.")
@click.option("--predictions", is_flag=True, help="With --closure: what the cache has of it too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["oci", "oci-dir", "docker"]),
    default="oci",
    show_default=True,
    help="An OCI layout as one file, as a folder, or an archive for docker load.",
)
@set_option
@trust_option
@click.pass_obj
def command(
    session: Session,
    name: str,
    path: str | None,
    sources: str | None,
    closure: str | None,
    with_sources: bool,
    predictions: bool,
    form: str,
    sets: tuple[str, ...],
    trust: bool,
) -> int:
    """Write a recipe's image (built first if need be), or one of the store by its tag or image ID.

    The same image gives the same bytes, whenever and wherever it is exported. With --closure, what publish
    pushes, as one file; with --sources, everything that the recipe's lock pins: reprobuild import takes
    either into another store, of a machine without network perhaps.
    """
    ways = {"--to": path, "--sources": sources, "--closure": closure}
    given = [way for way, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", "give one, then the other")
    if not given:
        raise UsageError(
            "one of --to, --sources and --closure is needed", f"reprobuild export {name} --to image.tar"
        )
    if (with_sources or predictions) and closure is None:
        raise UsageError("--with-sources and --predictions are for --closure", "add --closure FILE")
    if closure is not None:
        from reprobuild.cli import closure as closures

        return closures.export(
            session, name, closure, sets, with_sources=with_sources, predictions=predictions, trust=trust
        )
    if sources is not None:
        return _export_sources(session, name, Path(sources).absolute(), sets, trust=trust)
    assert path is not None
    from reprobuild.build.export import export

    to = Path(path).absolute()
    with session.working() as project:
        realised = image_of(project, name, sets, trust=trust)
        is_written = export(project.store, realised, to, form)  # type: ignore[arg-type]  # click checked it
    if session.json:
        fields = {"tag": realised.tag, "image_id": str(realised.image_id), "path": str(to), "format": form}
        print_json(document(**fields, written=is_written))
        return 0
    how = "written" if is_written else "is there already"
    then = NEXT[form].format(path=to)
    print_text(f"{to}: {realised.tag} {how}\n  image ID  {realised.image_id}\n  next      {then}")
    return 0


def _export_sources(session: Session, name: str, to: Path, sets: tuple[str, ...], *, trust: bool) -> int:
    from reprobuild.build.derive import derive_recipe
    from reprobuild.build.sources import export_sources

    with session.working() as project:
        derived = derive_recipe(project, name, pairs(sets, "--set"), trust=trust)
        pinned = export_sources(project, derived, to)
    size = sum(pinned.values())
    if session.json:
        print_json(document(recipe=name, path=str(to), files=len(pinned), size=size))
        return 0
    print_text(
        f"{to}: {count_text(len(pinned), 'file')}, {size_text(size)}: all that {name} pins\n"
        f"  next      reprobuild import {to}"
    )
    return 0
