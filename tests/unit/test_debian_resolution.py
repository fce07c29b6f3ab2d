from __future__ import annotations

import pytest

from reprobuild.debian.control import parse_stanza
from reprobuild.debian.index import Index, Package, read_package
from reprobuild.debian.relation import Relation, parse_clause
from reprobuild.digest import Digest
from reprobuild.lock.debian_resolution import UnresolvableError, resolve

SHA256 = Digest.of(b"").hex


def index(text: str, installed: str = "") -> Index:
    """Make an index of lines such as ``a 1; Depends: b, c; Provides: d``."""
    stanzas = []
    for line in filter(None, map(str.strip, text.split("\n"))):
        head, *fields = (part.strip() for part in line.split(";"))
        name, version = head.split()
        path = f"pool/{name}_{version.replace(':', '_')}.deb"
        stanzas.append(
            "\n".join([f"Package: {name}", f"Version: {version}", "Architecture: amd64", *fields])
            + f"\nFilename: {path}\nSize: 1\nSHA256: {SHA256}\n"
        )
    return Index(["\n".join(stanzas).encode()], _installed(installed))


def _installed(text: str) -> dict[str, Package]:
    found = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        head, *fields = (part.strip() for part in line.split(";"))
        name, version = head.split()
        found[name] = read_package(
            parse_stanza("\n".join([f"Package: {name}", f"Version: {version}", *fields]))
        )
    return found


def chosen(wishes: str, text: str, installed: str = "") -> str:
    relations: list[Relation] = [parse_clause(wish.strip())[0] for wish in wishes.split(",")]
    return ", ".join(map(str, resolve(index(text, installed), relations, arch="amd64")))


CASES = {
    "alone": ("a", "a 1\n b 1", "a 1"),
    "the highest version": ("a", "a 1\n a 10\n a 9", "a 10"),
    "a wished version": ("a (= 9)", "a 1\n a 10\n a 9", "a 9"),
    "depends, further and further": ("a", "a 1; Depends: b\n b 1; Pre-Depends: c\n c 1", "a 1, b 1, c 1"),
    "a circle": ("a", "a 1; Depends: b\n b 1; Depends: a", "a 1, b 1"),
    "a relation": ("a", "a 1; Depends: b (<< 2)\n b 1\n b 2", "a 1, b 1"),
    "two relations": ("a", "a 1; Depends: b (>= 2), b (<< 3)\n b 1\n b 2\n b 3", "a 1, b 2"),
    "relations of two": (
        "a, c",
        "a 1; Depends: b (>= 2)\n c 1; Depends: b (<< 3)\n b 1\n b 2\n b 3",
        "a 1, b 2, c 1",
    ),
    "an older one whose needs can be met": ("a", "a 2; Depends: gone\n a 1", "a 1"),
    "the first alternative": ("a", "a 1; Depends: c | b\n b 1\n c 1", "a 1, c 1"),
    "the first that there is": ("a", "a 1; Depends: gone | b | c\n b 1\n c 1", "a 1, b 1"),
    "the first that can be met": ("a", "a 1; Depends: b | c\n b 1; Depends: gone\n c 1", "a 1, c 1"),
    "one that is wanted anyhow": ("a, c", "a 1; Depends: b | c\n b 1\n c 1", "a 1, c 1"),
    "one that another needs": ("a", "a 1; Depends: b | c, d\n b 1\n c 1\n d 1; Depends: c", "a 1, c 1, d 1"),
    "an alternative in a version": ("a", "a 1; Depends: b (>= 2) | c\n b 1\n c 1", "a 1, c 1"),
    "a virtual package": ("a", "a 1; Depends: v\n p 1; Provides: v", "a 1, p 1"),
    "real before virtual": ("a", "a 1; Depends: v\n p 1; Provides: v\n v 1", "a 1, v 1"),
    "providers by priority, then name": (
        "a",
        "a 1; Depends: v\n q 1; Provides: v\n p 1; Provides: v\n z 1; Provides: v; Priority: required",
        "a 1, z 1",
    ),
    "providers by name": ("a", "a 1; Depends: v\n q 1; Provides: v\n p 1; Provides: v", "a 1, p 1"),
    "a version provided": (
        "a",
        "a 1; Depends: v (>= 2)\n p 9; Provides: v (= 1)\n q 1; Provides: v (= 2)\n r 9; Provides: v",
        "a 1, q 1",
    ),
    "any architecture": ("a", "a 1; Depends: python3:any\n python3 3", "a 1, python3 3"),
    "our architecture": ("a", "a 1; Depends: b:amd64\n b 3", "a 1, b 3"),
    "another architecture's alternative": ("a", "a 1; Depends: b:arm64 | c\n b 1\n c 1", "a 1, c 1"),
    "a conflict moves the choice": (
        "a, c",
        "a 1; Depends: b | d\n b 1\n d 1\n c 1; Conflicts: b",
        "a 1, c 1, d 1",
    ),
    "a conflict with a version moves the version": (
        "a, c",
        "a 1; Depends: b\n b 1\n b 2\n c 1; Breaks: b (>= 2)",
        "a 1, b 1, c 1",
    ),
    "a conflict with nobody": ("a", "a 1; Conflicts: b (<< 1), gone\n b 1", "a 1"),
    "a conflict with its own virtual name": ("a", "a 1; Provides: v; Conflicts: v", "a 1"),
    "a conflict found late": (
        "a, z",
        "a 1; Depends: b | c\n b 1\n c 1\n z 1; Depends: y\n y 1; Depends: x\n x 1; Conflicts: b",
        "a 1, c 1, x 1, y 1, z 1",
    ),
    "a conflict with a provider": (
        "a, c",
        "a 1; Depends: v\n p 1; Provides: v, w\n q 1; Provides: v\n c 1; Conflicts: w",
        "a 1, c 1, q 1",
    ),
    "Recommends and Suggests are not followed": ("a", "a 1; Recommends: b; Suggests: c\n b 1\n c 1", "a 1"),
    "the same clause of two": (
        "a, b",
        "a 1; Depends: x | y\n b 1; Depends: x | y\n x 1\n y 1",
        "a 1, b 1, x 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wishes", "text", "expected"), CASES.values(), ids=CASES.keys())
