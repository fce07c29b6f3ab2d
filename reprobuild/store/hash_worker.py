"""Hashes files for ``hash_pool``; runs as a script in processes of its own.

Imports nothing of reprobuild and next to nothing else, so that it starts in the time of an empty
Python. Reads requests from standard input (four bytes of length, then paths between NULs), answers on
standard output in the same framing, one line a path. Knows nothing of what the files are.
"""

import hashlib
import os
import stat
import sys

SMALL = 256 * 1024
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_buffer = bytearray(SMALL)
_view = memoryview(_buffer)


def look(path: bytes) -> bytes:
    """Give ``hex size mtime_ns mode uid`` of a file, or ``! errno`` where it cannot be read."""
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
    return b"%s %d %d %d %d" % (digest.encode(), size, found.st_mtime_ns, found.st_mode, found.st_uid)


def _hash(descriptor: int, expected: int) -> tuple[int, str]:
    if expected < SMALL:
        data = os.read(descriptor, expected + 1)
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
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := requests.read(4)) == 4:
        payload = requests.read(int.from_bytes(head, "big"))
        answer = b"\n".join(map(look, payload.split(b"\0")))
        answers.write(len(answer).to_bytes(4, "big") + answer)
        answers.flush()


if __name__ == "__main__":
    main()
