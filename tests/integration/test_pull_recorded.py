"""Images whose predictors are answered from the record: the answers travel with the sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fetching import Scene, scene, write
from tests.projects import Project
from tests.servers import docker_registry
from tests.sites.files import Page

pytestmark = pytest.mark.once

PREDICTOR = (
    '"asks": predictor("wget -q -O {output} http://files.test/$(cat {input} | wc -l)", **TEXT, '
    'network="recorded", examples=[({"text": "abc"}, {"text": "fresh"})]),'
)
ASK = ("--input", "-", "--output", "-")
RECORD = '{"text":"abc"}\n'


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scene]:
    (tmp_path / "scene").mkdir()
    with scene(tmp_path / "scene") as made:
        made.site.pages["/1"] = Page(b'{"text":"fresh"}\n')
        write(made.project, predictors=PREDICTOR)
        made.project.call("lock", "copier")
        made.net.stop()
        yield made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path) as address:
        yield address


@pytest.fixture
def stranger(tmp_path: Path) -> Project:
    folder = tmp_path / "stranger"
    folder.mkdir()
    (folder / "reprobuild.toml").write_text("")
    return Project(folder, folder / "store")


def test_with_its_sources_a_tag_answers_with_every_server_gone(
    made: Scene, registry: str, stranger: Project
) -> None:
    call = ("publish", "copier", "--to", f"{registry}/x", "--with-sources", "--json")
    tag = made.project.call(*call).json["tag"]
    pulled = stranger.call("pull", tag)
    assert "warning" not in pulled.err
    stranger.call("gc", "--grace", "0")
    assert "1 example, 0 failed" in stranger.call("test", tag).err
    assert stranger.call("predict", f"{tag}/asks", *ASK, stdin=RECORD).out == '{"text":"fresh"}\n'


def test_without_them_that_is_said(made: Scene, registry: str, stranger: Project) -> None:
    tag = made.project.call("publish", "copier", "--to", f"{registry}/x", "--json").json["tag"]
    pulled = stranger.call("pull", tag)
    assert (
        "the predictor asks is answered with what was recorded of it, and that was not published"
        in pulled.err
    )
    assert stranger.call("predict", tag, *ASK, stdin=RECORD).out == RECORD
    assert stranger.call("predict", f"{tag}/asks", *ASK, stdin=RECORD, check=False).code == 3


def test_a_closure_carries_them(made: Scene, stranger: Project, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    made.project.call("export", "copier", "--closure", str(path), "--with-sources")
    (image,) = stranger.call("import", str(path), "--offline", "--json").json["images"]
    assert "1 example, 0 failed" in stranger.call("test", image["tag"], "--offline").err


def test_a_substituted_image_has_them_from_the_lock(made: Scene, registry: str, tmp_path: Path) -> None:
    made.project.call("publish", "copier", "--to", f"{registry}/x")
    settings = {"REPROBUILD_SUBSTITUTERS": f"{registry}/x"}
    reader = Project(made.project.folder, tmp_path / "store", settings)
    assert reader.call("realize", "copier", "--json").json["engine"] == "pulled"
    assert reader.call("predict", "copier/asks", *ASK, stdin=RECORD).out == '{"text":"fresh"}\n'
