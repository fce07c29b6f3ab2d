"""Debian's own archive, as this machine knows it: placed, configured, run."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from reprobuild.derivation.words import apt
from reprobuild.digest import Digest
from reprobuild.engine.protocol import Command
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.tree import Tree, difference
from tests.apt_machine import Machine, names
from tests.projects import Project, require_sandbox
from tests.require import program, require


def test_python_of_debian_is_placed_as_dpkg_unpacks_it(debian: Machine) -> None:
    dpkg = program("dpkg-deb")
    step = apt("bookworm", "python3")
    pins = debian.lock(step)
    assert {"libc6", "dash", "python3.11-minimal", "usr-is-merged"} <= set(names(pins))
    assert "usrmerge" not in names(pins)
    debian.fetch(step, pins)
    tree = debian.place(step, pins)
    compared = 0
    for pin in pins:
        folder = debian.folder / f"unpacked-{pin.name}"
        subprocess.run(
            [str(dpkg), "--extract", str(debian.store.blobs.path(pin.sha256)), str(folder)],
            check=True,
            timeout=120,
        )
        compared += _compare(folder, tree)
    assert compared > 4000
    for path in ("bin/sh", "usr/bin/awk", "etc/passwd", "etc/nsswitch.conf", "usr/bin/python3"):
        assert tree.resolve(path) in tree, path


def test_what_is_placed_runs_in_the_sandbox(debian: Machine) -> None:
    step = apt("bookworm", "python3", "ca-certificates", "gawk")
    pins = debian.lock(step)
    debian.fetch(step, pins)
    tree = debian.place(step, pins)
    engine = SandboxEngine(Path(debian.store.tmp), debian.store.owner)
    isolation = engine.probe()
    require("sandbox", "" if isolation.available else isolation.missing)
    script = (
        "set -e; python3 -c 'import ctypes, json, lzma, sqlite3, ssl; "
        'print(ssl.create_default_context().cert_store_stats()["x509"] > 100)\'; '
        "readlink -f /usr/bin/awk; awk 'BEGIN { print 6 * 7 }'; perl -e 'print \"perl\\n\"'; "
        "update-alternatives --query awk | grep ^Best; ldconfig; openssl version | cut -c1-9"
    )
    lines: list[bytes] = []
    with debian.store.checkouts.lay_out([difference(Tree(), tree)]) as checkout:
        command = Command(("/bin/sh", "-c", script), timeout=120)
        result = engine.run(checkout, command, output=lines.append)
    assert b"".join(lines).decode().split("\n") == [
        "True",
        "/usr/bin/gawk",
        "42",
        "perl",
        "Best: /usr/bin/gawk",
        "OpenSSL 3",
        "",
    ]
    assert result.exit_code == 0


CONFIGURED = """\
from reprobuild import apt, image, recipe, run

@recipe(version="1.0")
def configured():
    return image(
        {first}
        apt("bookworm", "ssl-cert", configure=True),
        run("dpkg-query -W ssl-cert && getent group ssl-cert && test ! -e /.reprobuild-packages"),
        run("test -z $(ls -A /etc/ssl/private) && test $(readlink -e /usr/bin/awk) = /usr/bin/mawk"),
    )
"""


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("", marks=pytest.mark.once, id="from-nothing"),
        pytest.param('apt("bookworm", "openssl"),', id="after-placing"),
    ],
)
def test_packages_are_configured_by_dpkg(debian: Machine, first: str) -> None:
    require_sandbox(debian.folder / "trial")
    folder = debian.folder / "project"
    recipe = folder / "recipes" / "configured"
    recipe.mkdir(parents=True)
    (folder / "reprobuild.toml").write_text("")
    (recipe / "recipe.py").write_text(CONFIGURED.format(first=first))
    project = Project(folder, folder / "store")
    locked = project.call("lock", "configured")
    assert "Setting up ssl-cert" in locked.err
    assert "files list file" not in locked.err
    elsewhere = Project(folder, debian.folder / "elsewhere", {"TZ": "Asia/Tokyo"})
    assert elsewhere.call("realize", "configured", "--json").json["image_id"] == locked_image(recipe)


def locked_image(recipe: Path) -> str:
    """Give the image ID that a recipe's lock promises."""
    [output] = json.loads((recipe / "recipe.lock").read_text())["outputs"]["linux/amd64"]
    return str(output["image"])


def _compare(folder: Path, tree: Tree) -> int:
    """Compare what dpkg unpacked with a tree, entry by entry; give how many there were."""
    count = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            found = path.lstat()
            relative = str(path.relative_to(folder))
            entry = tree.get(tree.resolve(relative, follow_last=stat.S_ISDIR(found.st_mode)))
            assert entry is not None, relative
            mode = stat.S_IMODE(found.st_mode)
            if os.geteuid() == 0 and found.st_gid:
                mode &= ~0o2000
            if stat.S_ISLNK(found.st_mode):
                assert entry.target == os.readlink(path), relative
            else:
                assert entry.mode == mode or os.geteuid(), relative
            if stat.S_ISREG(found.st_mode):
                assert entry.digest == Digest.of(path.read_bytes()), relative
            count += 1
    return count
