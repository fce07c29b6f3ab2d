"""The system call filter of a container, as a profile that Docker and Podman read.

It says the same as the sandbox's filter, from the same tables (``engine.seccomp``). The format is that
of the OCI runtime specification, config-linux.md, "Seccomp". Knows nothing of containers.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping

from reprobuild.engine.seccomp import (
    ABSENT,
    AF_VSOCK,
    NEW_NAMESPACES,
    NEW_NAMESPACES_OF_CLONE,
    OWNERSHIP,
    REFUSED,
    TERMINAL_REQUESTS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ARCHITECTURES = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}
_LOW_HALF = 0xFFFFFFFF
"""The kernel reads some arguments as 32 bits, whatever else is in them."""


def profile(architecture: str) -> str:
    """Give the profile for an architecture, as JSON. Raises KeyError for one that has no table."""
    rules = [
        _rule(OWNERSHIP, 0),
        _rule(REFUSED, errno.EPERM),
        _rule(ABSENT, errno.ENOSYS),
        *(_rule(["clone"], errno.EPERM, _has(0, bit)) for bit in _bits(NEW_NAMESPACES_OF_CLONE)),
        *(_rule(["unshare"], errno.EPERM, _has(0, bit)) for bit in _bits(NEW_NAMESPACES)),
        *(_rule(["ioctl"], errno.EPERM, _is(1, request)) for request in TERMINAL_REQUESTS),
        _rule(["socket"], errno.EAFNOSUPPORT, _is(0, AF_VSOCK)),
    ]
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": [_ARCHITECTURES[architecture]],
            "syscalls": rules,
        },
        separators=(",", ":"),
    )


def _rule(names: Iterable[str], error: int, *arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Answer calls with an error number; 0: with success, and no effect."""
    return {
        "names": sorted(names),
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": error,
        "args": list(arguments),
    }


def _bits(mask: int) -> list[int]:
    return [1 << place for place in range(mask.bit_length()) if mask >> place & 1]


def _has(argument: int, bit: int) -> dict[str, Any]:
    """Match an argument that has a bit."""
    return {"index": argument, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"}


def _is(argument: int, value: int) -> dict[str, Any]:
    """Match an argument whose lower half is a value."""
    return {"index": argument, "value": _LOW_HALF, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
