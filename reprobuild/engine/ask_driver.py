"""A program that asks NVIDIA's driver which GPUs there are: a process of its own, since a driver may hang.

Its argument is the driver's library; it prints one JSON object: ``{"gpus": […]}`` in the driver's order, or
``{"error": …}`` in the driver's words. The calls are those of the CUDA driver API (``cuda.h``).

Knows nothing of nodes, files and sandboxes.
"""

from __future__ import annotations

import ctypes
import json
import sys

MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR."""


class DriverError(Exception):
    """A call that the driver did not answer with success."""


class Driver:
    """The library of a driver; a call that fails raises DriverError."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._call("cuInit", 0)

    def gpus(self) -> list[dict[str, str]]:
        """Tell of every GPU that this process may use."""
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        return [self._gpu(ordinal) for ordinal in range(count.value)]

    def _gpu(self, ordinal: int) -> dict[str, str]:
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ordinal)
        major, minor = (self._attribute(which, device) for which in (MAJOR, MINOR))
        name, bus = ctypes.create_string_buffer(256), ctypes.create_string_buffer(32)
        self._call("cuDeviceGetName", name, len(name), device)
        self._call("cuDeviceGetPCIBusId", bus, len(bus), device)
        uuid = (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGetUuid", ctypes.byref(uuid), device)
        digits = bytes(uuid).hex()
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        return {
            "capability": f"{major}.{minor}",
            "name": name.value.decode("utf-8", "replace"),
            "bus": bus.value.decode("ascii", "replace"),
            "uuid": f"GPU-{'-'.join(parts)}",
        }

    def _attribute(self, which: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, device)
        return value.value

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            said = ctypes.c_char_p()
            self._library.cuGetErrorString(code, ctypes.byref(said))
            why = said.value.decode("utf-8", "replace") if said.value else "unknown error"
            raise DriverError(f"{name}: {why} ({code})")


def main() -> None:
    """Print what the driver answers."""
    answer: dict[str, object]
    try:
        answer = {"gpus": Driver(sys.argv[1]).gpus()}
    except (DriverError, OSError, AttributeError) as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
