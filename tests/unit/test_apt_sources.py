from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.words import apt
from reprobuild.digest import Digest
from reprobuild.errors import RecipeError
from reprobuild.fetch.apt import downloads
from reprobuild.fetch.apt_sources import (
    AptSource,
    current_bases,
    pool_bases,
    read_apt_sources,
    snapshot_bases,
)
from reprobuild.lock.apt import moment_of
from reprobuild.settings import load

MIRROR = "http://mirror.example/debian"
SECURITY = "http://mirror.example/debian-security"
OTHER = "https://other.example/apt"
SNAPSHOT = "https://snapshot.debian.org/archive"
SOURCES = [
    AptSource(MIRROR, "bookworm"),
    AptSource(SECURITY, "bookworm-security"),
    AptSource(OTHER, "nodistro"),
]

FILES: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "one line": ("sources.list", f"deb {MIRROR} bookworm main contrib\n", [(MIRROR, "bookworm")]),
    "options": (
        "sources.list.d/x.list",
        f"deb [ arch=amd64 signed-by=/x ] {MIRROR}/ bookworm main # why\n",
        [(MIRROR, "bookworm")],
    ),
    "no binaries": ("sources.list", f"deb-src {MIRROR} bookworm main\n# deb {MIRROR} sid main\n", []),
    "deb822": (
        "sources.list.d/debian.sources",
        f"# mirrors\nTypes: deb deb-src\nURIs: {MIRROR} {OTHER}\nSuites: bookworm bookworm-updates\n"
        f"Components: main\n\nTypes: deb\nURIs: {SECURITY}\nSuites: bookworm-security\n",
        [
            (MIRROR, "bookworm"),
            (MIRROR, "bookworm-updates"),
            (OTHER, "bookworm"),
            (OTHER, "bookworm-updates"),
            (SECURITY, "bookworm-security"),
        ],
    ),
    "switched off": (
        "sources.list.d/x.sources",
        f"Enabled: no\nTypes: deb\nURIs: {MIRROR}\nSuites: bookworm\n",
        [],
    ),
    "other schemes": ("sources.list", "deb cdrom:[x]/ bookworm main\ndeb file:/srv bookworm main\n", []),
    "nonsense": ("sources.list.d/x.sources", "what is\nthis\n", []),
    "another name": ("sources.list.d/x.sources.off", f"Types: deb\nURIs: {MIRROR}\nSuites: bookworm\n", []),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), FILES.values(), ids=FILES.keys())
def test_files_of_apt(tmp_path: Path, name: str, text: str, expected: list[tuple[str, str]]) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert [(source.base, source.suite) for source in read_apt_sources(tmp_path)] == expected


def test_a_machine_without_apt_has_no_sources(tmp_path: Path) -> None:
    assert read_apt_sources(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("suite", "mirrors", "expected"),
    [
        ("bookworm", (), [MIRROR]),
        ("bookworm", ("http://own.example/debian/",), ["http://own.example/debian", MIRROR]),
        ("trixie", (), [MIRROR]),
        ("bookworm-backports", (), [MIRROR]),
        ("bookworm-security", (), [SECURITY]),
        ("nodistro", (), [OTHER]),
        ("jammy", (), []),
        ("bookworm", ("http://own.example/{date}/debian",), [MIRROR]),
    ],
)
def test_who_may_serve_a_suite(suite: str, mirrors: tuple[str, ...], expected: list[str]) -> None:
    assert current_bases(suite, mirrors, SOURCES) == expected


def test_who_may_serve_the_past() -> None:
    moment = datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC)
    mirrors = ("http://own.example/{date}/debian", "http://no.example/debian")
    assert snapshot_bases("bookworm", moment, mirrors) == [
        "http://own.example/20240131T235959Z/debian",
        f"{SNAPSHOT}/debian/20240131T235959Z",
    ]
    assert snapshot_bases("bookworm-security", moment, ()) == [f"{SNAPSHOT}/debian-security/20240131T235959Z"]


def test_a_file_is_asked_of_mirrors_then_of_the_snapshot_archive() -> None:
    assert pool_bases("bookworm", "20240131T102030Z", (), SOURCES) == [
        MIRROR,
        f"{SNAPSHOT}/debian/20240201T102030Z",
        f"{SNAPSHOT}/debian/20240131T102030Z",
    ]
    assert pool_bases("bookworm", "", (), SOURCES) == [MIRROR]


def test_downloads_name_every_address(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(f"deb {MIRROR} bookworm main\n")
    settings = load({"debian_mirrors": ["http://own.example/debian"]}, os.environ, str(tmp_path))
    step = apt("bookworm", "tool", mirrors=["http://step.example/debian"])
    path = "pool/main/t/tool/tool_1+b1_amd64.deb"
    one = Pin("tool_1+b1_amd64.deb", 7, Digest.of(b""), {}, {"path": path, "date": "20240131T102030Z"})
    (download,) = downloads(step, [one], settings, apt_folder=tmp_path)
    assert download.urls == (
        f"http://step.example/debian/{path}",
        f"http://own.example/debian/{path}",
        f"{MIRROR}/{path}",
        f"{SNAPSHOT}/debian/20240201T102030Z/{path}",
        f"{SNAPSHOT}/debian/20240131T102030Z/{path}",
    )
    assert (download.sha256, download.size, download.name) == (one.sha256, 7, one.name)


def test_a_day_means_its_end_and_a_moment_itself() -> None:
    assert moment_of("2024-01-31") == datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC)
    assert moment_of("20240131T102030Z") == datetime(2024, 1, 31, 10, 20, 30, tzinfo=UTC)
    with pytest.raises(RecipeError, match="2024-02-31"):
        moment_of("2024-02-31")
