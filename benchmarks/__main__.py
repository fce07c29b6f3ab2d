"""``make bench``: every benchmark in one run, printed as one table and written to ``results.md``.

Knows nothing of what is measured. ``python -m benchmarks realize audit`` runs some of them.
"""

from __future__ import annotations

import datetime
import importlib
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.table import Row, markdown

MODULES = ("realize", "predictions", "audit", "gateway", "registry", "load")
RESULTS = Path(__file__).resolve().parent / "results.md"


def main(names: Iterable[str]) -> int:
    """Measure, print, write; give 2 for a name that there is not."""
    chosen = list(names) or list(MODULES)
    if unknown := set(chosen) - set(MODULES):
        print(f"error: no benchmark {min(unknown)!r}\nhint: one of {', '.join(MODULES)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in chosen:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"benchmarks.bench_{name}").rows()
    text = f"# Benchmarks\n\n{machine()}\n\n{markdown(rows)}"
    print(text)
    if chosen == list(MODULES):
        RESULTS.write_text(text, encoding="utf-8")
    return 0


def machine() -> str:
    """Say when and where this was measured."""
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1000**3
    return (
        f"{day}; {cpu()}, {os.cpu_count()} cores, {memory:.0f} GB; Linux {platform.release()}; "
        f"Python {platform.python_version()}. Medians; in each row ours and its peers were measured in turns."
    )


def cpu() -> str:
    """Give the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
