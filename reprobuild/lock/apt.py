"""Resolve ``apt(…)``: a suite's signed index, the packages that the wishes come to, their pins.

Knows nothing of what is in a package, nor how it is placed. The choice itself is
``lock.debian_resolution``; what may be asked is ``fetch.apt_sources``. See ``docs/apt.md``.
"""

from __future__ import annotations

import difflib
import lzma
import os
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild.debian.index import Index, Package
from reprobuild.debian.installed import read_installed
from reprobuild.debian.relation import Relation
from reprobuild.debian.release import IndexFile, Release, read_release
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import DEBIAN_ARCHITECTURES, Apt
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OfflineError, OutsideError, RecipeError, UpstreamError
from reprobuild.events import Note
from reprobuild.fetch.apt_sources import APT_FOLDER, MOMENT, current_bases, read_apt_sources, snapshot_bases
from reprobuild.fetch.reach import host_of
from reprobuild.lock.debian_resolution import UnresolvableError
from reprobuild.lock.debian_resolution import resolve as choose

if TYPE_CHECKING:
    from reprobuild.fetch.http import Http
    from reprobuild.lock.resolver import Context

LARGEST_RELEASE = 8 * 1024 * 1024
"""Bytes of an ``InRelease``; Debian's have some 150,000."""
LARGEST_INDEX = 1024 * 1024 * 1024
"""Bytes of a ``Packages`` when unpacked; Debian's largest has some 60 million."""

MERGED_USR = "usr-is-merged"
"""The package that says that ``/bin`` and its like are links, as they are in every tree of ours."""

_DATED = ", with {date} where a mirror of the snapshot archive has the moment"
_COMPRESSIONS = (".xz", ".gz", "")


@dataclass(frozen=True, slots=True)
class Archive:
    """A suite as one address serves it."""

    base: str
    release: Release


def resolve(
    step: Apt, context: Context, *, apt_folder: Path = APT_FOLDER, keyring: bytes | None = None
) -> tuple[Pin, ...]:
    """Give the pins of the packages that a step adds to the tree below, sorted by name.

    A tree without packages gets the essential ones too, which every other package takes for granted.
    ``keyring``: OpenPGP certificates instead of those of the Debian archive. Raises OutsideError where
    no address gives the suite, CheckFailedError for an index that is not what a trusted key signed,
    RecipeError for a package that is not there, UnresolvableError.
    """
    from reprobuild.fetch.http import Http

    arch = step.arch or DEBIAN_ARCHITECTURES.get(context.platform, "")
    if not arch:
        raise RecipeError(f"{step.where}: no Debian architecture is known for {context.platform}")
    installed = read_installed(context.tree, context.store.blobs.read)
    with Http(os.environ, settings=context.settings) as http:
        http.trust(host_of(source.base) for source in read_apt_sources(apt_folder))
        archive = _find_archive(step, context, apt_folder, keyring, http)
        index = Index(_read_indexes(step, context, archive, arch, http), installed)
    wishes = [_wish(step, index, text, arch) for text in step.packages]
    if not installed:
        wishes.extend(Relation(p.name, "=", p.version) for p in index.essential())
        if index.named(MERGED_USR):
            wishes.append(Relation(MERGED_USR))
    try:
        packages = choose(index, wishes, arch=arch)
    except UnresolvableError as error:
        raise UnresolvableError(f"{step.where}: {step.title}: {error.message}", error.hint) from None
    date = archive.release.date.strftime(MOMENT)
    return tuple(_pin(package, date) for package in packages)


def _pin(package: Package, date: str) -> Pin:
    assert package.sha256 is not None
    return Pin(
        name=package.path.rpartition("/")[2],
        size=package.size,
        sha256=package.sha256,
        hashed={"package": package.name, "version": package.version, "arch": package.arch},
        found={"path": package.path, "date": date},
    )


def _wish(step: Apt, index: Index, text: str, arch: str) -> Relation:
    """Read ``name[:arch][=version]``; raises RecipeError for a package that is not there."""
    name, _, version = text.partition("=")
    name, _, wanted_arch = name.partition(":")
    if wanted_arch not in ("", "any", arch):
        raise RecipeError(
            f"{step.where}: apt(…, {text!r}): packages of {wanted_arch} do not fit a tree of {arch}"
        )
    there = [package.version for package in index.named(name)]
    if version and there and version not in there:
        raise RecipeError(
            f"{step.where}: {step.suite} has no {name} {version}",
            f"there is {', '.join(there)}; as_of= gives older ones",
        )
    if there:
        return Relation(name, "=", version) if version else Relation(name)
    providers = list(dict.fromkeys(package.name for package, _ in index.providers(name)))
    if len(providers) == 1 and not version:
        return Relation(providers[0])
    if providers:
        raise RecipeError(
            f"{step.where}: {name} is a name for several packages", f"take one of {', '.join(providers)}"
        )
    close = difflib.get_close_matches(name, index.names(), n=3, cutoff=0.75)
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else "another suite or component may have it: components="
    )
    raise RecipeError(f"{step.where}: {step.suite} has no package {name!r} for {arch}", hint)


