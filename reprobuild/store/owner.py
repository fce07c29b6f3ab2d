"""Whose the files of a store are: the user's own, or, when root runs us, those of a uid that nobody uses.

Knows nothing of sandboxes; these give root up and become that uid (DESIGN section 8), so that nothing
inside one owns anything outside the store.
"""

from __future__ import annotations

import os

FIXED_UID = 1_900_000_000
"""Far from the ranges of people (1000 to 60000), systemd (61184 to 65519, 524288 to 1879048191) and
sub-uids (100000 to 600100000 in shadow's login.defs)."""

NOBODY = 65534


def choose_owner() -> int | None:
    """Give the uid (and gid) that a new store of this process belongs to; None: the user's own."""
    if os.geteuid() != 0:
        return None
    ranges = _mapped("uid_map"), _mapped("gid_map")
    if all(_holds(mapped, FIXED_UID) for mapped in ranges):
        return FIXED_UID
    tops = (min(first + count - 1, NOBODY - 1) for first, count in ranges[0] if first < NOBODY)
    for candidate in range(max(tops, default=0), 0, -1):
        if is_nobodys(candidate) and all(_holds(mapped, candidate) for mapped in ranges):
            return candidate
    return None


def is_nobodys(uid: int) -> bool:
    """Tell whether no account of this machine has a uid."""
    import pwd

    try:
        pwd.getpwuid(uid)
    except KeyError:
        return True
    return False


def name_of(uid: int) -> str:
    """Give what a person calls a uid: ``ada``, or ``uid 1234`` where it has no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def is_mapped(uid: int) -> bool:
    """Tell whether files can be given to a uid, and a gid of the same number, from here."""
    return _holds(_mapped("uid_map"), uid) and _holds(_mapped("gid_map"), uid)


def _mapped(which: str) -> list[tuple[int, int]]:
    """Read the ranges of ids that exist here (user_namespaces(7)): first id and how many."""
    try:
        with open(f"/proc/self/{which}", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return [(0, 2**32 - 1)]
    return [(int(row[0]), int(row[2])) for row in rows]


def _holds(ranges: list[tuple[int, int]], number: int) -> bool:
    return any(first <= number < first + count for first, count in ranges)
