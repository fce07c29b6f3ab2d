"""A suite's ``InRelease``: whose it is, until when it holds, and the digests of its indexes.

Knows nothing of the network. Nothing is read of a text before a key of the Debian archive has signed
it. Source of the format: wiki.debian.org/DebianRepository/Format, "Release" files. The keys:
``docs/apt.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import MappingProxyType

from reprobuild.debian.control import Stanza, parse_stanza
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError

KEYRING = Path(__file__).parent / "debian-archive-keyring.gpg"
"""The public keys of the Debian archive, as the package ``debian-archive-keyring`` has them."""

BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"


class SignatureError(CheckFailedError):
    """A text that no trusted key has signed, or that was changed since."""


class ReleaseError(CheckFailedError):
    """A signed text that is not the release which was asked for, or no longer holds."""


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One file below ``dists/<suite>/``, as the release promises it."""

    path: str
    """``main/binary-amd64/Packages.xz``."""
    size: int
    """Bytes."""
    sha256: Digest


@dataclass(frozen=True, slots=True)
class Release:
    """What a verified ``InRelease`` says."""

    codename: str
    suite: str
    date: datetime
    valid_until: datetime | None
    by_hash: bool
    """Whether files can be asked for by digest, so that an update in the middle does no harm."""
    architectures: tuple[str, ...]
    has_packages_for_all: bool
    """Whether packages of architecture ``all`` have an index of their own and are in no other."""
    files: Mapping[str, IndexFile]
    signers: tuple[str, ...]
    """Fingerprints of the certificates that signed."""


def verify(signed: bytes, keyring: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Check a clear-signed text against a keyring; give what was signed, and the fingerprints of who signed.

    One good signature by a key of the ring is enough (archives sign with the keys of two releases).
    Raises SignatureError.
    """
    import pysequoia

    if not signed.lstrip().startswith(BEGIN):
        raise SignatureError("it is not signed")
    certificates = pysequoia.Cert.split_bytes(keyring)
    try:
        checked = pysequoia.verify(signed, store=lambda _: certificates)
    except Exception as error:  # noqa: BLE001 - the library raises bare ones; whatever it was, nothing is verified
        reason = str(error).strip().partition("\n")[0]
        raise SignatureError(f"no key of the Debian archive has signed it as it is ({reason})") from None
    signers = tuple(sorted({signature.certificate for signature in checked.valid_sigs}))
    if not signers or checked.bytes is None:
        raise SignatureError("no key of the Debian archive has signed it")
    return bytes(checked.bytes), signers


def read_release(signed: bytes, suite: str, *, now: datetime | None, keyring: bytes | None = None) -> Release:
    """Verify an ``InRelease`` and read it as that of a suite.

    ``now``: the time by which ``Valid-Until`` is judged, None where the past was asked for. Raises
    SignatureError, and ReleaseError for another suite than the one asked for and for one that has run
    out.
    """
    text, signers = verify(signed, KEYRING.read_bytes() if keyring is None else keyring)
    fields = parse_stanza(text.decode("utf-8", "replace"))
    release = Release(
        codename=fields.get("codename", ""),
        suite=fields.get("suite", ""),
        date=_time(fields, "date"),
        valid_until=_time(fields, "valid-until") if "valid-until" in fields else None,
        by_hash=fields.get("acquire-by-hash", "") == "yes",
        architectures=tuple(fields.get("architectures", "").split()),
        has_packages_for_all=_has_packages_for_all(fields),
        files=MappingProxyType({file.path: file for file in _files(fields)}),
        signers=signers,
    )
    if suite not in (release.codename, release.suite):
        raise ReleaseError(
            f"it is the release {release.codename or release.suite or 'of no name'}, not {suite}"
        )
    if now is not None and release.valid_until is not None and now > release.valid_until:
        raise ReleaseError(
            f"it was valid until {release.valid_until:%Y-%m-%d %H:%M} UTC, and now it is past that"
        )
    return release


def _has_packages_for_all(fields: Stanza) -> bool:
    without = fields.get("no-support-for-architecture-all", "").split()
    return "all" in fields.get("architectures", "").split() and "Packages" not in without


def _files(fields: Stanza) -> list[IndexFile]:
    files = []
    for line in fields.get("sha256", "").split("\n"):
        parts = line.split()
        if not parts:
            continue
        try:
            sha256, size, path = parts
            files.append(IndexFile(path, int(size), Digest(sha256)))
        except ValueError:
            raise ReleaseError(f"a line of its SHA256 makes no sense: {line[:200]!r}") from None
    if not files:
        raise ReleaseError("it gives no SHA256 of its indexes")
    return files


def _time(fields: Stanza, name: str) -> datetime:
    try:
        time = parsedate_to_datetime(fields.get(name, ""))
    except ValueError:
        raise ReleaseError(f"its {name} is no time: {fields.get(name, '')[:80]!r}") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
