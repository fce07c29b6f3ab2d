from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import CheckFailedError
from reprobuild.images.tar import layer_size, write_layer
from reprobuild.tree import (
    NORMAL_TIME,
    Entry,
    Kind,
    Layer,
    Tree,
    TreeError,
    difference,
    directory,
    file,
    link,
)
from tests.archives import body_of
from tests.golden import assert_golden


class Bodies(dict[Digest, bytes]):
    """File bodies by digest, in memory."""

    def file(self, path: str, body: bytes, mode: int = 0o644, uid: int = 0, capability: bytes = b"") -> Entry:
        digest = Digest.of(body)
        self[digest] = body
        return file(path, digest, len(body), mode, uid)._replace(capability=capability)

    def open(self, digest: Digest) -> BinaryIO:
        return io.BytesIO(self[digest])


def written(layer: Layer, open_blob: Callable[[Digest], BinaryIO]) -> bytes:
    out = io.BytesIO()
    digest, size = write_layer(layer, open_blob, out)
    data = out.getvalue()
    assert (digest, size) == (Digest.of(data), len(data))
    assert size == layer_size(layer)
    assert write_layer(layer, open_blob, None, verify=False) == (digest, size)
    return data


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return archive.getmembers()


# Lengths around the limits of name (100), prefix (155) and link (100).
LONG = "d" * 60 + "/" + "e" * 60
LAYERS: dict[str, Callable[[Bodies], Layer]] = {
    "nothing": lambda bodies: Layer([]),
    "file": lambda bodies: Layer([bodies.file("hello", b"hello\n")]),
    "empty file": lambda bodies: Layer([bodies.file("empty", b"")]),
    "a whole block": lambda bodies: Layer([bodies.file("block", b"x" * 512)]),
    "modes": lambda bodies: Layer(
        [directory("tmp", 0o1777), bodies.file("su", b"s", 0o4755), bodies.file("none", b"", 0)]
    ),
    "owners": lambda bodies: Layer([directory("home", uid=1000), bodies.file("home/x", b"", uid=2097151)]),
    "links": lambda bodies: Layer([link("bin", "usr/bin"), link("far", "../" * 40), link("ä", "ö")]),
    "whiteouts": lambda bodies: Layer([directory("a"), bodies.file("a/c", b"c")], ["a/b", "a/d", "z"]),
    "capability": lambda bodies: Layer(
        [bodies.file("ping", b"p", 0o755, capability=bytes.fromhex("0100000200200000" + "00" * 12))]
    ),
    "a prefix": lambda bodies: Layer(
        [directory("d" * 60), directory(LONG), bodies.file(LONG + "/" + "f" * 99, b"")]
    ),
    "not ascii": lambda bodies: Layer([directory("ä"), bodies.file("ä/" + "ü" * 80, b"u")]),
    "a long component": lambda bodies: Layer([bodies.file("n" * 101, b"n"), directory("m" * 100)]),
    "a line end in a name": lambda bodies: Layer([bodies.file("a\nb", b""), bodies.file("ä\n", b"")]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_tarfile_reads_what_is_written(name: str) -> None:
    bodies = Bodies()
    layer = LAYERS[name](bodies)
    read_back(layer, bodies)


def read_back(layer: Layer, bodies: Bodies) -> None:
    data = written(layer, bodies.open)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errorlevel=2) as archive:
        entries, gone = [], []
        for member in archive:
            assert (member.mtime, member.uname, member.gname) == (NORMAL_TIME, "", "")
            parent, _, base = member.name.rpartition("/")
            if base.startswith(".wh."):
                gone.append((parent + "/" if parent else "") + base.removeprefix(".wh."))
                continue
            kind: Kind = "d" if member.isdir() else "l" if member.issym() else "f"
            common = (member.name, kind, member.mode, member.uid, member.gid)
            if kind == "f":
                content = body_of(archive, member)
                text = member.pax_headers.get("SCHILY.xattr.security.capability", "")
                held = text.encode("utf-8", "surrogateescape")
                entries.append(Entry(*common, member.size, Digest.of(content), "", held))
            else:
                entries.append(Entry(*common, target=member.linkname))
        assert archive.pax_headers == {}
    assert Layer(entries, gone) == layer


# In a name anything but slashes and NULs; short alphabets make collisions and deep paths likely.
NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=130
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh."))


@st.composite
def trees(draw: st.DrawFn, bodies: Bodies) -> Tree:
    entries: dict[str, Entry] = {}
    folders = [""]
    for _ in range(draw(st.integers(0, 8))):
        above = draw(st.sampled_from(folders))
        path = (above + "/" if above else "") + draw(NAMES)
        if path in entries:
            continue
        mode = draw(st.integers(0, 0o7777))
        owner = draw(st.sampled_from([0, 33, 2097151]))
        kind = draw(st.sampled_from("dfl"))
        if kind == "d":
            entries[path] = directory(path, mode, owner, owner)
            folders.append(path)
        elif kind == "f":
            entries[path] = bodies.file(path, draw(st.binary(max_size=1100)), mode, owner)
        else:
            entries[path] = link(path, draw(NAMES), owner)
    return Tree(entries.values())


@given(st.data())
def test_any_layer_reads_back(data: st.DataObject) -> None:
    bodies = Bodies()
    layer = difference(data.draw(trees(bodies)), data.draw(trees(bodies)))
    read_back(layer, bodies)


def test_golden_streams() -> None:
    bodies = Bodies()
    made = {name: written(make(bodies), bodies.open) for name, make in LAYERS.items()}
    assert_golden(
        "layer-format",
        {name: {"diff_id": str(Digest.of(data)), "size": len(data)} for name, data in made.items()},
    )


def test_a_stream_byte_for_byte() -> None:
    bodies = Bodies()
    data = written(Layer([directory("d"), bodies.file("d/f", b"body", 0o755)], ["d/g"]), bodies.open)
    blocks = [data[start : start + 512] for start in range(0, len(data), 512)]
    assert len(blocks) == 6

    def header(name: bytes, mode: bytes, size: bytes, kind: bytes) -> bytes:
        before = name.ljust(100, b"\0") + mode + b"\x000000000\x000000000\x00" + size + b"\x0002263773600\x00"
        after = kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\x000000000\x00" + bytes(167)
        checksum = sum(before) + sum(after) + 8 * ord(" ")
        return before + b"%06o\x00 " % checksum + after

    assert blocks[0] == header(b"d/", b"0000755", b"00000000000", b"5")
    assert blocks[1] == header(b"d/f", b"0000755", b"00000000004", b"0")
    assert blocks[2] == b"body" + bytes(508)
    assert blocks[3] == header(b"d/.wh.g", b"0000644", b"00000000000", b"0")
    assert blocks[4] == blocks[5] == bytes(512)


def test_members_are_in_the_order_of_paths_with_whiteouts_among_them() -> None:
    bodies = Bodies()
    layer = Layer(
        [directory("a"), bodies.file("a-b", b""), bodies.file("a/c", b""), bodies.file("ä", b"")],
        ["Z", "a/a", "a0", "é"],
    )
    names = [member.name for member in members(written(layer, bodies.open))]
    assert names == [".wh.Z", "a", "a-b", "a/.wh.a", "a/c", ".wh.a0", "ä", ".wh.é"]


@pytest.mark.parametrize(
    ("length", "pax"),
    [(100, False), (101, True), (256, True)],
    ids=["fits the name", "one too long", "longer than name and prefix"],
)
def test_a_name_without_slash_needs_pax_past_100_bytes(length: int, pax: bool) -> None:
    bodies = Bodies()
    (member,) = members(written(Layer([bodies.file("n" * length, b"")]), bodies.open))
    assert member.name == "n" * length
    assert bool(member.pax_headers) == pax


@pytest.mark.parametrize(
    ("first", "rest", "pax"),
    [(155, 100, False), (156, 100, True), (155, 101, True), (50, 50, False), (1, 100, False)],
)
def test_a_prefix_is_used_where_it_fits(first: int, rest: int, pax: bool) -> None:
    bodies = Bodies()
    layer = Layer([directory("p" * first), bodies.file("p" * first + "/" + "n" * rest, b"")])
    member = members(written(layer, bodies.open))[1]
    assert member.name == "p" * first + "/" + "n" * rest
    assert bool(member.pax_headers) == pax


def test_a_body_past_8_gib_has_its_size_in_a_pax_record() -> None:
    # Nobody reads the body for the size; the header is what counts.
    layer = Layer([file("huge", Digest.of(b""), 8 * 2**30)])
    assert layer_size(layer) == 3 * 512 + 8 * 2**30 + 1024
    with pytest.raises(CheckFailedError, match=r"/huge: the blob sha256:e3b0.* has 0 bytes where 8589934592"):
        write_layer(layer, lambda digest: io.BytesIO(b""))


@pytest.mark.parametrize("size", [1, 511, 512, BUFFER_SIZE, BUFFER_SIZE + 1, 3 * BUFFER_SIZE + 5])
def test_bodies_of_all_sizes(size: int) -> None:
    bodies = Bodies()
    layer = Layer([bodies.file("a", b"a" * size), bodies.file("b", b"b")])
    data = written(layer, bodies.open)
    assert data[512 : 512 + size] == b"a" * size
    assert [member.size for member in members(data)] == [size, 1]


class GivesLess(io.BytesIO):
    """A file that gives less than it is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None and size > 0
        return super().read(max(1, size // 3))


@pytest.mark.parametrize("size", [10, 3 * BUFFER_SIZE])
def test_files_that_give_less_than_asked_for(size: int) -> None:
    bodies = Bodies()
    layer = Layer([bodies.file("a", b"a" * size)])
    short = write_layer(layer, lambda digest: GivesLess(bodies[digest]))
    assert short == write_layer(layer, bodies.open)


@pytest.mark.parametrize("size", [0, 100, 2 * BUFFER_SIZE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("wrong", ["short", "long", "other"])
def test_a_wrong_body_is_named(size: int, wrong: str) -> None:
    bodies = Bodies()
    entry = bodies.file("etc/body", b"x" * size)
    body = {"short": b"x" * (size - 1), "long": b"x" * (size + 1), "other": b"x" * (size - 1) + b"y"}[wrong]
    if size == 0:
        entry = entry._replace(digest=Digest.of(b"something"))
    layer = Layer([directory("etc"), entry])
    with pytest.raises(CheckFailedError) as caught:
        write_layer(layer, lambda digest: io.BytesIO(body))
    assert caught.value.message.startswith(f"/etc/body: the blob {entry.digest} ")
    assert caught.value.hint


def test_without_verify_the_diff_id_tells() -> None:
    bodies = Bodies()
    layer = Layer([bodies.file("body", b"good")])
    digest, _ = write_layer(layer, lambda digest: io.BytesIO(b"evil"), verify=False)
    assert digest != write_layer(layer, bodies.open)[0]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Layer([file("a/b", Digest.of(b""), 0)]), "/a/b without the directory"),
        (Layer([], ["a/b"]), "removes /a/b without the directory"),
        (Layer([directory("x", uid=2097152)]), "/x/ belongs to 2097152:0"),
    ],
    ids=["no parent", "no parent of a whiteout", "owner"],
)
def test_what_does_not_fit_is_an_error_that_names_the_path(layer: Layer, message: str) -> None:
    with pytest.raises(TreeError, match=message):
        write_layer(layer, lambda digest: io.BytesIO(b""))


def test_gnu_tar_unpacks_it(tmp_path: Path) -> None:
    bodies = Bodies()
    layer = Layer(
        [
            directory("d" * 60, 0o750),
            directory(LONG),
            bodies.file(LONG + "/" + "f" * 120, b"long", 0o600),
            bodies.file("ünï", b"x" * 1000, 0o755),
            link("l", "ünï"),
        ]
    )
    tar = subprocess.run(["tar", "--version"], capture_output=True, text=True, check=False)
    if "GNU tar" not in tar.stdout:
        pytest.skip("tar is not GNU tar")
    command = ["tar", "--extract", "--no-same-owner", "--preserve-permissions", "--directory", str(tmp_path)]
    subprocess.run(command, input=written(layer, bodies.open), check=True, env={"LC_ALL": "C.UTF-8"})
    long = tmp_path / LONG / ("f" * 120)
    assert (long.read_bytes(), long.stat().st_mode & 0o7777) == (b"long", 0o600)
    assert (tmp_path / "l").read_bytes() == b"x" * 1000
    assert all(path.lstat().st_mtime == NORMAL_TIME for path in tmp_path.rglob("*"))
    assert (tmp_path / ("d" * 60)).stat().st_mode & 0o7777 == 0o750


def test_the_digest_is_that_of_the_stream() -> None:
    bodies = Bodies()
    layer = Layer([bodies.file("a", b"1"), bodies.file("b", b"2" * 300_000)])
    pieces: list[bytes] = []

    class Hasher:
        def write(self, data: bytes) -> None:
            pieces.append(data)

    digest, size = write_layer(layer, bodies.open, Hasher())
    assert digest.hex == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert size == sum(map(len, pieces))
