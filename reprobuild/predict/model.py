"""Predictions from Python: ``load("tutorial").predict(text="abc")``.

Knows nothing of files of records or of the command line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from reprobuild import settings
from reprobuild.errors import InputError, UsageError
from reprobuild.events import Tell, ignore
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.call import CacheMode, Call, Options, Summary
from reprobuild.predict.fields import Fields
from reprobuild.predict.parameters import CPU, SEED
from reprobuild.predict.records import encode_records
from reprobuild.predict.staging import StagedFiles
from reprobuild.predict.target import Target, make_target, split_name
from reprobuild.predict.worker import Limits

Json = Any


def load(
    name: str,
    *,
    device: str | int = CPU,
    engine: str | None = None,
    store: str | os.PathLike[str] | None = None,
    recipes: str | os.PathLike[str] | Sequence[str] | None = None,
    offline: bool | None = None,
    cache: CacheMode = "use",
    timeout: float | None = None,
    memory: int | None = None,
    tell: Tell = ignore,
    **options: str | int | float | bool,
) -> Model:
    """Give a model to predict with, building its image first where the store does not have it.

    ``name``: ``RECIPE`` or ``RECIPE/PREDICTOR``, or the tag of an image in its place, which was built, pulled
    or imported before; ``device``: ``"cpu"`` or -1; ``engine``, ``store``,
    ``recipes``, ``offline``: as the settings of these names, which hold otherwise; ``cache``:
    ``"use"``, ``"refresh"`` or ``"off"``; ``timeout`` (seconds) and ``memory`` (bytes): of each run;
    ``tell``: gets what happens meanwhile; ``options``: the recipe's. Raises what ``realize`` raises.
    """
    from reprobuild.build.find import find_image, is_reference
    from reprobuild.build.project import Project
    from reprobuild.build.realize import realize

    flags = {
        "engine": engine,
        "store": None if store is None else os.fspath(store),
        "recipes": [os.fspath(recipes)] if isinstance(recipes, str | os.PathLike) else recipes,
        "offline": offline,
    }
    found = settings.load(flags, os.environ, os.getcwd())
    project = Project(found, tell)
    recipe, predictor = split_name(name)
    if is_reference(project, recipe):
        if options:
            raise UsageError(f"{recipe} is a built image: it has no options", "name its recipe instead")
        target = make_target(project, find_image(project.store, recipe))
    else:
        target = make_target(project, realize(project, recipe, options))
    made = Options(cache=cache, device=str(device), limits=Limits(timeout, memory))
    # What a pickle is loaded by means the same in a process with another working directory.
    again = {"engine": found.engine, "store": found.store, "recipes": found.recipes, "offline": found.offline}
    arguments = {**again, "device": device, "cache": cache, "timeout": timeout, "memory": memory, **options}
    return Model(target, predictor, made, tell=tell, arguments=(name, arguments))


class Model:
    """A predictor of an image that is in the store; safe for threads, small to pickle.

    A ``with`` block, or ``close``, lets go of the cache; the next call takes it again.
    """

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
        Call(target, predictor, self._with({}, cache="off"), tell)

    def predict(self, *values: Json, **named: Json) -> Json:
        """Predict one record.

        ``values`` are the input fields in their order; ``named``: input fields and parameters. Gives
        the output field's value where there is one, a dict where there are several. Raises InputError
        for what does not fit, PredictionFailedError, RefusedFetchError, EngineError.
        """
        names = list(self._inputs.types)
        if len(values) > len(names):
            raise InputError(f"{self} takes {len(names)} values ({', '.join(names)}), not {len(values)}")
        record: dict[str, Json] = dict(zip(names, values, strict=False))
        parameters: dict[str, Json] = {}
        for name, value in named.items():
            if name in record:
                raise InputError(f"{self} was given the field {name} twice")
            is_parameter = name not in self._inputs.types and (
                name == SEED or name in self._predictor.parameters
            )
            (parameters if is_parameter else record)[name] = value
        return self.predict_batch([record], **parameters)[0]

    def predict_batch(self, items: Iterable[Mapping[str, Json]], **parameters: Json) -> list[Json]:
        """Predict records, and give their outputs in the same order.

        ``items``: input fields of each; ``parameters``: the predictor's, for all of them. Only
        those that the cache does not have reach the predictor. Raises as ``predict`` does.
        """
        return self.answer(items, **parameters)[0]

    def answer(self, items: Iterable[Mapping[str, Json]], **parameters: Json) -> tuple[list[Json], Summary]:
        """Do what ``predict_batch`` does, and say what came from the cache."""
        started = time.perf_counter()

        def refuse(index: int, reason: str) -> InputError:
            return InputError(f"{self}, item {index}: {reason}", f"it takes {', '.join(self._inputs.types)}")

        options = self._with(parameters)
        call = Call(self._target, self._name, options, self._tell, self._opened(options))
        staged = StagedFiles(self._inputs, self._folder, refuse) if self._inputs.files else None
        rewrite = staged.rewrite if staged is not None else None
        records = (dict(item) if isinstance(item, Mapping) else item for item in items)
        chunks = encode_records(records, self._inputs, refuse, rewrite=rewrite)
        blocks = b"".join(call.answer(chunks, lambda index: f"item {index}", staged))
        outputs = [self._shape(orjson.loads(line)) for line in blocks.split(b"\n")[:-1]]
        return outputs, call.summary(time.perf_counter() - started)

    def close(self) -> None:
        """Let go of the cache."""
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

    def _with(self, parameters: Mapping[str, Json], cache: CacheMode | None = None) -> Options:
        chosen = self._options
        return Options(
            parameters=parameters, cache=cache or chosen.cache, device=chosen.device, limits=chosen.limits
        )

    def _opened(self, options: Options) -> PredictionCache | None:
        if options.cache == "off":
            return None
        if self._cache is None:
            self._cache = PredictionCache.open(self._target.store)
        return self._cache

    def _shape(self, output: dict[str, Json]) -> Json:
        """Give Python's form of an output: floats where fields are floats, although 1.0 travels as 1."""
        kinds = self._predictor.outputs
        values = {name: _typed(output[name], kind) for name, kind in kinds.items()}
        return next(iter(values.values())) if len(values) == 1 else values


def _typed(value: Json, kind: str) -> Json:
    if kind == "float":
        return float(value)
    return [float(item) for item in value] if kind == "list[float]" else value


def _load_again(name: str, arguments: Mapping[str, Any]) -> Model:
    if not isinstance(name, str):
        raise UsageError("a pickle that is no model's")
    return load(name, **arguments)
