"""Hashes files for ``hash_pool``; runs as a script in processes of its own.

Imports nothing of reprobuild and next to nothing else, so that it starts in the time of an empty
Python. Knows nothing of what the files are.

Requests come on standard input: four bytes of length, then either ``D`` and the path of a folder, or ``F``
and paths of files between NULs. Answers go to standard output: four bytes of length, then a part for
each file (of a folder: with its name and a NUL before it), parts between NULs. A part is the size alone
where a folder's file has its own digest for a name and looks as the arguments say (modification time in
nanoseconds, mode, uid); else ``hex size mtime_ns mode uid``, or ``! errno`` where it cannot be read.
"""

import hashlib
import os
import stat
import sys

SMALL = 256 * 1024
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_buffer = bytearray(1024 * 1024)
_view = memoryview(_buffer)

Expected = tuple[int, int, int]


def answer(request: bytes, expected: Expected) -> bytes:
    """Answer one request."""
    if request[:1] == b"D":
        return b"\0".join(_look_into(request[1:], expected))
    return b"\0".join([_look(path) for path in request[1:].split(b"\0")])


def _look_into(folder: bytes, expected: Expected) -> list[bytes]:
    with os.scandir(folder) as listing:
        names = sorted((entry.inode(), entry.name) for entry in listing)  # as they lie on the disk
    parts = []
    for _, name in names:
        parts.append(name)
        parts.append(_look(folder + b"/" + name, name, expected))
    return parts


def _look(path: bytes, name: bytes = b"", expected: Expected = (0, 0, 0)) -> bytes:
    try:
        try:
            descriptor = os.open(path, _FLAGS | os.O_NOATIME)
        except PermissionError:  # O_NOATIME is for the owner only
            descriptor = os.open(path, _FLAGS)
    except OSError as error:
        return b"! %d" % (error.errno or 0)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return b"! 0"
        size, digest = _hash(descriptor, found.st_size)
    except OSError as error:
        return b"! %d" % (error.errno or 0)
    finally:
        os.close(descriptor)
    looks = (found.st_mtime_ns, found.st_mode, found.st_uid)
    if digest.encode() == name and looks == expected:
        return b"%d" % size
    return b"%s %d %d %d %d" % (digest.encode(), size, *looks)


def _hash(descriptor: int, expected: int) -> tuple[int, str]:
    if expected < SMALL:
        data = os.read(descriptor, expected + 1)  # one call, and one that finds more where there is more
        hasher = hashlib.sha256(data)
        if len(data) == expected:
            return expected, hasher.hexdigest()
        size = len(data)
    else:
        hasher = hashlib.sha256()
        size = 0
    while count := os.readv(descriptor, [_buffer]):
        hasher.update(_view[:count])
        size += count
    return size, hasher.hexdigest()


def main() -> None:
    """Answer requests until there are no more."""
    mtime_ns, mode, uid = map(int, sys.argv[1:])
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := requests.read(4)) == 4:
        request = requests.read(int.from_bytes(head, "big"))
        given = answer(request, (mtime_ns, mode, uid))
        answers.write(len(given).to_bytes(4, "big") + given)
        answers.flush()


if __name__ == "__main__":
    main()
