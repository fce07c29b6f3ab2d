"""The source ``hub``: a model hub's API and files, as stand-ins give them over TLS, to pins and layouts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reprobuild import hub, settings
from reprobuild.build.place import hub as placing
from reprobuild.derivation.derive import derive_step
from reprobuild.derivation.hub_layouts import environment_of
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.recipe import image
from reprobuild.derivation.steps import Hub
from reprobuild.derivation.world import world_of
from reprobuild.digest import Digest
from reprobuild.errors import DigestMismatchError, RecipeError, UpstreamError
from reprobuild.events import Event
from reprobuild.fetch.download import fetch_all
from reprobuild.fetch.hub import downloads, token
from reprobuild.lock.hub import resolve
from reprobuild.lock.resolver import Context
from reprobuild.settings import Settings
from reprobuild.store.store import Store
from reprobuild.tree import Entry, Layer, Tree
from tests.archives import zipped
from tests.golden import assert_golden
from tests.sites.hub import CDN, HUB, HubSite, Model
from tests.upstreams import Answer, Request, Site, Upstreams, moved, upstreams

pytestmark = pytest.mark.once

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "org/tiny"
CONFIG = b'{"model_type": "tiny"}\n'
WEIGHTS = bytes(range(256)) * 64
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "onnx/a b.onnx": b"onnx"}
API = f"https://{HUB}/api/models/{NAME}/tree/{COMMIT}?recursive=true"


def oid(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def pin(path: str) -> Pin:
    body = FILES[path]
    etag = hashlib.sha256(body).hexdigest() if len(body) > 4096 else oid(body)
    return Pin(path, len(body), Digest.of(body), {"etag": etag})


PINS = tuple(pin(path) for path in sorted(FILES))


@dataclass
class Scene:
    """A hub, a store, and where a recipe is."""

    folder: Path
    store: Store
    net: Upstreams
    site: HubSite
    environment: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return settings.load({}, {**self.net.environment(), **self.environment}, str(self.folder))

    def resolve(
        self, *, revision: str = COMMIT, files: Sequence[str] = (), mirrors: Sequence[str] = ()
    ) -> tuple[Pin, ...]:
        step = hub(NAME, revision=revision, files=tuple(files), mirrors=tuple(mirrors))
        context = Context(self.store, self.settings, self.events.append, "linux/amd64", Tree(), self.folder)
        return resolve(step, context)

    def place(self, step: Hub, pins: tuple[Pin, ...] = PINS) -> dict[str, Entry]:
        with self.store.transaction() as group:
            placement = placing.place(step, pins, {}, self.store, group)
        return {entry.path: entry for entry in placement.entries}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with upstreams(tmp_path) as net:
        site = HubSite({NAME: Model(COMMIT, FILES)})
        site.join(net)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(net.authority.path))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield Scene(tmp_path, Store.open(tmp_path / "store"), net, site)


def test_a_revision_comes_to_a_pin_for_each_file(scene: Scene) -> None:
    assert scene.resolve() == PINS
    assert scene.store.blobs.read(PINS[1].sha256) == WEIGHTS
    assert f"GET {API}" in scene.net.asked()
    assert f"GET https://{HUB}/{NAME}/resolve/{COMMIT}/onnx/a%20b.onnx" in scene.net.asked()
    assert len(scene.net.asked(CDN)) == 1


@pytest.mark.parametrize(
    ("files", "paths"),
    [
        pytest.param(["config.json"], ["config.json"], id="path"),
        pytest.param(["*.json", "*.safetensors"], ["config.json", "model.safetensors"], id="patterns"),
        pytest.param(["onnx/"], ["onnx/a b.onnx"], id="folder"),
    ],
)
def test_files_are_chosen_by_path_and_pattern(scene: Scene, files: list[str], paths: list[str]) -> None:
    assert [one.name for one in scene.resolve(files=files)] == paths


def test_a_file_that_is_not_there_is_named_with_those_that_are(scene: Scene) -> None:
    with pytest.raises(RecipeError, match=r"test_hub\.py:\d+: .* no file 'conf.json'") as caught:
        scene.resolve(files=["conf.json"])
    assert "config.json" in caught.value.hint


def test_a_listing_in_pages(scene: Scene) -> None:
    def site(request: Request) -> Answer:
        answer = scene.site(request)
        if "/tree/" not in request.path:
            return answer
        assert isinstance(answer.body, bytes)
        entries = json.loads(answer.body)
        index = int(request.query.get("cursor", 0))
        headers = dict(answer.headers)
        if index + 1 < len(entries):
            headers["Link"] = f'<{API}&cursor={index + 1}>; rel="next"'
        folder = {"type": "directory", "oid": "1" * 40, "size": 0, "path": "onnx"}
        return Answer(json.dumps([entries[index], folder]).encode(), 200, headers)

    scene.net.add(HUB, site)
    assert scene.resolve() == PINS


def lying(scene: Scene, path: str, body: bytes) -> Site:
    """Answer as the hub, with other bytes of one file."""

    def site(request: Request) -> Answer:
        asks = f"/resolve/{COMMIT}/{path}" in request.path
        return Answer(body, headers={"ETag": f'"{oid(body)}"'}) if asks else scene.site(request)

    return site


def test_wrong_bytes_of_a_small_file_are_found(scene: Scene) -> None:
    scene.net.add(HUB, lying(scene, "config.json", b'{"model_type": "tinY"}\n'))
    with pytest.raises(
        DigestMismatchError, match=r"config\.json: the bytes are not the hub's: as a git blob"
    ):
        scene.resolve()


def test_wrong_bytes_of_a_large_file_are_found(scene: Scene) -> None:
    scene.site.links.bodies[f"/repos/{PINS[1].sha256.hex}"] = WEIGHTS
    scene.net.add(HUB, lying(scene, "model.safetensors", WEIGHTS[::-1]))
    with pytest.raises(DigestMismatchError, match=r"model\.safetensors: the bytes are not the pinned ones"):
        scene.resolve()


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        pytest.param([{"type": "file", "path": "../x", "oid": "0" * 40, "size": 1}], "the path", id="path"),
        pytest.param([{"type": "file", "path": "x", "oid": "zz", "size": 1}], "the digest", id="oid"),
        pytest.param([{"type": "file", "path": "x", "size": 1}], "KeyError", id="field"),
        pytest.param([{"type": "file", "path": "\ud800", "oid": "0" * 40, "size": 1}], "codec", id="text"),
        pytest.param({"error": "x"}, "not the listing", id="object"),
        pytest.param(b"[" * 100_000, "not the listing .*: it is nested too deeply", id="deep"),
    ],
)
def test_a_listing_that_makes_no_sense_is_refused(scene: Scene, listing: object, words: str) -> None:
    body = listing if isinstance(listing, bytes) else json.dumps(listing).encode()
    scene.net.add(HUB, lambda request: Answer(body))
    with pytest.raises(UpstreamError, match=words):
        scene.resolve()


def test_a_listing_that_goes_on_at_what_is_no_address_is_told(scene: Scene) -> None:
    scene.net.add(HUB, lambda request: Answer(b"[]", 200, {"Link": '<https://[1/x>; rel="next"'}))
    with pytest.raises(UpstreamError, match="no address"):
        scene.resolve()


def test_a_repository_or_revision_that_is_not_there_is_said_in_words(scene: Scene) -> None:
    with pytest.raises(UpstreamError, match="no such revision"):
        scene.resolve(revision="f" * 40)
    scene.site.models.clear()
    with pytest.raises(UpstreamError, match="no such repository, or it is private"):
        scene.resolve()


def test_conditions_are_said_in_words(scene: Scene) -> None:
    scene.net.add(HUB, lambda request: Answer(b"", 403, {"X-Error-Code": "GatedRepo"}))
    with pytest.raises(UpstreamError, match="conditions have to be accepted") as caught:
        scene.resolve()
    assert "HF_TOKEN" in caught.value.hint


def test_a_token_goes_to_the_hub_and_nowhere_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.site.token = "hf_secret"
    with pytest.raises(UpstreamError, match="private"):
        scene.resolve()
    (scene.folder / "none").mkdir()
    (scene.folder / "none/token").write_text("hf_secret\n")
    monkeypatch.setenv("HF_ENDPOINT", "https://evil.test")
    scene.environment["REPROBUILD_HUB_MIRRORS"] = "https://near.test"
    scene.net.add("near.test", lambda request: Answer(b"", 503 if "none" in request.path else 404))
    assert scene.resolve() == PINS
    hosts = {one.host for one in scene.net.log if "authorization" in one.headers}
    assert hosts == {HUB}
    assert {one.host for one in scene.net.log} == {HUB, CDN, "near.test"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"HF_TOKEN": " a\n"}, "a", id="environment"),
        pytest.param({"HF_TOKEN": "a\nb"}, "", id="what no header can carry"),
        pytest.param({"HOME": "{folder}"}, "home", id="home"),
        pytest.param({"HF_TOKEN_PATH": "{folder}/other"}, "other", id="path"),
    ],
)
def test_where_tokens_are(tmp_path: Path, environment: dict[str, str], found: str) -> None:
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text("home")
    (tmp_path / "other").write_text("other\n")
    assert token({name: value.format(folder=tmp_path) for name, value in environment.items()}) == found


def test_mirrors_of_settings_come_first_and_those_of_the_step_last(scene: Scene) -> None:
    scene.net.add("near.test", scene.site)
    scene.environment["REPROBUILD_HUB_MIRRORS"] = "https://near.test/"
    assert scene.resolve(files=["config.json"]) == PINS[:1]
    assert scene.net.asked(HUB) == []
    scene.net.add("near.test", lambda request: Answer(b"", 404))
    scene.net.add(HUB, lambda request: Answer(b"", 404))
    scene.net.add("far.test", scene.site)
    assert scene.resolve(files=["onnx/*"], mirrors=["https://far.test"]) == PINS[2:]


def test_what_is_pinned_is_fetched_by_digest(scene: Scene) -> None:
    step = hub(NAME, revision=COMMIT, mirrors=["https://far.test"])
    scene.net.add("far.test", scene.site)
    scene.net.add(HUB, lying(scene, "config.json", b"other"))
    wanted = downloads(step, PINS, scene.settings)
    found = fetch_all(scene.store, wanted, tell=scene.events.append, settings=scene.settings)
    assert [one.digest for one in found] == [one.sha256 for one in PINS]


def test_a_large_file_goes_on_where_it_was_cut(scene: Scene) -> None:
    half = len(WEIGHTS) // 2
    cut: list[str] = []

    def site(request: Request) -> Answer:
        if not cut:
            cut.append(request.url)
            headers = {"Content-Length": str(len(WEIGHTS)), "Connection": "close"}
            return Answer(iter([WEIGHTS[:half]]), headers=headers)
        return scene.site.links(request)

    scene.net.add(CDN, site)
    assert scene.resolve(files=["*.safetensors"]) == PINS[1:2]
    assert scene.net.log[-1].headers["range"] == f"bytes={half}-"


def test_the_cache_of_huggingface_hub(scene: Scene) -> None:
    placed = scene.place(hub(NAME, revision=COMMIT))
    root = "root/.cache/huggingface/hub/models--org--tiny"
    assert set(placed) == {
        f"{root}/refs/main",
        *(f"{root}/blobs/{one.hashed['etag']}" for one in PINS),
        *(f"{root}/snapshots/{COMMIT}/{path}" for path in FILES),
    }
    assert placed[f"{root}/snapshots/{COMMIT}/onnx/a b.onnx"].target == f"../../../blobs/{oid(b'onnx')}"
    digest = placed[f"{root}/refs/main"].digest
    assert digest is not None and scene.store.blobs.read(digest) == COMMIT.encode()


def test_datasets_are_beside_models(scene: Scene) -> None:
    placed = scene.place(hub(NAME, revision=COMMIT, kind="dataset", to="/hf"))
    assert f"hf/hub/datasets--org--tiny/snapshots/{COMMIT}/config.json" in placed


def test_plain_files(scene: Scene) -> None:
    placed = scene.place(hub(NAME, revision=COMMIT, layout="plain", to="/m"))
    assert set(placed) == {f"m/{path}" for path in FILES}


def test_checkpoints_of_torch_have_no_folders(scene: Scene) -> None:
    placed = scene.place(hub(NAME, revision=COMMIT, layout="torch"))
    assert "root/.cache/torch/hub/checkpoints/a b.onnx" in placed
    twice = (*PINS, dataclasses.replace(PINS[0], name="x/model.safetensors"))
    with pytest.raises(RecipeError, match="two files come to"):
        scene.place(hub(NAME, revision=COMMIT, layout="torch"), twice)


def test_archives_of_nltk_are_unpacked_beside_themselves(scene: Scene) -> None:
    data = zipped({"punkt/": b"", "punkt/english.pickle": b"x"})
    with scene.store.transaction() as group:
        archive = Pin("tokenizers/punkt.zip", len(data), group.add_bytes(data), {"etag": oid(data)})
    placed = scene.place(hub(NAME, revision=COMMIT, layout="nltk"), (archive,))
    assert {"root/nltk_data/tokenizers/punkt.zip", "root/nltk_data/tokenizers/punkt/english.pickle"} < set(
        placed
    )


def test_old_caches_know_files_by_digests_of_addresses(scene: Scene) -> None:
    placed = scene.place(hub("bert-tiny", revision=COMMIT, layout="transformers-old"), PINS[:1])
    url = "https://s3.amazonaws.com/models.huggingface.co/bert/bert-tiny-config.json"
    etag = f'"{oid(CONFIG)}"'
    name = ".".join(hashlib.sha256(text.encode()).hexdigest() for text in (url, etag))
    path = f"root/.cache/torch/pytorch_transformers/{name}"
    assert placed[path].digest == PINS[0].sha256
    assert placed[f"root/.cache/torch/transformers/{name}"].target == f"../pytorch_transformers/{name}"
    digest = placed[f"{path}.json"].digest
    assert digest is not None and json.loads(scene.store.blobs.read(digest)) == {"url": url, "etag": etag}


def test_variables_let_libraries_do_without_a_server() -> None:
    step = hub(NAME, revision=COMMIT, to="/hf")
    world = world_of(image(step, env={"HF_HUB_OFFLINE": "0"}), [derive_step(step, PINS)])
    assert world.env["HF_HUB_OFFLINE"] == "0"
    assert (world.env["TRANSFORMERS_OFFLINE"], world.env["HF_HOME"]) == ("1", "/hf")
    assert environment_of(hub(NAME, revision=COMMIT, layout="nltk")) == {}


def test_golden_placements(scene: Scene) -> None:
    steps = {
        "huggingface": hub(NAME, revision=COMMIT),
        "plain": hub(NAME, revision=COMMIT, layout="plain", to="/m"),
        "torch": hub(NAME, revision=COMMIT, layout="torch"),
        "transformers-old": hub("bert-tiny", revision=COMMIT, layout="transformers-old"),
        "elsewhere": hub(NAME, revision=COMMIT, layout="transformers-old", to="/cache"),
    }
    assert_golden(
        "place/hub",
        {
            name: {
                "placed": Layer(tuple(scene.place(step).values())).listing.decode().splitlines(),
                "step": derive_step(step, PINS).value,
            }
            for name, step in steps.items()
        },
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda: hub(NAME, revision="main"), "branches and tags move", id="branch"),
        pytest.param(lambda: hub(NAME, revision=""), "branches and tags move", id="nothing"),
        pytest.param(lambda: hub("a/b/c", revision=COMMIT), "not the name", id="name"),
        pytest.param(lambda: hub("../b", revision=COMMIT), "not the name", id="dots"),
        pytest.param(lambda: hub(NAME, revision=COMMIT, layout="x"), "one of huggingface", id="layout"),
        pytest.param(lambda: hub(NAME, revision=COMMIT, kind="x"), "one of model", id="kind"),
        pytest.param(lambda: hub(NAME, revision=COMMIT, layout="plain"), "needs a folder", id="to"),
        pytest.param(lambda: hub(NAME, revision=COMMIT, files=["../x"]), "inside the repository", id="files"),
        pytest.param(lambda: hub(NAME, revision=COMMIT, files="x"), "a list", id="text"),  # type: ignore[arg-type]
        pytest.param(
            lambda: hub(NAME, revision=COMMIT, layout="transformers-old", kind="dataset"),
            "for models",
            id="old",
        ),
    ],
)
def test_words_that_make_no_sense(make: Callable[[], Hub], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        make()
    assert caught.value.message.startswith("test_hub.py:")


def test_a_branch_is_answered_with_the_command_that_gives_its_commit() -> None:
    with pytest.raises(RecipeError) as caught:
        hub(NAME, revision="v1.0", kind="dataset")
    assert caught.value.hint == f"git ls-remote https://huggingface.co/datasets/{NAME} v1.0 gives it"


def test_a_redirect_of_a_repository_that_was_renamed_is_followed(scene: Scene) -> None:
    def site(request: Request) -> Answer:
        if "/bert-tiny" in request.target:
            return moved(request.target.replace("/bert-tiny", f"/{NAME}"), 307)
        return scene.site(request)

    scene.net.add(HUB, site)
    context = Context(scene.store, scene.settings, scene.events.append, "linux/amd64", Tree(), scene.folder)
    assert resolve(hub("bert-tiny", revision=COMMIT), context) == PINS
