"""Reading records: what is refused and where, and that the fast way gives what the slow way does."""

# ruff: noqa: E501 -- a table has one case a line

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.canonical import NotCanonicalError, canonical
from reprobuild.errors import InputError
from reprobuild.predict import fields as fields_module
from reprobuild.predict import records as records_module
from reprobuild.predict.fields import Fields, Unfit
from reprobuild.predict.intake import Intake
from reprobuild.predict.records import CHUNK_COUNT, CHUNK_SIZE, encode_records, read_chunks
from reprobuild.predict.strict import parse_strictly

TEXT = Fields({"text": "str"})


@pytest.fixture(scope="module", autouse=True, params=[None, 0], ids=["few", "many"])
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything holds for few records, which are read one by one, and for many, read at once."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param is not None:
            patch.setattr(fields_module, "FEW", request.param)
            patch.setattr(records_module, "FEW", request.param)
        yield


def refuse(line: int, reason: str) -> InputError:
    return InputError(f"{line}: {reason}")


def read(data: bytes, fields: Fields = TEXT, limit: int | None = None) -> list[bytes]:
    return [
        record for chunk in read_chunks(io.BytesIO(data), fields, refuse, limit=limit) for record in chunk
    ]


REFUSED: dict[str, tuple[dict[str, str], bytes, str]] = {
    "empty line": ({"t": "str"}, b'{"t":"a"}\n\n{"t":"a"}\n', "2: the line is empty"),
    "blank line": ({"t": "str"}, b"  \n", "1: the line is empty"),
    "empty last line": ({"t": "str"}, b'{"t":"a"}\n\n', "2: the line is empty"),
    "byte order mark": ({"t": "str"}, b'\xef\xbb\xbf{"t":"a"}\n', "1: a byte order mark"),
    "UTF-16": ({"t": "str"}, '{"t":"a"}\n'.encode("utf-16"), "1: the file is UTF-16"),
    "Latin-1": ({"t": "str"}, '{"t":"ä"}\n'.encode("latin-1"), "1: the line is not UTF-8 (byte 7)"),
    "no JSON": ({"t": "str"}, b'{"t":"a"}\n{"t":"a"\n', "2: no JSON"),
    "two records": ({"t": "str"}, b'{"t":"a"} {"t":"b"}\n', "1: no JSON: Extra data"),
    "raw control": ({"t": "str"}, b'{"t":"a\tb"}\n', "1: no JSON"),
    "list": ({"t": "str"}, b'["a"]\n', "1: a list where a record (a JSON object) is needed"),
    "text": ({"t": "str"}, b'"a"\n', "1: a text where a record"),
    "null": ({"t": "str"}, b"null\n", "1: null where a record"),
    "missing": ({"t": "str", "u": "str"}, b'{"t":"a"}\n', "1: the field u is missing"),
    "unknown": ({"t": "str"}, b'{"t":"a","u":"b"}\n', "1: the field 'u' is not known; the fields are t"),
    "twice": ({"t": "str"}, b'{"t":"a","t":"a"}\n', "1: the key 't' is there twice"),
    "twice, one empty": ({"t": "str"}, b'{"t":"","t":""}\n', "1: the key 't' is there twice"),
    "twice, escaped": ({"t": "str"}, b'{"t":"a","\\u0074":"b"}\n', "1: the key 't' is there twice"),
    "twice, hidden by quotes": ({"t": "str"}, b'{"t":"","t":"\\u0022\\u0022"}\n', "1: the key 't' is there twice"),
    "twice, below": ({"t": "dict"}, b'{"t":{"a":1,"a":1}}\n', "1: the key 'a' is there twice"),
    "twice, no texts": ({"t": "int"}, b'{"t":1,"t":2}\n', "1: the key 't' is there twice"),
    "NaN": ({"t": "float"}, b'{"t":NaN}\n', "1: the field t: NaN is no JSON number"),
    "infinity": ({"t": "float"}, b'{"t":-Infinity}\n', "1: the field t: -Infinity is no JSON number"),
    "overflow": ({"t": "float"}, b'{"t":1e999}\n', "1: the field t: the number 1e999 is larger than a double can hold"),
    "2^53": ({"t": "int"}, b'{"t":9007199254740992}\n', "1: the field t: the integer 9007199254740992 is past 2^53-1"),
    "-2^53": ({"t": "any"}, b'{"t":-9007199254740992}\n', "1: the field t: the integer -9007199254740992 is past 2^53-1"),
    "2^64": ({"t": "int"}, b'{"t":18446744073709551616}\n', "1: the field t: the integer 18446744073709551616 is past"),
    "2^64 as float": ({"t": "float"}, b'{"t":18446744073709551616}\n', "1: the field t: the integer 18446744073709551616 is"),
    "2^64 below": ({"t": "any"}, b'{"t":[{"a":18446744073709551616}]}\n', "1: the field t: the integer 18446744073709551616"),
    "very many digits": ({"t": "any"}, b'{"t":' + b"9" * 9999 + b"}\n", "1: the field t: the integer 9999"),
    "lone surrogate": ({"t": "str"}, b'{"t":"\\ud800"}\n', "1: the field t: a text holds the lone surrogate \\ud800"),
    "lone surrogate in a key": ({"t": "dict"}, b'{"t":{"\\udfff":1}}\n', "1: the field t: a text holds the lone surrogate"),
    "depth": ({"t": "any"}, b'{"t":' + b"[" * 5000 + b"]" * 5000 + b"}\n", "1: "),
    "str": ({"t": "str"}, b'{"t":1}\n', "1: the field t is an integer where a text is needed"),
    "int": ({"t": "int"}, b'{"t":1.5}\n', "1: the field t is a number where an integer is needed"),
    "int, true": ({"t": "int"}, b'{"t":true}\n', "1: the field t is true or false where an integer is needed"),
    "float": ({"t": "float"}, b'{"t":"1"}\n', "1: the field t is a text where a number is needed"),
    "float, true": ({"t": "float"}, b'{"t":true}\n', "1: the field t is true or false where a number is needed"),
    "bool": ({"t": "bool"}, b'{"t":1}\n', "1: the field t is an integer where true or false is needed"),
    "list[str]": ({"t": "list[str]"}, b'{"t":["a",1]}\n', "1: the field t at [1] is an integer where a text is"),
    "list[int]": ({"t": "list[int]"}, b'{"t":"a"}\n', "1: the field t is a text where a list is needed"),
    "dict": ({"t": "dict"}, b'{"t":[]}\n', "1: the field t is a list where an object is needed"),
}  # fmt: skip


