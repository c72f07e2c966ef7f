"""TLS towards upstreams: what we trust, what we show, and what we ask for. Every upstream is verified.

Sessions are not resumed: what saves handshakes is that connections are kept alive.
"""

import asyncio
import ssl
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from proxy.core.https import Tls, TlsVersion
from proxy.wire.certificate_files import CertificateFault, read
from proxy.wire.tls import TlsTransport
from proxy.wire.tls_errors import reason_of

_VERSIONS = {TlsVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2, TlsVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3}
_SYSTEM = Tls()
# Python's own for TLS 1.2, without those over finite fields, which are of the server's choice (`records.py`).
_CIPHERS = "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
# What OpenSSL says of a key that belongs to another certificate, of the same kind or of another.
_NOT_A_PAIR = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})


class UpstreamTls:
    """Makes the client's side of TLS for each upstream.

    Args:
        ways: of all upstreams; the files that they name are read at once. The system's are read when they are
            first needed, which takes 20 ms, so in a thread, and 1.5 MB.
        former: what this replaces; where its files say what they said, its contexts are used.

    Attributes:
        reread: the ways whose files say something else than they did for `former`.

    Raises:
        CertificateFault: a file cannot be used.
    """

    def __init__(self, ways: Iterable[Tls] = (), former: "UpstreamTls | None" = None) -> None:
        self._loading: dict[Tls, asyncio.Future[ssl.SSLContext]] = {}
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        # Read before the contexts are made: what is written in between is then seen as a change.
        self._digests = {way: _digest(way) for way in ways if way != _SYSTEM}
        self.reread: frozenset[Tls] = frozenset()
        if former is not None:
            self._take_over(former)
        for way in self._digests:
            if way not in self._contexts:
                self._contexts[way] = _context(way)

    def _take_over(self, former: "UpstreamTls") -> None:
        contexts, digests = former._contexts, former._digests  # noqa: SLF001 -- of the class
        self._loading = former._loading  # noqa: SLF001 -- of the class
        if _SYSTEM in contexts:
            self._contexts[_SYSTEM] = contexts[_SYSTEM]
        known = {way for way in self._digests if way in digests}
        self.reread = frozenset(way for way in known if self._digests[way] != digests[way])
        self._contexts |= {way: contexts[way] for way in known - self.reread}

    async def ready(self, way: Tls) -> None:
        """Waits until what is trusted has been read; for most calls there is nothing to wait for."""
        if way in self._contexts:
            return
        loading = self._loading.get(way)
        if loading is None:
            loading = asyncio.get_running_loop().run_in_executor(None, _context, way)
            self._loading[way] = loading
        # Others may wait for it as well, whoever gives up.
        self._contexts[way] = await asyncio.shield(loading)

    def transport(self, way: Tls, host: str) -> TlsTransport:
        """What shakes hands with an upstream.

        Args:
            way: the settings for it, which are `ready`.
            host: normalised; what is verified, unless the settings name another.
        """
        return TlsTransport(self._contexts[way], server_side=False, server_hostname=way.server_name or host)


def _digest(way: Tls) -> bytes:
    """Tells whether the files of a way say what they said."""
    digest = sha256()
    for path in (way.ca, way.client_cert, way.client_key):
        content = b"" if path is None else read(Path(path)).content
        digest.update(len(content).to_bytes(8) + content)
    return digest.digest()


def _context(way: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[way.min_version]
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    # RFC 9110 section 4.3.4: "a reference identity of type CN-ID MUST NOT be used by clients".
    context.hostname_checks_common_name = False
    context.set_ciphers(_CIPHERS)
    if way.ca is None:
        context.load_default_certs()
    else:
        _trust(context, way.ca)
    if way.client_cert is not None:
        _show(context, way.client_cert, way.client_key)
    return context


def _trust(context: ssl.SSLContext, path: str) -> None:
    # Bundles have remarks in other alphabets, which Python does not want to see.
    content = read(Path(path)).content.decode("ascii", "ignore")
    try:
        context.load_verify_locations(cadata=content)
    # A ValueError is an empty file.
    except (ssl.SSLError, ValueError) as error:
        raise CertificateFault(path, "has no certificate in PEM, or a malformed one") from error


def _show(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    # OpenSSL would wait for ever at a pipe, and does not say which of the two files is at fault.
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)
    if key is not None:
        read(Path(key))
    asked: list[str] = []

    def password() -> bytes:
        """Answers in place of someone at the terminal."""
        asked.append("for a password")
        return b""

    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        if asked:
            reason = "the key is encrypted, and there is no setting for its password"
        elif error.reason in _NOT_A_PAIR:
            reason = "the key does not belong to the certificate"
        elif not error.reason:
            reason = "has no private key in PEM, or a malformed one"
        else:
            reason = f"OpenSSL does not take it: {reason_of(error)}"
        raise CertificateFault(key or certificate, reason) from error
