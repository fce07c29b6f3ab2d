"""The system call filter of a sandbox, assembled by hand: a classic BPF program over ``struct seccomp_data``.

It answers changes of owner and identity with success, without effect, so that ``tar``, ``chown``,
``su`` and package managers work with a single uid (DESIGN section 6). It refuses what Docker's
default profile refuses to a container without capabilities: new namespaces, mounts, keys, BPF,
kernel modules, clocks, and typing into the terminal (TIOCSTI, CVE-2017-5226). Everything else is
allowed. Linux: ``Documentation/userspace-api/seccomp_filter.rst``, ``include/uapi/linux/filter.h``.

Knows nothing of bubblewrap: it gives the program's bytes.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]. Little-endian.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

_X32_BIT = 0x40000000

NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME (the latter for unshare)."""
NEW_NAMESPACES_OF_CLONE = NEW_NAMESPACES & ~0x80
"""For ``clone`` the lowest byte is the signal at the end, and NEWTIME is not possible."""

TERMINAL_REQUESTS = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX."""

AF_VSOCK = 40

_ARCHITECTURES: Mapping[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_*, by the name that ``os.uname`` gives."""

# name: (x86_64, aarch64); None where the architecture lacks the call.
_Table = Mapping[str, tuple[int | None, int | None]]

OWNERSHIP: _Table = {
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setgroups": (116, 159),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
}
"""Answered with success and no effect, unless a range of owners is mapped."""

REFUSED: _Table = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "userfaultfd": (323, 282),
    "uselib": (134, None),
    "ustat": (136, None),
    "vhangup": (153, 58),
}
"""Answered with EPERM."""

ABSENT: _Table = {
    "clone3": (435, 435),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
}
"""Answered with ENOSYS, for which programs have another way: the flags of ``clone3`` lie in memory that a
filter can't read, and what goes through a ring passes every filter by."""


def filter_program(machine: str, *, owners: bool = False) -> bytes:
    """Give the program for an architecture, as an array of ``struct sock_filter``.

    machine: as ``os.uname().machine`` has it. owners: leave changes of owner to the kernel. Raises
    KeyError for an architecture that has no table here.
    """
    column = list(_ARCHITECTURES).index(machine) if machine in _ARCHITECTURES else -1
    if column < 0:
        raise KeyError(machine)
    refuse = _ERRNO | errno.EPERM
    verdicts: dict[int, int] = {}
    for table, verdict in (
        ({} if owners else OWNERSHIP, _ERRNO | 0),
        (REFUSED, refuse),
        (ABSENT, _ERRNO | errno.ENOSYS),
    ):
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                verdicts[number] = verdict
    clone, unshare, ioctl, socket = ((56, 272, 16, 41), (220, 97, 29, 198))[column]
    special = {
        clone: _refuse_bits(NEW_NAMESPACES_OF_CLONE, refuse),
        unshare: _refuse_bits(NEW_NAMESPACES, refuse),
        ioctl: _refuse_values(1, TERMINAL_REQUESTS, refuse),
        socket: _refuse_values(0, (AF_VSOCK,), _ERRNO | errno.EAFNOSUPPORT),
    }
    leaves = {number: [(_RETURN, 0, 0, verdict)] for number, verdict in verdicts.items()} | special
    no_call = (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_IF_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        no_call,
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_IF_AT_LEAST, 0, 1, _X32_BIT), no_call]
    program += _search(sorted(leaves.items()))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


_Instruction = tuple[int, int, int, int]


def _refuse_bits(bits: int, verdict: int) -> list[_Instruction]:
    """Refuse a call whose first argument has any of some bits."""
    return [
        (_LOAD, 0, 0, _ARGUMENTS),
        (_IF_ANY_BIT, 0, 1, bits),
        (_RETURN, 0, 0, verdict),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _refuse_values(argument: int, values: tuple[int, ...], verdict: int) -> list[_Instruction]:
    """Refuse a call one of whose arguments has, in its lower half, one of some values."""
    code: list[_Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
    for value in values:
        code += [(_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, verdict)]
    return [*code, (_RETURN, 0, 0, _ALLOW)]


def _search(leaves: list[tuple[int, list[_Instruction]]]) -> list[_Instruction]:
    """Find a call's number by halving, so that the many allowed calls cost few instructions."""
    if len(leaves) == 1:
        ((number, code),) = leaves
        return [(_IF_EQUAL, 1, 0, number), (_RETURN, 0, 0, _ALLOW), *code]
    middle = len(leaves) // 2
    below, above = _search(leaves[:middle]), _search(leaves[middle:])
    pivot = leaves[middle][0]
    if len(below) > 255:
        raise ValueError("the filter has outgrown a jump")
    return [(_IF_AT_LEAST, len(below), 0, pivot), *below, *above]