@pytest.mark.parametrize("types, data, message", REFUSED.values(), ids=REFUSED)
def test_refused_with_line_and_field(types: dict[str, str], data: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(data, Fields(types))
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("types, data, message", REFUSED.values(), ids=REFUSED)
def test_line_is_right_far_into_a_file(types: dict[str, str], data: bytes, message: str) -> None:
    values = {
        "str": "x",
        "float": 0.5,
        "int": 1,
        "bool": True,
        "any": 1,
        "dict": {},
        "list[str]": [],
        "list[int]": [],
    }
    good = json.dumps({name: values[kind] for name, kind in types.items()}).encode() + b"\n"
    count = CHUNK_COUNT + 17
    with pytest.raises(InputError) as caught:
        read(good * count + data, Fields(types))
    line = int(message.partition(":")[0]) + count
    if "byte order mark" not in message and "UTF-16" not in message:
        assert caught.value.message.startswith(f"{line}:{message.partition(':')[2]}")
    else:
        assert caught.value.message.startswith(f"{line}: ")


ACCEPTED: dict[str, tuple[dict[str, str], bytes, bytes]] = {
    "spaces": ({"b": "str", "a": "str"}, b' { "b" : "x" , "a":"y"}\r\n', b'{"a":"y","b":"x"}'),
    "escapes": ({"t": "str"}, b'{"t":"\\u0022\\/\\u00e4\\ud83d\\ude00\\u001F"}', '{"t":"\\"/ä😀\\u001f"}'.encode()),
    "no last line end": ({"t": "str"}, b'{"t":""}', b'{"t":""}'),
    "whole float": ({"t": "float"}, b'{"t":1.0}\n', b'{"t":1}'),
    "minus nothing": ({"t": "float"}, b'{"t":-0.0}\n', b'{"t":0}'),
    "integer for float": ({"t": "float"}, b'{"t":3}\n', b'{"t":3}'),
    "exponents": ({"t": "list[float]"}, b'{"t":[1e22,1E-7,0.5,123456789.25]}\n', b'{"t":[1e+22,1e-7,0.5,123456789.25]}'),
    "large float": ({"t": "float"}, b'{"t":1e300}\n', b'{"t":1e+300}'),
    "any": ({"t": "any"}, b'{"t":{"b":[null,true],"a":1e0}}\n', b'{"t":{"a":1,"b":[null,true]}}'),
    "order of keys": ({"t": "dict"}, '{"t":{"\ufb33":1,"😀":2}}\n'.encode(), '{"t":{"😀":2,"\ufb33":1}}'.encode()),
    "limit": ({"t": "int"}, b'{"t":9007199254740991}', b'{"t":9007199254740991}'),
}  # fmt: skip


@pytest.mark.parametrize("types, data, expected", ACCEPTED.values(), ids=ACCEPTED)
def test_canonical_form(types: dict[str, str], data: bytes, expected: bytes) -> None:
    assert read(data, Fields(types)) == [expected]


def test_every_character_is_written_as_the_standard_says() -> None:
    texts = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    for start in range(0, len(texts), 50_000):
        records = [{"text": text} for text in texts[start : start + 50_000]]
        assert TEXT.encode(records) == [canonical(record) for record in records]


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9).map(
        float
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
records = st.fixed_dictionaries(
    {
        "a": st.text(),
        "b": numbers,
        "c": st.lists(st.text()),
        "d": values,
        "e": st.booleans(),
        "f": st.lists(numbers),
    }
)
EVERYTHING = Fields({"a": "str", "b": "float", "c": "list[str]", "d": "any", "e": "bool", "f": "list[float]"})


@given(st.lists(records, max_size=4), st.booleans())
def test_fast_and_slow_agree(made: list[dict[str, Any]], ascii_only: bool) -> None:
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in made]
    expected = [canonical(record) for record in made]
    assert read("\n".join(lines).encode(), EVERYTHING) == expected
    assert [record for chunk in encode_records(made, EVERYTHING, refuse) for record in chunk] == expected


