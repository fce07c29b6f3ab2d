"""The source ``gdrive``: Drive's pages, as stand-ins give them over TLS, to pins and files in an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reprobuild import gdrive, settings
from reprobuild.build.place import gdrive as placing
from reprobuild.derivation.derive import derive_step
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Gdrive
from reprobuild.digest import Digest
from reprobuild.errors import DigestMismatchError, RecipeError, UpstreamError
from reprobuild.events import Event
from reprobuild.fetch.download import Fetched, fetch_all
from reprobuild.fetch.gdrive import downloads
from reprobuild.lock.gdrive import resolve
from reprobuild.lock.resolver import Context
from reprobuild.settings import Settings
from reprobuild.store.store import Store
from reprobuild.tree import Layer, Tree, directory, file
from tests.archives import tar
from tests.golden import assert_golden
from tests.projects import Project, require_sandbox
from tests.sites.drive import HOSTS, QUOTA, DriveFile, DriveSite
from tests.sites.files import FileSite, Page
from tests.upstreams import Answer, Request, Site, Upstreams, moved, page, upstreams

pytestmark = pytest.mark.once

ID = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"
BODY = bytes(range(256)) * 20_000
PIN = Pin(name="model.tar.gz", size=len(BODY), sha256=Digest.of(BODY))
NEW = f"https://drive.usercontent.google.com/download?id={ID}&export=download&confirm=t"
OLD = f"https://drive.google.com/uc?export=download&id={ID}"


@dataclass
class Scene:
    """Drive's hosts, a store, and where a recipe is."""

    folder: Path
    store: Store
    net: Upstreams
    drive: DriveSite
    events: list[Event] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return settings.load({}, self.net.environment(), str(self.folder))

    def resolve(self, *, to: str = "/m/", sha256: str = "", mirrors: Sequence[str] = ()) -> Pin:
        step = gdrive(ID, to=to, sha256=sha256, mirrors=tuple(mirrors))
        context = Context(self.store, self.settings, self.events.append, "linux/amd64", Tree(), self.folder)
        (pin,) = resolve(step, context)
        return pin

    def fetch(self, step: Gdrive, pin: Pin = PIN) -> Fetched:
        wanted = downloads(step, [pin], self.settings)
        (found,) = fetch_all(self.store, wanted, tell=self.events.append, settings=self.settings)
        return found

    def answer(self, site: Site) -> None:
        """Let all of Drive's hosts answer so."""
        for host in HOSTS:
            self.net.add(host, site)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with upstreams(tmp_path) as net:
        drive = DriveSite({ID: DriveFile("model.tar.gz", BODY)})
        drive.join(net)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(net.authority.path))
        yield Scene(tmp_path, Store.open(tmp_path / "store"), net, drive)


def test_a_file_comes_to_one_pin_with_the_name_that_drive_gives(scene: Scene) -> None:
    assert scene.resolve() == PIN
    assert scene.store.blobs.read(PIN.sha256) == BODY
    assert scene.net.asked() == [f"GET {NEW}"]


def test_the_older_flow_goes_through_a_page_with_its_cookie(scene: Scene) -> None:
    scene.net.add("drive.usercontent.google.com", later(scene.drive))
    assert scene.resolve() == PIN
    confirmed = scene.net.log[-1]
    assert scene.net.asked()[-2] == f"GET {OLD}"
    assert confirmed.query.keys() == {"id", "export", "confirm", "uuid"}
    assert confirmed.query["uuid"] in scene.drive.cookies
    assert confirmed.headers["cookie"].removeprefix("NID=") in scene.drive.cookies


def later(drive: DriveSite) -> Site:
    """Answer the newer address with a page without a form, the page's own form as Drive does."""

    def site(request: Request) -> Answer:
        return drive(request) if "uuid" in request.query else page("<html>Sorry</html>", 404)

    return site


def test_the_oldest_flow_goes_through_a_link(scene: Scene) -> None:
    link = f"/uc?export=download&amp;confirm=Ab1_&amp;id={ID}"

    def site(request: Request) -> Answer:
        if request.host != "drive.google.com":
            return page("<html>Sorry</html>", 404)
        if (
            request.query.get("confirm") == "Ab1_"
            and request.headers.get("cookie") == "download_warning_7=Ab1_"
        ):
            return Answer(BODY, headers={"Content-Disposition": 'attachment; filename="model.tar.gz"'})
        text = f'<html><body><a id="uc-download-link" href="{link}">Download anyway</a></body></html>'
        return page(text, set_cookie="download_warning_7=Ab1_; Path=/; Secure; HttpOnly")

    scene.answer(site)
    assert scene.resolve() == PIN


def test_a_page_that_is_the_file_is_taken(scene: Scene) -> None:
    body = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"
    headers = {"Content-Type": "text/html", "Content-Disposition": 'attachment; filename="page.html"'}
    scene.answer(lambda request: Answer(body, headers=headers))
    assert scene.resolve() == Pin("page.html", len(body), Digest.of(body))


