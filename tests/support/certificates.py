"""The tests' own CA, which signs for upstreams and their clients, and the contexts of either.

Making keys and certificates costs more than most tests do otherwise, so each is made once in a process.
"""

import ssl
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme

NAME = "upstream.test"


@cache
def authority() -> trustme.CA:
    """The CA, which nobody trusts who is not told to."""
    return trustme.CA()


@cache
def _temporary() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def directory() -> Path:
    """Where files of certificates are; there as long as this process."""
    return Path(_temporary().name)


@cache
def authority_path() -> str:
    """The file of its certificate, for settings and clients to name."""
    path = directory() / "authority.pem"
    authority().cert_pem.write_to_path(str(path))
    return str(path)


@cache
def certificate(*names: str, is_expired: bool = False, is_trusted: bool = True) -> trustme.LeafCert:
    """A certificate for names or addresses."""
    issuer = authority() if is_trusted else trustme.CA()
    began, ended = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    if is_expired:
        return issuer.issue_cert(*names, not_before=began, not_after=ended)
    return issuer.issue_cert(*names)


@cache
def identity_path(name: str) -> str:
    """The file of a certificate with its key and chain, for a client to show."""
    path = directory() / f"{name}.pem"
    certificate(name).private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def server(
    *names: str,
    is_expired: bool = False,
    is_trusted: bool = True,
    version: str | None = None,
    asks_clients: bool = False,
) -> ssl.SSLContext:
    """A server's context.

    Args:
        names: of its certificate; NAME if there are none.
        is_expired: whether that has ended.
        is_trusted: whether it is by the CA.
        version: the only version of TLS that it speaks, `1.2` or `1.3`.
        asks_clients: whether it speaks only to those that show a certificate by the CA.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown = certificate(*names or (NAME,), is_expired=is_expired, is_trusted=is_trusted)
    shown.configure_cert(context)
    if asks_clients:
        context.verify_mode = ssl.CERT_REQUIRED
        authority().configure_trust(context)
    return only(version, context)


def self_signed() -> ssl.SSLContext:
    """A server's context with a certificate that nobody but itself has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca = trustme.CA()
    with ca.cert_pem.tempfile() as certificate_path, ca.private_key_pem.tempfile() as key_path:
        context.load_cert_chain(certificate_path, key_path)
    return context


def client(*protocols: str, version: str | None = None) -> ssl.SSLContext:
    """A client's context, which trusts the CA, and offers these protocols (ALPN)."""
    return trusting(Path(authority_path()), *protocols, version=version)


def trusting(bundle: Path, *protocols: str, version: str | None = None) -> ssl.SSLContext:
    """A client's that trusts a bundle and nothing else, and is as strict as later versions of Python are."""
    context = stranger(*protocols, version=version)
    context.load_verify_locations(bundle)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def stranger(*protocols: str, version: str | None = None) -> ssl.SSLContext:
    """A client's that trusts nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols(protocols)
    return only(version, context)


def only(version: str | None, context: ssl.SSLContext) -> ssl.SSLContext:
    """Has the context speak this version of TLS and no other."""
    if version is not None:
        wanted = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        context.minimum_version = context.maximum_version = wanted
    return context
