"""From file to file in other forms: fields by other names, what goes past, several inputs, metrics."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from reprobuild.derivation.predictors import File, predictor
from reprobuild.errors import InputError, OutsideError, PredictionFailedError, ReprobuildError, UsageError
from reprobuild.events import Note
from reprobuild.predict.call import Options, Summary
from reprobuild.predict.files import Shape, predict_file
from reprobuild.predict.forms import said_form
from tests.host_engine import HostEngine, make_target

pytestmark = pytest.mark.once


class Bench:
    """A target on the host, and a folder of inputs and outputs."""

    def __init__(self, folder: Path, **predictors: Any) -> None:
        self.folder = folder
        self.engine = HostEngine()
        self.target = make_target(folder, self.engine, **predictors)
        self.notes: list[str] = []

    def put(self, name: str, data: bytes | str) -> str:
        path = self.folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    def lines(self, name: str, *records: Any) -> str:
        return self.put(name, "".join(json.dumps(record) + "\n" for record in records))

    def predict(
        self,
        sources: str | Sequence[str],
        out: str | None = "out.jsonl",
        limit: int | None = None,
        keep_going: bool = False,
        **shape: Any,
    ) -> Summary:
        return predict_file(
            self.target,
            "default",
            sources,
            out if out in (None, "-") else str(self.folder / out),
            options=Options(keep_going=keep_going),
            limit=limit,
            tell=lambda event: self.notes.append(event.text) if isinstance(event, Note) else None,
            shape=Shape(**shape),
        )

    def got(self, name: str = "out.jsonl") -> list[Any]:
        return [json.loads(line) for line in (self.folder / name).read_bytes().split(b"\n")[:-1]]

    def rows(self, name: str) -> list[list[str]]:
        return list(csv.reader(io.StringIO((self.folder / name).read_bytes().decode(), newline="")))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def table(path: Path, columns: dict[str, list[Any]]) -> str:
    parquet.write_table(pyarrow.table(columns), str(path))
    return str(path)


def test_inputs_of_all_forms_in_their_order(bench: Bench) -> None:
    sources = [
        bench.lines("1.jsonl", {"text": "ab"}, {"text": "cd"}),
        bench.put("2.csv", "text\nef\n"),
        bench.put("3.tsv.gz", gzip.compress(b"id\ttext\n1\tgh\n")),
        table(bench.folder / "4.parquet", {"text": ["ij", "ab"]}),
        bench.put("5.csv", "text\n"),
        bench.put("6", '{"text":"kl"}'),
    ]
    summary = bench.predict(sources)
    assert [one["output"] for one in bench.got()] == ["ba", "dc", "fe", "hg", "ji", "ba", "lk"]
    assert (summary.items, summary.computed) == (7, 6)
    assert bench.predict(sources, limit=3).items == 3
    assert [one["output"] for one in bench.got()] == ["ba", "dc", "fe"]
    assert len(bench.engine.commands) == 1, "the same record is the same prediction in every form"


def test_record_that_fails_is_named_by_its_input(tmp_path: Path) -> None:
    lacking = predictor('head -3 {input} | sed "s/text/output/" > {output}', **TEXTS)
    bench = Bench(tmp_path, default=lacking)
    sources = [bench.lines("a.jsonl", {"text": "1"}), bench.put("b.csv", 'text\n"2\n"\n3\n4\n')]
    with pytest.raises(PredictionFailedError, match=rf"record 3 of {tmp_path}/b\.csv"):
        bench.predict(sources)
    with pytest.raises(InputError, match=rf"{tmp_path}/a\.jsonl, line 2: "):
        bench.predict([bench.put("a.jsonl", '{"text":"1"}\n{"text":1}\n'), *sources[1:]])


TEXTS: dict[str, Any] = {"inputs": {"text": str}, "outputs": {"output": str}, "scope": "item"}
TABLES = ["out.csv", "out.tsv", "out.parquet"]


@pytest.mark.parametrize("many", [False, True])
def test_instance_id_goes_past_the_predictor(bench: Bench, many: bool) -> None:
    count = 5000 if many else 3
    records = [{"text": f"t{n}", "instance_id": f"i{n}"} for n in range(count)]
    del records[1]["instance_id"]
    bench.predict(bench.lines("in.jsonl", *records))
    assert b"".join(bench.engine.inputs) == b"".join(b'{"text":"t%d"}\n' % n for n in range(count))
    expected: list[dict[str, Any]] = [{"instance_id": f"i{n}", "output": f"t{n}"[::-1]} for n in range(count)]
    del expected[1]["instance_id"]
    assert bench.got() == expected
    others = [{"text": f"t{n}", "instance_id": n} for n in range(count)]
    assert bench.predict(bench.lines("in.jsonl", *others)).cached == count, "it is in no key"
    assert bench.got() == [{"instance_id": n, "output": f"t{n}"[::-1]} for n in range(count)]
    for name in TABLES:
        bench.predict(bench.lines("in.jsonl", *records), name)
    assert bench.rows("out.csv")[:3] == [["instance_id", "output"], ["i0", "0t"], ["", "1t"]]
    found = parquet.read_table(str(bench.folder / "out.parquet")).to_pylist()
    assert found[:2] == [{"instance_id": "i0", "output": "0t"}, {"instance_id": None, "output": "1t"}]
    assert not bench.notes


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("value", ["1.5", "null", "[]", "9007199254740993", "1" + "0" * 20, '"\\ud800"'])
def test_instance_id_that_is_none_is_refused(bench: Bench, value: str, many: bool) -> None:
    line = f'{{"text":"a","instance_id":{value}}}\n'
    before = '{"text":"a","instance_id":"i"}\n' * (5000 if many else 1)
    with pytest.raises(InputError, match=rf"line {5001 if many else 2}: the field instance_id"):
        bench.predict(bench.put("in.jsonl", before + line))
    assert not bench.engine.commands


def test_instance_id_that_the_predictor_declares_is_a_field_like_any_other(tmp_path: Path) -> None:
    takes = predictor(
        "cp {input} {output}", inputs={"instance_id": str}, outputs={"instance_id": str}, scope="item"
    )
    bench = Bench(tmp_path, default=takes)
    bench.predict(bench.lines("in.jsonl", {"instance_id": "a"}))
    assert bench.engine.inputs[0] == b'{"instance_id":"a"}\n'
    assert bench.got() == [{"instance_id": "a"}]


@pytest.mark.parametrize("many", [False, True])
def test_other_fields_are_ignored_and_named_once(bench: Bench, many: bool) -> None:
    # What is ignored may be what no record could hold.
    line = '{"text":"a","big":18446744073709551616,"bad":"\\ud800","nan":NaN}\n'
    bench.predict(bench.put("in.jsonl", line + '{"text":"b","more":[]}\n' * (5000 if many else 1)))
    assert [one["output"] for one in bench.got()][:2] == ["a", "b"]
    assert bench.notes == ["ignored, since tutorial/default does not take it: big, bad, nan, more"]
    with pytest.raises(InputError, match=r"line 1: the key 'more' is there twice"):
        bench.predict(bench.put("in.jsonl", '{"text":"a","more":1,"more":2}\n' * (5000 if many else 1)))
    with pytest.raises(InputError, match=r"line 1: the field text is missing \(there is texts, id\)"):
        bench.predict(bench.put("in.jsonl", '{"texts":"a","id":1}\n' * (5000 if many else 1)))


def test_fields_by_other_names(bench: Bench) -> None:
    mapping = {"text": "article", "instance_id": "id"}
    for source in (
        bench.lines("in.jsonl", {"article": "ab", "id": "7", "text": "no"}),
        bench.put("in.csv", "id,text,article\n7,no,ab\n"),
        table(bench.folder / "in.parquet", {"article": ["ab"], "id": ["7"], "text": ["no"]}),
    ):
        bench.predict(source, mapping=mapping)
        assert bench.got() == [{"instance_id": "7", "output": "ba"}]
        assert bench.notes.pop() == "ignored, since tutorial/default does not take it: text"
    with pytest.raises(InputError, match=r"in\.csv, line 1: the field body is missing \(there is id, tex"):
        bench.predict(str(bench.folder / "in.csv"), mapping={"text": "body"})
    with pytest.raises(UsageError, match="--map texts=a: texts is no field of the predictor"):
        bench.predict(str(bench.folder / "in.csv"), mapping={"texts": "a"})


@pytest.mark.parametrize("many", [False, True])
def test_inputs_beside_their_outputs(bench: Bench, many: bool) -> None:
    count = 5000 if many else 2
    records = [{"text": f"t{n}", "instance_id": f"i{n}", "n": n, "l": ["x"], "x": None} for n in range(count)]
    source = bench.lines("in.jsonl", *records)
    bench.predict(source, include_input=True)
    expected = [
        {"instance_id": one["instance_id"], "input": one, "output": str(one["text"])[::-1]} for one in records
    ]
    assert bench.got() == expected
    assert b"instance" not in bench.engine.inputs[0]
    for name in TABLES:
        bench.predict(source, name, include_input=True)
    names = ["instance_id", "input.text", "input.instance_id", "input.n", "input.l", "input.x", "output"]
    assert bench.rows("out.csv")[:2] == [names, ["i0", "t0", "i0", "0", '["x"]', "", "0t"]]
    found = parquet.read_table(str(bench.folder / "out.parquet"))
    assert found.column_names == names
    assert found.column("input.n").to_pylist() == list(range(count))
    assert found.column("input.l").to_pylist() == ['["x"]'] * count
    with pytest.raises(InputError, match="the integer 18446744073709551616 is past"):
        lines = '{"text":"a","n":18446744073709551616}\n' * (5000 if many else 1)
        bench.predict(bench.put("in.jsonl", lines), include_input=True)


@pytest.mark.parametrize("many", [False, True])
def test_what_is_nested_deeply(bench: Bench, many: bool) -> None:
    for depth in (200, 300, 600):
        line = '{"text":"a","n":' + "[" * depth + "]" * depth + "}\n"
        source = bench.put("in.jsonl", line + '{"text":"b"}\n' * (5000 if many else 1))
        bench.predict(source)
        assert [one["output"] for one in bench.got()[:2]] == ["a", "b"]
        for name in ("out.jsonl", "out.csv", "out.parquet"):
            bench.predict(source, name, include_input=True)
        assert (bench.folder / "out.jsonl").read_bytes().startswith(b'{"input":' + line[:-1].encode())
    for depth in (2000, 200_000):
        line = '{"text":"a","n":' + "[" * depth + "]" * depth + "}\n"
        with pytest.raises(InputError, match="nested too deeply"):
            bench.predict(bench.put("in.jsonl", line + '{"text":"b"}\n' * (5000 if many else 1)))


def test_columns_beside_their_outputs(bench: Bench) -> None:
    source = table(bench.folder / "in.parquet", {"text": ["ab", "cd"], "n": [1, 2], "f": [0.5, 1.0]})
    bench.predict(source, include_input=True)
    assert bench.got()[0] == {"input": {"text": "ab", "n": 1, "f": 0.5}, "output": "ba"}
    bench.predict(source, "out.parquet", include_input=True)
    bench.predict(str(bench.folder / "out.parquet"), "again.jsonl", mapping={"text": "input.text"})
    assert bench.got("again.jsonl") == [{"output": "ba"}, {"output": "dc"}]
    with pytest.raises(InputError, match="row 2: the field f: nan is no JSON number"):
        nan = table(bench.folder / "nan.parquet", {"text": ["a", "b"], "f": [0.5, float("nan")]})
        bench.predict(nan, include_input=True)
    bench.predict(bench.put("in.csv", "text,note\nab,1\n"), include_input=True)
    assert bench.got() == [{"input": {"text": "ab", "note": "1"}, "output": "ba"}]


@pytest.mark.parametrize("name", ["out.jsonl.gz", "out.csv.xz", "out.tsv.zst", "out.csv.bz2", "out.parquet"])
def test_outputs_are_the_same_bytes_computed_or_cached(bench: Bench, name: str) -> None:
    texts = [f"text {n} " * 100 for n in range(1500)]
    texts[7] = "long " * 700_000
    source = bench.put("in.csv", "text\n" + "\n".join(texts) + "\n")
    bench.predict(source, name)
    first = (bench.folder / name).read_bytes()
    bench.predict(source, name)
    assert (bench.folder / name).read_bytes() == first
    bench.predict(str(bench.folder / name), "again.jsonl", mapping={"text": "output"})
    assert [one["output"] for one in bench.got("again.jsonl")] == texts


@pytest.mark.parametrize("name", [*TABLES, "out.csv.gz", "out.jsonl"])
def test_no_records_make_an_output_without_records(bench: Bench, name: str) -> None:
    assert bench.predict(bench.put("in.csv", "text\n"), name).items == 0
    assert bench.predict(str(bench.folder / name), "again.jsonl", mapping={"text": "output"}).items == 0
    assert bench.got("again.jsonl") == []
    assert not bench.engine.commands


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl.gz"])
def test_full_disk_is_said_once(bench: Bench, form: str) -> None:
    source = bench.lines("in.jsonl", *({"text": f"text {n}"} for n in range(200)))
    with pytest.raises(OutsideError, match="/dev/full can't be written: No space left on device"):
        bench.predict(source, "/dev/full", output_form=said_form(form, ""))
    gc.collect()  # what pyarrow would still write, it writes now


@pytest.mark.parametrize("name", [*TABLES, "out.csv.gz"])
def test_failure_leaves_the_output_as_it_was(bench: Bench, name: str) -> None:
    bench.put(name, "as it was")
    with pytest.raises(InputError):
        bench.predict(bench.put("in.csv", "text,x\n" + "a,b\n" * 20_000 + "a\n"), name)
    assert (bench.folder / name).read_text() == "as it was"
    assert sorted(path.name for path in bench.folder.glob("*.*")) == sorted({"in.csv", name})


def test_plain_tsv_has_no_way_to_write_a_tab(bench: Bench) -> None:
    source = bench.lines("in.jsonl", {"text": "a\tb"})
    with pytest.raises(ReprobuildError, match="an output holds a tab or a line end"):
        bench.predict(source, "out.tsv", output_form=said_form("tsv-plain", ""))
    assert not (bench.folder / "out.tsv").exists()
    bench.predict(bench.lines("in.jsonl", {"text": '"a"'}), "out.tsv", output_form=said_form("tsv-plain", ""))
    assert (bench.folder / "out.tsv").read_text() == 'output\n"a"\n'


def test_files_of_tables_travel_by_digest(tmp_path: Path) -> None:
    command = (
        'python3 -c "import json, sys\n'
        "for line in open(sys.argv[1]):\n"
        "    path = json.loads(line)['path'].replace('/in', sys.argv[1].rpartition('/')[0])\n"
        "    print(json.dumps({'output': open(path).read()}))\" {input} > {output}"
    )
    kinds: dict[str, Any] = {"inputs": {"path": File}, "outputs": {"output": str}, "scope": "item"}
    bench = Bench(tmp_path, default=predictor(command, **kinds))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text(name)
    sources = [
        bench.put("a/in.csv", "path\none.txt\n"),
        bench.put("b/in.csv", "path\none.txt\n../a/one.txt\n"),
    ]
    assert bench.predict(sources).computed == 2
    assert [one["output"] for one in bench.got()] == ["a", "b", "a"]
    assert str(tmp_path).encode() not in bench.engine.inputs[0]
    with pytest.raises(InputError, match=r"b/in\.csv, line 2: the field path names 'x', which does not"):
        bench.predict([sources[0], bench.put("b/in.csv", "path\nx\n")])


def test_files_that_columns_hold_travel_by_digest(tmp_path: Path) -> None:
    command = (
        'python3 -c "import json, sys\n'
        "for line in open(sys.argv[1]):\n"
        "    path = json.loads(line)['path'].replace('/in', sys.argv[1].rpartition('/')[0])\n"
        "    print(json.dumps({'output': open(path).read() + path[-4:]}))\" {input} > {output}"
    )
    kinds: dict[str, Any] = {"inputs": {"path": File}, "outputs": {"output": str}, "scope": "item"}
    bench = Bench(tmp_path, default=predictor(command, **kinds))
    (tmp_path / "c.txt").write_text("c")
    (bench.target.store / "tmp").mkdir(parents=True)
    held = [
        {"bytes": b"a", "path": "/elsewhere/a.png"},
        {"bytes": b"b", "path": None},
        {"bytes": None, "path": "c.txt"},
        {"bytes": b"a", "path": "other.png"},
    ]
    source = table(tmp_path / "in.parquet", {"image": held})
    assert bench.predict(source, mapping={"path": "image"}).computed == 3
    got = [one["output"] for one in bench.got()]
    assert (got[0], got[1][0], got[2:]) == ("a.png", "b", ["c.txt", "a.png"])
    (tmp_path / "a.png").write_text("a")
    assert bench.predict(bench.lines("in.jsonl", {"path": "a.png"})).cached == 1
    assert bench.predict(table(tmp_path / "raw.parquet", {"path": [b"b"]})).cached == 1
    nothing = table(tmp_path / "no.parquet", {"path": [held[0], {"bytes": None, "path": None}]})
    with pytest.raises(InputError, match=r"row 2: the field path is null where the path of a file is needed"):
        bench.predict(nothing)
    assert not list((bench.target.store / "tmp").iterdir())


METRIC = (
    'python3 -c "import json, sys\n'
    "with open(sys.argv[2], 'w') as out:\n"
    "    for line in open(sys.argv[1]):\n"
    "        size = len(json.loads(line)['text'])\n"
    "        print(json.dumps({'size': size, 'of': {'half': size / 2}}), file=out)"
    '" {input} {output}'
)


def test_metrics_have_a_result_over_all_and_one_for_each(tmp_path: Path) -> None:
    made = predictor(
        METRIC, inputs={"text": str}, outputs={"size": int, "of": dict}, scope="item", macro="mean"
    )
    bench = Bench(tmp_path, default=made)
    source = bench.lines("in.jsonl", {"text": "ab", "instance_id": "1"}, {"text": "abcd", "instance_id": "2"})
    bench.predict(source, None, metrics=str(tmp_path / "metrics.json"))
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["macro"] == {"size": 3.0, "of": {"half": 1.5}}
    assert found["items"] == [{"of": {"half": 1}, "size": 2}, {"of": {"half": 2}, "size": 4}]
    assert (found["count"], found["kind"], found["name"]) == (2, "mean", "tutorial/default")
    bench.predict(source, metrics=str(tmp_path / "metrics.json"))
    assert [one["instance_id"] for one in bench.got()] == ["1", "2"]
    bench.predict(bench.put("in.jsonl", ""), None, metrics=str(tmp_path / "none.json"))
    assert json.loads((tmp_path / "none.json").read_text())["items"] == []


def test_metrics_of_a_corpus_have_the_result_that_the_predictor_gave(tmp_path: Path) -> None:
    command = 'cp {input} {output}; echo \'{{"_macro":{{"bleu":27.5}}}}\' >> {output}'
    kinds: dict[str, Any] = {"inputs": {"text": str}, "outputs": {"text": str}}
    made = predictor(command.replace("{{", "{").replace("}}", "}"), macro="corpus", **kinds)
    bench = Bench(tmp_path, default=made)
    for _ in range(2):  # computed, then from the cache
        bench.predict(bench.put("in.csv", "text\na\nb\n"), "out.csv", metrics=str(tmp_path / "metrics.json"))
        found = json.loads((tmp_path / "metrics.json").read_text())
        assert (found["kind"], found["macro"], found["count"]) == ("corpus", {"bleu": 27.5}, 2)
        assert found["items"] == [{"text": "a"}, {"text": "b"}]
        assert bench.rows("out.csv") == [["text"], ["a"], ["b"]]


FAILING = (
    'python3 -c "import json, sys\n'
    "with open(sys.argv[2], 'w') as out:\n"
    "    for line in open(sys.argv[1]):\n"
    "        text = json.loads(line)['text']\n"
    "        sys.exit('no ' + text) if text == 'bad' else print(json.dumps({'output': text}), file=out)"
    '" {input} {output}'
)


def test_records_that_fail_keep_their_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path, default=predictor(FAILING, **TEXTS))
    source = bench.put("in.csv", "instance_id,text\n1,a\n2,bad\n3,c\n")
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        summary = bench.predict(source, name, keep_going=True)
        assert [failure.where for failure in summary.failed] == [f"record 2 of {source}"]
    assert bench.got()[0] == {"instance_id": "1", "output": "a"}
    assert set(bench.got()[1]) == {"instance_id", "_error"}
    rows = bench.rows("out.csv")
    assert [row[:2] for row in rows] == [["instance_id", "output"], ["1", "a"], ["2", ""], ["3", "c"]]
    assert [bool(row[2]) for row in rows] == [True, False, True, False] and rows[0][2] == "_error"
    found = parquet.read_table(str(tmp_path / "out.parquet")).to_pylist()
    assert [row["output"] for row in found] == ["a", None, "c"]
    bench.predict(bench.put("in.csv", "text\na\n"), "out.csv", keep_going=True)
    assert bench.rows("out.csv") == [["output"], ["a"]]
    with pytest.raises(UsageError, match="exclude each other"):
        bench.predict(source, "out.csv", keep_going=True, metrics=str(tmp_path / "metrics.json"))


def test_metrics_of_what_is_no_metric(bench: Bench) -> None:
    with pytest.raises(UsageError, match="tutorial/default is no metric"):
        bench.predict(bench.lines("in.jsonl", {"text": "a"}), metrics=str(bench.folder / "metrics.json"))
    assert not (bench.folder / "metrics.json").exists()


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "folder": ({"out": ""}, "the output .* is a folder"),
    "arrow": ({"out": "out.arrow"}, "Arrow files are read, and not written"),
    "other": ({"out": "out.xlsx"}, r"\.xlsx is no format of records"),
    "nothing": ({"sources": []}, "an input is needed"),
    "twice": ({"sources": ["-", "-"]}, "standard input is named twice"),
    "one place": ({"out": "-", "metrics": "-"}, "standard output is named twice"),
}


@pytest.mark.parametrize("given, message", UNUSABLE.values(), ids=UNUSABLE)
def test_what_can_not_be_done_is_said(bench: Bench, given: dict[str, Any], message: str) -> None:
    source = bench.lines("in.jsonl", {"text": "a"})
    with pytest.raises(UsageError, match=message):
        bench.predict(**{"sources": source, **given})
    assert not bench.engine.commands
