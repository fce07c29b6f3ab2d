"""Arguments that several verbs understand: pairs, sizes, names with predictors."""

from __future__ import annotations

import pytest

from reprobuild.cli.arguments import pairs
from reprobuild.errors import UsageError
from reprobuild.predict.chosen import memory_limit
from reprobuild.settings import byte_size


def test_pairs_are_taken_apart_at_the_first_equals_sign() -> None:
    assert pairs(["a=1", "b=x=y", "c="], "--set") == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize(
    "texts", [["a"], ["=1"], [""], ["a=1", "a=2"]], ids=["no value", "no name", "empty", "twice"]
)
def test_what_is_no_pair_is_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError):
        pairs(texts, "--set")


@pytest.mark.parametrize(
    ("flag", "texts", "message", "hint"),
    [
        ("--set", ["a"], "--set a: NAME=VALUE is needed", "for example: --set a=1"),
        ("--param", [""], "--param : NAME=VALUE is needed", "for example: --param name=1"),
        ("--map", ["text"], "--map text: FIELD=NAME is needed", "for example: --map text=article"),
        ("--map", ["=id"], "--map =id: FIELD=NAME is needed", "for example: --map text=article"),
        ("--map", ["a=b", "a=c"], "--map a is there twice", "leave --map a=b out, or --map a=c"),
    ],
)
def test_what_mends_a_pair_is_said(flag: str, texts: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        pairs(texts, flag)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4_000_000_000),
        ("4GiB", 4 << 30),
        ("500 MB", 500_000_000),
        ("1.5k", 1500),
        ("123", 123),
        ("123B", 123),
        ("2t", 2_000_000_000_000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1G", "0", "6MB", "4iB", "4X", "1e9", "4 G B", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--memory "):
        memory_limit(text, "--memory ")
