"""Packages that exist as source archives only: pinned, built in the sandbox, placed; with a real Python."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.projects import Project, require_sandbox
from tests.roots import unpack_packages
from tests.wheels import Index, simple_index, wheel

PYTHON = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "zlib1g"),
    *("libexpat1", "libbz2-1.0", "liblzma5", "busybox-static"),
)
RECIPE = """\
from reprobuild import files, image, recipe, wheels

@recipe(version="1.0")
def sd():
    return image(files("root", to="/"), wheels({arguments}, python="3.11", build=True))
"""

BACKEND = b"""\
import base64, hashlib, io, json, os, zipfile

def hashed(text):
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")

def get_requires_for_build_wheel(settings=None):
    return open("extra").read().split() if os.path.exists("extra") else []

def build_wheel(out, settings=None, metadata=None):
    about = json.load(open("about.json"))
    try:
        exec(about.get("run", ""))
    except Exception as error:
        raise SystemExit(str(error))
    name, version = about["name"], about["version"]
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\\n" for one in about.get("requires", []))
    members = {
        f"{name}.py": open("module.py").read(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\n",
    }
    lines = [f"{path},{hashed(text)},{len(text)}\\n" for path, text in members.items()]
    members[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\\n"])
    file = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(out, file), "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
    return file
"""
SYSTEM = '[build-system]\nrequires = ["tiny"]\nbuild-backend = "tiny"\n'


def archive(
    name: str, version: str, *, extra: str = "", system: str = SYSTEM, more: Mapping[str, object] = {}
) -> bytes:
    """Make a source archive that the backend ``tiny`` builds."""
    files = {
        "pyproject.toml": system,
        "about.json": json.dumps({"name": name, "version": version, **more}),
        "module.py": f"VERSION = {version!r}\n",
        **({"extra": extra} if extra else {}),
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as packed:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text.encode())
            packed.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


FILES = {
    "tiny-1.0-py3-none-any.whl": wheel("tiny", "1.0", {"tiny.py": BACKEND}),
    "helper-1.0-py3-none-any.whl": wheel("helper", "1.0", {"helper.py": b"X = 1\n"}),
    "app-1.0-py3-none-any.whl": wheel("app", "1.0", {"app.py": b"import src\n"}, requires=["src<3"]),
    "src-1.0.tar.gz": archive("src", "1.0"),
    "src-2.0.tar.gz": archive("src", "2.0", extra="helper", more={"requires": ["leaf"]}),
    "src-3.0.tar.gz": archive("src", "3.0"),
    "leaf-1.0.tar.gz": archive("leaf", "1.0"),
    "needy-1.0.tar.gz": archive("needy", "1.0", more={"run": "import numpy"}),
    "compiled-1.0.tar.gz": archive(
        "compiled", "1.0", more={"run": "import subprocess; subprocess.run(['gcc', 'x.c'])"}
    ),
    "curious-1.0.tar.gz": archive(
        "curious",
        "1.0",
        more={"run": "import urllib.request; urllib.request.urlopen('http://example.org/')"},
    ),
    "liar-1.0.tar.gz": archive("liar", "1.0", more={"name": "other"}),
    "odd-1.0.tar.gz": archive("odd", "1.0", system="[build-system]\nrequires = 7\n"),
    "orphan-1.0.tar.gz": archive(
        "orphan", "1.0", system='[build-system]\nrequires = ["nowhere"]\nbuild-backend = "nowhere"\n'
    ),
}


@dataclass
class Scene:
    """A project whose recipe has a Python, and an index."""

    project: Project
    index: Index

    def asks(self, *requirements: str, more: str = "") -> None:
        arguments = ", ".join(map(repr, requirements)) + more
        recipe = self.project.folder / "recipes/sd/recipe.py"
        recipe.write_text(RECIPE.format(arguments=arguments))
        (recipe.parent / "recipe.lock").unlink(missing_ok=True)

    def pins(self) -> dict[str, dict[str, object]]:
        lock = json.loads((self.project.folder / "recipes/sd/recipe.lock").read_text())
        ((_, source),) = lock["sources"].items()
        return {pin["name"]: pin for pin in source["pins"]}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipes/sd").mkdir(parents=True)
    (folder / "reprobuild.toml").write_text("")
    root = folder / "recipes/sd/root"
    unpack_packages(PYTHON, root)
    (root / "etc/debian_version").write_text("12\n")
    with simple_index(FILES) as index:
        environment = {"REPROBUILD_PYTHON_INDEX": index.url}
        yield Scene(Project(folder, folder / "store", environment), index)


def test_what_has_no_wheel_is_built_and_pinned(scene: Scene) -> None:
    scene.asks("app")
    ended = scene.project.call("lock", "sd")
    assert "src-2.0.tar.gz is built" in ended.err
    pins = scene.pins()
    assert set(pins) == {
        *("app-1.0-py3-none-any.whl", "src-2.0.tar.gz", "leaf-1.0.tar.gz"),
        *("tiny-1.0-py3-none-any.whl", "helper-1.0-py3-none-any.whl"),
    }
    assert pins["tiny-1.0-py3-none-any.whl"]["builds"] == ["leaf", "src"]
    assert pins["helper-1.0-py3-none-any.whl"]["builds"] == ["src"]
    asked = "import app, src, leaf; print(src.VERSION, leaf.VERSION)"
    printed = scene.project.call("run", "sd", "--", "python3.11", "-c", asked).out
    assert printed == "2.0 1.0\n"
    asked = "import importlib.util; print(importlib.util.find_spec('tiny'))"
    assert scene.project.call("run", "sd", "--", "python3.11", "-c", asked).out == "None\n"
    left = scene.project.call("run", "sd", "--", "/bin/busybox", "ls", "/usr/src", check=False)
    assert "reprobuild" not in left.out


def test_a_fresh_store_builds_the_same_image(scene: Scene, tmp_path: Path) -> None:
    scene.asks("src==2.0")
    scene.project.call("lock", "sd")
    image = scene.project.call("realize", "sd", "--offline", "--json").json["image_id"]
    fresh = Project(scene.project.folder, tmp_path / "fresh", scene.project.environment)
    assert fresh.call("realize", "sd", "--json").json["image_id"] == image
    fresh.call("gc")
    again = fresh.call("realize", "sd", "--offline", "--json").json
    assert again["image_id"] == image
    assert {layer["status"] for layer in again["layers"]} == {"reused"}


@pytest.mark.once
def test_an_older_version_is_taken_where_one_is_asked_for(scene: Scene) -> None:
    scene.asks("src<2")
    scene.project.call("lock", "sd")
    assert "src-1.0.tar.gz" in scene.pins()


@pytest.mark.once
def test_archives_of_the_day_count(scene: Scene) -> None:
    days = dict.fromkeys(FILES, "2020-01-01T00:00:00Z")
    scene.index.dates.update(days | {"src-3.0.tar.gz": "2024-01-01T00:00:00Z"})
    try:
        scene.asks("src", more=", as_of='2021-01-01'")
        scene.project.call("lock", "sd")
        assert "src-2.0.tar.gz" in scene.pins()
    finally:
        scene.index.dates.clear()


@pytest.mark.parametrize(
    ("package", "code", "said"),
    [
        pytest.param("needy", 1, "wheels(…) step before this one", id="import"),
        pytest.param("compiled", 1, 'apt("bookworm", "gcc", "python3-dev")', id="compiler"),
        pytest.param("curious", 1, "no network", id="network"),
        pytest.param("liar", 1, "a wheel of something else", id="another-name"),
        pytest.param("odd", 4, "pyproject.toml makes no sense", id="pyproject"),
        pytest.param("orphan", 2, "needed to build orphan", id="requirements"),
    ],
)
@pytest.mark.once
def test_a_build_that_fails_says_what_helps(scene: Scene, package: str, code: int, said: str) -> None:
    scene.asks(package)
    ended = scene.project.call("lock", "sd", check=False)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert "recipe.py:5" in ended.err


@pytest.mark.once
def test_without_build_the_hint_names_it(scene: Scene) -> None:
    scene.asks("leaf")
    recipe = scene.project.folder / "recipes/sd/recipe.py"
    recipe.write_text(recipe.read_text().replace(", build=True", ""))
    ended = scene.project.call("lock", "sd", check=False)
    assert ended.code == 2
    assert "wheels(…, build=True)" in ended.err
