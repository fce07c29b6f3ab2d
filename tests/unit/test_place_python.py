from __future__ import annotations

import pytest

from reprobuild.build.place.python import Python, find_python, python_paths
from reprobuild.digest import Digest
from reprobuild.errors import RecipeError
from reprobuild.tree import Entry, Tree, file, link, overlay

BODY = Digest.of(b"")


def tree(*paths: str, links: dict[str, str] | None = None) -> Tree:
    entries: list[Entry] = [link(path, target) for path, target in (links or {}).items()]
    entries += [file(path, BODY, 0, 0o755) for path in paths]
    return overlay(Tree(), entries)


DEBIAN = tree("usr/bin/python3.11", "var/lib/dpkg/status", links={"usr/bin/python3": "python3.11"})
PYTHON_ORG = tree(
    "usr/local/bin/python3.12", "etc/debian_version", links={"usr/local/bin/python3": "python3.12"}
)
ALPINE = tree("usr/bin/python3.12")
LIB64 = tree("usr/bin/python3.9", "usr/lib64/python3.9/os.py", "usr/lib/python3.9/x.py")
MERGED = tree("usr/bin/python3.11", "var/lib/dpkg/status", links={"bin": "usr/bin"})


@pytest.mark.parametrize(
    ("given", "python"),
    [
        (
            DEBIAN,
            Python(
                "3.11",
                "usr/bin/python3.11",
                "usr/local/lib/python3.11/dist-packages",
                "usr/local/lib/python3.11/dist-packages",
                "usr/local/bin",
                "usr/local/include/python3.11",
                "usr/local",
            ),
        ),
        (
            PYTHON_ORG,
            Python(
                "3.12",
                "usr/local/bin/python3.12",
                "usr/local/lib/python3.12/site-packages",
                "usr/local/lib/python3.12/site-packages",
                "usr/local/bin",
                "usr/local/include/python3.12",
                "usr/local",
            ),
        ),
        (
            ALPINE,
            Python(
                "3.12",
                "usr/bin/python3.12",
                "usr/lib/python3.12/site-packages",
                "usr/lib/python3.12/site-packages",
                "usr/bin",
                "usr/include/python3.12",
                "usr",
            ),
        ),
        (
            LIB64,
            Python(
                "3.9",
                "usr/bin/python3.9",
                "usr/lib/python3.9/site-packages",
                "usr/lib64/python3.9/site-packages",
                "usr/bin",
                "usr/include/python3.9",
                "usr",
            ),
        ),
    ],
    ids=["debian", "python.org", "alpine", "lib64"],
)
def test_knows_where_a_python_looks(given: Tree, python: Python) -> None:
    assert find_python(given, "", "recipe.py:1") == python
    assert Python(**python.facts) == python


def test_python3_says_which_of_several() -> None:
    given = tree(
        "usr/bin/python3.9",
        "usr/bin/python3.11",
        "var/lib/dpkg/status",
        links={"usr/bin/python3": "python3.9"},
    )
    assert find_python(given, "", "").version == "3.9"
    assert find_python(given, "3.11", "").version == "3.11"


def test_what_comes_first_in_path_wins() -> None:
    given = tree(
        "usr/local/bin/python3.8",
        "usr/bin/python3.11",
        links={"usr/local/bin/python3": "python3.8", "usr/bin/python3": "python3.11"},
    )
    assert find_python(given, "", "").version == "3.8"


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        (Tree(), "", "recipe.py:7: there is no Python"),
        (tree("usr/bin/python3"), "", "there is no Python"),
        (tree(links={"usr/bin/python3.11": "gone"}), "", "there is no Python"),
        (DEBIAN, "3.9", "wheels for Python 3.9 are asked for, but the image has Python 3.11"),
        (tree("usr/bin/python3.9", "usr/bin/python3.11"), "", "nothing says which"),
    ],
    ids=["none", "no version", "a link to nothing", "another", "several"],
)
def test_a_python_that_is_not_there_is_an_error(given: Tree, wanted: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find_python(given, wanted, "recipe.py:7")
    assert message in caught.value.message
    assert caught.value.hint


def test_names_the_folders_that_are_imported_from() -> None:
    assert {path: python.version for path, python in python_paths(DEBIAN).items()} == {
        "usr/lib/python3.11": "3.11",
        "usr/lib/python3/dist-packages": "3.11",
        "usr/local/lib/python3.11/dist-packages": "3.11",
    }
    assert set(python_paths(PYTHON_ORG)) == {
        "usr/local/lib/python3.12",
        "usr/local/lib/python3.12/site-packages",
    }
    assert python_paths(Tree()) == {}


def test_a_bin_folder_that_is_a_link_is_followed() -> None:
    assert find_python(MERGED, "", "").interpreter == "usr/bin/python3.11"


def test_headers_are_where_an_old_python_built_from_source_has_them() -> None:
    assert find_python(tree("usr/local/bin/python3.7"), "", "").headers == "usr/local/include/python3.7m"
    assert find_python(tree("usr/local/bin/python3.8"), "", "").headers == "usr/local/include/python3.8"
