"""What .dockerignore leaves out, and globs."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.derivation.dockerfile.patterns import Ignored, PatternError, cleaned, glob, ignore_patterns


@pytest.mark.parametrize(
    ("text", "out", "stays"),
    [
        ("*.md", ["a.md", "b.md/x"], ["d/a.md", "a.mdx"]),
        ("**/*.md", ["a.md", "d/a.md", "d/e/a.md"], ["a.txt"]),
        ("/build/", ["build", "build/x/y"], ["d/build"]),
        ("*/temp*", ["d/temp", "d/temporary", "d/temp/x"], ["temp", "d/e/temp"]),
        ("temp?", ["tempa", "tempb"], ["temp", "tempab"]),
        ("*.md\n!README.md", ["a.md"], ["README.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["README-secret.md"], ["README.md"]),
        ("*\n!src", ["a", "d/src"], ["src", "src/a"]),
        ("dir\n!dir/keep", ["dir/a"], ["dir/keep"]),
        ("# comment\n\n  a  \n", ["a"], ["# comment", "b"]),
        ("**", ["a", "a/b"], []),
        ("a/**", ["a/b", "a/b/c"], ["a", "b"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["b"]),
        ("./a/../b", ["b"], ["a"]),
        ("[ab].txt", ["a.txt", "b.txt"], ["c.txt"]),
        ("a.b", ["a.b"], ["axb"]),
        (".", [], ["a"]),
    ],
)
def test_patterns_leave_out(text: str, out: list[str], stays: list[str]) -> None:
    ignored = Ignored(ignore_patterns(text))
    assert [path for path in [*out, *stays] if ignored(path)] == out


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "a", True),
        ("*", ".hidden", True),
        ("*", "a/b", False),
        ("a*c", "abbc", True),
        ("[a-c]x", "bx", True),
        ("[^a]x", "ax", False),
        ("[^a]x", "bx", True),
        ("[]a]", "]", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a?c", "a/c", False),
    ],
)
def test_globs(pattern: str, name: str, *, fits: bool) -> None:
    assert bool(glob(pattern).fullmatch(name)) is fits


@pytest.mark.parametrize("pattern", ["[", "[a", "a\\", "[z-a]"])
def test_patterns_that_mean_nothing_are_said(pattern: str) -> None:
    with pytest.raises(PatternError):
        glob(pattern)


def test_paths_stay_inside() -> None:
    assert [cleaned(path) for path in ("/a/", "./a//b", ".", "a/../b")] == ["a", "a/b", "", "b"]
    with pytest.raises(PatternError):
        cleaned("a/../../b")


@given(st.text(alphabet="*?[]!^-\\/.ab\n# ", max_size=30), st.text(alphabet="ab/.", min_size=1, max_size=10))
def test_any_text_means_something_or_is_said(text: str, path: str) -> None:
    with contextlib.suppress(PatternError):
        Ignored(ignore_patterns(text))(path)
