"""A project with large images of a made recipe: three layers, of noise, of text, and of many small files.

Two recipes that differ in the last layer alone. What is in them is made up and served on loopback while they
are locked; afterwards the store has it all. Knows nothing of registries and daemons.
"""

from __future__ import annotations

import functools
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.timing import Watched

ROOT = Path(__file__).resolve().parent.parent
TOTAL = int(os.environ.get("REPROBUILD_BENCH_IMAGE", str(1000**3)))
"""Bytes of an image."""
NOISE, TEXT = 0.45, 0.45
"""How much of it cannot be compressed (as weights, nearly), and is text; the rest is small files."""
SMALL_FILE = 16 * 1024
BLOCK = 8 * 1024**2
"""Bytes after which content comes again: more than compression looks back."""
LARGE, NEWER = "large", "newer"

RECIPE = """from reprobuild import image, recipe, url

@recipe(version="1.0")
def {name}():
    return image(
        url("{server}/weights.bin", to="/model/weights.bin"),
        url("{server}/corpus.txt", to="/model/corpus.txt"),
        url("{server}/{name}.tar", to="/app", unpack=True),
    )
"""


class Project:
    """A project with the two recipes, locked and built in a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self._script = Path(sys.executable).parent / "reprobuild"
        folder.mkdir(parents=True)
        (folder / "reprobuild.toml").touch()
        with served(folder / "served") as server:
            for name in (LARGE, NEWER):
                recipe = folder / "recipes" / name / "recipe.py"
                recipe.parent.mkdir(parents=True)
                recipe.write_text(RECIPE.format(name=name, server=server))
                self.run("lock", name, "--allow-private", "127.0.0.1")()

    def run(
        self, *arguments: str, store: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Watched:
        """Give the command line as work."""
        start = [str(self._script)] if self._script.exists() else [sys.executable, "-m", "reprobuild"]
        variables = {"REPROBUILD_STORE": str(store or self.store), "PYTHONPATH": str(ROOT), **(env or {})}
        return Watched([*start, *arguments], env={**os.environ, **variables}, cwd=str(self.folder))

    def tag(self, name: str) -> str:
        """Give the tag of an image: ``name:version-hash``, as it is called in a registry's namespace."""
        work = self.run("realize", name, "--json")
        work()
        tag = json.loads(work.said)["tag"]
        assert isinstance(tag, str)
        return tag

    def copy_store(self, place: Path) -> None:
        """Make a store that has what this one has, by hard links: nothing in a store is written in place."""
        subprocess.run(["cp", "-al", str(self.store), str(place)], check=True)


def size_text() -> str:
    """Give the size of an image for people."""
    return f"{TOTAL / 1000**3:.1f} GB" if TOTAL >= 1000**3 else f"{TOTAL / 1000**2:.0f} MB"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Make what the recipes take, and serve it; give the server's address. All of it goes afterwards."""
    folder.mkdir()
    noise, text = int(TOTAL * NOISE), int(TOTAL * TEXT)
    _write(folder / "weights.bin", os.urandom(BLOCK), noise)
    _write(folder / "corpus.txt", _text(1), text)
    for seed, name in enumerate((LARGE, NEWER), start=2):
        _write_files(folder / f"{name}.tar", _text(seed), TOTAL - noise - text)
    handler = functools.partial(_Silent, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            for path in folder.iterdir():
                path.unlink()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _text(seed: int) -> bytes:
    """Give a block of made-up sentences."""
    made = random.Random(seed)
    words = [
        "".join(made.choices("abcdefghijklmnopqrstuvwxyz", k=made.randint(2, 10))) for _ in range(20_000)
    ]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    text = " ".join(made.choices(words, weights, k=BLOCK // 20)).encode()
    return (text * 8)[:BLOCK]


def _write(path: Path, block: bytes, size: int) -> None:
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(block[:size])


def _write_files(path: Path, block: bytes, size: int) -> None:
    """Write a tar archive of small files that have ``size`` bytes together."""
    with tarfile.open(path, "w") as archive:
        for number in range(size // SMALL_FILE):
            start = number * SMALL_FILE % len(block)
            body = b"%d\n" % number + block[start : start + SMALL_FILE]
            member = tarfile.TarInfo(f"part{number // 100}/file{number}.txt")
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
