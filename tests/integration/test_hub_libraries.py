"""Models placed by ``hub``, loaded by the libraries themselves: in a sandbox, without a network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.archives import zipped
from tests.projects import Project, require_sandbox
from tests.require import require
from tests.sites.hub import HubSite, Model
from tests.upstreams import upstreams

pytestmark = pytest.mark.once

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RECIPE = f'''\
"""A model for huggingface_hub, and data for NLTK."""
from reprobuild import apt, hub, image, predictor, recipe, wheels

@recipe(version="1.0")
def tiny():
    return image(
        apt("bookworm", "python3", "libstdc++6"),
        wheels("huggingface_hub==2.4.0", "nltk==3.10.4"),
        hub("org/tiny", revision="{COMMIT}"),
        hub("org/words", revision="{COMMIT}", layout="nltk"),
        predictors={{
            "default": predictor("cp {{input}} {{output}}", inputs={{"a": str}}, outputs={{"a": str}})
        }},
    )
'''
WEIGHTS = bytes(range(256)) * 64
SCRIPT = f"""
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
from nltk.corpus import stopwords

print(open(hf_hub_download("org/tiny", "sub/vocab.txt")).read().split())
print(snapshot_download("org/tiny") == snapshot_download("org/tiny", revision="{COMMIT}"))
print(open(hf_hub_download("org/tiny", "weights.bin"), "rb").read() == bytes(range(256)) * 64)
print(len(scan_cache_dir().warnings))
print(stopwords.words("english"))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("libraries")
    require_sandbox(folder / "store")
    (folder / "recipes/tiny").mkdir(parents=True)
    (folder / "recipes/tiny/recipe.py").write_text(RECIPE)
    (folder / "reprobuild.toml").touch()
    with upstreams(tmp_path_factory.mktemp("net")) as net:
        words = zipped({"stopwords/english": b"the\nof\n"})
        HubSite(
            {
                "org/tiny": Model(COMMIT, {"sub/vocab.txt": b"a\nb\n", "weights.bin": WEIGHTS}),
                "org/words": Model(COMMIT, {"corpora/stopwords.zip": words}),
            }
        ).join(net)
        made = Project(folder, folder / "store", net.environment())
        ended = made.call("lock", "tiny", check=False)
        if ended.code == 5:
            require("registries", ended.err.strip().partition("\n")[0])
        assert ended.code == 0, ended.err
        yield made


def test_libraries_find_what_is_placed(project: Project) -> None:
    ended = project.call("run", "tiny", "--", "python3", "-c", SCRIPT)
    assert ended.out.splitlines() == ["['a', 'b']", "True", "True", "0", "['the', 'of']"]
    assert "reached for the network" not in ended.err


def test_the_image_tells_its_libraries_to_ask_nobody(project: Project) -> None:
    ended = project.call("run", "tiny", "--", "sh", "-c", "echo $HF_HUB_OFFLINE $TRANSFORMERS_OFFLINE")
    assert ended.out == "1 1\n"


def test_what_is_locked_needs_no_hub(project: Project) -> None:
    """The store has every file; the lock names no server."""
    assert "huggingface.co" not in (project.folder / "recipes/tiny/recipe.lock").read_text()
    again = project.call("realize", "tiny", "--offline", "--json").json
    assert {layer["status"] for layer in again["layers"]} == {"reused"}
