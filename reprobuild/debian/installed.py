"""The Debian packages that a tree has: where the tree says so, and what they are.

Knows nothing of archives. A tree says so in ``var/lib/dpkg/status`` (dpkg's own) and in
``var/lib/dpkg/status.d/`` (one file a package, as images without dpkg have it, and as ``apt(…)`` writes
it).
"""

from __future__ import annotations

from collections.abc import Callable

from reprobuild.debian.control import parse_stanzas
from reprobuild.debian.index import Package, read_package
from reprobuild.digest import Digest
from reprobuild.tree import Entry, Tree

STATUS = "var/lib/dpkg/status"
STATUS_FOLDER = "var/lib/dpkg/status.d"
SUMS = ".md5sums"


def status_files(tree: Tree) -> list[Entry]:
    """Give the files of a tree that say which packages it has."""
    found = [tree.get(STATUS), *tree.below(STATUS_FOLDER)]
    return [e for e in found if e is not None and e.kind == "f" and not e.path.endswith(SUMS)]


def read_installed(tree: Tree, read: Callable[[Digest], bytes]) -> dict[str, Package]:
    """Read the packages of a tree, by name; ``read`` gives a file's bytes. Raises CheckFailedError."""
    installed = {}
    for entry in status_files(tree):
        assert entry.digest is not None
        for fields in parse_stanzas(read(entry.digest).decode("utf-8", "replace")):
            if fields.get("status", "").split()[-1:] == ["installed"]:
                package = read_package(fields)
                installed[package.name] = package
    return installed
