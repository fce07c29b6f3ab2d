"""Closures that somebody changed, that are cut off, and calls that end in the middle."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.closures import cached, predicted_project, without_network, written
from tests.projects import Ended, Project
from tests.published import bomb

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return predicted_project(tmp_path_factory.mktemp("closure"))


@pytest.fixture(scope="module")
def closure(project: Project) -> Path:
    return written(project, project.folder.parent)


@pytest.fixture
def stranger(tmp_path: Path) -> Project:
    """Somebody without the recipe and without a network."""
    return without_network(tmp_path / "stranger")


@pytest.fixture(scope="module")
def members(closure: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(closure) as archive:
        found = []
        for member in archive:
            body = archive.extractfile(member)
            found.append((member, body.read() if body is not None else b""))
    return found


Members = list[tuple[tarfile.TarInfo, bytes]]


def write(path: Path, members: Members) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for member, body in members:
            changed = tarfile.TarInfo(member.name)
            changed.type, changed.linkname, changed.size = member.type, member.linkname, len(body)
            archive.addfile(changed, io.BytesIO(body))


def index_of(members: Members) -> dict[str, Any]:
    (body,) = (body for member, body in members if member.name == "index.json")
    value = json.loads(body)
    assert isinstance(value, dict)
    return value


def with_index(members: Members, change: Callable[[dict[str, Any]], None]) -> Members:
    index = index_of(members)
    change(index)
    body = json.dumps(index).encode()
    return [(member, body if member.name == "index.json" else old) for member, old in members]


def body_of(members: Members, digest: str) -> bytes:
    return next(body for member, body in members if member.name.endswith(digest[7:]))


def put(members: Members, body: bytes) -> dict[str, Any]:
    digits = hashlib.sha256(body).hexdigest()
    members.append((tarfile.TarInfo(f"blobs/sha256/{digits}"), body))
    return {"digest": f"sha256:{digits}", "size": len(body)}


def with_image(members: Members, change: Callable[[dict[str, Any], Members], None]) -> Members:
    """Change the image's manifest; what referred to it is left out."""
    members = list(members)
    entry = index_of(members)["manifests"][0]
    manifest = json.loads(body_of(members, entry["digest"]))
    change(manifest, members)
    new = put(members, json.dumps(manifest).encode())
    return with_index(members, lambda index: index.update(manifests=[{**entry, **new}]))


def with_predictions(members: Members, text: bytes) -> Members:
    """Let the closure have other predictions, packed with gzip."""
    members = list(members)
    index = index_of(members)
    entry = next(one for one in index["manifests"] if "predictions" in one.get("artifactType", ""))
    manifest = json.loads(body_of(members, entry["digest"]))
    manifest["layers"][0] |= put(members, gzip.compress(text))
    new = put(members, json.dumps(manifest).encode())
    return with_index(members, lambda index: index["manifests"].append({**entry, **new}))


def line(**changes: Any) -> bytes:
    value = {
        "key": "ab" * 32,
        "outputs": [{"text": "x"}],
        "predictor": "default",
        "provenance": {},
        **changes,
    }
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def twice(members: Members) -> Members:
    return [*members, members[-1]]


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: [one for one in members if one[0].name != name]


