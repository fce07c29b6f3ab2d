"""The throw-away authority of a store: trusted inside sandboxes only, its key in ``store/gateway`` alone.

Knows nothing of sockets, nor of what it signs (``certificates``). Reading its certificate is reading one
small file: every run does it.
"""

from __future__ import annotations

import os

from reprobuild.store.disk import fresh_name, trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder, KeyUsage, Name

    from reprobuild.store.store import Store

FOLDER = "gateway"
CERTIFICATE = "authority.pem"
KEY = "authority.key"
TRUSTSTORE = "authority.p12"
"""The certificate as Java reads it."""
COMMON_NAME = "reprobuild gateway"
TRUSTSTORE_PASSWORD = "reprobuild"
YEARS = (2000, 2049)


def certificate(store: Store) -> bytes:
    """Give the authority's certificate as PEM, making the authority where the store has none."""
    return _read(store, CERTIFICATE)


def truststore(store: Store) -> bytes:
    """Give a PKCS #12 file of the authority's certificate alone, for Java."""
    return _read(store, TRUSTSTORE)


def private_key(store: Store) -> bytes:
    """Give the authority's key as PEM: for whoever signs, in this process."""
    return _read(store, KEY)


def _read(store: Store, name: str) -> bytes:
    path = f"{store.path}/{FOLDER}/{name}"
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise trouble(error, f"reading {path}") from error
    with store.lock("gateway-authority"):
        if not os.path.exists(path):
            _make(store)
    with open(path, "rb") as file:
        return file.read()


def _make(store: Store) -> None:
    """Make the authority; the certificate gets its name last, when all is there."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    found = _sign_own(key)
    pem = found.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder = f"{store.path}/{FOLDER}"
    try:
        from reprobuild.store.store import make_folder

        make_folder(folder, store.owner)
        for name, data in ((KEY, private), (TRUSTSTORE, _truststore(found)), (CERTIFICATE, pem)):
            _write(f"{folder}/{name}", data, store.owner)
    except OSError as error:
        raise trouble(error, f"writing {folder}") from error


def _write(path: str, data: bytes, owner: int | None) -> None:
    draft = f"{path}-{fresh_name()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        if owner is not None:
            os.fchown(descriptor, owner, owner)
        file.flush()
        os.fsync(descriptor)
    os.replace(draft, path)


def _truststore(found: Certificate) -> bytes:
    """Write PKCS #12 in the oldest form that every Java reads: 3DES and SHA-1 hide nothing here."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2048)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(TRUSTSTORE_PASSWORD.encode())
    )
    entry = pkcs12.PKCS12Certificate(found, COMMON_NAME.encode())
    return pkcs12.serialize_java_truststore([entry], encryption)


def _sign_own(key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = name_of(COMMON_NAME)
    builder = dated(x509.CertificateBuilder().subject_name(name).issuer_name(name), key)
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def name_of(text: str) -> Name:
    """Give a subject of a certificate."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def dated(builder: CertificateBuilder, key: EllipticCurvePrivateKey) -> CertificateBuilder:
    """Add what all certificates have: the key, a number, years, the key's name."""
    from datetime import datetime

    from cryptography import x509

    return (
        builder.public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(YEARS[0], 1, 1))
        .not_valid_after(datetime(YEARS[1], 12, 31))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def usage(*, signs_certificates: bool) -> KeyUsage:
    """Say what a key is for: certificates, or the handshakes of a server."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
