"""What a test needs of the machine: there, or the test is skipped with the reason.

With ``REPROBUILD_REQUIRE=all``, or a list of names in it (``skopeo,dockerd``), what is missing is a
failure instead: so a machine that should run everything can't skip in silence. ``all,-dockerd`` means all
but that.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where daemons are that an ordinary user's PATH does not name."""


def require(name: str, missing: str | None = None) -> None:
    """Go on only where a thing can be had.

    ``missing``: why it can't, empty where it can; left out, ``name`` is a program to look for.
    """
    if missing is None:
        missing = "" if find_program(name) else f"{name} is not installed"
    if not missing:
        return
    names = wanted()
    if name in names or ("all" in names and f"-{name}" not in names):
        pytest.fail(f"REPROBUILD_REQUIRE asks for {name}: {missing}", pytrace=False)
    pytest.skip(missing)


def wanted() -> list[str]:
    """Give the names in ``REPROBUILD_REQUIRE``."""
    return os.environ.get("REPROBUILD_REQUIRE", "").replace(",", " ").split()


def find_program(name: str) -> Path | None:
    """Give where a program is, daemons' folders included, or None."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *PLACES))
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def program(name: str) -> Path:
    """Give where a program is, or skip (or fail) as ``require`` does."""
    require(name)
    found = find_program(name)
    assert found is not None
    return found
