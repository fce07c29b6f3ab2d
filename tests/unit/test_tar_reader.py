from __future__ import annotations

import io
import re
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.images.archive import ArchiveError, Member
from reprobuild.images.tar_reader import read_tar
from tests.archives import END, FORMATS, block, member, octal, padded, pax, tar


class Trickle(io.BytesIO):
    """A stream that gives few bytes at a time, as pipes and decompressors do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 7, 7) if size is None or size > 0 else 7)


def members(data: bytes) -> list[tuple[Member, bytes]]:
    return [(found, body.read()) for found, body in read_tar(io.BytesIO(data))]


def paths(data: bytes) -> list[str]:
    return [found.path for found, _ in members(data)]


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_what_python_writes_is_read(format: int) -> None:
    name = "ordner/" + "ä" * 20 + "/file"
    infos = [
        member("folder", tarfile.DIRTYPE, mode=0o750),
        member("link", tarfile.SYMTYPE, "../somewhere"),
        member("hard", tarfile.LNKTYPE, name),
    ]
    data = tar({name: b"body\n", "empty": b""}, infos=infos, format=format)
    assert [(m.path, m.kind, m.mode, m.target, body) for m, body in members(data)] == [
        (name, "f", 0o644, "", b"body\n"),
        ("empty", "f", 0o644, "", b""),
        ("folder", "d", 0o750, "", b""),
        ("link", "l", 0o644, "../somewhere", b""),
        ("hard", "h", 0o644, name, b""),
    ]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_names_and_targets(format: int) -> None:
    name = "/".join(["d" * 50] * 12)
    data = tar({name: b"x"}, infos=[member("l", tarfile.SYMTYPE, name), member("after")], format=format)
    assert [(m.path, m.target) for m, _ in members(data)] == [(name, ""), ("l", name), ("after", "")]


names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0\n"), min_size=1, max_size=60).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=5,
).map("/".join)


@given(
    files=st.dictionaries(names, st.binary(max_size=1500), max_size=6),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_names_and_bodies_come_back(files: dict[str, bytes], format: int) -> None:
    data = tar(files, format=format)
    assert [(m.path, body) for m, body in members(data)] == list(files.items())
    assert [m.path for m, _ in read_tar(Trickle(data))] == list(files)


def test_bodies_that_are_not_read_are_passed_over() -> None:
    data = tar({"a": b"x" * 700_000, "b": b"y" * 1025, "c": b"z"})
    read = []
    for found, body in read_tar(io.BytesIO(data)):
        read.append((found.path, body.read(3)))
    assert read == [("a", b"xxx"), ("b", b"yyy"), ("c", b"z")]


def test_a_body_is_read_in_pieces_and_into_buffers() -> None:
    stream = read_tar(io.BytesIO(tar({"a": b"0123456789"})))
    _, body = next(stream)
    buffer = bytearray(4)
    assert (body.readinto(buffer), bytes(buffer)) == (4, b"0123")
    assert (body.read(3), body.left, body.read(), body.read()) == (b"456", 3, b"789", b"")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param(b"./usr/bin/", "usr/bin", id="dot and slash"),
        pytest.param(b"./", "", id="root"),
        pytest.param(b".", "", id="root without slash"),
        pytest.param(b"a//b/./c", "a/b/c", id="empty parts"),
        pytest.param(b"a/.hidden", "a/.hidden", id="hidden"),
        pytest.param(b"a/..b/c..", "a/..b/c..", id="dots in names"),
    ],
)
def test_names_are_made_plain(name: bytes, path: str) -> None:
    assert paths(block(name, flag=b"5") + END) == [path]


def test_version_7_folders_and_files() -> None:
    data = block(b"d/", flag=b"\0", magic=bytes(8)) + block(b"d/f", flag=b"\0", magic=bytes(8)) + END
    assert [(m.path, m.kind) for m, _ in members(data)] == [("d", "d"), ("d/f", "f")]


def test_a_prefix_goes_before_the_name_in_ustar_alone() -> None:
    gnu = block(b"n", prefix=b"12345", magic=b"ustar  \0")
    assert paths(block(b"name", prefix=b"some/where") + gnu + END) == ["some/where/name", "n"]


def test_base_256_numbers() -> None:
    size = b"\x80" + (5).to_bytes(11, "big")
    assert members(block(size=size) + padded(b"12345") + END)[0][1] == b"12345"


def test_pax_records_hold_for_one_member_and_global_ones_for_all() -> None:
    data = (
        pax({"comment": b"0123"}, flag=b"g")
        + pax({"path": "ä/ö".encode(), "size": b"3", "mtime": b"1.5"})
        + block(b"short")
        + padded(b"abc")
        + block(b"next")
        + END
    )
    assert [(m.path, body) for m, body in members(data)] == [("ä/ö", b"abc"), ("next", b"")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("SCHILY.xattr.security.capability", b"\x01\0\0\x02" + bytes(16), id="schily"),
        pytest.param("LIBARCHIVE.xattr.security.capability", b"AQAAAgAAAAAAAAAAAAAAAAAAAAA", id="libarchive"),
    ],
)
def test_capabilities_are_kept_and_other_attributes_are_not(key: str, value: bytes) -> None:
    data = pax({key: value, "SCHILY.xattr.user.note": b"x"}) + block(b"ping") + END
    assert members(data)[0][0].capability == b"\x01\0\0\x02" + bytes(16)


def test_what_follows_the_end_is_ignored_but_read() -> None:
    stream = io.BytesIO(tar({"a": b"1"}) + b"signature" * 1000)
    assert [m.path for m, _ in read_tar(stream)] == ["a"]
    assert stream.read() == b""


A = block(b"before")
REFUSED = {
    "absolute": (A + block(b"/etc/passwd"), "'/etc/passwd' is an absolute path"),
    "upwards": (A + block(b"../x"), "'../x' leads outside"),
    "upwards inside": (A + block(b"a/../../x"), "'a/../../x' leads outside"),
    "upwards at the end": (A + block(b"a/.."), "'a/..' leads outside"),
    "only upwards": (A + block(b"..", flag=b"5"), "'..' leads outside"),
    "upwards by pax": (pax({"path": b"a/../../b"}) + block(b"x"), "'a/../../b' leads outside"),
    "upwards by hard link": (
        A + block(b"x", flag=b"1", link=b"../etc/shadow"),
        "'../etc/shadow' leads outside",
    ),
    "not UTF-8": (A + block(b"caf\xe9"), r"the name 'caf\xe9' is not UTF-8"),
    "zero byte": (A + pax({"path": b"a\0b"}) + block(), "holds a zero byte"),
    "character device": (A + block(b"dev/null", flag=b"3"), "'dev/null' is a character device"),
    "block device": (A + block(b"dev/sda", flag=b"4"), "'dev/sda' is a block device"),
    "fifo": (A + block(b"pipe", flag=b"6"), "'pipe' is a fifo"),
    "sparse": (A + block(b"hole", flag=b"S"), "'hole' is a sparse file"),
    "sparse by pax": (A + pax({"GNU.sparse.major": b"1"}) + block(b"hole"), "'hole' is a sparse file"),
    "unknown type": (A + block(b"odd", flag=b"Z"), "'odd' is of a type that is not known"),
    "link to nothing": (A + block(b"l", flag=b"2"), "'l' is a link to nothing"),
    "checksum": (A + block(b"x", checksum=b"000001\0 "), "a wrong checksum in the header after 'before'"),
    "size": (A + block(b"x", size=b"0000000000z\0"), "no size after 'before'"),
    "negative size": (A + block(b"x", size=b"\xff" * 12), "no size after 'before'"),
    "signed size": (A + block(b"x", size=b"-0000000001\0"), "no size after 'before'"),
    "size by pax": (A + pax({"size": b"-1"}) + block(b"x"), "'x' has the size b'-1'"),
    "pax record": (A + block(b"p", flag=b"x", size=octal(9)) + padded(b"99 a=b\nxx"), "makes no sense after"),
    "pax without value": (A + block(b"p", flag=b"x", size=octal(5)) + padded(b"5 ab\n"), "without a value"),
    "pax too large": (A + block(b"p", flag=b"x", size=octal(10**9)), "a header of 1,000,000,000 bytes"),
    "long name too large": (A + block(b"p", flag=b"L", size=octal(10**9)), "a header of 1,000,000,000 bytes"),
    "text": (b"hello world\n" * 100, "no tar archive"),
    "HTML": (b"<!DOCTYPE html>\n<html>" + b" " * 1000, "no tar archive"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_image_can_hold_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(ArchiveError, match=re.escape(message)):
        members(data + END)


WHOLE = tar({"a": b"x" * 3000, "b": b"y" * 100}, format=tarfile.GNU_FORMAT)[: 512 + 3072 + 1024 + 512]


@pytest.mark.parametrize("length", [0, 100, 512, 1000, 512 + 3072, 512 + 3072 + 100, 512 + 3072 + 1024])
def test_an_archive_that_is_cut_off_says_so(length: int) -> None:
    assert paths(WHOLE) == ["a", "b"]
    with pytest.raises(ArchiveError, match="the archive is cut off"):
        members(WHOLE[:length])


def test_the_last_member_before_a_cut_is_named() -> None:
    with pytest.raises(ArchiveError, match="in or after 'a'"):
        members(WHOLE[:1000])


def test_names_of_any_bytes_where_they_are_asked_for() -> None:
    data = block(b"caf\xe9", flag=b"2", link=b"\xe9") + END
    ((found, _),) = read_tar(io.BytesIO(data), any_bytes=True)
    assert (found.path, found.target) == ("caf\udce9", "\udce9")
