"""``why``, and how images are named: what differs between which states of what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Project

RECIPE = """from reprobuild import files, image, recipe

@recipe(version="1.0")
def {function}(size: str = "s"):
    return image(files("text", to="/text"), env={{"SIZE": size}})
"""


def add(project: Project, name: str, text: str) -> Path:
    folder = project.folder / "recipes" / name
    folder.mkdir(parents=True)
    (folder / "recipe.py").write_text(RECIPE.format(function=name))
    (folder / "text").write_text(text)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with two recipes, nothing of it realized."""
    (tmp_path / "reprobuild.toml").touch()
    made = Project(tmp_path, tmp_path / "store")
    add(made, "one", "text of one")
    add(made, "two", "text of two")
    return made


def realize(project: Project, *arguments: str) -> Any:
    return project.call("realize", *arguments, "--json").json


def paths(project: Project, *arguments: str) -> list[str]:
    return [one["path"] for one in project.call("why", *arguments, "--json").json["differences"]]


def test_two_recipes_are_compared_whether_realized_or_not(project: Project) -> None:
    assert paths(project, "one", "two") == ["step 1 (files).entries"]
    assert paths(project, "one", "one") == []


def test_a_recipe_is_compared_with_an_image_by_tag_and_by_image_id(project: Project) -> None:
    made = realize(project, "one")
    folder = project.folder / "recipes" / "one"
    (folder / "recipe.py").write_text((folder / "recipe.py").read_text().replace('"SIZE"', '"WIDTH"'))
    for reference in (made["tag"], made["tag"].partition("/")[2], made["image_id"], made["image_id"][7:14]):
        assert paths(project, reference, "one") == ["env.SIZE", "env.WIDTH"]
        assert paths(project, "one", reference) == ["env.SIZE", "env.WIDTH"]


def test_what_was_never_realized_has_nothing_to_be_compared_with(project: Project) -> None:
    ended = project.call("why", "one", check=False)
    assert ended.code == 2
    assert "one was not realized here before" in ended.err
    assert "reprobuild realize one" in ended.err


def test_an_image_alone_does_not_change(project: Project) -> None:
    tag = realize(project, "one")["tag"]
    ended = project.call("why", tag, check=False)
    assert (ended.code, f"why {tag} NAME" in ended.err) == (2, True)


def test_another_option_is_no_change_of_the_recipe(project: Project) -> None:
    project.call("lock", "one")
    realize(project, "one")
    project.call("lock", "one", "--set", "size=m")
    realize(project, "one", "--set", "size=m")
    assert paths(project, "one") == []
    (project.folder / "recipes" / "one" / "text").write_text("changed")
    assert paths(project, "one") == ["step 1 (files).entries"]


def test_a_recipe_whose_name_looks_like_an_image_id_is_a_recipe(project: Project) -> None:
    add(project, "decade", "text")
    assert paths(project, "decade", "one") == ["step 1 (files).entries"]
    realize(project, "decade")
    assert paths(project, "decade") == []


@pytest.mark.parametrize("reference", ["x/y:1.0-0", "sha256:", "sha256:ab", "0123456789", "one:"])
def test_a_reference_that_fits_nothing_says_what_there_is(project: Project, reference: str) -> None:
    ended = project.call("why", reference, "one", check=False)
    assert ended.code == 2
    assert "realize NAME" in ended.err
    tag = realize(project, "one")["tag"]
    ended = project.call("why", reference, "one", check=False)
    assert ended.code == 2
    assert f"no image {reference} is in the store" in ended.err
    assert tag in ended.err


def test_equal_images_are_one_and_different_ones_of_a_tag_are_told_apart(project: Project) -> None:
    first = realize(project, "one")
    recipe = project.folder / "recipes" / "one" / "recipe.py"
    recipe.write_text(recipe.read_text().replace('version="1.0"', 'version="0.9"'))
    second = realize(project, "one")
    assert second["image_id"] == first["image_id"]
    assert (first["version"], second["version"]) == ("1.0", "0.9")
    for tag in (first["tag"], second["tag"]):
        assert paths(project, tag, "one") == []
    label = project.call("why", first["image_id"], "two", "--json").json["a"]["label"]
    assert label == min(first["tag"], second["tag"])
    # A tag is twelve digits of a hash, which can be ground out.
    other = realize(project, "two")
    path = project.store / "realisations" / f"{other['input_hash'][7:]}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tag": second["tag"]}))
    ended = project.call("why", second["tag"], "one", check=False)
    assert ended.code == 2
    assert "fits several images" in ended.err
    assert paths(project, other["image_id"], "two") == []


def test_recipes_that_come_to_the_same_image_keep_their_names(project: Project) -> None:
    (project.folder / "recipes" / "two" / "text").write_text("text of one")
    one, two = realize(project, "one"), realize(project, "two")
    assert one["input_hash"] == two["input_hash"]
    assert (one["recipe"], two["recipe"]) == ("one", "two")
    assert two["tag"].startswith("reprobuild/two:1.0-")
    assert paths(project, one["tag"], two["tag"]) == []
    assert two["tag"] in project.call("show", "two").out
    assert realize(project, "two") == {**two, "seconds": 0.0}


def test_a_record_that_makes_no_sense_hides_no_other_image(project: Project) -> None:
    tag = realize(project, "one")["tag"]
    (project.store / "realisations" / f"{'0' * 64}.json").write_text('{"kind": "image", "recipe": "one"}')
    assert paths(project, tag, "one") == []
    assert tag in project.call("show", "one").out
