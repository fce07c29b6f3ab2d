from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reprobuild import settings, url
from reprobuild.build.place import url as placing
from reprobuild.build.place.placement import Placement
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Url
from reprobuild.digest import Digest
from reprobuild.errors import DigestMismatchError, RecipeError
from reprobuild.events import Event, Note
from reprobuild.fetch.url import downloads
from reprobuild.images.archive import ArchiveError
from reprobuild.lock.resolver import Context
from reprobuild.lock.url import resolve
from reprobuild.store.store import Store
from reprobuild.tree import Tree, directory, file
from tests.archives import block, tar
from tests.misbehaving import Answer, Misbehaving

pytestmark = pytest.mark.once

BODY = b"weights" * 1000
PIN = Pin(name="model.bin", size=len(BODY), sha256=Digest.of(BODY))


@dataclass
class Scene:
    """A recipe's folder, a store and a server."""

    folder: Path
    store: Store
    server: Misbehaving
    events: list[Event] = field(default_factory=list)

    def resolve(self, step: Url) -> Pin:
        chosen = settings.load({"allow_private": ("127.0.0.1",)}, {}, str(self.folder))
        context = Context(self.store, chosen, self.events.append, "linux/amd64", Tree(), self.folder)
        (pin,) = resolve(step, context)
        return pin

    def place(self, step: Url, pin: Pin = PIN) -> Placement:
        with self.store.transaction() as group:
            return placing.place(step, [pin], placing.facts(step, Tree(), self.store), self.store, group)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Misbehaving() as server:
        server.answers["/a/model.bin"] = [Answer(BODY)]
        yield Scene(tmp_path, Store.open(tmp_path / "store"), server)


def test_a_url_comes_to_one_pin(scene: Scene) -> None:
    address = f"{scene.server.url}/a/model.bin"
    pin = scene.resolve(url(address, to="/m/"))
    assert pin == Pin(PIN.name, PIN.size, PIN.sha256, {}, {"url": address})
    assert scene.store.blobs.read(pin.sha256) == BODY


def test_what_the_recipe_says_is_checked(scene: Scene) -> None:
    step = url(f"{scene.server.url}/a/model.bin", to="/m/", sha256="0" * 64)
    with pytest.raises(DigestMismatchError, match=r"test_url_source\.py:\d+: model\.bin") as caught:
        scene.resolve(step)
    assert caught.value.hint == f'if the new bytes are right: write sha256="{PIN.sha256.hex}" at {step.where}'


def test_a_mirror_counts_when_locking_too(scene: Scene) -> None:
    step = url(f"{scene.server.url}/gone", to="/m/x", mirrors=[f"{scene.server.url}/a/model.bin"])
    assert scene.resolve(step).sha256 == PIN.sha256


def test_a_move_for_good_is_noted(scene: Scene) -> None:
    scene.server.answers["/old"] = [Answer(status=308, headers={"Location": "/a/model.bin"})]
    assert scene.resolve(url(f"{scene.server.url}/old", to="/m/x")).found == {
        "url": f"{scene.server.url}/old"
    }
    (note,) = [event for event in scene.events if isinstance(event, Note)]
    assert note.text.endswith(f"/old has moved for good, to {scene.server.url}/a/model.bin")


def test_a_move_for_good_is_noted_without_what_may_be_secret(scene: Scene) -> None:
    moved = "/a/model.bin?token=s3cret"
    scene.server.answers["/old"] = [Answer(status=301, headers={"Location": moved})]
    scene.server.answers[moved] = [Answer(BODY)]
    pin = scene.resolve(url(f"{scene.server.url}/old", to="/m/x"))
    (note,) = [event for event in scene.events if isinstance(event, Note)]
    assert note.text.endswith(f"/old has moved for good, to {scene.server.url}/a/model.bin")
    assert "s3cret" not in str([pin, *scene.events])


def test_files_of_the_recipe(scene: Scene) -> None:
    (scene.folder / "data").mkdir()
    (scene.folder / "data/model.bin").write_bytes(BODY)
    assert scene.resolve(url("file:data/model.bin", to="/m/")).sha256 == PIN.sha256


def test_an_address_without_a_name_needs_one_in_to(scene: Scene) -> None:
    scene.server.answers["/?id=7"] = [Answer(BODY)]
    assert scene.resolve(url(f"{scene.server.url}/?id=7", to="/m/x")).name == "download"
    with pytest.raises(RecipeError, match="the address ends in no file name"):
        scene.resolve(url(f"{scene.server.url}/?id=7", to="/m/"))


def test_where_a_pin_can_be_had(tmp_path: Path) -> None:
    step = url("https://a.test/x", to="/m/x", mirrors=["https://b.test/x"])
    pin = Pin(PIN.name, PIN.size, PIN.sha256, {}, {"url": "https://c.test/x"})
    (found,) = downloads(step, [pin], settings.load({}, {}, str(tmp_path)))
    assert found.urls == ("https://a.test/x", "https://b.test/x", "https://c.test/x")
    assert (found.sha256, found.size, found.where) == (PIN.sha256, PIN.size, str(step.where))


@pytest.mark.parametrize(
    ("to", "mode", "path", "bits"),
    [
        pytest.param("/m/", None, "m/model.bin", 0o644, id="folder"),
        pytest.param("/m/other", 0o755, "m/other", 0o755, id="file"),
        pytest.param("/", None, "model.bin", 0o644, id="root"),
    ],
)
def test_where_a_file_is_placed(scene: Scene, to: str, mode: int | None, path: str, bits: int) -> None:
    placement = scene.place(url("https://a.test/model.bin", to=to, mode=mode))
    assert placement == Placement((file(path, PIN.sha256, PIN.size, bits),))


def pinned(scene: Scene, data: bytes) -> Pin:
    with scene.store.transaction() as group:
        return Pin(name="x.tar", size=len(data), sha256=group.add_bytes(data))


def test_an_archive_is_placed_as_its_members(scene: Scene) -> None:
    pin = pinned(scene, tar({"top/a": b"alpha"}))
    step = url("https://a.test/x.tar", to="/opt", unpack=True, strip=1)
    assert scene.place(step, pin).entries == (directory("opt"), file("opt/a", Digest.of(b"alpha"), 5))
    assert scene.store.blobs.read(Digest.of(b"alpha")) == b"alpha"


def test_an_archive_that_is_refused_is_named_with_its_step(scene: Scene) -> None:
    step = url("https://a.test/x.tar", to="/opt", unpack=True)
    with pytest.raises(ArchiveError, match=r"test_url_source\.py:\d+: x\.tar: '\.\./x' leads outside"):
        scene.place(step, pinned(scene, block(b"../x")))


def test_modes_are_for_single_files() -> None:
    with pytest.raises(RecipeError, match="the archive's own modes count"):
        url("https://a.test/x.tar", to="/opt", unpack=True, mode=0o755)
