"""Words of a recipe that check what they are given by their own annotations, before they look at it.

Knows nothing of what any word means; kinds that say more than their type are checked by the words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError

LONGEST = 80
"""Characters of a value that an error shows."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inspect import Signature

P = ParamSpec("P")
T = TypeVar("T")


def typed(word: Callable[P, T]) -> Callable[P, T]:
    """Make a word raise RecipeError, with its line, for an argument of another type than it names."""
    return typed_but()(word)


def typed_but(*others: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Give the same for a word that has more to say itself about some of its arguments."""
    return lambda word: _typed(word, others)


def _typed(word: Callable[P, T], others: tuple[str, ...]) -> Callable[P, T]:
    @functools.cache
    def signature_of_word() -> Signature:
        # Where recipes are evaluated, and nowhere else: inspect takes its time.
        from inspect import signature

        return signature(word)

    @functools.wraps(word)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        signature = signature_of_word()
        parameters = signature.parameters
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return word(*args, **kwargs)  # raises it again, in Python's own words
        for name, parameter in parameters.items():
            if name not in given or name in others or parameter.annotation not in KINDS:
                continue
            needed, fits = KINDS[parameter.annotation]
            is_row = parameter.kind is parameter.VAR_POSITIONAL
            for one in given[name] if is_row else (given[name],):
                if not fits(one):
                    shown = f"…, {_shown(one)}" if is_row else f"{name}={_shown(one)}"
                    raise RecipeError(f"{Where.caller()}: {word.__name__}({shown}): {needed} is needed")
        return word(*args, **kwargs)

    return checked


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_texts(values: Any) -> bool:
    return isinstance(values, tuple | list) and all(isinstance(value, str) for value in values)


def _is_text_or_texts(value: Any) -> bool:
    return isinstance(value, str) or _are_texts(value)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", lambda value: isinstance(value, str)),
    "str | None": ("a text", lambda value: value is None or isinstance(value, str)),
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "int": ("a whole number", _is_whole),
    "int | None": ("a whole number", lambda value: value is None or _is_whole(value)),
    "float": ("a number", lambda value: isinstance(value, float) or _is_whole(value)),
    "tuple[str, ...] | list[str]": ("a list of texts", _are_texts),
    "tuple[str, ...] | list[str] | str": ("a text or a list of texts", _is_text_or_texts),
    "str | list[str] | tuple[str, ...]": ("a text or a list of texts", _is_text_or_texts),
    "Mapping[str, str] | None": ("a dict", lambda value: value is None or isinstance(value, Mapping)),
    "Mapping[str, Any] | None": ("a dict", lambda value: value is None or isinstance(value, Mapping)),
    "Mapping[str, Any]": ("a dict", lambda value: isinstance(value, Mapping)),
}
"""What is needed, and whether a value is that: by the text of an annotation."""
