from __future__ import annotations

import json

import pytest

from reprobuild.digest import Digest
from reprobuild.fetch.index_page import IndexFile, parse_page, project_address

HEX = "0f" * 32
PAGE = "https://index.example/simple/pkg/"
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.mark.parametrize(
    ("anchor", "file"),
    [
        (
            f'<a href="../../files/pkg-1.0-py3-none-any.whl#sha256={HEX}">x</a>',
            IndexFile(
                "pkg-1.0-py3-none-any.whl",
                "https://index.example/files/pkg-1.0-py3-none-any.whl",
                Digest(HEX),
            ),
        ),
        (
            '<a href="https://files.example/a/pkg-1.0%2Bcpu-py3-none-any.whl">x</a>',
            IndexFile(
                "pkg-1.0+cpu-py3-none-any.whl", "https://files.example/a/pkg-1.0%2Bcpu-py3-none-any.whl"
            ),
        ),
        (
            '<A HREF="pkg-1.0.tar.gz#md5=00" data-requires-python="&gt;=3.8" data-yanked="bad">x</A>',
            IndexFile("pkg-1.0.tar.gz", PAGE + "pkg-1.0.tar.gz", requires_python=">=3.8", is_yanked=True),
        ),
        ("<a name=top>x</a>", None),
        ('<a href="./">up</a>', None),
        ('<a href="http://[broken">x</a>', None),
    ],
    ids=[
        "relative with digest",
        "escaped",
        "upper case and attributes",
        "no address",
        "a folder",
        "nonsense",
    ],
)
def test_reads_links(anchor: str, file: IndexFile | None) -> None:
    found = parse_page(f"<html><body>{anchor}</body></html>".encode(), "text/html; charset=utf-8", PAGE)
    assert found == ([] if file is None else [file])


def test_a_base_counts() -> None:
    page = b'<html><head><base href="/other/"></head><a href="pkg-1.0.tar.gz">x</a></html>'
    assert parse_page(page, "text/html", PAGE)[0].url == "https://index.example/other/pkg-1.0.tar.gz"


def test_reads_json() -> None:
    page = {
        "meta": {"api-version": "1.1"},
        "name": "pkg",
        "files": [
            {
                "filename": "pkg-1.0-py3-none-any.whl",
                "url": "../../files/pkg-1.0-py3-none-any.whl",
                "hashes": {"sha256": HEX},
                "size": 7,
                "upload-time": "2020-01-02T03:04:05Z",
                "requires-python": ">=3.8",
                "yanked": "broken",
            },
            {"filename": "pkg-1.0.tar.gz", "url": "https://files.example/pkg-1.0.tar.gz", "hashes": {}},
        ],
    }
    first, second = parse_page(json.dumps(page).encode(), JSON, PAGE)
    assert first == IndexFile(
        "pkg-1.0-py3-none-any.whl",
        "https://index.example/files/pkg-1.0-py3-none-any.whl",
        Digest(HEX),
        7,
        "2020-01-02T03:04:05Z",
        ">=3.8",
        True,
    )
    assert second == IndexFile("pkg-1.0.tar.gz", "https://files.example/pkg-1.0.tar.gz")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"meta": {"api-version": "2.0"}, "files": []}',
        b'{"meta": {"api-version": "1.0"}}',
        b"[" * 100_000,
    ],
    ids=["html", "no object", "another version", "no files", "deep"],
)
def test_json_of_something_else_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_page(body, JSON, PAGE)


@pytest.mark.parametrize(
    ("project", "address"),
    [("Ruamel.Yaml", "ruamel-yaml"), ("zope__interface", "zope-interface"), ("six", "six")],
)
def test_names_of_projects_are_normalised(project: str, address: str) -> None:
    expected = f"https://index.example/simple/{address}/"
    assert project_address("https://index.example/simple", project) == expected
    assert project_address("https://index.example/simple/", project) == expected
