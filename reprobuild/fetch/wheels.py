"""Where the wheels of a lock can be fetched now: asked of the configured index, by file name.

A lock names no index, so any mirror serves it. Knows nothing of resolving nor of placing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Wheels
from reprobuild.errors import CheckFailedError, OfflineError, OutsideError, UpstreamError, UsageError
from reprobuild.fetch.download import Download
from reprobuild.fetch.index_page import ACCEPT, IndexFile, parse_page, project_address
from reprobuild.fetch.python_index import PythonIndex, is_local, python_index, shown
from reprobuild.fetch.reach import host_of
from reprobuild.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.fetch.http import Http


def downloads(step: Wheels, pins: Sequence[Pin], settings: Settings) -> list[Download]:
    """Give where each pinned wheel can be had, asking the index for the pages of their projects.

    Meets the network: give only pins whose bytes are not in the store. Raises OfflineError,
    naming all that is needed, where the network may not be used; UpstreamError where the index has
    no such file any more; CheckFailedError where it has another file under that name.
    """
    index = python_index(settings.python_index, os.environ)
    asked = [pin for pin in pins if not _addresses(step, pin)]
    if settings.offline and asked and not index.is_local:
        names = "\n".join(f"  {pin.name} ({pin.size:,} bytes), for {step.where}" for pin in asked)
        raise OfflineError(
            "this run may not use the network (--offline), and the Python index is needed for\n" + names,
            "run the same command once with the network, or copy the store of a machine that did",
        )
    with Pages(index, settings) as pages:
        try:
            found = pages.of_projects(sorted({_project(pin) for pin in asked}))
        except OutsideError:
            if not step.mirrors:
                raise
            found = {}
    return [
        _download(step, pin, own)
        if (own := _addresses(step, pin))
        else _download(step, pin, urls := _find(step, pin, found, index), trusted=urls)
        for pin in pins
    ]


def _addresses(step: Wheels, pin: Pin) -> tuple[str, ...]:
    """Give where a wheel is without asking an index: its own address, and the step's mirrors."""
    own = pin.found.get("url", "")
    return (*_mirrored(step, pin), own) if own else ()


def _mirrored(step: Wheels, pin: Pin) -> tuple[str, ...]:
    return tuple(f"{mirror.rstrip('/')}/{quote(pin.name)}" for mirror in step.mirrors)


def _download(step: Wheels, pin: Pin, urls: tuple[str, ...], *, trusted: tuple[str, ...] = ()) -> Download:
    """Make a download; ``trusted``: addresses that an index of the settings gave, not the recipe."""
    local = next((Path(unquote(urlsplit(url).path)) for url in urls if is_local(url)), None)
    return Download(
        name=pin.name,
        urls=urls,
        sha256=pin.sha256,
        size=pin.size,
        where=str(step.where),
        trusted=tuple({host_of(url) for url in trusted if not url.startswith(step.mirrors)}),
        mend="reprobuild lock --update wheels takes what the index has now",
        folder=local.parent if local else None,
    )


def _project(pin: Pin) -> str:
    return pin.hashed.get("package") or pin.name.partition("-")[0]


def _find(step: Wheels, pin: Pin, found: dict[str, list[IndexFile]], index: PythonIndex) -> tuple[str, ...]:
    named = [file for file in found.get(_project(pin), ()) if file.name == pin.name]
    urls = [file.url for file in named if file.sha256 in (None, pin.sha256)]
    if urls:
        # One without the network first: a folder of wheels beside an index is there to save traffic.
        local = [url for url in urls if is_local(url)][:1]
        return (*local, *_mirrored(step, pin), *dict.fromkeys(url for url in urls if not is_local(url)))
    if mirrored := _mirrored(step, pin):
        return mirrored
    if named:
        raise CheckFailedError(
            f"{step.where}: the Python index has another file under the name {pin.name}\n"
            f"  expected {pin.sha256}\n  got      {named[0].sha256}",
            "check the index that is configured; reprobuild lock takes what it has now",
        )
    raise UpstreamError(
        f"{step.where}: the Python index has no file {pin.name} ({where_asked(index)})",
        "ask an index that has it (python_index in reprobuild.toml, or pip's configuration), or lock again",
    )