def test_what_is_chosen(wishes: str, text: str, expected: str) -> None:
    assert chosen(wishes, text) == expected


INSTALLED = {
    "what is there is not chosen again": ("a", "a 1; Depends: b\n b 1", "b 1", "a 1"),
    "what is there stays in its version": ("a", "a 1; Depends: b\n b 2", "b 1", "a 1"),
    "an alternative that is there": ("a", "a 1; Depends: b | c\n b 1\n c 1", "c 1", "a 1"),
    "a provider that is there": ("a", "a 1; Depends: v\n p 1; Provides: v\n v 1", "q 1; Provides: v", "a 1"),
    "nothing to do": ("a", "a 2", "a 1", ""),
    "what it needs is not asked": ("a", "a 1; Depends: b\n b 1", "b 1; Depends: gone", "a 1"),
    "it keeps its enemies out": ("a", "a 1; Depends: b | c\n b 1\n c 1", "z 1; Conflicts: b", "a 1, c 1"),
}


@pytest.mark.parametrize(
    ("wishes", "text", "installed", "expected"), INSTALLED.values(), ids=INSTALLED.keys()
)
def test_what_is_chosen_onto_a_tree_with_packages(
    wishes: str, text: str, installed: str, expected: str
) -> None:
    assert chosen(wishes, text, installed) == expected


IMPOSSIBLE = {
    "nothing of that name": ("a", "a 1; Depends: gone", "", ["a 1 needs gone, which nothing here fulfils"]),
    "no such version": ("a", "a 1; Depends: b (>= 2)\n b 1", "", ["a 1 needs b (>= 2)"]),
    "two wishes that exclude each other": (
        "a, b", "a 1; Conflicts: b\n b 1", "", ["a 1 cannot be together with b", "the recipe needs b"],
    ),
    "two relations": (
        "a, c", "a 1; Depends: b (>> 2)\n c 1; Depends: b (<< 2)\n b 1\n b 3", "",
        ["a 1 needs b (>> 2)", "c 1 needs b (<< 2)", "there is b 3, 1"],
    ),
    "an installed version": (
        "a", "a 1; Depends: b (>= 2)\n b 2", "b 1", ["a 1 needs b (>= 2)"],
    ),
    "an installed enemy": ("a", "a 1", "z 1; Conflicts: a", ["z 1 cannot be together with a"]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("wishes", "text", "installed", "reasons"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys()
)
def test_what_cannot_be_is_explained(wishes: str, text: str, installed: str, reasons: list[str]) -> None:
    with pytest.raises(UnresolvableError) as caught:
        chosen(wishes, text, installed)
    for reason in reasons:
        assert reason in caught.value.message
    assert caught.value.hint


def test_the_order_of_stanzas_does_not_matter() -> None:
    lines = ["a 1; Depends: v, x | y", " p 1; Provides: v", " q 1; Provides: v", " x 1", " y 1; Conflicts: q"]
    found = {chosen("a", "\n".join(order)) for order in (lines, lines[::-1], lines[2:] + lines[:2])}
    assert found == {"a 1, p 1, x 1"}


def test_a_long_chain_and_a_wide_fan_are_resolved() -> None:
    count = 300
    chain = "\n".join(f"c{n} 1; Depends: c{n + 1}" for n in range(count)) + f"\nc{count} 1"
    fan = "f0 1; Depends: " + ", ".join(f"c{n} | gone" for n in range(count))
    assert chosen("f0", chain + "\n" + fan).count(",") == count + 1
