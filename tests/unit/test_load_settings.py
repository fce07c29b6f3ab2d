"""What ``load`` and a model's calls are given from Python: what can't be is refused at once, in our words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reprobuild import load
from reprobuild.derivation.predictors import File, predictor
from reprobuild.errors import InputError, UsageError
from reprobuild.predict.chosen import SMALLEST_MEMORY, folders_of_recipes, limits
from reprobuild.predict.model import Model
from tests.host_engine import HostEngine, make_target

REFUSED: dict[str, tuple[str, Any, str]] = {
    "jobs: text": ("jobs", "x", "jobs='x': a whole number"),
    "jobs: bool": ("jobs", True, "jobs=True: a whole number"),
    "jobs: none": ("jobs", None, "jobs=None"),
    "jobs: below 0": ("jobs", -1, "jobs=-1"),
    "timeout: text": ("timeout", "x", "timeout='x': a number of seconds"),
    "timeout: 0": ("timeout", 0, "timeout=0: .* above 0"),
    "timeout: below 0": ("timeout", -1, "timeout=-1"),
    "timeout: nan": ("timeout", float("nan"), "timeout=nan"),
    "timeout: bool": ("timeout", True, "timeout=True"),
    "memory: below 0": ("memory", -1, "memory=-1: a run needs at least 16MB"),
    "memory: 0": ("memory", 0, "memory=0: a run needs at least 16MB"),
    "memory: too small": ("memory", SMALLEST_MEMORY - 1, "at least 16MB"),
    "memory: too small, text": ("memory", "15M", "memory='15M': a run needs at least 16MB"),
    "memory: word": ("memory", "lots", "memory='lots': no size"),
    "memory: fraction": ("memory", 1e9, "memory=1000000000.0: a number of bytes"),
    "memory: bool": ("memory", True, "memory=True: a number of bytes"),
    "cache": ("cache", "foo", "no cache mode 'foo'"),
    "keep_going": ("keep_going", "yes", "keep_going='yes': True or False"),
    "device: word": ("device", "foo", "no device 'foo'"),
    "device: bool": ("device", True, "no device 'True'"),
    "device: list": ("device", [0], r"no device '\[0\]'"),
    "recipes: not there": ("recipes", "/nonexistent", "recipes='/nonexistent': there is no such folder"),
    "recipes: one not there": ("recipes", [Path("/"), Path("/nonexistent")], "no such folder"),
    "recipes: number": ("recipes", 5, "recipes=5: a folder is needed"),
    "recipes: bytes": ("recipes", [b"/"], "recipes=b'/': a folder is needed"),
    "store: number": ("store", 5, "store=5: a folder is needed"),
    "store: bytes": ("store", b"x", "store=b'x': a folder is needed"),
    "engine: unknown": ("engine", "foo", r"^load\(\): there is no engine 'foo'"),
    "engine: number": ("engine", 5, r"^load\(\): the setting engine cannot be 5"),
    "offline": ("offline", "x", r"^load\(\): the setting offline cannot be 'x'"),
    "tell": ("tell", 5, "tell=5: a function"),
}


@pytest.mark.parametrize("name, value, message", REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_is_refused_before_anything_is_done(
    tmp_path: Path, name: str, value: Any, message: str
) -> None:
    store = tmp_path / "store"
    with pytest.raises(UsageError, match=message):
        load("tutorial", **{"store": store, name: value})
    assert not store.exists()


@pytest.mark.parametrize("name", [None, 5, b"tutorial", Path("tutorial")], ids=repr)
def test_names_are_texts(tmp_path: Path, name: Any) -> None:
    with pytest.raises(UsageError, match="the name of a recipe is needed"):
        load(name, store=tmp_path / "store")


def test_limits_are_numbers_or_none_and_memory_may_be_a_text(tmp_path: Path) -> None:
    for given in ("500M", "500 MB", 500_000_000):
        assert limits(None, given).memory == 500_000_000
    assert limits(2, SMALLEST_MEMORY).memory == SMALLEST_MEMORY
    assert limits(0.5, None).timeout == 0.5
    assert limits(None, None).memory is None
    assert folders_of_recipes(tmp_path) == [str(tmp_path)]
    assert folders_of_recipes([tmp_path, str(tmp_path)]) == [str(tmp_path)] * 2


NO_ITEMS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "was given null where a list of records is needed"),
    "number": (5, "was given an integer where"),
    "text": ("abc", "was given a text where"),
    "bytes": (b"abc", "was given bytes where"),
    "record": ({"text": "a"}, "was given one record where a list of them"),
    "class": (list, "was given a type where"),
}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(make_target(tmp_path, HostEngine()), "default")


@pytest.mark.parametrize("items, message", NO_ITEMS.values(), ids=NO_ITEMS)
def test_what_gives_no_records_is_refused(model: Model, items: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict_batch(items)
    with pytest.raises(InputError, match=message):
        model.predict_iter(items)  # at once: nothing is read
    with pytest.raises(InputError, match=message):
        asyncio.run(anext(model.apredict_iter(items)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        model.evaluate(items, macro="mean")


def test_items_that_come_asynchronously_are_for_another_call(model: Model) -> None:
    items: Any = model.apredict_iter([])
    with pytest.raises(InputError, match="asynchronously") as caught:
        model.predict_batch(items)
    assert "apredict_iter" in caught.value.hint


def test_rows_that_are_counted_are_items(model: Model) -> None:
    class Rows:
        def __getitem__(self, index: int) -> dict[str, str]:
            return {"text": ["ab", "cd"][index]}

    rows: Any = Rows()
    assert model.predict_batch(rows) == ["ba", "dc"]
    assert list(model.predict_iter(rows)) == ["ba", "dc"]


READER = (
    'python3 -c "import json, os, sys\n'
    "folder = os.path.dirname(sys.argv[1])\n"
    "for r in map(json.loads, open(sys.argv[1])):\n"
    "    print(json.dumps({'output': open(folder + r['path'].removeprefix('/in')).read()}))"
    '" {input} > {output}'
)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Model]:
    made = predictor(READER, inputs={"path": File}, outputs={"output": str}, scope="item")
    with Model(make_target(tmp_path, HostEngine(), reader=made), "reader") as model:
        yield model


def test_paths_are_given_as_paths(tmp_path: Path, reader: Model) -> None:
    path = tmp_path / "a.txt"
    path.write_text("what it says")
    with os.scandir(tmp_path) as entries:
        entry = next(one for one in entries if one.name == "a.txt")
    assert reader.predict(path) == reader.predict(path=path) == "what it says"
    assert reader.predict_batch([{"path": path}, {"path": entry}]) == ["what it says"] * 2
    assert list(reader.predict_iter([{"path": path}])) == ["what it says"]


def test_paths_of_bytes_are_refused_and_so_are_paths_where_texts_are_needed(
    tmp_path: Path, reader: Model, model: Model
) -> None:
    (tmp_path / "a.txt").touch()
    with os.scandir(os.fsencode(tmp_path)) as entries:
        entry = next(entries)
    for path in (os.fsencode(tmp_path), entry):
        with pytest.raises(InputError, match="item 0: the field path is bytes where the path of a file"):
            reader.predict(path=path)
    with pytest.raises(InputError, match="the field text is a PosixPath where a text is needed"):
        model.predict(tmp_path)
