"""Where the recipes of a project are kept, as far as its git repository says so.

Knows nothing of what else the repository holds. Only addresses on public forges are given: that of an inner
server would tell strangers of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from reprobuild.process import run_program

FORGES = ("bitbucket.org", "codeberg.org", "git.sr.ht", "github.com", "gitlab.com")
TIME_LIMIT = 10.0
_REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://(?:[^@/]*@)?(?P<host>[a-z0-9.-]+)(?::\d+)?/|(?:[^@/]+@)(?P<name>[a-z0-9.-]+):)"
    r"(?P<path>~?[\w.-]+(?:/[\w.-]+)+)/?"
)


def origin(project: str, environment: Mapping[str, str] = os.environ) -> str:
    """Give the https address of the remote ``origin`` of the repository that a folder is in, or ``""``."""
    if not project:
        return ""
    command = ["git", "-C", project, "config", "--get", "remote.origin.url"]
    known = {name: environment[name] for name in ("HOME", "PATH") if name in environment}
    try:
        ended = run_program(command, env=known, limit=TIME_LIMIT)
    except OSError:  # no git, or one that does not end
        return ""
    return address(ended.output.decode("utf-8", "replace").strip())


def address(remote: str) -> str:
    """Give the https address that a remote's repository has on a public forge, without credentials."""
    found = _REMOTE.fullmatch(remote)
    if found is None:
        return ""
    host = (found["host"] or found["name"]).lower()
    return f"https://{host}/{found['path'].removesuffix('.git')}" if host in FORGES else ""
