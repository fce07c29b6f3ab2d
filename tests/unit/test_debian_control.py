from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.debian.control import ControlError, parse_stanza, parse_stanzas
from reprobuild.debian.index import Index, PackageError, read_archived, read_package
from reprobuild.debian.installed import read_installed
from reprobuild.debian.relation import (
    Relation,
    RelationError,
    parse_clause,
    parse_relations,
    show_clause,
)
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.tree import Tree, directory, file

SHA256 = Digest.of(b"").hex
ARCHIVED = {
    "package": "tool",
    "version": "1.0-1",
    "architecture": "amd64",
    "filename": "pool/main/t/tool/tool_1.0-1_amd64.deb",
    "size": "12",
    "sha256": SHA256,
}


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("A: 1\nB-c:2 ", {"a": "1", "b-c": "2"}),
        ("A: 1\n two\n .\n\tthree\nB:", {"a": "1\ntwo\n.\nthree", "b": ""}),
        ("# no field\nA: x: y\n", {"a": "x: y"}),
        ("A: 1\n# between\nB: 2", {"a": "1", "b": "2"}),
        ("", {}),
    ],
    ids=["fields", "continued", "colon", "comment", "empty"],
)
def test_a_stanza(text: str, fields: dict[str, str]) -> None:
    assert parse_stanza(text) == fields


def test_stanzas_are_parted_by_empty_lines() -> None:
    assert [stanza["a"] for stanza in parse_stanzas("A: 1\n\n \t\nA: 2\n\n\n\nA: 3")] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" a", "begins with a continuation"),
        ("no field", "not a field"),
        ("bad name: 1", "not a field"),
        (": 1", "not a field"),
        ("A: 1\na: 2", "there twice"),
        ("A: 1\n\x1b[31m", "not a field"),
    ],
    ids=["continuation", "colon", "blank", "nameless", "twice", "escape"],
)
def test_broken_control_data_is_refused(text: str, message: str) -> None:
    with pytest.raises(ControlError, match=message):
        parse_stanza(text)


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        ("a1", Relation("a1")),
        ("python3:any", Relation("python3", arch="any")),
        ("libc6 (>= 2.36-9~)", Relation("libc6", ">=", "2.36-9~")),
        ("libstdc++6(>>1:5)", Relation("libstdc++6", ">>", "1:5")),
        ("old ( < 1 )", Relation("old", "<=", "1")),
        ("old (> 1)", Relation("old", ">=", "1")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_relation(text: str, relation: Relation) -> None:
    assert parse_clause(text) == (relation,)


def test_relations_are_clauses_of_alternatives() -> None:
    found = parse_relations("a, b (= 1) | c,\n d,")
    assert [show_clause(clause) for clause in found] == ["a", "b (= 1) | c", "d"]


@pytest.mark.parametrize(
    "text",
    ["a b", "(>= 1)", "a (>= )", "a (== 1)", "a (>= 1", "a | ", "../a", "a [amd64]", "$(x)", "é"],
    ids=repr,
)
def test_what_is_no_relation_is_refused(text: str) -> None:
    with pytest.raises((RelationError, CheckFailedError)):
        parse_relations(text)


def test_an_archived_package_is_read() -> None:
    package = read_archived(
        {**ARCHIVED, "pre-depends": "a", "depends": "b | c", "conflicts": "d", "breaks": "e (<< 2)",
         "provides": "f (= 3)", "priority": "required", "essential": "yes"}
    )  # fmt: skip
    assert (package.name, package.version, package.size, str(package.sha256)) == (
        "tool", "1.0-1", 12, f"sha256:{SHA256}",
    )  # fmt: skip
    assert [show_clause(clause) for clause in package.depends] == ["a", "b | c"]
    assert [str(relation) for relation in package.conflicts] == ["d", "e (<< 2)"]
    assert (package.provides, package.priority, package.is_essential) == ((Relation("f", "=", "3"),), 0, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("package", ""),
        ("package", "../../etc"),
        ("package", "UPPER"),
        ("version", "1 2"),
        ("filename", "/etc/passwd.deb"),
        ("filename", "pool/../../secret.deb"),
        ("filename", "pool//tool.deb"),
        ("filename", "pool/tool.deb?x=http://other"),
        ("filename", "pool/tool\n.deb"),
        ("filename", "pool/tool.exe"),
        ("filename", "http://other/tool.deb"),
        ("size", "-1"),
        ("size", "1e9"),
        ("size", "9" * 40),
        ("sha256", "0" * 63),
        ("sha256", ""),
        ("depends", "a (~ 1)"),
    ],
)
def test_a_stanza_that_leads_astray_is_refused(field: str, value: str) -> None:
    with pytest.raises(CheckFailedError):
        read_archived({**ARCHIVED, field: value})


