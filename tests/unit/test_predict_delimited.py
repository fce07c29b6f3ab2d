"""CSV and TSV: what is right comes out right, what is not is refused with its line; nothing is shifted."""

# ruff: noqa: E501 -- a table has one case a line

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reprobuild.canonical import canonical
from reprobuild.errors import InputError
from reprobuild.predict import delimited
from reprobuild.predict.beside import Beside
from reprobuild.predict.forms import said_form
from reprobuild.predict.records import CHUNK_COUNT
from reprobuild.predict.sinks import make_sink
from tests.forms import Read

pytestmark = pytest.mark.once

TEXT = {"text": "str"}
ALL = {"s": "str", "i": "int", "f": "float", "b": "bool", "l": "list[str]", "a": "any"}

RIGHT: dict[str, tuple[str, Mapping[str, str], bytes, list[dict[str, Any]]]] = {
    "plain": ("csv", {"a": "str", "b": "str"}, b"a,b\n1,2\n3,4\n", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
    "other order": ("csv", {"a": "str", "b": "str"}, b"b,a\n1,2\n", [{"a": "2", "b": "1"}]),
    "no last line end": ("csv", TEXT, b"text\na", [{"text": "a"}]),
    "CRLF": ("csv", TEXT, b"text\r\na\r\nb\r\n", [{"text": "a"}, {"text": "b"}]),
    "byte order mark": ("csv", TEXT, b"\xef\xbb\xbftext\na\n", [{"text": "a"}]),
    "header alone": ("csv", TEXT, b"text\n", []),
    "header alone, no line end": ("csv", TEXT, b"text", []),
    "quoted newline": ("csv", TEXT, b'text\n"a\nb"\nc\n', [{"text": "a\nb"}, {"text": "c"}]),
    "quoted CRLF stays": ("csv", TEXT, b'text\r\n"a\r\nb"\r\n', [{"text": "a\r\nb"}]),
    "quoted CR stays": ("csv", TEXT, b'text\n"a\rb\r"\n', [{"text": "a\rb\r"}]),
    "quoted comma and quotes": ("csv", TEXT, b'text\n"a,""b"""\n', [{"text": 'a,"b"'}]),
    "quotation mark inside": ("csv", TEXT, b'text\na"b\n', [{"text": 'a"b'}]),
    "quoted nothing": ("csv", TEXT, b'text\n""\n', [{"text": ""}]),
    "empty cell": ("csv", {"a": "str"}, b"a,b\n,x\n", [{"a": ""}]),
    "spaces stay": ("csv", TEXT, b"text\n a \n", [{"text": " a "}]),
    "tab and NUL": ("csv", TEXT, b"text\na\tb\0c\n", [{"text": "a\tb\0c"}]),
    "other line ends stay": ("csv", TEXT, "text\na\u2028b\x85c\x0bd\x1ce\n".encode(), [{"text": "a\u2028b\x85c\x0bd\x1ce"}]),
    "numbers": ("csv", {"i": "int", "f": "float"}, b"i,f\n-7,1e3\n0,.5\n9007199254740991,-0.0\n", [{"i": -7, "f": 1000}, {"i": 0, "f": 0.5}, {"i": 9007199254740991, "f": 0}]),
    "truth": ("csv", {"b": "bool"}, b"b\ntrue\nFalse\n", [{"b": True}, {"b": False}]),
    "lists": ("csv", {"l": "list[int]"}, b'l\n"[1,2]"\n[]\n', [{"l": [1, 2]}, {"l": []}]),
    "anything": ("csv", {"a": "any"}, b'a\n"""x"""\nnull\n1\n"{""b"":[[]]}"\n', [{"a": "x"}, {"a": None}, {"a": 1}, {"a": {"b": [[]]}}]),
    "digits as text": ("csv", TEXT, b"text\n007\nNaN\n", [{"text": "007"}, {"text": "NaN"}]),
    "TSV": ("tsv", {"a": "str", "b": "str"}, b'a\tb\nx,y\the "said" no\n', [{"a": "x,y", "b": 'he "said" no'}]),
    "TSV, CRLF": ("tsv", TEXT, b"text\r\na\r\n", [{"text": "a"}]),
    "TSV, quoted": ("tsv-quoted", {"a": "str", "b": "str"}, b'a\tb\n"x\ty"\t"p\nq"\n', [{"a": "x\ty", "b": "p\nq"}]),
    "TSV, plain": ("tsv-plain", {"a": "str", "b": "str"}, b'a\tb\n"Hello.\t1\nBye."\t2\n', [{"a": '"Hello.', "b": "1"}, {"a": 'Bye."', "b": "2"}]),
}  # fmt: skip


@pytest.mark.parametrize("form, types, data, expected", RIGHT.values(), ids=RIGHT)
def test_right(
    tmp_path: Path, form: str, types: Mapping[str, str], data: bytes, expected: list[dict[str, Any]]
) -> None:
    (tmp_path / "in").write_bytes(data)
    assert Read(types, tmp_path / "in", form=form).records == list(map(canonical, expected))


REFUSED: dict[str, tuple[str, Mapping[str, str], bytes, str]] = {
    "empty file": ("csv", TEXT, b"", "line 1: the file is empty; a first line with the names of the columns is needed"),
    "UTF-16": ("csv", TEXT, "text\na\n".encode("utf-16"), "line 1: the file is UTF-16"),
    "Latin-1": ("csv", TEXT, "text\na\nä\n".encode("latin-1"), "line 3: the line is not UTF-8"),
    "lone surrogate": ("csv", TEXT, b"text\na\n\xed\xa0\x80\n", "line 3: the line is not UTF-8"),
    "column missing": ("csv", TEXT, b"txt,id\na,1\n", "line 1: the field text is missing (there is txt, id)"),
    "no header": ("csv", TEXT, b'{"text": "a"}\n', "line 1: the field text is missing"),
    "column twice": ("csv", TEXT, b"text,text\na,b\n", "line 1: the column 'text' is there twice"),
    "other column twice": ("csv", TEXT, b"text,x,x\na,b,c\n", "line 1: the column 'x' is there twice"),
    "row too long": ("csv", TEXT, b"text\na\nb,c\n", "line 3: the row has 2 values, the header 1"),
    "row too short": ("csv", {"a": "str"}, b"a,b\n1,2\n3\n", "line 3: the row has 1 value, the header 2"),
    "row too short after newlines": ("csv", {"a": "str"}, b'a,b\n"1\n\n",2\n3\n', "line 5: the row has 1 value"),
    "empty line": ("csv", TEXT, b"text\na\n\nb\n", "line 3: the line is empty"),
    "empty last line": ("csv", TEXT, b"text\na\n\n", "line 3: the line is empty"),
    "empty first line": ("csv", TEXT, b"\ntext\na\n", "line 1: the line is empty"),
    "never closed": ("csv", TEXT, b'text\na\n"b\nc\n', "line 3: a quotation mark is opened and never closed"),
    "behind the quotes": ("csv", TEXT, b'text\n"a"b\n', "line 2: something follows a closing quotation mark"),
    "CR alone": ("csv", TEXT, b"text\ra\rb\r", "line 1: a carriage return stands alone"),
    "CR inside": ("csv", TEXT, b"text\na\rb\n", "line 2: a carriage return stands alone"),
    "CR CR LF": ("csv", TEXT, b"text\na\r\r\n", "line 2: a carriage return stands alone"),
    "CR at the end": ("csv", TEXT, b"text\na\r", "line 2: a carriage return stands alone"),
    "no integer": ("csv", {"a": "int"}, b"a,b\n1,x\nx,y\n", "line 3: the field a (column 1) is 'x' where an integer is needed"),
    "fraction": ("csv", {"b": "int"}, b"a,b\n1,1.0\n", "line 2: the field b (column 2) is '1.0' where an integer is needed"),
    "spaces": ("csv", {"a": "int"}, b"a\n 1\n", "line 2: the field a (column 1) is ' 1' where an integer"),
    "leading zeros": ("csv", {"a": "int"}, b"a\n007\n", "line 2: the field a (column 1) is '007' where an integer"),
    "underscores": ("csv", {"a": "float"}, b"a\n1_000\n", "line 2: the field a (column 1) is '1_000' where a number"),
    "other digits": ("csv", {"a": "int"}, "a\n٣\n".encode(), "line 2: the field a (column 1) is '\\u0663' where an integer"),
    "2^53": ("csv", {"a": "int"}, b"a\n9007199254740992\n", "line 2: the field a (column 1) is the integer 9007199254740992, which is past 2^53-1"),
    "2^64 as float": ("csv", {"a": "float"}, b"a\n18446744073709551616\n", "line 2: the field a (column 1) is the integer 18446744073709551616, which"),
    "many digits": ("csv", {"a": "int"}, b"a\n" + b"9" * 99_999 + b"\n", "line 2: the field a (column 1) is the integer 9999"),
    "NaN": ("csv", {"a": "float"}, b"a\nNaN\n", "line 2: the field a (column 1) is 'NaN' where a number is needed"),
    "infinity": ("csv", {"a": "float"}, b"a\ninf\n", "line 2: the field a (column 1) is 'inf' where a number"),
    "overflow": ("csv", {"a": "float"}, b"a\n1e999\n", "line 2: the field a (column 1) is 1e999, which is larger than a double"),
    "no number": ("csv", {"a": "float"}, b"a,b\n,x\n", "line 2: the field a (column 1) is empty where a number"),
    "no truth": ("csv", {"a": "bool"}, b"a\n1\n", "line 2: the field a (column 1) is '1' where true or false"),
    "no JSON": ("csv", {"a": "list[str]"}, b"a\nx\n", "line 2: the field a (column 1) is 'x' where JSON is needed: no JSON"),
    "wrong list": ("csv", {"a": "list[str]"}, b"a\n[1]\n", "line 2: the field a at [0] is an integer where a text"),
    "list with NaN": ("csv", {"a": "list[float]"}, b"a\n[NaN]\n", "line 2: the field a (column 1) is '[NaN]' where JSON is needed: NaN is no JSON number"),
    "surrogate in JSON": ("csv", {"a": "any"}, b'a\n"""\\ud800"""\n', "line 2: the field a (column 1) is "),
    "depth": ("csv", {"a": "list"}, b"a\n" + b"[" * 100_000 + b"]" * 100_000, "line 2: the field a (column 1) holds lists or objects that are nested too deeply"),
    "TSV, quoted or not": ("tsv", {"a": "str"}, b'a\tb\nx\ty\nx\t"y"\n', "line 3: the value in column 2 begins with a quotation mark: say --format tsv-quoted"),
    "TSV, header quoted or not": ("tsv", {"a": "str"}, b'"a"\tb\n', "line 1: the value in column 1 begins with"),
    "TSV, CR inside": ("tsv", TEXT, b"text\na\rb\n", "line 2: a carriage return stands alone"),
    "TSV, ragged": ("tsv", {"a": "str"}, b"a\tb\n1\t2\t3\n", "line 2: the row has 3 values, the header 2"),
    "gzip": ("csv", TEXT, b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "it is compressed (gzip): give its name the ending .gz, or --format csv.gz"),
    "Parquet": ("csv", TEXT, b"PAR1\x15\x04", "it is Parquet: give its name the ending .parquet"),
}  # fmt: skip


@pytest.mark.parametrize("form, types, data, message", REFUSED.values(), ids=REFUSED)
def test_refused_with_line_and_field(
    tmp_path: Path, form: str, types: Mapping[str, str], data: bytes, message: str
) -> None:
    path = tmp_path / "in"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        Read(types, path, form=form)
    assert caught.value.message.startswith(f"{path}{', ' if message.startswith('line') else ': '}{message}")


def test_line_is_right_far_into_a_file(tmp_path: Path) -> None:
    rows = CHUNK_COUNT + 17
    (tmp_path / "in.csv").write_text('n,text\n1,"a\nb"\n' + "2,c\n" * rows + "x,d\n")
    with pytest.raises(InputError, match=rf"in\.csv, line {rows + 4}: the field n \(column 1\) is 'x'"):
        Read({"n": "int"}, tmp_path / "in.csv")


def test_values_of_every_length_stay_whole(tmp_path: Path) -> None:
    texts = ["a", "x" * 10_000_000, "\n" * 3_000_000, "b", 'y"' * 700_000, ""]
    with open(tmp_path / "in.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    read = Read(TEXT, tmp_path / "in.csv")
    assert [json.loads(record)["text"] for record in read.records] == texts
    assert read.labels[3] == f"record 4 of {tmp_path / 'in.csv'}"


def test_value_without_end_is_refused_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "LONGEST_LINE", 1 << 20)
    before = csv.field_size_limit(1)
    try:
        for text in ('text\n"' + "x\n" * (1 << 20), "text\n" + "x" * (3 << 20)):
            (tmp_path / "in.csv").write_text(text)
            with pytest.raises(InputError, match=r"line 2: (a value|the line) is longer than"):
                Read(TEXT, tmp_path / "in.csv")
    finally:
        csv.field_size_limit(before)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text('",\r\n\t\0a ', max_size=6)
integers = st.integers(-(2**53) + 1, 2**53 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False) | integers.map(float)
rows = st.fixed_dictionaries(
    {
        "s": texts,
        "i": integers,
        "f": numbers.filter(lambda number: not number.is_integer() or abs(number) < 2**53),
        "b": st.booleans(),
        "l": st.lists(texts, max_size=3),
        "a": st.none() | texts | integers | st.lists(st.lists(texts, max_size=2), max_size=2),
    }
)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@QUIET
@given(
    st.lists(rows, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_python_writes_is_read_as_it_was(
    tmp_path: Path, made: list[dict[str, Any]], end: str, quoting: Any
) -> None:
    path = tmp_path / "in.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        # With both in it every version of Python quotes both.
        writer = csv.writer(file, lineterminator=end, quoting=quoting if end == "\r\n" else csv.QUOTE_ALL)
        writer.writerow(ALL)
        for row in made:
            cells = (json.dumps(row["l"]), json.dumps(row["a"]))
            writer.writerow([row["s"], row["i"], repr(row["f"]), str(row["b"]), *cells])
    assert Read(ALL, path).records == list(map(canonical, made))


@QUIET
@given(st.lists(rows, max_size=5), st.sampled_from(["csv", "tsv-quoted"]), st.booleans())
def test_what_is_written_reads_back(
    tmp_path: Path, made: list[dict[str, Any]], form: str, is_single: bool
) -> None:
    types = {"s": "str"} if is_single else ALL
    made = [{name: row[name] for name in types} for row in made]
    written: list[bytes] = []
    sink = make_sink(
        said_form(form, ""), types, Beside(None, has_columns=True), written.append, has_failures=False
    )
    sink.write(b"".join(canonical(row) + b"\n" for row in made))
    sink.finish()
    path = tmp_path / "out"
    path.write_bytes(b"".join(written))
    assert Read(types, path, form=form).records == list(map(canonical, made))
    delimiter = "," if form == "csv" else "\t"
    table = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), delimiter=delimiter))
    assert [row[0] for row in table[1:]] == [row["s"] for row in made]


