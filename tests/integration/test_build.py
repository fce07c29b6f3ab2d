"""Recipe to image, with the command line as users run it: what each state of recipe, lock and store gives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.projects import Project, make_project, require_sandbox


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A locked project, never changed by a test."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("locked"))
    project.call("lock", "copier")
    return project


@pytest.fixture
def project(locked: Project, tmp_path: Path) -> Project:
    """A copy of the locked project, with an empty store."""
    shutil.copytree(locked.folder / "recipes", tmp_path / "recipes", symlinks=True)
    (tmp_path / "reprobuild.toml").touch()
    return Project(tmp_path, tmp_path / "store")


def test_what_is_locked_is_built_alike_anywhere(locked: Project, project: Project) -> None:
    first = locked.call("realize", "copier", "--json").json
    second = project.call("realize", "copier", "--json").json
    assert (first["image_id"], first["input_hash"]) == (second["image_id"], second["input_hash"])
    assert first["image_id"] in project.lock.read_text()
    assert {layer["status"] for layer in second["layers"]} == {"built"}


def test_the_second_time_nothing_is_done_and_nothing_written(project: Project) -> None:
    project.call("realize", "copier")
    before = snapshot(project.store)
    again = project.call("realize", "copier", "--json").json
    assert {layer["status"] for layer in again["layers"]} == {"reused"}
    assert snapshot(project.store) == before


def test_a_dry_run_says_what_would_be_done_and_does_nothing(project: Project) -> None:
    project.call("list")
    plan = project.call("realize", "copier", "--dry-run", "--json").json
    assert [step["action"] for step in plan["steps"]] == ["build", *["build unless equal"] * 3]
    assert plan["fetch"] == [{"name": "weights.bin", "size": 262144}]
    assert not list((project.store / "realisations").glob("*image*"))
    project.call("realize", "copier")
    done = project.call("realize", "copier", "--dry-run", "--json").json
    assert {step["action"] for step in done["steps"]} == {"reuse"}
    assert done["fetch_bytes"] == 0


def test_a_changed_file_rebuilds_what_depends_on_it_alone(project: Project) -> None:
    project.call("realize", "copier")
    (project.recipe / "src" / "word").write_text("other\n")
    made = project.call("realize", "copier", "--json").json
    assert [layer["status"] for layer in made["layers"]] == ["reused", "reused", "built", "built"]
    explained = project.call("why", "copier", "--json").json
    assert [one["path"] for one in explained["differences"]] == ["step 3 (files).entries"]


def test_a_file_that_changes_while_it_is_built_is_not_taken_for_what_was_built(project: Project) -> None:
    arguments = ("realize", "copier", "--set", "extra=echo begun; sleep 1", "--json")
    building = subprocess.Popen(
        project.argv(*arguments),
        cwd=project.folder,
        env=project.full_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert building.stderr is not None
    assert any("| begun" in line for line in building.stderr)
    (project.recipe / "src" / "word").write_text("other\n")
    first = json.loads(building.communicate()[0])
    assert building.returncode == 0
    assert project.call(*arguments).json["input_hash"] != first["input_hash"]


def test_a_changed_digit_of_a_pin_is_shown_with_what_came(project: Project) -> None:
    digest = pin_of(project)
    wrong = ("0" if digest[0] != "0" else "1") + digest[1:]
    project.edit_lock(digest, wrong)
    ended = project.call("realize", "copier", check=False)
    assert ended.code == 4
    for shown in ("recipe.py:8", "recipes/copier/weights.bin", wrong, digest, "262,144"):
        assert shown.lower() in ended.err.lower()
    assert (project.store / "blobs" / "sha256" / digest[:2] / digest).is_file()


def test_a_pin_that_was_taken_out_is_missed(project: Project) -> None:
    lines = project.lock.read_text().splitlines(keepends=True)
    project.lock.write_text("".join(line for line in lines if '"name": "weights.bin"' not in line))
    ended = project.call("realize", "copier", check=False)
    assert ended.code == 3
    assert "recipe.py:8" in ended.err
    assert "reprobuild lock copier" in ended.err


def test_without_a_lock_the_first_source_is_named(project: Project) -> None:
    project.lock.unlink()
    ended = project.call("realize", "copier", check=False)
    assert ended.code == 3
    assert "url file:weights.bin" in ended.err
    assert "reprobuild lock copier" in ended.err


@pytest.mark.parametrize("field", ["image", "diff_id"])
def test_an_output_that_was_changed_is_found_also_when_all_is_built(project: Project, field: str) -> None:
    text = project.lock.read_text()
    digest = re.findall(rf'"{field}": "sha256:([0-9a-f]{{64}})"', text)[-1]
    project.lock.write_text(text.replace(digest, digest[:-1] + ("0" if digest[-1] != "0" else "1")))
    for _ in range(2):
        ended = project.call("realize", "copier", check=False)
        assert ended.code == 4
        assert digest in ended.err
    if field == "diff_id":
        assert "step run mkdir /opt/made" in ended.err
        assert "/opt/made/both" in ended.err


def test_the_lock_is_kept_word_for_word_when_nothing_changed(project: Project) -> None:
    before = project.lock.read_bytes()
    assert "written" not in project.call("lock", "copier").out
    assert project.lock.read_bytes() == before


def test_lock_check_says_what_upstream_gives_today_and_changes_nothing(project: Project) -> None:
    before = project.lock.read_bytes()
    assert project.call("lock", "copier", "--check").code == 0
    (project.recipe / "weights.bin").write_bytes(b"renewed")
    assert "(262,144 → 7 bytes)" in project.call("lock", "copier", "--check").out
    assert project.lock.read_bytes() == before


def test_update_renews_one_source(project: Project) -> None:
    project.call("realize", "copier")
    digest = pin_of(project)
    (project.recipe / "weights.bin").write_bytes(b"renewed")
    project.call("lock", "copier")
    assert pin_of(project) == digest, "a pin that is there is kept"
    project.call("lock", "copier", "--update", "url")
    assert pin_of(project) != digest
    ended = project.call("lock", "copier", "--update", "nonsense", check=False)
    assert ended.code == 2
    assert "url file:weights.bin" in ended.err


def test_options_have_outputs_of_their_own(project: Project) -> None:
    plain = project.call("realize", "copier", "--json").json
    project.call("lock", "copier", "--set", "extra=touch /opt/extra")
    other = project.call("realize", "copier", "--set", "extra=touch /opt/extra", "--json").json
    assert other["image_id"] != plain["image_id"]
    assert [layer["status"] for layer in other["layers"]][:4] == ["reused"] * 4
    assert project.lock.read_text().count('"options"') == 2
    assert project.call("realize", "copier", "--json").json["image_id"] == plain["image_id"]


@pytest.mark.parametrize(
    ("command", "code", "shown"),
    [
        pytest.param("wget http://example.org/x", 3, "example.org", id="network"),
        pytest.param("wget http://1.2.3.4/x", 3, "1.2.3.4", id="network-by-number"),
        pytest.param("echo so far; exit 9", 1, "exit code 9", id="exit-code"),
        pytest.param("kill -9 $$", 1, "137", id="killed"),
        pytest.param("printf 'one\\033[31mtwo'; exit 1", 1, "one", id="control-characters"),
    ],
)
def test_a_command_that_fails_says_how(project: Project, command: str, code: int, shown: str) -> None:
    ended = project.call("lock", "copier", "--set", f"extra={command}", check=False)
    assert ended.code == code
    assert shown in ended.err
    assert "recipe.py:11" in ended.err
    assert "\033" not in ended.err


def test_a_shell_text_that_hides_a_failed_fetch_is_warned_of(project: Project) -> None:
    ended = project.call("lock", "copier", "--set", "extra=wget http://example.org/x || true")
    assert "warning" in ended.err
    assert "example.org" in ended.err


def test_with_the_network_cut_everything_pinned_works(project: Project) -> None:
    project.call("realize", "copier")
    lines = '{"text": "new"}\n'
    argv = project.argv("predict", "copier", "--input", "-", "--output", "-")
    ended = subprocess.run(
        [*cut_off(), *argv],
        cwd=project.folder,
        env=project.full_environment(),
        input=lines,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, '{"text":"new"}\n'), ended.stderr


def test_a_recipe_that_looks_around_finds_nothing(project: Project) -> None:
    secret = project.folder / "secret"
    secret.write_text("s")
    os.environ["REPROBUILD_TEST_SECRET"] = "s"
    for line, shown in {
        "import os; os.environ['REPROBUILD_TEST_SECRET']": "KeyError",
        "import os; open(os.path.expanduser('~/.profile'))": "FileNotFoundError",
        f"open({str(secret)!r})": "FileNotFoundError",
        "open('/etc/shadow')": "FileNotFoundError",
        "import socket; socket.create_connection(('1.2.3.4', 80), 2)": "Network is unreachable",
        "import socket; socket.getaddrinfo('example.org', 80)": "gaierror",
        "open('recipe.py', 'a')": "Error: [Errno ",
        "while True: 'x' * 2**34": "memory",
    }.items():
        text = (project.recipe / "recipe.py").read_text()
        (project.recipe / "recipe.py").write_text(f"{line}\n{text}")
        ended = project.call("realize", "copier", check=False)
        (project.recipe / "recipe.py").write_text(text)
        assert ended.code == 2, (line, ended.err)
        assert shown.lower() in ended.err.lower()


def test_check_passes_for_what_builds_alike(project: Project) -> None:
    ended = project.call("realize", "copier", "--check")
    assert "equal" in ended.out + ended.err


@pytest.mark.parametrize(
    ("command", "path", "cause"),
    [
        pytest.param("date > /opt/when", "/opt/when", "time stamp", id="time"),
        pytest.param("cat /proc/sys/kernel/random/uuid > /opt/id", "/opt/id", "random", id="random"),
        pytest.param(
            "mkdir /o; for i in $(seq 40); do touch /o/$i-$i; done; find /o > /opt/names; rm -r /o",
            "/opt/names",
            "order",
            id="order",
        ),
    ],
)
def test_check_names_what_does_not_build_alike(project: Project, command: str, path: str, cause: str) -> None:
    option = f"extra={command}"
    project.call("lock", "copier", "--set", option)
    ended = project.call("realize", "copier", "--set", option, "--check", check=False)
    assert ended.code == 4
    assert f"{path}: content" in ended.err
    assert f"[{cause}]" in ended.err


def test_run_and_shell_see_the_image(project: Project) -> None:
    assert project.call("run", "copier", "--", "busybox", "tail", "-c", "5", "/opt/made/both").out == "word\n"
    assert project.call("run", "copier", "--", "sh", "-c", "exit 5", check=False).code == 5


def test_a_reference_names_an_image_without_its_recipe(project: Project) -> None:
    made = project.call("realize", "copier", "--json").json
    shutil.rmtree(project.recipe)
    for name in (made["tag"], made["image_id"][7:20]):
        assert project.call("run", name, "--", "cat", "/app/word").out == "word\n"


def pin_of(project: Project) -> str:
    """Give the digest that the lock has for the weights."""
    found = re.search(r'"name": "weights.bin".*"sha256": "([0-9a-f]{64})"', project.lock.read_text())
    assert found is not None
    return found[1]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Give size and change time of everything in a folder, to see whether anything was written."""
    found = (path.lstat() for path in folder.rglob("*"))
    return dict(
        zip(map(str, folder.rglob("*")), ((one.st_size, one.st_ctime_ns) for one in found), strict=True)
    )


def cut_off() -> list[str]:
    """Give what runs a command without network, as root or as an ordinary user."""
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-current-user", "--net"]
