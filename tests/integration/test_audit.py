"""``audit``: every kind of damage is found, said where it is, and mended as the screen says."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Project, make_project, require_sandbox


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with an image, a checkout and predictions, never changed by a test."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("made"))
    project.call("lock", "copier")
    predict(project)
    assert project.call("audit").code == 0
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy of it, links and times included, to be damaged."""
    subprocess.run(["cp", "-a", f"{made.folder}/.", str(tmp_path)], check=True, timeout=60)
    return Project(tmp_path, tmp_path / "store")


def predict(project: Project) -> str:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("one", "two"))
    return project.call("predict", "copier", "--input", "-", "--output", "-", stdin=lines).out


def findings(project: Project) -> list[Any]:
    ended = project.call("audit", "--json", check=False)
    assert ended.code == (4 if ended.json["findings"] else 0)
    found: list[Any] = ended.json["findings"]
    return found


def blob_with(project: Project, content: bytes) -> Path:
    (found,) = (path for path in project.blobs() if path.read_bytes() == content)
    return found


def mend(project: Project) -> None:
    """Do what the screen says, and see that it helps."""
    project.call("audit", "--repair", check=False)
    project.call("realize", "copier")
    assert predict(project) == '{"text":"one"}\n{"text":"two"}\n'
    assert findings(project) == []


def test_a_flipped_byte_of_a_blob(project: Project) -> None:
    blob = blob_with(project, b"word\n")
    blob.chmod(0o644)
    blob.write_bytes(b"word!")
    found = findings(project)
    assert any(one["kind"] == "blob" and blob.name in one["what"] + one["where"] for one in found)
    mend(project)


def test_a_flipped_byte_that_keeps_size_and_time(project: Project) -> None:
    blob = blob_with(project, bytes(range(256)) * 1024)
    before = blob.stat()
    with blob.open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00")
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert any(one["kind"] == "blob" for one in findings(project))
    mend(project)


def test_a_deleted_blob(project: Project) -> None:
    blob = blob_with(project, b"word\n")
    blob.unlink()
    assert any(blob.name in one["what"] + one["problem"] + one["where"] for one in findings(project))
    mend(project)


def checkout_file(project: Project, ending: str) -> Path:
    return next(path for path in (project.store / "checkouts").rglob(ending) if path.is_file())


@pytest.mark.parametrize("damage", ["content", "mode", "extra", "missing", "link"])
def test_an_edited_checkout(project: Project, damage: str) -> None:
    path = checkout_file(project, "app/word")
    if damage == "content":
        path.write_bytes(b"WORD\n")
    elif damage == "mode":
        path.chmod(0o755)
    elif damage == "extra":
        (path.parent / "more").touch()
    elif damage == "missing":
        path.unlink()
    else:
        path.unlink()
        path.symlink_to("elsewhere")
    found = findings(project)
    assert {one["kind"] for one in found} == {"checkout"}
    shown = json.dumps(found)
    assert "app/more" in shown if damage == "extra" else "app/word" in shown
    mend(project)


@pytest.mark.parametrize("damage", ["cut", "image", "layer", "listing", "world", "predictors", "other"])
def test_a_damaged_realisation(project: Project, damage: str) -> None:
    (record,) = (
        path
        for path in (project.store / "realisations").iterdir()
        if json.loads(path.read_bytes()).get("kind") == "image"
    )
    value = json.loads(record.read_bytes())
    if damage == "cut":
        record.write_bytes(record.read_bytes()[:100])
    else:
        if damage == "image":
            value["image_id"] = "sha256:" + "0" * 64
        elif damage == "layer":
            value["layers"][1]["diff_id"] = value["layers"][0]["diff_id"]
        elif damage == "listing":
            value["layers"][1]["layer"] = value["layers"][0]["layer"]
        elif damage == "world":
            value["env"]["LD_PRELOAD"] = "/opt/evil.so"
        elif damage == "predictors":
            value["predictors"]["default"]["command"] = "true {input} {output}"
        else:
            value["input_hash"] = "sha256:" + "1" * 64
        record.write_text(json.dumps(value))
    assert any(one["kind"] == "realisation" for one in findings(project))
    mend(project)


def test_a_tampered_prediction_is_found_and_never_given_out(project: Project) -> None:
    database = next((project.store / "predictions").rglob("cache.db"))
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT rowid, value FROM Cache").fetchall()
        rowid, value = next((rowid, value) for rowid, value in rows if b"one" in bytes(value))
        connection.execute(
            "UPDATE Cache SET value = ? WHERE rowid = ?", (bytes(value).replace(b"one", b"uno"), rowid)
        )
    connection.close()
    assert [one["kind"] for one in findings(project)] == ["prediction"]
    assert re.match(r"prediction [0-9a-f]{16} of copier/default: ", project.call("audit", check=False).out)
    assert predict(project) == '{"text":"one"}\n{"text":"two"}\n'
    assert findings(project) == []


def test_a_lock_that_pins_not_everything(project: Project) -> None:
    lines = project.lock.read_text().splitlines(keepends=True)
    project.lock.write_text("".join(line for line in lines if '"name": "weights.bin"' not in line))
    assert [one["kind"] for one in findings(project)] == ["lock"]


def test_gc_keeps_what_is_realized_and_gives_back_the_rest(project: Project) -> None:
    first = project.call("realize", "copier", "--json").json
    project.call("lock", "copier", "--set", "extra=head -c 1000000 /dev/zero > /opt/zeros")
    project.call("realize", "copier")
    before = set(project.blobs())
    said = project.call("gc", "--dry-run", "--json").json
    assert set(project.blobs()) == before
    project.call("gc")
    assert said["schema"] == 1
    again = project.call("realize", "copier", "--json").json
    assert (again["image_id"], {layer["status"] for layer in again["layers"]}) == (
        first["image_id"],
        {"reused"},
    )
    assert predict(project) == '{"text":"one"}\n{"text":"two"}\n'
    assert findings(project) == []
