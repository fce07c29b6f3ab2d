"""Parquet, Arrow files and saved datasets, written by pyarrow and read as inputs; outputs read by pyarrow."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from reprobuild.canonical import canonical
from reprobuild.errors import InputError
from reprobuild.predict import columns
from reprobuild.predict.beside import Beside
from reprobuild.predict.forms import Form
from reprobuild.predict.sinks import make_sink
from tests.forms import Read
from tests.projects import SOURCE

pytestmark = pytest.mark.once

TEXT = {"text": "str"}
SPLITS = {"splits": ["train", "test"]}
ALL = {
    "s": "str",
    "i": "int",
    "f": "float",
    "b": "bool",
    "l": "list[str]",
    "a": "any",
    "d": "dict",
    "n": "list[float]",
}
SCHEMA = pyarrow.schema(
    [
        ("s", pyarrow.string()),
        ("i", pyarrow.int64()),
        ("f", pyarrow.float64()),
        ("b", pyarrow.bool_()),
        ("l", pyarrow.list_(pyarrow.string())),
        ("a", pyarrow.list_(pyarrow.list_(pyarrow.int64()))),
        ("d", pyarrow.struct([("x", pyarrow.string())])),
        ("n", pyarrow.list_(pyarrow.float64())),
    ]
)


def save_dataset(folder: Path, tables: list[Any], *, rows: int = 3) -> Path:
    """Write what ``datasets.Dataset.save_to_disk`` writes: Arrow streams, named in their order."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{len(tables):05}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def write(path: Path, table: Any) -> Path:
    """Write a table in the form that its name says."""
    if path.suffix == ".parquet":
        parquet.write_table(table, str(path), row_group_size=4)
    elif path.suffix == ".arrow":
        with ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    elif path.suffix == ".feather":
        with ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        save_dataset(path, [table.slice(0, 5), table.slice(5)])
    return path