pieces = st.sampled_from(
    [
        b"a",
        b"b",
        b",",
        b'"',
        b'""',
        b"\n",
        b"\r\n",
        b"\r",
        b"\t",
        b"\0",
        b" ",
        b"\xef\xbb\xbf",
        b"\xff",
        "é".encode(),
    ]
)


@QUIET
@given(
    st.lists(pieces, max_size=14).map(b"".join) | st.binary(max_size=20),
    st.sampled_from(["csv", "tsv", "tsv-plain", "tsv-quoted"]),
    st.sampled_from([b"a,b", b"a\tb", b"a", b""]),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_whatever_the_bytes_rows_are_right_or_refused(
    tmp_path: Path, data: bytes, form: str, header: bytes, end: bytes
) -> None:
    path = tmp_path / "in"
    whole = header + end + data
    path.write_bytes(whole)
    try:
        read = Read({"a": "str"}, path, form=form, keeps_input=True)
    except InputError:
        return
    text = whole.removeprefix(b"\xef\xbb\xbf").decode()
    if form in ("csv", "tsv-quoted"):
        delimiter = "," if form == "csv" else "\t"
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    else:
        table = [line.removesuffix("\r").split("\t") for line in text.removesuffix("\n").split("\n")]
    assert [json.loads(line)["input"] for line in read.carried] == [
        dict(zip(table[0], row, strict=True)) for row in table[1:]
    ]
    assert [json.loads(record)["a"] for record in read.records] == [
        row[table[0].index("a")] for row in table[1:]
    ]
