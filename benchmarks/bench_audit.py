"""``audit`` of a store of 2 GB, in large files and in small ones, beside what checks files otherwise.

Knows nothing of how the table is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import nix
from benchmarks.table import Row
from benchmarks.timing import Work, command, medians

ROOT = Path(__file__).resolve().parent.parent
TOTAL = int(os.environ.get("REPROBUILD_BENCH_BYTES", str(2 * 1000**3)))
LARGE = 64 * 1000**2
SMALL = 50 * 1000
ROUNDS = 3


def rows() -> list[Row]:
    """Measure: megabytes a second, more is better."""
    return [measure("large files", LARGE), measure("small files", SMALL)]


def measure(name: str, size: int) -> Row:
    """Audit a store of files of a size; the same files in a Nix store, and in plain folders."""
    with tempfile.TemporaryDirectory(prefix="reprobuild-bench-") as folder_name:
        folder = Path(folder_name)
        files = make_files(folder / "files", size)
        store = fill_store(folder / "store", files)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-m", "reprobuild", "audit", "--store", str(store)]
        works: dict[str, Work | None] = {
            "ours": command(argv, env=env, cwd=folder_name),
            "sha256sum": sha256sum(files),
            "nix-store --verify --check-contents": verify(folder, files[0].parent.parent),
        }
        seconds = medians(works, rounds=ROUNDS)
    total = sum(1 for _ in files) * size / 1000**2
    speeds = {peer: None if found is None else total / found for peer, found in seconds.items()}
    ours = speeds.pop("ours")
    assert ours is not None
    return Row(f"audit of {total / 1000:.1f} GB, {name}", ours, speeds, "MB/s", "more")


def make_files(folder: Path, size: int) -> list[Path]:
    """Make files that differ in every block, a hundred a folder at most."""
    found = []
    block = os.urandom(size)
    for number in range(max(1, TOTAL // size)):
        path = folder / f"{number // 100:03}" / f"{number % 100:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(8, "big") + block[8:])
        found.append(path)
    return found


def fill_store(path: Path, files: list[Path]) -> Path:
    """Put files into a store of ours."""
    from reprobuild.store.store import Store

    store = Store.open(path)
    with store.transaction() as group:
        for file in files:
            with file.open("rb", buffering=0) as body:
                group.add_stream(body)
    return path


def sha256sum(files: list[Path]) -> Callable[[], None]:
    """coreutils' program, over all files in one process."""
    names = b"\0".join(os.fsencode(file) for file in files)

    def run() -> None:
        subprocess.run(["xargs", "-0", "sha256sum"], input=names, stdout=subprocess.DEVNULL, check=True)

    return run


def verify(folder: Path, files: Path) -> Work | None:
    """Nix's own audit, of the same files, added a folder at a time."""
    found = nix(folder / "nix")
    if found is None:
        return None
    for part in sorted(files.iterdir()):
        found.run("nix-store", "--add", str(part))
    argv = found.argv("nix-store", "--verify", "--check-contents")
    return command(argv, env=found.env)


if __name__ == "__main__":
    started = time.perf_counter()
    for one in rows():
        print(one)
    print(f"{time.perf_counter() - started:.0f} s")
