"""Place Debian packages: their files on a merged ``/usr``, and what their maintainer scripts would make.

Knows nothing of indexes or of choosing. No script runs: what the common ones make comes from tables
(``debian_accounts``, ``debian_alternatives``, ``debian_certificates``, ``debian_defaults``), and a
package whose script would have done more is named in a note (``debian_scripts``). See ``docs/apt.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from reprobuild.build.place import (
    debian_accounts,
    debian_alternatives,
    debian_certificates,
    debian_defaults,
    debian_scripts,
)
from reprobuild.build.place.debian_archive import Deb, unpack
from reprobuild.build.place.debian_merge import MERGED, Merge
from reprobuild.build.place.parallel import largest_first
from reprobuild.build.place.placement import Placement
from reprobuild.debian.installed import STATUS_FOLDER, SUMS
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Apt
from reprobuild.tree import Entry, Tree, file, link

if TYPE_CHECKING:
    from reprobuild.store.store import Store
    from reprobuild.store.transaction import Transaction


def facts(step: Apt, tree: Tree, store: Store) -> dict[str, Json]:
    """Give what placing depends on of the tree below.

    ``links``: top directories that are links, and where to (empty: a real directory); ``files``:
    digests of the files that placing adds to, where the tree has them.
    """
    links: dict[str, Json] = {}
    for name in sorted({name for names in MERGED.values() for name in names}):
        entry = tree.get(name)
        if entry is not None:
            links[name] = entry.target
    files: dict[str, Json] = {}
    for path in (debian_accounts.PASSWD, debian_accounts.GROUP, debian_certificates.BUNDLE):
        entry = tree.get(path)
        if entry is not None and entry.digest is not None:
            files[path] = entry.digest.hex
    for entry in tree.below(debian_alternatives.ADMIN):
        if entry.digest is not None:
            files[entry.path] = entry.digest.hex
    return {"files": files, "links": links}


def place(
    step: Apt, pins: Sequence[Pin], facts: Mapping[str, Json], store: Store, group: Transaction
) -> Placement:
    """Give the entries of the pinned packages; bodies go into the group.

    Raises ArchiveError for a package that does not unpack, BuildFailedError for two that have one path.
    """
    debs = _unpack_all(pins, store, group)
    merge = _merge(pins, facts)
    debian_defaults.link_first(debs, merge)
    merge.add_packages(debs)
    below = _Below(cast(Mapping[str, str], facts["files"]), store)
    debian_defaults.configure(debs, merge, group)
    debian_accounts.configure(debs, merge, group, below.read)
    debian_certificates.configure(debs, merge, group, below.read)
    debian_alternatives.configure(debs, merge, group, below.files_in)
    for deb in debs:
        _add_status(deb, merge, group)
    return Placement(merge.entries, debian_scripts.notes(debs))


def unpacked(
    pins: Sequence[Pin], facts: Mapping[str, Json], store: Store, group: Transaction
) -> tuple[Entry, ...]:
    """Give the files of the pinned packages and nothing else: what dpkg itself needs to be run at all."""
    merge = _merge(pins, facts)
    merge.add_packages(_unpack_all(pins, store, group))
    return merge.entries


def _merge(pins: Sequence[Pin], facts: Mapping[str, Json]) -> Merge:
    """Begin with the links of the tree below, and with those of a merged ``/usr`` that it lacks."""
    links = cast(Mapping[str, str], facts["links"])
    merge = Merge({name: target for name, target in links.items() if target})
    architectures = {str(pin.hashed.get("arch", "")) for pin in pins}
    for arch in sorted(architectures & set(MERGED)):
        for name in MERGED[arch]:
            if name not in links:
                merge.add(link(name, f"usr/{name}"))
    return merge


class _Below:
    """The files of the tree below that the facts name."""

    def __init__(self, files: Mapping[str, str], store: Store) -> None:
        from reprobuild.digest import Digest

        self._files = {path: Digest(text) for path, text in files.items()}
        self._store = store

    def read(self, path: str) -> bytes:
        """Give a file's bytes, or nothing where there is none."""
        digest = self._files.get(path)
        return b"" if digest is None else self._store.blobs.read(digest)

    def files_in(self, folder: str) -> dict[str, bytes]:
        """Give the files of a folder by name."""
        prefix = folder + "/"
        return {path.removeprefix(prefix): self.read(path) for path in self._files if path.startswith(prefix)}


def _unpack_all(pins: Sequence[Pin], store: Store, group: Transaction) -> list[Deb]:
    """Unpack packages, some at a time; give all in order."""

    def work(index: int) -> Deb:
        with store.blobs.open(pins[index].sha256) as archive:
            return unpack(archive, pins[index], group)

    return largest_first(work, pins)


def _add_status(deb: Deb, merge: Merge, group: Transaction) -> None:
    """Say that a package is there, where scanners look for it in images without dpkg's database."""
    lines = deb.control["control"].decode("utf-8", "replace").strip("\n").split("\n")
    first = next((n for n, line in enumerate(lines) if line.lower().startswith("package:")), 0)
    lines.insert(first + 1, "Status: install ok installed")
    contents = {"": ("\n".join(lines) + "\n").encode()}
    if sums := deb.control.get("md5sums"):
        contents[SUMS] = sums
    for suffix, data in contents.items():
        merge.add(file(f"{STATUS_FOLDER}/{deb.name}{suffix}", group.add_bytes(data), len(data)))
