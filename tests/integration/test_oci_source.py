"""Base images beside the recipe and in registries: pinned, placed, the same whatever they came from."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from reprobuild import oci
from reprobuild.derivation.derive import derive_step
from reprobuild.derivation.world import base_of
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, RecipeError
from reprobuild.tree import NORMAL_TIME, Layer, Tree
from tests.archives import member, symlink
from tests.base_images import (
    BaseImage,
    index,
    layer,
    sha256,
    write_docker_archive,
    write_layout,
)
from tests.base_scene import Scene, make_scene
from tests.daemons import Docker
from tests.golden import assert_golden
from tests.require import program, require
from tests.servers import run, short_folder

pytestmark = pytest.mark.once

SAID: dict[str, Any] = {
    "Env": ["PATH=/opt/bin:/bin", "WORD=base", "WORD=last"],
    "WorkingDir": "srv/",
    "User": "app",
    "Entrypoint": ["/init"],
    "Cmd": None,
    "Labels": {"b": "2", "a": "1"},
    "ExposedPorts": {"80/tcp": {}},
}
LOWER = layer({"etc/motd": b"hello", "srv/gone": b"1", "srv/own": b"2"}, folders=["etc", "srv"], uid=7)
UPPER = layer({"srv/new": b"3"}, folders=["srv"], whiteouts=["srv/gone"], uid=7)
IMAGE = BaseImage([LOWER, UPPER], SAID)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def test_an_image_comes_to_manifest_config_and_layers(scene: Scene) -> None:
    write_layout(scene.folder / "base", IMAGE)
    pins = scene.resolve("oci-layout:./base")
    assert [pin.name for pin in pins] == ["manifest", "config", "layer 1", "layer 2"]
    assert [str(pin.sha256) for pin in pins] == [
        sha256(one) for one in (IMAGE.manifest, IMAGE.config, *IMAGE.packed)
    ]
    assert pins[1].hashed == {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "env": {"PATH": "/opt/bin:/bin", "WORD": "last"},
        "workdir": "/srv",
        "user": "app",
        "entrypoint": ["/init"],
        "labels": {"a": "1", "b": "2"},
        "ports": ["80/tcp"],
    }
    assert base_of(pins).workdir == "/srv"


def test_layers_are_stacked_with_their_owners(scene: Scene) -> None:
    write_layout(scene.folder / "base", IMAGE)
    tree = scene.tree("oci-layout:base")
    assert [(entry.path, entry.uid) for entry in tree] == [
        ("etc", 7),
        ("etc/motd", 7),
        ("srv", 7),
        ("srv/new", 7),
        ("srv/own", 7),
    ]


FORMS: dict[str, Callable[[Path], str]] = {
    "plain layers": lambda folder: _layout(folder, BaseImage([LOWER, UPPER], SAID, compression="")),
    "zstd": lambda folder: _layout(folder, BaseImage([LOWER, UPPER], SAID, compression="zstd")),
    "docker types": lambda folder: _layout(folder, BaseImage([LOWER, UPPER], SAID, docker_types=True)),
    "several platforms": lambda folder: _many(folder),
    "oci archive": lambda folder: _oci_archive(folder),
    "docker archive": lambda folder: _docker_archive(folder, "base.tar", "w"),
    "docker archive, packed": lambda folder: _docker_archive(folder, "base.tgz", "w:gz"),
}


def _layout(folder: Path, image: BaseImage) -> str:
    write_layout(folder / "base", image)
    return "oci-layout:base"


def _many(folder: Path) -> str:
    other = BaseImage([layer({"other": b""})], architecture="arm64")
    write_layout(folder / "base", IMAGE, other, name="1.0", top=index(other, IMAGE))
    return "oci-layout:base:1.0"


def _oci_archive(folder: Path) -> str:
    layout = write_layout(folder / "unpacked", IMAGE, name="1.0")
    with tarfile.open(folder / "base.tar", "w") as archive:
        archive.add(layout, ".")
    return "oci-archive:base.tar:1.0"


def _docker_archive(folder: Path, name: str, mode: Literal["w", "w:gz"]) -> str:
    write_docker_archive(folder / name, IMAGE, "models/base:1.0", mode=mode)
    return f"docker-archive:{name}:docker.io/models/base:1.0"


@pytest.mark.parametrize("form", FORMS)
def test_one_image_is_one_tree_whatever_it_came_in(form: str, scene: Scene) -> None:
    write_layout(scene.folder / "first", IMAGE)
    assert scene.tree(FORMS[form](scene.folder)).digest == scene.tree("oci-layout:first").digest


def test_a_platform_that_is_not_there_is_told_with_those_that_are(scene: Scene) -> None:
    reference = _many(scene.folder)
    scene.platform = "linux/riscv64"
    with pytest.raises(RecipeError, match="is not there for linux/riscv64") as caught:
        scene.resolve(reference)
    assert caught.value.hint == "it is there for linux/amd64, linux/arm64"


def test_a_config_for_another_platform_is_refused(scene: Scene) -> None:
    write_layout(scene.folder / "base", BaseImage([LOWER], overrides={"architecture": "s390x"}))
    with pytest.raises(RecipeError, match="is for linux/s390x, says its config, and linux/amd64 is wanted"):
        scene.resolve("oci-layout:base")


HOSTILE = {
    "upwards": ([layer(infos=[member("../../etc/passwd")])], "outside"),
    "a file below a file": ([layer({"a": b"1", "a/b": b"2"})], "no folder"),
    "a hard link to nothing": ([layer(infos=[member("a", tarfile.LNKTYPE, "/etc/shadow")])], "hard link"),
    "a hard link to the layer below": (
        [layer({"a": b"1"}), layer(infos=[member("b", tarfile.LNKTYPE, "a")])],
        "hard link",
    ),
    "a loop": ([layer(infos=[symlink("a", "b"), symlink("b", "a"), member("a/c")])], "loop"),
    "a root that is a file": ([layer(infos=[member(".")])], "root"),
    "a whiteout of the root": ([layer(infos=[member(".wh..")])], "removes nothing"),
    "no tar": ([b"hello world\n" * 100], "no tar archive"),
    "cut off": ([layer({"a": bytes(100_000)})[:50_000]], "cut off"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_layer_that_makes_no_sense_is_refused(name: str, scene: Scene) -> None:
    layers, problem = HOSTILE[name]
    write_layout(scene.folder / "base", BaseImage(layers))
    with pytest.raises(RecipeError, match=problem):
        scene.tree("oci-layout:base")


def test_links_of_a_layer_lead_no_further_than_its_root(scene: Scene) -> None:
    write_layout(
        scene.folder / "base",
        BaseImage([layer({"in/x": b"1"}, infos=[symlink("out", "../../../in"), symlink("abs", "/in")]),
                   layer(infos=[symlink("here", "../../in"), member("here/y")])]),
    )  # fmt: skip
    tree = scene.tree("oci-layout:base")
    assert {entry.path: entry.kind for entry in tree if entry.kind != "l"} == {
        "in": "d",
        "in/x": "f",
        "in/y": "f",
    }


def test_a_layer_s_folder_replaces_a_link_of_the_layer_below(scene: Scene) -> None:
    write_layout(
        scene.folder / "base",
        BaseImage([layer({"usr/x": b"1"}, infos=[symlink("bin", "usr")]), layer({"bin/y": b"2"})]),
    )
    assert [entry.path for entry in scene.tree("oci-layout:base")] == ["bin", "bin/y", "usr", "usr/x"]


STACKS: dict[str, tuple[list[bytes], list[str]]] = {
    "opaque": (
        [layer({"a/x": b"", "a/s/y": b""}), layer({"a/z": b"", "a/.wh..wh..opq": b""})],
        ["a", "a/z"],
    ),
    "opaque root": ([layer({"a/x": b"", "b": b""}), layer({".wh..wh..opq": b"", "c": b""})], ["c"]),
    "a folder becomes a file": ([layer({"a/x": b""}), layer({"a": b""})], ["a"]),
    "a file becomes a folder": ([layer({"a": b""}), layer({"a/x": b""})], ["a", "a/x"]),
    "removed and made again": ([layer({"a/x": b""}), layer({"a/y": b""}, whiteouts=["a"])], ["a", "a/y"]),
    "a whiteout of nothing": ([layer({"a": b""}), layer(whiteouts=["b", "c/d"])], ["a"]),
    "a whiteout does not hide its own layer": ([layer({"a": b""}, whiteouts=["a"])], ["a"]),
    "removed, then back": (
        [layer({"a/x": b""}), layer(whiteouts=["a"]), layer({"a/z": b""})],
        ["a", "a/z"],
    ),
    "hard links": ([layer({"a": b"1"}, infos=[member("b", tarfile.LNKTYPE, "/a")])], ["a", "b"]),
    "names with a slash before": ([layer({"/a/x": b""})], ["a", "a/x"]),
    "devices": (
        [layer({"d/x": b""}, infos=[member("d/n", tarfile.CHRTYPE), member("d/p", tarfile.FIFOTYPE)])],
        ["d", "d/x"],
    ),
    "a device hides a file": ([layer({"a": b""}), layer(infos=[member("a", tarfile.BLKTYPE)])], []),
    "what engines leave": (
        [layer({".dockerenv": b"", "dev/x": b"", "etc/hosts": b"", "etc/resolv.conf": b"", "a": b""})],
        ["a"],
    ),
    "logs": ([layer({"var/log/dpkg.log": b"x"})], ["var", "var/log"]),
    "aufs": (
        [layer({".wh..wh.aufs": b"", ".wh..wh.plnk/1.2": b"x"},
               infos=[member("a", tarfile.LNKTYPE, ".wh..wh.plnk/1.2")])],
        ["a"],
    ),
    "no layer at all": ([], []),
    "an empty layer": ([bytes(1024)], []),
    "no blocks at the end": ([layer({"a": b""})[:512]], ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_layers_are_stacked_as_container_engines_do(name: str, scene: Scene) -> None:
    layers, paths = STACKS[name]
    write_layout(scene.folder / "base", BaseImage(layers))
    assert [entry.path for entry in scene.tree("oci-layout:base")] == paths


def test_a_layer_that_is_not_the_config_s_is_refused(scene: Scene) -> None:
    image = BaseImage([LOWER], overrides={"rootfs": {"type": "layers", "diff_ids": [sha256(UPPER)]}})
    write_layout(scene.folder / "base", image)
    with pytest.raises(CheckFailedError, match="layer 1 is not the one that the image's config names"):
        scene.tree("oci-layout:base")


def test_a_lock_that_says_something_else_than_the_config_is_refused(scene: Scene) -> None:
    write_layout(scene.folder / "base", IMAGE)
    manifest, config, *layers = scene.resolve("oci-layout:base")
    forged = dataclasses.replace(config, hashed={**config.hashed, "env": {"LD_PRELOAD": "/evil.so"}})
    with pytest.raises(CheckFailedError, match="the lock says something else of env"):
        scene.place("oci-layout:base", (manifest, forged, *layers))


def test_a_base_image_is_placed_as_it_was(scene: Scene) -> None:
    infos = [
        symlink("etc/motd", "../srv/own"),
        member("srv/hard", tarfile.LNKTYPE, "srv/new"),
        member("srv/null", tarfile.CHRTYPE),
        member("srv/setuid", mode=0o4755),
    ]
    upper = layer({"srv/new": b"3"}, folders=["srv"], infos=infos, whiteouts=["srv/gone"], uid=7)
    write_layout(scene.folder / "base", BaseImage([LOWER, upper], SAID))
    pins = scene.resolve("oci-layout:base")
    placement = scene.place("oci-layout:base", pins)
    assert placement.notes == ("oci oci-layout:base: devices, sockets and fifos are not kept: /srv/null",)
    listing = Layer(placement.entries).listing.decode().splitlines()
    # Not the packed layers' digests: how well something is packed is no promise of ours.
    value = derive_step(oci("oci-layout:base"), pins).value
    assert_golden("place/oci", {"config": value["pins"][1], "entries": listing})


def test_byte_code_fits_its_source_again(scene: Scene) -> None:
    def compiled(mtime: int, size: int) -> bytes:
        return struct.pack("<HHIII", 3495, 0x0A0D, 0, mtime, size) + b"code"

    when = 1_600_000_000
    files = {"lib/a.py": b"a = 1\n", "lib/__pycache__/a.cpython-311.pyc": compiled(when, 6)}
    stale = {"lib/b.py": b"b = 1\n", "lib/__pycache__/b.cpython-311.pyc": compiled(when - 5, 6)}
    # The source is of another layer than its byte code.
    over = {"lib/c.py": b"c = 1\n"}, {"lib/__pycache__/c.cpython-311.pyc": compiled(when, 6)}
    layers = [layer({**files, **stale, **over[0]}, mtime=when), layer(over[1], mtime=when)]
    write_layout(scene.folder / "base", BaseImage(layers))
    tree = scene.tree("oci-layout:base")
    kept = [entry for entry in tree if entry.path.endswith(".pyc")]
    assert [entry.path.rpartition("/")[2] for entry in kept] == ["a.cpython-311.pyc", "c.cpython-311.pyc"]
    assert all(entry.digest == Digest.of(compiled(NORMAL_TIME, 6)) for entry in kept)


VARIED = BaseImage(
    [
        layer(
            {"a/x": b"1", "a/gone": b"2", "a/s/deep": b"3", "o/below": b"4", "becomes": b"5", "f/y": b"6"},
            folders=["a", "a/s", "o", "f", "home", "home/me", "usr", "usr/bin"],
            infos=[
                symlink("bin", "usr/bin"),
                member("a/hard", tarfile.LNKTYPE, "a/x"),
                member("a/setuid", mode=0o4755),
                symlink("home/me/link", "/nowhere"),
            ],
            uid=1000,
        ),
        layer(
            {"o/.wh..wh..opq": b"", "o/above": b"7", "becomes/z": b"8", "f": b"9", "bin/tool": b"10"},
            folders=["o", "becomes", "bin"],
            whiteouts=["a/gone", "a/s"],
        ),
        layer({"a/x": b"changed"}, folders=["a"], uid=33),
    ],
    {"Cmd": ["/bin/tool"]},
)


def exported(stream: bytes) -> list[tuple[str, str, int, int, int, str]]:
    """Give what an engine's export holds, as ``listed`` gives entries; hard links are files."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        for info in archive:
            source = archive.getmember(info.linkname) if info.islnk() else info
            kind = "d" if info.isdir() else "l" if info.issym() else "f"
            mode = 0o777 if kind == "l" else source.mode & 0o7777
            target = info.linkname if kind == "l" else ""
            path = info.name.rstrip("/").removeprefix("./")
            found.append((path, kind, mode, source.uid, source.size if kind == "f" else 0, target))
    made = ("dev", "proc", "sys", "etc", "run", ".dockerenv", "")
    return sorted(one for one in found if one[0].partition("/")[0] not in made)


