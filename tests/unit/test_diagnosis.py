from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from reprobuild.digest import Digest
from reprobuild.fetch.diagnosis import Body, diagnose
from tests.archives import tar, zipped

OTHER = Digest.of(b"what was expected")
TEXT = b"the bytes that came\n" * 50
RANDOM = os.urandom(4000)


def found(
    folder: Path,
    body: bytes,
    expected: Digest = OTHER,
    size: int | None = None,
    *,
    url: str = "https://example.org/file",
    announced: int | None = None,
) -> str:
    path = folder / "body"
    path.write_bytes(body)
    arrived = Body(path=path, digest=Digest.of(body), size=len(body), url=url, announced=announced)
    return "\n".join(diagnose(arrived, expected, size))


def git_blob(data: bytes) -> Digest:
    return Digest(hashlib.sha256(b"blob %d\0" % len(data) + data).hexdigest())


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 1234567\n" % OTHER.hex.encode()
ARCHIVE = gzip.compress(tar({"a": RANDOM}))

CASES: dict[str, tuple[bytes, dict[str, object], str]] = {
    "empty": (b"", {}, "the body is empty"),
    "HTML": (
        b"<!DOCTYPE html>\n<title>\n Not  found\x1b[2J</title>",
        {},
        "an HTML page with the title 'Not found [2J'",
    ),
    "HTML with entities": (b"<html><title>a &amp; b</title>", {}, "with the title 'a & b'"),
    "HTML without a title": (b"  <HTML><body>", {}, "this is an HTML page"),
    "login": (b"<html><form><input type='password'></form>", {}, "it asks for a login"),
    "quota": (b"<html>Too many users have viewed this file. Quota", {}, "it speaks of a quota"),
    "virus scan": (b"<html>Google Drive can't do a virus scan. Download anyway", {}, "only a browser gives"),
    "LFS pointer": (
        LFS,
        {},
        "a Git LFS pointer, not the file: it stands for 1,234,567 bytes with the expected digest",
    ),
    "LFS pointer to another": (
        LFS,
        {"expected": Digest.of(b"3")},
        f"1,234,567 bytes with sha256:{OTHER.hex}",
    ),
    "object store": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access\nDenied</Message></Error>",
        {},
        "an object store's error, AccessDenied: Access Denied",
    ),
    "JSON": (json.dumps({"error": "Invalid token"}).encode(), {}, "as JSON, error: Invalid token"),
    "deep JSON": (b'{"error":' * 20_000, {}, "nothing in the bytes says why"),
    "mistyped": (
        TEXT,
        {"expected": Digest(Digest.of(TEXT).hex.translate(str.maketrans("5", "6")))},
        "of 64 digits: it was edited, or mistyped",
    ),
    "sha3": (TEXT, {"expected": Digest(hashlib.sha3_256(TEXT).hexdigest())}, "the pin is their sha3-256"),
    "git blob": (TEXT, {"expected": git_blob(TEXT)}, "the pin is their sha256 as a git blob"),
    "cut short": (TEXT, {"announced": 2000}, "the body is cut off: 1,000 of 2,000 bytes came"),
    "cut gzip": (ARCHIVE[:-50], {"size": len(ARCHIVE)}, "no end of the gzip stream"),
    "cut zip": (zipped({"a": RANDOM})[:-100], {"size": 9999}, "no zip directory"),
    "unpacked": (
        gzip.compress(TEXT),
        {"expected": Digest.of(TEXT)},
        "the pin is the digest of the unpacked archive",
    ),
    "made anew": (
        ARCHIVE,
        {"url": "https://github.com/a/b/archive/refs/tags/v1.tar.gz"},
        "packs its archive anew now and then",
    ),
    "made anew on another forge": (
        zipped({"a": b""}),
        {"url": "https://gitlab.com/a/b/-/archive/v1/b-v1.zip"},
        "packs its archive anew now and then",
    ),
    "same size": (TEXT, {"size": len(TEXT)}, "the size is the expected one"),
    "smaller": (TEXT, {"size": 1500}, "500 bytes fewer than expected"),
    "larger": (TEXT, {"size": 500}, "500 bytes more than expected"),
    "nothing known": (TEXT, {}, "nothing in the bytes says why"),
}


@pytest.mark.parametrize(("body", "known", "sentence"), CASES.values(), ids=CASES)
def test_what_bytes_say_of_themselves(
    tmp_path: Path, body: bytes, known: dict[str, Any], sentence: str
) -> None:
    assert sentence in found(tmp_path, body, **known)


def test_an_archive_that_is_not_made_on_request_is_not_called_so(tmp_path: Path) -> None:
    url = "https://github.com/a/b/releases/download/v1/b.tar.gz"
    assert "anew" not in found(tmp_path, ARCHIVE, url=url)


def test_a_whole_gzip_file_is_not_called_cut_off(tmp_path: Path) -> None:
    assert "cut off:" not in found(tmp_path, ARCHIVE, size=len(ARCHIVE) + 10)
