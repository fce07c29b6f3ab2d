"""Words of a Dockerfile: quotes, escapes, variables, as BuildKit reads them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.derivation.dockerfile.expand import (
    Rules,
    WordError,
    expand,
    expand_words,
    names_in,
    quoted,
    raw_words,
)

SCOPE = {"X": "one", "EMPTY": "", "PATH": "/usr/bin:/bin", "FILE": "a.tar.gz", "BLANKS": "a b"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("plain", "plain"),
        ("$X", "one"),
        ("${X}", "one"),
        ("a${X}b$X-", "aonebone-"),
        ("$NONE", ""),
        ("${NONE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${X:-d}", "one"),
        ("${NONE:-${X}}", "one"),
        ("${NONE:-a'}'b}", "a}b"),
        ("${X:+d}", "d"),
        ("${EMPTY:+d}", ""),
        ("${EMPTY+d}", "d"),
        ("${NONE+d}", ""),
        ("'$X'", "$X"),
        ('"$X y"', "one y"),
        (r"\$X", "$X"),
        (r'"\$X"', "$X"),
        (r'"a\nb"', r"a\nb"),
        (r"a\ b", "a b"),
        ('a"b"c', "abc"),
        ("a'b'\"c\"", "abc"),
        ("$", "$"),
        ("a$", "a$"),
        ("$(x)", "$(x)"),
        ("$1x", "x"),
        ("/opt:$PATH", "/opt:/usr/bin:/bin"),
        ("${FILE%.gz}", "a.tar"),
        ("${FILE%%.*}", "a"),
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE/tar/zip}", "a.zip.gz"),
        ("${PATH//\\/bin/B}", "/usrB:B"),
        ("ü$X", "üone"),
    ],
)
def test_words_come_to_their_values(word: str, value: str) -> None:
    assert expand(word, SCOPE) == value


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("'a", "closing '"),
        ('"a', 'closing "'),
        ("${X", "missing"),
        ("${X:-a", "missing"),
        ("${}", "names no variable"),
        ("${X:=a}", "no modifier"),
        ("${X!}", "no modifier"),
        ("${NONE:?is needed}", "is needed"),
        ("${X:", "missing"),
    ],
)
def test_what_is_no_word_is_said(word: str, problem: str) -> None:
    with pytest.raises(WordError, match=problem):
        expand(word, SCOPE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b"]),
        ("  a   b ", ["a", "b"]),
        ('"a b" c', ["a b", "c"]),
        ("$BLANKS c", ["a", "b", "c"]),
        ('"$BLANKS" c', ["a b", "c"]),
        (r"a\ b c", ["a b", "c"]),
        ("$NONE", []),
        ("''", [""]),
    ],
)
def test_texts_come_to_words(text: str, words: list[str]) -> None:
    assert expand_words(text, SCOPE) == words


def test_another_escape_leaves_the_backslash_alone() -> None:
    assert expand("C:\\dir`$X", SCOPE, Rules("`")) == "C:\\dir$X"


def test_the_variables_of_a_word_are_all_that_it_may_need() -> None:
    assert names_in("$A ${B:-$C} '$D' ${E:+$F} ${G##x}") == {"A", "B", "C", "E", "F", "G"}


def test_words_as_they_are_written() -> None:
    assert raw_words("a='b c' d=\"e f\" g\\ h") == ["a='b c'", 'd="e f"', "g\\ h"]


@given(st.text())
def test_a_quoted_text_is_itself(text: str) -> None:
    assert expand(quoted(text), SCOPE) == text


@given(st.text(alphabet="$ {}:-+?#%/'\"\\aX\n`", max_size=40))
def test_any_text_has_a_value_or_a_problem(text: str) -> None:
    for rules in (Rules(), Rules("`", keeps_quotes=True, keeps_escapes=True, keeps_unset=True)):
        with contextlib.suppress(WordError):
            expand(text, SCOPE, rules)
            expand_words(text, SCOPE, rules)


def test_deep_nesting_is_a_problem_and_no_crash() -> None:
    with pytest.raises(WordError):
        expand("${A:-" * 5000 + "}" * 5000, {})
