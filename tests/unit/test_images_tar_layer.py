from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import CheckFailedError
from reprobuild.images.tar_layer import Stream, read_layer
from reprobuild.tree import Layer, difference, directory, link
from tests.unit.test_images_tar import LAYERS, Bodies, GivesLess, trees, written


def taken(bodies: Bodies, file: Stream) -> tuple[Digest, int]:
    """Take a body as a store does: in pieces, until nothing more comes."""
    parts = []
    while chunk := file.read(1000):
        parts.append(chunk)
    body = b"".join(parts)
    bodies[Digest.of(body)] = body
    return Digest.of(body), len(body)


def read(stream: Stream, bodies: Bodies | None = None) -> tuple[Layer, Digest, int]:
    found = Bodies() if bodies is None else bodies
    return read_layer(stream, lambda file: taken(found, file))


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "nothing"])
def test_a_stream_gives_the_layer_that_it_is_the_stream_of(name: str) -> None:
    bodies, found = Bodies(), Bodies()
    layer = LAYERS[name](bodies)
    data = written(layer, bodies.open)
    assert read(io.BytesIO(data), found) == (layer, Digest.of(data), len(data))
    assert found == bodies


@given(st.data())
def test_any_layer_is_read_back(data: st.DataObject) -> None:
    bodies = Bodies()
    layer = difference(data.draw(trees(bodies)), data.draw(trees(bodies)))
    if layer:
        assert read(io.BytesIO(written(layer, bodies.open)))[0].listing == layer.listing


@given(st.data())
def test_a_changed_stream_is_refused_or_the_stream_of_another_layer(data: st.DataObject) -> None:
    bodies, found = Bodies(), Bodies()
    layer = Layer([directory("d"), bodies.file("d/ä", b"body"), link("l", "d")], ["d/g"])
    stream = bytearray(written(layer, bodies.open))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= data.draw(st.integers(1, 255))
    try:
        other, diff_id, _ = read(io.BytesIO(stream), found)
    except CheckFailedError:
        return
    assert written(other, found.open) == stream
    assert diff_id == Digest.of(bytes(stream))


@given(st.data())
def test_a_stream_that_is_cut_off_is_refused(data: st.DataObject) -> None:
    bodies = Bodies()
    stream = written(Layer([bodies.file("a", b"x" * 700), bodies.file("ä", b"")]), bodies.open)
    cut = stream[: data.draw(st.integers(0, len(stream) - 1))]
    with pytest.raises(CheckFailedError, match="cut off"):
        read(io.BytesIO(cut))


@pytest.mark.parametrize("size", [BUFFER_SIZE - 512, BUFFER_SIZE, 3 * BUFFER_SIZE + 5])
def test_large_bodies_come_in_pieces(size: int) -> None:
    bodies = Bodies()
    layer = Layer([bodies.file("a", b"a" * size), bodies.file("b", b"b")])
    data = written(layer, bodies.open)
    assert read(io.BytesIO(data))[0] == layer
    assert read(GivesLess(data))[0] == layer


def tar_of(*members: tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def stream_of(*paths: str, gone: tuple[str, ...] = ()) -> bytes:
    """Give members as reprobuild writes them, in the order that is asked for and without a check."""
    bodies = Bodies()
    parts = [written(Layer([bodies.file(path, b"")]), bodies.open)[:512] for path in paths]
    parts += [written(Layer([], [path]), bodies.open)[:512] for path in gone]
    return b"".join(parts) + bytes(1024)


WRONG = {
    "empty": (bytes(1024), "it is empty"),
    "another tool's": (tar_of(member("a")), "at or after /a: its header is another"),
    "a hard link": (tar_of(member("a", type=tarfile.LNKTYPE, linkname="b")), "a member of type b'1'"),
    "a device": (tar_of(member("a", type=tarfile.CHRTYPE)), "a member of type b'3'"),
    "a global header": (tar_of(member("a", type=b"g", size=5)), "a member of type b'g'"),
    "an unknown record": (
        tar_of(member("a", pax_headers={"comment": "hello"}), form=tarfile.PAX_FORMAT),
        "its header is another",
    ),
    "no number": (b"a" * 512, "a member of type b'a'"),
    "out of order": (stream_of("b", "a"), "at or after /a: it is out of order"),
    "twice": (stream_of("a", "a"), "at or after /a: it is out of order, or there twice"),
    "an entry and a whiteout": (stream_of("a", gone=("a",)), "it is out of order, or there twice"),
    "no folder": (stream_of("a")[:512].replace(b"a\0\0", b"a/b", 1) + bytes(1024), "its header is another"),
    "one block at the end": (stream_of("a")[:-512], "it is cut off"),
    "something after the end": (stream_of("a") + b"\0", "something follows its end"),
    "a large header": (
        tar_of(member("a", pax_headers={"comment": "x" * 2_000_000}), form=tarfile.PAX_FORMAT),
        "a header of 2,",
    ),
    "bytes after a body": (
        (lambda data: data[:-1025] + b"x" + data[-1024:])(
            written(Layer([(bodies := Bodies()).file("a", b"1")]), bodies.open)
        ),
        "bytes between it and the next",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_in_the_format_is_refused_by_name(case: str) -> None:
    data, told = WRONG[case]
    with pytest.raises(CheckFailedError) as caught:
        read(io.BytesIO(data))
    assert caught.value.message.startswith("the layer is not in reprobuild's layer format: ")
    assert told in caught.value.message


@pytest.mark.parametrize("name", ["../up", "a//b", ".", ".wh.x/y", "a/./b"])
def test_names_that_no_tree_has_are_refused(name: str) -> None:
    """Their headers are what reprobuild would write, were there such names."""
    header = written(Layer([(bodies := Bodies()).file("a", b"")]), bodies.open)[:512]
    renamed = name.encode().ljust(100, b"\0") + header[100:148] + b" " * 8 + header[156:]
    checked = renamed[:148] + b"%06o\0 " % sum(renamed) + renamed[156:]
    with pytest.raises(CheckFailedError):
        read(io.BytesIO(checked + bytes(1024)))
