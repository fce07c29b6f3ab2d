"""Predictions from Python: ``load("tutorial").predict(text="abc")``.

Knows nothing of files of records or of the command line.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson

from reprobuild import settings
from reprobuild.derivation.predictors import Predictor
from reprobuild.errors import InputError, ItemFailedError, UsageError
from reprobuild.events import Tell, ignore
from reprobuild.predict import chosen
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.call import ERROR, CacheMode, Call, Options, Summary
from reprobuild.predict.fields import Fields
from reprobuild.predict.given import as_records, check_items
from reprobuild.predict.macro import mean, same
from reprobuild.predict.metrics import Evaluation
from reprobuild.predict.parameters import CPU, SEED, split_devices
from reprobuild.predict.records import encode_records
from reprobuild.predict.signature import OfPredictor, shows_fields
from reprobuild.predict.staging import StagedFiles
from reprobuild.predict.target import Target, find_target, split_name
from reprobuild.predict.workers import Workers

Json = Any

CHUNK = 8192
"""Records that ``predict_iter`` answers at a time."""


def load(
    name: str,
    *,
    device: str | int = CPU,
    engine: str | None = None,
    store: str | os.PathLike[str] | None = None,
    recipes: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    offline: bool | None = None,
    cache: CacheMode = "use",
    timeout: float | None = None,
    memory: int | str | None = None,
    jobs: int = 0,
    keep_going: bool = False,
    tell: Tell = ignore,
    **options: str | int | float | bool,
) -> Model:
    """Give a model to predict with, building its image first where the store does not have it.

    ``name``: ``RECIPE`` or ``RECIPE/PREDICTOR``, or the tag of an image in its place, which was built, pulled
    or imported before; ``device``: ``"cpu"`` or -1; ``engine``, ``store``,
    ``recipes``, ``offline``: as the settings of these names, which hold otherwise; ``cache``:
    ``"use"``, ``"refresh"`` or ``"off"``; ``timeout`` (seconds) and ``memory`` (bytes, or ``"4G"``): of each
    run; ``jobs``: how many runs are at work at once, for all threads together (0: one for each device);
    ``keep_going``: past items that fail: each gives an ItemFailedError in its place, not raised;
    ``tell``: gets what happens meanwhile, from any thread; ``options``: the recipe's. Raises UsageError
    for what can't be, before anything else is done, and what ``realize`` raises.
    """
    from reprobuild.build.project import Project

    chosen.check_choices(name, cache=cache, jobs=jobs, keep_going=keep_going, tell=tell)
    split_devices(str(device))
    limits = chosen.limits(timeout, memory)
    flags = {
        "engine": engine,
        "store": chosen.folder_of_store(store),
        "recipes": chosen.folders_of_recipes(recipes),
        "offline": offline,
    }
    found = settings.load(flags, os.environ, os.getcwd(), "load()")
    project = Project(found, tell)
    recipe, predictor = split_name(name)
    target = find_target(project, recipe, options)
    made = Options(cache=cache, device=str(device), limits=limits, jobs=jobs, keep_going=keep_going)
    # What a pickle is loaded by means the same in a process with another working directory.
    folders = [folder for folder in found.recipes if os.path.isdir(folder)]
    again = {"engine": found.engine, "store": found.store, "recipes": folders, "offline": found.offline}
    said = {"device": device, "cache": cache, "timeout": timeout, "memory": memory, "jobs": jobs}
    arguments = {**again, **said, "keep_going": keep_going, **options}
    return Model(target, predictor, made, tell=tell, arguments=(name, arguments))


class Model:
    """A predictor of an image that is in the store; safe for threads, small to pickle.

    A process that keeps a model loaded lives on for a while after a call, for the next one. A ``with``
    block, or ``close``, ends it and lets go of the cache; the next call takes them again.
    """

    __signature__ = OfPredictor()

    def __init__(
        self,
        target: Target,
        predictor: str,
        options: Options | None = None,
        *,
        tell: Tell = ignore,
        arguments: tuple[str, Mapping[str, Any]] | None = None,
        folder: Path = Path(),
    ) -> None:
        """``arguments``: those of ``load``, by which a pickle is loaded again; ``folder``: what paths
        in records are relative to."""
        self._target = target
        self._name = predictor
        self._options = options or Options()
        self._tell = tell
        self._arguments = arguments
        self._folder = folder
        self._cache: PredictionCache | None = None
        self._predictor = target.predictor(predictor)
        self._inputs = Fields(self._predictor.inputs)
        own = self._with({}, cache="off")
        Call(target, predictor, own, tell)
        devices = split_devices(own.device)
        self._workers = Workers(target, devices=devices, jobs=own.jobs, tell=tell, ahead=True)

    @property
    def image(self) -> str:
        """The tag of the image."""
        return self._target.tag

    @property
    def predictor(self) -> Predictor:
        """What the recipe says of the predictor: fields, parameters, examples."""
        return self._predictor

    @shows_fields
    def predict(self, *values: Json, **named: Json) -> Json:
        """Predict one record.

        ``values`` are the input fields in their order; ``named``: input fields and parameters. Gives
        the output field's value where there is one, a dict where there are several. Raises InputError
        for what does not fit, PredictionFailedError, RefusedFetchError, EngineError.
        """
        names = list(self._inputs.types)
        if len(values) > len(names):
            noun = "value" if len(names) == 1 else "values"
            raise InputError(f"{self} takes {len(names)} {noun} ({', '.join(names)}), not {len(values)}")
        record: dict[str, Json] = dict(zip(names, values, strict=False))
        parameters: dict[str, Json] = {}
        for name, value in named.items():
            if name in record:
                raise InputError(f"{self} was given the field {name} twice")
            is_parameter = name not in self._inputs.types and (
                name == SEED or name in self._predictor.parameters
            )
            (parameters if is_parameter else record)[name] = value
        output = self.predict_batch([record], **parameters)[0]
        if isinstance(output, ItemFailedError):
            raise output
        return output

    def __call__(self, *values: Json, **named: Json) -> Json:
        return self.predict(*values, **named)

    def predict_batch(self, items: Iterable[Mapping[str, Json]], **parameters: Json) -> list[Json]:
        """Predict records, and give their outputs in the same order.

        ``items``: input fields of each; ``parameters``: the predictor's, for all of them. Only
        those that the cache does not have reach the predictor. Raises as ``predict`` does; where the
        model keeps going, an ItemFailedError stands in the place of an item that failed.
        """
        return self.answer(items, **parameters)[0]

    def predict_iter(self, items: Iterable[Mapping[str, Json]], **parameters: Json) -> Iterator[Json]:
        """Predict records that may be more than the memory holds: reads as it goes, gives outputs in order.

        With scope ``item``, ``CHUNK`` records are read and answered at a time, and those that follow are
        not read before. With scope ``batch`` all are one call: they are read to the end first, and kept
        on disk. Raises as ``predict`` does: for parameters at once, for records when their turn comes.
        """
        self._call(parameters, cache="off")
        check_items(str(self), items)
        return self._iterate(items, parameters)

    def _iterate(self, items: Iterable[Mapping[str, Json]], parameters: Mapping[str, Json]) -> Iterator[Json]:
        if self._predictor.scope == "batch":
            yield from map(self._shape, self._records(self._call(parameters), items))
            return
        iterator = iter(items)
        first = 0
        while chunk := list(itertools.islice(iterator, CHUNK)):
            yield from self._part(parameters, chunk, first)
            first += len(chunk)

    def _part(self, parameters: Mapping[str, Json], items: list[Any], first: int) -> list[Json]:
        return list(map(self._shape, self._records(self._call(parameters), items, first)))

    def answer(self, items: Iterable[Mapping[str, Json]], **parameters: Json) -> tuple[list[Json], Summary]:
        """Do what ``predict_batch`` does, and say what came from the cache."""
        started = time.perf_counter()
        call = self._call(parameters)
        outputs = [self._shape(record) for record in self._records(call, items)]
        return outputs, call.summary(time.perf_counter() - started)

    def evaluate(
        self,
        items: Iterable[Mapping[str, Json]],
        *,
        macro: Literal["mean", "same"] | None = None,
        **parameters: Json,
    ) -> Evaluation:
        """Give what a metric says of all records, and of each: ``macro, items = model.evaluate(items)``.

        ``macro``: how the result over all comes about, where the predictor does not say: it is the ``mean``,
        or the ``same`` in each output, since the predictor looks at all records and repeats it.
        ``parameters``: the predictor's. Raises as ``predict`` does, and UsageError for what is no metric.
        """
        kind = self._kind_of_macro(macro)
        call = self._call(parameters)
        outputs = []
        for record in self._records(call, items):
            if isinstance(record, ItemFailedError):
                raise record
            outputs.append(self._typed(record))
        if kind == "mean":
            whole = mean(str(self), outputs)
        else:
            whole = call.macro or {} if kind == "corpus" else same(str(self), outputs)
        return Evaluation(
            name=str(self),
            kind="mean" if kind == "mean" else "corpus",
            count=len(outputs),
            macro=whole,
            items=outputs,
            signature=call.summary(0.0).signature,
            parameters=dict(parameters),
        )

    async def apredict(self, *values: Json, **named: Json) -> Json:
        """Do what ``predict`` does, in a thread, while others use the event loop."""
        import asyncio

        return await asyncio.to_thread(self.predict, *values, **named)

    async def apredict_batch(self, items: Iterable[Mapping[str, Json]], **parameters: Json) -> list[Json]:
        """Do what ``predict_batch`` does, in a thread, while others use the event loop."""
        import asyncio

        return await asyncio.to_thread(self.predict_batch, items, **parameters)

    async def apredict_iter(
        self, items: Iterable[Mapping[str, Json]] | AsyncIterable[Mapping[str, Json]], **parameters: Json
    ) -> AsyncIterator[Json]:
        """Do what ``predict_iter`` does, in threads, for items that may come asynchronously, too.

        With scope ``batch``, asynchronous items are collected in memory first.
        """
        import asyncio

        self._call(parameters, cache="off")
        is_whole = self._predictor.scope == "batch"
        if not isinstance(items, AsyncIterable):
            check_items(str(self), items)
            outputs = self._iterate(items, parameters)
            while part := await asyncio.to_thread(lambda: list(itertools.islice(outputs, CHUNK))):
                for output in part:
                    yield output
            return
        part, first = [], 0
        async for item in items:
            part.append(item)
            if len(part) == CHUNK and not is_whole:
                for output in await asyncio.to_thread(self._part, parameters, part, first):
                    yield output
                part, first = [], first + CHUNK
        for output in await asyncio.to_thread(self._part, parameters, part, first):
            yield output

    def close(self) -> None:
        """Let go of the cache, and end what keeps a model loaded."""
        self._workers.close()
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self._target.recipe}/{self._name}"

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {kind}" for name, kind in self._inputs.types.items())
        return f"<Model {self} ({fields})>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments is None:
            raise TypeError("only a model that load() gave can be pickled")
        return (_load_again, self._arguments)

    def _call(self, parameters: Mapping[str, Json], cache: CacheMode | None = None) -> Call:
        options = self._with(parameters, cache)
        return Call(self._target, self._name, options, self._tell, self._opened(options), self._workers)

    def _records(
        self, call: Call, items: Iterable[Mapping[str, Json]], first: int = 0
    ) -> Iterator[dict[str, Json] | ItemFailedError]:
        """Give the output records of a call; ``first``: the index, for errors, of the first item."""

        check_items(str(self), items)

        def refuse(index: int, reason: str) -> InputError:
            hint = f"it takes {', '.join(self._inputs.types)}"
            return InputError(f"{self}, item {first + index}: {reason}", hint)

        staged = StagedFiles(self._inputs, self._folder, refuse) if self._inputs.files else None
        rewrite = staged.rewrite if staged is not None else None
        records = as_records(items, self._inputs.files)
        chunks = encode_records(records, self._inputs, refuse, rewrite=rewrite)
        lines = _lines(call.answer(chunks, lambda index: f"item {first + index}", staged))
        for index, line in enumerate(lines, start=first):
            record = orjson.loads(line)
            failed = record.get(ERROR)
            yield (
                record if failed is None else ItemFailedError(f"{self}, item {index}: {failed}", index=index)
            )

    def _with(self, parameters: Mapping[str, Json], cache: CacheMode | None = None) -> Options:
        own = self._options
        given = {name: value for name, value in parameters.items() if name != SEED or value is not None}
        return Options(
            parameters=given,
            cache=cache or own.cache,
            device=own.device,
            limits=own.limits,
            jobs=own.jobs,
            keep_going=own.keep_going,
        )

    def _opened(self, options: Options) -> PredictionCache | None:
        if options.cache == "off":
            return None
        if self._cache is None:
            self._cache = PredictionCache.open(self._target.store)
        return self._cache

    def _kind_of_macro(self, asked: str | None) -> str:
        declared = self._predictor.macro
        if asked not in (None, "mean", "same") or (asked and declared not in ("", asked)):
            shown = f"is declared as {declared!r}" if declared else "is 'mean' or 'same'"
            raise UsageError(f"{self}: macro={asked!r}, and it {shown}", "leave macro out")
        if not (kind := declared or asked):
            raise UsageError(
                f"{self} does not say what its result over all records is",
                'if it is their mean: model.evaluate(items, macro="mean"), or macro="mean" in its recipe',
            )
        return kind

    def _typed(self, output: dict[str, Json]) -> dict[str, Json]:
        """Give Python's form of an output: floats where fields are floats, although 1.0 travels as 1."""
        return {name: _typed(output[name], kind) for name, kind in self._predictor.outputs.items()}

    def _shape(self, output: dict[str, Json] | ItemFailedError) -> Json:
        """Give the only field's value, or all fields."""
        if isinstance(output, ItemFailedError):
            return output
        values = self._typed(output)
        return next(iter(values.values())) if len(values) == 1 else values


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Give lines of blocks that may end within a line."""
    begun: list[bytes] = []
    for block in blocks:
        first, *lines = block.split(b"\n")
        begun.append(first)
        if lines:
            yield b"".join(begun)
            begun = [lines.pop()]
            yield from lines


def _typed(value: Json, kind: str) -> Json:
    if kind == "float":
        return float(value)
    return [float(item) for item in value] if kind == "list[float]" else value


def _load_again(name: str, arguments: Mapping[str, Any]) -> Model:
    if not isinstance(name, str):
        raise UsageError("a pickle that is no model's")
    return load(name, **arguments)
