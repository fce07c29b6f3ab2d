from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard

from reprobuild.build.compression import Limits
from reprobuild.build.unpack import SMALL, unpack
from reprobuild.images.archive import ArchiveError
from reprobuild.store.store import Store
from reprobuild.tree import Entry, Tree, overlay
from tests.archives import END, block, member, pax, symlink, tar, zipped

FILES = {"top/a.txt": b"alpha\n", "top/deep/b.bin": bytes(range(256)) * 40}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store"))


def entries(
    store: Store, data: bytes, *, to: str = "", strip: int = 0, limits: Limits | None = None
) -> list[Entry]:
    with store.transaction() as group:
        found = unpack(io.BytesIO(data), group, to=to, strip=strip, limits=limits or Limits())
    for entry in found:
        assert entry.digest is None or store.blobs.size(entry.digest) == entry.size
    assert {entry.path for entry in found} <= {entry.path for entry in overlay(Tree(), found)}
    return list(found)


def contents(store: Store, data: bytes, *, to: str = "", strip: int = 0) -> dict[str, bytes | str]:
    """Give path → bytes of files, → target of links; folders end in a slash."""
    found: dict[str, bytes | str] = {}
    for entry in entries(store, data, to=to, strip=strip):
        if entry.kind == "d":
            found[entry.path + "/"] = ""
        else:
            found[entry.path] = store.blobs.read(entry.digest) if entry.digest else entry.target
    return found


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstd,
    "gzip in two members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "bzip2 in two streams": lambda data: bz2.compress(data[:700]) + bz2.compress(data[700:]),
    "xz in two streams": lambda data: lzma.compress(data[:700]) + lzma.compress(data[700:]),
    "zstd in two frames": lambda data: zstd(data[:700]) + b"\x50\x2a\x4d\x18\x02\0\0\0hi" + zstd(data[700:]),
    "gzip with a tail": lambda data: gzip.compress(data) + bytes(512) + b"signature",
}


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_formats_are_told_by_content(store: Store, pack: Callable[[bytes], bytes]) -> None:
    assert contents(store, pack(tar(FILES))) == {"top/": "", "top/deep/": "", **FILES}


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_zip(store: Store, method: int) -> None:
    assert contents(store, zipped(FILES, method=method)) == {"top/": "", "top/deep/": "", **FILES}


