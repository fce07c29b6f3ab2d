"""Recipes on base images, through the command line: what commands see, and what stays of the base."""

from __future__ import annotations

import base64
import json
import tarfile
from pathlib import Path

import pytest

from tests.archives import body_of
from tests.base_images import BaseImage, layer, layer_of_folder, write_layout
from tests.projects import Project, require_sandbox
from tests.roots import busybox_root
from tests.servers import REGISTRY_PASSWORD, docker_registry, skopeo

RECIPE = '''\
"""Built on a base image."""
from reprobuild import image, oci, predictor, recipe, run

@recipe(version="1.0")
def based(command: str = "true", word: str = ""):
    return image(
        oci("REFERENCE"),
        run(command),
        env={"WORD": word} if word else {},
        predictors={
            "default": predictor(
                """while read -r line; do echo '{"text": "'$WORD $PWD'"}'; done < {input} > {output}""",
                inputs={"text": str}, outputs={"text": str},
            )
        },
    )
'''
SAID = {
    "Env": ["PATH=/opt/bin:/bin", "WORD=base", "LANG=C"],
    "WorkingDir": "/srv",
    "User": "1000:1000",
    "Entrypoint": ["/bin/false"],
}


def make_base(folder: Path) -> BaseImage:
    """Make a base of busybox, with files of other owners and a layer that takes some away."""
    root = busybox_root(folder / "root")
    lower = layer_of_folder(root)
    owned = layer(
        {
            "srv/kept": b"kept",
            "srv/changed": b"before",
            "srv/gone": b"",
            "opt/bin/tool": b"#!/bin/sh\necho tool\n",
        },
        folders=["srv", "opt", "opt/bin"],
        uid=1000,
        modes={"opt/bin/tool": 0o755},
    )
    return BaseImage([lower, owned, layer(whiteouts=["srv/gone"])], SAID)


def make_project(folder: Path, reference: str) -> Project:
    """Make a project with the recipe ``based``, not yet locked."""
    recipe = folder / "recipes" / "based"
    recipe.mkdir(parents=True)
    (folder / "reprobuild.toml").write_text("")
    (recipe / "recipe.py").write_text(RECIPE.replace("REFERENCE", reference))
    return Project(folder, folder / "store")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseImage:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def project(base: BaseImage, tmp_path: Path) -> Project:
    require_sandbox(tmp_path / "try")
    made = make_project(tmp_path / "project", "oci-layout:./base")
    write_layout(tmp_path / "project" / "recipes" / "based" / "base", base)
    return made


