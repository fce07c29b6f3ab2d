"""What cannot be verified of a Debian archive is refused."""

from __future__ import annotations

import lzma
from dataclasses import replace
from datetime import timedelta

import pytest
from pysequoia import Tsk

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.words import apt
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, DigestMismatchError
from tests.apt_machine import Machine
from tests.debian import Archive

pytestmark = pytest.mark.once


def test_an_index_by_a_stranger_is_refused(machine: Machine, mirror: list[str], archive: Archive) -> None:
    archive.key = Tsk.generate("Somebody <else@example.org>")
    archive.publish()
    with pytest.raises(CheckFailedError, match=r"InRelease is refused: no key") as caught:
        machine.lock(apt("bookworm", "tool"))
    assert caught.value.exit_code == 4


def test_an_index_that_debian_did_not_sign_is_refused(machine: Machine, mirror: list[str]) -> None:
    machine.keyring = None
    with pytest.raises(CheckFailedError, match="no key of the Debian archive"):
        machine.lock(apt("bookworm", "tool"))


def test_an_index_that_has_run_out_is_refused(machine: Machine, mirror: list[str], archive: Archive) -> None:
    archive.valid_for = timedelta(days=-1)
    archive.publish()
    with pytest.raises(CheckFailedError, match="valid until"):
        machine.lock(apt("bookworm", "tool"))


def test_another_suite_under_the_name_is_refused(
    machine: Machine, mirror: list[str], archive: Archive
) -> None:
    archive.codename = "trixie"
    archive.suite = "trixie"
    path = archive.publish()
    path.rename(archive.folder / "dists" / "bookworm" / "InRelease")
    with pytest.raises(CheckFailedError, match="the release trixie, not bookworm"):
        machine.lock(apt("bookworm", "tool"))


@pytest.mark.parametrize("by_hash", [True, False], ids=["by hash", "by name"])
def test_a_tampered_list_of_packages_is_refused(
    machine: Machine, mirror: list[str], archive: Archive, by_hash: bool
) -> None:
    archive.by_hash = by_hash
    archive.publish()
    for path in archive.folder.rglob("*"):
        if path.is_file() and "dists" in path.parts and path.name != "InRelease":
            evil = b"\n".join(archive.stanzas[0].encode().replace(b"shell", b"evil!") for _ in range(9))
            path.write_bytes(lzma.compress(evil))
    with pytest.raises(DigestMismatchError) as caught:
        machine.lock(apt("bookworm", "tool"))
    assert caught.value.exit_code == 4


def test_a_list_that_unpacks_to_more_than_was_signed_is_refused(
    machine: Machine, mirror: list[str], archive: Archive
) -> None:
    bomb = lzma.compress(bytes(50_000_000))
    plain = Digest.of(b"small")
    folder = archive.folder / "dists" / "bookworm"
    packed = Digest.of(bomb)
    (folder / "main/binary-amd64/by-hash/SHA256" / packed.hex).write_bytes(bomb)
    lines = [
        f" {packed.hex} {len(bomb)} main/binary-amd64/Packages.xz",
        f" {plain.hex} 5 main/binary-amd64/Packages",
    ]
    (folder / "InRelease").write_bytes(archive.sign(archive.release_text(lines)))
    with pytest.raises(CheckFailedError, match="unpacks to more than 5 bytes"):
        machine.lock(apt("bookworm", "tool"))


def test_a_package_that_is_not_the_pinned_one_is_refused(
    machine: Machine, mirror: list[str], archive: Archive
) -> None:
    step = apt("bookworm", "libx")
    pins = tuple(_undated(pin) for pin in machine.lock(step))
    (archive.folder / pins[0].found["path"]).write_bytes(b"something else")
    with pytest.raises(DigestMismatchError):
        machine.fetch(step, pins)


def _undated(pin: Pin) -> Pin:
    """Give a pin that the snapshot archive is not asked for."""
    return replace(pin, found={"path": pin.found["path"]})
