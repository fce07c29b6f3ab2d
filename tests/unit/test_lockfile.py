from __future__ import annotations

from collections.abc import Callable

import pytest

from reprobuild.derivation.lockfile import LayerOutput, Lock, LockError, Output, read_lock, write_lock
from reprobuild.derivation.pins import Pin
from reprobuild.digest import Digest
from tests.golden import assert_golden

A, B = Digest.of(b"a"), Digest.of(b"b")
LOCK = Lock(
    assembler=1,
    sources={
        "url https://example.org/ä b": (Pin("b", 3, B, {}, {"url": "https://example.org/ä b"}),),
        "apt bookworm git": (
            Pin(
                "git_1_amd64.deb",
                12,
                A,
                {"package": "git", "version": "1"},
                {"path": "pool/g", "date": "2024"},
            ),
            Pin(
                "libc6_2_amd64.deb",
                13,
                B,
                {"package": "libc6", "version": "2"},
                {"path": "pool/l", "date": "2024"},
            ),
        ),
    },
    outputs={
        "linux/amd64": (
            Output({"big": True}, A, B, (LayerOutput("apt bookworm git", A), LayerOutput("run make", B))),
            Output({"big": False}, B, A, ()),
        )
    },
)


def test_a_lock_survives_its_text() -> None:
    text = write_lock(LOCK)
    again = read_lock(text, "x")
    assert write_lock(again) == text
    assert again.sources == LOCK.sources
    assert again.output("linux/amd64", {"big": True}) == LOCK.outputs["linux/amd64"][0]
    assert again.output("linux/arm64", {"big": True}) is None


def test_the_text_is_made_to_be_reviewed() -> None:
    assert_golden("lock", write_lock(LOCK))


def test_a_pin_that_was_taken_out_is_missed() -> None:
    lines = write_lock(LOCK).splitlines(keepends=True)
    text = "".join(line for line in lines if "git_1" not in line)
    assert read_lock(text, "x").missing == {"apt bookworm git": 1}


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        pytest.param(lambda text: "", "is empty", id="empty"),
        pytest.param(lambda text: text[:200], "recipe.lock of x", id="cut"),
        pytest.param(lambda text: text.replace('"lock": 1', '"lock": 2'), "has format 2", id="format"),
        pytest.param(lambda text: text.replace('"sha256"', '"sha255"'), "'sha256' is missing", id="field"),
        pytest.param(lambda text: text.replace(A.hex, "zz"), "not a sha256 digest", id="digest"),
        pytest.param(lambda text: text.replace('"assembler"', '"lock"'), "'lock' is there twice", id="twice"),
        pytest.param(lambda text: "[]", "does not fit the format", id="list"),
        pytest.param(lambda text: text.replace('"size": 3', '"size": "three"'), "does not fit", id="size"),
        pytest.param(
            lambda text: "<<<<<<< HEAD\n" + text, "line 1 is the mark of a conflict", id="merge-conflict"
        ),
    ],
)
def test_a_damaged_lock_says_what_is_wrong(damage: Callable[[str], str], problem: str) -> None:
    with pytest.raises(LockError, match=problem) as caught:
        read_lock(damage(write_lock(LOCK)), "x")
    assert caught.value.hint