def where_asked(index: PythonIndex) -> str:
    """Say in words which places were asked."""
    places = [*index.urls, *index.find_links]
    said = ["the public index"] if index.uses_default else []
    return "asked: " + ", ".join(said + ([shown(places)] if places else []))


class Pages:
    """Reads what indexes have of projects; one for a verb, in a ``with`` block."""

    def __init__(self, index: PythonIndex, settings: Settings) -> None:
        self._index = index
        self._settings = settings
        self._http: Http | None = None

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._http is not None:
            self._http.close()

    def of_projects(self, projects: Sequence[str]) -> dict[str, list[IndexFile]]:
        """Give the files of each project, of all indexes together. Raises UpstreamError, OfflineError."""
        if not projects:
            return {}
        links = [file for link in self._index.find_links for file in self._linked(link)]
        places = list(self._index.urls)
        if self._index.uses_default:
            from reprobuild.fetch.uv import default_index

            places.insert(0, default_index())
        if any(not is_local(place) for place in places):
            self._open()
        asked = [(place, project) for project in projects for place in places]
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(lambda pair: self._page(*pair), asked))
        found = {project: [file for file in links if _belongs(file.name, project)] for project in projects}
        for (_, project), files in zip(asked, answers, strict=True):
            found[project].extend(files)
        return found

    def _open(self) -> Http:
        if self._http is None:
            from reprobuild.fetch.http import Http

            self._http = Http(os.environ, settings=self._settings)
        return self._http

    def _page(self, place: str, project: str) -> list[IndexFile]:
        address = project_address(place, project)
        if is_local(place):
            return _local(address)
        return self._read(address)

    def _linked(self, link: str) -> list[IndexFile]:
        if not is_local(link):
            return self._read(link)
        return _local(link)

    def _read(self, address: str) -> list[IndexFile]:
        from reprobuild.fetch.document import get

        page = get(address, http=self._open(), headers={"Accept": ACCEPT}, is_optional=True)
        if page is None:
            return []
        files = _parsed(page.body, page.content_type, page.url or address)
        return [_with_credentials(file, address) for file in files]


def _belongs(name: str, project: str) -> bool:
    """Whether a file of a page of links is one of a project's, by its name."""
    normal, wanted = (re.sub(r"[-_.]+", "-", text).lower() for text in (name, project))
    return normal.startswith(wanted + "-")


def _with_credentials(file: IndexFile, index: str) -> IndexFile:
    """Let an address on the index's own host carry the credentials that the index's address has."""
    asked, found = urlsplit(index), urlsplit(file.url)
    same = (asked.scheme, asked.hostname, asked.port) == (found.scheme, found.hostname, found.port)
    if not asked.username or not same or found.username:
        return file
    url = found._replace(netloc=asked.netloc).geturl()
    return IndexFile(
        file.name, url, file.sha256, file.size, file.uploaded, file.requires_python, file.is_yanked
    )


def _local(address: str) -> list[IndexFile]:
    """Read a project's folder of an index on disk, or a folder or page of ``find-links``."""
    path = Path(unquote(urlsplit(address).path))
    page = path / "index.html" if path.is_dir() else path
    try:
        if page.is_file():
            return _parsed(page.read_bytes(), "text/html", page.as_uri())
        return list(_in_folder(path))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", "mend pip's configuration, or set python_index"
        ) from None


def _in_folder(path: Path) -> Iterator[IndexFile]:
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.is_file():
                yield IndexFile(file.name, urljoin(path.as_uri() + "/", quote(file.name)))


def _parsed(body: bytes, content_type: str, url: str) -> list[IndexFile]:
    try:
        return parse_page(body, content_type, url)
    except ValueError as error:
        raise UpstreamError(
            f"{shown([url])} is no page of a Python index: {error}",
            "check the index that is configured (python_index in reprobuild.toml, or pip's configuration)",
        ) from None
