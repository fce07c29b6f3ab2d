from __future__ import annotations

import errno
import struct

import pytest

from reprobuild.engine.seccomp import ABSENT, OWNERSHIP, REFUSED, filter_program

ALLOW = "allow"
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def answer(program: bytes, machine: str | int, number: int, *arguments: int) -> str | int:
    """Run a filter as the kernel does; give ``allow`` or the error number that the call gets."""
    architecture = ARCHITECTURES[machine] if isinstance(machine, str) else machine
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, architecture, 0, *padded)
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = position = 0
    while True:
        kind, if_true, if_false, value = code[position]
        position += 1
        if kind == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif kind == 0x06:
            return ALLOW if value == 0x7FFF0000 else value - 0x00050000
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value != 0}[
                kind
            ]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("owners", [False, True])
def test_every_call_of_the_tables_gets_its_answer_and_every_other_is_allowed(
    machine: str, owners: bool
) -> None:
    program = filter_program(machine, owners=owners)
    column = list(ARCHITECTURES).index(machine)
    expected: dict[int | None, str | int] = {}
    for table, verdict in (
        (OWNERSHIP, ALLOW if owners else 0),
        (REFUSED, errno.EPERM),
        (ABSENT, errno.ENOSYS),
    ):
        expected |= {numbers[column]: verdict for numbers in table.values()}
    for number in range(470):
        assert answer(program, machine, number) == expected.get(number, ALLOW), number


ARGUMENTS = {
    "clone of a thread": ("x86_64", 56, (0x3D0F00,), ALLOW),
    "clone of a process": ("x86_64", 56, (0x1200011,), ALLOW),
    "clone of a user namespace": ("x86_64", 56, (0x10000011,), errno.EPERM),
    "clone of a mount namespace": ("aarch64", 220, (0x20011,), errno.EPERM),
    "unshare of files": ("x86_64", 272, (0x400,), ALLOW),
    "unshare of the network": ("x86_64", 272, (0x40000000,), errno.EPERM),
    "unshare of time": ("aarch64", 97, (0x80,), errno.EPERM),
    "window size": ("x86_64", 16, (0, 0x5413), ALLOW),
    "TIOCSTI": ("x86_64", 16, (0, 0x5412), errno.EPERM),
    "TIOCSTI with more bits": ("x86_64", 16, (0, 0xFF_0000_5412), errno.EPERM),
    "TIOCLINUX": ("aarch64", 29, (0, 0x541C), errno.EPERM),
    "socket": ("x86_64", 41, (2, 1), ALLOW),
    "socket past every namespace": ("x86_64", 41, (40, 1), errno.EAFNOSUPPORT),
    "x32": ("x86_64", 0x40000000 + 1, (), errno.ENOSYS),
}


@pytest.mark.parametrize(("machine", "number", "arguments", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_decide(machine: str, number: int, arguments: tuple[int, ...], expected: str | int) -> None:
    assert answer(filter_program(machine), machine, number, *arguments) == expected


def test_another_architecture_has_no_calls() -> None:
    i386 = 0x40000003
    assert answer(filter_program("x86_64"), i386, 1) == errno.ENOSYS
    assert answer(filter_program("aarch64"), ARCHITECTURES["x86_64"], 1) == errno.ENOSYS


def test_an_unknown_machine_is_an_error() -> None:
    with pytest.raises(KeyError, match="riscv64"):
        filter_program("riscv64")
