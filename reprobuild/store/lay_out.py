"""Writes one tree into a folder, out of blobs.

Files of 64 KiB and more become hard links to their blobs where mode, owner and capability agree,
each blob at most once a folder (two links to one inode would show); all else is copied, sharing
blocks where the file system can. Knows nothing of stacks, leases or overlays.
"""

from __future__ import annotations

import errno
import os
import stat

from reprobuild.store.blobs import BLOB_MODE, TIMES, damaged, missing
from reprobuild.store.disk import copy_body, trouble, write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from reprobuild.digest import Digest
    from reprobuild.store.blobs import Blobs
    from reprobuild.tree import Entry, Tree

LINK_SIZE = 64 * 1024
"""Bytes from which on a file is linked rather than copied."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def linkable(tree: Iterable[Entry]) -> dict[Digest, Entry]:
    """Give what of a tree may be links: each digest with the first entry that has it.

    What lies in a folder that its owner may not enter is not among them: it could not be looked after.
    """
    found: dict[Digest, Entry] = {}
    closed: set[str] = set()
    for entry in tree:
        if entry.kind == "d":
            if not entry.mode & 0o100 or entry.path.rpartition("/")[0] in closed:
                closed.add(entry.path)
        elif entry.size >= LINK_SIZE and entry.mode == BLOB_MODE and not entry.capability:
            assert entry.digest is not None
            if entry.path.rpartition("/")[0] not in closed:
                found.setdefault(entry.digest, entry)
    return found


def lay_out(
    tree: Tree, folder: str, blobs: Blobs, *, owner: int | None, copied: Collection[Digest] = ()
) -> list[Entry]:
    """Make a folder that holds a tree; give the entries that are links to their blobs.

    ``copied``: what must not be linked. Raises MissingBlobError or CheckFailedError for a blob that
    is not what the tree says, and OutsideError where the disk refuses.
    """
    try:
        return _Work(tree, blobs, owner, copied).into(folder)
    except OSError as error:
        raise trouble(error, f"laying out a tree in {folder}") from error


class _Work:
    def __init__(self, tree: Tree, blobs: Blobs, owner: int | None, copied: Collection[Digest]) -> None:
        self._tree = tree
        self._blobs = blobs
        self._owner = owner
        self._links = {entry.path: entry for digest, entry in linkable(tree).items() if digest not in copied}

    def into(self, folder: str) -> list[Entry]:
        inside: dict[str, list[Entry]] = {"": []}
        for entry in self._tree:
            if entry.kind == "d":
                inside[entry.path] = []
            inside[entry.path.rpartition("/")[0]].append(entry)
        os.mkdir(folder, 0o700)
        top = os.open(folder, _FOLDER)
        try:
            self._store = os.open(self._blobs.folder, _FOLDER)
            try:
                self._fill(top, inside)
            finally:
                os.close(self._store)
        finally:
            os.close(top)
        return list(self._links.values())

    def _fill(self, top: int, inside: dict[str, list[Entry]]) -> None:
        closed = []
        for path, entries in inside.items():
            mode = 0o755
            if path:
                above = self._tree.get(path)
                assert above is not None
                mode = above.mode
            here = os.open(path, _FOLDER, dir_fd=top) if path else top
            try:
                for entry in entries:
                    self._make(entry, entry.path[len(path) + 1 :] if path else entry.path, here)
                if self._owner is not None:
                    os.fchown(here, self._owner, self._owner)
                if mode & 0o100:
                    os.fchmod(here, mode)
                else:  # nothing could be put below it any more
                    closed.append((path, mode))
                os.utime(here, ns=TIMES)
            finally:
                if here != top:
                    os.close(here)
        for path, mode in reversed(closed):
            os.chmod(path, mode, dir_fd=top)

    def _make(self, entry: Entry, name: str, here: int) -> None:
        if entry.kind == "f":
            if entry.path not in self._links or not self._link(entry, name, here):
                self._copy(entry, name, here)
        elif entry.kind == "d":
            os.mkdir(name, 0o700, dir_fd=here)
        else:
            os.symlink(entry.target, name, dir_fd=here)
            if self._owner is not None:
                os.chown(name, self._owner, self._owner, dir_fd=here, follow_symlinks=False)
            os.utime(name, ns=TIMES, dir_fd=here, follow_symlinks=False)

    def _link(self, entry: Entry, name: str, here: int) -> bool:
        assert entry.digest is not None
        blob = entry.digest.hex
        try:
            os.link(f"{blob[:2]}/{blob}", name, src_dir_fd=self._store, dst_dir_fd=here)
        except FileNotFoundError:
            raise missing(entry.digest, f"/{entry.path}") from None
        except OSError as error:
            if error.errno not in (errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EXDEV):
                raise
            del self._links[entry.path]
            return False
        if not is_unchanged(os.stat(name, dir_fd=here, follow_symlinks=False), entry.size):
            restore(self._blobs, entry.digest, self._owner)
        return True

    def _copy(self, entry: Entry, name: str, here: int) -> None:
        assert entry.digest is not None
        blob = entry.digest.hex
        try:
            source = os.open(f"{blob[:2]}/{blob}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._store)
        except FileNotFoundError:
            raise missing(entry.digest, f"/{entry.path}") from None
        try:
            if not is_unchanged(os.fstat(source), entry.size):
                restore(self._blobs, entry.digest, self._owner)
            target = os.open(name, _NEW, 0o600, dir_fd=here)
            try:
                if entry.size < LINK_SIZE:
                    data = os.read(source, LINK_SIZE)
                    write_whole(target, data)
                    size = len(data)
                else:
                    size = copy_body(source, target, entry.size)
                if size != entry.size:
                    raise damaged(entry.digest)
                if self._owner is not None:
                    os.fchown(target, self._owner, self._owner)
                os.fchmod(target, entry.mode)
                if entry.capability:
                    _set_capability(target, entry.capability)
                os.utime(target, ns=TIMES)
            finally:
                os.close(target)
        finally:
            os.close(source)


def is_unchanged(found: os.stat_result, size: int) -> bool:
    """Tell whether a blob, or a link to one, looks as it did when it was made: a write moves its time."""
    looks = (found.st_size, found.st_mtime_ns, found.st_mode)
    return looks == (size, TIMES[1], stat.S_IFREG | BLOB_MODE)


def restore(blobs: Blobs, digest: Digest, owner: int | None) -> None:
    """Give a blob its mode and time again if its bytes are right; raises CheckFailedError if not."""
    with blobs.open(digest) as file:
        if digest.of_file(file)[0] != digest:
            raise damaged(digest)
        if owner is not None:
            os.fchown(file.fileno(), owner, owner)
        os.fchmod(file.fileno(), BLOB_MODE)
        os.utime(file.fileno(), ns=TIMES)


def _set_capability(descriptor: int, value: bytes) -> None:
    try:
        os.setxattr(descriptor, "security.capability", value)
    except OSError as error:  # an ordinary user may not; the sandbox grants none anyway
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.EACCES):
            raise