def listed(tree: Tree) -> list[tuple[str, str, int, int, int, str]]:
    return [(one.path, one.kind, one.mode, one.uid, one.size, one.target) for one in tree]


@pytest.mark.twice
def test_docker_has_the_same_files(scene: Scene, docker: Docker) -> None:
    archive = write_docker_archive(scene.folder / "base.tar", VARIED, "test/varied:1")
    docker("load", "--input", str(archive))
    name = docker("create", "--network", "none", "test/varied:1").strip()
    try:
        found = subprocess.run(
            [str(docker.client), "--host", docker.host, "export", name], capture_output=True, check=True
        )
    finally:
        docker("rm", name)
    assert exported(found.stdout) == listed(scene.tree("docker-archive:base.tar"))


@pytest.mark.twice
def test_podman_has_the_same_files(scene: Scene) -> None:
    podman = str(program("podman"))
    require("podman", "" if os.geteuid() == 0 else "podman needs root, or a range of uids")
    write_layout(scene.folder / "base", VARIED)
    with short_folder() as folder:
        roots = ["--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        command = [podman, *roots, "--storage-driver", "vfs"]
        image = run([*command, "pull", "-q", f"oci:{scene.folder}/base"]).strip()
        name = run([*command, "create", "--network", "none", image]).strip()
        found = subprocess.run([*command, "export", name], capture_output=True, check=True)
        run([*command, "rm", name])
        run([*command, "rmi", "--all"])
    assert exported(found.stdout) == listed(scene.tree("oci-layout:base"))
