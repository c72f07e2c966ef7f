"""What OpenSSL says of TLS that has failed, in our own words and errors."""

import re
import ssl

from proxy.core.errors import (
    CaNotTrusted,
    ClientTlsFailed,
    ProxyError,
    TlsAlertReceived,
    TlsCertificateError,
    TlsProtocolError,
)

# Such as TLSV1_ALERT_UNKNOWN_CA or SSLV3_ALERT_HANDSHAKE_FAILURE: the version says since when there is one.
_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_ALERT_(?P<name>[A-Z0-9_]+)")
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNEXPECTED_MESSAGE"})
_VERSION = "protocol_version"
# What a client says that does not accept our certificate (RFC 8446 section 6.2).
_DISTRUST = frozenset(
    {"unknown_ca", "bad_certificate", "certificate_unknown", "unsupported_certificate", "certificate_expired"}
)


def alert_of(error: ssl.SSLError) -> str | None:
    """The alert with which the peer has ended TLS, such as `unknown_ca`; None if it has sent none."""
    found = _ALERT.fullmatch(error.reason or "")
    return None if found is None else found["name"].lower()


def reason_of(error: ssl.SSLError) -> str:
    """What OpenSSL says went wrong, in words."""
    return (error.reason or "no reason is known").lower().replace("_", " ")


def of_upstream(error: ssl.SSLError) -> ProxyError:
    """The error for TLS with an upstream that has failed: 502."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsCertificateError(f"the certificate of the upstream is not valid: {error.verify_message}")
    alert = alert_of(error)
    if alert == _VERSION:
        return TlsProtocolError("the upstream speaks no version of TLS from tls.min_version on")
    if alert is not None:
        return TlsAlertReceived(f"the upstream refused TLS: {alert}")
    if error.reason in _NO_TLS:
        return TlsProtocolError(f"the upstream does not seem to speak TLS: {reason_of(error)}")
    return TlsProtocolError(f"TLS with the upstream failed: {reason_of(error)}")


def of_client(error: ssl.SSLError) -> ClientTlsFailed:
    """The error for TLS with a client that has failed; nothing can be answered any more."""
    alert = alert_of(error)
    if alert in _DISTRUST:
        return CaNotTrusted(f"the client refused the certificate: {alert}")
    if alert is not None:
        return ClientTlsFailed(f"the client ended the TLS handshake: {alert}")
    return ClientTlsFailed(f"TLS with the client failed: {reason_of(error)}")
