"""What records look like: typed fields, checked and written in canonical form (RFC 8785).

Knows nothing of files, lines or predictors: a fault is a sentence about one record, and whoever
asked says where the record stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reprobuild.canonical import LARGEST_INTEGER, NotCanonicalError, canonical

Json = Any
"""A JSON value, as Python's json module gives it."""

_WORDS = {
    dict: "an object",
    list: "a list",
    tuple: "a list",
    str: "a text",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    bytes: "bytes",
    type(None): "null",
}
FEW = 64
"""Records up to which each is written by itself: for fewer, orjson takes longer to import than it spares."""


class Unfit(ValueError):  # noqa: N818
    """A record that does not fit; the message says why, in words."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        """Which of the records that were given, from 0."""
        self.reason = reason


class Fields:
    """The fields that every record of a kind has, no more and no fewer."""

    def __init__(self, types: Mapping[str, str]) -> None:
        """Take field → one of ``recipe.predictors.FIELD_TYPES``."""
        self.types: Mapping[str, str] = dict(types)
        self._count = len(self.types)
        self._texts = tuple(name for name, kind in self.types.items() if kind in ("str", "file"))
        self._others = tuple(
            (name, _FAST.get(kind, _never))
            for name, kind in self.types.items()
            if kind not in ("str", "file", _VECTOR)
        )
        self._vectors = tuple(name for name, kind in self.types.items() if kind == _VECTOR)
        self.files: tuple[str, ...] = tuple(name for name, kind in self.types.items() if kind == "file")
        """Fields that hold the path of a file."""

    def encode(self, records: Sequence[Json]) -> list[bytes]:
        """Check records and give the canonical form of each, without line ends.

        Where one of many records holds nothing but texts, booleans, integers, plain fractions and lists of
        them, orjson's sorted form is the canonical one, and all of those are written by one call; the rest
        goes through ``canonical``. Raises Unfit for the first record that does not fit.
        """
        if len(records) <= FEW:
            return [self._encode_slowly(record, index) for index, record in enumerate(records)]
        import orjson

        # Between records stands what no JSON text of orjson's holds: a raw newline.
        mixed: list[Any] = [orjson.Fragment(b"\n")] * (2 * len(records))
        mixed[::2] = records
        texts, others, count = self._texts, self._others, self._count
        for index, record in enumerate(records):
            try:
                fits = type(record) is dict and len(record) == count
                if fits:
                    for name in texts:
                        if type(record[name]) is not str:
                            fits = False
                    for name, is_fast in others:
                        if not is_fast(record[name]):
                            fits = False
                    if fits and self._vectors:
                        found = {name: _written(record[name]) for name in self._vectors}
                        fits = None not in found.values()
                        mixed[2 * index] = record | {
                            name: orjson.Fragment(text) for name, text in found.items() if text
                        }
            except KeyError:
                fits = False
            if not fits:
                mixed[2 * index] = orjson.Fragment(self._encode_slowly(record, index))
        try:
            joined = orjson.dumps(mixed, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            return [self._encode_slowly(record, index) for index, record in enumerate(records)]
        return joined[1:-3].split(b",\n,")

    def fault(self, record: Json) -> str:
        """Say in words why a record does not fit; ``""`` if it does."""
        if not isinstance(record, dict):
            return f"{word_for(record)} where a record (a JSON object) is needed"
        unknown = [name for name in record if name not in self.types]
        if unknown:
            known = ", ".join(self.types)
            return f"the field {_show(unknown[0])} is not known; the fields are {known}"
        for name, kind in self.types.items():
            if name not in record:
                return f"the field {name} is missing"
            if reason := _fault(record[name], kind):
                return f"the field {name} {reason}"
        return ""

    def _encode_slowly(self, record: Json, index: int) -> bytes:
        if reason := self.fault(record):
            raise Unfit(index, reason)
        try:
            return canonical(record)
        except NotCanonicalError as error:
            raise Unfit(index, str(error).replace("$.", "")) from None
        except RecursionError:
            raise Unfit(index, "lists or objects are nested too deeply") from None


def _never(value: Json) -> bool:
    return False


def _is_boolean(value: Json) -> bool:
    return type(value) is bool


def _is_integer(value: Json) -> bool:
    return type(value) is int and -LARGEST_INTEGER <= value <= LARGEST_INTEGER


def _is_plain_fraction(value: Json) -> bool:
    """Whether orjson and RFC 8785 write a number alike: positional digits, and a fraction for floats.

    Both write the shortest digits that read back as the same double; they differ in exponents, and
    in whole numbers that are floats (``1.0`` and ``1``).
    """
    if type(value) is float:
        return 1e-4 < abs(value) < 1e15 and not value.is_integer()
    return _is_integer(value)


def _is_list_of_texts(value: Json) -> bool:
    return type(value) is list and all(type(item) is str for item in value)


def _is_list_of_integers(value: Json) -> bool:
    return type(value) is list and all(map(_is_integer, value))


def _is_small(value: float) -> bool:
    return type(value) is float or -LARGEST_INTEGER <= value <= LARGEST_INTEGER


def _written(value: Json) -> bytes | None:
    """Give the canonical form of a list of numbers, which may be long; None where it is no such list.

    What orjson writes without exponent, and not as a whole number, is the canonical form (see above).
    """
    import orjson

    if type(value) is not list:
        return None
    kinds = set(map(type, value))
    if not kinds <= _NUMBERS or (int in kinds and not all(map(_is_small, value))):
        return None
    text = orjson.dumps(value)
    if b"n" in text:  # null: for NaN and infinities
        return None
    if b"e" not in text and b".0," not in text and not text.endswith(b".0]"):
        return text
    parts = text[1:-1].split(b",")
    for index, part in enumerate(parts):
        if b"e" in part or part.endswith(b".0"):
            parts[index] = canonical(value[index])
    return b"[" + b",".join(parts) + b"]"


_PLAIN: Mapping[str, frozenset[type]] = {
    "str": frozenset({str}),
    "int": frozenset({int}),
    "float": frozenset({int, float}),
}
"""Types of which every value is one of a field type's."""

