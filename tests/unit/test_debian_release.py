from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pysequoia import Cert, Tsk

from reprobuild.debian.release import KEYRING, ReleaseError, SignatureError, read_release, verify
from tests.debian import Archive

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = Archive(tmp_path)
    archive.add("Package: a\nVersion: 1\nArchitecture: amd64\n")
    return archive


def test_a_signed_release_is_read(archive: Archive) -> None:
    release = read_release(archive.publish().read_bytes(), "bookworm", now=NOW, keyring=archive.keyring)
    assert (release.codename, release.by_hash, release.has_packages_for_all) == ("bookworm", True, False)
    assert release.date == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert sorted(release.files) == ["main/binary-amd64/Packages", "main/binary-amd64/Packages.xz"]
    assert release.signers == (Cert.split_bytes(archive.keyring)[0].fingerprint,)


def test_a_suite_may_be_named_by_its_other_name(archive: Archive) -> None:
    archive.suite = "oldstable"
    read_release(archive.publish().read_bytes(), "oldstable", now=NOW, keyring=archive.keyring)
    read_release(archive.publish().read_bytes(), "bookworm", now=NOW, keyring=archive.keyring)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a changed digest": lambda signed: signed.replace(b" main/binary", b"0 main/binary", 1),
    "an added line": lambda signed: signed.replace(b"Origin: Test", b"Origin: Test\nEvil: yes"),
    "no signature": lambda signed: signed[
        signed.index(b"Origin") : signed.index(b"-----BEGIN PGP SIGNATURE")
    ],
    "half a signature": lambda signed: signed[:-200],
    "text before it": lambda signed: b"Origin: Evil\n\n" + signed,
    "an empty file": lambda signed: b"",
    "a page of a captive portal": lambda signed: b"<html>please log in</html>",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_not_as_it_was_signed_is_refused(archive: Archive, change: Callable[[bytes], bytes]) -> None:
    signed = change(archive.publish().read_bytes())
    with pytest.raises(SignatureError):
        read_release(signed, "bookworm", now=NOW, keyring=archive.keyring)


def test_what_follows_the_signature_is_not_read(archive: Archive) -> None:
    signed = archive.publish().read_bytes() + b"\nCodename: evil\n"
    text, _ = verify(signed, archive.keyring)
    assert b"evil" not in text


def test_another_key_is_refused(archive: Archive) -> None:
    other = bytes(Tsk.generate("Somebody <else@example.org>").extract_certificate())
    with pytest.raises(SignatureError, match="no key of the Debian archive"):
        read_release(archive.publish().read_bytes(), "bookworm", now=NOW, keyring=other)


def test_the_keys_of_debian_do_not_accept_a_strangers_archive(archive: Archive) -> None:
    with pytest.raises(SignatureError):
        read_release(archive.publish().read_bytes(), "bookworm", now=NOW)


def test_another_suite_is_refused(archive: Archive) -> None:
    with pytest.raises(ReleaseError, match="the release bookworm, not trixie"):
        read_release(archive.publish().read_bytes(), "trixie", now=NOW, keyring=archive.keyring)


def test_a_release_that_has_run_out_is_refused_unless_the_past_is_asked_for(archive: Archive) -> None:
    archive.valid_for = timedelta(days=7)
    signed = archive.publish().read_bytes()
    after = datetime.now(UTC) + timedelta(days=8)
    with pytest.raises(ReleaseError, match="valid until"):
        read_release(signed, "bookworm", now=after, keyring=archive.keyring)
    read_release(signed, "bookworm", now=datetime.now(UTC), keyring=archive.keyring)
    read_release(signed, "bookworm", now=None, keyring=archive.keyring)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no SHA256"),
        ([" abc 1 main/x"], "makes no sense"),
        ([" " + "0" * 64 + " many main/x"], "makes no sense"),
        ([" " + "0" * 64 + " 1"], "makes no sense"),
    ],
    ids=["none", "digest", "size", "path"],
)
def test_signed_nonsense_is_refused(archive: Archive, lines: list[str], message: str) -> None:
    signed = archive.sign(archive.release_text(lines))
    with pytest.raises(ReleaseError, match=message):
        read_release(signed, "bookworm", now=NOW, keyring=archive.keyring)


def test_a_release_without_a_date_is_refused(archive: Archive) -> None:
    signed = archive.sign(b"Codename: bookworm\nSHA256:\n " + b"0" * 64 + b" 1 main/x\n")
    with pytest.raises(ReleaseError, match="date"):
        read_release(signed, "bookworm", now=NOW, keyring=archive.keyring)


def test_the_keys_that_the_package_carries_are_those_of_debian() -> None:
    # Fingerprints as on https://ftp-master.debian.org/keys.html and in docs/apt.md.
    documented = (Path(__file__).parents[2] / "docs" / "apt.md").read_text()
    certificates = Cert.split_bytes(KEYRING.read_bytes())
    assert len(certificates) == 9
    for certificate in certificates:
        assert certificate.fingerprint.upper() in documented.replace(" ", "").replace("`", "")
