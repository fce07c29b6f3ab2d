"""What computes batches of records for a predictor, whatever its protocol; and the values that go in and out.

Knows nothing of caches and keys, nor of how any protocol speaks with its command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from reprobuild.events import Tell
from reprobuild.predict.parameters import CPU
from reprobuild.predict.spool import Spool
from reprobuild.value import NOTHING, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.predict.target import Target

SHOWN = 120
"""Characters of a record in an error."""


class Limits(Value):
    """What a command may use."""

    timeout: float | None = None
    """Seconds: of one run (protocol ``files``); until the next answer, or all of them where they are for
    the whole batch (``stream``)."""
    memory: int | None = None
    """Bytes."""


NO_LIMITS = Limits()


class Batch(Value):
    """Records for one computation."""

    records: Spool
    """Canonical JSON Lines, to be read from the start."""
    count: int
    labels: Callable[[int], str]
    """Says what the caller calls a record of the batch, by its index: ``line 7 of in.jsonl``."""
    files: Mapping[str, Path] = NOTHING
    """Name below ``/in/files`` → file of the host that had this digest (the name's first 64 digits)."""

    def record(self, index: int) -> bytes:
        """Give one canonical record: for errors, since all before it is read too."""
        self.records.seek(0)
        return next(line for place, line in enumerate(self.records) if place == index).rstrip(b"\n")

    def named(self, index: int) -> str:
        """Name a record in an error: what the caller calls it, and the beginning of what it holds."""
        return f"{self.labels(index)}, {beginning(self.record(index))}"

    def described(self) -> str:
        """Say which records they are: the only one as ``named`` does."""
        if self.count == 1:
            return self.named(0)
        return f"{self.count:,} records, from {self.labels(0)} to {self.labels(self.count - 1)}"


def beginning(record: bytes) -> str:
    """Give the beginning of a record, for a line of an error."""
    text = ascii(record[: 4 * SHOWN].decode(errors="ignore"))[1:-1]
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


class Ran(Value):
    """How a computation went that gave all its outputs."""

    seconds: float
    engine: str
    refused: int = 0
    """How many things it asked the network for, did not get, and coped without."""


Accept = Callable[[int, bytes], None]
"""Takes an output (a canonical record, without line end) by the index of its record in the batch."""
Fail = Callable[[int, str], None]
"""Takes the index of a record that failed, and why."""


class Worker(Protocol):
    """Computes batches of one predictor, one at a time; kept between batches."""

    @property
    def refused(self) -> int:
        """How many things the command has asked the network for so far, did not get, and coped without."""

    @property
    def lives_on(self) -> bool:
        """Whether it keeps something between batches that makes the next one faster."""

    def compute(self, batch: Batch, accept: Accept, fail: Fail | None = None) -> Ran:
        """Give each output once: in order (``files``), or as it comes (``stream``).

        What ``accept`` has had may be kept, whatever comes later: it was checked, and with ``files``
        the run had ended well with as many outputs as records. ``fail``, where the protocol can tell
        (``stream``): takes the records that failed, and the others go on; without it the first one
        raises. Where this returns, each record was accepted or failed; what a corpus metric says of
        all of them was accepted too, as the last, by the index ``batch.count``. Raises ItemFailedError
        where one record is to blame, else PredictionFailedError; RefusedFetchError, EngineError.
        """

    def close(self) -> None:
        """End everything for certain; safe to call twice, from any thread, and while ``compute`` runs.

        That raises then.
        """


def start_worker(
    target: Target,
    name: str,
    parameters: Mapping[str, Any],
    *,
    device: str = CPU,
    limits: Limits = NO_LIMITS,
    tell: Tell,
    ahead: bool = False,
) -> Worker:
    """Give what computes for a predictor by its protocol; nothing runs before the first ``compute``.

    ``parameters``: filled in; where a predictor samples and they hold no ``seed``, the worker takes
    fresh ones (``files``: for each run; ``stream``: for each process). ``device``: one device.
    ``ahead``: with ``files``, another run is made ready while one is at work, for records that come soon.
    """
    if target.predictor(name).protocol == "stream":
        from reprobuild.predict.stream import StreamWorker

        return StreamWorker(target, name, parameters, device=device, limits=limits, tell=tell)
    from reprobuild.predict.runner import FilesWorker

    return FilesWorker(target, name, parameters, device=device, limits=limits, tell=tell, ahead=ahead)
