"""Users and groups of a tree: what a Dockerfile's ``USER`` and ``--chown`` name.

Knows nothing of Dockerfiles, nor of how commands run: they all are uid 0 (DESIGN section 6).
"""

from __future__ import annotations

from collections.abc import Callable

from reprobuild.digest import Digest
from reprobuild.tree import Tree

MOST_BYTES = 4 * 1024 * 1024
LARGEST_ID = 2**31 - 1

Read = Callable[[Digest], bytes]


class NoSuchAccountError(LookupError):
    """A name that the tree's ``/etc/passwd`` or ``/etc/group`` does not have."""


def owner_of(text: str, tree: Tree, read: Read) -> tuple[int, int]:
    """Give uid and gid of ``user[:group]``, each a name or a number.

    Without a group it is the user's own; of a number, the number. Raises NoSuchAccountError.
    """
    user, _, group = text.partition(":")
    gid: int | None
    if user.isdecimal():
        uid = int(user)
        gid = uid
    else:
        row = _row(_rows(tree, read, "etc/passwd"), user, f"user {user!r}")
        uid, gid = int(row[2]), int(row[3])
    if group.isdecimal():
        gid = int(group)
    elif group:
        gid = int(_row(_rows(tree, read, "etc/group"), group, f"group {group!r}")[2])
    if max(uid, gid) > LARGEST_ID:
        raise NoSuchAccountError(f"{text}: a number past {LARGEST_ID}")
    return uid, gid


def home_of(text: str, tree: Tree, read: Read) -> str:
    """Give the home folder of a ``USER``: what ``/etc/passwd`` says, else ``/``."""
    user = text.partition(":")[0]
    for row in _rows(tree, read, "etc/passwd"):
        if (row[2] if user.isdecimal() else row[0]) == user and len(row) > 5 and row[5].startswith("/"):
            return row[5]
    return "/root" if user in ("root", "0", "") else "/"


def _rows(tree: Tree, read: Read, path: str) -> list[list[str]]:
    entry = tree.get(tree.resolve(path))
    if entry is None or entry.digest is None or entry.size > MOST_BYTES:
        return []
    lines = read(entry.digest).decode(errors="replace").splitlines()
    rows = [line.split(":") for line in lines]
    return [row for row in rows if len(row) > 3 and row[2].isdecimal()]


def _row(rows: list[list[str]], name: str, what: str) -> list[str]:
    for row in rows:
        if row[0] == name and (row[3].isdecimal() or what.startswith("group")):
            return row
    raise NoSuchAccountError(f"there is no {what} in the tree before it")
