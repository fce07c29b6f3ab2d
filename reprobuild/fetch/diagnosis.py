"""Why bytes are not the pinned ones: what can be told from the bytes, the address and the sizes.

Knows nothing of pins, stores or how an error is shown: it gives sentences. A guess is worded as one.
"""

from __future__ import annotations

import hashlib
import html
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from reprobuild.digest import Digest
from reprobuild.fetch.stranger_json import read_json

HEAD = 64 * 1024
"""Bytes at the beginning that are looked at."""
MOST_UNPACKED = 4 * 1024 * 1024 * 1024
"""Bytes of a gzip file that are unpacked to compare what is inside."""

MOST_SLIPS = 4
"""Hex digits of a pin that may be wrong for it to count as mistyped."""

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LFS = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)"
)
_ARCHIVE = re.compile(r"/(archive|zipball|tarball|get)/|/-/archive/|codeload\.|/snapshot/")


class Hasher(Protocol):
    """What hashlib gives."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Give the digest of all bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Bytes that came, and what is known of their coming."""

    path: Path
    digest: Digest
    size: int
    url: str = ""
    content_type: str = ""
    announced: int | None = None
    """Bytes that the server said it would send."""


def diagnose(body: Body, expected: Digest, expected_size: int | None) -> list[str]:
    """Give what is known or likely, the most telling first; each a line without its full stop."""
    with open(body.path, "rb") as file:
        head = file.read(HEAD)
    found = [
        *_empty(body),
        *_lfs(head, expected),
        *_page(head, body),
        *_object_store(head),
        *_json(head, body),
        *_slip(body, expected),
        *_other_algorithm(body, expected),
        *_truncated(body, head, expected_size),
        *_regenerated(body, head, expected),
    ]
    return found or _sizes(body, expected_size)


def _empty(body: Body) -> Iterator[str]:
    if body.size == 0:
        yield "the body is empty"


def _lfs(head: bytes, expected: Digest) -> Iterator[str]:
    match = _LFS.match(head)
    if match is None:
        return
    same = (
        "the expected digest itself" if match[1].decode() == expected.hex else f"sha256:{match[1].decode()}"
    )
    yield f"this is a Git LFS pointer, not the file: it stands for {int(match[2]):,} bytes with {same}"
    yield "the file is at another address: /resolve/ or /media/ instead of /raw/, mostly"


def _page(head: bytes, body: Body) -> Iterator[str]:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
    if not (start.startswith((b"<!doctype html", b"<html")) or b"<html" in start):
        return
    text = head.decode("utf-8", "replace")
    title = _TITLE.search(text)
    shown = printable(html.unescape(title[1])) if title else ""
    yield "this is an HTML page" + (f" with the title {shown!r}" if shown else "")
    lower = text.lower()
    if "quota" in lower or "too many users" in lower:
        yield "it speaks of a quota: the host gives this file again later, or never; a mirror helps"
    elif "virus scan" in lower or "download anyway" in lower:
        yield "it asks for a confirmation that only a browser gives"
    elif re.search(r"type=[\"']?password|sign in|log ?in", lower):
        yield "it asks for a login: the file is not public at this address"
    elif body.announced == 0:
        return


def _object_store(head: bytes) -> Iterator[str]:
    start = head.lstrip()[:4096]
    match = re.search(rb"<Error>.*?<Code>([^<]{1,100})</Code>", start, re.DOTALL)
    if start.startswith((b"<?xml", b"<Error")) and match:
        text = re.search(rb"<Message>([^<]{1,300})</Message>", start)
        message = ": " + printable(text[1].decode("utf-8", "replace")) if text else ""
        yield f"this is an object store's error, {printable(match[1].decode('utf-8', 'replace'))}{message}"


def _json(head: bytes, body: Body) -> Iterator[str]:
    if body.size > HEAD or not head.lstrip().startswith(b"{"):
        return
    try:
        value = read_json(head)
        key = next((key for key in ("error", "message", "detail", "errors") if key in value), None)
        said = "" if key is None else str(value[key])
    except (ValueError, RecursionError):  # what can be read may still be too deep to be written
        return
    if key is not None:
        yield f"this is a server's error as JSON, {key}: {printable(said)}"


