"""Canonical JSON against the tables of RFC 8785 itself."""

from __future__ import annotations

import json
import math
import struct
from enum import Enum, IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.canonical import LARGEST_INTEGER, NotCanonicalError, canonical, canonical_digest
from reprobuild.digest import Digest

APPENDIX_B = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), APPENDIX_B.items(), ids=APPENDIX_B)
def test_numbers_of_appendix_b(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number) == text.encode()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_comes_back(number: float) -> None:
    assert float(canonical(number)) == number


@given(st.integers(-LARGEST_INTEGER, LARGEST_INTEGER))
def test_a_whole_number_is_written_alike_as_either_type(number: int) -> None:
    assert canonical(number) == canonical(float(number))


def test_the_example_of_section_3_2_2() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical(value).decode() == (
        '{"literals":[null,true,false],'
        '"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_ordered_by_utf_16_units() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]  # section 3.2.3
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(keys, 0)))) == ordered


ESCAPES = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", '"': r"\"", "\\": r"\\"}


@pytest.mark.parametrize("code", range(0x20))
def test_control_characters(code: int) -> None:
    character = chr(code)
    assert canonical(character).decode() == '"' + ESCAPES.get(character, f"\\u{code:04x}") + '"'


@pytest.mark.parametrize("character", ["/", "\x7f", "\u2028", "é", "\U0001f600"])
def test_other_characters_are_written_as_they_are(character: str) -> None:
    assert canonical(character) == f'"{character}"'.encode()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_a_value_comes_back_and_is_written_alike_again(value: object) -> None:
    data = canonical(value)
    again = json.loads(data, parse_int=float)  # 1e20 is written without an exponent
    assert again == value
    assert canonical(again) == data


def test_tuples_are_lists() -> None:
    assert canonical(("a", (1,))) == b'["a",[1]]'


class Text(str):
    __slots__ = ()


REFUSED: dict[str, tuple[object, str]] = {
    "NaN": ({"a": math.nan}, r"\$\.a"),
    "infinity": ([0, -math.inf], r"\$\[1\]"),
    "large": ({"a": [LARGEST_INTEGER + 1]}, r"\$\.a\[0\]"),
    "small": (-LARGEST_INTEGER - 1, r"\$"),
    "surrogate": ({"a": "\ud800"}, r"\$\.a"),
    "surrogate in a key": ({"b": {"\udfff": 1}}, r"\$\.b"),
    "key": ({"a": {1: 2}}, "key 1 at"),
    "bytes": (b"a", "bytes at"),
    "set": ({"a": {1}}, "set at"),
}


@pytest.mark.parametrize(("value", "where"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_form_is_refused_by_its_place(value: object, where: str) -> None:
    with pytest.raises(NotCanonicalError, match=where):
        canonical(value)


def test_the_digest_is_that_of_the_bytes() -> None:
    assert canonical_digest({"b": 1, "a": 2}) == Digest.of(b'{"a":2,"b":1}')


class Word(str, Enum):  # noqa: UP042  (a StrEnum shows itself as its text)
    FIRST = "a"


class Size(IntEnum):
    ONE = 1


class Number(float):
    __slots__ = ()

    def __repr__(self) -> str:
        return "not a number"


def test_a_subclass_of_text_is_text() -> None:
    assert canonical({Text("a"): Text("b")}) == b'{"a":"b"}'
    assert canonical({Word.FIRST: Word.FIRST}) == b'{"a":"a"}'


def test_a_subclass_of_a_number_is_a_number() -> None:
    assert canonical([Number(0.5), Number(1e-9), Size.ONE]) == b"[0.5,1e-9,1]"
