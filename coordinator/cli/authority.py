"""A development authority in a folder: `ca.crt` and `ca.key`, and `NODE.crt` and `NODE.key` for each node.

Keys are ECDSA on P-256, and never leave the folder in which they are made: for a cluster that matters, let an
authority of your own sign requests that the nodes' machines make. What a node needs is in
`coordinator.consensus.tls`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.consensus.tls import identity
from coordinator.errors import AlreadyExists, ConfigError, StartFailed

AUTHORITY_DAYS: Final = 3_650
NODE_DAYS: Final = 365

_SKEW: Final = timedelta(hours=1)
"""Certificates begin so long ago, for nodes whose clocks are behind."""


class NodeFiles(NamedTuple):
    """What a node's settings tls.ca, tls.cert and tls.key name."""

    ca: Path
    cert: Path
    key: Path


class Authority:
    """The authority of one cluster, in one folder. Whatever exists there stays as it is."""

    def __init__(
        self, folder: Path, cluster: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        """Use `found`."""
        self._folder = folder
        self._cluster = cluster
        self._certificate = certificate
        self._key = key

    @classmethod
    def found(cls, folder: Path, cluster: str, *, days: float = AUTHORITY_DAYS) -> Self:
        """The authority of a folder, made if there is none.

        Raises:
            ConfigError: the folder's authority cannot be read, or is another cluster's.
            StartFailed: the folder or a file cannot be written.
        """
        if not (folder / "ca.crt").exists():
            _make_folder(folder)
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = _authority_certificate(cluster, key, days)
            _write_pair(folder, "ca", certificate, key)
        certificate, key = _read_authority(folder)
        name = _authority_name(cluster)
        if certificate.subject != name:
            raise ConfigError(
                f"the authority in {folder} is {certificate.subject.rfc4514_string()!r}, not "
                f"{name.rfc4514_string()!r}; choose another folder, or the cluster id that it was made for",
                folder=folder,
            )
        return cls(folder, cluster, certificate, key)

    def issue(self, node: str, hosts: Sequence[str] = (), *, days: float = NODE_DAYS) -> NodeFiles:
        """Make a node's certificate and key; `hosts` are the names and addresses at which clients reach it.

        Raises:
            AlreadyExists: the folder holds a certificate or key of this node.
            StartFailed: a file cannot be written.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        ends = min(_now() + timedelta(days=days), self._certificate.not_valid_after_utc)
        names = [x509.UniformResourceIdentifier(identity(self._cluster, node)), *map(_host_name, hosts)]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(_name(node), self._certificate.subject, key, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return _write_pair(self._folder, node, certificate, key)


def node_files(folder: Path, node: str) -> NodeFiles:
    """Where an authority's folder has a node's files."""
    return NodeFiles(folder / "ca.crt", folder / f"{node}.crt", folder / f"{node}.key")


# --- what a certificate says --------------------------------------------------------------------------------


def _authority_certificate(cluster: str, key: ec.EllipticCurvePrivateKey, days: float) -> x509.Certificate:
    name = _authority_name(cluster)
    return (
        _builder(name, name, key, _now() + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _SKEW)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_name(cluster: str) -> x509.Name:
    """Holds the cluster, so that nodes of another are not added by mistake."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Quorumflow development authority"),
            x509.NameAttribute(NameOID.COMMON_NAME, cluster),
        ]
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _now() -> datetime:
    return datetime.now(UTC)


# --- files --------------------------------------------------------------------------------------------------


def _read_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"cannot read the authority in {folder}, ca.crt and ca.key: {error}", folder=folder
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"ca.key in {folder} is not the key of ca.crt", folder=folder)
    return certificate, key


def _write_pair(
    folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> NodeFiles:
    files = node_files(folder, name)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path in (files.key, files.cert):
        if path.exists():
            raise AlreadyExists(f"{path} exists, and is not overwritten; move it away first", path=path)
    _write_new(files.key, secret, mode=0o600)
    _write_new(files.cert, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    return files


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartFailed(f"cannot make the folder {folder}: {error.strerror}", folder=folder) from error


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Never over a file that is there, and never readable by others for a moment."""
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise StartFailed(f"cannot write {path}: {error.strerror}", path=path) from error