_VECTOR = "list[float]"
_NUMBERS = frozenset({float, int})

_FAST: Mapping[str, Callable[[Json], bool]] = {
    "bool": _is_boolean,
    "int": _is_integer,
    "float": _is_plain_fraction,
    "list[str]": _is_list_of_texts,
    "list[int]": _is_list_of_integers,
}


def _fault(value: Json, kind: str) -> str:
    """Say why a value is not of a type; ``""`` if it is."""
    if kind.startswith("list"):
        if not isinstance(value, list | tuple):
            return f"is {word_for(value)} where a list is needed"
        # All of them at once, since an output may be thousands of numbers.
        if kind != "list" and not _PLAIN[kind[5:-1]].issuperset(map(type, value)):
            for index, item in enumerate(value):
                if reason := _fault(item, kind[5:-1]):
                    return f"at [{index}] {reason}"
        return ""
    if kind == "any":
        return ""
    if kind in ("str", "file"):
        fits, needed = isinstance(value, str), "a text is" if kind == "str" else "the path of a file is"
    elif kind == "bool":
        fits, needed = isinstance(value, bool), "true or false is"
    elif kind == "dict":
        fits, needed = isinstance(value, dict), "an object is"
    elif kind == "int":
        fits, needed = isinstance(value, int) and not isinstance(value, bool), "an integer is"
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        needed = "a number is"
    return "" if fits else f"is {word_for(value)} where {needed} needed"


def word_for(value: Json) -> str:
    """Name the type of a value, as errors do: ``a text``, ``an object``."""
    return _WORDS.get(type(value), f"a {type(value).__name__}")


def _show(name: object) -> str:
    return ascii(name)[:80]