odd_floats = (
    st.floats(width=64) | st.floats(width=32) | st.sampled_from([1e-5, 9e-6, 1e-6, 1e-7, 1e16, 1e21, -0.0])
)


@given(st.lists(st.fixed_dictionaries({"v": st.lists(odd_floats | numbers, max_size=20)}), max_size=4))
def test_lists_of_numbers_are_written_alike_for_many_records(made: list[dict[str, Any]]) -> None:
    fields = Fields({"v": "list[float]"})
    padding: list[dict[str, Any]] = [{"v": []}] * (fields_module.FEW + 1)
    try:
        expected = [canonical(record) for record in made]
    except NotCanonicalError:
        with pytest.raises(Unfit):
            fields.encode(made + padding)
    else:
        assert fields.encode(made + padding)[: len(made)] == expected


unread = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.just("\ud800"), st.text('"\\\n,')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(
        st.tuples(st.text(), st.none() | st.text(), st.dictionaries(st.text("xyz"), unread)), max_size=5
    ),
    st.booleans(),
)
def test_fast_and_slow_agree_on_what_is_taken(
    made: list[tuple[str, str | None, dict[str, Any]]], ascii_only: bool
) -> None:
    lines, expected, carried = [], [], []
    for text, name, others in made:
        ids = {} if name is None else {"id": name}
        line = json.dumps({**others, "body": text, **ids}, ensure_ascii=ascii_only)
        lines.append(line.encode("utf-8", "surrogatepass"))
        expected.append(canonical({"text": text}))
        carried.append({} if name is None else {"instance_id": name})
    kept: list[dict[str, Any]] = []
    intake = Intake(
        TEXT,
        mapping={"text": "body", "instance_id": "id"},
        keep=lambda found, count: kept.extend(found or [{}] * count),
    )
    chunks = read_chunks(io.BytesIO(b"\n".join(lines)), TEXT, refuse, intake=intake)
    if any(b"\xed\xa0\x80" in line for line in lines):
        with pytest.raises(InputError, match="is not UTF-8"):
            list(chunks)
        return
    assert [record for chunk in chunks for record in chunk] == expected
    assert kept == carried


@given(st.text(alphabet='"\\u0022:,{}ab', max_size=12), st.text(alphabet='"\\u0022:,{}ab', max_size=12))
def test_no_text_hides_a_duplicate_key(first: str, second: str) -> None:
    escaped = "".join("\\u0022" if character == '"' else json.dumps(character)[1:-1] for character in first)
    for one in (json.dumps(first), f'"{escaped}"'):
        line = f'{{"text":{json.dumps(second)},"text":{one}}}'
        with pytest.raises(InputError, match="the key 'text' is there twice"):
            read(line.encode())


@pytest.mark.parametrize("size", [1, 100, CHUNK_SIZE - 1, CHUNK_SIZE, 3 * CHUNK_SIZE + 5])
def test_lines_of_every_length_stay_whole(size: int) -> None:
    texts = ["a", "x" * size, "b", "y" * size]
    data = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)
    for given_data in (data, data[:-1]):
        assert [json.loads(record)["text"] for record in read(given_data)] == texts


@pytest.mark.parametrize("limit", [0, 1, CHUNK_COUNT, CHUNK_COUNT + 1, 10**6])
def test_limit(limit: int) -> None:
    count = 2 * CHUNK_COUNT
    data = b'{"text":"a"}\n' * count
    assert len(read(data, limit=limit)) == min(limit, count)


def test_records_of_python_name_the_item() -> None:
    with pytest.raises(InputError, match=r"9000: .*the integer 9007199254740992 at t is past"):
        list(encode_records([{"t": 1}] * 9000 + [{"t": 2**53}], Fields({"t": "int"}), refuse))
    with pytest.raises(InputError, match=r"0: .*nan at t is no JSON number"):
        list(encode_records([{"t": float("nan")}], Fields({"t": "float"}), refuse))
    with pytest.raises(InputError, match=r"0: set at t\[0\] is no JSON value"):
        list(encode_records([{"t": [{1}]}], Fields({"t": "any"}), refuse))
    with pytest.raises(InputError, match=r"0: .*not known"):
        list(encode_records([{1: "a"}], TEXT, refuse))


def test_unfit_names_the_index() -> None:
    with pytest.raises(Unfit) as caught:
        TEXT.encode([{"text": "a"}, {"text": 1}])
    assert caught.value.index == 1


def test_strict_parser_gives_what_json_gives() -> None:
    line = '{"a":[1,2.5,"ä\\n",null,true,{"b":{}}],"c":-0}'
    assert parse_strictly(line.encode()) == json.loads(line)