NAMES = ["in.parquet", "in.arrow", "in.feather", "folder"]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
integers = st.integers(-(2**53) + 1, 2**53 - 1)
rows = st.fixed_dictionaries(
    {
        "s": texts,
        "i": integers,
        "f": st.floats(allow_nan=False, allow_infinity=False),
        "b": st.booleans(),
        "l": st.lists(texts, max_size=3),
        "a": st.lists(st.lists(integers, max_size=2), max_size=2),
        "d": st.fixed_dictionaries({"x": st.none() | texts}),
        "n": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(made=st.lists(rows, max_size=9), name=st.sampled_from(NAMES))
def test_rows_are_read_as_they_were(tmp_path_factory: Any, made: list[dict[str, Any]], name: str) -> None:
    path = write(tmp_path_factory.mktemp("rows") / name, pyarrow.Table.from_pylist(made, schema=SCHEMA))
    read = Read(ALL, path)
    assert read.records == list(map(canonical, made))
    assert read.labels == [f"row {number} of {path}" for number in range(1, len(made) + 1)]
    assert Read(ALL, path, limit=2).records == read.records[:2]


@settings(max_examples=60, deadline=None)
@given(made=st.lists(rows, max_size=9), cut=st.integers(0, 9))
def test_what_is_written_reads_back(tmp_path_factory: Any, made: list[dict[str, Any]], cut: int) -> None:
    def written(*parts: list[dict[str, Any]]) -> bytes:
        found: list[bytes] = []
        form = Form("parquet")
        sink = make_sink(form, ALL, Beside(None, has_columns=True), found.append, has_failures=False)
        for part in parts:
            sink.write(b"".join(canonical(row) + b"\n" for row in part))
        sink.finish()
        return b"".join(found)

    data = written(made)
    assert written(made[:cut], made[cut:]) == data
    path = tmp_path_factory.mktemp("written") / "out.parquet"
    path.write_bytes(data)
    assert Read(ALL, path).records == list(map(canonical, made))
    table = parquet.read_table(io.BytesIO(data))
    assert table.column("s").to_pylist() == [row["s"] for row in made]
    assert str(table.schema.field("i").type) == "int64" and str(table.schema.field("f").type) == "double"


def table(name: str, values: list[Any], kind: Any = None) -> Any:
    return pyarrow.table({name: pyarrow.array(values, kind)})


TWICE = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
NOT_UTF8 = pyarrow.table(
    {"text": pyarrow.Array.from_buffers(pyarrow.string(), 2, pyarrow.array([b"a", b"\xff"]).buffers())}
)
REFUSED: dict[str, tuple[Any, Mapping[str, str], str]] = {
    "column missing": (table("txt", ["a"]), TEXT, ": the field text is missing (there is txt)"),
    "column twice": (TWICE, TEXT, ": the column 'text' is there twice"),
    "null": (table("text", ["a", None]), TEXT, ", row 2: the field text is null where a text is needed"),
    "bytes": (table("text", [b"a"]), TEXT, ", row 1: the field text is bytes where a text"),
    "not UTF-8": (NOT_UTF8, TEXT, ", row 2: the field text: 'utf-8' codec can't decode"),
    "number for text": (table("text", [1]), TEXT, ", row 1: the field text is an integer where a text"),
    "float for int": (table("n", [1.0]), {"n": "int"}, ", row 1: the field n is a number where an integer"),
    "NaN": (table("n", [0.5] * 8 + [float("nan")]), {"n": "float"}, ", row 9: nan at n is no JSON number"),
    "2^53": (table("n", [2**53]), {"n": "int"}, ", row 1: the integer 9007199254740992 at n is past"),
    "uint64": (
        table("n", [2**64 - 1], pyarrow.uint64()),
        {"n": "float"},
        ", row 1: the integer 18446744073709551615 at n is past",
    ),
    "time": (
        table("t", [datetime.datetime(2020, 1, 1)]),
        {"t": "any"},
        ", row 1: datetime at t is no JSON value",
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("made, types, message", REFUSED.values(), ids=REFUSED)
def test_refused_with_row_and_field(
    tmp_path: Path, name: str, made: Any, types: Mapping[str, str], message: str
) -> None:
    path = write(tmp_path / name, made)
    with pytest.raises(InputError) as caught:
        Read(types, path)
    assert caught.value.message.startswith(f"{path}{message}")


@pytest.mark.parametrize("name", ["in.parquet", "in.arrow", "in.feather"])
def test_cut_or_wrong_files_are_refused(tmp_path: Path, name: str) -> None:
    texts = [f"text {number}" for number in range(1000)]
    path = write(tmp_path / name, table("text", texts))
    whole = path.read_bytes()
    for size in (0, 1, 7, len(whole) // 3, len(whole) * 2 // 3, len(whole) - 9):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=name):
            Read(TEXT, path)
    path.write_bytes(b'{"text":"a"}\n' * 9)
    with pytest.raises(InputError, match=name):
        Read(TEXT, path)


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    cases: dict[str, dict[str, Any]] = {
        "it has no state.json": {},
        "it has splits; name one of them: .*/train, .*/test": {
            "dataset_dict.json": {"splits": ["train", "test"]}
        },
        "a selection of rows": {
            "state.json": {"_data_files": [], "_indices_data_files": [{"filename": "i"}]}
        },
        "does not name its files": {"state.json": {"_data_files": [{"filename": "../x"}]}},
        "state.json does not name": {"state.json": {}},
        "is no JSON object": {"state.json": []},
    }
    for number, (message, files) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, value in files.items():
            (folder / name).write_text(json.dumps(value))
        with pytest.raises(InputError, match=message):
            Read(TEXT, folder)
    saved = save_dataset(tmp_path / "cut", [table("text", ["a"]), table("text", ["b"])])
    (saved / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(InputError, match=r"cut: after row 1: .*No such file"):
        Read(TEXT, saved)


def test_large_rows_are_taken_in_small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "SIZE", 1 << 20)
    for name in NAMES:
        path = write(tmp_path / name, table("text", [chr(97 + n) * 300_000 for n in range(12)]))
        read = Read(TEXT, path)
        assert len(read.records) == 12
        assert max(map(len, read.chunks)) <= 4


def test_without_pyarrow_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "hidden" / "pyarrow").mkdir(parents=True)
    (tmp_path / "hidden" / "pyarrow" / "__init__.py").write_text("raise ImportError('hidden')")
    code = (
        "from pathlib import Path; from tests.forms import Read; from reprobuild.errors import UsageError\n"
        "try: Read({'text': 'str'}, Path('in.parquet'))\n"
        "except UsageError as error: print(error.message, '|', error.hint)"
    )
    path = os.pathsep.join([str(tmp_path / "hidden"), str(SOURCE)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert "in.parquet needs pyarrow" in done.stdout
    assert "pip install 'reprobuild[parquet]'" in done.stdout


DAMAGE = """
import random, sys
from pathlib import Path
from reprobuild.errors import InputError
from tests.forms import Read
path = Path(sys.argv[1])
types = {"s": "str", "l": "list[str]", "d": "dict", "f": "float"}
whole, chance, refused = path.read_bytes(), random.Random(7), 0
for _ in range(150):
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    try:
        Read(types, path)
    except InputError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("name", ["in.parquet", "in.arrow", "in.feather"])
def test_damage_is_an_error_or_another_value_and_nothing_worse(tmp_path: Path, name: str) -> None:
    # In a process of its own: whoever follows a damaged offset is ended by it.
    made = [{"s": f"text {n} é", "l": ["x", "y"], "d": {"x": "q"}, "f": n / 7} for n in range(40)]
    schema = pyarrow.schema([SCHEMA.field(name) for name in ("s", "l", "d", "f")])
    path = write(tmp_path / name, pyarrow.Table.from_pylist(made, schema=schema))
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_damage_of_what_we_wrote_is_an_error(tmp_path: Path) -> None:
    found: list[bytes] = []
    sink = make_sink(Form("parquet"), TEXT, Beside(None, has_columns=True), found.append, has_failures=False)
    sink.write(b"".join(b'{"text":"text %d"}\n' % number for number in range(500)))
    sink.finish()
    whole = b"".join(found)
    path = tmp_path / "out.parquet"
    # All but the footer, in which much says nothing of the rows.
    for place in range(4, len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), 41):
        data = bytearray(whole)
        data[place] ^= 0x20
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            rows = [json.loads(record)["text"] for record in Read(TEXT, path).records]
            assert rows == [f"text {number}" for number in range(500)], f"byte {place}"


MEASURE = """
import re, sys
from pathlib import Path
from reprobuild.predict.fields import Fields
from reprobuild.predict.forms import form_of
from reprobuild.predict.intake import Intake
from reprobuild.predict.sources import Sources
intake = Intake(Fields({"text": "str"}))
sources = Sources([(sys.argv[1], form_of(sys.argv[1], ""))], intake, staged=None, folder=None, hint="")
count = sum(map(len, sources.chunks()))
print(count, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.parquet", "in.arrow"])
def test_memory_does_not_grow_with_the_input(tmp_path: Path, name: str) -> None:
    peaks = []
    for count in (25_000, 100_000):
        lines = [f"{number} " * 150 for number in range(count)]
        made = table("text", lines)
        path = tmp_path / name
        if name == "in.parquet":
            parquet.write_table(made, str(path), row_group_size=count, use_dictionary=False)
        elif name == "in.arrow":
            write(path, made)
        else:
            data = "text\n" + "\n".join(lines) + "\n"
            path.write_bytes(gzip.compress(data.encode(), 1) if name.endswith(".gz") else data.encode())
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        found, peak = map(int, done.stdout.split())
        assert found == count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 20_000, f"{peaks} KiB for 25,000 and 100,000 rows of 900 bytes"
