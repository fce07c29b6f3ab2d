"""Makes a gateway's authority trusted inside a sandbox: files on top of the tree, and variables.

The bundles of authorities that the tree has are shown with the gateway's in front, and it is where the
Debian family's ``update-ca-certificates`` looks, so that a bundle that is made anew holds it too. None of
that is part of the tree; what of it a command carries into its changes is for the capture to take out.
Knows nothing of how files are laid out, nor of certificates: an authority is a text.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping

from reprobuild.engine.protocol import Gateway, Ground
from reprobuild.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.store.stack import Found

Read = Callable[["Found"], bytes | None]
"""Gives the bytes of a file of a tree; None for one that is larger than ``LARGEST_BUNDLE``."""

BUNDLES = (
    "etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch, Go
    "etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",  # SUSE
    "etc/ssl/cert.pem",  # OpenSSL on Alpine, BSD
    "usr/lib/ssl/cert.pem",  # OpenSSL on Debian
)
"""Where systems keep the authorities that all programs trust, one after the other."""

ANCHOR = "usr/local/share/ca-certificates/reprobuild-gateway.crt"
"""From here ``update-ca-certificates`` takes what an administrator adds."""

LARGEST_BUNDLE = 16 << 20

_VARIABLES = (
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HEX_CACERTS_PATH",
    "HTTPLIB2_CA_CERTS",
    "JULIA_SSL_CA_ROOTS_PATH",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PERL_LWP_SSL_CA_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
"""Each names a bundle to some programs or libraries, instead of one that they bring along."""


class OnTop(Value):
    """A file to be shown on top of a tree."""

    content: bytes
    mode: int = 0o644
    is_new: bool = False
    """Whether nothing of the tree is in it: what is equal to it later was left by nobody."""


def normal_authority(certificate: bytes) -> bytes:
    """Give an authority as it stands in bundles: one text that ends a line."""
    return certificate.strip() + b"\n"


def trust(ground: Ground, read: Read, gateway: Gateway) -> tuple[Mapping[str, OnTop], Mapping[str, str]]:
    """Give the files on top of a tree (path inside, no leading slash), and the variables.

    Both hold what the gateway names itself; without a certificate, that alone. Links of the tree are
    resolved: a path leads through none.
    """
    files: dict[str, OnTop] = {}
    env: dict[str, str] = {}
    if gateway.certificate:
        authority = normal_authority(gateway.certificate)
        shown = ""
        for bundle in BUNDLES:
            found = ground.look(bundle)
            if found is None or found.mode is None or not stat.S_ISREG(found.mode):
                continue
            content = read(found)
            if content is None:
                continue
            shown = shown or f"/{bundle}"
            files[found.path[1:]] = OnTop(authority + content, stat.S_IMODE(found.mode))
        if not shown:
            shown = f"/{BUNDLES[0]}"
            _add(files, ground, BUNDLES[0], authority)
        _add(files, ground, ANCHOR, authority)
        env = dict.fromkeys(_VARIABLES, shown)
    for path, content in gateway.files.items():
        _add(files, ground, path, content)
    return files, env | dict(gateway.env)


def _add(files: dict[str, OnTop], ground: Ground, path: str, content: bytes) -> None:
    """Add a file of our own, unless the tree has something else there than a file or nothing."""
    found = ground.look(path)
    if found is not None and (found.mode is None or stat.S_ISREG(found.mode)):
        files[found.path[1:]] = OnTop(content, is_new=True)
