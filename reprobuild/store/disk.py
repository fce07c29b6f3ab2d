"""Calls to the operating system that the store's parts share: sync, remove, copy; plain words for failures.

Knows nothing of blobs, records or checkouts.
"""

from __future__ import annotations

import errno
import os
import stat

from reprobuild.errors import OutsideError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FEW = 4
"""Up to so many files, syncing each is cheaper than syncing the whole file system."""

_FREE = "free some space, run `reprobuild gc --grace 0`, or choose another disk with --store DIR"
_HINTS = {
    errno.ENOSPC: ("no space is left", _FREE),
    errno.EDQUOT: ("the quota is used up", _FREE),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written to with --store DIR"),
    errno.EACCES: ("permission denied", "check who owns the folder, or choose another with --store DIR"),
    errno.EPERM: ("not permitted", "check who owns the folder, or choose another with --store DIR"),
    errno.EMFILE: ("too many open files", "raise the limit: ulimit -n 4096"),
    errno.ENAMETOOLONG: ("the path is too long", "choose a shorter folder with --store DIR"),
    errno.EIO: ("the disk reports an error", "check the disk (dmesg), then run `reprobuild audit`"),
    errno.ENOTDIR: ("a part of the path is no folder", "choose another folder with --store DIR"),
}


def trouble(error: OSError, doing: str) -> OutsideError:
    """Say in plain words what the disk refused; ``doing``: ``writing to /path/store``."""
    why, hint = _HINTS.get(error.errno or 0, (error.strerror or str(error), ""))
    return OutsideError(f"{doing} failed: {why}", hint)


def sync_all(folder: int) -> None:
    """Bring everything that was written to the file system of an open folder onto its disk."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    try:
        failed = libc.syncfs(folder) != 0
    except AttributeError:  # no Linux
        os.sync()
        return
    if failed:
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EINVAL):
            os.sync()
            return
        raise OSError(number, os.strerror(number))


def sync_paths(paths: Iterable[str]) -> None:
    """Bring single files or folders onto the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems sync no folders: nothing more can be done there.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not os.path.isdir(path):
                raise
        finally:
            os.close(descriptor)


def write_whole(descriptor: int, data: bytes | memoryview) -> None:
    """Write all bytes, however many calls it takes."""
    count = os.write(descriptor, data)
    if count == len(data):
        return
    rest = memoryview(data)[count:]
    while rest:
        rest = rest[os.write(descriptor, rest) :]


_DEEP = 100
"""Folders below folders, past which one is moved up before it is removed: what a hostile command leaves
can be deeper than recursion and file descriptors reach."""


def remove(path: str) -> None:
    """Remove a file or a whole folder, whatever modes and depth are in it; what is gone already is fine."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        top = _open_for_removal(path, None)
        try:
            moved: list[str] = []
            _empty(top, top, moved, 0)
            while moved:
                _remove_folder(moved.pop(), top, top, moved, 1)
        finally:
            os.close(top)
        os.rmdir(path)
    except FileNotFoundError:
        pass


def _empty(folder: int, top: int, moved: list[str], depth: int) -> None:
    """Remove what is in an open folder, never following a link; what is too deep is moved to ``top``."""
    with os.scandir(folder) as listing:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    for name, is_folder in found:
        try:
            if not is_folder:
                os.unlink(name, dir_fd=folder)
            elif depth < _DEEP:
                _remove_folder(name, folder, top, moved, depth + 1)
            else:
                os.close(_open_for_removal(name, folder))
                fresh = os.urandom(8).hex()
                os.rename(name, fresh, src_dir_fd=folder, dst_dir_fd=top)
                moved.append(fresh)
        except FileNotFoundError:
            pass


def _remove_folder(name: str, parent: int, top: int, moved: list[str], depth: int) -> None:
    folder = _open_for_removal(name, parent)
    try:
        _empty(folder, top, moved, depth)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)


def _open_for_removal(name: str, parent: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        _open_up(name, parent)
        descriptor = os.open(name, flags, dir_fd=parent)
    if os.fstat(descriptor).st_mode & 0o700 != 0o700:
        os.fchmod(descriptor, 0o700)
    return descriptor


def _open_up(name: str, parent: int | None) -> None:
    """Make a folder that its owner may not read accessible to its owner."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
    finally:
        os.close(descriptor)


_CANNOT_COPY = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def copy_body(source: int, target: int, size: int) -> int:
    """Copy an open file's bytes, sharing them where the file system can; give how many there were."""
    if size and _clone(source, target):
        return os.fstat(target).st_size
    copied = 0
    while True:
        try:
            count = os.copy_file_range(source, target, 1 << 30)
        except OSError as error:
            if copied or error.errno not in _CANNOT_COPY:
                raise
            return _copy_plainly(source, target)
        if not count:
            return copied
        copied += count


def _clone(source: int, target: int) -> bool:
    import fcntl

    try:
        fcntl.ioctl(target, 0x40049409, source)  # FICLONE, linux/fs.h
    except OSError:
        return False
    return True


def _copy_plainly(source: int, target: int) -> int:
    copied = 0
    while data := os.read(source, 1 << 18):
        write_whole(target, data)
        copied += len(data)
    return copied


def fresh_name() -> str:
    """Give a name that no other process or thread gives."""
    return f"{os.getpid()}-{os.urandom(6).hex()}"


_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_+=@,.")


def file_name_of(name: str) -> str:
    """Write any text as a file name: ``%XX`` for what a file name should not hold."""
    kept = "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode("utf-8", "surrogateescape")
    )
    return "%2E" + kept[1:] if kept.startswith(".") else kept
