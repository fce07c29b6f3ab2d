"""Real clients in recorded steps: locked once, then built again with everything that they met gone.

Each client runs unchanged, against stand-ins under the names that it has built in. What a fresh store builds
from is the lock, ``recorded/`` beside it, and large bodies that were imported: nothing else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.clients import CLIENTS
from tests.recorded import Bench
from tests.upstreams import Upstreams

AS_ANYBODY = ("apt", "git")
"""Clients that root records too: the one with many files, and the one that has to be root inside."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in AS_ANYBODY else pytest.mark.once) for name in CLIENTS]
)
def test_a_client_is_recorded_once_and_replayed_with_its_world_gone(
    bench: Bench, net: Upstreams, tmp_path: Path, name: str
) -> None:
    client = CLIENTS[name]
    recipe = f"with_{name}"
    bench.write(recipe, client, net, tmp_path)
    told = bench.lock(recipe, net).err
    assert net.log and not [text for text in client.more if text not in told]
    net.stop()
    lock = (bench.project.folder / "recipes" / recipe / "recipe.lock").read_text()
    for who in bench.fresh:
        made = bench.rebuild(recipe, who)
        assert made["image_id"] in lock, who
        sums = "".join(
            f"{hashlib.sha256(body).hexdigest()}  /{path}\n" for path, body in client.found.items()
        )
        checked = bench.fresh[who].call("run", recipe, "--", "sha256sum", "--quiet", "-c", "-", stdin=sums)
        assert checked.out == ""


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