SIGN_IN = "https://accounts.google.com/v3/signin/identifier?continue=x"
INFECTED = (
    "<html><head><title>Google Drive - Infected file</title></head><body><p class='uc-error-caption'>"
    "Sorry, this file is infected with a virus</p><p class='uc-error-subcaption'>Only the owner is "
    "allowed to download infected files.</p></body></html>"
)
NO_ACCESS = (
    "<html><head><title>Google Drive: You need access</title></head><body>Request access</body></html>"
)
STRANGE = (
    "<html><head><title>Google Drive</title></head><body><p class='uc-error-subcaption'>"
    "Something <b>else</b> is wrong.</p></body></html>"
)
DOCUMENT = f"https://docs.google.com/document/d/{ID}/edit"
FOLDER = f"https://drive.google.com/drive/folders/{ID}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(page(QUOTA), "quota is used up", id="quota"),
        pytest.param(page(QUOTA, 403), "quota is used up", id="quota-403"),
        pytest.param(moved(SIGN_IN), "wants a sign-in", id="sign-in"),
        pytest.param(page(INFECTED), "found a virus", id="virus"),
        pytest.param(page(NO_ACCESS), "does not give this file to strangers", id="no-access"),
        pytest.param(page("<html>Forbidden</html>", 403), "does not give this file to strangers", id="403"),
        pytest.param(page("<html><title>Error 404 (Not Found)!!1</title>", 404), "no such file", id="404"),
        pytest.param(moved(DOCUMENT), "makes anew for each download", id="document"),
        pytest.param(moved(FOLDER), "the id of a folder", id="folder"),
        pytest.param(page(STRANGE), "which says 'Something else is wrong.'", id="unknown"),
    ],
)
def test_a_page_is_never_the_file_and_is_said_in_words(scene: Scene, answer: Answer, words: str) -> None:
    def site(request: Request) -> Answer:
        elsewhere = (
            request.host == "accounts.google.com" or "/d/" in request.path or "/drive/" in request.path
        )
        return page("<html><head><title>Sign in</title></head></html>") if elsewhere else answer

    scene.answer(site)
    with pytest.raises(UpstreamError, match=words) as caught:
        scene.resolve()
    assert caught.value.message.startswith("test_gdrive.py:")
    assert "mirrors=" in caught.value.hint and "reprobuild import" in caught.value.hint
    assert not list((scene.folder / "store/blobs/sha256").rglob("?" * 64))


def test_a_form_that_leads_away_from_google_is_not_followed(scene: Scene) -> None:
    form = (
        '<html><form id="download-form" action="https://evil.test/x">'
        '<input type="hidden" name="id" value="1"></form></html>'
    )
    scene.net.add("evil.test", FileSite({"/x": Page(b"evil")}))
    scene.answer(lambda request: page(form))
    with pytest.raises(UpstreamError, match="a page instead of the file"):
        scene.resolve()
    assert not scene.net.asked("evil.test")


@pytest.mark.parametrize("action", ["https://[1/download", "https://drive.google.com:x/download"])
def test_a_page_that_makes_no_sense_is_told(scene: Scene, action: str) -> None:
    form = f'<form id="download-form" action="{action}"><input type="hidden" name="id" value="1"></form>'
    scene.answer(lambda request: page(f"<html>{form}<![foo x]></html>"))
    with pytest.raises(UpstreamError):
        scene.resolve()


def test_pages_without_end_end(scene: Scene) -> None:
    drive = scene.drive
    scene.answer(lambda request: drive(dataclasses.replace(request, host="drive.google.com")))
    with pytest.raises(UpstreamError, match="from page to page"):
        scene.resolve()


def test_a_mirror_helps(scene: Scene) -> None:
    scene.drive.files[ID].state = "quota"
    scene.net.add("mirror.test", FileSite({"/a/copy.bin": Page(BODY)}))
    mirrors = ["https://mirror.test/a/copy.bin"]
    assert scene.resolve(mirrors=mirrors) == dataclasses.replace(PIN, name="copy.bin")
    assert "cookie" not in scene.net.log[-1].headers


def test_what_is_pinned_is_fetched_by_digest(scene: Scene) -> None:
    step = gdrive(ID, to="/m/")
    assert scene.fetch(step).digest == PIN.sha256
    scene.drive.files[ID].body = b"other" * 1000
    wrong = dataclasses.replace(PIN, sha256=Digest.of(b"what it was"))
    with pytest.raises(DigestMismatchError, match="the bytes are not the pinned ones"):
        scene.fetch(step, wrong)


def test_a_mirror_helps_where_the_bytes_are_others(scene: Scene) -> None:
    scene.drive.files[ID].body = b"other" * 1000
    scene.net.add("mirror.test", FileSite({"/copy": Page(BODY)}))
    assert scene.fetch(gdrive(ID, to="/m/", mirrors=["https://mirror.test/copy"])).size == len(BODY)


