from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from reprobuild import apt, dockerfile, files, git, hub, image, oci, predictor, recipe, run, url, wheels
from reprobuild.derivation.steps import Run, Step
from reprobuild.errors import RecipeError

SOURCE = url("https://x/y")
NO_FIELDS: dict[str, Any] = {"inputs": {}, "outputs": {}}


def answered(address: str, source: Any) -> Run:
    return run("wget x", network="recorded", answers={address: source})


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
        pytest.param(lambda: run("x", refusal="hang"), "only 'reset'", id="run-refusal"),  # type: ignore[arg-type]
        pytest.param(lambda: run("x", ports=[8080]), "what is recorded", id="run-ports-cut"),
        pytest.param(lambda: run("x", network="recorded", ports=[443]), "always served", id="run-port"),
        pytest.param(
            lambda: run("x", network="recorded", ports=8080),  # type: ignore[arg-type]
            "a list is needed",
            id="run-ports-one",
        ),
        pytest.param(
            lambda: run("x", network="recorded", answers=["http://a"]),  # type: ignore[arg-type]
            "what answers them",
            id="run-answers-list",
        ),
        pytest.param(
            lambda: git("https://host.test/a", None, to="/a"),  # type: ignore[arg-type]
            "no full commit",
            id="git-none",
        ),
        pytest.param(lambda: run("x", answers={"http://a": SOURCE}), "what is recorded", id="run-answers"),
        pytest.param(lambda: answered("ftp://a/b", SOURCE), "not an http", id="run-answer-scheme"),
        pytest.param(lambda: answered("http://u:p@a/b", SOURCE), "not an http", id="run-answer-credentials"),
        pytest.param(lambda: answered("http://a/b", files("a", to="/")), "one file", id="run-answer-kind"),
        pytest.param(
            lambda: answered("http://a/b", hub("a/b", revision="0" * 40)), "one file", id="run-answer-files"
        ),
        pytest.param(
            lambda: answered("http://a/b", url("https://x/y.zip", unpack=True)),
            "without unpack",
            id="run-answer-unpack",
        ),
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
        pytest.param(lambda: oci(""), r"oci\(''\): an image is needed, as repository:tag", id="oci-empty"),
        pytest.param(lambda: oci("oci-layout:/y"), "outside", id="oci-outside"),
        pytest.param(lambda: oci("y", mirrors=["oci-layout:y"]), "repository of a registry", id="oci-mirror"),
    ],
)
def test_a_step_that_makes_no_sense_says_where(make: Callable[[], Step], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        make()
    assert caught.value.message.startswith("test_steps.py:")


@pytest.mark.parametrize(
    ("word", "given", "named", "problem"),
    [
        pytest.param(
            apt, ["bookworm", "a"], {"configure": "yes"}, "configure='yes'): True or False", id="flag"
        ),
        pytest.param(wheels, ["a"], {"build": 1}, "build=1): True or False", id="flag-number"),
        pytest.param(oci, [None], {}, "oci(reference=None): a text", id="text"),
        pytest.param(wheels, ["a", 3], {}, "wheels(…, 3): a text", id="one-of-many"),
        pytest.param(run, ["x"], {"threads": "2"}, "run(threads='2'): a whole number", id="number"),
        pytest.param(run, [7], {}, "run(command=7): a text or a list of texts", id="command"),
        pytest.param(run, ["x"], {"env": "A=1"}, "run(env='A=1'): a dict", id="dict"),
        pytest.param(hub, ["a/b"], {"revision": "0", "files": [1]}, "files=[1]): a list of texts", id="list"),
        pytest.param(url, ["x"], {"to": ["/" * 999]}, "/////…): a text", id="bounded"),
        pytest.param(dockerfile, [1], {}, "dockerfile(path=1): a text", id="dockerfile"),
        pytest.param(image, [SOURCE], {"workdir": 1}, "image(workdir=1): a text", id="image"),
        pytest.param(recipe, [], {"version": "1", "publish": 1}, "publish=1): True or False", id="recipe"),
        pytest.param(
            predictor, ["x"], {**NO_FIELDS, "tolerance": "0"}, "tolerance='0'): a number", id="predictor"
        ),
    ],
)
def test_a_value_of_another_type_is_told_what_is_needed(
    word: Callable[..., object], given: list[Any], named: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        word(*given, **named)
    assert re.fullmatch(r"test_steps\.py:\d+: .*" + re.escape(problem) + " is needed", caught.value.message)


def test_what_decides_a_recording_is_in_its_key() -> None:
    one = run("wget x", network="recorded")
    assert one.is_source and not run("wget x").is_source
    assert re.fullmatch(r"run wget x #[0-9a-f]{12} on linux/amd64", one.lock_key("linux/amd64"))
    others = [
        run("wget y", network="recorded"),
        run("wget x", network="recorded", env={"A": "b"}),
        run("wget x", network="recorded", ports=[81]),
        run("wget x", network="recorded", refusal="reset"),
        answered("http://a/b", SOURCE),
        answered("http://a/b", url("https://x/z")),
    ]
    assert len({step.which for step in (one, *others)}) == 7


def test_a_place_is_needed_but_in_answers() -> None:
    with pytest.raises(RecipeError, match="where it goes"):
        image(SOURCE)


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


@pytest.mark.parametrize(
    ("more", "problem", "hint"),
    [
        pytest.param(
            {"tolerance": -1}, r"predictor\(tolerance=-1\): .* from 0 up", "leave it out", id="below"
        ),
        pytest.param({"tolerance": float("inf")}, "tolerance=inf", "leave it out", id="infinite"),
        pytest.param({"tolerance": float("nan")}, "tolerance=nan", "leave it out", id="no-number"),
        pytest.param({"threads": 0}, r"predictor\(threads=0\): at least 1", "one thread", id="threads"),
        pytest.param(
            {"protocol": "strem"},
            r"protocol='strem'\): it is 'files' or 'stream'",
            "did you mean protocol='stream'?",
            id="protocol",
        ),
        pytest.param(
            {"scope": "items"},
            r"scope='items'\): it is 'batch' or 'item'",
            "did you mean scope='item'?",
            id="scope",
        ),
        pytest.param({"scope": "x"}, "scope='x'", "leave it out for 'batch'", id="scope-unlike"),
    ],
)
def test_predictors_say_what_their_settings_can_be(more: dict[str, Any], problem: str, hint: str) -> None:
    fields: dict[str, Any] = {"inputs": {"a": str}, "outputs": {"b": str}}
    with pytest.raises(RecipeError, match=problem) as caught:
        predictor("x {input} {output}", **fields, **more)
    assert hint in caught.value.hint
    assert predictor("x {input} {output}", **fields, tolerance=0, threads=1).threads == 1
