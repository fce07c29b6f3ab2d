"""Parts that work the same for root and for an ordinary user: their tests may be marked ``once``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.projects import SOURCE

ASKS = re.compile(r"\b(chown|fchown|lchown|geteuid|getuid|getegid|getgid|getresuid|owner)\(|\.owner\b")
FLOORS = ("debian", "derivation", "fetch", "gateway", "images", "lock", "publish", "registry")
KNOWN = {"gateway/authority.py"}
"""Its key belongs to the store's owner: both runs have a test of it."""


def asking(folder: Path) -> set[str]:
    """Give the modules in a folder that look at who runs them, or give files away."""
    paths = (path for path in folder.rglob("*.py") if ASKS.search(path.read_text()))
    return {str(path.relative_to(folder)) for path in paths}


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_does_not_ask_who_runs_it(floor: str) -> None:
    package = SOURCE / "reprobuild"
    assert {f"{floor}/{path}" for path in asking(package / floor)} <= KNOWN


def test_where_it_counts_it_is_found() -> None:
    assert {"transaction.py", "checkouts.py", "store.py"} <= asking(SOURCE / "reprobuild" / "store")
    assert asking(SOURCE / "reprobuild" / "engine")
