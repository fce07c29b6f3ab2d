"""Names and what they say; compressed files: the same bytes each time, and damage is never an end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.errors import InputError, UsageError
from reprobuild.predict.forms import Form, form_of, said_form
from reprobuild.predict.packing import INPUT, Packed, PackingError, unpacked
from tests.forms import Read

pytestmark = pytest.mark.once

PACKERS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": (gzip.compress, gzip.decompress),
    "bzip2": (bz2.compress, bz2.decompress),
    "xz": (lambda data: lzma.compress(data, preset=0), lzma.decompress),
    "zstd": (zstandard.compress, lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)),
}
DATA = b"".join(b'{"text":"%d"}\n' % number for number in range(300))

NAMES = {
    "in.jsonl": Form(),
    "in": Form(),
    "in.txt": Form(),
    "x.csv/in": Form(),
    ".csv": Form(),
    ".gz": Form(),
    "in.NDJSON": Form(),
    "in.csv": Form("csv"),
    "in.CSV.GZ": Form("csv", "gzip"),
    "in.gz": Form("jsonl", "gzip"),
    "in.tsv.bz2": Form("tsv", "bzip2"),
    "in.jsonl.xz": Form("jsonl", "xz"),
    "a.b.jsonl.zst": Form("jsonl", "zstd"),
    "in.parquet": Form("parquet"),
    "in.arrow": Form("arrow"),
    "-": Form(),
}


@pytest.mark.parametrize("name, form", NAMES.items(), ids=NAMES)
def test_form_of_a_name(name: str, form: Form) -> None:
    assert form_of(name, "--format") == form


@pytest.mark.parametrize("name", ["in.xlsx", "in.zip", "in.tar.gz", "in.parquet.gz", "in.arrow.zst"])
def test_what_is_no_form_of_records_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"no format of records|compressed inside"):
        form_of(name, "--format")


def test_form_that_is_said(tmp_path: Path) -> None:
    assert said_form("csv.gz", "--format") == Form("csv", "gzip")
    assert said_form(".TSV-plain", "--format") == Form("tsv-plain")
    for text in ("", "cvs", "csv.zip", "parquet.gz", "gz", "csv.gz.xz"):
        with pytest.raises(UsageError, match="--format"):
            said_form(text, "--format")
    (tmp_path / "x.csv").write_bytes(b'{"text":"a"}\n')
    assert Read({"text": "str"}, tmp_path / "x.csv", form="jsonl").records == [b'{"text":"a"}']


def packed(packing: str, *parts: bytes) -> bytes:
    written: list[bytes] = []
    made = Packed(packing, written.append)
    for part in parts:
        made.write(part)
    made.finish()
    return b"".join(written)


@pytest.mark.parametrize("packing", PACKERS)
def test_the_same_bytes_however_they_are_cut(packing: str) -> None:
    data = DATA * 500
    whole = packed(packing, data)
    assert packed(packing, *(data[start : start + 99_991] for start in range(0, len(data), 99_991))) == whole
    assert PACKERS[packing][1](whole) == data
    assert packed(packing) == packed(packing, b"")
    assert unpacked(io.BytesIO(packed(packing)), packing).read() == b""


@pytest.mark.parametrize("packing", PACKERS)
@given(
    parts=st.lists(st.binary(max_size=2000) | st.integers(0, 300_000).map(bytes), min_size=1, max_size=4),
    size=st.integers(1, 70_000),
)
def test_members_are_read_one_after_the_other(packing: str, parts: list[bytes], size: int) -> None:
    file = unpacked(io.BytesIO(b"".join(map(PACKERS[packing][0], parts))), packing)
    found = b""
    while block := file.read(size):
        found += block
    assert found == b"".join(parts)


@pytest.mark.parametrize("packing", PACKERS)
def test_cut_anywhere_is_an_error(packing: str) -> None:
    whole = PACKERS[packing][0](DATA)
    for data in (whole, whole * 2):
        for size in range(len(data)):
            if size == len(whole):
                continue
            with pytest.raises(PackingError, match=r"cut off|is no|is empty|damaged|behind"):
                unpacked(io.BytesIO(data[:size]), packing).read()


@pytest.mark.parametrize("packing", PACKERS)
def test_what_follows_is_an_error(packing: str) -> None:
    whole = PACKERS[packing][0](DATA)
    for more in (b"x", b"\0", b"\0" * 512, DATA, whole[5:]):
        with pytest.raises(PackingError, match=f"^behind its {packing} stands something else$"):
            unpacked(io.BytesIO(whole + more), packing).read()


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("data", [b"x", b"{}", DATA, b"\xff" * 100_000], ids=["one", "two", "text", "long"])
def test_what_is_none_is_said_without_more_words(packing: str, data: bytes) -> None:
    with pytest.raises(PackingError, match=f"^it is no {packing}$"):
        unpacked(io.BytesIO(data), packing).read()


@pytest.mark.parametrize("left", range(1, 12))
def test_a_member_may_begin_at_the_end_of_what_is_read_at_once(left: int) -> None:
    data = bytes(INPUT - left - len(gzip.compress(bytes(INPUT - 99), 0)) + INPUT - 99)
    first = gzip.compress(data, 0)
    assert len(first) == INPUT - left
    second = DATA * 500
    file = unpacked(io.BytesIO(first + gzip.compress(second, 0)), "gzip")
    assert b"".join(iter(lambda: file.read(1 << 21), b"")) == data + second


@pytest.mark.parametrize("packing", PACKERS)
def test_damage_is_an_error(packing: str) -> None:
    whole = bytearray(PACKERS[packing][0](DATA))
    whole[len(whole) // 2] ^= 0x10
    if packing == "zstd":  # without a checksum: a changed text may be all that shows
        whole = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(DATA))
        whole[-1] ^= 1
    with pytest.raises(PackingError, match="damaged"):
        unpacked(io.BytesIO(bytes(whole)), packing).read()


@pytest.mark.parametrize("packing, ending", [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")])
def test_compressed_records(tmp_path: Path, packing: str, ending: str) -> None:
    path = tmp_path / f"in.jsonl.{ending}"
    path.write_bytes(PACKERS[packing][0](DATA))
    assert b"\n".join(Read({"text": "str"}, path).records) + b"\n" == DATA
    path.write_bytes(PACKERS[packing][0](DATA)[:-3])
    with pytest.raises(InputError, match=f"in.jsonl.{ending}: its {packing} is cut off"):
        Read({"text": "str"}, path)
    path.write_bytes(DATA)
    with pytest.raises(InputError, match=f"in.jsonl.{ending}: it is no {packing}"):
        Read({"text": "str"}, path)
    plain = tmp_path / "in.jsonl"
    plain.write_bytes(PACKERS[packing][0](DATA))
    with pytest.raises(InputError, match=rf"in\.jsonl: it is compressed \({packing}\): .* \.{ending}, or"):
        Read({"text": "str"}, plain)
