"""Certificates for whatever host a client asks for, signed by the store's authority as they are needed.

Knows nothing of requests. One key serves all hosts of a command; it lives in memory only.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from reprobuild.gateway import authority
from reprobuild.store.store import Store

MOST = 1024
"""Hosts whose certificates are remembered."""
PROTOCOLS = ["http/1.1"]


class Secured(ssl.SSLSocket):
    """A connection that speaks TLS."""

    wanted: str = ""
    """The host that was connected to."""
    named: str = ""
    """The host that the client named (SNI)."""


class Certificates:
    """The contexts in which TLS is spoken; for many threads."""

    def __init__(self, store: Store) -> None:
        """Read the authority's key, and make one for the hosts."""
        self._issuer = x509.load_pem_x509_certificate(authority.certificate(store))
        key = serialization.load_pem_private_key(authority.private_key(store), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._issuer_key = key
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._private = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._lock = threading.Lock()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._chooser = _context()
        self._chooser.sslsocket_class = Secured
        self._chooser.sni_callback = self._choose  # type: ignore[assignment]  # typeshed says SSLObject

    def wrap(self, connection: socket.socket, wanted: str) -> Secured:
        """Begin to speak TLS, as the host that the client names, else as ``wanted``; no handshake yet."""
        secured = self._chooser.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        assert isinstance(secured, Secured)
        secured.wanted = wanted
        return secured

    def _choose(self, connection: Secured, name: str | None, _: ssl.SSLContext) -> int | None:
        connection.named = (name or "").lower().rstrip(".")
        try:
            connection.context = self.context(connection.named or connection.wanted)
        except (ValueError, OSError):
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    def context(self, host: str) -> ssl.SSLContext:
        """Give the context of a host: a name or an address. Raises ValueError for what is neither."""
        with self._lock:
            found = self._contexts.get(host)
        if found is None:
            found = _context()
            _load(found, self._sign(host) + self._private)
            with self._lock:
                if len(self._contexts) >= MOST:
                    self._contexts.clear()
                self._contexts[host] = found
        return found

    def _sign(self, host: str) -> bytes:
        builder = (
            authority.dated(x509.CertificateBuilder(), self._key)
            .subject_name(authority.name_of(host))
            .issuer_name(self._issuer.subject)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(authority.usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuer_key.public_key()),
                critical=False,
            )
        )
        return builder.sign(self._issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Small clients name no signature algorithms: OpenSSL takes that for SHA-1, which it refuses by default.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(PROTOCOLS)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate and its key, which Python takes from files only: from one that is in memory."""
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
