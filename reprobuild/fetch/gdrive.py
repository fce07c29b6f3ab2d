"""Where a file of Google Drive can be had, and how Drive is asked: through its pages to the bytes.

Large files come behind a page with a form to confirm that nobody looked for viruses; the page's form
or link is followed with its cookies. Any other page is told apart and said in words: none is ever taken for
the file. Knows nothing of what is in the file, nor of private ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html.parser import HTMLParser
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Gdrive
from reprobuild.errors import UpstreamError
from reprobuild.fetch.disposition import is_attachment
from reprobuild.fetch.download import Download
from reprobuild.settings import Settings

if TYPE_CHECKING:
    from reprobuild.fetch.http import Response
    from reprobuild.fetch.transfer import Asked

HOSTS = ("drive.usercontent.google.com", "drive.google.com", "docs.google.com")
ADDRESSES = (
    "https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t",
    "https://drive.google.com/uc?export=download&id={id}",
)
"""The second is older, and asks for confirmation by a page of its own."""
MOST_BYTES = 4 * 1024 * 1024
"""Of a page."""
HELP = (
    'name another place that has it: mirrors=["https://…"]; or get it with a browser, write its sha256= '
    "in the recipe, and take it in: reprobuild import FILE"
)


def addresses(file_id: str) -> tuple[str, ...]:
    """Give where Drive has a file."""
    return tuple(address.format(id=file_id) for address in ADDRESSES)


def downloads(step: Gdrive, pins: Sequence[Pin], settings: Settings) -> list[Download]:
    """Give a download for the pin: Drive first, then the step's mirrors."""
    return [
        Download(
            name=pin.name,
            urls=(*addresses(step.file_id), *step.mirrors),
            sha256=pin.sha256,
            size=pin.size,
            where=str(step.where),
            site=Drive(),
        )
        for pin in pins
    ]


class Drive:
    """How Drive is asked; other hosts, a mirror's, are asked as any."""

    def headers(self, url: str) -> Mapping[str, str]:
        """Ask for pages in the language in which they are read here."""
        return {"Accept-Language": "en"} if _host(url) in HOSTS else {}

    def follow(self, response: Response, url: str) -> Asked | None:
        """Give where a page leads; None for the file itself, and for what the caller can tell.

        Raises UpstreamError, in words, for a page that leads nowhere.
        """
        if _host(url) not in HOSTS or response.status >= 500 or response.status in (408, 416, 429):
            return None
        is_page = "html" in response.headers.get("content-type", "").lower()
        if response.status in (200, 206) and (
            is_attachment(response.headers.get("content-disposition", "")) or not is_page
        ):
            return None
        text = _read(response) if is_page else ""
        if response.status == 200 and (target := _confirmation(text, response.url)):
            from reprobuild.fetch.transfer import Asked

            cookies = _cookies(response, target)
            return Asked(target, {"Cookie": cookies} if cookies else {})
        raise UpstreamError(f"Google Drive: {_why(response, text)}", HELP)


class _Page(HTMLParser):
    """Collects what a page of Drive's says and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.hidden: dict[str, str] = {}
        self.link = ""
        self.words: dict[str, str] = {}
        """Texts by what tells them: ``title``, or the class of a paragraph."""
        self._in_form = False
        self._kind = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the beginning of an element."""
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            is_it = given.get("id") in ("download-form", "downloadForm") or "/download" in given.get(
                "action", ""
            )
            self._in_form = is_it and not self.action
            if self._in_form:
                self.action = given.get("action", "")
        elif tag == "input" and self._in_form and given.get("type", "").lower() == "hidden":
            self.hidden[given.get("name", "")] = given.get("value", "")
        elif tag == "a" and "confirm=" in given.get("href", "") and "export=download" in given["href"]:
            self.link = self.link or given["href"]
        if tag == "title":
            self._kind = "title"
        elif "class" in given and given["class"].startswith("uc-"):
            self._kind = given["class"].split()[0]

    def handle_endtag(self, tag: str) -> None:
        """Look at the end of an element."""
        if tag == "form":
            self._in_form = False
        if tag in ("title", "p", "div"):
            self._kind = ""

    def handle_data(self, data: str) -> None:
        """Look at a text."""
        if self._kind:
            self.words[self._kind] = self.words.get(self._kind, "") + data


def _parse(text: str) -> _Page:
    page = _Page()
    with suppress(AssertionError):  # what the parser says of markup that is none
        page.feed(text)
        page.close()
    return page


def _confirmation(text: str, base: str) -> str:
    """Give where the confirmation that a page asks for leads; ``""`` where it asks for none."""
    try:
        target = _target(_parse(text), base)
        _ = urlsplit(target).port
    except ValueError:  # an address that is none
        return ""
    return target


def _target(page: _Page, base: str) -> str:
    if page.action and page.hidden:
        parts = urlsplit(urljoin(base, page.action))
        query = dict(parse_qsl(parts.query, keep_blank_values=True)) | page.hidden
        target = urlunsplit(parts._replace(query=urlencode(query)))
    elif page.link:
        target = urljoin(base, page.link)
    else:
        return ""
    host = _host(target)
    return target if urlsplit(target).scheme == "https" and _is_googles(host) else ""


def _cookies(response: Response, target: str) -> str:
    """Give what a page's cookies come to for the address that it leads to (RFC 6265, 5.4)."""
    host = _host(target)
    kept = {}
    for line in response.raw.headers.getlist("set-cookie"):
        try:
            jar = SimpleCookie(line)
        except CookieError:
            continue
        for name, one in jar.items():
            domain = one["domain"].lstrip(".").lower()
            if host == (domain or _host(response.url)) or (domain and host.endswith("." + domain)):
                kept[name] = one.coded_value
    return "; ".join(f"{name}={value}" for name, value in kept.items())


def _why(response: Response, text: str) -> str:
    """Say what a page that leads nowhere means."""
    page = _parse(text)
    address = response.url
    said = " ".join([*page.words.values(), text[:4096]]).lower()
    if "/folders/" in address or "/folderview" in address:
        return "this is the id of a folder, not of a file"
    if re.search(r"docs\.google\.com/(document|spreadsheets|presentation|forms)/", address):
        return "this is a document that Google makes anew for each download; it has no bytes to pin"
    if _host(address) == "accounts.google.com" or "sign in" in page.words.get("title", "").lower():
        return "it wants a sign-in: the file is not shared with everybody; its owner can change that"
    if "quota" in said or "too many users" in said:
        return "the file's quota is used up: too many people fetched it lately; Drive gives it again in a day"
    if "infected" in said or "virus" in said:
        return "it found a virus in the file, and gives it to its owner alone"
    if response.status in (401, 403) or "need access" in said or "access denied" in said:
        return "it does not give this file to strangers: its owner can share it with everybody"
    if response.status in (404, 410) or "not found" in said or "does not exist" in said:
        return "there is no such file: it was deleted, or was never shared with everybody"
    caption = page.words.get("uc-error-subcaption") or page.words.get("title") or ""
    shown = f", which says {' '.join(caption.split())[:200]!r}" if caption.strip() else ""
    return f"it sent a page instead of the file{shown} (status {response.status})"


def _read(response: Response) -> str:
    parts, size = [], 0
    while size < MOST_BYTES and (chunk := response.read(256 * 1024)):
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts).decode("utf-8", "replace")


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _is_googles(host: str) -> bool:
    return host in HOSTS or host.endswith((".google.com", ".googleusercontent.com"))
