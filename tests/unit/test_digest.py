"""The digest as a type."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import pytest

from reprobuild.digest import BUFFER_SIZE, Digest

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def test_the_digest_of_the_standards_example() -> None:
    assert Digest.of(b"abc").hex == ABC
    assert str(Digest.of(memoryview(b"abc"))) == "sha256:" + ABC
    assert Digest.of_chunks([b"a", b"", b"bc"]) == Digest(ABC)
    assert Digest(ABC).short == ABC[:12]


@pytest.mark.parametrize(
    "text",
    ["", "abc", ABC[1:], ABC + "0", ABC.upper(), ABC[:-1] + "g", ABC[:30] + "x" + ABC[31:], ABC[:-1] + "\n"],
)
def test_other_hex_digits_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        Digest(text)


@pytest.mark.parametrize(
    "text", [ABC, "sha512:" + ABC, "SHA256:" + ABC, "sha256:", "sha256-" + ABC, "sha256: " + ABC]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        Digest.parse(text)


def test_it_is_a_value() -> None:
    one, two = Digest.parse("sha256:" + ABC), Digest(ABC)
    assert one == two == Digest.trusted(ABC)
    assert hash(one) == hash(two)
    assert one != ABC
    assert sorted([Digest("b" * 64), Digest("a" * 64)])[0].hex == "a" * 64
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError):
        one.hex = "0" * 64


@pytest.mark.parametrize("size", [0, 1, BUFFER_SIZE, BUFFER_SIZE + 1])
def test_a_file_is_hashed_to_its_end(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "file").write_bytes(data)
    with open(tmp_path / "file", "rb", buffering=0) as opened:
        found, count = Digest.of_file(opened)
    assert (found.hex, count) == (hashlib.sha256(data).hexdigest(), size)
    assert Digest.of_file(io.BytesIO(data)) == (found, size)
