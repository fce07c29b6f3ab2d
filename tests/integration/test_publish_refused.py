"""What ``publish`` refuses: images that are not what they should be, tags that are taken, bad arguments."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from tests.projects import Project
from tests.servers import REGISTRY_PASSWORD, docker_registry
from tests.shops import Shop, copy_tag, edit

pytestmark = pytest.mark.once


def test_a_tag_that_is_another_image_is_refused_and_stays(own_shop: Shop) -> None:
    first = own_shop.publish("copier", "--json").json
    edit(own_shop.project, "cat /opt/weights.bin", "cat /opt/weights.bin /opt/weights.bin")
    own_shop.project.call("lock", "copier")
    second = own_shop.publish("copier", "--json").json
    assert second["tag"] != first["tag"] and second["image_id"] != first["image_id"]
    # The tag of the second is forced to be the first image, as by somebody else.
    copy_tag(first["tag"], second["tag"])
    for arguments in (["copier"], ["copier", "--dry-run"], ["copier", "--with-sources"]):
        ended = own_shop.publish(*arguments, check=False)
        assert ended.code == 4
        assert "another image: tags never move" in ended.err
        assert first["image_id"] in ended.err and second["image_id"] in ended.err
    with own_shop.repository() as repository:
        found = repository.manifest(second["tag"].rpartition(":")[2])
    assert found is not None and str(found.digest) == first["manifest"]


def test_what_may_not_be_given_on_keeps_its_recipe_from_being_published(own_shop: Shop) -> None:
    edit(own_shop.project, 'to="/opt/weights.bin")', 'to="/opt/weights.bin", redistribute=False)')
    for arguments in ([], ["--dry-run"]):
        ended = own_shop.publish("copier", *arguments, check=False)
        assert ended.code == 2
        assert "copier is not published: redistribute=False" in ended.err
        assert re.search(r"recipes/copier/recipe\.py:\d+: url file:weights\.bin", ended.err)
    assert own_shop.tags() == []
    own_shop.project.call("realize", "copier")  # which is no hindrance to building it


def test_a_recipe_whose_lock_does_not_say_what_comes_out_is_not_published(own_shop: Shop) -> None:
    edit(own_shop.project, "> /opt/made/both", "> /opt/made/two")
    ended = own_shop.publish("copier", check=False)
    assert ended.code == 3
    assert "hint: reprobuild lock copier" in ended.err


def test_an_image_that_is_not_the_locks_is_not_published(own_shop: Shop, tmp_path: Path) -> None:
    image_id = own_shop.project.call("realize", "copier", "--json").json["image_id"]
    own_shop.project.edit_lock(f'"image": "{image_id}"', f'"image": "sha256:{"0" * 64}"')
    fresh = replace(own_shop, project=replace(own_shop.project, store=tmp_path / "fresh"))
    for shop in (own_shop, fresh):
        ended = shop.publish("copier", check=False)
        assert ended.code == 4
        assert "not what recipe.lock says" in ended.err
    assert own_shop.tags() == []


def test_an_image_that_was_not_built_here_is_not_published(own_shop: Shop) -> None:
    said = own_shop.project.call("realize", "copier", "--json").json
    record = own_shop.project.store / "realisations" / f"{said['input_hash'][7:]}.json"
    value = json.loads(record.read_text())
    record.write_text(json.dumps({**value, "engine": "pulled", "isolation": "pulled from elsewhere"}))
    for arguments in ([], ["--dry-run"]):
        ended = own_shop.publish("copier", *arguments, check=False)
        assert ended.code == 4
        assert "was not built here in isolation (pulled from elsewhere)" in ended.err
    assert own_shop.tags() == []


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_image_that_is_damaged_is_not_published(own_shop: Shop, damage: str) -> None:
    weights = (own_shop.project.recipe / "weights.bin").read_bytes()
    name = Digest.of(weights + b"word\n").hex
    blob = own_shop.project.store / "blobs" / "sha256" / name[:2] / name
    if damage == "gone":
        blob.unlink()
    else:
        blob.chmod(0o644)
        blob.write_bytes(b"!" + weights[1:] + b"word\n")
    ended = own_shop.publish("copier", check=False)
    assert ended.code == 4
    assert name in ended.err
    assert own_shop.tags() == []


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        pytest.param(["--to", "docker.io"], None, "whose repositories", id="no account"),
        pytest.param(["--to", "docker.io/u/x:1"], None, "names an image", id="tag"),
        pytest.param(["--to", "Ü b/x"], None, "no name of a re", id="no name"),
        pytest.param([], None, "where to publish", id="nowhere"),
        pytest.param(["--to", "h/u", "--username", "u"], None, "belong together", id="no password"),
        pytest.param(["--to", "h/u", "--password-stdin"], "x", "belong together", id="no user"),
        pytest.param(["--to", "h/u", "--username", "u", "--password-stdin"], "", "nothing came", id="empty"),
        pytest.param(["--to", "h/u", "--username", "u", "--password-stdin"], "\n", "nothing came", id="line"),
        pytest.param(["--to", "h/u", "--username", "u", "--password-stdin"], "a\nb", "no password", id="two"),
        pytest.param(["--to", "h/u", "--username", "u:v", "--password-stdin"], "x", "colon", id="colon"),
        pytest.param(["--to", "h/u", "--auto"], None, "exclude each other", id="auto and a name"),
        pytest.param(["--to", "h/u", "--set", "x"], None, "NAME=VALUE", id="set"),
        pytest.param(["--to", "h/u", "--set", "none=1"], None, "none", id="no option"),
    ],
)
def test_bad_arguments_are_told_in_words(
    built: Project, arguments: list[str], stdin: str | None, message: str
) -> None:
    ended = built.call("publish", "copier", *arguments, check=False, stdin=stdin)
    assert ended.code == 2
    assert message in ended.err and "hint:" in ended.err


def test_a_registry_that_is_not_there_or_may_not_be_asked(built: Project) -> None:
    ended = built.call("publish", "copier", "--to", "localhost:9/x", check=False)
    assert ended.code == 5 and "localhost:9" in ended.err
    ended = built.call("publish", "copier", "--to", "docker.io/x", "--offline", check=False)
    assert ended.code == 5 and "--offline" in ended.err


# Passwords


def test_a_password_from_stdin_is_used_and_a_wrong_one_is_told(built: Project, tmp_path: Path) -> None:
    with docker_registry(tmp_path, user="me") as address:
        shop = Shop(built, address, tmp_path)
        wrong = shop.publish("copier", "--username", "me", "--password-stdin", check=False, stdin="no\n")
        assert wrong.code == 5 and "401" in wrong.err and "no\n" not in wrong.err
        assert shop.tags() == []
        given = ["--username", "me", "--password-stdin", "--json"]
        said = shop.publish("copier", *given, stdin=f"{REGISTRY_PASSWORD}\n")
        assert said.json["status"] == "published"
        # Without a password nobody says whether it is there; a dry run goes on.
        blind = shop.publish("copier", "--dry-run", "--json")
        assert blind.json["action"] == "publish"
        assert "it is not told whether" in blind.err
