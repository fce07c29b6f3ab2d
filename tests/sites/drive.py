"""A file host whose large files come behind a page to confirm, as Google Drive's do.

The flow: ``drive.google.com/uc?id=…`` gives a page with a form and a cookie; the form leads to
``drive.usercontent.google.com/download?id=…&export=download&confirm=t&uuid=…``, which gives the bytes. The
pages for a quota that is used up, and a file that wants a sign-in, have the shape of theirs. Knows nothing of
sockets.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from tests.sites.files import whole_or_part
from tests.upstreams import Answer, Request, Upstreams, moved, page

HOSTS = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com", "accounts.google.com")

CONFIRM = """\
<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<div class="uc-main"><div id="uc-text"><p class="uc-warning-caption">Google Drive can't scan this file for \
viruses.</p>
<p class="uc-warning-subcaption">\
<span class="uc-name-size"><a href="/open?id={id}">{name}</a> ({size})</span> is \
too large for Google to scan for viruses. Would you still like to download this file?</p>
<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">\
<input type="submit" id="uc-download-link" class="goog-inline-block jfk-button jfk-button-action" \
value="Download anyway"/><input type="hidden" name="id" value="{id}">\
<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t">\
<input type="hidden" name="uuid" value="{uuid}"></form></div></div></body></html>
"""
QUOTA = """\
<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<div id="uc-text"><p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try \
accessing the file again later.</p></div></body></html>
"""


@dataclass
class DriveFile:
    """One file, by its id."""

    name: str
    body: bytes
    is_large: bool = True
    """Whether a page asks for confirmation first."""
    state: str = ""
    """``quota``: used up; ``private``: wants a sign-in."""


@dataclass
class DriveSite:
    """Files by id."""

    files: dict[str, DriveFile] = field(default_factory=dict)
    cookies: list[str] = field(default_factory=list)
    """Values of cookies and of hidden fields that were given: secrets."""

    def join(self, net: Upstreams) -> None:
        """Answer for all hosts that the flow leads through."""
        for host in HOSTS:
            net.add(host, self)

    def __call__(self, request: Request) -> Answer:
        found = self.files.get(request.query.get("id", ""))
        if request.host == "accounts.google.com":
            return page("<html><head><title>Sign in - Google Accounts</title></head><body></body></html>")
        if found is None:
            return page("<html><body>Sorry, the file you have requested does not exist.</body></html>", 404)
        if found.state == "private":
            return moved(f"https://accounts.google.com/ServiceLogin?continue={request.url}")
        if found.state == "quota":
            return page(QUOTA)
        is_confirmed = request.host == "drive.usercontent.google.com" and request.query.get("confirm") == "t"
        if found.is_large and not is_confirmed:
            uuid, cookie = secrets.token_hex(16), secrets.token_hex(24)
            self.cookies += [uuid, cookie]
            text = CONFIRM.format(id=request.query["id"], name=found.name, size="1.3G", uuid=uuid)
            set_cookie = f"NID={cookie}; expires=Fri, 01-Jan-2038 00:00:00 GMT; path=/; domain=.google.com"
            return page(text, set_cookie=set_cookie, cache_control="no-cache, no-store")
        if not found.is_large and request.host != "drive.usercontent.google.com":
            query = request.target.partition("?")[2]
            return moved(f"https://drive.usercontent.google.com/download?{query}", 303)
        disposition = f'attachment; filename="{found.name}"'
        return whole_or_part(
            request, found.body, Content_Type="application/octet-stream", Content_Disposition=disposition
        )