@pytest.mark.parametrize(
    ("to", "strip", "paths"),
    [
        pytest.param("/opt/x", 0, ["opt/x", "opt/x/top", "opt/x/top/a.txt", "opt/x/top/deep",
                                   "opt/x/top/deep/b.bin"], id="to"),
        pytest.param("/opt/x/", 1, ["opt/x", "opt/x/a.txt", "opt/x/deep", "opt/x/deep/b.bin"], id="strip"),
        pytest.param("/", 2, ["b.bin"], id="strip more than some have"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pack", [tar, zipped])
def test_where_members_go(
    store: Store, pack: Callable[..., bytes], to: str, strip: int, paths: list[str]
) -> None:
    assert [entry.path for entry in entries(store, pack(FILES), to=to, strip=strip)] == paths


def test_modes_are_kept_and_owners_are_not(store: Store) -> None:
    infos = [
        member("tool", mode=0o4755),
        member("d", tarfile.DIRTYPE, mode=0o1777),
        member("secret", mode=0o400),
    ]
    for info in infos:
        info.uid = info.gid = 1000
    found = {entry.path: entry for entry in entries(store, tar(infos=infos))}
    assert {path: entry.mode for path, entry in found.items()} == {
        "tool": 0o4755,
        "d": 0o1777,
        "secret": 0o400,
    }
    assert {(entry.uid, entry.gid) for entry in found.values()} == {(0, 0)}


def test_zip_modes_and_links(store: Store) -> None:
    modes = {"run": stat.S_IFREG | 0o755, "link": stat.S_IFLNK | 0o777, "old": stat.S_IFREG}
    data = zipped({"run": b"#!", "link": b"run", "old": b""}, modes=modes)
    found = {entry.path: (entry.kind, entry.mode, entry.target) for entry in entries(store, data)}
    assert found == {"run": ("f", 0o755, ""), "link": ("l", 0o777, "run"), "old": ("f", 0o644, "")}


def test_capabilities_travel(store: Store) -> None:
    value = b"\x01\0\0\x02" + bytes(16)
    data = pax({"SCHILY.xattr.security.capability": value}) + block(b"ping") + END
    assert [entry.capability for entry in entries(store, data)] == [value]


def test_hard_links_become_files_with_the_mode_of_their_original(store: Store) -> None:
    infos = [
        member("top/h", tarfile.LNKTYPE, "top/a.txt", mode=0o777),
        member("top/hh", tarfile.LNKTYPE, "top/h"),
    ]
    data = tar(FILES, infos=infos)
    found = {entry.path: (entry.kind, entry.mode) for entry in entries(store, data, strip=1)}
    assert found == {"a.txt": ("f", 0o644), "h": ("f", 0o644), "hh": ("f", 0o644), "deep": ("d", 0o755),
                     "deep/b.bin": ("f", 0o644)}  # fmt: skip


def test_a_hard_link_to_what_strip_drops_is_a_file(store: Store) -> None:
    data = tar({"original": b"body"}, infos=[member("d/copy", tarfile.LNKTYPE, "original")])
    assert contents(store, data, strip=1) == {"copy": b"body"}


def test_the_last_of_several_members_counts(store: Store) -> None:
    first, last = tar({"f": b"old", "g": b"x"}), tar({"f": b"new"}, infos=[symlink("g", "f")])
    assert contents(store, first[: 4 * 512] + last) == {"f": b"new", "g": "f"}


def test_large_bodies_are_streamed(store: Store) -> None:
    body = bytes(range(256)) * (SMALL // 256 + 1)
    assert contents(store, tar({"big": body})) == {"big": body}
    assert contents(store, zipped({"big": body})) == {"big": body}


def test_members_go_through_links_of_the_archive_that_stay_inside(store: Store) -> None:
    infos = [
        member("usr/lib", tarfile.DIRTYPE, mode=0o755),
        symlink("lib", "usr/lib"),
        symlink("abs", "/opt/usr"),
        member("lib/x"),
        member("abs/lib/y"),
        member("lib/", tarfile.DIRTYPE, mode=0o700),
    ]
    assert contents(store, tar(infos=infos), to="/opt") == {
        "opt/": "", "opt/abs": "/opt/usr", "opt/lib": "usr/lib", "opt/usr/": "", "opt/usr/lib/": "",
        "opt/usr/lib/x": b"", "opt/usr/lib/y": b"",
    }  # fmt: skip


def test_links_may_lead_anywhere_as_long_as_nothing_goes_through_them(store: Store) -> None:
    infos = [symlink("l", "/etc/passwd"), symlink("m", "../../x")]
    assert contents(store, tar(infos=infos), to="/opt") == {
        "opt/": "",
        "opt/l": "/etc/passwd",
        "opt/m": "../../x",
    }


def linked(target: str, name: str = "l/x") -> bytes:
    return tar(infos=[symlink("l", target), member(name)])


def patched(data: bytes, at: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes at a place after each signature of a zip archive."""
    out = bytearray(data)
    for match in re.finditer(re.escape(at), data):
        out[match.start() + offset : match.start() + offset + len(value)] = value
    return bytes(out)


LOCAL, CENTRAL, ENDING = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
ZIP = zipped({"a": b"x" * 5000})
HOSTILE = {
    "through a link to an absolute path": (linked("/etc"), "'l/x' would be written through a link"),
    "through a link upwards": (linked("../.."), "'l/x' would be written through a link"),
    "through a link with a folder before": (linked("d/../../etc"), "'l/x' would be written through a link"),
    "through a link to a sibling of to": (linked("/opting"), "'l/x' would be written through a link"),
    "through a link of a link": (
        tar(infos=[symlink("a", "."), symlink("b", "a/../.."), member("b/x")]),
        "'b/x' would be written through a link",
    ),
    "through a loop": (linked("l"), "'l/x' leads into a loop"),
    "through a hard link to a link": (
        tar(infos=[symlink("l", "/etc"), member("h", tarfile.LNKTYPE, "l"), member("h/x")]),
        "'h/x' would be written through a link",
    ),
    "below a file": (tar({"a": b""}, infos=[member("a/b")]), "'a/b' lies below 'a', which is no folder"),
    "a folder and a file": (tar({"a/b": b""}, infos=[member("a")]), "'a' is a folder and something else"),
    "a folder and a link": (
        tar({"a/b": b""}, infos=[symlink("a", "/etc")]),
        "'a' is a folder and something else",
    ),
    "hard link to nothing": (
        tar(infos=[member("h", tarfile.LNKTYPE, "gone")]),
        "'h' is a hard link to 'gone'",
    ),
    "hard link to what comes later": (
        tar(infos=[member("h", tarfile.LNKTYPE, "later"), member("later")]),
        "'h' is a hard link to 'later'",
    ),
    "empty file": (b"", "the archive is empty"),
    "empty archive": (END, "there is nothing in the archive"),
    "a gzip of nothing": (gzip.compress(b""), "cut off"),
    "no archive": (b"just text " * 100, "this is no tar archive"),
    "cut gzip": (gzip.compress(tar(FILES))[:-20], "the gzip stream is cut off"),
    "gzip without its sum": (gzip.compress(tar(FILES))[:-4], "the gzip stream is cut off"),
    "damaged gzip": (gzip.compress(tar(FILES))[:-8] + bytes(8), "the gzip stream is damaged"),
    "cut bzip2": (bz2.compress(tar(FILES))[:-20], "the bzip2 stream is cut off"),
    "cut xz": (lzma.compress(tar(FILES))[:-20], "the xz stream is cut off"),
    "cut zstd": (zstd(tar(FILES))[:-20], "the archive is cut off"),
    "damaged zstd": (zstd(b"")[:4] + b"\xff" * 100, "the zstd stream is damaged"),
    "zip absolute": (zipped({"/etc/passwd": b""}), "'/etc/passwd' is an absolute path"),
    "zip upwards": (zipped({"../x": b""}), "'../x' leads outside"),
    "zip device": (zipped({"null": b""}, modes={"null": stat.S_IFCHR | 0o666}), "'null' is a device"),
    "zip through a link": (
        zipped({"l": b"/etc", "l/x": b""}, modes={"l": stat.S_IFLNK | 0o777}),
        "'l/x' would be written through a link",
    ),
    "zip link too long": (
        zipped({"l": b"x" * 5000}, modes={"l": stat.S_IFLNK | 0o777}),
        "'l' is a link with a target of 5,000 bytes",
    ),
    "zip encrypted": (
        patched(patched(ZIP, LOCAL, 6, b"\x01\0"), CENTRAL, 8, b"\x01\0"),
        "'a' is encrypted",
    ),
    "zip method": (
        patched(patched(ZIP, LOCAL, 8, b"\x63\0"), CENTRAL, 10, b"\x63\0"),
        "'a' is packed in a way that cannot be read",
    ),
    "zip sum": (patched(ZIP, CENTRAL, 16, b"\1\2\3\4"), "'a': the zip archive is damaged"),
    "zip size": (patched(ZIP, CENTRAL, 24, struct.pack("<I", 6000)), "'a'"),
    "zip cut": (ZIP[:-30], "the zip archive is damaged or cut off"),
    "zip cut in the middle": (ZIP[:40], "the zip archive is damaged or cut off"),
    "zip not UTF-8": (
        zipped({"caf_": b""}).replace(b"caf_", b"caf\xe9"),
        r"the name 'caf\xe9' is not UTF-8",
    ),
    "zip empty": (zipped({}), "there is nothing in the archive"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_and_damaged_archives_are_refused(store: Store, data: bytes, message: str) -> None:
    with pytest.raises(ArchiveError, match=re.escape(message)) as caught:
        entries(store, data, to="/opt")
    assert caught.value.exit_code == 2


def test_strip_that_leaves_nothing_is_an_error(store: Store) -> None:
    with pytest.raises(ArchiveError, match="strip=5 leaves nothing of the archive"):
        entries(store, tar(FILES), strip=5)


def test_zip64(store: Store) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("ä/big", "w", force_zip64=True) as body:
        body.write(b"x" * 5000)
    assert contents(store, out.getvalue()) == {"ä/": "", "ä/big": b"x" * 5000}


def test_windows_separators_become_ours(store: Store) -> None:
    data = zipped({"a\\b": b"x"})
    assert contents(store, patched(data, CENTRAL, 5, b"\0")) == {"a/": "", "a/b": b"x"}


BOMB = bytes(50_000_000)
SMALL_LIMITS = Limits(ratio=10, always=1_000_000, members=100)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, zstd], ids=["gzip", "bzip2", "zstd"])
def test_a_bomb_ends_early(store: Store, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ArchiveError, match="unpacks to more than 1,000,000"):
        entries(store, pack(tar({"zeros": BOMB})), limits=SMALL_LIMITS)


def test_a_zip_bomb_ends_before_it_begins(store: Store) -> None:
    with pytest.raises(ArchiveError, match="unpacks to more than 1,000,000"):
        entries(store, zipped({"zeros": BOMB}), limits=SMALL_LIMITS)


@pytest.mark.parametrize("pack", [tar, zipped])
def test_members_are_counted(store: Store, pack: Callable[..., bytes]) -> None:
    with pytest.raises(ArchiveError, match="members"):
        entries(store, pack({f"f{number}": b"" for number in range(101)}), limits=SMALL_LIMITS)


def test_what_tar_itself_writes(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_bytes(b"body")
    (tmp_path / "tree/sub/link").symlink_to("file")
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        archive.add(tmp_path / "tree", arcname=".")
    assert contents(store, (tmp_path / "x.tgz").read_bytes()) == {
        "sub/": "",
        "sub/file": b"body",
        "sub/link": "file",
    }
