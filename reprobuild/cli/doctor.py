"""``reprobuild doctor``: what this machine offers, what is missing, the command that mends it."""

from __future__ import annotations

import dataclasses

import click

from reprobuild.cli.output import document, print_json, print_text, table
from reprobuild.cli.session import Session
from reprobuild.errors import OutsideError


@click.command("doctor")
@click.pass_obj
def command(session: Session) -> int:
    """Say what this machine offers and what is missing, with the command that mends it.

    Exit code 5 if something that is needed is missing.
    """
    from reprobuild.build.machine import examine

    findings = examine(session.project())
    if session.json:
        print_json(document(findings=[dataclasses.asdict(finding) for finding in findings]))
    else:
        rows: list[tuple[str, ...]] = []
        for finding in findings:
            rows.append((finding.status, finding.name, finding.what))
            if finding.mend:
                rows.append(("", "", f"→ {finding.mend}"))
        print_text(table(rows))
    return OutsideError.exit_code if any(finding.status == "missing" for finding in findings) else 0
