"""One call of a predictor: records in, outputs in their order, from the cache where it has them.

Knows nothing of files of the caller's, nor of how commands are run. Nothing starts before every
record has been checked; only what is missing is computed, and each distinct record once (item
scope), or the whole call (batch scope).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from reprobuild.canonical import canonical
from reprobuild.errors import ItemFailedError, OutsideError, UsageError
from reprobuild.events import ItemsProgressed, Note, Tell, Warned
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.chunks import ChunkSizes
from reprobuild.predict.computation import Computation, Outputs, Records
from reprobuild.predict.computed import Computed, merged
from reprobuild.predict.keeping import Keeper
from reprobuild.predict.key import KEY_SCHEMA, KeyMaker
from reprobuild.predict.macro import MACRO, extra_records
from reprobuild.predict.makings import LARGEST_INPUT
from reprobuild.predict.misses import Misses
from reprobuild.predict.parameters import CPU, check_device, fill_parameters, is_cacheable, split_devices
from reprobuild.predict.spool import Spool
from reprobuild.predict.staging import StagedFiles
from reprobuild.predict.target import Target
from reprobuild.predict.worker import NO_LIMITS, Batch, Limits, beginning
from reprobuild.predict.workers import Workers
from reprobuild.value import NOTHING, Value

CacheMode = Literal["use", "refresh", "off"]
"""``use``: answer from the cache, and keep what is computed; ``refresh``: compute all, and keep it;
``off``: neither read nor write."""

AIMS: Mapping[str, float] = {"files": 60.0, "stream": 5.0}
"""Seconds that a chunk should take, by protocol: with ``files`` each loads the model again, and what is
computed of it is lost in an interrupt; with ``stream`` neither is so."""
ERROR = "_error"
"""The field of the record that stands for an output that could not be computed."""


class Options(Value, kw_only=True):
    """How a call is made."""

    parameters: Mapping[str, Any] = NOTHING
    """Those that differ from their defaults, and ``seed``."""
    cache: CacheMode = "use"
    device: str = CPU
    """``cpu``, a GPU's number, or several."""
    limits: Limits = NO_LIMITS
    jobs: int = 0
    """How many workers compute at once; 0: one for each device."""
    keep_going: bool = False
    """Whether the others are computed, for item scope, where records fail."""


class Failure(Value):
    """A record that could not be computed, where a call went on."""

    index: int
    """From 0, in the call."""
    where: str
    """What the caller calls it: ``line 7 of in.jsonl``."""
    record: bytes
    """Canonical."""
    reason: str

    def __str__(self) -> str:
        return f"{self.where}, {beginning(self.record)}: {self.reason.partition(chr(10))[0]}"

    def as_json(self) -> dict[str, Any]:
        """Give it as ``predict`` lists it."""
        record = json.loads(self.record)
        return {"index": self.index, "where": self.where, "input": record, "error": self.reason}


class Summary(Value):
    """What a call did."""

    items: int
    cached: int
    """Records answered from the cache."""
    computed: int
    """Records that were computed: distinct ones, for item scope."""
    seconds: float
    signature: str
    """What a paper can cite: ``tutorial@<input hash>|default|cpu|v1``."""
    failed: tuple[Failure, ...] = ()
    """In the order of the records: distinct ones."""
    saved_seconds: float = 0.0
    """How long what came from the cache took when it was computed."""

    def as_json(self) -> dict[str, Any]:
        """Give the summary as ``predict --json`` prints it."""
        return {
            "schema": 1,
            "items": self.items,
            "cached": self.cached,
            "computed": self.computed,
            "failed": [failure.as_json() for failure in self.failed],
            "seconds": round(self.seconds, 3),
            "saved_seconds": round(self.saved_seconds, 3),
            "signature": self.signature,
        }


