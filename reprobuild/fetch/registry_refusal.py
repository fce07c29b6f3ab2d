"""What registries say when they refuse: codes and messages, told in words with what helps.

Knows the distribution specification's errors ("Error Codes") and what is peculiar about some registries.
Knows nothing of tokens, nor of how requests are made.
"""

from __future__ import annotations

from reprobuild.errors import UpstreamError
from reprobuild.fetch.http import Response
from reprobuild.fetch.stranger_json import read_json
from reprobuild.fetch.transfer import StatusError, refusal

LARGEST_ANSWER = 1024 * 1024
"""Bytes of what a registry says of an error, or of a token server's answer."""
LONGEST_SAID = 300
READS = frozenset({"GET", "HEAD"})


class RegistryError(StatusError):
    """A registry refused a request."""

    def __init__(
        self, message: str, hint: str = "", *, status: int, delay: float | None = None, code: str = ""
    ) -> None:
        super().__init__(message, hint, status=status, delay=delay)
        self.code = code
        """The specification's name for it (``BLOB_UPLOAD_UNKNOWN``), or empty."""


def refuse(
    response: Response,
    *,
    name: str,
    what: str,
    method: str = "GET",
    has_credentials: bool = False,
    is_too_little: bool = False,
    is_kept_back: bool = False,
    led_elsewhere: bool = False,
) -> RegistryError:
    """Make an error of a refusal.

    ``name``: what people call the registry; ``what``: the repository that was asked about; ``is_too_little``:
    whether the registry knows who asks, and that one may not; ``is_kept_back``: whether there is a password
    that is not sent, since the registry does without TLS; ``led_elsewhere``: whether another host
    answers, to which the registry led.
    """
    plain = refusal(response, response.url)
    code, said = _said(response)
    status = plain.status
    writes = method not in READS
    if led_elsewhere:
        message, hint = f"{name} led to {response.url}, which answers {status}", ""
    else:
        reasons = _PUSH_REASONS if writes else _PULL_REASONS
        reason = _CODES.get(code) or reasons.get(status) or _REASONS.get(status) or response.raw.reason or ""
        if status == 401 and is_kept_back:
            reason = "it wants to know who asks, and no password is sent to a server without TLS"
        elif status == 401 and is_too_little:
            reason = "whoever is logged in may not " + ("push there" if writes else "have it")
        elif status == 401 and has_credentials:
            reason = "it does not take the user name and password that are kept for it"
        message = f"{name} answers {status} for {what}: {reason}".rstrip(": ")
        hint = (_PUSH_HINTS if writes else _PULL_HINTS).get(status) or ""
        if is_kept_back:
            hint = "let the registry speak https"
        elif code in _UPLOAD_CODES:
            hint = "behind a load balancer its servers have to share what they know of uploads (http.secret)"
        hint = hint.replace("{name}", name)
    message += f": {said}" if said else ""
    if status == 429 and plain.delay:
        message += f" (again in {plain.delay:.0f} s)"
    return RegistryError(message, hint, status=status, delay=plain.delay, code=code)


_UPLOAD_CODES = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_CODES = {
    **dict.fromkeys(_UPLOAD_CODES, "it does not know the upload any more"),
    "DIGEST_INVALID": "it got other bytes than their digest says",
    "MANIFEST_BLOB_UNKNOWN": "it lacks something that the manifest names",
}
_REASONS = {
    401: "it wants to know who asks",
    429: "it was asked too often",
}
_PULL_REASONS = {
    403: "whoever asks may not have it",
    404: "there is no such thing",
}
_PUSH_REASONS = {
    403: "whoever asks may not push there",
    404: "it has no such repository, and makes none by itself",
    405: "it takes no pushes there",
    413: "what is sent is too large for it",
    415: "it does not take this type of content",
}
_PULL_HINTS = {
    401: "docker login {name}",
    403: "docker login {name}, as somebody who may; of a wrong name many say this, too",
    404: "look whether the name and the tag are right; a tag may have been removed",
    429: 'docker login {name} raises the limit; or name a mirror: [mirrors] oci = ["{name}=https://…"]',
}
_PUSH_HINTS = {
    401: "docker login {name}",
    403: "docker login {name}, as somebody who may push; a token may be for reading alone, a name another's",
    404: "look whether the name is right; some registries want a repository made first, on their pages",
    405: "a registry that only passes on what another has, or is read-only for now, takes none: name another",
    413: "a proxy before it limits requests (nginx: client_max_body_size): let upload_chunk be smaller",
    415: "choose a registry that takes OCI artifacts",
    429: "docker login {name} raises the limit; or wait",
}


def _said(response: Response) -> tuple[str, str]:
    """Give the code of an error and what is said of it, made fit to show."""
    try:
        error = read_json(small_body(response))["errors"][0]
        code = str(error.get("code") or "")
        text = str(error.get("message") or code)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, UpstreamError):
        return "", ""
    shown = "".join(char if char.isprintable() else " " for char in text[:LONGEST_SAID]).strip()
    return code[:100], shown


def small_body(response: Response) -> bytes:
    """Give a body, or its beginning where it is longer than any that makes sense."""
    parts, size = [], 0
    while (chunk := response.read(64 * 1024)) and size < LARGEST_ANSWER:
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts)
