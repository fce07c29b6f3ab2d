"""What ``load`` sends to daemons that keep images in one way or the other, and what it says of odd ones.

The daemon is one in memory, which reads what is sent to it as its kind does; real ones are talked to in
``tests/integration/test_load.py``.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from docker.errors import APIError, NotFound

from reprobuild.build.image import Realised, RealisedLayer
from reprobuild.build.load import Loaded, load
from reprobuild.digest import Digest
from reprobuild.engine.docker.daemon import Daemon
from reprobuild.errors import CheckFailedError, EngineError
from reprobuild.events import Event, Note, PushFinished, PushProgressed, PushStarted, Warned
from reprobuild.images.image import LayerReference, make_image
from reprobuild.images.tar import write_layer
from reprobuild.store.store import Store
from tests.unit.stores import layer_of

LAYERS = ("lowest", "middle", "topmost")


class Memory:
    """A daemon's side of the API, as far as ``load`` needs it; ``containerd``: who keeps its images."""

    def __init__(self, *, containerd: bool = False, platform: str = "linux/amd64") -> None:
        self.containerd = containerd
        self.platform = platform
        self.names: dict[str, str] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.has: set[str] = set()
        """Layers, by their digest."""
        self.said: list[object] = []
        """What a load answers, instead of loading."""

    def version(self) -> dict[str, Any]:
        system, _, architecture = self.platform.partition("/")
        return {"Version": "1.2", "Os": system, "Arch": architecture, "Components": [{"Name": "Engine"}]}

    def info(self) -> dict[str, Any]:
        status = [["driver-type", "io.containerd.snapshotter.v1"]] if self.containerd else [["Type", "extfs"]]
        return {"DriverStatus": status}

    def images(self, all: bool) -> list[dict[str, Any]]:
        return [{"Id": key, "Labels": config["config"]["Labels"]} for key, config in self.configs.items()]

    def inspect_image(self, name: str) -> dict[str, Any]:
        key = self.names.get(name, name)
        if key not in self.configs:
            raise NotFound("404")
        return {"Id": key, "RootFS": {"Layers": self.configs[key]["rootfs"]["diff_ids"]}}

    def tag(self, image: str, repository: str, version: str) -> bool:
        self.names[f"{repository}:{version}"] = image
        return True

    def load_image(self, data: Iterable[bytes], quiet: bool) -> Iterable[object]:
        archive = b"".join(data)
        if self.said:
            yield from self.said
            return
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            found = {one.name: file.read() for one in opened if (file := opened.extractfile(one)) is not None}
        (described,) = json.loads(found["manifest.json"])
        config = json.loads(found[described["Config"]])
        for name in described["Layers"]:
            if name not in found and (self.containerd or name.rpartition("/")[2] not in self.has):
                yield {"error": f"open {name}: no such file or directory"}
                return
            self.has.add(name.rpartition("/")[2])
        (index,) = json.loads(found["index.json"])["manifests"]
        digest = index["digest"] if self.containerd else str(Digest.of(found[described["Config"]]))
        self.configs[digest] = config
        self.names[described["RepoTags"][0]] = digest
        yield {"stream": "Loaded image"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def image(store: Store, *names: str, version: str = "1") -> Realised:
    """Put an image in the store whose layers have one file each, named and filled by their names."""
    references = []
    for name in names:
        layer = layer_of(store, {name: name.encode() * 1000})
        diff_id, size = write_layer(layer, store.blobs.open)
        references.append(LayerReference(layer.digest, diff_id, size, name))
    made = make_image(references, platform="linux/amd64", env={}, workdir="/", predictors={})
    with store.transaction() as group:
        group.add_bytes(made.config)
    return Realised(
        recipe="sample",
        version=version,
        tag=f"reprobuild/sample:{version}-{made.image_id.short}",
        options={},
        input_hash=made.image_id,
        image_id=made.image_id,
        derivation=made.image_id,
        layers=tuple(RealisedLayer(one.step, one.layer_digest, one.diff_id, one.size) for one in references),
        env={},
        workdir="/",
        predictors={},
        engine="sandbox",
        isolation="",
    )


def loaded(store: Store, realised: Realised, memory: Memory, told: list[Event] | None = None) -> Loaded:
    daemon = Daemon(cast(Any, memory), "unix:///run/memory.sock")
    return load(store, realised, daemon, (told if told is not None else []).append)


def sent(result: Loaded) -> list[bool]:
    return [is_sent for _, _, is_sent in result.layers]


@pytest.mark.parametrize(("containerd", "second"), [(False, [False, True, True]), (True, [True] * 3)])
def test_layers_that_are_there_are_left_out_where_the_daemon_can_do_without(
    store: Store, containerd: bool, second: list[bool]
) -> None:
    memory = Memory(containerd=containerd)
    assert sent(loaded(store, image(store, *LAYERS), memory)) == [True] * 3
    assert sent(loaded(store, image(store, "lowest", "other", "topmost"), memory)) == second
    again = loaded(store, image(store, *LAYERS), memory)
    assert (sent(again), again.sent_bytes) == ([False] * 3, 0)


def test_a_layer_that_comes_twice_is_sent_where_its_place_above_is_new(store: Store) -> None:
    memory = Memory()
    loaded(store, image(store, "lowest", "middle"), memory)
    assert sent(loaded(store, image(store, "lowest", "middle", "lowest"), memory)) == [True, False, True]


def test_all_is_sent_where_the_daemon_lacks_what_it_seemed_to_have(store: Store) -> None:
    memory, told = Memory(), list[Event]()
    loaded(store, image(store, "lowest", "middle"), memory)
    memory.has.clear()
    assert sent(loaded(store, image(store, *LAYERS), memory, told)) == [True] * 3
    (note,) = [event for event in told if isinstance(event, Note)]
    assert "all are sent" in note.text


def test_what_has_gone_is_told(store: Store) -> None:
    told = list[Event]()
    realised = image(store, *LAYERS)
    result = loaded(store, realised, Memory(), told)
    begun, *progress, ended = told
    assert begun == PushStarted(realised.tag, result.sent_bytes)
    assert ended == PushFinished(realised.tag, result.sent_bytes, result.sent_bytes)
    assert progress[-1] == PushProgressed(realised.tag, result.sent_bytes)


def test_an_equal_image_under_another_tag_is_not_sent_again(store: Store) -> None:
    memory = Memory()
    loaded(store, image(store, *LAYERS), memory)
    renamed = image(store, *LAYERS, version="2")
    assert loaded(store, renamed, memory).sent_bytes == 0
    assert memory.names[renamed.tag] == str(renamed.image_id)


def test_another_platform_is_warned_of(store: Store) -> None:
    told = list[Event]()
    loaded(store, image(store, "lowest"), Memory(platform="linux/arm64"), told)
    (warned,) = [event for event in told if isinstance(event, Warned)]
    assert "is for linux/amd64" in warned.text and "linux/arm64" in warned.text


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            {"error": "unsupported\nmanifest"},
            "Docker 1.2, unix:///run/memory.sock refuses: unsupported manifest",
        ),
        ({"message": "denied"}, "refuses: denied"),
        (
            {"error": "write /x: no space left on device"},
            "its disk is full: write /x: no space left on device",
        ),
        (APIError("500", explanation="broken"), "refuses: broken"),
        (requests.ConnectionError("Broken pipe"), "the connection was cut after "),
        (requests.ReadTimeout("slow"), "did not answer in time"),
        (json.JSONDecodeError("what", "", 0), "its answer makes no sense"),
    ],
    ids=["error", "message", "disk", "api", "cut", "time", "nonsense"],
)
def test_what_a_daemon_says_against_it_is_told_in_words(store: Store, said: object, words: str) -> None:
    memory = Memory()

    def answer(data: Iterable[bytes], quiet: bool) -> Iterable[object]:
        for _ in data:
            pass
        if isinstance(said, Exception):
            raise said
        yield said

    memory.load_image = answer  # type: ignore[method-assign]
    with pytest.raises(EngineError) as raised:
        loaded(store, image(store, *LAYERS), memory)
    assert words in raised.value.message
    assert raised.value.hint


def test_a_daemon_that_has_something_else_afterwards_is_not_believed(store: Store) -> None:
    memory = Memory()
    memory.said = [{"stream": "Loaded image"}]
    with pytest.raises(CheckFailedError, match="has no image under reprobuild/sample:1-"):
        loaded(store, image(store, *LAYERS), memory)


def test_a_damaged_layer_is_not_sent_to_its_end(store: Store) -> None:
    realised = image(store, *LAYERS)
    body = store.blobs.path(Digest.of(b"middle" * 1000))
    body.chmod(0o644)
    body.write_bytes(b"MIDDLE" * 1000)
    memory = Memory()
    with pytest.raises(CheckFailedError, match="/middle"):
        loaded(store, realised, memory)
    assert not memory.configs
