"""A token server whose tokens a real registry believes: JSON Web Tokens, signed with a key of the test's own.

As the distribution project has it (auth/jwt). Knows nothing of sockets.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from tests.sites.push import scopes_of
from tests.upstreams import Answer, Request

ISSUER = "tests"
SERVICE = "registry"


@dataclass
class JwtSite:
    """Gives tokens to who has a password; what each may do is said by ``users``."""

    folder: Path
    users: Mapping[str, tuple[str, frozenset[str]]]
    """Name → password and actions."""
    realm: str = "https://auth.test/token"
    stale: int = 0
    """How many tokens, from the first on, are too old already."""
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Who asked for what."""

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .sign(self._key, hashes.SHA256())
        )
        self._bundle = self.folder / "issuer.pem"
        self._bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def settings(self) -> str:
        """What a registry's settings say of it."""
        return (
            f"auth: {{token: {{realm: {self.realm}, service: {SERVICE}, issuer: {ISSUER}, "
            f"rootcertbundle: {self._bundle}}}}}\n"
        )

    def __call__(self, request: Request) -> Answer:
        said = request.headers.get("authorization", "").removeprefix("Basic ")
        user, _, password = base64.b64decode(said).decode().partition(":")
        self.asked.append((user, tuple(scopes_of(request))))
        if user and self.users.get(user, ("", frozenset()))[0] != password:
            return Answer(b"{}", 401)
        may = self.users[user][1] if user else frozenset({"pull"})
        access = []
        for scope in scopes_of(request):
            kind, name, actions = scope.split(":")
            granted = [action for action in actions.split(",") if action in may]
            access.append({"type": kind, "name": name, "actions": granted})
        lasts = 300 if len(self.asked) > self.stale else -300
        return Answer(json.dumps({"token": self._sign(access, lasts), "expires_in": 300}).encode())

    def _sign(self, access: list[dict[str, Any]], lasts: int) -> str:
        now = int(time.time())
        certificate = self._certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(certificate).decode()]}
        claims = {
            "iss": ISSUER,
            "sub": "somebody",
            "aud": SERVICE,
            "exp": now + lasts,
            "nbf": now - 600,
            "iat": now - 600,
            "jti": str(len(self.asked)),
            "access": access,
        }
        signed = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
