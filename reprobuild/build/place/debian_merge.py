"""Many packages as one set of entries: links followed, directories shared, two owners of a file settled.

Knows nothing of what the packages are. The rules are dpkg's (dpkg(1); Debian Policy 7.6 for
``Replaces``), made independent of the order in which packages are unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reprobuild.build.place.debian_archive import Deb
from reprobuild.build.place.debian_diversions import diversions_of
from reprobuild.debian.relation import parse_relations
from reprobuild.errors import BuildFailedError
from reprobuild.tree import Entry, link, resolve

MERGED: Mapping[str, tuple[str, ...]] = {
    "amd64": ("bin", "lib", "lib64", "sbin"),
    "arm64": ("bin", "lib", "sbin"),
}
"""The directories that are links into ``usr``, by architecture: what base-files ships since Debian 13."""


class Merge:
    """Entries of packages at the paths where they come to lie."""

    def __init__(self, links: Mapping[str, str]) -> None:
        """Take the links of the tree below that packages' paths lead through: name → target."""
        self._below = {name: link(name, target) for name, target in links.items()}
        self._entries: dict[str, Entry] = dict(self._below)
        self._owners: dict[str, Deb] = {}
        self._parents: dict[str, str] = {}
        self._diverted: dict[str, tuple[Deb, str]] = {}

    def add_packages(self, debs: Sequence[Deb]) -> None:
        """Add packages: all their links first, so that paths go through them whichever package comes first.

        Raises BuildFailedError where two packages have one path and neither replaces the other.
        """
        for deb in debs:
            for path, target in diversions_of(deb).items():
                self._diverted.setdefault(resolve(self._entries, path), (deb, target))
        links = [(entry, deb) for deb in debs for entry in deb.entries if entry.kind == "l"]
        for entry, deb in sorted(links, key=lambda pair: pair[0].path):
            path = resolve(self._entries, entry.path, follow_last=False)
            if path not in self._below:
                self._claim(path, entry, deb)
        for deb in debs:
            for entry in deb.entries:
                if entry.kind == "d":
                    self._share(entry, deb)
                elif entry.kind == "f":
                    self._claim(self._lead(entry.path), entry, deb)

    def add(self, entry: Entry) -> None:
        """Add what no package has; it replaces what is there, but for a directory by a directory."""
        path = self._lead(entry.path)
        before = self._entries.get(path)
        if before is None or not before.kind == entry.kind == "d":
            self._entries[path] = entry._replace(path=path)

    def get(self, path: str) -> Entry | None:
        """Give what a path leads to, links followed, or None."""
        return self._entries.get(resolve(self._entries, path))

    def has(self, path: str) -> bool:
        """Tell whether something lies at a path, links on the way followed."""
        return self._lead(path) in self._entries

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries but those of the tree below, sorted by path."""
        return tuple(entry for path, entry in sorted(self._entries.items()) if path not in self._below)

    def _lead(self, path: str) -> str:
        """Follow the links on the way to a path, not one at its end."""
        parent, _, name = path.rpartition("/")
        led = self._parents.get(parent)
        if led is None:
            led = self._parents[parent] = resolve(self._entries, parent)
        return f"{led}/{name}" if led else name

    def _share(self, entry: Entry, deb: Deb) -> None:
        """Add a directory: many packages have it, and an unusual mode counts more than the usual one."""
        path = resolve(self._entries, entry.path)
        before = self._entries.get(path)
        if before is not None and before.kind != "d":
            raise self._quarrel(path, deb)
        if before is None or before.mode == 0o755:
            self._entries[path] = entry._replace(path=path)
            self._owners.setdefault(path, deb)

    def _claim(self, path: str, entry: Entry, deb: Deb) -> None:
        """Add a file or a link, which one package has, or two of which one replaces or diverts the other."""
        diverter, target = self._diverted.get(path, (deb, ""))
        if diverter is not deb:
            path = resolve(self._entries, target, follow_last=False)
        entry = entry._replace(path=path)
        before = self._entries.get(path)
        owner = self._owners.get(path)
        if before is not None and before != entry and owner is not None:
            if before.kind == "d" or not (replaces(deb, owner) or replaces(owner, deb)):
                raise self._quarrel(path, deb)
            if not replaces(deb, owner):
                return
        self._entries[path] = entry
        self._owners[path] = deb

    def _quarrel(self, path: str, deb: Deb) -> BuildFailedError:
        owner = self._owners.get(path)
        other = f"{owner.name} {owner.version}" if owner is not None else "the tree below"
        return BuildFailedError(
            f"/{path} is in {deb.name} {deb.version} and, as something else, in {other}; "
            "neither says that it replaces the other"
        )


def replaces(deb: Deb, other: Deb) -> bool:
    """Tell whether a package may overwrite files of another."""
    for clause in parse_relations(deb.fields.get("replaces", "")):
        for relation in clause:
            if relation.name == other.name and relation.accepts(other.version):
                return True
    return False
