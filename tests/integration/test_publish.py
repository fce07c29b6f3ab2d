"""``publish``: what a registry gets, what a second call sends; ends in the middle; others can use it."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.images import artifact
from tests.daemons import Docker
from tests.servers import run, skopeo
from tests.shops import Shop, copy_tag, edit

pytestmark = pytest.mark.once

TYPES = {artifact.PROVENANCE_TYPE, artifact.SBOM_TYPE, artifact.LOCK_TYPE}


# What a registry gets


@pytest.mark.twice
def test_an_image_goes_out_under_its_tag_with_what_refers_to_it(shop: Shop) -> None:
    said = shop.publish("copier", "--json").json
    realized = shop.project.call("realize", "copier", "--json").json
    tag = f"{shop.registry}/me/{realized['tag'].partition('/')[2]}"
    assert (said["status"], said["tag"], said["image_id"]) == ("published", tag, realized["image_id"])
    assert said["sent_bytes"] > 0

    inspected = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{tag}"))
    assert inspected["Digest"] == said["manifest"]
    manifest = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{tag}"))
    assert manifest["config"]["digest"] == realized["image_id"]
    assert manifest["annotations"]["org.reprobuild.input-hash"] == realized["input_hash"]
    with shop.repository() as repository:
        found = repository.referrers(Digest.parse(said["manifest"]))
        assert {one.artifact_type for one in found} == TYPES
        assert {(one["type"], one["digest"]) for one in said["artifacts"]} == {
            (one.artifact_type, str(one.digest)) for one in found
        }
        (sbom,) = (one for one in found if one.artifact_type == artifact.SBOM_TYPE)
        body = repository.manifest(str(sbom.digest))
        assert body is not None
        (entry,) = json.loads(body.body)["layers"]
        bill = json.loads(repository.read_blob(Digest.parse(entry["digest"]), limit=10**7))
    assert bill["bomFormat"] == "CycloneDX"
    # This registry has no referrers API: others find the list under a tag.
    listed = f"{tag.rpartition(':')[0]}:sha256-{said['manifest'].removeprefix('sha256:')}"
    index = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{listed}"))
    assert {one["artifactType"] for one in index["manifests"]} == TYPES


def test_the_second_time_nothing_is_sent_and_nothing_changes(shop: Shop) -> None:
    first = shop.publish("copier", "--json").json
    before = shop.files()
    again = shop.publish("copier", "--json")
    assert (again.json["status"], again.json["sent_bytes"]) == ("there", 0)
    assert again.json["manifest"] == first["manifest"]
    assert "already there, 0 bytes pushed" in again.err
    assert shop.files() == before


def test_another_namespace_gets_what_the_registry_has_without_sending_it(shop: Shop) -> None:
    first = shop.publish("copier", "--json").json
    second = shop.publish("copier", "--json", to="other/team").json
    assert second["manifest"] == first["manifest"]
    assert second["sent_bytes"] < first["sent_bytes"] / 10


def test_sources_can_be_added_later_and_are_every_pinned_file(shop: Shop) -> None:
    first = shop.publish("copier", "--json").json
    added = shop.publish("copier", "--with-sources", "--json").json
    assert (added["status"], added["manifest"]) == ("completed", first["manifest"])
    assert [one["type"] for one in added["artifacts"]] == [artifact.SOURCES_TYPE]
    weights = (shop.project.recipe / "weights.bin").read_bytes()
    with shop.repository() as repository:
        (sources,) = repository.referrers(Digest.parse(first["manifest"]), artifact.SOURCES_TYPE)
        body = repository.manifest(str(sources.digest))
        assert body is not None
        (entry,) = json.loads(body.body)["layers"]
        assert repository.read_blob(Digest.parse(entry["digest"]), limit=10**7) == weights
    assert shop.publish("copier", "--with-sources", "--json").json["sent_bytes"] == 0


def test_an_image_that_somebody_put_there_bare_gets_what_refers_to_it(shop: Shop) -> None:
    said = shop.publish("copier", "--json").json
    bare = said["tag"].replace("/me/", "/bare/")
    copy_tag(said["tag"], bare)
    completed = shop.publish("copier", "--json", to="bare").json
    assert (completed["status"], completed["manifest"]) == ("completed", said["manifest"])
    assert {one["type"] for one in completed["artifacts"]} == TYPES


def test_annotations_come_from_settings_and_change_no_image_id(shop: Shop) -> None:
    first = shop.publish("copier", "--json").json
    about = {
        "REPROBUILD_PUBLISH_SOURCE": "https://example.org/recipes",
        "REPROBUILD_PUBLISH_BUILDER": "https://example.org/builder",
    }
    other = replace(shop, project=replace(shop.project, environment=about))
    second = other.publish("copier", "--json", to="second").json
    assert second["image_id"] == first["image_id"] and second["manifest"] != first["manifest"]
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{second['tag']}"))
    assert raw["annotations"]["org.opencontainers.image.source"] == "https://example.org/recipes"
    # The same image under another manifest is the same image.
    assert other.publish("copier", "--json").json["status"] == "there"


# Plans


def test_a_dry_run_says_what_would_be_pushed_and_pushes_nothing(shop: Shop) -> None:
    before = shop.files()
    plan = shop.publish("copier", "--dry-run", "--json").json
    assert shop.files() == before
    assert (plan["action"], plan["is_realized"]) == ("publish", True)
    assert {blob["action"] for blob in plan["blobs"]} == {"push"}
    assert set(plan["artifacts"]) == TYPES
    text = shop.publish("copier", "--dry-run", "--with-sources").out
    assert re.search(r"  push   layer 1 \(files root to /\) \([\d.]+ .?B", text)
    assert "  refer  sources (1 file, 262.1 kB)" in text
    shop.publish("copier")
    assert shop.publish("copier", "--dry-run", "--json").json["action"] == "nothing"
    assert "nothing to do" in shop.publish("copier", "--dry-run").out
    assert "lacks sources" in shop.publish("copier", "--dry-run", "--with-sources").out
    there = shop.publish("copier", "--dry-run", "--json", to="other").json
    assert there["action"] == "publish" and all(blob["digest"] for blob in there["blobs"])


def test_what_is_not_built_is_built_first_and_a_dry_run_builds_nothing(
    own_shop: Shop, tmp_path: Path
) -> None:
    fresh = replace(own_shop, project=replace(own_shop.project, store=tmp_path / "fresh"))
    assert "realized first" in fresh.publish("copier", "--dry-run").out
    assert not list((tmp_path / "fresh" / "checkouts").iterdir())
    ended = fresh.publish("copier", "--json")
    assert "note: copier is not built yet, so it is realized first" in ended.err
    assert ended.json["status"] == "published"
    # The compressed layers are the same whoever makes them.
    assert own_shop.publish("copier", "--json", to="second").json["manifest"] == ended.json["manifest"]


def test_auto_publishes_what_is_marked_and_not_there(own_shop: Shop) -> None:
    project = own_shop.project
    ended = own_shop.publish("--auto")
    assert "no recipe is marked for publishing" in ended.err and not ended.out
    edit(project, '@recipe(version="1.0")', '@recipe(version="1.0", publish=True)')
    plan = own_shop.publish("--auto", "--dry-run", "--json").json
    assert (plan["recipe"], plan["action"]) == ("copier", "publish")
    assert own_shop.tags() == []
    assert own_shop.publish("--auto", "--json").json["status"] == "published"
    assert own_shop.publish("--auto", "--json").json["status"] == "there"
    assert len(own_shop.tags()) == 1


def test_auto_goes_on_where_one_recipe_cannot_be_published(own_shop: Shop) -> None:
    project = own_shop.project
    edit(project, '@recipe(version="1.0")', '@recipe(version="1.0", publish=True)')
    kept = project.folder / "recipes" / "akept"
    run(["cp", "-r", str(project.recipe), str(kept)])
    text = (kept / "recipe.py").read_text().replace("def copier", "def akept")
    (kept / "recipe.py").write_text(text.replace('/weights.bin")', '/weights.bin", redistribute=False)'))
    ended = own_shop.publish("--auto", check=False)
    assert ended.code == 2
    assert "akept is not published: redistribute=False" in ended.err
    assert "copier: published" in ended.err


# Several at once, and ends in the middle


def test_several_publish_at_once_and_all_find_one_image(shop: Shop) -> None:
    argv = shop.project.argv("publish", "copier", "--json", "--to", f"{shop.registry}/me")
    about = [{}, {}, {"REPROBUILD_PUBLISH_SOURCE": "https://example.org/fork"}]
    running = [
        subprocess.Popen(
            argv,
            cwd=shop.project.folder,
            env={**shop.project.full_environment(), **one},
            stdout=subprocess.PIPE,
            text=True,
        )
        for one in about
    ]
    said = [json.loads(one.communicate(timeout=120)[0]) for one in running]
    assert [one.returncode for one in running] == [0, 0, 0]
    assert len({one["manifest"] for one in said}) == 1
    with shop.repository() as repository:
        found = repository.manifest(said[0]["tag"].rpartition(":")[2])
        assert found is not None and str(found.digest) == said[0]["manifest"]
        assert {one.artifact_type for one in repository.referrers(found.digest)} == TYPES


def test_what_is_killed_on_the_way_has_no_tag_and_the_next_call_ends_it(own_shop: Shop) -> None:
    (own_shop.project.recipe / "weights.bin").write_bytes(os.urandom(24_000_000))
    own_shop.project.call("lock", "copier", "--update", "url")
    own_shop.project.call("realize", "copier")
    argv = own_shop.project.argv("publish", "copier", "--to", f"{own_shop.registry}/me")
    kills = 0
    for wait in (0.6, 0.9, 1.2, 1.5):
        process = subprocess.Popen(
            argv, cwd=own_shop.project.folder, env=own_shop.project.full_environment(), stderr=-3, stdout=-3
        )
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            kills += 1
            with own_shop.repository() as repository:
                for tag in own_shop.tags():
                    found = repository.manifest(tag)
                    assert found is not None and len(repository.referrers(found.digest)) == len(TYPES)
    assert kills
    own_shop.publish("copier")
    assert own_shop.publish("copier", "--json").json["sent_bytes"] == 0
    (tag,) = own_shop.tags()
    skopeo("inspect", "--tls-verify=false", f"docker://{own_shop.registry}/me/copier:{tag}")
    own_shop.publish("copier", to="second")
    assert not list((own_shop.project.store / "tmp").glob("packed*"))


# Others


@pytest.mark.twice
def test_docker_pulls_it_and_its_predictor_gives_the_same_lines(shop: Shop, docker: Docker) -> None:
    tag = shop.publish("copier", "--json").json["tag"]
    docker("pull", "--quiet", tag)
    inspected = json.loads(docker("image", "inspect", tag))[0]
    realized = shop.project.call("realize", "copier", "--json").json
    assert inspected["Id"] == realized["image_id"]
    predictors = json.loads(inspected["Config"]["Labels"]["org.reprobuild.predictors"])
    command = predictors["default"]["command"].replace("{input}", "/tmp/in").replace("{output}", "/tmp/out")
    records = '{"text":"abc"}\n{"text":"grüße"}\n'
    script = f"mkdir -p /tmp && cat > /tmp/in && {command} && cat /tmp/out"
    without_network = ["run", "--rm", "--interactive", "--network", "none"]
    lines = docker(*without_network, tag, "/bin/sh", "-c", script, input=records.encode())
    predicted = shop.project.call("predict", "copier", "--input", "-", "--output", "-", stdin=records).out
    assert lines == predicted
    docker("image", "rm", tag)


def test_skopeo_copies_it_with_every_layer(shop: Shop, tmp_path: Path) -> None:
    said = shop.publish("copier", "--json").json
    copy = tmp_path / "copy"
    tls = "--src-tls-verify=false"
    skopeo("copy", tls, f"docker://{said['tag']}", f"dir:{copy}")
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest["config"]["digest"] == said["image_id"]
    config = json.loads((copy / said["image_id"][7:]).read_text())
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        body = gzip.decompress((copy / layer["digest"][7:]).read_bytes())
        assert str(Digest.of(body)) == diff_id
