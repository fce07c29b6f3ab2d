"""Small immutable values by their fields, as ``dataclass(frozen=True)`` makes them, defined far faster.

``dataclasses`` imports ``inspect`` and compiles half a dozen functions for each class: together that was
a fifth of the time of one prediction. Here all classes share their functions, so making a class costs
next to nothing, and making an instance a little more. For classes that every start of the command line
defines; elsewhere dataclasses do. Knows nothing of what the fields mean.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = TypeVar("Kind", bound="Value")

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""An empty mapping, as the default of a field."""


@dataclass_transform(frozen_default=True)
class Value:
    """The base of a class whose annotated names are its fields; a default follows ``=``."""

    __match_args__: ClassVar[tuple[str, ...]] = ()  # the names of the fields, in order
    is_named: ClassVar[bool] = False
    """Whether fields are given by name alone."""

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        own = (name for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar"))
        cls.__match_args__ = (*cls.__match_args__, *own)  # type: ignore[misc]  # mypy takes it for its own
        cls.is_named = kw_only

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self.__match_args__
        if values:
            if self.is_named or len(values) > len(fields):
                raise TypeError(f"{type(self).__qualname__} was given {len(values)} values without a name")
            for name, value in zip(fields, values, strict=False):
                if name in named:
                    raise TypeError(f"{type(self).__qualname__} was given {name} twice")
                named[name] = value
        for name in fields:
            if name not in named:
                try:
                    named[name] = getattr(type(self), name)
                except AttributeError:
                    raise TypeError(f"{type(self).__qualname__} lacks {name}") from None
        if len(named) > len(fields):
            unknown = min(named.keys() - set(fields))
            raise TypeError(f"{type(self).__qualname__} has no field {unknown!r}")
        self.__dict__.update(named)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__qualname__} does not change: {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__qualname__} does not change: {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__match_args__)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__match_args__))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__qualname__}({shown})"


def fields(value: Value) -> dict[str, Any]:
    """Give the fields of a value by name, in order."""
    return {name: getattr(value, name) for name in value.__match_args__}


def replace(value: Kind, **changes: Any) -> Kind:
    """Give a value that is another but for some fields."""
    return type(value)(**{**fields(value), **changes})
