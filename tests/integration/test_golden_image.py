"""A golden image: the whole way from a recipe to an image ID, so that no byte changes unnoticed.

Nothing here meets a network or a sandbox: what the command changed is written down.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reprobuild import files, image, predictor, run, settings, url
from reprobuild.build.derive import Derived, join
from reprobuild.build.evaluate import Evaluated
from reprobuild.build.plan import make_plan
from reprobuild.build.project import Project
from reprobuild.build.realize import build_image
from reprobuild.derivation.derive import ASSEMBLER
from reprobuild.derivation.lockfile import Lock
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.recipe import Recipe
from reprobuild.digest import Digest
from reprobuild.engine.protocol import Capture, Isolation, RawChange, Result
from tests.archives import symlink, tar
from tests.golden import assert_golden

NOW = 1_750_000_000
WEIGHTS = bytes(range(256)) * 300
ARCHIVE = tar({"top/tool": b"#!/bin/sh\n", "top/data/x": b"1"}, infos=[symlink("top/latest", "tool")])
PYC = struct.pack("<HHIII", 3495, 0x0A0D, 0, NOW, 6) + b"code"
CHANGES = (
    (RawChange("etc", "d", 0o755), None),
    (RawChange("etc/made", "f", 0o600, uid=7, mtime=NOW, size=5), b"made\n"),
    (RawChange("etc/link", "l", 0o777, target="../app/run.py"), None),
    (RawChange("app/deep", "gone"), None),
    (RawChange("app/__pycache__", "d", 0o755), None),
    (RawChange("app/__pycache__/x.cpython-311.pyc", "f", 0o644, mtime=NOW, size=len(PYC)), PYC),
    (RawChange("app/x.py", "f", 0o644, mtime=NOW, size=6), b"x = 1\n"),
    (RawChange("app/socket", "other", 0o755), None),
    (RawChange("var", "d", 0o755), None),
    (RawChange("var/log", "d", 0o755), None),
    (RawChange("var/log/today.log", "f", 0o644, mtime=NOW, size=3), b"now"),
)
"""What a command left: times, owners, byte code, a log and a socket come to the normal form."""


@dataclass
class Scripted:
    """An engine whose every command leaves CHANGES."""

    ground: Any
    """Lays trees out, as the sandbox has them."""
    name: str = "scripted"

    def probe(self) -> Isolation:
        return Isolation("scripted", True)

    def run(self, *arguments: Any, capture: Capture, **more: Any) -> Result:
        for change, body in CHANGES:
            capture.add(change, None if body is None else io.BytesIO(body))
        return Result(0, 0.0)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose commands are scripted, with the recipe's folder ``recipe`` in it."""
    (tmp_path / "reprobuild.toml").touch()
    source = tmp_path / "recipe" / "src"
    (source / "deep").mkdir(parents=True)
    (source / "run.py").write_text("print()\n")
    (source / "run.py").chmod(0o755)
    (source / "deep" / "wörd").write_text("word\n", encoding="utf-8")
    (source / "link").symlink_to("run.py")
    (tmp_path / "recipe" / "weights.bin").write_bytes(WEIGHTS)
    (tmp_path / "recipe" / "tool.tar").write_bytes(ARCHIVE)
    made = Project(settings.load({}, {}, str(tmp_path)), platform="linux/amd64")
    made.__dict__["engine"] = Scripted(made.store.checkouts.lay_out)
    return made


def derive(folder: Path) -> Derived:
    asked = image(
        files("src", to="/app"),
        url("file:weights.bin", to="/opt/", mode=0o600),
        url("file:tool.tar", to="/opt/tool", unpack=True, strip=1),
        run(["/app/run.py", "make"], env={"A": "b"}, threads=2),
        env={"MODEL": "grün"},
        workdir="/app",
        predictors={
            "default": predictor(
                "./run.py {input} {output}",
                inputs={"text": str},
                outputs={"score": float},
                scope="item",
                examples=[({"text": "a"}, {"score": 0.5})],
            )
        },
    )
    recipe = Recipe(name="fixed", version="1", summary="", publish=False, options={}, chosen={}, image=asked)
    pins = [
        (),
        (Pin("weights.bin", len(WEIGHTS), Digest.of(WEIGHTS)),),
        (Pin("tool.tar", len(ARCHIVE), Digest.of(ARCHIVE)),),
        (),
    ]
    evaluated = Evaluated(recipe, folder, Digest.of(b""))
    return join(evaluated, Lock(ASSEMBLER), pins, "linux/amd64")


def test_a_fixed_recipe_comes_to_the_image_that_it_always_came_to(project: Project, tmp_path: Path) -> None:
    made = build_image(project, derive(tmp_path / "recipe"))
    assert_golden(
        "image",
        {
            "assembler": ASSEMBLER,
            "input_hash": str(made.input_hash),
            "image_id": str(made.image_id),
            "layers": [[layer.step, str(layer.diff_id), layer.size] for layer in made.layers],
        },
    )


def test_a_plan_is_what_is_then_done(project: Project, tmp_path: Path) -> None:
    derived = derive(tmp_path / "recipe")
    fetch = [
        {"name": "weights.bin", "size": len(WEIGHTS)},
        {"name": "tool.tar", "size": len(ARCHIVE)},
    ]
    titles = [one.step.title for one in derived.steps]
    before = make_plan(project, derived).to_json()
    assert before == {
        "schema": 1,
        "recipe": "fixed",
        "tag": f"reprobuild/fixed:1-{derived.derivation.input_hash.hex[:12]}",
        "input_hash": str(derived.derivation.input_hash),
        "steps": [
            {"step": title, "action": "build" if index == 0 else "build unless equal"}
            for index, title in enumerate(titles)
        ],
        "fetch": fetch,
        "fetch_bytes": len(WEIGHTS) + len(ARCHIVE),
    }
    made = build_image(project, derived)
    assert made.fetched_bytes == before["fetch_bytes"]
    after = make_plan(project, derived)
    assert after.is_done
    assert after.to_json() == {
        **before,
        "steps": [{"step": title, "action": "reuse"} for title in titles],
        "fetch": [],
        "fetch_bytes": 0,
    }
    # Without the image's own record each step is recalled, and a lost body is fetched again.
    project.store.realisations.remove(derived.derivation.input_hash)
    assert [step.action for step in make_plan(project, derived).steps] == ["reuse"] * 4
    project.store.blobs.path(Digest.of(WEIGHTS)).unlink()
    partly = make_plan(project, derived).to_json()
    assert [step["action"] for step in partly["steps"]] == ["reuse", "build", *["build unless equal"] * 2]
    assert partly["fetch"] == fetch[:1]
    assert build_image(project, derived).image_id == made.image_id
