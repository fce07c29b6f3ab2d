"""Hashes many files at once, in processes: small files cost mostly Python's own work, which threads share.

Knows nothing of what the files are or should be. No ``multiprocessing``: forking a process with
threads is not safe, and its other ways start slowly.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

from reprobuild.store import hash_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNK = 512
"""Files sent at a time, at most; fewer towards the end, so that all processes end together."""
ALONE = 256
"""Up to so many files one process does the work itself, unless they are large."""
LARGE = 64 * 1024 * 1024


class Looks(NamedTuple):
    """What a file looks like."""

    digest: str
    """64 hex digits; empty if it could not be read."""
    size: int = 0
    mtime_ns: int = 0
    mode: int = 0
    uid: int = 0
    errno: int = 0
    """Why it could not be read; 0 also for what is no file."""


def hash_files(folder: str, paths: Sequence[str], jobs: int) -> Iterator[tuple[str, Looks]]:
    """Give each path, relative to a folder, with what the file there looks like; in no order."""
    jobs = min(jobs, len(paths))
    if jobs <= 1 or not sys.executable or (len(paths) <= ALONE and not _is_large(folder, paths)):
        for path in paths:
            yield path, _parse(hash_worker.look(os.fsencode(os.path.join(folder, path))))
        return
    yield from _Pool(folder, paths, jobs)


def _is_large(folder: str, paths: Sequence[str]) -> bool:
    total = 0
    for path in paths:
        try:
            total += os.lstat(os.path.join(folder, path)).st_size
        except OSError:
            continue
        if total > LARGE:
            return True
    return False


def _parse(line: bytes) -> Looks:
    fields = line.split()
    if fields[0] == b"!":
        return Looks("", errno=int(fields[1]))
    return Looks(fields[0].decode(), *map(int, fields[1:]))


class _Pool:
    """Processes, each fed by a thread that only waits."""

    def __init__(self, folder: str, paths: Sequence[str], jobs: int) -> None:
        self._folder = folder
        self._paths = paths
        self._jobs = jobs
        self._next = 0
        self._mutex = threading.Lock()
        self._answers: queue.Queue[list[tuple[str, Looks]] | BaseException | None] = queue.Queue(jobs * 4)
        self._stopped = False

    def __iter__(self) -> Iterator[tuple[str, Looks]]:
        processes = [self._start() for _ in range(self._jobs)]
        threads = [threading.Thread(target=self._feed, args=(each,), daemon=True) for each in processes]
        try:
            for thread in threads:
                thread.start()
            running = len(threads)
            while running:
                answer = self._answers.get()
                if answer is None:
                    running -= 1
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    yield from answer
        finally:
            self._stopped = True
            for process in processes:
                process.kill()
            while any(thread.is_alive() for thread in threads):
                try:
                    self._answers.get(timeout=0.05)
                except queue.Empty:
                    continue
            for process in processes:
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        # -I -S: neither the environment nor site-packages have a say, and it starts faster.
        command = [sys.executable, "-I", "-S", hash_worker.__file__]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self._folder, env={}
        )

    def _take(self) -> Sequence[str]:
        with self._mutex:
            rest = len(self._paths) - self._next
            count = max(1, min(CHUNK, rest // (self._jobs * 4)))
            chunk = self._paths[self._next : self._next + count]
            self._next += len(chunk)
        return chunk

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None
        try:
            while not self._stopped and (chunk := self._take()):
                payload = b"\0".join(map(os.fsencode, chunk))
                process.stdin.write(len(payload).to_bytes(4, "big") + payload)
                process.stdin.flush()
                size = int.from_bytes(process.stdout.read(4), "big")
                lines = process.stdout.read(size).split(b"\n")
                if len(lines) != len(chunk) or not size:
                    raise ChildProcessError("a hashing process ended early")
                self._answers.put(list(zip(chunk, map(_parse, lines), strict=True)))
        except (OSError, ValueError) as error:
            if not self._stopped:
                self._answers.put(error)
        self._answers.put(None)