def stanza(name: str, version: str = "1", **fields: str) -> str:
    known = {**ARCHIVED, "package": name, "version": version, **fields}
    return "".join(f"{key.title()}: {value}\n" for key, value in known.items()).replace("Sha256", "SHA256")


def test_an_index_finds_by_name_and_by_what_is_provided() -> None:
    text = "\n".join(
        [
            stanza("mawk", provides="awk", priority="required"),
            stanza("gawk", provides="awk (= 5)"),
            stanza("both", "1.9"),
            stanza("both", "1.10"),
            "Version: 1\n" + stanza("late").replace("Version: 1\n", ""),
            stanza("folded", provides="one,\n two (= 2),\n three"),
            "Not: a package\n",
        ]
    )
    index = Index([text.encode()])
    assert [str(package) for package in index.named("both")] == ["both 1.10", "both 1.9"]
    assert [(package.name, version) for package, version in index.providers("awk")] == [
        ("mawk", ""),
        ("gawk", "5"),
    ]
    assert [(package.name, version) for package, version in index.providers("two")] == [("folded", "2")]
    assert [package.name for package, _ in index.providers("three")] == ["folded"]
    assert index.names() == ["both", "folded", "gawk", "late", "mawk"]
    assert index.named("nothing") == ()


def test_a_broken_stanza_harms_only_whoever_asks_for_it() -> None:
    index = Index([(stanza("good") + "\n" + stanza("bad", version="$(id)")).encode()])
    assert len(index.named("good")) == 1
    with pytest.raises(CheckFailedError):
        index.named("bad")


def test_an_installed_package_stands_for_all_versions_of_its_name() -> None:
    installed = read_package({"package": "mawk", "version": "0.1", "provides": "awk"})
    index = Index([stanza("mawk", provides="awk").encode()], {"mawk": installed})
    assert index.named("mawk") == (installed,)
    assert index.providers("awk") == ((installed, ""),)


def test_essential_packages_are_found() -> None:
    index = Index([(stanza("base", essential="yes") + "\n" + stanza("tool", essential="no")).encode()])
    assert [package.name for package in index.essential()] == ["base"]


def test_installed_packages_are_read_from_both_places() -> None:
    bodies = {
        "var/lib/dpkg/status": (
            "Package: one\nVersion: 1\nStatus: install ok installed\n\n"
            "Package: gone\nVersion: 1\nStatus: deinstall ok config-files\n"
        ),
        "var/lib/dpkg/status.d/two": "Package: two\nVersion: 2\nStatus: install ok installed\n",
        "var/lib/dpkg/status.d/two.md5sums": "no: stanza\n",
    }
    folders = ("var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/status.d")
    entries = [file(path, Digest.of(text.encode()), len(text)) for path, text in bodies.items()]
    tree = Tree([*map(directory, folders), *entries])
    by_digest = {Digest.of(text.encode()): text.encode() for text in bodies.values()}
    found = read_installed(tree, by_digest.__getitem__)
    assert sorted(map(str, found.values())) == ["one 1", "two 2"]
    assert all(package.is_installed for package in found.values())


@given(st.text(alphabet="Aa:- \t\n#\0\x1bé", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        fields = parse_stanza(text)
    except ControlError as error:
        assert "\x1b" not in error.message
    else:
        assert all(name and name == name.lower() for name in fields)


@given(st.text(alphabet="ab1(): |,<>=~.[]$\n", max_size=30))
def test_any_relations_are_read_as_they_are_written_or_refused(text: str) -> None:
    try:
        clauses = parse_relations(text)
    except CheckFailedError:
        return
    assert parse_relations(", ".join(map(show_clause, clauses))) == clauses


def test_the_error_says_what_is_wrong() -> None:
    with pytest.raises(PackageError, match=r"tool 1.0-1: its size is none: 'many'"):
        read_archived({**ARCHIVED, "size": "many"})