def _find_archive(
    step: Apt, context: Context, apt_folder: Path, keyring: bytes | None, http: Http
) -> Archive:
    """Give the first address that serves the suite; what it serves must be signed."""
    from reprobuild.fetch.document import get
    from reprobuild.fetch.http import plain

    mirrors = (*step.mirrors, *context.settings.debian_mirrors)
    now = datetime.now(UTC)
    if step.as_of:
        bases = snapshot_bases(step.suite, moment_of(step.as_of), mirrors)
    else:
        sources = read_apt_sources(apt_folder)
        bases = current_bases(step.suite, mirrors, sources) or snapshot_bases(step.suite, now, mirrors)
    failures = []
    for base in bases:
        url = f"{base}/dists/{step.suite}/InRelease"
        try:
            document = get(
                url, http=http, limit=LARGEST_RELEASE, is_optional=True, offline=context.settings.offline
            )
        except OfflineError:
            raise
        except UpstreamError as error:
            failures.append(error.message)
            continue
        if document is None:
            failures.append(f"{plain(url)} is not there")
            continue
        try:
            release = read_release(
                document.body, step.suite, now=None if step.as_of else now, keyring=keyring
            )
        except CheckFailedError as error:
            raise CheckFailedError(
                f"{step.where}: {plain(url)} is refused: {error.message}",
                "another mirror: [mirrors] debian in reprobuild.toml; for a past state: apt(…, as_of=…)",
            ) from None
        return Archive(base, release)
    asked = f" as of {step.as_of}" if step.as_of else ""
    raise OutsideError(
        f"{step.where}: nobody gives the index of {step.suite}{asked}:\n  " + "\n  ".join(failures),
        f"name a mirror that has it: [mirrors] debian in reprobuild.toml{_DATED if step.as_of else ''}",
    )


def moment_of(as_of: str) -> datetime:
    """Read a moment, or take the last second of a day: as the archive stood when that day ended."""
    form = MOMENT if "T" in as_of else "%Y-%m-%d"
    try:
        moment = datetime.strptime(as_of, form).replace(tzinfo=UTC)
    except ValueError:
        raise RecipeError(f"there is no day {as_of!r}") from None
    return moment if "T" in as_of else moment.replace(hour=23, minute=59, second=59)


def _read_indexes(step: Apt, context: Context, archive: Archive, arch: str, http: Http) -> list[bytes]:
    """Fetch the indexes of the step's components, as large and of the digest that the release promises."""
    from reprobuild.fetch.download import Download, fetch_all

    release = archive.release
    arches = (arch, "all") if release.has_packages_for_all else (arch,)
    promised = [
        _index_file(step, release, component, name) for component in step.components for name in arches
    ]
    downloads = [
        Download(
            name=f"{step.suite} {file.path}",
            urls=_addresses(f"{archive.base}/dists/{step.suite}", file, by_hash=release.by_hash),
            sha256=file.sha256,
            size=file.size,
            where=str(step.where),
            mend="the mirror is in the middle of an update, or serves what nobody signed: try another",
        )
        for file in promised
    ]
    settings = context.settings
    fetched = fetch_all(
        context.store, downloads, tell=context.tell, offline=settings.offline, jobs=settings.jobs, http=http
    )
    context.tell(
        Note(f"{step.suite}: the index of {release.date:%Y-%m-%d %H:%M} UTC, signed by the Debian archive")
    )
    pairs = zip(promised, fetched, strict=True)
    return [_unpack(file.path, context.store.blobs.read(one.digest), release) for file, one in pairs]


def _addresses(folder: str, file: IndexFile, *, by_hash: bool) -> tuple[str, ...]:
    plain = f"{folder}/{file.path}"
    if not by_hash:
        return (plain,)
    return (f"{plain.rpartition('/')[0]}/by-hash/SHA256/{file.sha256.hex}", plain)


def _index_file(step: Apt, release: Release, component: str, arch: str) -> IndexFile:
    for compression in _COMPRESSIONS:
        found = release.files.get(f"{component}/binary-{arch}/Packages{compression}")
        if found is not None:
            return found
    parts = sorted({path.split("/binary-")[0] for path in release.files if "/binary-" in path})
    raise RecipeError(
        f"{step.where}: {step.suite} has no component {component!r} for {arch}",
        f"components: {', '.join(parts)}; architectures: {', '.join(release.architectures)}",
    )


def _unpack(path: str, data: bytes, release: Release) -> bytes:
    """Unpack an index, never to more than the release says; raises CheckFailedError."""
    bare = path.removesuffix(".xz").removesuffix(".gz")
    if bare == path:
        return data
    promised = release.files.get(bare)
    limit = promised.size if promised is not None else LARGEST_INDEX
    try:
        if path.endswith(".xz"):
            unpacked = lzma.LZMADecompressor(memlimit=1 << 30).decompress(data, max_length=limit + 1)
        else:
            unpacked = zlib.decompressobj(wbits=31).decompress(data, limit + 1)
    except (lzma.LZMAError, zlib.error) as error:
        raise CheckFailedError(f"{path} does not unpack: {error}") from None
    if len(unpacked) > limit:
        raise CheckFailedError(f"{path} unpacks to more than {limit:,} bytes")
    if promised is not None and Digest.of(unpacked) != promised.sha256:
        raise CheckFailedError(f"{path} does not unpack to what the release promises")
    return unpacked
