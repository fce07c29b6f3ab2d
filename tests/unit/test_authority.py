"""A gateway's certificate is taken out of what commands leave, however it streams by."""

from __future__ import annotations

import base64
import io
import random
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from reprobuild.build import authority
from reprobuild.build.authority import Authority, WithoutAuthority
from reprobuild.build.capture import StoreCapture
from reprobuild.errors import BuildFailedError
from reprobuild.images.changes import RawChange
from reprobuild.store.store import Store
from reprobuild.tree import Tree

RAW = random.Random(1).randbytes(420)
ENCODED = base64.b64encode(RAW).decode()


def pem(encoded: str, width: int = 64) -> bytes:
    lines = [encoded[at : at + width] for at in range(0, len(encoded), width)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", "")).encode()


OURS = pem(ENCODED)
OTHER = pem(base64.b64encode(random.Random(2).randbytes(420)).decode())
BEFORE, AFTER = OTHER * 3, b"# comment\n" + OTHER


class Slow(io.RawIOBase):
    """A file that gives as little at a time as it likes."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__()
        self.data, self.most = data, most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        given, self.data = self.data[: self.most], self.data[self.most :]
        return given


def without(data: bytes, most: int = 1 << 18) -> tuple[bytes, bool]:
    file = WithoutAuthority(cast("BinaryIO", Slow(data, most)), Authority(OURS), "a/file")
    return file.read() or b"", file.was_cut


TEXTS = {
    "alone": (OURS, b""),
    "in front": (OURS + AFTER, AFTER),
    "at the end": (BEFORE + OURS, BEFORE),
    "in the midst": (BEFORE + OURS + AFTER, BEFORE + AFTER),
    "twice": (OURS + BEFORE + OURS + OURS + AFTER, BEFORE + AFTER),
    "without its last line end": (BEFORE + OURS.rstrip(), BEFORE),
    "lines as on Windows": (
        (BEFORE + OURS + AFTER).replace(b"\n", b"\r\n"),
        (BEFORE + AFTER).replace(b"\n", b"\r\n"),
    ),
}


@pytest.mark.parametrize(("text", "left"), TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("most", [1, 7, 64, 1000, 1 << 18])
def test_a_block_of_lines_is_cut(text: bytes, left: bytes, most: int) -> None:
    assert without(text, most) == (left, True)


@pytest.mark.parametrize("place", range(-40, 900, 13))
def test_a_block_between_two_pieces_is_cut(place: int) -> None:
    most = 1 << 12
    filler = b"x" * (most * 2 - place)
    assert without(filler + OURS + AFTER, most) == (filler + AFTER, True)


def test_what_has_no_certificate_of_ours_stays_as_it_is() -> None:
    data = random.Random(3).randbytes(1 << 20) + OTHER
    assert without(data, 1 << 16) == (data, False)


FORMS = {
    "DER": b"\0\1keystore" + RAW + b"\2",
    "base64 without lines": b'{"ca": "' + ENCODED.encode() + b'"}',
    "lines of 76": pem(ENCODED, 76),
    "lines of 57": pem(ENCODED, 57),
    "lines of 100": pem(ENCODED, 100),
    "in a string of JSON": OURS.replace(b"\n", b"\\n"),
    "indented": OURS.replace(b"\n", b"\n  "),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("most", [50, 1 << 18])
@pytest.mark.parametrize("before", [b"", OURS * 2, b"x" * 100_000], ids=["alone", "after the text", "late"])
def test_any_other_form_is_an_error_that_names_the_file(form: bytes, most: int, before: bytes) -> None:
    with pytest.raises(BuildFailedError, match=r"certificate in /a/file") as caught:
        without(before + form + AFTER, most)
    assert "remove that file" in caught.value.hint


def test_a_capture_has_nothing_of_it(tmp_path: Path) -> None:
    links = {
        "etc/ssl/certs/reprobuild-gateway.pem": "/usr/local/share/ca-certificates/reprobuild-gateway.crt",
        "etc/ssl/certs/0123abcd.0": "reprobuild-gateway.pem",
        "etc/ssl/certs/0123abcd.1": "ca-certificates.crt",
        "etc/ssl/cert.pem": "certs/ca-certificates.crt",
        "etc/ssl/certs/89abcdef.0": "Other.pem",
    }
    files = {
        "etc/ssl/certs/ca-certificates.crt": OURS + OTHER,
        "usr/local/share/ca-certificates/reprobuild-gateway.crt": OURS,
        "module.pyc": OURS,
        "empty": b"",
    }
    with Store.open(tmp_path / "store").transaction() as group:
        capture = StoreCapture(group, authority=OURS)
        for folder in ("etc", "etc/ssl", "etc/ssl/certs"):
            capture.add(RawChange(folder, "d", 0o755), None)
        for path, target in links.items():
            capture.add(RawChange(path, "l", 0o777, target=target), None)
        for path, body in files.items():
            capture.add(RawChange(path, "f", 0o644, size=len(body)), io.BytesIO(body))
        left = {entry.path: entry for entry in capture.normal_form(Tree(), owners=False).tree}
        assert sorted(path for path, entry in left.items() if entry.kind != "d") == [
            "empty",
            "etc/ssl/cert.pem",
            "etc/ssl/certs/89abcdef.0",
            "etc/ssl/certs/ca-certificates.crt",
        ]
        bundle = left["etc/ssl/certs/ca-certificates.crt"]
        assert bundle.digest is not None
        assert group.read(bundle.digest) == OTHER
        assert bundle.size == len(OTHER)


def test_pieces_are_larger_than_what_is_held_back() -> None:
    assert Authority(OURS).room < authority._CHUNK // 8
