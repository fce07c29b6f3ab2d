"""What file system a path is on, and whether other machines are behind it.

Knows nothing of what is done there.
"""

from __future__ import annotations

import os
import re

MOUNTS = "/proc/self/mounts"

NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "wekafs"),
        *("fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    )
)
"""Types on which locks between machines may not hold, and on which processes of several machines share no
memory, as SQLite's write-ahead log needs it (sqlite.org/wal.html)."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


def is_network_file_system(path: str | os.PathLike[str], mounts: str | os.PathLike[str] = MOUNTS) -> bool:
    """Tell whether a path, or its nearest parent that exists, is on a file system of other machines."""
    return file_system_of(path, mounts) in NETWORK_FILE_SYSTEMS


def file_system_of(path: str | os.PathLike[str], mounts: str | os.PathLike[str] = MOUNTS) -> str:
    """Give the type of the file system that a path is on, or would be (``ext4``); ``""`` where unknown.

    ``mounts``: a file as proc(5) describes ``/proc/pid/mounts``.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind
