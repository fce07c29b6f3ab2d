"""Keys: what is in them, what is not, and the forms that the documentation fixes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from reprobuild.canonical import canonical
from reprobuild.derivation.predictors import predictor
from reprobuild.digest import Digest
from reprobuild.predict.key import KeyMaker, run_id
from reprobuild.value import replace

RUN = Digest.of(b"what a command sees")
PREDICTOR = predictor(
    "run {input} {output} {n}",
    inputs={"text": str},
    outputs={"output": str},
    scope="item",
    parameters={"n": 1},
)
GIVEN: dict[str, Any] = {
    "run": RUN,
    "predictor": PREDICTOR,
    "parameters": {"n": 1},
    "device_class": "cpu:x86_64",
}


def key(**changes: Any) -> bytes:
    return KeyMaker(**{**GIVEN, **changes}).items([b'{"text":"abc"}'])[0]


def test_form_is_that_of_the_documentation() -> None:
    shared = (
        '{"command":"run {input} {output} {n}","device":"cpu:x86_64","exchanges":[],"inputs":{"text":"str"},'
        '"outputs":{"output":"str"},"parameters":{"n":1},"protocol":"files",'
        f'"run_id":"{RUN}","schema":1,"scope":"item","threads":1}}'
    )
    assert key() == hashlib.sha256(f'{shared}\n{{"text":"abc"}}'.encode()).digest()


def test_key_is_golden() -> None:
    assert key().hex() == "e0e32a283adefbef54dbef8bba57630aff0741bf4ff6fd7013444e177e9956ab"


CHANGES: dict[str, dict[str, Any]] = {
    "run ID": {"run": Digest.of(b"something else")},
    "command": {"predictor": replace(PREDICTOR, command="run  {input} {output} {n}")},
    "inputs": {"predictor": replace(PREDICTOR, inputs={"text": "any"})},
    "outputs": {"predictor": replace(PREDICTOR, outputs={"output": "any"})},
    "protocol": {"predictor": replace(PREDICTOR, protocol="stream")},
    "scope": {"predictor": replace(PREDICTOR, scope="batch")},
    "threads": {"predictor": replace(PREDICTOR, threads=2)},
    "parameters": {"parameters": {"n": 2}},
    "seed": {"parameters": {"n": 1, "seed": 0}},
    "device": {"device_class": "cuda:9.0"},
    "exchanges": {"predictor": replace(PREDICTOR, exchanges=({"name": "GET https://x/", "status": 200},))},
    "refusal": {"predictor": replace(PREDICTOR, refusal="reset")},
    "corpus": {"predictor": replace(PREDICTOR, macro="corpus")},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_in_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


NOT_IN: dict[str, dict[str, Any]] = {
    "tolerance": {"tolerance": 0.5},
    "how a mean comes about": {"macro": "mean"},
    "random": {"random": True},
    "whether it can use a GPU": {"cuda": True},
    "order of the inputs": {"inputs": dict(PREDICTOR.inputs)},
}


@pytest.mark.parametrize("changes", NOT_IN.values(), ids=NOT_IN)
def test_not_in_the_key(changes: dict[str, Any]) -> None:
    assert key(predictor=replace(PREDICTOR, **changes)) == key()


def test_records_have_keys_of_their_own() -> None:
    maker = KeyMaker(**GIVEN)
    first, second, again = maker.items([b'{"text":"a"}', b'{"text":"b"}', b'{"text":"a"}'])
    assert first == again != second


@pytest.mark.parametrize("parts", [[3], [1, 2], [1, 0, 1, 1], [2, 1]], ids=str)
def test_batch_key_is_that_of_the_list_however_it_comes(parts: list[int]) -> None:
    records = [b'{"text":"a"}', b'{"text":"b"}', b'{"text":"c"}']
    maker = KeyMaker(**GIVEN)
    batch = maker.batch()
    start = 0
    for count in parts:
        batch.add(records[start : start + count])
        start += count
    assert batch.digest() == maker.items([b"[" + b",".join(records) + b"]"])[0]
    assert maker.batch().digest() == maker.items([b"[]"])[0]


LAYER = Digest.of(b"layer")
SEEN: dict[str, Any] = {"layers": [LAYER], "env": {"A": "b"}, "workdir": "/app", "user": "0:0"}


def test_run_id_is_that_of_the_documentation() -> None:
    expected = canonical(
        {"env": {"A": "b"}, "layers": [str(LAYER)], "schema": 1, "user": "0:0", "workdir": "/app"}
    )
    assert run_id(**SEEN) == Digest.of(expected)


@pytest.mark.parametrize(
    "changes",
    [{"layers": [LAYER, LAYER]}, {"env": {}}, {"workdir": "/"}, {"user": "1:1"}],
    ids=["layers", "environment", "workdir", "user"],
)
def test_run_id_is_what_a_command_sees(changes: dict[str, Any]) -> None:
    assert run_id(**{**SEEN, **changes}) != run_id(**SEEN)
