"""Packages of an archive or of a tree: read from control data, found by name or by what they provide.

Knows nothing of signatures, of choosing, or of where the text came from. A suite has 60,000 packages
and a resolution looks at some hundreds, so stanzas are read when somebody asks for them. Source of the
format: Debian Policy 4.6 chapter 5, and the repository format (wiki.debian.org/DebianRepository/Format,
"Packages").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reprobuild.debian.control import Stanza, parse_stanza
from reprobuild.debian.relation import PACKAGE_NAME, Clause, Relation, parse_relations
from reprobuild.debian.version import version_key
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError

PRIORITIES = ("required", "important", "standard", "optional", "extra")

_POOL_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~:%/-]*")

_PROVIDES = re.compile(rb"^Provides:(.*(?:\n[ \t].*)*)", re.MULTILINE)
_NAMES = re.compile(rb"(?:^|,)\s*([a-z0-9][a-z0-9+.-]*)")


class PackageError(CheckFailedError):
    """A stanza that names no package, or one that leads astray."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package in one version, as control data describes it."""

    name: str
    version: str
    arch: str
    depends: tuple[Clause, ...] = ()
    """``Pre-Depends`` and ``Depends``: all of them."""
    conflicts: tuple[Relation, ...] = ()
    """``Conflicts`` and ``Breaks``: none of them."""
    provides: tuple[Relation, ...] = ()
    """With ``=`` where the provided name has a version."""
    priority: int = len(PRIORITIES)
    """Index into ``PRIORITIES``."""
    is_essential: bool = False
    path: str = ""
    """In the archive; empty for an installed package."""
    size: int = 0
    """Bytes of the ``.deb``."""
    sha256: Digest | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def is_installed(self) -> bool:
        """Whether it is in the tree below rather than in an archive."""
        return not self.path


def read_package(fields: Stanza) -> Package:
    """Read what resolving needs of a stanza; raises CheckFailedError for fields that make no sense."""
    name = fields.get("package", "")
    if not PACKAGE_NAME.fullmatch(name):
        raise PackageError(f"not the name of a package: {name[:120]!r}")
    version = fields.get("version", "")
    version_key(version)
    both = (fields.get("pre-depends", ""), fields.get("depends", ""))
    against = (fields.get("conflicts", ""), fields.get("breaks", ""))
    priority = fields.get("priority", "")
    return Package(
        name=name,
        version=version,
        arch=fields.get("architecture", ""),
        depends=tuple(clause for text in both for clause in parse_relations(text)),
        conflicts=tuple(r for text in against for clause in parse_relations(text) for r in clause),
        provides=tuple(r for clause in parse_relations(fields.get("provides", "")) for r in clause),
        priority=PRIORITIES.index(priority) if priority in PRIORITIES else len(PRIORITIES),
        is_essential=fields.get("essential", "") == "yes",
    )


def read_archived(fields: Stanza) -> Package:
    """Read a stanza of ``Packages``, which says where the ``.deb`` is too; raises CheckFailedError."""
    package = read_package(fields)
    path, size, sha256 = fields.get("filename", ""), fields.get("size", ""), fields.get("sha256", "")
    path = path.removeprefix("./")
    parts = path.split("/")
    if not _POOL_PATH.fullmatch(path) or ".." in parts or "" in parts or not path.endswith(".deb"):
        raise PackageError(f"{package}: not a path of an archive: {path[:200]!r}")
    try:
        digest = Digest(sha256)
    except ValueError:
        raise PackageError(f"{package}: its sha256 is none: {sha256[:80]!r}") from None
    if not (size.isascii() and size.isdigit() and len(size) < 15):
        raise PackageError(f"{package}: its size is none: {size[:80]!r}")
    return Package(
        **{
            name: getattr(package, name)
            for name in Package.__slots__
            if name not in ("path", "size", "sha256")
        },
        path=path,
        size=int(size),
        sha256=digest,
    )


class Index:
    """Packages by name and by what they provide; those of an archive are read when asked for."""

    def __init__(self, texts: Iterable[bytes], installed: Mapping[str, Package] | None = None) -> None:
        """Take ``Packages`` files, and what a tree has already, which stands for all versions of its name."""
        self.installed: Mapping[str, Package] = dict(installed or {})
        self._stanzas: dict[str, list[bytes]] = {}
        self._providing: dict[str, list[bytes]] = {}
        self._read: dict[bytes, Package] = {}
        self._found: dict[str, tuple[Package, ...]] = {}
        self._provided: dict[str, tuple[tuple[Package, str], ...]] = {}
        for text in texts:
            self._add(text)

    def _add(self, text: bytes) -> None:
        for stanza in text.split(b"\n\n"):
            start = 0 if stanza.startswith(b"Package:") else stanza.find(b"\nPackage:") + 1
            if not stanza.startswith(b"Package:", start):
                continue
            end = stanza.find(b"\n", start)
            name = stanza[start + 8 : end if end >= 0 else None].strip()
            self._stanzas.setdefault(name.decode("utf-8", "replace"), []).append(stanza)
            for found in _PROVIDES.finditer(stanza) if b"\nProvides:" in stanza else ():
                for provided in _NAMES.findall(found[1]):
                    self._providing.setdefault(provided.decode(), []).append(stanza)

    def _package(self, stanza: bytes) -> Package:
        found = self._read.get(stanza)
        if found is None:
            found = self._read[stanza] = read_archived(parse_stanza(stanza.decode("utf-8", "replace")))
        return found

    def names(self) -> list[str]:
        """Give the names of all packages, sorted."""
        return sorted({*self._stanzas, *self.installed})

    def named(self, name: str) -> tuple[Package, ...]:
        """Give the versions of a package, the highest first: the installed one alone where there is one."""
        if name in self.installed:
            return (self.installed[name],)
        found = self._found.get(name)
        if found is None:
            packages = {p.version: p for p in map(self._package, self._stanzas.get(name, ()))}
            ordered = sorted(packages.values(), key=lambda p: version_key(p.version), reverse=True)
            found = self._found[name] = tuple(ordered)
        return found

    def providers(self, name: str) -> tuple[tuple[Package, str], ...]:
        """Give packages that provide a name, each with the version that it provides (or empty).

        The installed ones first, then by priority, then by name.
        """
        found = self._provided.get(name)
        if found is None:
            archived = map(self._package, self._providing.get(name, ()))
            packages = [p for p in archived if p.name not in self.installed]
            packages.extend(self.installed.values())
            pairs = [
                (package, provided.version if provided.operator == "=" else "")
                for package in packages
                for provided in package.provides
                if provided.name == name
            ]
            pairs.sort(key=lambda pair: version_key(pair[0].version), reverse=True)
            pairs.sort(key=lambda pair: (not pair[0].is_installed, pair[0].priority, pair[0].name))
            found = self._provided[name] = tuple(dict.fromkeys(pairs))
        return found

    def essential(self) -> list[Package]:
        """Give the highest version of each package that Debian takes for granted everywhere."""
        marked = {n for n, stanzas in self._stanzas.items() if any(b"\nEssential: yes" in s for s in stanzas)}
        highest = (self.named(name)[0] for name in sorted(marked))
        return [package for package in highest if package.is_essential]
