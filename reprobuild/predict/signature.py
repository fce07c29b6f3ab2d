"""What a predictor looks like to Python: a signature, and type hints, from its fields and parameters.

Knows nothing of how predictions are made. ``inspect`` is imported when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from reprobuild.derivation.predictors import Predictor
from reprobuild.predict.parameters import SEED

if TYPE_CHECKING:
    from inspect import Signature

    from reprobuild.predict.model import Model

_TYPES: Mapping[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "file": str,
    "list[str]": list[str],
    "list[int]": list[int],
    "list[float]": list[float],
    "list": list,
    "dict": dict,
    "any": Any,
}


def signature_of(predictor: Predictor) -> Signature:
    """Give the signature of ``predict``: the input fields, then the parameters by name alone.

    Names that Python can't have (``from``, ``max-length``) are taken by ``**named``.
    """
    from inspect import Parameter, Signature

    by_name = Parameter.KEYWORD_ONLY
    made = []
    has_all = True
    for name, kind in predictor.inputs.items():
        if not _is_name(name):
            # What comes after it can't be given by position without it.
            has_all = False
            continue
        kind_of = Parameter.POSITIONAL_OR_KEYWORD if has_all else by_name
        made.append(Parameter(name, kind_of, annotation=_TYPES[kind]))
    made += [
        Parameter(name, by_name, default=one.default, annotation=_TYPES[one.type])
        for name, one in predictor.parameters.items()
        if _is_name(name) and name not in predictor.inputs
    ]
    if takes_seed(predictor) and SEED not in predictor.inputs:
        made.append(Parameter(SEED, by_name, default=None, annotation=int | None))
    if not all(map(_is_name, (*predictor.inputs, *predictor.parameters))):
        made.append(Parameter("named", Parameter.VAR_KEYWORD, annotation=Any))
    kinds = list(predictor.outputs.values())
    return Signature(made, return_annotation=_TYPES[kinds[0]] if len(kinds) == 1 else dict[str, Any])


def takes_seed(predictor: Predictor) -> bool:
    """Tell whether a predictor can be given a seed."""
    return predictor.random or "{seed}" in predictor.command


def _is_name(name: str) -> bool:
    return name.isidentifier() and not iskeyword(name)


class OfPredictor:
    """An attribute ``__signature__`` of a model: that of its ``predict``; of the class, there is none."""

    def __get__(self, model: Model | None, owner: type | None = None) -> Signature:
        if model is None:
            raise AttributeError("__signature__")
        return signature_of(model.predictor)


class _Shown:
    """A method of one model, which shows the signature of its predictor."""

    def __init__(self, model: Model, method: Callable[..., Any]) -> None:
        self.__self__ = model
        self.__func__ = method
        self.__name__, self.__doc__ = method.__name__, method.__doc__

    def __call__(self, *values: Any, **named: Any) -> Any:
        return self.__func__(self.__self__, *values, **named)

    @property
    def __signature__(self) -> Signature:
        return signature_of(self.__self__.predictor)

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]  # Any: what typing.get_type_hints reads
        signature = self.__signature__
        found = {name: one.annotation for name, one in signature.parameters.items()}
        return {**found, "return": signature.return_annotation}

    def __repr__(self) -> str:
        return f"<{self.__name__} of {self.__self__!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shown) and (self.__self__, self.__func__) == (
            other.__self__,
            other.__func__,
        )

    def __hash__(self) -> int:
        return hash((self.__self__, self.__func__))

    def __reduce__(self) -> tuple[Any, ...]:
        return (getattr, (self.__self__, self.__name__))


class shows_fields:  # noqa: N801  # a decorator
    """Make a method of a model show the fields of its predictor, where it is looked at."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, model: Model | None, owner: type | None = None) -> Callable[..., Any]:
        return self._method if model is None else _Shown(model, self._method)
