"""Hashes many files at once, in processes: small files cost mostly Python's own work, which threads share.

Knows nothing of what the files are or should be. No ``multiprocessing``: forking a process with
threads is not safe, and its other ways start slowly.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from reprobuild.store import hash_worker

CHUNK = 512
"""Files sent at a time, at most; fewer towards the end, so that all processes end together."""
FEW = 256
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


Sound = int
"""The size in bytes of a file that has its own digest for a name and looks as it should."""
Hashing = Generator[tuple[str, list[tuple[str, Sound | Looks]]], None, None]
"""Folders, each with the names and looks of what is in it; close it when no more is wanted."""


def hash_folders(
    root: str, folders: Sequence[str], jobs: int, *, mtime_ns: int, mode: int, uid: int
) -> Hashing:
    """Give each folder below ``root`` with the names and looks of what is in it; in no order.

    ``mtime_ns``, ``mode`` (with the type of file), ``uid``: how a file should look to be called sound.
    """
    requests = [b"D" + os.fsencode(folder) for folder in folders]
    if not _is_much(root, _paths_in(root, folders)):
        jobs = 1
    with contextlib.closing(_answers(root, requests, jobs, (mtime_ns, mode, uid))) as answers:
        for index, answer in answers:
            parts = answer.split(b"\0") if answer else []
            names = map(os.fsdecode, parts[::2])
            yield folders[index], list(zip(names, map(_read_part, parts[1::2]), strict=True))


def hash_files(root: str, paths: Sequence[str], jobs: int) -> Generator[tuple[str, Looks], None, None]:
    """Give each path below ``root`` with what the file there looks like; in no order."""
    if not _is_much(root, paths):
        jobs = 1
    chunks = list(_chunks(paths, jobs))
    requests = [b"F" + b"\0".join(map(os.fsencode, chunk)) for chunk in chunks]
    with contextlib.closing(_answers(root, requests, jobs, (0, 0, 0))) as answers:
        for index, answer in answers:
            for path, part in zip(chunks[index], answer.split(b"\0"), strict=True):
                looks = _read_part(part)
                assert isinstance(looks, Looks)
                yield path, looks


def _read_part(part: bytes) -> Sound | Looks:
    if part.isdigit():
        return int(part)
    fields = part.split()
    if fields[0] == b"!":
        return Looks("", errno=int(fields[1]))
    return Looks(fields[0].decode(), *map(int, fields[1:]))


def _chunks(paths: Sequence[str], jobs: int) -> Iterator[Sequence[str]]:
    start = 0
    while start < len(paths):
        count = max(1, min(CHUNK, (len(paths) - start) // (jobs * 4)))
        yield paths[start : start + count]
        start += count


def _paths_in(root: str, folders: Sequence[str]) -> Iterator[str]:
    for folder in folders:
        with os.scandir(os.path.join(root, folder)) as listing:
            for entry in listing:
                yield f"{folder}/{entry.name}"


def _is_much(root: str, paths: Sequence[str] | Iterator[str]) -> bool:
    total = 0
    for count, path in enumerate(paths, 1):
        if count > FEW:
            return True
        try:
            total += os.lstat(os.path.join(root, path)).st_size
        except OSError:
            continue
        if total > LARGE:
            return True
    return False


def _answers(
    root: str, requests: Sequence[bytes], jobs: int, expected: hash_worker.Expected
) -> Generator[tuple[int, bytes], None, None]:
    """Give the index of each request and its answer, in no order."""
    if jobs > 1 and sys.executable:
        yield from _Pool(root, requests, min(jobs, len(requests)), expected)
        return
    prefix = os.fsencode(root) + b"/"
    for index, request in enumerate(requests):
        paths = b"\0".join(prefix + path for path in request[1:].split(b"\0"))
        yield index, hash_worker.answer(request[:1] + paths, expected)


class _Pool:
    """Processes, each fed by a thread that only waits."""

    def __init__(
        self, root: str, requests: Sequence[bytes], jobs: int, expected: hash_worker.Expected
    ) -> None:
        self._root = root
        self._requests = requests
        self._jobs = jobs
        # -I -S: neither the environment nor site-packages have a say, and it starts faster.
        self._command = [sys.executable, "-I", "-S", hash_worker.__file__, *map(str, expected)]
        self._next = iter(range(len(requests)))
        self._answers: queue.Queue[tuple[int, bytes] | BaseException | None] = queue.Queue(jobs * 4)
        self._is_stopped = False

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
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
                    yield answer
        finally:
            self._stop(processes, threads)

    def _stop(self, processes: list[subprocess.Popen[bytes]], threads: list[threading.Thread]) -> None:
        self._is_stopped = True
        for process in processes:
            process.kill()
        while any(thread.is_alive() for thread in threads):
            try:
                self._answers.get(timeout=0.05)
            except queue.Empty:
                continue
        for process in processes:
            process.wait()
        for process in processes:
            for pipe in (process.stdin, process.stdout):
                # A request that was cut off is still in the pipe's buffer, and nobody is there to take it.
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self._root, env={}
        )

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None
        try:
            # Taking the next index is one step for all threads: the iterator is not a generator.
            while not self._is_stopped and (index := next(self._next, -1)) >= 0:
                request = self._requests[index]
                process.stdin.write(len(request).to_bytes(4, "big") + request)
                process.stdin.flush()
                head = process.stdout.read(4)
                size = int.from_bytes(head, "big")
                answer = process.stdout.read(size)
                if len(head) < 4 or len(answer) < size:
                    raise ChildProcessError("a hashing process ended early")
                self._answers.put((index, answer))
        except (OSError, ValueError) as error:
            if not self._is_stopped:
                self._answers.put(error)
        self._answers.put(None)
