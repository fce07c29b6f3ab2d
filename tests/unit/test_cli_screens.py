"""What verbs say, as goldens: help, plans, differences, findings. Reviewed as diffs (pytest --accept)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reprobuild.build.evaluate import Evaluated
from reprobuild.build.image import Realised, RealisedLayer
from reprobuild.build.plan import Plan, PlannedStep, StepPlan
from reprobuild.cli import root
from reprobuild.cli.lock import change_lines
from reprobuild.cli.output import table
from reprobuild.cli.realize import plan_lines
from reprobuild.cli.report import answer_of, reused
from reprobuild.cli.show import describe, lines_of
from reprobuild.cli.why import difference_lines
from reprobuild.derivation.derive import Difference
from reprobuild.derivation.lockfile import Lock
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import predictor
from reprobuild.derivation.recipe import Recipe, image
from reprobuild.derivation.recorded import predictor_key
from reprobuild.derivation.words import run
from reprobuild.digest import Digest
from reprobuild.fetch.download import Download
from reprobuild.lock.changes import source_changes
from tests.golden import assert_golden

HASH = Digest.of(b"a derivation")


def test_options_of_every_verb() -> None:
    found = {}
    for name in root.VERBS:
        command = root.load_verb(name)
        options = (option for option in command.params if isinstance(option, click.Option))
        arguments = [
            one.make_metavar(click.Context(command))
            for one in command.params
            if isinstance(one, click.Argument)
        ]
        named = {" ".join(option.opts): option.help for option in options}
        found[name] = {
            "help": " ".join((command.help or "").split()),
            "arguments": arguments,
            "options": named,
        }
    assert_golden("screens/verbs", found)


def plan(*actions: StepPlan, downloads: tuple[Download, ...] = ()) -> Plan:
    steps = tuple(PlannedStep(f"step {number}", action) for number, action in enumerate(actions, 1))
    return Plan("tutorial", f"reprobuild/tutorial:1.0-{HASH.short}", HASH, steps, downloads)


def download(name: str, size: int | None) -> Download:
    return Download(
        name=name, urls=("https://example.org/" + name,), sha256=Digest.of(name.encode()), size=size
    )


def test_plans() -> None:
    fetched = (download("a.deb", 1_200_000), download("b", None))
    plans = {
        "nothing to do": plan("reuse", "reuse"),
        "all": plan("build", "build unless equal", downloads=fetched),
        "the last step": plan("reuse", "build"),
    }
    assert_golden("screens/plans", {name: plan_lines(value) for name, value in plans.items()})


def test_results() -> None:
    layer = RealisedLayer("apt bookworm python3", HASH, Digest.of(b"diff"), 2560, "built")
    realised = Realised(
        recipe="tutorial",
        version="1.0",
        tag=f"reprobuild/tutorial:1.0-{HASH.short}",
        options={},
        input_hash=HASH,
        image_id=Digest.of(b"config"),
        derivation=HASH,
        layers=(layer,),
        env={},
        workdir="/app",
        predictors={},
        engine="sandbox",
        isolation="sandbox (bubblewrap)",
        fetched_bytes=31_700_000,
        seconds=9.2,
    )
    answers = {"built": answer_of(realised.to_json()), "again": answer_of(reused(realised.to_json()))}
    shown = {name: [one.json, one.text, one.summary] for name, one in answers.items()}
    assert_golden("screens/results", shown)


def test_differences() -> None:
    found = [
        Difference("apt.libc6.version", "2.36-9", "2.36-10"),
        Difference("apt.libc6", None, {"name": "libc6.deb", "version": "2.36-9", "sha256": "ab" * 32}),
        Difference("step 2 (run).command", ["/bin/sh", "-c", "make"], ["/bin/sh", "-c", "make -j2"]),
        Difference("env.HOME", "", " spaced "),
        Difference("workdir", "x" * 300, 3),
        Difference("step 3 (files)", {"kind": "files", "entries": "sha256:…"}, None),
        Difference("predictors.size", None, {"command": "wc"}),
    ]
    assert_golden("screens/differences", difference_lines(found))
    assert difference_lines(found * 10)[-1] == "  and 30 more"


def pin(package: str, version: str, content: str = "") -> Pin:
    hashed = {"package": package, "version": version} if version else {}
    return Pin(package, 3, Digest.of((content or package + version).encode()), hashed)


def test_changes_of_pins() -> None:
    many = [pin(f"p{number:03}", "1") for number in range(200)]
    more = [pin(f"p{number:03}", "2") for number in range(200)]
    kept = pin("kept", "1")
    found = {
        "new": source_changes({}, {"apt bookworm python3": many, "url https://a.example/b": [pin("b", "")]}),
        "gone": source_changes({"apt bookworm python3": many}, {}),
        "bounded": source_changes({"apt bookworm x": many}, {"apt bookworm x": more}),
        "each way": source_changes(
            {"wheels a": [kept, pin("a", "1.0"), pin("b", "2"), pin("c", "3"), pin("d", "")]},
            {"wheels a": [kept, pin("a", "1.1"), pin("n", "9"), pin("c", "3", "other"), pin("d", "", "o")]},
        ),
        "none": source_changes({"wheels a": [kept]}, {"wheels a": [kept]}),
    }
    assert_golden("screens/changes", {name: change_lines(list(changes)) for name, changes in found.items()})


def exchange(name: str, body: str, **more: Any) -> Pin:
    hashed = {"status": 200, "headers": {"content-type": "text/plain"}, **more}
    return Pin(name, len(body), Digest.of(body.encode()), hashed)


def test_changes_of_exchanges() -> None:
    get = "GET https://a.test/x"
    before = [
        exchange(get, "one"),
        exchange(get, "two"),
        exchange(get, "json", request={"accept": "application/json", "cookie": True}),
        exchange("GET https://a.test/gone", "gone"),
        exchange("GET https://a.test/moved", "moved"),
    ]
    after = [
        exchange(get, "one"),
        exchange(get, "three"),
        exchange(get, "JSON", request={"accept": "application/json", "cookie": True}),
        exchange("GET https://a.test/new\x1b", "new"),
        exchange("GET https://a.test/moved", "", status=302, headers={"location": "/x"}),
    ]
    key = "run make #0123456789ab on linux/amd64"
    found = change_lines(list(source_changes({key: before}, {key: after})))
    assert_golden("screens/exchanges", found)


def test_what_is_recorded_is_shown_by_count_and_hosts(tmp_path: Path) -> None:
    step = run("make", network="recorded")
    asks = predictor(
        "ask {input} {output}",
        inputs={"a": str},
        outputs={"b": str},
        network="recorded",
        examples=[({"a": "x"}, {"b": "y"})],
    )
    made = Recipe(
        name="maker",
        version="1",
        summary="",
        publish=False,
        options={},
        chosen={},
        image=image(step, run("more", network="recorded"), predictors={"asks": asks}),
    )
    pins = tuple(exchange(f"GET https://{host}.test/x", "body") for host in "abcdef")
    platform = "linux/amd64"
    key = predictor_key("asks", asks, platform)
    lock = Lock(1, {step.lock_key(platform): pins, key: pins[:1]})
    shown = describe(Evaluated(made, Path("recipes/maker"), HASH), lock, [], platform)
    assert_golden("screens/recorded", lines_of(shown))


def test_tables_line_up() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == "a    bb  c\naaa  b"
    assert table([]) == ""