def _slip(body: Body, expected: Digest) -> Iterator[str]:
    """Look whether the pin was mistyped: digests of other bytes agree in 4 of 64 digits, not in 60."""
    wrong = sum(one != other for one, other in zip(body.digest.hex, expected.hex, strict=True))
    if wrong <= MOST_SLIPS:
        digits = "digit" if wrong == 1 else "digits"
        yield f"the pin differs from what came in {wrong} of 64 {digits}: it was edited, or mistyped"


def _other_algorithm(body: Body, expected: Digest) -> Iterator[str]:
    """Look whether the pin is a digest of these very bytes, made in another way."""
    git = hashlib.new("sha256", b"blob %d\0" % body.size)
    others: dict[str, Hasher] = {"sha512/256": hashlib.new("sha512_256"), "sha3-256": hashlib.sha3_256(),
              "blake2s": hashlib.blake2s(), "blake2b with 32 bytes": hashlib.blake2b(digest_size=32),
              "sha256 as a git blob": git}  # fmt: skip
    for chunk in _chunks(body.path):
        for hasher in others.values():
            hasher.update(chunk)
    for name, hasher in others.items():
        if hasher.hexdigest() == expected.hex:
            yield f"the bytes are right, but the pin is their {name}, not their sha256"
    if bytes.fromhex(expected.hex)[::-1].hex() == body.digest.hex:
        yield "the pin is the digest written backwards"


def _truncated(body: Body, head: bytes, expected_size: int | None) -> Iterator[str]:
    if body.announced is not None and body.size < body.announced:
        yield f"the body is cut off: {body.size:,} of {body.announced:,} bytes came"
    elif expected_size is not None and 0 < body.size < expected_size and head[:2] == b"\x1f\x8b":
        whole, _ = _gunzip(body.path)
        if not whole:
            yield f"the body is cut off: {body.size:,} of {expected_size:,} bytes, no end of the gzip stream"
    elif expected_size is not None and body.size < expected_size and head[:4] == b"PK\x03\x04":
        with open(body.path, "rb") as file:
            file.seek(max(0, body.size - 65557))
            if b"PK\x05\x06" not in file.read():
                yield f"the body is cut off: {body.size:,} of {expected_size:,} bytes, no zip directory"


def _regenerated(body: Body, head: bytes, expected: Digest) -> Iterator[str]:
    is_gzip = head[:2] == b"\x1f\x8b"
    if is_gzip:
        _, inside = _gunzip(body.path)
        if inside == expected.hex:
            yield "the pin is the digest of the unpacked archive, not of the file that is fetched"
            return
    parts = urlsplit(body.url)
    if _ARCHIVE.search(parts.netloc + parts.path) and (is_gzip or head[:4] == b"PK\x03\x04"):
        yield "this address packs its archive anew now and then: the same files, other bytes"
        yield "pin what came, or better a release's own file (…/releases/download/…), which stays"


def _sizes(body: Body, expected_size: int | None) -> list[str]:
    if expected_size is None:
        return ["nothing in the bytes says why: the file at this address has probably been replaced"]
    if body.size == expected_size:
        return ["the size is the expected one: a file that was replaced in place, or a damaged copy"]
    if body.size < expected_size:
        return [
            f"{expected_size - body.size:,} bytes fewer than expected: another file, or one that is cut off"
        ]
    return [f"{body.size - expected_size:,} bytes more than expected: another file"]


def _gunzip(path: Path) -> tuple[bool, str]:
    """Give whether a gzip file is whole, and the sha256 of what is in it (``""`` if not)."""
    hasher = hashlib.sha256()
    unpacker = zlib.decompressobj(31)
    size = 0
    try:
        for chunk in _chunks(path):
            data = unpacker.decompress(chunk, 1024 * 1024)
            while data:
                hasher.update(data)
                size += len(data)
                if size > MOST_UNPACKED:
                    return True, ""
                data = unpacker.decompress(unpacker.unconsumed_tail, 1024 * 1024)
            if unpacker.eof:
                break
    except zlib.error:
        return False, ""
    return (True, hasher.hexdigest()) if unpacker.eof else (False, "")


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(256 * 1024):
            yield chunk


def printable(text: str, most: int = 200) -> str:
    """Give a stranger's text as one line without control characters."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
