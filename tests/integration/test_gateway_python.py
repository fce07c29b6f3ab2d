"""The Python that gateways' containers run is pinned for every platform, and stays once it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reprobuild import settings
from reprobuild.build.gateway_python import PROGRAM, gateway_python
from reprobuild.build.project import Project
from reprobuild.derivation.steps import DEBIAN_ARCHITECTURES
from reprobuild.errors import EngineError, OfflineError, OutsideError
from reprobuild.store.gc import carry_out, plan
from reprobuild.tree import Layer, Tree, apply
from tests.require import require

LOADERS = {
    "linux/amd64": "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "linux/arm64": "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
}


def project_of(store: Path, *, offline: bool = False) -> Project:
    given = {"store": str(store), "offline": offline}
    return Project(settings.load(given, os.environ, str(store.parent)))


@pytest.mark.parametrize("platform", DEBIAN_ARCHITECTURES)
def test_it_is_fetched_once_and_outlives_the_collector_of_garbage(tmp_path: Path, platform: str) -> None:
    try:
        made = gateway_python(project_of(tmp_path / "store"), platform)
    except OutsideError as error:
        require("registries", error.message.partition("\n")[0])
        raise
    (layer,) = made.layers
    assert isinstance(layer, Layer)
    tree = apply(Tree(), layer)
    assert made.program == f"/{PROGRAM}"
    program, loader, lib = tree.get(PROGRAM), tree.get(LOADERS[platform]), tree.get("lib")
    assert program is not None and (program.kind, program.mode) == ("f", 0o755)
    assert loader is not None and loader.kind == "f"
    assert lib is not None and lib.target == "usr/lib"

    later = project_of(tmp_path / "store", offline=True)
    carry_out(later.store, plan(later.store, grace=0))
    assert gateway_python(later, platform).layers == made.layers


def test_without_the_network_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"5 packages, 5\.8 MB.*--offline") as raised:
        gateway_python(project_of(tmp_path / "store", offline=True), "linux/amd64")
    assert "--offline" in raised.value.hint


def test_other_platforms_have_none(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="linux/riscv64"):
        gateway_python(project_of(tmp_path / "store"), "linux/riscv64")