def exported(project: Project, *arguments: str) -> dict[str, tarfile.TarInfo]:
    """Give what the layers of the built image hold, the highest one winning."""
    target = project.folder / "exported.tar"
    target.unlink(missing_ok=True)
    project.call("export", "based", "--to", str(target), *arguments, "--format", "docker")
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(target) as archive:
        (image,) = json.loads(body_of(archive, "manifest.json"))
        for name in image["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as one:
                for info in one:
                    folder, slash, last = info.name.rstrip("/").rpartition("/")
                    if last.startswith(".wh."):
                        del found[folder + slash + last.removeprefix(".wh.")]
                    else:
                        found[info.name.rstrip("/")] = info
    return found


def test_commands_see_the_world_of_the_base(project: Project) -> None:
    command = "tool > /made; echo $WORD $LANG $PWD $HOME >> /made; id -u >> /made; cat /made"
    project.call("lock", "based", "--set", f"command={command}")
    shown = project.call("run", "based", "--set", f"command={command}", "--", "cat", "/made")
    assert shown.out == "tool\nbase C /srv /\n0\n"


def test_the_recipe_s_own_variables_win(project: Project) -> None:
    project.call("lock", "based", "--set", "word=own")
    shown = project.call("run", "based", "--set", "word=own", "--", "sh", "-c", "echo $WORD $PATH; pwd")
    assert shown.out == "own /opt/bin:/bin\n/srv\n"


OWNERS = {
    "a file that is read stays": ("cat kept", "srv/kept", 1000),
    "a file that is changed keeps its owner": ("echo after >> changed", "srv/changed", 1000),
    "a file that is replaced keeps its owner": ("echo x > new && mv new changed", "srv/changed", 1000),
    "a mode that is changed keeps the owner": ("chmod 600 kept", "srv/kept", 1000),
    "a folder that gets a file keeps its owner": ("touch new", "srv", 1000),
    "a new file is root's": ("touch new", "srv/new", 0),
    "chown is without effect": ("chown 5:5 kept", "srv/kept", 1000),
    "removed and made again": ("rm changed && mkdir changed", "srv/changed", 0),
}


@pytest.mark.parametrize("name", OWNERS)
def test_owners_are_the_base_s_where_a_command_left_something_there(name: str, project: Project) -> None:
    command, path, uid = OWNERS[name]
    project.call("lock", "based", "--set", f"command={command}")
    found = exported(project, "--set", f"command={command}")
    assert (found[path].uid, found[path].gid) == (uid, uid)
    assert (found["opt/bin/tool"].uid, found["opt/bin/tool"].mode) == (1000, 0o755)
    assert "srv/gone" not in found


def test_a_command_that_changes_nothing_has_no_layer(project: Project) -> None:
    locked = project.call("lock", "based", "--json")
    steps = [layer["step"] for layer in project.call("realize", "based", "--json").json["layers"]]
    assert locked.code == 0
    assert steps == ["oci oci-layout:./base"]


def test_an_image_is_built_anew_from_its_lock(project: Project, tmp_path: Path) -> None:
    first = project.call("lock", "based", "--set", "command=touch made", "--json").json
    again = Project(project.folder, tmp_path / "other store")
    second = again.call("--offline", "realize", "based", "--set", "command=touch made", "--json").json
    assert second["image_id"] == first["image_id"]


def test_a_prediction_runs_in_the_world_of_the_base(project: Project) -> None:
    project.call("lock", "based")
    made = project.call("predict", "based", "--input", "-", "--output", "-", stdin='{"text": "x"}\n')
    assert json.loads(made.out)["text"] == "base /srv"


def test_a_tag_that_moves_changes_nothing_until_it_is_asked_for(base: BaseImage, tmp_path: Path) -> None:
    """Also: no password is left anywhere."""
    require_sandbox(tmp_path / "try")
    config = tmp_path / "docker"
    config.mkdir()
    with docker_registry(tmp_path, user="models") as address:
        login = base64.b64encode(f"models:{REGISTRY_PASSWORD}".encode())
        (config / "config.json").write_text(json.dumps({"auths": {address: {"auth": login.decode()}}}))
        made = make_project(tmp_path / "project", f"{address}/base:1")
        project = Project(made.folder, made.store, {"DOCKER_CONFIG": str(config)})
        _push(write_layout(tmp_path / "one", base), address)
        first = project.call("lock", "based", "--json").json
        key = f"oci {address}/base:1 on linux/amd64"

        other = BaseImage(
            [*base.layers, layer({"srv/more": b""})], {**SAID, "Env": ["PATH=/bin", "WORD=new"]}
        )
        _push(write_layout(tmp_path / "two", other), address)
        assert project.call("realize", "based", "--json").json["image_id"] == first["image_id"]
        fresh = Project(made.folder, tmp_path / "fresh", project.environment)
        assert fresh.call("realize", "based", "--json").json["image_id"] == first["image_id"]
        assert key in project.call("lock", "based", "--check").out
        assert project.call("run", "based", "--", "sh", "-c", "echo $WORD").out == "base\n"
        project.call("lock", "based", "--update", "oci")
        assert (
            project.call("run", "based", "--", "sh", "-c", "echo $WORD; ls").out
            == "new\nchanged\nkept\nmore\n"
        )
    secrets = (login, REGISTRY_PASSWORD.encode())
    kept = [*made.folder.rglob("*"), *fresh.store.rglob("*")]
    assert not [path for path in kept if path.is_file() and any(s in path.read_bytes() for s in secrets)]


def _push(layout: Path, address: str) -> None:
    creds = f"--dest-creds=models:{REGISTRY_PASSWORD}"
    skopeo("copy", "--dest-tls-verify=false", creds, f"oci:{layout}", f"docker://{address}/base:1")
