"""Helpers for tests of the store: small trees in it, and running as an ordinary user."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprobuild.digest import Digest
from reprobuild.store.store import Store
from reprobuild.tree import Entry, Layer, directory, file

LARGE = bytes(range(256)) * 300
"""A body that a checkout links to rather than copies."""
USER = 54321
"""A uid that nobody has."""


def layer_of(store: Store, bodies: Mapping[str, bytes], *more: Entry, gone: tuple[str, ...] = ()) -> Layer:
    """Make a layer of files, path → body, and the directories that they are in."""
    entries: dict[str, Entry] = {}
    with store.transaction() as group:
        for path, body in bodies.items():
            above = path
            while above := above.rpartition("/")[0]:
                entries.setdefault(above, directory(above))
            entries[path] = file(path, group.add_bytes(body), len(body))
        entries.update((entry.path, entry) for entry in more)
        layer = Layer(entries.values(), gone)
        group.add_bytes(layer.listing)
    return layer


def image_of(store: Store, name: str, *layers: Layer, records: tuple[Digest, ...] = ()) -> Digest:
    """Record an image of layers; give its key."""
    key = Digest.of(name.encode())
    with store.transaction() as group:
        config = group.add_bytes(f"config of {name}".encode())
        listings = [str(group.add_bytes(layer.listing)) for layer in layers]
        group.record(
            key,
            {
                "kind": "image",
                "blobs": [str(config), *listings],
                "config": str(config),
                "layers": [{"layer": listing} for listing in listings],
                "records": [str(record) for record in records],
            },
        )
    return key


def snapshot(folder: Path) -> dict[str, str | bytes]:
    """Give what is in a folder: path → kind and mode, and the body or target."""
    found: dict[str, str | bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = "-> " + os.readlink(path)
        elif path.is_dir():
            found[name] = f"folder {path.stat().st_mode & 0o7777:o}"
        else:
            found[name] = b"%o " % (path.stat().st_mode & 0o7777) + path.read_bytes()
    return found


@contextmanager
def users_folder() -> Iterator[Path]:
    """Make a folder that belongs to an ordinary user: to us, or to a uid that nobody has if we are root."""
    folder = Path(tempfile.mkdtemp())
    try:
        if os.geteuid() == 0:
            os.chown(folder, USER, USER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_user(work: Callable[[], Any]) -> Any:
    """Do something in a child process that is an ordinary user; and give what it gives."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer: tuple[bool, Any] = (False, "")
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
            answer = (True, work())
        except BaseException:  # noqa: BLE001 - the child must not return into the test runner
            answer = (False, traceback.format_exc())
        finally:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        went_well, result = pickle.load(pipe)
    os.waitpid(child, 0)
    if not went_well:
        raise AssertionError(f"in the user's process:\n{result}")
    return result
