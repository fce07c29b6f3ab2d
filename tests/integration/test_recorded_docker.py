"""Recorded steps and refusals in daemons: what one engine records the other replays, to the same image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clients import BASE, CLIENTS
from tests.daemons import Docker
from tests.engines import Engines
from tests.fetching import SMALL, Scene, elsewhere, exchanges, fetching, image_id, scene, write
from tests.projects import Project
from tests.recorded import Bench
from tests.sandboxes import shared_folder
from tests.sites.files import Page
from tests.upstreams import Upstreams

WITH_PYTHON = """\
        apt("bookworm", "python3-pip"),
"""
DAEMONS = ("docker", "docker_over_tcp", "docker_over_tls", "podman")


@pytest.fixture(params=DAEMONS)
def every_engine(request: pytest.FixtureRequest, gateway_packages: list[Path]) -> Engines:
    return Engines(request.getfixturevalue(request.param), gateway_packages)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def test_real_clients_come_to_the_same_image_whichever_engine_recorded_them(
    bench: Bench, docker_engine: Engines, net: Upstreams, tmp_path: Path
) -> None:
    clients = [CLIENTS[name] for name in ("curl", "git", "pip", "urllib")]
    by_daemon, by_sandbox = "recorded_by_daemon", "recorded_by_sandbox"
    for recipe in (by_daemon, by_sandbox):
        (tmp_path / recipe).mkdir()
        for client in clients[1:]:
            client.serve(net, tmp_path / recipe)
        steps = [f'run({client.command!r}, network="recorded")' for client in clients[1:]]
        bench.write(recipe, replace(clients[0], base=BASE + WITH_PYTHON), net, tmp_path / recipe, *steps)
    docker_engine.there(bench.project)
    told = bench.lock(by_daemon, net, **docker_engine.environment).err
    assert not [text for client in clients for text in client.more if text not in told]
    bench.lock(by_sandbox, net)
    net.stop()
    with shared_folder(os.geteuid()) as folder:
        (folder / "recipes").mkdir()
        (folder / "reprobuild.toml").touch()
        fresh = docker_engine.there(Project(folder, folder / "store"))
        again = replace(bench, fresh={"sandbox": bench.fresh["root" if os.geteuid() == 0 else "user"]})
        image = again.rebuild(by_daemon, "sandbox")["image_id"]
        assert image in lock_of(bench, by_daemon)
        again = replace(bench, fresh={"daemon": fresh})
        image = again.rebuild(by_sandbox, "daemon")["image_id"]
        assert image in lock_of(bench, by_sandbox)
        sums = "".join(
            f"{hashlib.sha256(body).hexdigest()}  /{path}\n"
            for client in clients
            for path, body in client.found.items()
        )
        checked = fresh.call("run", by_sandbox, "--", "sha256sum", "--quiet", "-c", "-", stdin=sums)
        assert checked.out == ""


def lock_of(bench: Bench, recipe: str) -> str:
    return (bench.project.folder / "recipes" / recipe / "recipe.lock").read_text()


def test_every_daemon_records_and_replays(made: Scene, every_engine: Engines, tmp_path: Path) -> None:
    write(made.project, fetching("small", "large"))
    there = every_engine.there(made.project)
    there.call("lock", "copier")
    (pins,) = exchanges(there).values()
    assert [pin["name"] for pin in pins] == ["GET http://files.test/large", "GET http://files.test/small"]
    made.net.stop()
    sources = tmp_path / "sources"
    there.call("export", "copier", "--sources", str(sources))
    for number, project in enumerate((made.project, there)):
        again = elsewhere(project, tmp_path / f"again{number}")
        again = every_engine.there(again) if project is there else again
        again.call("import", str(sources))
        assert again.call("realize", "copier", "--json").json["image_id"] == image_id(there)
        assert again.call("run", "copier", "--", "cat", "/opt/small").out == SMALL.decode()


def test_the_exchanges_are_the_same_whichever_engine_recorded_them(
    made: Scene, docker_engine: Engines, tmp_path: Path
) -> None:
    write(made.project, fetching("small", "large"))
    other = elsewhere(made.project, tmp_path / "other")
    other = replace(other, environment=made.net.environment())
    made.project.call("lock", "copier")
    docker_engine.there(other).call("lock", "copier")
    assert exchanges(other) == exchanges(made.project)
    assert other.lock.read_text() == made.project.lock.read_text()


def test_a_refused_step_is_told_with_the_stanza_that_pins(made: Scene, every_engine: Engines) -> None:
    there = every_engine.there(made.project)
    write(there, fetching("small", network=""))
    ended = there.call("lock", "copier", check=False)
    assert ended.code == 3
    assert "GET http://files.test/small" in ended.err
    assert 'url("http://files.test/small"' in ended.err
    assert "403" in ended.err  # what wget said, as in the sandbox
    copes = fetching("small", network="").replace("wget -q", "! wget -q")
    write(there, copes)
    ended = there.call("lock", "copier")
    assert "GET http://files.test/small" in ended.err and "coped" in ended.err
    assert there.call("realize", "copier", "--strict-network", check=False).code in (0, 3)


def test_a_refused_predictor_is_told_and_one_with_a_server_of_its_own_works(
    made: Scene, docker_engine: Engines
) -> None:
    command = (
        "nc -l -p 8080 -e cat > /dev/null & sleep 0.5; cat {input} | nc -w 2 127.0.0.1 8080 > {output}; true"
    )
    online = "wget -q -O {output} http://example.org/weights.bin < {input}"
    there = docker_engine.there(made.project)
    write(
        there,
        predictors=f'"served": predictor("{command}", **TEXT), "online": predictor("{online}", **TEXT),',
    )
    there.call("lock", "copier")
    arguments = ("--input", "-", "--output", "-")
    assert there.call("predict", "copier/served", *arguments, stdin='{"text":"a"}\n').out == '{"text":"a"}\n'
    ended = there.call("predict", "copier/online", *arguments, stdin='{"text":"a"}\n', check=False)
    assert ended.code == 3
    assert "example.org" in ended.err and 'predictor("…", network="recorded")' in ended.err


def test_a_recorded_predictor_answers_in_either_engine(
    made: Scene, docker_engine: Engines, tmp_path: Path
) -> None:
    made.site.pages["/1"] = Page(b'{"text":"fresh"}\n')
    write(
        made.project,
        predictors='"asks": predictor("wget -q -O {output} http://files.test/$(cat {input} | wc -l)", '
        '**TEXT, network="recorded", examples=[({"text": "abc"}, {"text": "fresh"})]),',
    )
    docker_engine.there(made.project).call("lock", "copier")
    made.net.stop()
    arguments = ("predict", "copier/asks", "--input", "-", "--output", "-")
    for number, engines in enumerate((None, docker_engine)):
        again = elsewhere(made.project, tmp_path / f"again{number}")
        again = engines.there(again) if engines else again
        again.call("realize", "copier")
        assert again.call(*arguments, stdin='{"text":"abc"}\n').out == '{"text":"fresh"}\n'


def test_without_its_packages_a_gateway_is_refused_offline(made: Scene, docker: Docker) -> None:
    write(made.project, fetching("small"))
    made.project.call("lock", "copier")
    environment = {**docker.environment, "REPROBUILD_ENGINE": "docker"}
    there = elsewhere(made.project, made.project.folder.parent / "offline")
    there = replace(there, environment=environment)
    ended = there.call("realize", "copier", "--offline", check=False)
    assert ended.code == 5
    assert "can't answer what a command fetches" in ended.err and "5 packages, 5.8 MB" in ended.err
    write(there, 'run("wget -q -O /small http://files.test/small || true")')
    ended = there.call("lock", "copier", "--offline")
    assert "commands have no network" in ended.err
