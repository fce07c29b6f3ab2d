"""The world that every command sees, in every engine: one table (DESIGN section 6, ``docs/sandbox.md``).

The environment stands in ``protocol``. Knows nothing of how an engine brings this about.
"""

from __future__ import annotations

from collections.abc import Mapping

HOSTNAME = "reprobuild"

FILES: Mapping[str, bytes] = {
    "etc/hostname": b"reprobuild\n",
    "etc/hosts": b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\treprobuild\n",
    "etc/resolv.conf": b"# There is no network here.\n",
}
"""Files of fixed content on top of every tree, never part of a layer."""

SERVED_RESOLVER = b"nameserver 198.18.0.1\n"
"""The third of them where a gateway answers: at every address, so this one is as good as any (RFC 2544)."""

FOLDERS: Mapping[str, int] = {"dev": 0o755, "proc": 0o555, "sys": 0o555, "tmp": 0o1777}
"""Folders that are there even where a tree lacks them, with their modes. The first three are mounts."""

SHM_SIZE = 1 << 30
"""Bytes that ``/dev/shm`` can hold. Docker's 64 MiB is less than the loaders of PyTorch need."""

UMASK = 0o022

OPEN_FILES = (1024, 4096)
"""RLIMIT_NOFILE, soft and hard. Core files: none. Stack: 8 MiB."""

PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
"""Parts of ``/proc`` that can't be written to."""

PROC_MASKED = (
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
)
"""Parts of ``/proc`` that are empty inside, as in Docker."""

SYS_SHOWN = ("devices/system/cpu", "devices/system/node")
"""All that there is of ``/sys``: which processors exist, for libraries that ask before choosing a kernel."""
