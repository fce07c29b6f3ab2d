"""Cookies that upstream sets while a command is recorded: kept in memory, sent back to where they belong.

The client never sees one, so that none is in what it leaves; servers that ask for one still get it. The
rules of hosts, paths and TLS are the standard library's. Knows nothing of connections.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from email.message import Message
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.request import Request as Asked


class Cookies:
    """The cookies of one recording; for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        policy = DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain)
        self._jar = CookieJar(policy)

    def keep(self, url: str, values: Iterable[str]) -> None:
        """Keep what ``Set-Cookie`` headers of an answer say."""
        answer = _Answered()
        for value in values:
            answer.info()["Set-Cookie"] = value
        with self._lock:
            self._jar.extract_cookies(answer, Asked(url))  # type: ignore[arg-type]  # all that it reads is there

    def header(self, url: str) -> str:
        """Give what ``Cookie`` is to say to an address, ``""`` for nothing."""
        asked = Asked(url)
        with self._lock:
            self._jar.add_cookie_header(asked)
        return str(asked.get_header("Cookie") or "")


class _Answered:
    """What the standard library reads of an answer."""

    def __init__(self) -> None:
        self._headers = Message()

    def info(self) -> Message:
        return self._headers
