"""``lock``: what becomes of the pins and outputs of other options, and of a lock that cannot be written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from reprobuild.derivation.derive import ASSEMBLER
from tests.projects import Project

pytestmark = pytest.mark.once

RECIPE = """from reprobuild import files, image, recipe, url

@recipe(version="1.0")
def small(size: str = "s", more: bool = False):
    return image(
        url("file:common.bin", to="/common"),
        url(f"file:{size}.bin", to="/own"),
        *([url("file:more.bin", to="/more")] if more else []),
    )
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose recipe has options that change its sources."""
    folder = tmp_path / "recipes" / "small"
    folder.mkdir(parents=True)
    (tmp_path / "reprobuild.toml").touch()
    (folder / "recipe.py").write_text(RECIPE)
    for name in ("common", "s", "m", "l", "more"):
        (folder / f"{name}.bin").write_text(name)
    return Project(tmp_path, tmp_path / "store")


def folder_of(project: Project) -> Path:
    return project.folder / "recipes" / "small"


def lock_of(project: Project) -> Any:
    return json.loads((folder_of(project) / "recipe.lock").read_text())


def options_of(project: Project) -> list[Any]:
    return [output["options"] for output in lock_of(project)["outputs"]["linux/amd64"]]


def edit(project: Project, old: str, new: str) -> None:
    path = folder_of(project) / "recipe.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_pins_and_outputs_of_other_options_survive(project: Project) -> None:
    for size in ("s", "m", "l"):
        project.call("lock", "small", "--set", f"size={size}")
    assert set(lock_of(project)["sources"]) == {f"url file:{name}.bin" for name in ("common", "s", "m", "l")}
    assert [one["size"] for one in options_of(project)] == ["l", "m", "s"]
    before = (folder_of(project) / "recipe.lock").read_bytes()
    project.call("lock", "small", "--set", "size=m")
    assert (folder_of(project) / "recipe.lock").read_bytes() == before
    for size in ("s", "m", "l"):
        project.call("realize", "small", "--set", f"size={size}")


def test_pins_and_outputs_of_other_platforms_survive(project: Project) -> None:
    project.call("lock", "small")
    path = folder_of(project) / "recipe.lock"
    value = json.loads(path.read_text())
    (ours,) = value["outputs"]
    theirs = "linux/arm64" if ours != "linux/arm64" else "linux/amd64"
    value["outputs"][theirs] = value["outputs"][ours]
    kept = {"count": 1, "pins": [{"name": "x.deb", "package": "x", "size": 1, "sha256": "0" * 64}]}
    value["sources"][f"apt bookworm x on {theirs}"] = kept
    value["sources"]["apt bookworm gone on linux/riscv64"] = kept
    path.write_text(json.dumps(value))
    project.call("lock", "small")
    again = json.loads(path.read_text())
    assert set(again["outputs"]) == {ours, theirs}
    assert again["sources"][f"apt bookworm x on {theirs}"] == kept
    assert "apt bookworm gone on linux/riscv64" not in again["sources"], "no output needs it"


def test_pins_of_an_older_assembler_stay_and_its_outputs_go(project: Project) -> None:
    for size in ("s", "m"):
        project.call("lock", "small", "--set", f"size={size}")
    path = folder_of(project) / "recipe.lock"
    path.write_text(path.read_text().replace(f'"assembler": {ASSEMBLER},', '"assembler": 1,'))
    (folder_of(project) / "common.bin").write_text("other bytes, which nobody asked for")
    refused = project.call("realize", "small", check=False)
    assert (refused.code, "assembler 1" in refused.err) == (2, True)
    before = lock_of(project)["sources"]
    project.call("lock", "small")
    assert lock_of(project)["assembler"] == ASSEMBLER
    assert lock_of(project)["sources"] == before
    assert options_of(project) == [{"size": "s", "more": False}]


def test_what_the_recipe_no_longer_offers_goes(project: Project) -> None:
    project.call("lock", "small")
    project.call("lock", "small", "--set", "more=true")
    assert "url file:more.bin" in lock_of(project)["sources"]
    edit(project, ", more: bool = False", "")
    edit(project, "if more else", "if False else")
    project.call("lock", "small")
    assert options_of(project) == [{"size": "s"}]
    assert set(lock_of(project)["sources"]) == {"url file:common.bin", "url file:s.bin"}


def test_realizing_another_option_gives_nothing_to_gc_that_the_lock_names(project: Project) -> None:
    for size in ("s", "m"):
        project.call("lock", "small", "--set", f"size={size}")
        project.call("realize", "small", "--set", f"size={size}")
    project.call("gc", "--grace", "0")
    for size in ("s", "m"):
        done = project.call("realize", "small", "--set", f"size={size}", "--dry-run", "--json").json
        assert {step["action"] for step in done["steps"]} == {"reuse"}


def test_a_source_that_is_there_twice_is_resolved_once(project: Project) -> None:
    """Else an apt step that finds all its packages there would take the pins from the first."""
    edit(project, 'to="/common"),', 'to="/common"), url("file:common.bin", to="/again"),')
    locked = project.call("lock", "small")
    assert locked.err.count("resolving url file:common.bin") == 1
    (output,) = lock_of(project)["outputs"]["linux/amd64"]
    assert project.call("realize", "small", "--json").json["input_hash"] == output["input"]
    assert project.call("lock", "small", "--check").err.count("resolving url file:common.bin") == 1


def test_two_at_once_keep_what_both_say(project: Project) -> None:
    project.call("list")
    calls = [
        subprocess.Popen(
            project.argv("lock", "small", "--set", f"size={size}"),
            cwd=project.folder,
            env=project.full_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for size in ("s", "m", "l")
    ]
    for call in calls:
        assert call.communicate()[1] is not None
        assert call.returncode == 0
    assert [one["size"] for one in options_of(project)] == ["l", "m", "s"]


def test_a_failure_writes_nothing(project: Project) -> None:
    project.call("lock", "small")
    before = (folder_of(project) / "recipe.lock").read_bytes()
    (folder_of(project) / "m.bin").unlink()
    ended = project.call("lock", "small", "--set", "size=m", check=False)
    assert ended.code == 2
    assert "m.bin" in ended.err
    assert (folder_of(project) / "recipe.lock").read_bytes() == before
    assert names(project) == {"recipe.py", "recipe.lock", "common.bin", "s.bin", "l.bin", "more.bin"}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
@pytest.mark.twice
def test_an_end_at_any_moment_leaves_the_old_lock_or_the_new_one(
    project: Project, sent: signal.Signals
) -> None:
    project.call("lock", "small")
    before = (folder_of(project) / "recipe.lock").read_bytes()
    realized = project.call("realize", "small", "--json").json["input_hash"]
    for wait in (0.05, 0.15, 0.2, 0.25, 0.3):
        (folder_of(project) / "recipe.lock").write_bytes(before)
        call = subprocess.Popen(
            project.argv("lock", "small", "--set", "size=l"),
            cwd=project.folder,
            env=project.full_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(wait)
        call.send_signal(sent)
        call.wait()
        sizes = [one["size"] for one in options_of(project)]
        assert sizes in (["s"], ["l", "s"])
    assert project.call("realize", "small", "--json").json["input_hash"] == realized


def test_a_half_written_lock_of_a_killed_process_is_no_part_of_the_recipe(project: Project) -> None:
    edit(project, 'url("file:common.bin", to="/common")', 'files(".", to="/all")')
    project.call("lock", "small")
    first = project.call("realize", "small", "--json").json["input_hash"]
    (folder_of(project) / f".#recipe.lock.{os.getpid()}").write_text("{")
    assert project.call("realize", "small", "--json").json["input_hash"] == first


def test_the_lock_is_no_content_of_files(project: Project) -> None:
    """Else writing it would change what it is the lock of."""
    edit(project, 'url("file:common.bin", to="/common")', 'files(".", to="/all")')
    project.call("lock", "small")
    (folder_of(project) / "recorded").mkdir()
    (folder_of(project) / "recorded" / "body").write_text("x")
    made = project.call("realize", "small", "--json").json
    (output,) = lock_of(project)["outputs"]["linux/amd64"]
    assert made["input_hash"] == output["input"]
    assert project.call("audit").code == 0


@pytest.mark.parametrize(
    ("damage", "shown"),
    [
        pytest.param(b"{", "recipe.lock of small", id="no JSON"),
        pytest.param(b"\xff\xfe", "is no text", id="no UTF-8"),
        pytest.param(b"[" * 100_000, "recursion", id="deep"),
        pytest.param(b'{"lock": 99}', "format 99", id="of a later release"),
        pytest.param(None, "is no file", id="pipe"),
    ],
)
def test_a_lock_that_cannot_be_read_is_named_with_what_helps(
    project: Project, damage: bytes | None, shown: str
) -> None:
    path = folder_of(project) / "recipe.lock"
    if damage is None:
        os.mkfifo(path)
    else:
        path.write_bytes(damage)
    for verb in ("realize", "lock"):
        ended = project.call(verb, "small", check=False)
        assert ended.code == 2
        assert shown in ended.err
    path.unlink()
    project.call("lock", "small")


def test_a_lock_reads_alike_in_every_locale(project: Project) -> None:
    edit(project, "{size}.bin", "{size}.bin?ß")
    project.call("lock", "small")
    first = project.call("realize", "small").out
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert Project(project.folder, project.folder / "other", plain).call("realize", "small").out == first


def names(project: Project) -> set[str]:
    return {path.name for path in folder_of(project).iterdir()}
