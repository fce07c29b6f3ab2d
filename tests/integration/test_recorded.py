"""Commands and predictors whose exchanges are recorded: locked once, replayed with every server gone."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fetching import (
    LARGE,
    SMALL,
    Scene,
    elsewhere,
    exchanges,
    fetching,
    image_id,
    recorded,
    scene,
    write,
)
from tests.projects import Project
from tests.recorded import python_of_others
from tests.require import require
from tests.sandboxes import ORDINARY_UID, shared_folder
from tests.sites.drive import DriveFile, DriveSite
from tests.sites.files import FileSite, Page
from tests.sites.hub import HubSite, Model
from tests.upstreams import Answer, Request, Upstreams


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


@pytest.fixture
def site(made: Scene) -> FileSite:
    return made.site


@pytest.fixture
def net(made: Scene) -> Upstreams:
    return made.net


@pytest.fixture
def project(made: Scene) -> Project:
    return made.project


def test_a_recorded_step_is_built_again_with_its_server_gone(
    project: Project, net: Upstreams, tmp_path: Path
) -> None:
    write(project, fetching("small", "large"))
    project.call("lock", "copier")
    (key,) = exchanges(project)
    assert re.fullmatch(r"run mkdir -p /opt && wget .* #[0-9a-f]{12} on linux/amd64", key)
    pins = exchanges(project)[key]
    assert [(pin["name"], pin["status"], pin["size"]) for pin in pins] == [
        ("GET http://files.test/large", 200, len(LARGE)),
        ("GET http://files.test/small", 200, len(SMALL)),
    ]
    (line,) = [line for line in project.lock.read_text().splitlines() if "test/small" in line]
    assert list(json.loads(line.strip().rstrip(",")))[:4] == ["name", "status", "size", "sha256"]
    assert list(recorded(project).values()) == [SMALL], "larger ones are not committed"

    net.stop()
    again = elsewhere(project, tmp_path / "again")
    lost = again.call("realize", "copier", check=False)
    assert lost.code == 5
    assert "http://files.test/large" in lost.err and "reprobuild import" in lost.err
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "weights").write_bytes(LARGE)
    for number in range(20):
        (tmp_path / "copies" / f"other{number}").write_text(str(number))
    told = again.call("import", str(tmp_path / "copies")).out
    assert "files more that no pin wants" in told
    assert "wanted by copier: run" in told and "1 of them pinned" in told
    assert again.call("realize", "copier", "--json").json["image_id"] == image_id(project)
    assert again.call("run", "copier", "--", "cat", "/opt/small").out == SMALL.decode()


def test_an_export_of_sources_is_all_that_another_store_needs(
    project: Project, net: Upstreams, tmp_path: Path
) -> None:
    write(project, fetching("small", "large"), 'url("file:weights.bin", to="/weights")')
    project.call("lock", "copier")
    net.stop()
    project.call("export", "copier", "--sources", str(tmp_path / "sources"))
    assert len(list((tmp_path / "sources").iterdir())) == 3
    again = elsewhere(project, tmp_path / "again")
    (again.recipe / "weights.bin").unlink()
    again.call("import", str(tmp_path / "sources"))
    assert again.call("realize", "copier", "--json").json["image_id"] == image_id(project)


def test_an_ordinary_user_builds_the_same(project: Project, net: Upstreams, tmp_path: Path) -> None:
    require("root", "" if os.geteuid() == 0 else "the tests do not run as root")
    found = python_of_others()
    if found is None:
        pytest.skip("no Python here that others may use: whoever runs the tests as a user tests this")
    write(project, fetching("small"))
    project.call("lock", "copier")
    net.stop()
    with shared_folder(ORDINARY_UID) as folder:
        again = elsewhere(project, folder / "again")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, ORDINARY_UID, ORDINARY_UID, follow_symlinks=False)
        as_user = ["setpriv", f"--reuid={ORDINARY_UID}", f"--regid={ORDINARY_UID}", "--clear-groups"]
        ended = subprocess.run(
            [*as_user, found[0], *again.argv("realize", "copier", "--json")[1:]],
            cwd=again.folder,
            env={**again.full_environment(), "HOME": str(folder), "PYTHONPATH": found[1]},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["image_id"] == image_id(project)


def test_what_upstream_changes_is_told_and_renewed_alone(
    project: Project, net: Upstreams, site: FileSite
) -> None:
    net.add("other.test", other := FileSite({"/word": Page(b"one\n")}))
    project = replace(project, environment=net.environment())
    write(project, fetching("small"), 'run("wget -q -O /word http://other.test/word", network="recorded")')
    project.call("lock", "copier")
    assert project.call("lock", "copier", "--check").out == "copier: upstream gives what the lock says\n"
    before, image = exchanges(project), image_id(project)
    site.pages["/small"] = Page(b"b small file\n")
    other.pages["/word"] = Page(b"two\n")
    assert project.call("realize", "copier", "--json").json["image_id"] == image
    written = project.lock.read_bytes()
    told = project.call("lock", "copier", "--check").out
    assert "GET http://files.test/small: other bytes" in told and "other.test/word: other bytes" in told
    assert project.lock.read_bytes() == written
    assert set(recorded(project)) == {pin["sha256"] for pins in before.values() for pin in pins}
    project.call("lock", "copier", "--update", "files.test/small")
    after = exchanges(project)
    (renewed,) = [key for key in before if before[key] != after[key]]
    assert "files.test" in renewed
    assert sorted(recorded(project).values()) == [b"b small file\n", b"one\n"], "the old body has gone"
    assert image_id(project) != image


def test_what_is_not_asked_for_any_more_is_noted(project: Project, net: Upstreams, tmp_path: Path) -> None:
    write(project, 'run("test -e /skip || wget -q -O /word http://files.test/small", network="recorded")')
    project.call("lock", "copier")
    (project.recipe / "root" / "skip").touch()
    noted = project.call("realize", "copier")
    assert "1 recorded exchange was not asked for" in noted.err
    assert "GET http://files.test/small" in noted.err


def test_what_was_not_recorded_is_refused(project: Project, net: Upstreams) -> None:
    write(project, 'run("wget -q -O /word http://files.test/$(cat /which)", network="recorded")')
    (project.recipe / "root" / "which").write_text("small\n")
    project.call("lock", "copier")
    (project.recipe / "root" / "which").write_text("large\n")
    refused = project.call("realize", "copier", check=False)
    assert refused.code == 3
    assert "http://files.test/large" in refused.err
    assert "--update" in refused.err
    assert net.asked()[-1] != "GET http://files.test/large"


@pytest.mark.parametrize("strict", [False, True])
def test_a_build_that_is_refused_and_copes(project: Project, strict: bool) -> None:
    write(project, 'run("wget -q -O /word http://files.test/small || echo none > /word")')
    flags = ["--strict-network"] if strict else []
    ended = project.call("realize", "copier", *flags, check=False)
    assert ended.code == (3 if strict else 0)
    assert "http://files.test/small" in ended.err
    assert 'url("http://files.test/small"' in ended.err, "the stanza"


def test_a_step_that_is_not_the_same_again_is_not_locked(project: Project) -> None:
    write(
        project,
        fetching("small"),
        'run("wget -q -O /word http://files.test/small; cat /proc/sys/kernel/random/uuid > /random", '
        'network="recorded")',
    )
    ended = project.call("lock", "copier", check=False)
    assert ended.code == 4
    assert "/random" in ended.err and "[random]" in ended.err
    assert not project.lock.exists() and not recorded(project)


def test_a_command_that_fails_while_it_is_recorded(project: Project) -> None:
    write(project, 'run("wget -O /word http://files.test/none", network="recorded")')
    ended = project.call("lock", "copier", check=False)
    assert ended.code == 1
    assert "404" in ended.err
    assert not project.lock.exists()


def test_a_dead_link_is_answered_by_a_source(project: Project, net: Upstreams, tmp_path: Path) -> None:
    answers = ', answers={"http://gone.test/old": url("http://files.test/large")}'
    write(project, f'run("wget -q -O /word http://gone.test/old"{answers}, network="recorded")')
    project.call("lock", "copier")
    assert "GET http://gone.test/old" not in net.asked()
    ((pin,),) = exchanges(project).values()
    assert (pin["name"], pin["size"]) == ("GET http://gone.test/old", len(LARGE))
    again = replace(elsewhere(project, tmp_path / "again"), environment=net.environment())
    assert again.call("realize", "copier", "--json").json["image_id"] == image_id(project)


def test_answers_of_a_hub_and_of_a_drive(project: Project, net: Upstreams, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    HubSite({"org/bert": Model(commit, {"sub/model.bin": LARGE, "config.json": b"{}"})}).join(net)
    DriveSite({"1aBcDeFgHiJkLmNoPqRsTuVwXyZ": DriveFile("weights.bin", LARGE[::-1])}).join(net)
    project = replace(project, environment=net.environment())
    answers = (
        f'{{"http://gone.test/hub": hub("org/bert", revision="{commit}", files=["sub/model.bin"]),'
        ' "http://gone.test/drive": gdrive("1aBcDeFgHiJkLmNoPqRsTuVwXyZ")}'
    )
    gets = "wget -q -O /hub http://gone.test/hub && wget -q -O /drive http://gone.test/drive"
    write(project, f'run("{gets}", network="recorded", answers={answers})')
    project.call("lock", "copier")
    again = replace(elsewhere(project, tmp_path / "again"), environment=net.environment())
    assert again.call("realize", "copier", "--json").json["image_id"] == image_id(project)
    assert (
        again.call("run", "copier", "--", "sh", "-c", "cat /hub /drive | wc -c").out == f"{2 * len(LARGE)}\n"
    )


def test_private_addresses_are_asked_only_where_that_is_allowed(project: Project, net: Upstreams) -> None:
    environment = {**net.environment(), "REPROBUILD_ALLOW_PRIVATE": "nobody.test"}
    project = replace(project, environment=environment)
    write(project, 'run("wget -q -O /word http://10.1.2.3/small", network="recorded")')
    refused = project.call("lock", "copier", check=False)
    assert refused.code != 0
    assert "10.1.2.3" in refused.err and "--allow-private" in refused.err
    assert not project.lock.exists() and not net.asked()

    write(project, 'run("wget -q -O /word http://10.1.2.3/small || true", network="recorded")')
    coped = project.call("lock", "copier").err
    assert "hint: if that is meant: reprobuild lock NAME --allow-private 10.1.2.3" in coped


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_an_end_while_locking_leaves_everything_as_it_was(
    project: Project, net: Upstreams, site: FileSite, sent: signal.Signals
) -> None:
    write(project, fetching("small"))
    project.call("lock", "copier")
    before = project.lock.read_bytes(), recorded(project)
    site.pages["/small"] = Page(b"another\n")
    count = len(net.asked())
    write(project, 'run("wget -q -O /a http://files.test/small && sleep 600", network="recorded")')
    call = subprocess.Popen(
        project.argv("lock", "copier"),
        cwd=project.folder,
        env=project.full_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(net.asked()) == count and time.monotonic() < deadline:
        time.sleep(0.05)
    call.send_signal(sent)
    call.wait(60)
    assert (project.lock.read_bytes(), recorded(project)) == before
    write(project, fetching("small"))
    project.call("realize", "copier")


def test_a_prediction_that_reaches_out_is_refused_by_name(project: Project) -> None:
    predictors = '"online": predictor("wget -O {output} https://example.org/weights.bin < {input}", **TEXT),'
    write(project, predictors=predictors)
    project.call("lock", "copier")
    arguments = ("predict", "copier/online", "--input", "-", "--output", "-")
    ended = project.call(*arguments, stdin='{"text":"a"}\n', check=False)
    assert ended.code == 3
    assert "https://example.org/weights.bin" in ended.err
    assert 'url("https://example.org/weights.bin"' in ended.err
    assert 'predictor("…", network="recorded")' in ended.err and "run(" not in ended.err


def test_a_command_in_the_image_that_reaches_out_is_told_of(project: Project) -> None:
    write(project)
    project.call("lock", "copier")
    command = ("run", "copier", "--", "wget", "-q", "http://files.test/small")
    ended = project.call(*command, check=False)
    assert ended.code == 1
    assert "GET http://files.test/small" in ended.err and 'url("http://files.test/small"' in ended.err
    assert "coped" not in ended.err
    copes = ("run", "copier", "--strict-network", "--", "sh", "-c", f"{' '.join(command[3:])} || true")
    assert project.call(*copes, check=False).code == 3


def test_a_predictor_with_a_server_of_its_own_works(project: Project) -> None:
    command = (
        "nc -l -p 8080 -e cat > /dev/null & sleep 0.5; cat {input} | nc -w 2 127.0.0.1 8080 > {output}; true"
    )
    write(project, predictors=f'"served": predictor("{command}", **TEXT),')
    project.call("lock", "copier")
    arguments = ("predict", "copier/served", "--input", "-", "--output", "-")
    assert project.call(*arguments, stdin='{"text":"a"}\n').out == '{"text":"a"}\n'


RECORDED_PREDICTOR = (
    '"asks": predictor("wget -q -O {output} http://files.test/$(cat {input} | wc -l)", **TEXT, '
    'network="recorded", examples=[({"text": "abc"}, {"text": "fresh"})]),'
)


def test_a_recorded_predictor(project: Project, net: Upstreams, site: FileSite, tmp_path: Path) -> None:
    site.pages["/1"] = Page(b'{"text":"fresh"}\n')
    write(project, predictors=RECORDED_PREDICTOR)
    project.call("lock", "copier")
    (key,) = exchanges(project)
    assert key.startswith("predictor asks #")
    site.pages["/1"] = Page(b'{"text":"newer"}\n')
    assert "other bytes" in project.call("lock", "copier", "--check").out
    net.stop()
    again = elsewhere(project, tmp_path / "again")
    assert again.call("realize", "copier", "--json").json["image_id"] == image_id(project)
    arguments = ("predict", "copier/asks", "--input", "-", "--output", "-")
    again.call("gc", "--grace", "0")
    assert again.call(*arguments, stdin='{"text":"abc"}\n').out == '{"text":"fresh"}\n'
    other = again.call(*arguments, stdin='{"text":"a"}\n{"text":"b"}\n', check=False)
    assert other.code == 3 and "http://files.test/2" in other.err
    assert "reprobuild lock copier --update 'predictor asks'" in other.err.splitlines()[-1]
    net.start()
    project.call("lock", "copier", "--update", "predictor")
    (pins,) = exchanges(project).values()
    assert project.call(*arguments, stdin='{"text":"abc"}\n').out == '{"text":"newer"}\n'
    assert [pin["name"] for pin in pins] == ["GET http://files.test/1"]


RECORDED_STREAM = '''"asks": predictor(
    r"""while IFS= read -r line; do
        number=${line#*:}; path=${line##*:}; path=${path#?}
        word=$(wget -q -O - "http://files.test/${path%??}") || exit 1
        printf '{"_id":%s,"text":"%s"}\\n' "${number%%,*}" "$word"
    done""", protocol="stream", network="recorded", examples=[({"text": "a"}, {"text": "fresh"})], **TEXT),'''


def test_a_recorded_predictor_that_lives_on(project: Project, net: Upstreams, site: FileSite) -> None:
    site.pages["/a"] = Page(b"fresh")
    write(project, predictors=RECORDED_STREAM)
    project.call("lock", "copier")
    (pins,) = exchanges(project).values()
    assert [pin["name"] for pin in pins] == ["GET http://files.test/a"]
    net.stop()
    arguments = ("predict", "copier/asks", "--input", "-", "--output", "-", "--cache", "off")
    again = project.call(*arguments, stdin='{"text":"a"}\n' * 3)
    assert again.out == '{"text":"fresh"}\n' * 3
    other = project.call(*arguments, stdin='{"text":"a"}\n{"text":"b"}\n', check=False)
    assert other.code == 3 and "http://files.test/b" in other.err
    assert "reprobuild lock copier --update 'predictor asks'" in other.err.splitlines()[-1]


def test_no_secret_is_kept(project: Project, net: Upstreams) -> None:
    secrets = {name: f"{name}-5up3r-53cr3t" for name in ("netrc", "environment", "inline", "cookie", "token")}

    def site(request: Request) -> Answer:
        if request.path == "/login":
            return Answer(b"in\n", headers={"Set-Cookie": f"session={secrets['cookie']}; Path=/"})
        return Answer(b"given\n")

    net.add("safe.test", site)
    home = project.folder / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine safe.test login me password {secrets['netrc']}\n")
    environment = {**net.environment(), "HOME": str(home), "SERVICE_TOKEN": secrets["environment"]}
    project = replace(project, environment=environment)
    inline = base64.b64encode(f"me:{secrets['inline']}".encode()).decode()
    gets = [
        "wget -q -O /login http://safe.test/login",
        f"wget -q -O /one http://me:{secrets['inline']}@safe.test/one",
        f"wget -q -O /two --header 'Cookie: session={secrets['cookie']}' http://safe.test/two",
        f"wget -q -O /three 'http://safe.test/three?access_token={secrets['token']}'",
    ]
    (project.recipe / "root" / "fetch").write_text("\n".join(["set -e", *gets, "rm /fetch"]) + "\n")
    write(project, 'run("sh /fetch", network="recorded")')
    project.call("lock", "copier")
    shutil.rmtree(project.recipe / "root")
    for folder in (project.store, project.recipe):
        for path in folder.rglob("*"):
            if not path.is_file() or path.is_symlink():
                continue
            body = path.read_bytes()
            for name, secret in {**secrets, "basic": inline}.items():
                # The recipe's own file names three of them: it is the user's, and was written by hand.
                if secret.encode() in body:
                    assert b"set -e\nwget" in body, f"{name} in {path}"


def test_a_second_build_from_nothing_is_equal(project: Project, net: Upstreams) -> None:
    write(project, fetching("small", "large"))
    project.call("lock", "copier")
    net.stop()
    assert "built twice, and equal" in project.call("realize", "copier", "--check").err


def test_answers_in_turn_and_why(project: Project, net: Upstreams) -> None:
    words = iter(["one\n", "two\n", "one\n", "six\n"])
    net.add("turns.test", lambda _: Answer(next(words).encode()))
    project = replace(project, environment=net.environment())
    write(
        project, 'run("for n in 1 2; do wget -q -O - http://turns.test/; done > /word", network="recorded")'
    )
    first = project.call("lock", "copier", "--json").json
    assert project.call("run", "copier", "--", "cat", "/word").out == "one\ntwo\n"
    changed = project.call("lock", "copier", "--update", "turns.test").out
    assert "GET http://turns.test/ (answer 2): other bytes" in changed and "1 change" in changed
    assert project.call("run", "copier", "--", "cat", "/word").out == "one\nsix\n"
    assert "turns.test" in project.call("why", first["tag"], "copier").out


def test_show_says_what_is_recorded(project: Project) -> None:
    write(project, fetching("small", "large"))
    project.call("lock", "copier")
    assert "2 exchanges, 2.1 MB, with files.test" in project.call("show", "copier").out