def flipped(members: Members) -> Members:
    """Change a byte of the largest blob."""
    largest = max(members, key=lambda one: len(one[1]))
    body = bytearray(largest[1])
    body[len(body) // 2] ^= 1
    return [(member, bytes(body) if old is largest[1] else old) for member, old in members]


def linked(members: Members) -> Members:
    """Let a blob be a link to a file of the machine."""
    (member, _), *rest = members[::-1]
    link = tarfile.TarInfo(member.name)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return [*rest[::-1], (link, b"")]


def other_layer(manifest: dict[str, Any], members: Members) -> None:
    manifest["layers"][2] |= put(members, gzip.compress(b"evil" * 1000))


def fewer_layers(manifest: dict[str, Any], members: Members) -> None:
    manifest["layers"].pop()


def other_hash(manifest: dict[str, Any], members: Members) -> None:
    manifest["annotations"]["org.reprobuild.input-hash"] = "sha256:" + "1" * 64


def exploding(manifest: dict[str, Any], members: Members) -> None:
    manifest["layers"][0] |= put(members, bomb(2**31))


def lying(manifest: dict[str, Any], members: Members) -> None:
    manifest["layers"][0]["size"] -= 1


def huge(manifest: dict[str, Any], members: Members) -> None:
    manifest["config"] |= put(members, b'{"x":"' + b"y" * 5_000_000 + b'"}')


HOSTILE: dict[str, tuple[Callable[[Members], Members], str]] = {
    "a blob twice": (twice, "twice"),
    "a changed byte": (flipped, "damaged"),
    "a blob that is a link": (linked, "it has no blobs/sha256/"),
    "no index": (without("index.json"), "it has no index.json"),
    "an index that is none": (
        lambda m: with_index(m, lambda index: index.update(manifests=5)), "makes no sense"
    ),
    "too many manifests": (
        lambda m: with_index(m, lambda index: index.update(manifests=index["manifests"][:1] * 1001)),
        "1,001 manifests",
    ),
    "two images": (
        lambda m: with_index(m, lambda index: index["manifests"].append(index["manifests"][0])),
        "has 2 images",
    ),
    "a name that is none": (
        lambda m: with_index(
            m, lambda index: index["manifests"][0]["annotations"].update(
                {"org.opencontainers.image.ref.name": "../../etc:1.0"}
            )
        ),
        "is called '../../etc:1.0'",
    ),
    "another tag": (
        lambda m: with_index(
            m, lambda index: index["manifests"][0]["annotations"].update(
                {"org.opencontainers.image.ref.name": "reprobuild/copier:1.0-0123456789ab"}
            )
        ),
        "would have the tag",
    ),
    "another layer": (lambda m: with_image(m, other_layer), "is not in reprobuild's layer format"),
    "fewer layers": (lambda m: with_image(m, fewer_layers), "its config names 4 layers, its manifest 3"),
    "another input hash": (lambda m: with_image(m, other_hash), "would have the tag"),
    "a bomb": (lambda m: with_image(m, exploding), "unpacks to more than"),
    "a size that is none": (lambda m: with_image(m, lying), "are announced"),
    "a huge config": (lambda m: with_image(m, huge), "4,194,304 are read"),
    "predictions that are none": (lambda m: with_predictions(m, b"nonsense\n"), "holds no predictions"),
    "predictions cut off": (lambda m: with_predictions(m, line()[:-1]), "the predictions are cut off"),
    "another predictor": (lambda m: with_predictions(m, line(predictor="evil")), "line 1 of its predictions"),
    "a key that is none": (lambda m: with_predictions(m, line(key="ab")), "line 1 of its predictions"),
    "outputs of another type": (
        lambda m: with_predictions(m, line() + line(outputs=[{"text": 5}])),
        "line 2 of its predictions does not fit: the field text",
    ),
    "two outputs": (lambda m: with_predictions(m, line(outputs=[{"text": "x"}] * 2)), "2 outputs where one"),
    "a provenance that is none": (lambda m: with_predictions(m, line(provenance=5)), "lacks a key, outputs"),
    "not canonical": (lambda m: with_predictions(m, b" " + line()), "line 1 of its predictions"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_somebody_changed_is_refused(
    members: Members, stranger: Project, tmp_path: Path, case: str
) -> None:
    change, told = HOSTILE[case]
    path = tmp_path / "changed.tar"
    write(path, change(members))
    ended = stranger.call("import", str(path), check=False)
    assert ended.code in (2, 4), ended.err
    assert told in ended.err
    assert cached(stranger) == {}
    assert stranger.call("list", "--json").json["images"] == []


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.6, 0.9, 0.998])
def test_a_file_that_is_cut_off_is_refused(
    closure: Path, stranger: Project, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "cut.tar"
    data = closure.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    ended = stranger.call("import", str(path), check=False)
    if ended.code == 0:  # not even the first header is whole: a file like any other
        assert share == 0.0001
        assert ended.out.endswith("1 file taken into the store, 0 of them pinned\n")
    else:
        assert ended.code == 4
        assert "cut off" in ended.err
    assert stranger.call("list", "--json").json["images"] == []


def test_members_that_lead_elsewhere_are_never_looked_at(
    members: Members, stranger: Project, tmp_path: Path
) -> None:
    path = tmp_path / "more.tar"
    names = ["blobs/sha256/readme", "etc/passwd", "blobs/other"]
    write(path, [*members, *((tarfile.TarInfo(name), b"evil") for name in names)])
    assert stranger.call("import", str(path)).code == 0
    for name in ("/etc/evil", "../evil", "blobs/sha256/../../../evil"):
        write(path, [*members, (tarfile.TarInfo(name), b"evil")])
        assert stranger.call("import", str(path), check=False).code == 4
    assert not list(tmp_path.rglob("evil"))


def test_other_archives_and_layouts_are_files_like_any_other(
    project: Project, stranger: Project, tmp_path: Path
) -> None:
    archive = tmp_path / "x.tar"
    write(
        archive,
        [(tarfile.TarInfo("oci-layout"), b"{}"), (tarfile.TarInfo("index.json"), b'{"manifests":[]}')],
    )
    os.mkfifo(tmp_path / "fifo")
    ended = stranger.call("import", str(archive), "--json")
    assert [file["path"] for file in ended.json["files"]] == [str(archive)]
    assert stranger.call("import", str(tmp_path / "fifo"), check=False).code == 2
    assert stranger.call("import", str(tmp_path / "nothing"), check=False).code == 2


def test_a_folder_with_the_layout_is_as_good(
    members: Members, project: Project, stranger: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "layout"
    for member, body in members:
        if member.isfile():
            (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / member.name).write_bytes(body)
    (image,) = stranger.call("import", str(folder), "--json").json["images"]
    assert image["image_id"] == project.call("realize", "copier", "--json").json["image_id"]


# Ends in the middle.


@pytest.fixture
def large(project: Project, tmp_path: Path) -> Iterator[Project]:
    """The project with 300 MB that do not compress."""
    weights = project.recipe / "weights.bin"
    before, lock = weights.read_bytes(), project.lock.read_bytes()
    try:
        weights.write_bytes(os.urandom(150_000_000))
        project.call("lock", "copier", "--update", "url")
        yield project
    finally:
        weights.write_bytes(before)
        project.lock.write_bytes(lock)


def test_a_killed_export_leaves_nothing_under_its_name_and_a_killed_import_goes_on(
    large: Project, stranger: Project, tmp_path: Path
) -> None:
    path = tmp_path / "large.tar"
    arguments = ("export", "copier", "--closure", str(path))
    large.call("realize", "copier")
    kill(large, arguments, lambda: any(one.name.endswith(".part") for one in tmp_path.iterdir()))
    assert not path.exists()
    large.call(*arguments)
    kill(stranger, ("import", str(path)), lambda: any((stranger.store / "tmp").rglob("group*/*")))
    assert stranger.call("list", "--json").json["images"] == []
    assert stranger.call("import", str(path)).code == 0
    assert stranger.call("audit").code == 0


def kill(project: Project, arguments: tuple[str, ...], when: Callable[[], bool]) -> None:
    """Kill a call as soon as something is so; fail where it ends before."""
    with subprocess.Popen(
        project.argv(*arguments),
        cwd=project.folder,
        env=project.full_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        while not when():
            assert running.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)


def test_a_disk_that_is_full_is_told(closure: Path, stranger: Project) -> None:
    ended = stranger_with_limit(stranger, closure, 1_000_000)
    assert ended.code == 5
    assert "Traceback" not in ended.err


def stranger_with_limit(stranger: Project, closure: Path, most: int) -> Ended:
    """Import with a limit on the size of files, which stands in for a full disk."""
    stranger.call("list")
    ended = subprocess.run(
        ["bash", "-c", f'ulimit -f {most // 1024}; exec "$@"', "-", *stranger.argv("import", str(closure))],
        cwd=stranger.folder,
        env=stranger.full_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
