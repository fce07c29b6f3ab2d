"""Distinct records of item scope, computed in chunks by one worker or several at once.

What is done is handed on as it comes, whatever happens to the rest; where the caller wants to go on
past records that fail, they are found by halving. Knows nothing of caches, keys and outputs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from reprobuild.errors import BatchFailedError, ItemFailedError, PredictionFailedError
from reprobuild.predict.chunks import ChunkSizes
from reprobuild.predict.spool import Spool
from reprobuild.predict.waiting import wait
from reprobuild.predict.worker import Batch, Worker
from reprobuild.value import Value

KEEPING = 20
"""How many times as long as the last keeping took passes before the next, so that what comes fast is kept
in large groups, and what comes slowly at once."""
KEEP_COUNT = 32768
"""Outputs kept at once: a thousand keys touch a thousand pages of the cache's index, in whatever number
they come, so that few large transactions write far less than many small ones."""
KEEP_SIZE = 32 << 20
"""Bytes of outputs kept at once."""
READ_SIZE = 1 << 20
"""Bytes of records that are read at once."""
SEARCHED = 30.0
"""Seconds that a run may have taken of which it is found out which record made it fail."""
HOPELESS = 8
"""Records that fail, before any was computed, until it is the predictor that fails."""

Outputs = Sequence[tuple[int, bytes]]
"""Indexes of records with what was computed for them."""
Keep = Callable[[Outputs, float, int], None]
"""Keeps outputs, given the seconds that they took and how many things the network refused their worker."""


class Records:
    """The records to compute: canonical lines, taken from the first to the last. For one thread at a time."""

    def __init__(
        self,
        lines: Spool,
        ends: Sequence[int],
        labels: Callable[[int], str],
        files: Callable[[bytes], Mapping[str, Path]] | None,
        spool: Callable[[], Spool],
    ) -> None:
        """``ends``: where each line ends; ``files``: gives those that a record names; ``spool``: makes
        room for lines."""
        self.left = len(ends)
        self._lines = lines
        self._ends = ends
        self._labels = labels
        self._files = files
        self._spool = spool

    def lines(self, indexes: Iterable[int]) -> Iterator[bytes]:
        """Give records, without their line ends; those that lie together are read together."""
        first = end = -1
        for index in indexes:
            if index == end and self._ends[index] - self._start(first) <= READ_SIZE:
                end += 1
                continue
            if first >= 0:
                yield from self._between(first, end)
            first, end = index, index + 1
        if first >= 0:
            yield from self._between(first, end)

    def _start(self, index: int) -> int:
        return self._ends[index - 1] if index else 0

    def _between(self, first: int, end: int) -> list[bytes]:
        start = self._start(first)
        return self._lines.read_at(start, self._ends[end - 1] - start).split(b"\n")[:-1]

    def take(self, count: int) -> Chunk:
        """Give the next records."""
        first = len(self._ends) - self.left
        self.left -= count
        return self.chunk(range(first, first + count))

    def chunk(self, indexes: Sequence[int]) -> Chunk:
        """Give some records."""
        spool = self._spool()
        files: dict[str, Path] = {}
        for line in self.lines(indexes):
            spool.write(line + b"\n")
            if self._files is not None:
                files.update(self._files(line))
        labels = self._labels
        return Chunk(indexes, Batch(spool, len(indexes), lambda place: labels(indexes[place]), files))


class Chunk:
    """Records that go to a worker together."""

    def __init__(self, indexes: Sequence[int], batch: Batch) -> None:
        self.indexes = indexes
        self.batch = batch
        self.done = bytearray(len(indexes))
        """1 for each that was computed, or has failed."""
        self.failed: list[tuple[int, str]] = []
        """Places of records that have failed, and why."""

    def left(self) -> list[int]:
        """Give the places of those that are not done."""
        return [place for place, is_done in enumerate(self.done) if not is_done]

    def fail(self, place: int, reason: str) -> None:
        """Note that a record has failed."""
        self.done[place] = 1
        self.failed.append((place, reason))


class Failed(Value):
    """A record that could not be computed."""

    index: int
    record: bytes
    """Canonical."""
    reason: str


class Computation:
    """Records on their way through workers; ``run`` may be used once."""

    def __init__(
        self,
        records: Records,
        sizes: ChunkSizes,
        lend: Callable[[], AbstractContextManager[Worker]],
        keep: Keep,
        *,
        at_once: bool,
        goes_on: bool,
    ) -> None:
        """``at_once``: a worker gives all outputs when it has them all (protocol ``files``); ``goes_on``:
        past records that fail. ``keep`` is called by one thread at a time."""
        self.failed: list[Failed] = []
        self._records = records
        self._sizes = sizes
        self._lend = lend
        self._keep = keep
        self._at_once = at_once
        self._goes_on = goes_on
        self._lock = threading.Lock()
        self._computed = 0
        self._workers: set[Worker] = set()
        self._errors: list[BaseException] = []

    def run(self, lanes: int) -> None:
        """Compute all, so many chunks at once.

        Raises the first error, when everything has ended; an ItemFailedError's index is then that among
        all records. What was computed until then has been kept.
        """
        if lanes == 1:
            self._follow_lane()
            return
        self._run_threads(lanes)
        if self._errors:
            raise self._errors[0]

    def _run_threads(self, lanes: int) -> None:
        # Not ``Thread.join``: interrupted, it takes the thread for ended (tried).
        ends = [threading.Event() for _ in range(lanes)]
        threads = [threading.Thread(target=self._run_thread, args=[end], daemon=True) for end in ends]
        try:
            for thread in threads:
                thread.start()
            for end in ends:
                wait(end)
        except BaseException as error:
            self._stop(error)
            for thread, end in zip(threads, ends, strict=True):
                if thread.ident is not None:
                    wait(end)
            raise

    def _run_thread(self, end: threading.Event) -> None:
        try:
            self._follow_lane()
        except BaseException as error:  # noqa: BLE001  # ``run`` raises it, in the caller's thread
            self._stop(error)
        finally:
            end.set()

    def _follow_lane(self) -> None:
        while (chunk := self._next()) is not None:
            begun = time.monotonic()
            if self._compute(chunk):
                with self._lock:
                    self._sizes.took(len(chunk.indexes), time.monotonic() - begun)

    def _stop(self, error: BaseException) -> None:
        """Let no more chunks begin, and end those that are at work."""
        with self._lock:
            self._errors.append(error)
            workers = list(self._workers)
        closing = [threading.Thread(target=worker.close, daemon=True) for worker in workers]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def _next(self) -> Chunk | None:
        with self._lock:
            left = self._records.left
            return self._records.take(self._sizes.next(left)) if left and not self._errors else None

    def _compute(self, chunk: Chunk) -> bool:
        """Compute a chunk, by halves where it fails; tell whether it did not."""
        parts = [chunk]
        failure: PredictionFailedError | None = None
        while parts:
            # Where nothing has been computed yet, the part that promises most decides whether to go on.
            sizes = [len(part.indexes) for part in parts]
            part = parts.pop(sizes.index(max(sizes)) if self._is_hopeless() else -1)
            begun = time.monotonic()
            try:
                with part.batch.records:
                    self._try(part)
            except PredictionFailedError as error:
                failure = failure or error
                seconds = time.monotonic() - begun
                left = [part.indexes[place] for place in self._left(part, error, seconds)]
                half = (len(left) + 1) // 2
                with self._lock:
                    parts += [self._records.chunk(some) for some in (left[half:], left[:half]) if some]
            finally:
                self._note_failed(part)
        if failure is not None and not self._goes_on:
            apart = "in smaller parts they do not fail: what it does depends on more than one record"
            raise PredictionFailedError(failure.message, apart) from failure
        return failure is None

    def _left(self, chunk: Chunk, error: PredictionFailedError, seconds: float) -> list[int]:
        """Give what is left of a chunk that failed after a time, by places; raises where that is the end.

        Where the first failure is the end, one that may be any record's is followed to that record, unless
        that takes long.
        """
        left = chunk.left()
        place = left[0] if left else 0
        if isinstance(error, ItemFailedError):
            place = error.index
            error.index = chunk.indexes[place]
        elif len(left) == 1:
            error = ItemFailedError(error.message, error.hint, chunk.indexes[place]).with_traceback(
                error.__traceback__
            )
        is_search = isinstance(error, BatchFailedError) and len(left) > 1 and seconds <= SEARCHED
        if not (self._goes_on or is_search) or self._errors or not left:
            raise error
        if self._is_hopeless() and len(left) > 1:
            count = len(self.failed)
            raise PredictionFailedError(
                error.message,
                f"{count} records failed one by one, and none was computed: see whether the predictor works",
            ) from error
        if isinstance(error, ItemFailedError):
            chunk.fail(place, error.message)
        return chunk.left()

    def _note_failed(self, chunk: Chunk) -> None:
        with self._lock:
            for place, reason in chunk.failed:
                index = chunk.indexes[place]
                self.failed.append(Failed(index, next(self._records.lines([index])), reason))

    def _is_hopeless(self) -> bool:
        return not self._computed and len(self.failed) >= HOPELESS

    def _try(self, chunk: Chunk) -> None:
        with self._lend() as worker:
            group = _Group(chunk, self._at_once, lambda *kept: self._kept(worker, *kept))
            with self._lock:
                self._workers.add(worker)
                if self._errors:
                    return
            try:
                worker.compute(chunk.batch, group.accept, chunk.fail if self._goes_on else None)
            finally:
                with self._lock:
                    self._workers.discard(worker)
                group.keep()

    def _kept(self, worker: Worker, outputs: Outputs, seconds: float) -> None:
        with self._lock:
            self._computed += len(outputs)
            self._keep(outputs, seconds, worker.refused)


class _Group:
    """What a worker gives of a chunk, gathered until it is worth keeping."""

    def __init__(self, chunk: Chunk, at_once: bool, keep: Callable[[Outputs, float], None]) -> None:
        self._chunk = chunk
        self._at_once = at_once
        self._keep = keep
        self._outputs: list[tuple[int, bytes]] = []
        self._size = 0
        self._since = time.monotonic()
        self._pause = 0.0
        self._each = 0.0

    def accept(self, place: int, output: bytes) -> None:
        """Take an output, by the place of its record in the chunk."""
        chunk = self._chunk
        if chunk.done[place]:
            raise PredictionFailedError(f"two outputs came for {chunk.batch.named(place)}")
        chunk.done[place] = 1
        now = time.monotonic()
        if self._at_once and not self._each:
            self._each = (now - self._since) / len(chunk.indexes)
        self._outputs.append((chunk.indexes[place], output))
        self._size += len(output)
        is_time = not self._at_once and now - self._since >= self._pause
        if is_time or len(self._outputs) >= KEEP_COUNT or self._size >= KEEP_SIZE:
            self.keep()

    def keep(self) -> None:
        """Keep what has been gathered."""
        if not self._outputs:
            return
        now = time.monotonic()
        outputs, self._outputs, self._size = self._outputs, [], 0
        self._keep(outputs, self._each * len(outputs) if self._at_once else now - self._since)
        self._since = now
        self._pause = KEEPING * (time.monotonic() - now)
