"""``reprobuild import``: take files into the store by digest."""

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
    """Take files, or all files of folders, into the store, where pins find them by their digests.

    For what servers do not give any more: exports of the same recipe (reprobuild export NAME --sources
    DIR), files of a colleague. What nothing pins is given back by gc after a day.
    """
    from reprobuild.build.sources import import_files

    if "" in paths:
        raise UsageError(
            "import '': a file or a folder is needed", "name what has the bytes; this folder is ."
        )
    with session.working() as project:
        found = import_files(project, [Path(path) for path in paths])
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
        print_json(document(files=files))
        return 0
    lines = []
    unwanted = 0
    for one in found:
        unwanted += not one.wanted_by
        if not one.wanted_by and unwanted > SHOWN_UNWANTED:
            continue
        lines.append(f"{one.digest}  {size_text(one.size)}  {one.path}")
        lines += [f"  wanted by {text}" for text in one.wanted_by] or ["  no pin of these recipes wants it"]
    if unwanted > SHOWN_UNWANTED:
        lines.append(f"… and {count_text(unwanted - SHOWN_UNWANTED, 'file')} more that no pin wants")
    known = sum(bool(one.wanted_by) for one in found)
    lines.append(f"{count_text(len(found), 'file')} taken into the store, {known} of them pinned")
    print_text(visible("\n".join(lines)))
    return 0
