from __future__ import annotations

import ast

import pytest

from reprobuild.gateway.refusal import LOOKED_UP, Refusal, Refusals
from reprobuild.gateway.report import describe, printable, sentence, stanza

HUB = "https://huggingface.co"
DRIVE = "https://drive.google.com"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refused(url: str, method: str = "GET") -> Refusal:
    return Refusal("host", 443, url, method)


@pytest.mark.parametrize(
    ("urls", "step"),
    [
        (["https://a.test/x/weights.bin?v=1"], 'url("https://a.test/x/weights.bin?v=1", to="/weights.bin")'),
        (["https://a.test/"], 'url("https://a.test/", to="/download")'),
        (
            [f"{HUB}/org/m/resolve/{COMMIT}/a.bin", f"{HUB}/org/m/resolve/{COMMIT}/b c"],
            f'hub("org/m", revision="{COMMIT}", files=["a.bin", "b c"])',
        ),
        ([f"{HUB}/org/m/resolve/main/a"], 'hub("org/m", revision="<commit>", files=["a"])'),
        ([f"{HUB}/api/models/org/m/revision/main"], 'hub("org/m", revision="<commit>")'),
        (
            [f"{HUB}/datasets/org/d/resolve/main/x.json"],
            'hub("org/d", revision="<commit>", files=["x.json"], kind="dataset")',
        ),
        (
            ["https://git.test/a/b.git/info/refs?service=git-upload-pack"],
            'git("https://git.test/a/b.git", "<commit>", to="/b")',
        ),
        ([f"{DRIVE}/uc?id=1AbCdEfGhIjK&export=download"], 'gdrive("1AbCdEfGhIjK", to="/1AbCdEfGhIjK")'),
        ([f"{DRIVE}/file/d/1AbCdEfGhIjK/view"], 'gdrive("1AbCdEfGhIjK", to="/1AbCdEfGhIjK")'),
        (
            ["https://index.test/simple/numpy/", "https://files.test/p/scipy-1.0-cp39-none-any.whl"],
            'wheels("numpy", "scipy==1.0")',
        ),
        (
            ["http://m.test/debian/dists/bookworm/InRelease", "http://m.test/debian/pool/main/p/python3/python3_3.1_amd64.deb"],
            'apt("bookworm", "python3")',
        ),
    ],
)  # fmt: skip
def test_what_would_pin_it_can_be_pasted(urls: list[str], step: str) -> None:
    lines = stanza([refused(url) for url in urls]).splitlines()
    assert [line.strip() for line in lines] == [f"{step},", 'run("…", network="recorded"),']
    ast.parse(f"image({' '.join(lines)})")


def test_a_refused_upload_or_a_name_alone_can_only_be_recorded() -> None:
    found = stanza([refused("https://a.test/x", "POST"), Refusal("a.test", 0, why=LOOKED_UP)])
    assert found.strip() == 'run("…", network="recorded"),'


def test_a_predictor_is_recorded_by_its_own_word() -> None:
    one = refused("https://a.test/x")
    step = 'url("https://a.test/x", to="/x"),'
    recorded = 'predictor("…", network="recorded"),'
    assert [line.strip() for line in stanza([one], "predictor").splitlines()] == [step, recorded]
    assert recorded in sentence(one, "predictor") and "run(" not in sentence(one, "predictor")


def test_attempts_are_described_in_a_line_each() -> None:
    found = describe(
        [
            Refusal("a.test", 443, "https://a.test/x", "GET", "python3 run.py", 3),
            Refusal("b.test", 0, count=2, why=LOOKED_UP),
            Refusal("c.test", 443),
        ]
    )
    assert found.splitlines() == [
        "  python3 run.py: GET https://a.test/x, 3 times",
        f"  b.test, 2 times: {LOOKED_UP}",
        "  c.test:443",
    ]


def test_many_attempts_are_counted() -> None:
    assert describe([refused(f"https://a.test/{n}") for n in range(50)]).endswith("and 30 more")


def test_what_a_stranger_wrote_reaches_no_terminal() -> None:
    wild = refused("https://a.test/\x1b[31m\r\n\u202e" + '"); import os; ("' + "x" * 5000)
    for text in (describe([wild]), stanza([wild]), sentence(wild)):
        assert "\x1b" not in text and "\r" not in text and "\u202e" not in text
        assert max(map(len, text.splitlines())) < 700
    (call,) = ast.parse(stanza([wild]).splitlines()[0].strip().rstrip(",")).body
    assert isinstance(call, ast.Expr) and isinstance(call.value, ast.Call)
    assert len(printable("y" * 1000)) == 300


def test_an_attempt_that_is_made_again_is_counted_and_their_number_is_bounded() -> None:
    refusals = Refusals()
    for _ in range(3):
        refusals.add(refused("https://a.test/"))
    for number in range(5000):
        refusals.add(refused(f"https://a.test/{number}"))
    found = refusals.all
    assert (found[0].count, len(found), sum(one.count for one in found)) == (3, 1000, 5003)


def test_a_reason_that_begins_with_the_address_does_not_repeat_it() -> None:
    one = Refusal("10.0.0.1", 80, "http://10.0.0.1/x", "GET", why="http://10.0.0.1/x: not public")
    assert describe([one]) == "  GET http://10.0.0.1/x: not public"
