"""Read an index's page about a project: HTML (PEP 503) and JSON (PEP 691, PEP 700). Pure.

Knows nothing of how a page is fetched, nor which of its files fits anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from reprobuild.digest import Digest
from reprobuild.fetch.stranger_json import read_json

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
"""What to ask for: JSON, which has sizes and dates; HTML from an index that has nothing else."""


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One file of a project."""

    name: str
    url: str
    sha256: Digest | None = None
    size: int | None = None
    """Bytes, where the index says."""
    uploaded: str = ""
    """When it was uploaded (RFC 3339), where the index says."""
    requires_python: str = ""
    is_yanked: bool = False


def project_address(index: str, project: str) -> str:
    """Give the address of a project's page; ``project`` in any spelling (PEP 503 normalises it)."""
    normal = re.sub(r"[-_.]+", "-", project).lower()
    return f"{index.rstrip('/')}/{normal}/"


def parse_page(body: bytes, content_type: str, url: str) -> list[IndexFile]:
    """Give the files that a page lists; ``url``: where it came from, for relative addresses.

    Raises ValueError for a page that is neither JSON nor HTML of an index.
    """
    if "json" in content_type.partition(";")[0]:
        return list(_from_json(body, url))
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode("latin-1")
    page = _Links()
    page.feed(text)
    page.close()
    base = urljoin(url, page.base) if page.base else url
    return [file for attributes in page.anchors if (file := _from_anchor(attributes, base)) is not None]


def _from_json(body: bytes, url: str) -> Iterator[IndexFile]:
    value = read_json(body)
    version = value.get("meta", {}).get("api-version", "") if isinstance(value, dict) else ""
    if not str(version).startswith("1."):
        raise ValueError(f"not a page of a version 1 index: {version or 'no version'}")
    try:
        for entry in value["files"]:
            size = entry.get("size")
            yield IndexFile(
                name=str(entry["filename"]),
                url=urldefrag(urljoin(url, entry["url"])).url,
                sha256=_digest(entry.get("hashes", {}).get("sha256")),
                size=size if isinstance(size, int) else None,
                uploaded=str(entry.get("upload-time") or ""),
                requires_python=str(entry.get("requires-python") or ""),
                is_yanked=bool(entry.get("yanked")),
            )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"a file without what it needs: {error!r}") from None


class _Links(HTMLParser):
    """Collects the anchors of a page and its base."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.base = ""
        self.anchors: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.anchors.append(dict(attrs))
        elif tag == "base" and not self.base:
            self.base = dict(attrs).get("href") or ""


def _from_anchor(attributes: dict[str, str | None], base: str) -> IndexFile | None:
    address = attributes.get("href")
    if not address:
        return None
    try:
        url, fragment = urldefrag(urljoin(base, address))
        name = unquote(urlsplit(url).path.rpartition("/")[2])
    except ValueError:
        return None
    if not name:
        return None
    algorithm, _, value = fragment.partition("=")
    return IndexFile(
        name=name,
        url=url,
        sha256=_digest(value) if algorithm == "sha256" else None,
        requires_python=attributes.get("data-requires-python") or "",
        is_yanked="data-yanked" in attributes,
    )


def _digest(value: object) -> Digest | None:
    try:
        return Digest(str(value).lower()) if value else None
    except ValueError:
        return None
