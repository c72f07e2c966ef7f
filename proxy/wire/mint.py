"""Makes the certificates that clients see in place of the upstreams', and the TLS contexts to show them.

One key serves for all of them: whoever could read one key of this process could read them all, and the
authority's besides. It never leaves the process and ends with it.

This module needs the extra `intercept` (cryptography) and must not be imported unless TLS is intercepted.
"""

import errno
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy.core.errors import ProxyInternalError
from proxy.core.host import literal, normalised
from proxy.wire.certificate_authority import Authority

LIFE = timedelta(days=7)
# For clients whose clocks are behind.
BACKDATED = timedelta(hours=1)

# RFC 5280 appendix A.1, ub-common-name.
_LONGEST_COMMON_NAME = 64
_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class LeafFault(ProxyInternalError):
    """No certificate can be made for a host; the text says why and does not name the host."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What is shown to clients of one host.

    Args:
        context: server-side.
        begins: from when its certificate is valid.
        replace_at: when half its life is over.
    """

    context: ssl.SSLContext
    begins: datetime
    replace_at: datetime


class Mint:
    """Makes leaves, in whatever thread; holds what all of them share.

    Args:
        authority: which signs.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        key = ec.generate_private_key(ec.SECP256R1())
        self._public = key.public_key()
        self._key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        certificate = authority.certificate
        try:
            identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            self._issuer_key = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        except x509.ExtensionNotFound:
            self._issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())

    def leaf(self, host: str, now: datetime) -> Leaf:
        """A new certificate in a new context; takes about a millisecond.

        Raises:
            LeafFault: as `certificate`; or the system refuses, its error being the cause.
        """
        certificate = self.certificate(host, now)
        try:
            context = _context(self._key_pem + certificate.public_bytes(serialization.Encoding.PEM))
        except OSError as error:
            raise LeafFault(error.strerror or str(error)) from error
        half = (certificate.not_valid_after_utc - now) / 2
        return Leaf(context, certificate.not_valid_before_utc, now + half)

    def certificate(self, host: str, now: datetime) -> x509.Certificate:
        """A new certificate.

        Args:
            host: a name or an address, as `normalised` gives it.
            now: with a time zone.

        Raises:
            LeafFault: it is no host, or the authority has ended.
        """
        issuer = self._authority.certificate
        if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
            raise LeafFault("the certificate of the authority has ended, or has not begun")
        # A star would be a wildcard; nothing that a host is has one.
        try:
            is_host = host == normalised(host)
        except ValueError:
            is_host = False
        if not is_host:
            raise LeafFault("it is no host, or not in its normal form")
        address = literal(host)
        alternative = x509.DNSName(host) if address is None else x509.IPAddress(address)
        fits = len(host) <= _LONGEST_COMMON_NAME
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)] if fits else [])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject)
            .public_key(self._public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATED, issuer.not_valid_before_utc))
            .not_valid_after(min(now + LIFE, issuer.not_valid_after_utc))
            # RFC 5280 section 4.2.1.6: where the subject is empty, it "MUST" be critical.
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=not fits)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(self._issuer_key, critical=False)
            .sign(self._authority.key, hashes.SHA256())
        )


def _context(pem: bytes) -> ssl.SSLContext:
    """A server-side context.

    The authority's certificate is not sent along: a client that trusts it has it.

    Args:
        pem: key and certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # Never OP_NO_TICKET: OpenSSL would then remember the sessions of TLS 1.3 as well, see `leaves.py`.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # Few clients resume a session, and a ticket costs the server more than the resumption saves it.
    context.num_tickets = 0
    # Who can verify the certificate knows this curve. Of the others that OpenSSL lets a client choose from,
    # the largest finite field takes 0.1 s on the event loop.
    context.set_ecdh_curve("prime256v1")
    with _readable(pem) as path:
        context.load_cert_chain(path)
    return context


@contextmanager
def _readable(content: bytes) -> Iterator[str]:
    """A path under which OpenSSL, which reads keys only from files, finds a key that no disk ever has."""
    try:
        descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        # Not Linux, or a sandbox that does not have it.
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
