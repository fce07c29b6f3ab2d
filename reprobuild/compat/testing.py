"""What the tests of wrapped models use.

Knows nothing of any test framework.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from reprobuild.compat.measures import flatten_nested_dict
from reprobuild.errors import UsageError

DEVICES = "TEST_DEVICES"
"""The variable that names the devices to test on: ``-1,0``; the CPU (-1) where it is not set."""


def get_testing_device_parameters(gpu_only: bool = False) -> list[tuple[int]]:
    """Give the devices to test on, as ``parameterized.expand`` takes them; ``gpu_only``: without the CPU."""
    text = os.environ.get(DEVICES) or "-1"
    try:
        devices = [int(device) for device in text.split(",")]
    except ValueError:
        raise UsageError(f"{DEVICES}={text!r} names no devices", f"{DEVICES}=-1,0") from None
    return [(device,) for device in devices if device >= 0 or not gpu_only]


def assert_dicts_approx_equal(
    d1: Mapping[str, Any],
    d2: Mapping[str, Any],
    rel: float | None = None,
    abs: float | None = None,  # its name there
) -> None:
    """Assert that nested dicts have the same keys, and numbers as near as asked for.

    ``rel``, ``abs``: as ``pytest.approx`` has them: the larger counts; by default 1e-6 and 1e-12,
    and where ``abs`` alone is given, it alone counts.
    """
    found, expected = flatten_nested_dict(d1), flatten_nested_dict(d2)
    assert found.keys() == expected.keys(), f"keys differ: {sorted(found.keys() ^ expected.keys())}"
    relative = rel if rel is not None else (0.0 if abs is not None else 1e-6)
    absolute = abs if abs is not None else 1e-12
    for path, value in expected.items():
        got = found[path]
        if isinstance(value, int | float) and isinstance(got, int | float):
            far = math.fabs(got - value) if math.isfinite(value) else math.inf
            near = got == value or far <= max(relative * math.fabs(value), absolute)
        else:
            near = got == value
        assert near, f"{'.'.join(map(str, path))}: {got!r} is not near {value!r}"
