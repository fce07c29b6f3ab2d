"""What goes wrong with recorded commands and predictors: what is said, and how the call ends."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fetching import SMALL, Scene, elsewhere, fetching, image_id, scene, write

pytestmark = pytest.mark.once

ASKING = (
    '"asks": predictor("wget -q -O {output} http://files.test/small < {input}", **TEXT, '
    'network="recorded", examples=[({"text": "abc"}, {"text": "abc"})]),'
)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


@pytest.mark.parametrize("verb", [("lock", "--check"), ("lock", "--update", "run")], ids="-".join)
def test_a_recorded_step_whose_server_is_gone(made: Scene, verb: tuple[str, ...]) -> None:
    write(made.project, fetching("small"))
    made.project.call("lock", "copier")
    before = made.project.lock.read_bytes()
    made.net.stop()
    ended = made.project.call(*verb, "copier", check=False)
    assert ended.code == 5, ended.err
    first, reason, *_ = ended.err[ended.err.index("\nerror:") + 1 :].splitlines()
    assert "recipe.py" in first and "run mkdir -p /opt && wget" in first
    assert reason == "  GET http://files.test/small: no connection to files.test: Connection refused"
    assert made.project.lock.read_bytes() == before


def test_a_recorded_predictor_whose_server_is_gone(made: Scene) -> None:
    made.site.pages["/small"] = replace(made.site.pages["/small"], body=b'{"text": "abc"}\n')
    write(made.project, predictors=ASKING)
    made.project.call("lock", "copier")
    made.net.stop()
    ended = made.project.call("lock", "--check", "copier", check=False)
    assert ended.code == 5, ended.err
    assert "predictor copier/asks" in ended.err and "GET http://files.test/small: " in ended.err


@pytest.mark.parametrize("path", ["small", "large"])
def test_a_check_of_what_a_command_copes_without(made: Scene, path: str) -> None:
    get = f"wget -q -O /word http://gone.test/{path} || wget -q -O /word http://files.test/{path} || true"
    write(made.project, f'run("{get}", network="recorded")')
    made.project.call("lock", "copier")
    assert "gives what the lock says" in made.project.call("lock", "--check", "copier").out
    made.net.stop()
    ended = made.project.call("lock", "--check", "copier", check=False)
    assert ended.code == 5, ended.err
    assert f"GET http://files.test/{path}: " in ended.err
    assert "GET http://gone.test" not in ended.err, "it was not had when the step was locked"


def test_lock_says_what_it_wrote(made: Scene) -> None:
    write(made.project, fetching("small"))
    lock = ("lock", "copier")
    first = made.project.call(*lock).out.splitlines()[0]
    assert first == f"copier: {made.project.lock} written; in recorded/: 1 body written"
    file = made.project.lock.stat().st_ino
    (body,) = (made.project.recipe / "recorded").iterdir()
    body.write_bytes(b"damaged\n")
    (body.parent / ("0" * 64)).write_bytes(b"left over\n")
    repaired = made.project.call(*lock).out.splitlines()[0]
    kept = "says all of it already; in recorded/: 1 body written, 1 body removed"
    assert repaired == f"copier: {made.project.lock} {kept}"
    assert body.read_bytes() == SMALL and list(body.parent.iterdir()) == [body]
    assert made.project.lock.stat().st_ino == file, "not even replaced by an equal file"
    body.unlink()
    said = made.project.call(*lock, "--json").json
    assert (said["written"], said["recorded"]) == (False, {"written": 1, "removed": 0})


def test_a_damaged_body_beside_the_lock_is_named_with_what_mends_it(made: Scene, tmp_path: Path) -> None:
    write(made.project, fetching("small"))
    made.project.call("lock", "copier")
    again = elsewhere(made.project, tmp_path / "again")
    (body,) = (again.recipe / "recorded").iterdir()
    body.write_bytes(b"damaged\n")
    ended = again.call("realize", "copier", check=False)
    assert ended.code == 4
    assert f"  from      recipes/copier/recorded/{body.name}\n" in ended.err
    assert "file:" not in ended.err and "led to" not in ended.err
    assert f"hint: restore recipes/copier/recorded/{body.name} from version control" in ended.err
    (tmp_path / "copy").write_bytes(SMALL)
    again.call("import", str(tmp_path / "copy"))
    assert again.call("realize", "copier", "--json").json["image_id"] == image_id(made.project)
    anew = ended.err.partition("record anew: reprobuild ")[2].partition("\n")[0]
    body.write_bytes(b"damaged\n")
    replace(again, environment=made.net.environment()).call(*shlex.split(anew))
    assert body.read_bytes() == SMALL


def test_strict_network_does_not_take_a_remembered_prediction_that_coped(made: Scene) -> None:
    asking = "wget -q -O /tmp/x http://files.test/small"
    command = f"{asking} || true; cp {{input}} {{output}}"
    scopes = ("item", "batch")
    predictors = "".join(
        f'"{one}": predictor("{command}", **{{**TEXT, "scope": "{one}"}}),' for one in scopes
    )
    write(made.project, predictors=predictors)
    made.project.call("lock", "copier")
    for scope in scopes:
        arguments = ("predict", f"copier/{scope}", "--input", "-", "--output", "-")
        record = '{"text":"a"}\n'
        assert "coped without" in made.project.call(*arguments, stdin=record).err
        assert "1 from the cache" in made.project.call(*arguments, stdin=record).err
        strict = made.project.call(*arguments, "--strict-network", stdin=record, check=False)
        assert strict.code == 3 and strict.out == ""
        assert "GET http://files.test/small" in strict.err and "coped without" in strict.err
        assert "1 from the cache" in made.project.call(*arguments, stdin=record).err, "it is kept for others"
