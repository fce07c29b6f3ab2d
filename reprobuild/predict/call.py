"""One call of a predictor: records in, outputs in their order, from the cache where it has them.

Knows nothing of files of the caller's, nor of how commands are run. Nothing starts before every
record has been checked; only what is missing is computed, and each distinct record once (item
scope), or the whole call (batch scope).
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from reprobuild.errors import OutsideError, ReprobuildError, UsageError
from reprobuild.events import ItemsProgressed, Note, Tell, Warned
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.key import KEY_SCHEMA, KeyMaker
from reprobuild.predict.macro import MACRO, extra_records
from reprobuild.predict.makings import LARGEST_INPUT
from reprobuild.predict.parameters import (
    CPU,
    check_device,
    fill_parameters,
    is_cacheable,
)
from reprobuild.predict.runner import check_built
from reprobuild.predict.sealed import provenance
from reprobuild.predict.spool import Spool
from reprobuild.predict.staging import StagedFiles
from reprobuild.predict.target import Target
from reprobuild.predict.worker import NO_LIMITS, Batch, Limits, start_worker
from reprobuild.value import NOTHING, Value

CacheMode = Literal["use", "refresh", "off"]
"""``use``: answer from the cache, and keep what is computed; ``refresh``: compute all, and keep it;
``off``: neither read nor write."""

STORE_COUNT = 32768
"""Predictions kept in one transaction: a thousand keys touch a thousand pages of the index, in whatever
number they come, so that few large transactions write far less than many small ones."""
STORE_SIZE = 32 << 20
"""Bytes of outputs kept in one transaction."""
NAMED = 5
"""Records named where many are concerned."""


class Options(Value, kw_only=True):
    """How a call is made."""

    parameters: Mapping[str, Any] = NOTHING
    """Those that differ from their defaults, and ``seed``."""
    cache: CacheMode = "use"
    device: str = CPU
    limits: Limits = NO_LIMITS


class Summary(Value):
    """What a call did."""

    items: int
    cached: int
    """Records answered from the cache."""
    computed: int
    """Records that the predictor was given: distinct ones, for item scope."""
    seconds: float
    signature: str
    """What a paper can cite: ``tutorial@<input hash>|default|cpu|v1``."""

    def as_json(self) -> dict[str, Any]:
        """Give the summary as ``predict --json`` prints it."""
        return {
            "schema": 1,
            "items": self.items,
            "cached": self.cached,
            "computed": self.computed,
            "seconds": round(self.seconds, 3),
            "signature": self.signature,
        }


class Call:
    """A call that is being made; ``answer`` may be used once."""

    def __init__(
        self, target: Target, name: str, options: Options, tell: Tell, cache: PredictionCache | None = None
    ) -> None:
        """Take a predictor by its name; ``cache``: one that is open already.

        Raises UsageError or NotBuiltError for what can't be: before anything is read.
        """
        self.target = target
        self.name = name
        self.predictor = target.predictor(name)
        check_built(self.predictor)
        if options.cache not in get_args(CacheMode):
            raise UsageError(f"there is no cache mode {options.cache!r}", "use, refresh or off")
        self.parameters = fill_parameters(self.predictor, options.parameters)
        self.device_class = check_device(self.predictor, options.device, target.engine)
        self.device = options.device
        self.limits = options.limits
        self.count = 0
        self.cached = 0
        self.computed = 0
        self.macro: dict[str, Any] | None = None
        """What a corpus metric says of all records, when all has been answered."""
        self._tell = tell
        self._remembers = is_cacheable(self.predictor, self.parameters)
        self._reads = options.cache == "use" and self._remembers
        self._writes = options.cache != "off" and self._remembers
        self._cache = (cache or PredictionCache.open(target.store)) if self._reads or self._writes else None
        self._owns_cache = cache is None
        self._replaced: set[bytes] = set()
        self._provenance = b""
        self._keys = KeyMaker(target.run_id, self.predictor, self.parameters, self.device_class)
        self._tag = f"{target.recipe}/{name}"
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
            if self._cache is not None:
                self._cache.hit(self._keys.making, self.cached)
                if self._owns_cache:
                    self._cache.close()

    def summary(self, seconds: float) -> Summary:
        """Sum up, when all has been answered."""
        device = CPU if self.device_class.startswith(CPU) else self.device_class
        signature = f"{self.target.recipe}@{self.target.input_hash.hex}|{self.name}|{device}|v{KEY_SCHEMA}"
        return Summary(self.count, self.cached, self.computed, seconds, signature)

    def _answer_items(
        self, chunks: Iterable[list[bytes]], label: Callable[[int], str], staged: StagedFiles | None
    ) -> Iterator[bytes]:
        misses = _Misses()
        with self._spool() as answers, self._spool() as pending, self._spool() as computed:
            for records in chunks:
                keys = self._keys.items(records)
                known = self._look_up(keys)
                try:
                    answers.write(b"".join([known[key] for key in keys]))
                    self.cached += len(keys)
                except KeyError:
                    self._take_misses(records, keys, known, misses, answers, pending, staged)
                self.count += len(keys)
                self._tell(ItemsProgressed(self.cached, self.count, self.cached))
            if not misses.keys:
                yield from _blocks(answers)
                return
            places = misses.places
            batch = Batch(pending, len(misses.keys), lambda index: label(places[index]), misses.files)
            ends = self._compute(batch, computed)
            self._keep(lambda cache: self._keep_items(cache, misses, pending, computed, label))
            yield from _merged(answers, computed, ends, misses.order)

    def _take_misses(
        self,
        records: Sequence[bytes],
        keys: Sequence[bytes],
        known: Mapping[bytes, bytes],
        misses: _Misses,
        answers: Spool,
        pending: Spool,
        staged: StagedFiles | None,
    ) -> None:
        """Write the answers that are known, and an empty line for each that is not."""
        lines: list[bytes] = []
        asked: list[bytes] = []
        for position, (record, key) in enumerate(zip(records, keys, strict=True), start=self.count):
            if key in known:
                lines.append(known[key])
                self.cached += 1
                continue
            lines.append(b"\n")
            # A predictor that samples without a seed owes each record a sample of its own.
            name = key if self._remembers else position.to_bytes(8, "big")
            index = misses.keys.setdefault(name, len(misses.keys))
            if index == len(misses.places):
                misses.places.append(position)
                asked += (record, b"\n")
                if staged is not None:
                    misses.files.update(staged.needed(json.loads(record)))
            misses.order.append(index)
        answers.write(b"".join(lines))
        pending.write(b"".join(asked))

    def _keep(self, keep: Callable[[PredictionCache], None]) -> None:
        """Keep what was computed, where it may be; what can't be kept is still given out."""
        if self._cache is None or not self._writes:
            return
        try:
            keep(self._cache)
        except ReprobuildError as error:
            self._tell(Warned(f"outputs of {self._tag} are not kept: {error.message}", error.hint))

    def _keep_items(
        self,
        cache: PredictionCache,
        misses: _Misses,
        pending: Spool,
        computed: Spool,
        label: Callable[[int], str],
    ) -> None:
        changed: list[int] = []
        computed.seek(0)
        pending.seek(0)
        asked = iter(pending)
        first = 0
        for part in _parts(zip(misses.keys, computed, strict=True)):
            records = [line[:-1] for _, line in zip(part, asked, strict=False)]
            if not self._reads:
                before = cache.get_many([key for key, _ in part]).outputs
                differ = (n for n, (key, output) in enumerate(part) if before.get(key, output) != output)
                changed += [misses.places[first + n] for n in differ]
            replace = not self._reads or not self._replaced.isdisjoint(key for key, _ in part)
            self._put(cache, part, records, replace=replace)
            first += len(part)
        self._tell_changed([label(place) for place in changed[:NAMED]], len(changed))

    def _answer_batch(
        self, chunks: Iterable[list[bytes]], label: Callable[[int], str], staged: StagedFiles | None
    ) -> Iterator[bytes]:
        key_maker = self._keys.batch()
        files: dict[str, Path] = {}
        with self._spool() as pending, self._spool() as computed:
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
                yield self._without_macro(known)
                return
            self._compute(Batch(pending, self.count, label, files), computed)
            self._keep(lambda cache: self._keep_batch(cache, key, pending, computed))
            if not extra_records(self.predictor):
                yield from _blocks(computed)
                return
            computed.seek(0)
            yield self._without_macro(computed.read())

    def _without_macro(self, outputs: bytes) -> bytes:
        """Take the last record of a corpus metric out: it is no record's output."""
        if not extra_records(self.predictor):
            return outputs
        end = outputs.rfind(b"\n", 0, -1) + 1
        self.macro = json.loads(outputs[end:])[MACRO]
        return outputs[:end]

    def _keep_batch(self, cache: PredictionCache, key: bytes, pending: Spool, computed: Spool) -> None:
        computed.seek(0)
        output = computed.read()
        before = {} if self._reads else cache.get_many([key]).outputs
        replace = not self._reads or key in self._replaced
        pending.seek(0)
        records = [b"[" + pending.read(LARGEST_INPUT + 1)[:-1].replace(b"\n", b",") + b"]"]
        self._put(cache, [(key, output)], records, replace=replace)
        if before.get(key, output) != output:
            self._tell_changed([f"the call of {self.count} records"], 1)

    def _put(
        self,
        cache: PredictionCache,
        part: Sequence[tuple[bytes, bytes]],
        records: Sequence[bytes],
        *,
        replace: bool,
    ) -> None:
        """Keep outputs; ``records``: what entered their keys. Those with files are no use without these."""
        cache.put_many(
            part,
            self._provenance,
            tag=self._tag,
            replace=replace,
            making=self._keys.making,
            records=() if "file" in self.predictor.inputs.values() else records,
        )

    def _look_up(self, keys: list[bytes]) -> dict[bytes, bytes]:
        if self._cache is None or not self._reads:
            return {}
        found = self._cache.get_many(keys, strict=self.target.strict_network)
        self._replaced.update(found.coped)
        if found.broken:
            self._replaced.update(found.broken)
            self._tell(
                Warned(
                    f"{len(found.broken)} cached predictions of {self._tag} do not fit their own digests "
                    f"and are computed again (the first: {found.broken[0].hex()[:16]})",
                    "reprobuild audit checks all of them",
                )
            )
        return found.outputs

    def _compute(self, batch: Batch, computed: Spool) -> array[int]:
        """Run the predictor; give where each output ends in ``computed``."""
        ends = array("Q")
        end = 0

        def accept(index: int, output: bytes) -> None:
            nonlocal end
            end += len(output) + 1
            ends.append(end)
            computed.write(output + b"\n")

        device, limits = self.device, self.limits
        with contextlib.closing(
            start_worker(
                self.target, self.name, self.parameters, device=device, limits=limits, tell=self._tell
            )
        ) as worker:
            ran = worker.compute(batch, accept)
        self.computed = batch.count
        self._provenance = provenance(
            self.device_class,
            ran.engine,
            seconds=ran.seconds,
            items=batch.count,
            run=self.target.run_id.short,
            refused=ran.refused,
            making=self._keys.making,
        )
        self._tell(ItemsProgressed(self.count, self.count, self.cached))
        return ends

    def _tell_changed(self, named: list[str], count: int) -> None:
        if count:
            more = f" and {count - len(named)} more" if count > len(named) else ""
            self._tell(Note(f"the output differs from the one that was kept: {', '.join(named)}{more}"))

    def _spool(self) -> Spool:
        return Spool(self._spools)


