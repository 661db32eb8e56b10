"""Certificates for servers that speak TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SIGNS = x509.KeyUsage(False, False, False, False, False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)


class Files(NamedTuple):
    """What a server that speaks TLS needs, and its clients too: who vouches for its certificate, this, for 127.0.0.1, and its key."""

    authority: Path
    certificate: Path
    key: Path


def write_files(directory: Path) -> Files:
    """Make an authority and a certificate, and write them into a directory."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, subject = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("tests", "server"))
    authority = _builder(issuer, issuer, authority_key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    authority = authority.add_extension(_SIGNS, critical=True)
    vouched = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    certificate = _builder(subject, issuer, key).add_extension(address, critical=False).add_extension(vouched, critical=False)
    files = Files(directory / "authority.pem", directory / "certificate.pem", directory / "key.pem")
    for path, made in ((files.authority, authority), (files.certificate, certificate)):
        path.write_bytes(made.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
