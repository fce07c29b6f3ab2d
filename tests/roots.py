"""Small trees for sandboxes to run commands in, made from what the host or its package system has.

Knows nothing of stores or engines.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.require import find_program, require

APPLETS = (
    *(
        "cat",
        "chmod",
        "chown",
        "cp",
        "echo",
        "env",
        "find",
        "head",
        "id",
        "kill",
        "ln",
        "ls",
        "mkdir",
        "mkfifo",
    ),
    *(
        "mknod",
        "mount",
        "mv",
        "nc",
        "ps",
        "rm",
        "rmdir",
        "sh",
        "sleep",
        "stat",
        "su",
        "tar",
        "test",
        "touch",
        "truncate",
    ),
    *("sed", "tr", "true", "umount", "unshare", "wc", "wget", "yes", "dd", "seq", "stty", "hostname", "ip"),
)


def busybox_root(to: Path) -> Path:
    """Make a tree with a static busybox and links to it; the test is skipped where there is none."""
    busybox = _static_busybox(to.with_name(to.name + "-package"))
    for folder in ("bin", "etc", "usr/bin", "root", "tmp", "var"):
        (to / folder).mkdir(parents=True)
    (to / "tmp").chmod(0o1777)
    (to / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n")
    (to / "etc/group").write_text("root:x:0:\nguest:x:1000:\n")
    shutil.copy(busybox, to / "bin/busybox")
    for applet in APPLETS:
        (to / "bin" / applet).symlink_to("busybox")
    return to


def _static_busybox(folder: Path) -> Path:
    on_host = find_program("busybox")
    if on_host is not None and b"/ld-" not in on_host.read_bytes()[:4096]:
        return on_host
    unpack_packages(["busybox-static"], folder)
    return folder / "bin/busybox"


def unpack_packages(names: Sequence[str], to: Path) -> None:
    """Unpack packages of the host's own Debian suite, without what they depend on."""
    require("apt-get")
    require("dpkg-deb")
    download = to.with_name(to.name + "-debs")
    download.mkdir(parents=True)
    done = subprocess.run(
        ["apt-get", "download", "-o", "APT::Sandbox::User=root", *names],
        cwd=download,
        capture_output=True,
        text=True,
        timeout=120,
    )
    require("apt-get download", "" if done.returncode == 0 else f"no packages: {done.stderr.strip()[-200:]}")
    to.mkdir(parents=True, exist_ok=True)
    for archive in sorted(download.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(to)], check=True, timeout=120)


def give_to(root: Path, uid: int) -> None:
    """Make everything in a tree belong to a uid, as a store's checkouts belong to its owner."""
    os.chown(root, uid, uid)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)
