from __future__ import annotations

from collections.abc import Mapping

import pytest

from reprobuild.build.place.python import find_python
from reprobuild.lock.image_platform import libc_of, python_patch_level
from reprobuild.store.store import Store
from reprobuild.tree import Tree, file, link, overlay

BANNER = b"\0\0GNU C Library (Debian GLIBC 2.31-13+deb11u11) stable release version 2.31.\nCopyright"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store") / "store")


def make_tree(store: Store, bodies: Mapping[str, bytes], links: Mapping[str, str]) -> Tree:
    with store.transaction() as group:
        entries = [file(path, group.add_bytes(body), len(body), 0o755) for path, body in bodies.items()]
    return overlay(Tree(), [*(link(path, target) for path, target in links.items()), *entries])


@pytest.mark.parametrize(
    ("bodies", "links", "libc"),
    [
        ({"lib/x86_64-linux-gnu/libc.so.6": BANNER}, {}, ("glibc", (2, 31))),
        ({"usr/lib/x86_64-linux-gnu/libc.so.6": BANNER}, {"lib": "usr/lib"}, ("glibc", (2, 31))),
        (
            {"lib/x86_64-linux-gnu/libc-2.31.so": BANNER},
            {"lib/x86_64-linux-gnu/libc.so.6": "libc-2.31.so"},
            ("glibc", (2, 31)),
        ),
        ({"usr/lib64/libc.so.6": BANNER}, {"lib64": "usr/lib64"}, ("glibc", (2, 31))),
        ({"lib/ld-musl-x86_64.so.1": b"musl"}, {}, ("musl", (1, 2))),
        ({}, {}, ("glibc", (2, 28))),
        ({"lib64/libc.so.6": b"no banner"}, {}, ("glibc", (2, 28))),
        ({}, {"lib/x86_64-linux-gnu/libc.so.6": "libc.so.6"}, ("glibc", (2, 28))),
    ],
    ids=["debian", "merged", "versioned", "lib64", "musl", "nothing", "no banner", "a loop"],
)
def test_the_c_library_tells_its_version(
    store: Store, bodies: Mapping[str, bytes], links: Mapping[str, str], libc: tuple[str, tuple[int, int]]
) -> None:
    assert libc_of(make_tree(store, bodies, links), store, "x86_64") == libc


DPKG = b"Package: python3.11-minimal\nVersion: 3.11.2-6+deb12u6\nArchitecture: amd64\n"
HEADER = b'#define PY_MICRO_VERSION 9\n#define PY_VERSION              "3.11.9"\n'


@pytest.mark.parametrize(
    ("bodies", "version"),
    [
        ({"usr/bin/python3.11": b"", "var/lib/dpkg/status.d/python3.11-minimal": DPKG}, "3.11.2"),
        ({"usr/bin/python3.11": b"", "var/lib/dpkg/status.d/libpython3.11-minimal": DPKG}, "3.11.2"),
        ({"usr/local/bin/python3.11": b"", "usr/local/include/python3.11/patchlevel.h": HEADER}, "3.11.9"),
        (
            {
                "usr/local/bin/python3.11": b"",
                "usr/local/include/python3.11/patchlevel.h": HEADER,
                "var/lib/dpkg/status.d/python3.11-minimal": DPKG,
            },
            "3.11.9",
        ),
        ({"usr/bin/python3.11": b""}, "3.11"),
    ],
    ids=["debian", "its library", "python.org", "python.org beside debian's", "nothing says"],
)
def test_the_patch_level_is_read_where_it_is_written(
    store: Store, bodies: Mapping[str, bytes], version: str
) -> None:
    tree = make_tree(store, bodies, {})
    assert python_patch_level(tree, store, find_python(tree, "", "recipe.py:1")) == version
