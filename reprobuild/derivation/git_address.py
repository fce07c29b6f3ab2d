"""What can be told of a git repository's address and of a commit without asking for them.

Knows nothing of the network, nor of what a commit holds.
"""

from __future__ import annotations

import re
import shlex
from urllib.parse import urlsplit

from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SCP = re.compile(r"(?:[^@/]+@)?([^:/]+):(?!//)(.+)")


def check_repository(url: str, where: Where) -> None:
    """Raise RecipeError for what is no address of a repository, nor ``file:`` and the path of a bundle."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise RecipeError(
            f"{where}: git() holds a user name or password, which would be kept in the lock",
            "put credentials into ~/.netrc, and name the https address without them",
        )
    if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.hostname):
        scp = _SCP.fullmatch(url)
        raise RecipeError(
            f"{where}: git({url!r}): not an http or https address, nor file: and the path of a bundle",
            f"most hosts answer at https://{scp[1]}/{scp[2]}" if scp else "",
        )


def check_commit(commit: str, url: str, where: Where) -> None:
    """Raise RecipeError for what is no whole name of a commit, with the command that tells it."""
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        meant = _full_commit(url, str(commit or "HEAD"))
        raise RecipeError(f"{where}: git(): {commit!r} is no full commit", meant)


def _full_commit(url: str, commit: str) -> str:
    """Give the command that tells the whole name of what was meant by a commit."""
    if re.fullmatch(r"[0-9a-fA-F]{4,64}", commit):
        return f"in a clone of it: git rev-parse {commit}^{{commit}}"
    return f"git ls-remote {shlex.quote(url)} {shlex.quote(commit)}"
