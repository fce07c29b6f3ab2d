"""``apt`` and ``wheels`` on a base image: what the base has counts, and its own Python gets the packages."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild import apt, wheels
from reprobuild.build.place.python import find_python
from reprobuild.lock import wheels as lock_wheels
from reprobuild.lock.resolver import Context
from reprobuild.settings import load
from reprobuild.tree import Tree
from tests.apt_machine import Machine, names
from tests.archives import body_of
from tests.base_images import BaseImage, layer, write_docker_archive, write_layout
from tests.base_scene import make_scene
from tests.debian import control_text
from tests.projects import Project, require_sandbox
from tests.wheels import Index, simple_index, wheel

INSTALLED = "\n".join(
    control_text(name, version, status="install ok installed", provides=provides)
    for name, version, provides in (("libx", "1.1-1", "x"), ("shell", "1", "sh"), ("emacs", "1", "editor"))
)


def tree_of(machine: Machine, *layers: bytes) -> Tree:
    scene = make_scene(machine.folder)
    scene.store = machine.store
    write_layout(machine.folder / "base", BaseImage(layers))
    return scene.tree("oci-layout:base")


def test_apt_adds_what_the_base_lacks(machine: Machine, mirror: list[str]) -> None:
    status = {"var/lib/dpkg/status": INSTALLED.encode(), "usr/lib/libx.so": b"library"}
    machine.tree = tree_of(machine, layer(status, folders=["usr", "usr/lib", "var/lib/dpkg"]))
    step = apt("bookworm", "tool")
    pins = machine.lock(step)
    assert names(pins) == ["tool"]
    machine.fetch(step, pins)
    assert "usr/bin/tool" in machine.place(step, pins)


def test_apt_goes_where_the_base_has_its_folders(machine: Machine, mirror: list[str]) -> None:
    """A base from before /usr was merged has real folders; one after it has links."""
    old = layer({"bin/sh": b"", "lib/old.so": b"", "var/lib/dpkg/status": INSTALLED.encode()})
    machine.tree = tree_of(machine, old)
    step = apt("bookworm", "libx=1.2-1", "vi")
    machine.tree = Tree(e for e in machine.tree if not e.path.startswith("var"))
    pins = machine.lock(step)
    machine.fetch(step, pins)
    assert "lib/libx.so" in machine.place(step, pins)


@pytest.fixture
def index() -> Iterator[Index]:
    requires = ["forold; python_full_version < '3.7.18'"]
    files = {
        "app-1.0-py3-none-any.whl": wheel("app", "1.0", {"app.py": b"X = 1\n"}, requires=requires),
        "forold-1.0-cp37-cp37m-manylinux2014_x86_64.whl": wheel(
            "forold", "1.0", {"forold.py": b"Y = 1\n"}, is_pure=False
        ),
        "forold-1.0-cp38-cp38-manylinux2014_x86_64.whl": wheel("forold", "1.0", {"forold.py": b"Z = 1\n"}),
    }
    with simple_index(files) as served:
        yield served


def test_wheels_fit_the_python_below_usr_local(machine: Machine, index: Index) -> None:
    """As python's own images have it: a Python 3.7 built from source, beside one of Debian's for apt."""
    files = {
        "usr/local/bin/python3.7": b"\x7fELF",
        "usr/bin/python3.11": b"\x7fELF",
        "etc/debian_version": b"12\n",
        "usr/local/include/python3.7m/patchlevel.h": b'#define PY_VERSION      "3.7.17"\n',
    }
    machine.tree = tree_of(machine, layer(files))
    settings = load({"python_index": index.url}, {"HOME": str(machine.folder)}, str(machine.folder))
    context = Context(machine.store, settings, print, "linux/amd64", machine.tree, machine.folder)
    pins = lock_wheels.resolve(wheels("app", python="3.7"), context)
    assert [pin.name for pin in pins] == [
        "app-1.0-py3-none-any.whl",
        "forold-1.0-cp37-cp37m-manylinux2014_x86_64.whl",
    ]
    python = find_python(machine.tree, "3.7", "")
    assert (python.purelib, python.scripts) == ("usr/local/lib/python3.7/site-packages", "usr/local/bin")


FIRST = '''\
"""What the base is made of."""
from reprobuild import apt, image, recipe

@recipe(version="1.0")
def first():
    return image(apt("bookworm", "python3"), env={"BASE": "yes"}, workdir="/srv")
'''
SECOND = '''\
"""On the base."""
from reprobuild import apt, image, oci, recipe, run, wheels

@recipe(version="1.0")
def second():
    return image(
        oci("docker-archive:./base.tar"),
        apt("bookworm", "bc"),
        wheels("app"),
        run("mkdir -p /srv; echo 6*7 | bc > got; python3 -c 'import app; print(app.X, app.__file__)' >> got; "
            "app >> got; echo $BASE $PWD >> got; test ! -e /usr/lib/python3.11"),
    )
'''


@pytest.mark.once
def test_debian_and_a_python_of_its_own_make_a_base(debian: Machine, tmp_path: Path) -> None:
    """From Debian's packages to an image, to a base with its Python moved below /usr/local, to an image."""
    require_sandbox(tmp_path / "try")
    folder = tmp_path / "project"
    for name, text in (("first", FIRST), ("second", SECOND)):
        (folder / "recipes" / name).mkdir(parents=True)
        (folder / "recipes" / name / "recipe.py").write_text(text)
    (folder / "reprobuild.toml").write_text("")
    files = {
        "app-1.0-py3-none-any.whl": wheel(
            "app", "1.0", {"app.py": b"X = 1\ndef main(): print('main')\n"},
            entry_points="[console_scripts]\napp = app:main\n",
        )
    }  # fmt: skip
    with simple_index(files) as index:
        project = Project(folder, folder / "store", {"REPROBUILD_PYTHON_INDEX": index.url})
        project.call("lock", "first")
        project.call("export", "first", "--to", str(folder / "first.tar"), "--format", "docker")
        write_docker_archive(folder / "recipes" / "second" / "base.tar", _moved(folder / "first.tar"))
        locked = project.call("lock", "second", "--json").json
    assert project.call("run", "second", "--", "cat", "/srv/got").out.splitlines() == [
        "42",
        "1 /usr/local/lib/python3.11/site-packages/app.py",
        "main",
        "yes /srv",
    ]
    assert locked["image_id"] == project.call("--offline", "realize", "second", "--json").json["image_id"]


