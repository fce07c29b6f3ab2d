from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.debian.version import LONGEST, Operator, VersionError, satisfies, version_key

# From dpkg's own t/Dpkg_Version.t and deb-version(7), and versions of bookworm.
ORDERED = [
    ("1.0~rc1", "1.0"),
    ("1.0~~", "1.0~~a"),
    ("1.0~~a", "1.0~"),
    ("1.0~", "1.0"),
    ("1.0", "1.0a"),
    ("1.0a", "1.0+"),
    ("1.0-1", "1.0-1+b1"),
    ("1.0-1~deb12u1", "1.0-1"),
    ("1.0-1", "1.0-1.1"),
    ("1.9", "1.10"),
    ("0.9", "0.10"),
    ("9", "1:0"),
    ("2:3.87.1-1", "2:3.87.1-1+deb12u2"),
    ("2.36-9", "2.36-9+deb12u14"),
    ("5.36.0-7+deb12u3", "5.36.0-7+deb12u10"),
    ("1.2.3", "1.2.3-1"),
    ("1.0-a", "1.0-a1"),
    ("0~git20200101", "0"),
    ("1.0", "1.a"),
    ("1.0.z", "1.0.+"),
]
EQUAL = [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.00", "1.0"), ("1.0-01", "1.0-1"), ("a", "a0"), ("0", "00")]


@pytest.mark.parametrize(("lower", "higher"), ORDERED, ids=lambda version: version)
def test_order(lower: str, higher: str) -> None:
    assert version_key(lower) < version_key(higher)
    assert not version_key(higher) <= version_key(lower)


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=lambda version: version)
def test_equal(one: str, other: str) -> None:
    assert version_key(one) == version_key(other)


@pytest.mark.parametrize(
    ("operator", "accepted"),
    [("<<", "1"), ("<=", "12"), ("=", "2"), (">=", "23"), (">>", "3"), ("", "123")],
    ids=lambda value: value or "any",
)
def test_relations(operator: Operator, accepted: str) -> None:
    assert "".join(version for version in "123" if satisfies(version, operator, "2")) == accepted


@pytest.mark.parametrize(
    "version", ["", "1 2", "1_2", "a:1", "1\n", "\u0661", "1/../2", "$(id)", "1" * (LONGEST + 1)], ids=repr
)
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(VersionError, match="not a Debian version"):
        version_key(version)


VERSIONS = st.from_regex(r"([0-9]:)?[0-9][0-9a-z.+~]{0,6}(-[0-9a-z+~.]{1,4})?", fullmatch=True)


@given(VERSIONS, VERSIONS)
def test_order_is_that_of_the_algorithm_of_the_policy(left: str, right: str) -> None:
    expected = _compare(left, right)
    a, b = version_key(left), version_key(right)
    assert (a > b) - (a < b) == expected


def _compare(left: str, right: str) -> int:
    """Debian Policy 5.6.12, sentence by sentence, as slowly as it is written."""
    parts = [_split(left), _split(right)]
    for a, b in zip(*parts, strict=True):
        if result := _compare_part(a, b):
            return result
    return 0


def _split(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if hyphen else (epoch, rest, "")


def _compare_part(a: str, b: str) -> int:
    while a or b:
        while (a and not a[0].isdigit()) or (b and not b[0].isdigit()):
            x, y = _weight(a), _weight(b)
            if x != y:
                return 1 if x > y else -1
            a, b = a[1:], b[1:]
        x, a = _number(a)
        y, b = _number(b)
        if x != y:
            return 1 if x > y else -1
    return 0


def _weight(text: str) -> int:
    if not text or text[0].isdigit():
        return 0
    return -1 if text[0] == "~" else ord(text[0]) + (0 if text[0].isalpha() else 256)


def _number(text: str) -> tuple[int, str]:
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return int(digits or 0), text[len(digits) :]
