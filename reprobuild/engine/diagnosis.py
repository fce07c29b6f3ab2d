"""Says why a machine gives no sandbox, and what to do about it.

Reads what the kernel says of itself; changes and tries nothing. Sources: user_namespaces(7), sysctl
files ``kernel.unprivileged_userns_clone`` (Debian), ``kernel.apparmor_restrict_unprivileged_userns``
(Ubuntu 24.04), Linux 5.11 (overlays in user namespaces).
"""

from __future__ import annotations

import os
from pathlib import Path

from reprobuild.store.file_system import NETWORK_FILE_SYSTEMS, file_system_of

OVERLAY_SINCE = (5, 11)

IN_A_CONTAINER = (
    "start the container with: --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined (podman: unmask=ALL in place of the last)"
)


def explain(failure: str, scratch: Path, root: Path = Path("/")) -> tuple[str, str]:
    """Give a sentence and a hint (a command) for a failure of bubblewrap, as it said it.

    scratch: where commands write. root: where ``proc`` and the like are looked for.
    """
    if "namespace" in failure or "uid map" in failure or "loopback" in failure:
        return _namespaces(failure, root)
    if "overlay" in failure.lower():
        return _overlays(failure, scratch, root)
    if "mount proc" in failure or "proc on" in failure:
        return f"{failure}: parts of /proc are hidden here, as containers do", IN_A_CONTAINER
    if os.geteuid() == 0 and "Permission denied" in failure:
        return (
            f"{failure}: the unprivileged user that root runs commands as can't reach that",
            "choose a store where others may pass (--store DIR), or run as an ordinary user",
        )
    if "chdir" in failure:
        return failure, "the folder that the command is to work in must be in the image: check workdir"
    if is_container(root):
        return f"{failure} (this is a container)", IN_A_CONTAINER
    return failure, ""


def _namespaces(failure: str, root: Path) -> tuple[str, str]:
    if _setting(root, "user/max_user_namespaces") == "0":
        return (
            "user namespaces are turned off (user.max_user_namespaces is 0)",
            "sudo sysctl -w user.max_user_namespaces=15000",
        )
    if _setting(root, "kernel/unprivileged_userns_clone") == "0":
        return (
            "user namespaces are for root alone (kernel.unprivileged_userns_clone is 0)",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if is_container(root):
        return f"this container denies user namespaces ({failure})", IN_A_CONTAINER
    if _setting(root, "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    return f"user namespaces are denied ({failure})", "ask who runs this machine for user namespaces"


def _overlays(failure: str, scratch: Path, root: Path) -> tuple[str, str]:
    release = os.uname().release
    if kernel_version(release) < OVERLAY_SINCE:
        return (
            f"Linux {release} has no overlays in user namespaces: 5.11 is the first that has",
            "use a newer kernel, or run as root in a machine of your own",
        )
    kind = file_system_of(scratch, root / "proc/self/mounts")
    if kind in NETWORK_FILE_SYSTEMS or kind == "overlay":
        return (
            f"what commands write can't lie on {kind} ({scratch})",
            "choose a folder on a local disk: export REPROBUILD_SCRATCH=/var/tmp",
        )
    if "too long" in failure or "No such file" in failure:
        return failure, "choose a shorter path for the store: --store DIR"
    return failure, IN_A_CONTAINER if is_container(root) else ""


def kernel_version(release: str) -> tuple[int, int]:
    """Give the first two numbers of a kernel's release; (0, 0) where there are none."""
    parts = release.replace("-", ".").split(".")[:2]
    if len(parts) < 2 or not all(part.isdecimal() for part in parts):
        return (0, 0)
    return (int(parts[0]), int(parts[1]))


def is_container(root: Path = Path("/")) -> bool:
    """Tell whether this is inside a container, as far as its usual marks tell."""
    marks = (".dockerenv", "run/.containerenv", "run/systemd/container")
    return any((root / mark).exists() for mark in marks) or "container" in os.environ


def _setting(root: Path, name: str) -> str:
    try:
        return (root / "proc/sys" / name).read_text().strip()
    except OSError:
        return ""