def _moved(archive: Path) -> BaseImage:
    """Put a layer on an image of Debian's that has its Python where one from source would be."""
    with tarfile.open(archive) as outer:
        (image,) = json.loads(body_of(outer, "manifest.json"))
        said = json.loads(body_of(outer, image["Config"]))["config"]
        lower = body_of(outer, image["Layers"][0])
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(lower)) as inner:
        for info in inner:
            if info.isreg() and info.name.startswith(("usr/lib/python3.11/", "usr/bin/python3.11")):
                body = body_of(inner, info)
                if not info.name.endswith(".pyc"):
                    files[info.name.replace("usr/", "usr/local/", 1)] = body
    # Debian's way of finding packages is frozen into its Python.
    packages = "usr/local/lib/python3.11/site-packages"
    files["usr/local/lib/python3.11/dist-packages/packages.pth"] = f"/{packages}\n".encode()
    program = "usr/local/bin/python3.11"
    link = tarfile.TarInfo("usr/local/bin/python3")
    link.type, link.linkname = tarfile.SYMTYPE, "python3.11"
    gone = ["usr/bin/python3", "usr/bin/python3.11", "usr/lib/python3.11"]
    return BaseImage([lower, layer(files, infos=[link], modes={program: 0o755}, whiteouts=gone)], said)
