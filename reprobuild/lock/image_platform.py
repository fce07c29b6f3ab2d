"""What an image's tree says about its C library and its Python's exact version.

Reads a few small files of the tree from the store; runs nothing. Knows nothing of wheels.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reprobuild.build.place.python import Python
from reprobuild.tree import Tree, TreeError

if TYPE_CHECKING:
    from reprobuild.store.store import Store

ASSUMED_GLIBC = (2, 28)
"""Where a tree has no C library to look at."""
MUSL = (1, 2)
"""The interface that musl has kept since 2020; its version is in no file's name."""

_BANNER = re.compile(rb"GNU C Library [^\n]{0,80}?version (\d+)\.(\d+)")
_PATCH_LEVEL = re.compile(rb'#define\s+PY_VERSION\s+"(3\.\d+\.\d+)')


def libc_of(tree: Tree, store: Store, architecture: str) -> tuple[str, tuple[int, int]]:
    """Give ``glibc`` or ``musl`` and its version; glibc tells it in the banner inside ``libc.so.6``."""
    for folder in (f"lib/{architecture}-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib"):
        body = _read(tree, store, f"{folder}/libc.so.6")
        match = _BANNER.search(body)
        if match:
            return "glibc", (int(match[1]), int(match[2]))
    if _has(tree, f"lib/ld-musl-{architecture}.so.1"):
        return "musl", MUSL
    return "glibc", ASSUMED_GLIBC


def python_patch_level(tree: Tree, store: Store, python: Python) -> str:
    """Give the Python's version with its patch level (``3.11.2``) where the tree says, else ``3.11``.

    Requirements may depend on it (``python_full_version``). dpkg knows it, and so do the headers.
    """
    version = python.version
    for package in (f"libpython{version}-minimal", f"python{version}-minimal"):
        body = _read(tree, store, f"var/lib/dpkg/status.d/{package}")
        match = re.search(rb"^Version: (?:\d+:)?(3\.\d+\.\d+)", body, re.MULTILINE)
        if match and python.interpreter.startswith("usr/bin/"):
            return match[1].decode()
    body = _read(tree, store, f"{python.headers}/patchlevel.h")
    match = _PATCH_LEVEL.search(body)
    return match[1].decode() if match else version


def _has(tree: Tree, path: str) -> bool:
    try:
        return tree.resolve(path) in tree
    except TreeError:
        return False


def _read(tree: Tree, store: Store, path: str) -> bytes:
    try:
        entry = tree.get(tree.resolve(path))
    except TreeError:
        return b""
    if entry is None or entry.digest is None or not store.blobs.has(entry.digest):
        return b""
    return store.blobs.read(entry.digest)
