"""Java's list of authorities without the moments at which it got them.

``keytool`` and Debian's ca-certificates-java write ``cacerts`` with the time of each entry; Java reads past
it. Format: ``sun.security.provider.JavaKeyStore`` of OpenJDK (JKS, version 2). Knows only lists of
certificates that are sealed with Java's usual password: what holds a private key stays as it is.
"""

from __future__ import annotations

import hashlib
import struct

LARGEST = 16 * 1024 * 1024
"""Bytes; what is larger stays as it is."""

PASSWORD = "changeit"
"""What ``cacerts`` is sealed with everywhere (keytool(1)); it keeps nothing secret."""

_HEAD = struct.Struct(">III")
_MAGIC, _VERSION = 0xFEEDFEED, 2
_CERTIFICATE = 2
_SEAL = hashlib.sha1().digest_size


def is_keystore(path: str) -> bool:
    """Tell whether a file may be a list of authorities, by its name."""
    return path.rpartition("/")[2] == "cacerts" or path.endswith(".jks")


def normal_keystore(data: bytes, time: int) -> bytes:
    """Give a keystore whose entries are all of one moment, in seconds since 1970; anything else as it is."""
    body, seal = data[:-_SEAL], data[-_SEAL:]
    if len(body) < _HEAD.size or _sealed(body) != seal:
        return data
    magic, version, count = _HEAD.unpack_from(body)
    if (magic, version) != (_MAGIC, _VERSION):
        return data
    normal = bytearray(body)
    at = _HEAD.size
    try:
        for _ in range(count):
            (tag, alias) = struct.unpack_from(">IH", body, at)
            if tag != _CERTIFICATE:
                return data
            at += 6 + alias
            struct.pack_into(">Q", normal, at, time * 1000)
            (kind,) = struct.unpack_from(">H", body, at + 8)
            at += 10 + kind
            (size,) = struct.unpack_from(">I", body, at)
            at += 4 + size
    except struct.error:
        return data
    return bytes(normal) + _sealed(bytes(normal)) if at == len(body) else data


def _sealed(body: bytes) -> bytes:
    return hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()
