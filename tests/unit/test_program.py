"""Programs and folders in a stack of folders: found through links, refused in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.engine.program import has_program, obstacle
from reprobuild.engine.protocol import Command
from reprobuild.store.checkouts import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for path in (lower / "usr/bin/dash", lower / "usr/bin/cat"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/true\n")
        path.chmod(0o755)
    (lower / "bin").symlink_to("usr/bin")
    (lower / "usr/bin/sh").symlink_to("/bin/dash")
    (lower / "usr/bin/loop").symlink_to("loop")
    (lower / "usr/bin/up").symlink_to("../../../../bin/cat")
    (lower / "usr/bin/host").symlink_to("/etc/hostname")
    (upper / "app").mkdir(parents=True)
    (upper / "app/run.py").write_text("print()\n")
    (upper / "usr/bin").mkdir(parents=True)
    return Checkout((upper, lower))


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param("cat", "", id="by PATH"),
        pytest.param("sh", "", id="by links through links"),
        pytest.param("/bin/sh", "", id="absolute"),
        pytest.param("up", "", id="a link above the root stays inside"),
        pytest.param("nonsense", "there is no program 'nonsense'", id="nowhere"),
        pytest.param("", "there is no program ''", id="empty"),
        pytest.param("host", "there is no program 'host'", id="a file of the host"),
        pytest.param("loop", "there is no program 'loop'", id="a loop of links"),
        pytest.param("/bin/none", "there is no /bin/none", id="absolute, nowhere"),
        pytest.param("./run.py", "/app/./run.py is not executable", id="not executable"),
        pytest.param("/usr/bin", "there is no program /usr/bin: it is a folder", id="a folder"),
        pytest.param("/proc/self/exe", "", id="not of the tree"),
        pytest.param("/in/tool", "", id="shown beside the tree"),
    ],
)
def test_programs(checkout: Checkout, tmp_path: Path, program: str, expected: str) -> None:
    assert obstacle(checkout, Command((program,), workdir="/app", inputs={"/in": tmp_path})) == expected


@pytest.mark.parametrize(
    ("workdir", "expected"),
    [
        pytest.param("/", "", id="root"),
        pytest.param("/app", "", id="there"),
        pytest.param("/bin", "", id="a link to a folder"),
        pytest.param("/none", "there is no folder /none (workdir)", id="nowhere"),
        pytest.param("/app/run.py", "there is no folder /app/run.py (workdir)", id="a file"),
        pytest.param("/out", "", id="shown beside the tree"),
    ],
)
def test_working_folders(checkout: Checkout, tmp_path: Path, workdir: str, expected: str) -> None:
    assert obstacle(checkout, Command(("cat",), workdir=workdir, outputs={"/out": tmp_path})) == expected


def test_the_path_of_the_command_counts(checkout: Checkout) -> None:
    assert obstacle(checkout, Command(("cat",), env={"PATH": "/app"})) == "there is no program 'cat'"
    assert obstacle(checkout, Command(("run.py",), env={"PATH": "/app"})) == "/app/run.py is not executable"


def test_has_program(checkout: Checkout) -> None:
    assert has_program(checkout, "/bin/sh")
    assert not has_program(checkout, "/bin/bash")
