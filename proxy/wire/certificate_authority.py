"""The sidecar's own certificate authority: makes it, finds it again after a restart, and shows it to clients.

The key lies in a directory of the sidecar's own (`intercept.private_directory`) or, if there is none, only in
memory. What clients need lies in one that they share with the sidecar (`intercept.directory`): see
`trust_bundle.py`. What is there and cannot be used is refused and never overwritten.

Several processes may start at once and any of them may crash at any moment: the key is linked into place
before its certificate, each by whoever comes first, and all read back what is there. A key without a
certificate is thus one whose maker has crashed, or is not done, and gets a certificate.

A certificate near its end is made anew for the same key and the same name, so that clients which read the
former one at their own start go on until it ends. Leaves of processes that renew it at once look the same.

This module needs the extra `intercept` (cryptography) and must not be imported unless TLS is intercepted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy.wire import trust_bundle
from proxy.wire.certificate_files import (
    CertificateFault,
    File,
    create,
    faults_of,
    make_directory,
    read,
    read_if_there,
    replace,
)
from proxy.wire.trust_bundle import Bundle

KEY_NAME = "ca.key"
CERTIFICATE_NAME = "ca.crt"
LIFE = timedelta(days=3652)
# Before its end a certificate is made anew, so that it does not end while the process runs.
RENEW_BEFORE = timedelta(days=30)
# For clients whose clocks are behind.
BACKDATED = timedelta(days=1)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_LEAST_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# What others may not do with the key. A Secret of Kubernetes with `fsGroup` is readable by its group.
_NOT_BY_OTHERS = 0o006
_NOT_BY_GROUP = 0o020


class Origin(Enum):
    """Where the authority came from, in words for the log."""

    LOADED = "loaded"
    MADE = "made"
    RENEWED = "renewed, as its end was near or past"
    EXPIRING = "loaded; its end is near, and it could not be renewed"


@dataclass(frozen=True, slots=True)
class Authority:
    """A key that signs leaves, and the certificate by which clients trust it."""

    key: Key
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return _pem(self.certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hexadecimal digits, by which people compare it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True, slots=True)
class Opened:
    """The authority, and what is worth a line of the log.

    Args:
        authority: which signs.
        origin: where it came from.
        bundle: what clients were given; None without a shared directory.
    """

    authority: Authority
    origin: Origin
    bundle: Bundle | None


def load_or_make(
    private_directory: str | None, directory: str | None, extra_roots: tuple[str, ...], now: datetime
) -> Opened:
    """The authority, and its files written; reads and writes files, so call it before serving.

    Args:
        private_directory: with its key and certificate, made if absent; None: it lives in memory only.
        directory: for clients; None: nothing is written for them.
        extra_roots: files with certificates that clients shall trust besides.
        now: with a time zone.

    Raises:
        CertificateFault: something that is there cannot be used, or something cannot be written.
    """
    if private_directory is not None and directory is not None:
        _keep_apart(Path(private_directory), Path(directory))
    # First, so that nothing is written if one of them is wrong.
    extra = trust_bundle.extra_roots(extra_roots)
    if private_directory is None:
        key = ec.generate_private_key(ec.SECP256R1())
        authority, origin = Authority(key, _self_signed(key, now)), Origin.MADE
    else:
        authority, origin = _open(Path(private_directory), now)
    bundle = None if directory is None else trust_bundle.write(Path(directory), authority.pem, extra)
    return Opened(authority, origin, bundle)


def _keep_apart(private: Path, shared: Path) -> None:
    """Refuses a directory for the key that clients can read."""
    with faults_of(private, "cannot be used"):
        inner, outer = private.resolve(), shared.resolve()
        for folder in (inner, *inner.parents):
            # One volume may be mounted at two places.
            if folder == outer or (folder.exists() and outer.exists() and folder.samefile(outer)):
                raise CertificateFault(private, f"the key may not lie in {shared}, which clients read")


def _open(directory: Path, now: datetime) -> tuple[Authority, Origin]:
    make_directory(directory, 0o700)
    key_path, certificate_path = directory / KEY_NAME, directory / CERTIFICATE_NAME
    origin = Origin.LOADED
    # In the opposite order of the writing: where there is a certificate there is its key.
    certificate_file = read_if_there(certificate_path)
    key_file = read_if_there(key_path)
    if key_file is None:
        if certificate_file is not None:
            raise CertificateFault(key_path, f"is missing, though there is {CERTIFICATE_NAME}")
        if create(key_path, _pem_of(ec.generate_private_key(ec.SECP256R1())), 0o600):
            origin = Origin.MADE
        key_file = read(key_path)
    key = _key(key_path, key_file)
    if certificate_file is None:
        if create(certificate_path, _pem(_self_signed(key, now)), 0o644):
            origin = Origin.MADE
        certificate_file = read(certificate_path)
    authority = Authority(key, _certificate(certificate_path, certificate_file, key))
    begins, ends = authority.certificate.not_valid_before_utc, authority.certificate.not_valid_after_utc
    if now < begins:
        raise CertificateFault(
            certificate_path, f"is valid from {begins:%Y-%m-%d %H:%M} UTC on, which is to come"
        )
    if ends - now > RENEW_BEFORE:
        return authority, origin
    renewed = Authority(key, _self_signed(key, now, authority.certificate))
    try:
        replace(certificate_path, renewed.pem, 0o644)
    except CertificateFault as fault:
        if now < ends:
            return authority, Origin.EXPIRING
        raise CertificateFault(
            certificate_path, f"ended {ends:%Y-%m-%d}, and the next one {fault.reason}"
        ) from fault
    return renewed, Origin.RENEWED


def _key(path: Path, file: File) -> Key:
    if file.mode & _NOT_BY_OTHERS:
        raise CertificateFault(
            path, f"others may read or write it: its mode is {file.mode:04o}, expected 0600"
        )
    if file.mode & _NOT_BY_GROUP:
        raise CertificateFault(path, f"its group may write it: its mode is {file.mode:04o}, expected 0600")
    try:
        key = serialization.load_pem_private_key(file.content, None)
    except TypeError:
        raise CertificateFault(path, "is encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateFault(path, "is no private key in PEM") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return key
    raise CertificateFault(
        path, "is of a kind that clients do not know: expected EC P-256, or RSA with 2048 bits"
    )


def _certificate(path: Path, file: File, key: Key) -> x509.Certificate:
    try:
        certificates = x509.load_pem_x509_certificates(file.content)
        # Parsed only when they are looked at.
        signs = _may_sign(certificates[0])
        public = certificates[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateFault(path, "is no certificate in PEM") from None
    if len(certificates) > 1:
        raise CertificateFault(path, f"has {len(certificates)} certificates, expected one")
    if public != key.public_key():
        raise CertificateFault(path, f"is not the certificate of {KEY_NAME}")
    if not signs:
        raise CertificateFault(path, "is not the certificate of an authority")
    try:
        certificates[0].verify_directly_issued_by(certificates[0])
    except (InvalidSignature, TypeError, ValueError):
        # An intermediate one would do for some clients and not for others.
        raise CertificateFault(path, "is not self-signed") from None
    return certificates[0]


def _may_sign(certificate: x509.Certificate) -> bool:
    """Whether a certificate is of an authority, by RFC 5280 sections 4.2.1.3 and 4.2.1.9."""
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return basic.ca and usage.key_cert_sign


def _self_signed(key: Key, now: datetime, former: x509.Certificate | None = None) -> x509.Certificate:
    """A certificate of the key's own, by the name of the former one."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    if former is None:
        common = f"breaker-proxy CA {identifier.digest.hex()[:8]}"
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    else:
        name = former.subject
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