class _Misses:
    """What the cache did not have, as it is collected."""

    def __init__(self) -> None:
        self.keys: dict[bytes, int] = {}
        """Key → index among the distinct misses, in order."""
        self.places = array("Q")
        """Where each distinct miss first stands in the call."""
        self.order = array("Q")
        """For each record without an answer, in order: its index among the distinct misses."""
        self.files: dict[str, Path] = {}


def _parts(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Cut predictions into what one transaction takes."""
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for pair in pairs:
        part.append(pair)
        size += len(pair[1])
        if len(part) == STORE_COUNT or size > STORE_SIZE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _blocks(file: Spool) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(1 << 20):
        yield block


def _merged(answers: Spool, computed: Spool, ends: Sequence[int], order: Iterable[int]) -> Iterator[bytes]:
    """Put computed outputs where the answers have empty lines; seek only where a record repeats."""
    answers.seek(0)
    computed.seek(0)
    indexes = iter(order)
    here = 0
    while lines := answers.readlines(1 << 20):
        for position, line in enumerate(lines):
            if line == b"\n":
                index = next(indexes)
                start = ends[index - 1] if index else 0
                if here != start:
                    computed.seek(start)
                lines[position] = computed.read(ends[index] - start)
                here = ends[index]
        yield b"".join(lines)
