from __future__ import annotations

from collections.abc import Callable

import pytest

from reprobuild import apt, files, git, oci, run, url, wheels
from reprobuild.derivation.steps import Step
from reprobuild.errors import RecipeError


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda: files("../secret", to="/x"), "outside the recipe's folder", id="files-parent"),
        pytest.param(
            lambda: files("/etc/passwd", to="/x"), "outside the recipe's folder", id="files-absolute"
        ),
        pytest.param(lambda: files("src", to="app"), "no absolute path", id="files-relative-target"),
        pytest.param(lambda: files("src", to="/a/../b"), "no absolute path", id="files-dotted-target"),
        pytest.param(lambda: files("src", to="/a", mode=0o10000), "permission bits", id="files-mode"),
        pytest.param(lambda: url("ftp://x/y", to="/y"), "not an http", id="url-scheme"),
        pytest.param(lambda: url("https:///y", to="/y"), "not an http", id="url-no-host"),
        pytest.param(lambda: url("https://me:pw@x/y", to="/y"), "password", id="url-credentials"),
        pytest.param(lambda: url("https://x/y", to="/y", sha256="ABC"), "64 lower-case", id="url-sha256"),
        pytest.param(lambda: url("https://x/y", to="/y", strip=1), "unpack=True", id="url-strip"),
        pytest.param(lambda: apt("bookworm"), "names no package", id="apt-none"),
        pytest.param(lambda: apt("book worm", "python3"), "a suite", id="apt-suite"),
        pytest.param(lambda: apt("bookworm", "Python 3"), "Debian package", id="apt-package"),
        pytest.param(lambda: apt("bookworm", "git", as_of="yesterday"), "a day", id="apt-day"),
        pytest.param(lambda: wheels(), "names no requirement", id="wheels-none"),
        pytest.param(lambda: wheels("--index-url=x"), "not a requirement", id="wheels-flag"),
        pytest.param(lambda: wheels("a", python="python3"), "a version", id="wheels-python"),
        pytest.param(lambda: run(""), "needs a command", id="run-empty"),
        pytest.param(lambda: run("x", network="open"), "only 'recorded'", id="run-network"),  # type: ignore[arg-type]
        pytest.param(lambda: run("x", env={"A": "b\0--bind"}), "no process", id="run-env-zero"),
        pytest.param(lambda: run("x", env={"A=B": "c"}), "no process", id="run-env-name"),
        pytest.param(lambda: run("x", env={"A": 1}), "no process", id="run-env-number"),  # type: ignore[dict-item]
        pytest.param(lambda: git("https://x/y", "main", to="/y"), "full commit", id="git-branch"),
        pytest.param(lambda: git("https://u:p@x/y", "0" * 40, to="/y"), "user name", id="git-credentials"),
        pytest.param(lambda: git("git@x:y", "0" * 40, to="/y"), "not an http", id="git-scp"),
        pytest.param(
            lambda: git("https://x/y", "0" * 40, to="/y", mirrors=["ssh://x/y"]),
            "not an http",
            id="git-mirror",
        ),
        pytest.param(lambda: oci("https://x/y"), "no scheme", id="oci-scheme"),
        pytest.param(lambda: oci("oci-layout:/y"), "outside", id="oci-outside"),
        pytest.param(lambda: oci("y", mirrors=["oci-layout:y"]), "repository of a registry", id="oci-mirror"),
    ],
)
def test_a_step_that_makes_no_sense_says_where(make: Callable[[], Step], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        make()
    assert caught.value.message.startswith("test_steps.py:")


def test_the_order_of_packages_does_not_matter() -> None:
    assert apt("bookworm", "b2", "a1", "b2") == apt("bookworm", "a1", "b2")


def test_where_a_step_stands_is_no_part_of_it() -> None:
    one = run("true")
    other = run("true")
    assert one.where.line != other.where.line
    assert one == other


@pytest.mark.parametrize(
    ("step", "key"),
    [
        pytest.param(apt("bookworm", "git"), "apt bookworm git", id="apt"),
        pytest.param(
            apt("bookworm", "git", components=["main", "contrib"], as_of="2024-01-31"),
            "apt bookworm git components=main,contrib as_of=2024-01-31",
            id="apt-more",
        ),
        pytest.param(
            wheels("b", "a==1", python="3.11", as_of="2021-06-01"),
            "wheels a==1 b python=3.11 as_of=2021-06-01",
            id="wheels",
        ),
        pytest.param(url("https://x/y", to="/y"), "url https://x/y", id="url"),
    ],
)
def test_a_source_is_known_in_the_lock_by_all_that_decides_it(step: Step, key: str) -> None:
    assert step.source_key == key


def test_a_long_command_has_a_short_title() -> None:
    assert run("echo " + "x" * 200 + "\nmore").title == "run echo " + "x" * 54 + "…"