class Call:
    """A call that is being made; ``answer`` may be used once."""

    def __init__(
        self,
        target: Target,
        name: str,
        options: Options,
        tell: Tell,
        cache: PredictionCache | None = None,
        workers: Workers | None = None,
    ) -> None:
        """Take a predictor by its name; ``cache``: one that is open already; ``workers``: those to compute
        with, which live on.

        Raises UsageError or NotBuiltError for what can't be: before anything is read.
        """
        self.target = target
        self.name = name
        self.predictor = target.predictor(name)
        if options.cache not in get_args(CacheMode):
            raise UsageError(f"there is no cache mode {options.cache!r}", "use, refresh or off")
        if options.jobs < 0:
            raise UsageError(f"there are no {options.jobs} jobs", "1 or more; 0: one for each device")
        self.parameters = fill_parameters(self.predictor, options.parameters)
        self.device_class = check_device(self.predictor, options.device, target.engine)
        self.options = options
        self.count = 0
        self.cached = 0
        self.computed = 0
        self.failures: list[Failure] = []
        """In the order of the records, when all has been answered."""
        self.saved_seconds = 0.0
        self.macro: dict[str, Any] | None = None
        """What a corpus metric says of all records, when all has been answered."""
        self._tell = tell
        self._remembers = is_cacheable(self.predictor, self.parameters)
        self._reads = options.cache == "use" and self._remembers
        self._writes = options.cache != "off" and self._remembers
        self._cache = (cache or PredictionCache.open(target.store)) if self._reads or self._writes else None
        self._owns_cache = cache is None
        self._workers = workers
        self._keys = KeyMaker(target.run_id, self.predictor, self.parameters, self.device_class)
        self._tag = f"{target.recipe}/{name}"
        self._keeper = Keeper(
            self._cache if self._writes else None,
            target,
            tag=self._tag,
            device=options.device,
            device_class=self.device_class,
            making=self._keys.making,
            # A record that names files is of no use without them.
            samples="file" not in self.predictor.inputs.values(),
            refreshes=not self._reads,
            tell=tell,
        )
        spools = target.store / "tmp"
        self._spools = str(spools) if spools.is_dir() else None

    def answer(
        self, chunks: Iterable[list[bytes]], label: Callable[[int], str], staged: StagedFiles | None = None
    ) -> Iterator[bytes]:
        """Give the outputs of canonical records, as blocks of whole lines in the order of the records.

        ``label`` says what the caller calls a record, by its index; ``staged``: the files that
        records name. Raises what reading the chunks raises, PredictionFailedError, RefusedFetchError,
        EngineError, OutsideError, before the first block.
        """
        try:
            if self.predictor.scope == "item":
                yield from self._answer_items(chunks, label, staged)
            else:
                yield from self._answer_batch(chunks, label, staged)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise OutsideError(
                f"predicting with {self._tag} stopped: {error.strerror or error}{where}",
                "see whether the disk that the store is on is full",
            ) from error
        finally:
            self._keeper.tell_changed()
            if self._cache is not None:
                self._cache.hit(self._keys.making, self.cached)
                if self._owns_cache:
                    self._cache.close()

    def summary(self, seconds: float) -> Summary:
        """Sum up, when all has been answered."""
        device = CPU if self.device_class.startswith(CPU) else self.device_class
        signature = f"{self.target.recipe}@{self.target.input_hash.hex}|{self.name}|{device}|v{KEY_SCHEMA}"
        return Summary(
            self.count,
            self.cached,
            self.computed,
            seconds,
            signature,
            failed=tuple(self.failures),
            saved_seconds=self.saved_seconds,
        )

    def _answer_items(
        self, chunks: Iterable[list[bytes]], label: Callable[[int], str], staged: StagedFiles | None
    ) -> Iterator[bytes]:
        with self._spool() as answers, self._spool() as pending, self._spool() as spool:
            # A predictor that samples without a seed owes each record a sample of its own.
            misses = Misses(pending, merges=self._remembers)
            for records in chunks:
                keys = self._keys.items(records)
                known = self._look_up(keys)
                try:
                    answers.write(b"".join([known[key] for key in keys]))
                    self.cached += len(keys)
                except KeyError:
                    lines = misses.take(records, keys, known, self.count)
                    self.cached += len(keys) - lines.count(b"\n")
                    answers.write(b"".join(lines))
                self.count += len(keys)
                self._tell(ItemsProgressed(self.cached, self.count, self.cached, is_reading=True))
            self._note_saved()
            if not misses.keys:
                yield from _blocks(answers)
                return
            places = misses.places
            files = None if staged is None else lambda line: staged.needed(json.loads(line))
            asked = Records(pending, misses.ends, lambda index: label(places[index]), files, self._spool)
            computed = Computed(spool, len(places))
            self._compute_items(asked, misses, computed, label)
            yield from merged(answers, computed, misses.order)

    def _compute_items(
        self, asked: Records, misses: Misses, computed: Computed, label: Callable[[int], str]
    ) -> None:
        keys, places = list(misses.keys), misses.places
        begun = time.monotonic()

        def keep(outputs: Outputs, seconds: float, refused: int) -> None:
            indexes = [index for index, _ in outputs]
            computed.add(outputs)
            self._keeper.keep(
                [(keys[index], output + b"\n") for index, output in outputs],
                lambda: asked.lines(indexes),
                lambda place: label(places[indexes[place]]),
                items=len(outputs),
                seconds=seconds,
                refused=refused,
            )
            self.computed += len(outputs)
            rate = self.computed / max(time.monotonic() - begun, 1e-6)
            done = self.cached + self.computed * (self.count - self.cached) // len(keys)
            left = (len(keys) - self.computed) / rate
            self._tell(ItemsProgressed(done, self.count, self.cached, rate, left))

        limits, protocol = self.options.limits, self.predictor.protocol
        with self._lent_workers() as workers:
            lanes = min(workers.jobs, len(keys))
            at_once = protocol == "files"
            pace = workers.pace(self.name, self.parameters, limits)
            computation = Computation(
                asked,
                ChunkSizes(AIMS[protocol], lanes, limits.timeout if at_once else None, pace),
                lambda: workers.lend(self.name, self.parameters, limits),
                keep,
                at_once=at_once,
                goes_on=self.options.keep_going,
            )
            try:
                computation.run(lanes)
            except BaseException as error:
                if isinstance(error, ItemFailedError):
                    error.index = places[error.index]
                self._tell_of_kept(len(keys))
                raise
        for one in sorted(computation.failed, key=lambda one: one.index):
            place = places[one.index]
            self.failures.append(Failure(place, label(place), one.record, one.reason))
            computed.add([(one.index, canonical({ERROR: one.reason.partition("\n")[0]}))])
        self._tell(ItemsProgressed(self.count, self.count, self.cached))

    def _tell_of_kept(self, count: int) -> None:
        """Say, where a call fails or is interrupted, that what it did is not lost."""
        if self._writes and self.computed:
            done = f"{self.computed:,} of {count:,} new records were computed, and are kept"
            self._tell(Note(f"{done}: the same call goes on from there"))

    @contextlib.contextmanager
    def _lent_workers(self) -> Iterator[Workers]:
        """Give the workers of the caller, or ones for this call alone."""
        if self._workers is not None:
            yield self._workers
            return
        options = self.options
        devices = split_devices(options.device)
        workers = Workers(self.target, devices=devices, jobs=options.jobs, tell=self._tell)
        with contextlib.closing(workers):
            yield workers

    def _answer_batch(
        self, chunks: Iterable[list[bytes]], label: Callable[[int], str], staged: StagedFiles | None
    ) -> Iterator[bytes]:
        key_maker = self._keys.batch()
        files: dict[str, Path] = {}
        with self._spool() as pending:
            for records in chunks:
                key_maker.add(records)
                pending.write(b"\n".join(records) + b"\n")
                self.count += len(records)
                if staged is not None:
                    for record in records:
                        files.update(staged.needed(json.loads(record)))
            if not self.count:
                return
            key = key_maker.digest()
            known = self._look_up([key]).get(key)
            if known is not None and known.count(b"\n") == self.count + extra_records(self.predictor):
                self.cached = self.count
                self._note_saved()
                yield self._without_macro(known)
                return
            output = self._compute_batch(Batch(pending, self.count, label, files), key)
            yield self._without_macro(output)

    def _compute_batch(self, batch: Batch, key: bytes) -> bytes:
        outputs = [b""] * (batch.count + extra_records(self.predictor))

        def record() -> Sequence[bytes]:
            batch.records.seek(0)
            return [b"[" + batch.records.read(LARGEST_INPUT + 1)[:-1].replace(b"\n", b",") + b"]"]

        with (
            self._lent_workers() as workers,
            workers.lend(self.name, self.parameters, self.options.limits) as worker,
        ):
            ran = worker.compute(batch, outputs.__setitem__)
        outputs.append(b"")
        output = b"\n".join(outputs)
        self._keeper.keep(
            [(key, output)],
            record,
            lambda _: f"the call of {self.count} records",
            items=batch.count,
            seconds=ran.seconds,
            refused=ran.refused,
        )
        self.computed = batch.count
        self._tell(ItemsProgressed(self.count, self.count, self.cached))
        return output

    def _without_macro(self, outputs: bytes) -> bytes:
        """Take the last record of a corpus metric out: it is no record's output."""
        if not extra_records(self.predictor):
            return outputs
        end = outputs.rfind(b"\n", 0, -1) + 1
        self.macro = json.loads(outputs[end:])[MACRO]
        return outputs[:end]

    def _note_saved(self) -> None:
        if self._cache is not None and self.cached:
            self.saved_seconds = self.cached * (self._cache.pace(self._keys.making) or 0.0)

    def _look_up(self, keys: list[bytes]) -> dict[bytes, bytes]:
        if self._cache is None or not self._reads:
            return {}
        found = self._cache.get_many(keys, strict=self.target.strict_network)
        self._keeper.replaced.update(found.coped)
        if found.broken:
            self._keeper.replaced.update(found.broken)
            self._tell(
                Warned(
                    f"{len(found.broken)} cached predictions of {self._tag} do not fit their own digests "
                    f"and are computed again (the first: {found.broken[0].hex()[:16]})",
                    "reprobuild audit checks all of them",
                )
            )
        return found.outputs

    def _spool(self) -> Spool:
        return Spool(self._spools)


def _blocks(file: Spool) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(1 << 20):
        yield block