def test_a_download_goes_on_where_it_was_cut(scene: Scene) -> None:
    half = len(BODY) // 2
    cuts = [True]

    def site(request: Request) -> Answer:
        if cuts:
            cuts.clear()
            headers = {"Content-Disposition": "attachment; filename=m", "Content-Length": str(len(BODY))}
            return Answer(iter([BODY[:half]]), headers={**headers, "Connection": "close"})
        return scene.drive(request)

    scene.answer(site)
    assert scene.fetch(gdrive(ID, to="/m/")).digest == PIN.sha256
    assert scene.net.log[-1].headers["range"] == f"bytes={half}-"


def test_what_the_store_has_is_not_fetched_but_its_name_is_asked_for(scene: Scene) -> None:
    with scene.store.transaction() as group:
        group.add_bytes(BODY)
    assert scene.resolve(to="/m/x", sha256=PIN.sha256.hex).sha256 == PIN.sha256
    assert not scene.net.log
    assert scene.resolve(sha256=PIN.sha256.hex) == PIN


def test_no_name_at_all(scene: Scene) -> None:
    scene.answer(lambda request: Answer(BODY, headers={"Content-Disposition": "attachment"}))
    assert scene.resolve(to="/m/x").name == ID
    with pytest.raises(RecipeError, match="nobody says what the file is called"):
        scene.resolve()


def test_golden_placements(scene: Scene) -> None:
    data = tar({"top/a": b"alpha", "top/b/c": b"beta"})
    with scene.store.transaction() as group:
        archive = Pin("x.tar", len(data), group.add_bytes(data))
    with scene.store.transaction() as group:
        plain = placing.place(gdrive(ID, to="/m/", mode=0o755), [PIN], {}, scene.store, group)
        unpacked = placing.place(gdrive(ID, to="/m", unpack=True, strip=1), [archive], {}, scene.store, group)
    assert plain.entries == (file("m/model.tar.gz", PIN.sha256, PIN.size, 0o755),)
    assert unpacked.entries[0] == directory("m")
    assert_golden(
        "place/gdrive",
        {
            "plain": Layer(plain.entries).listing.decode().splitlines(),
            "unpacked": Layer(unpacked.entries).listing.decode().splitlines(),
            "steps": [
                derive_step(gdrive(ID, to="/m/"), [PIN]).value,
                derive_step(gdrive("0" * 33, to="/m/x", unpack=True), [PIN]).value,
            ],
        },
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda: gdrive(FOLDER, to="/x"), "this is a folder", id="folder"),
        pytest.param(
            lambda: gdrive(f"https://drive.google.com/file/d/{ID}/view", to="/x"), "not its address", id="url"
        ),
        pytest.param(lambda: gdrive("a b", to="/x"), "not the id", id="no-id"),
        pytest.param(lambda: gdrive(ID, to="/x", strip=1), "unpack=True", id="strip"),
        pytest.param(lambda: gdrive(ID, to="/x", unpack=True, mode=0o755), "own modes", id="mode"),
        pytest.param(lambda: gdrive(ID, to="/x", mirrors=["mirror"]), "a list of http", id="mirror"),
        pytest.param(lambda: gdrive(ID, to="/x", mirrors=["https://a:b@c/d"]), "password", id="password"),
        pytest.param(lambda: gdrive(ID, to="/x", mirrors="https://c/d"), "a list of", id="text"),  # type: ignore[arg-type]
    ],
)
def test_words_that_make_no_sense(make: Callable[[], Gdrive], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make()


RECIPE = f'''\
"""Two files of Google Drive."""
from reprobuild import gdrive, image, recipe

@recipe(version="1.0")
def drive():
    return image(gdrive("{ID}", to="/models/"), gdrive("{ID}", to="/again", mode=0o755))
'''


@pytest.mark.twice
def test_what_is_locked_is_built_from_an_empty_store_and_a_quota_is_said(scene: Scene) -> None:
    folder = scene.folder / "project"
    (folder / "recipes/drive").mkdir(parents=True)
    (folder / "recipes/drive/recipe.py").write_text(RECIPE)
    (folder / "reprobuild.toml").touch()
    first = Project(folder, scene.folder / "one", scene.net.environment())
    require_sandbox(first.store)
    first.call("lock", "drive")
    made = first.call("realize", "drive", "--json").json
    second = Project(folder, scene.folder / "two", scene.net.environment())
    again = second.call("realize", "drive", "--json").json
    assert made["image_id"] == again["image_id"]
    assert again["fetched_bytes"] == len(BODY)
    scene.drive.files[ID].state = "quota"
    third = Project(folder, scene.folder / "three", scene.net.environment())
    ended = third.call("realize", "drive", check=False)
    assert ended.code == 5
    assert "recipes/drive/recipe.py:6: model.tar.gz: Google Drive: the file's quota is used up" in ended.err
