"""Metrics of recipes as other libraries call them: ``compute(predictions=…, references=…)``.

Knows nothing of how metrics are computed. ``evaluate`` of Hugging Face is imported only where it is asked
for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from reprobuild.errors import InputError, OutsideError, UsageError
from reprobuild.predict.fields import word_for
from reprobuild.predict.metrics import Evaluation
from reprobuild.predict.model import Model, load

Json = Any

CANDIDATES = ("prediction", "candidate", "hypothesis", "summary", "translation", "output", "answer", "text")
"""What predictors call the field that is measured, likeliest first."""
REFERENCES = ("references", "reference", "targets", "target", "gold")


class Metric:
    """A metric of a recipe: ``metric("lin2004", macro="mean").compute(predictions=…, references=…)``."""

    def __init__(
        self,
        model: Model,
        *,
        predictions: str = "",
        references: str = "",
        macro: Literal["mean", "same"] | None = None,
    ) -> None:
        """``predictions``, ``references``: the fields that get them, told by their names otherwise."""
        self.model = model
        self.name = str(model)
        self._macro = macro
        fields = model.predictor.inputs
        self._candidate = predictions or _named(fields, CANDIDATES) or next(iter(fields))
        others = {name: kind for name, kind in fields.items() if name != self._candidate}
        self._reference = references or _named(others, REFERENCES) or next(iter(others), "")
        for name in filter(None, (self._candidate, self._reference)):
            if name not in fields:
                raise UsageError(f"{model} has no field {name}", f"it has {', '.join(fields)}")
        self._added: dict[str, list[Json]] = {}

    def compute(
        self,
        *,
        predictions: Sequence[Json] | None = None,
        references: Sequence[Json] | None = None,
        **more: Json,
    ) -> dict[str, Json]:
        """Give the result over all predictions, by name.

        ``references``: one for each prediction, or a list of several; ``more``: columns of the other input
        fields, and parameters; without ``predictions``, what was added is measured, and then forgotten.
        Raises as ``Model.evaluate`` does.
        """
        return dict(self.evaluate(predictions=predictions, references=references, **more).macro)

    def evaluate(
        self,
        *,
        predictions: Sequence[Json] | None = None,
        references: Sequence[Json] | None = None,
        **more: Json,
    ) -> Evaluation:
        """Do what ``compute`` does, and give what each prediction came to, too."""
        fields = self.model.predictor.inputs
        columns = self._columns(predictions, references, more)
        parameters = {name: value for name, value in more.items() if name not in fields}
        if predictions is None:
            columns, self._added = self._added, {}
        missing = [name for name in fields if name not in columns]
        if missing:
            raise InputError(f"{self.name} needs {missing[0]}", f"give it as {self._word(missing[0])}=[…]")
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{size} {self._word(name)}" for name, size in sizes.items())
            raise InputError(f"{self.name} was given {shown}", "give one for each prediction")
        if not any(sizes.values()):
            raise InputError(f"{self.name} was given no {self._word(self._candidate)}", "give at least one")
        items = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return self.model.evaluate(items, macro=self._macro, **parameters)

    def add(self, *, prediction: Json = None, reference: Json = None, **more: Json) -> None:
        """Take one prediction for a later ``compute``."""
        columns = {name: [value] for name, value in more.items()}
        self.add_batch(predictions=[prediction], references=[reference], **columns)

    def add_batch(
        self,
        *,
        predictions: Sequence[Json] | None = None,
        references: Sequence[Json] | None = None,
        **more: Json,
    ) -> None:
        """Take predictions for a later ``compute``."""
        for name, column in self._columns(predictions, references, more).items():
            self._added.setdefault(name, []).extend(column)

    def _columns(
        self, predictions: Sequence[Json] | None, references: Sequence[Json] | None, more: Mapping[str, Json]
    ) -> dict[str, list[Json]]:
        """Give a column for each input field that there is something for, in the form that it takes."""
        fields = self.model.predictor.inputs
        given: dict[str, Iterable[Json]] = {name: more[name] for name in fields if name in more}
        if predictions is not None:
            given[self._candidate] = predictions
            if references is not None and self._reference:
                given[self._reference] = references
        for name, column in given.items():
            self._check_column(name, column)
        return {
            name: [_fitted(value, fields[name], name, index) for index, value in enumerate(column)]
            for name, column in given.items()
        }

    def _check_column(self, name: str, column: object) -> None:
        """Raise InputError for what is no list of values: a text would be one of its letters."""
        if isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable):
            word = self._word(name)
            raise InputError(
                f"{self.name} was given {word_for(column)} as {word}, where a list is needed",
                f"one for each record: {word}=[…]",
            )

    def _word(self, name: str) -> str:
        return {self._candidate: "predictions", self._reference: "references"}.get(name, name)


def metric(
    name: str | Model,
    *,
    predictions: str = "",
    references: str = "",
    macro: Literal["mean", "same"] | None = None,
    **loading: Any,
) -> Metric:
    """Give a recipe's metric, with the interface of Hugging Face ``evaluate``, which need not be installed.

    ``name``: ``RECIPE[/PREDICTOR]``, or a model; ``macro``: how the result over all comes about, where the
    predictor does not say; ``loading``: arguments of ``load``.
    """
    model = name if isinstance(name, Model) else load(name, **loading)
    return Metric(model, predictions=predictions, references=references, macro=macro)


def huggingface_metric(name: str | Model, *, cache_dir: str | None = None, **arguments: Any) -> Any:
    """Give the same as an ``evaluate.Metric``, for what asks for that: ``evaluate.combine``, evaluators.

    ``cache_dir``: where it keeps what was added; ``arguments``: as of ``metric``. Raises OutsideError
    where ``evaluate`` is not installed.
    """
    try:
        import datasets
        import evaluate
    except ImportError as error:
        raise OutsideError(
            f"huggingface_metric needs a package that is not installed: {error.name}",
            "pip install 'reprobuild[evaluate]'; metric(…) has compute() without it",
        ) from None
    own = metric(name, **arguments)
    fields = own.model.predictor.inputs
    kinds = {"predictions": fields[own._candidate], "references": fields.get(own._reference, "")}

    class Wrapped(evaluate.Metric):  # type: ignore[misc]  # it says nothing of its types
        def _info(self) -> Any:
            features = {
                word: datasets.Sequence(datasets.Value("string"))
                if kind.startswith("list")
                else datasets.Value("string")
                for word, kind in kinds.items()
                if kind
            }
            return evaluate.MetricInfo(
                description=f"{own.name}, by reprobuild",
                citation="",
                inputs_description=", ".join(f"{name}: {kind}" for name, kind in fields.items()),
                features=datasets.Features(features),
            )

        def _compute(self, **columns: Any) -> dict[str, Json]:
            return own.compute(**columns)

    Wrapped.__name__ = own.name.replace("/", "_")
    return Wrapped(cache_dir=cache_dir)


def _named(fields: Mapping[str, str], names: Iterable[str]) -> str:
    return next((name for name in names if name in fields), "")


def _fitted(value: Json, kind: str, name: str, index: int) -> Json:
    """Give a text as a list of one where lists are taken, and a list of one as its text where texts are."""
    if kind == "list[str]" and isinstance(value, str):
        return [value]
    if kind == "str" and isinstance(value, list | tuple):
        if len(value) != 1:
            raise InputError(f"item {index} has {len(value)} values of {name}, which takes one")
        return value[0]
    return value
