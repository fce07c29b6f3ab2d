"""The bundle of certificate authorities, and links by their hashes, as ``update-ca-certificates`` makes them.

Knows nothing of whether an authority deserves trust. Sources: ca-certificates'
sbin/update-ca-certificates; for the names of links OpenSSL's X509_NAME_hash (crypto/x509/x509_cmp.c)
and canonical names (crypto/x509/x_name.c).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reprobuild.build.place.debian_archive import Deb
from reprobuild.build.place.debian_merge import Merge
from reprobuild.tree import file, link

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

FOLDER = "usr/share/ca-certificates/"
CERTIFICATES = "etc/ssl/certs"
BUNDLE = f"{CERTIFICATES}/ca-certificates.crt"
LIST = "etc/ca-certificates.conf"

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def configure(debs: Sequence[Deb], merge: Merge, group: Transaction, read: Callable[[str], bytes]) -> None:
    """Make the bundle of what packages bring, after what the tree below has in it, with a link for each."""
    found = {
        p: body
        for deb in debs
        for p, body in deb.bodies.items()
        if p.startswith(FOLDER) and p.endswith(".crt")
    }
    if not found:
        return
    before = read(BUNDLE)
    bodies = [body if body.endswith(b"\n") else body + b"\n" for _, body in sorted(found.items())]
    bundle = before + b"".join(bodies)
    merge.add(file(BUNDLE, group.add_bytes(bundle), len(bundle)))
    if not before:
        listed = "".join(path.removeprefix(FOLDER) + "\n" for path in sorted(found)).encode()
        merge.add(file(LIST, group.add_bytes(listed), len(listed)))
    taken: dict[str, int] = {}
    for path, body in sorted(found.items()):
        name = _link_name(path)
        merge.add(link(f"{CERTIFICATES}/{name}", f"/{path}"))
        hashed = subject_hash(body)
        if hashed:
            number = taken.get(hashed, 0)
            taken[hashed] = number + 1
            merge.add(link(f"{CERTIFICATES}/{hashed}.{number}", name))


def _link_name(path: str) -> str:
    name = path.rpartition("/")[2].removesuffix(".crt")
    for characters, instead in ((" ,", "_"), ("()", "=")):
        for character in characters:
            name = name.replace(character, instead)
    return name + ".pem"


def subject_hash(certificate: bytes) -> str:
    """Give OpenSSL's hash of the subject of a PEM text's first certificate; empty where there is none."""
    found = _PEM.search(certificate)
    if found is None:
        return ""
    try:
        subject = _subject(base64.b64decode(found[1]))
        canonical = b"".join(_canonical_set(part) for _, part in _elements(subject))
    except (ValueError, IndexError, binascii.Error):
        return ""
    return hashlib.sha1(canonical, usedforsecurity=False).digest()[3::-1].hex()


# As much of DER (ITU-T X.690) as a name needs: tag, definite length, content.

_CONSTRUCTED_CONTEXT_0 = 0xA0
_SET, _SEQUENCE, _UTF8 = 0x31, 0x30, 0x0C
_ENCODINGS = {
    0x0C: "utf-8",
    0x13: "latin-1",
    0x14: "latin-1",
    0x16: "latin-1",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""Kinds of text that OpenSSL brings to one form: UTF8, Printable, T61, IA5, Universal, BMP."""


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    elements = []
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + length > len(data):
            raise ValueError("cut off")
        elements.append((tag, data[at : at + length]))
        at += length
    return elements


def _subject(certificate: bytes) -> bytes:
    """Give the content of the subject: RFC 5280, section 4.1."""
    ((_, whole),) = _elements(certificate)
    signed = _elements(_elements(whole)[0][1])
    if signed[0][0] == _CONSTRUCTED_CONTEXT_0:
        signed = signed[1:]
    return signed[4][1]


def _canonical_set(content: bytes) -> bytes:
    """Write one set of attributes with every text as lower-case UTF-8, blanks joined."""
    attributes = []
    for _, attribute in _elements(content):
        (kind, name), (tag, value) = _elements(attribute)
        if tag in _ENCODINGS:
            text = b" ".join(value.decode(_ENCODINGS[tag]).encode().split())
            tag, value = _UTF8, bytes(c + 32 if 65 <= c <= 90 else c for c in text)
        attributes.append(_element(_SEQUENCE, _element(kind, name) + _element(tag, value)))
    return _element(_SET, b"".join(sorted(attributes)))


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
