"""``reprobuild import``: take closures, and files by digest, into the store."""

from __future__ import annotations

from pathlib import Path

import click

from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, size_text, visible
from reprobuild.errors import UsageError

SHOWN_UNWANTED = 12
"""Files that no pin wants are listed up to here; then they are counted."""


@click.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.pass_obj
def command(session: Session, paths: tuple[str, ...]) -> int:
    """Take closures (reprobuild export NAME --closure FILE) into the store: image, sources, predictions.

    Other files, or all files of folders, are taken by their digests, where pins find them: exports of the
    same recipe (reprobuild export NAME --sources DIR), files of a colleague, for what servers do not give any
    more. What nothing pins is given back by gc after a day.
    """
    from reprobuild.build.sources import import_files
    from reprobuild.cli.closure import describe, lines
    from reprobuild.publish.closure import closure_of, import_closure

    if "" in paths:
        raise UsageError(
            "import '': a file or a folder is needed", "name what has the bytes; this folder is ."
        )
    with session.working() as project:
        closures = {path: closure for path in paths if (closure := closure_of(Path(path))) is not None}
        taken = [import_closure(project, one) for one in closures.values()]
        found = import_files(project, [Path(path) for path in paths if path not in closures])
    if session.json:
        files = [
            {
                "path": str(one.path),
                "sha256": one.digest.hex,
                "size": one.size,
                "wanted_by": list(one.wanted_by),
            }
            for one in found
        ]
        print_json(document(files=files, images=[describe(*one) for one in taken]))
        return 0
    for one_closure in taken:
        print_text("\n".join(lines(*one_closure)))
    if taken and not found:
        return 0
    told = []
    unwanted = 0
    for one in found:
        unwanted += not one.wanted_by
        if not one.wanted_by and unwanted > SHOWN_UNWANTED:
            continue
        told.append(f"{one.digest}  {size_text(one.size)}  {one.path}")
        told += [f"  wanted by {pin}" for pin in one.wanted_by] or ["  no pin of these recipes wants it"]
    if unwanted > SHOWN_UNWANTED:
        told.append(f"… and {count_text(unwanted - SHOWN_UNWANTED, 'file')} more that no pin wants")
    known = sum(bool(one.wanted_by) for one in found)
    told.append(f"{count_text(len(found), 'file')} taken into the store, {known} of them pinned")
    print_text(visible("\n".join(told)))
    return 0
