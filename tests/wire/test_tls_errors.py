"""What OpenSSL says of TLS that has failed, in our own words; the errors are OpenSSL's own."""

import ssl

import pytest
from support import certificates
from support.certificates import NAME

from proxy.core.errors import (
    CaNotTrusted,
    ProxyError,
    TlsAlertReceived,
    TlsCertificateError,
    TlsProtocolError,
)
from proxy.wire.tls_errors import alert_of, of_client, of_upstream, reason_of


class End:
    """One end of a handshake in memory."""

    def __init__(self, context: ssl.SSLContext, name: str | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_side=name is None, server_hostname=name
        )
        self.error: ssl.SSLError | None = None

    def go_on(self, received: bytes) -> bytes:
        self.incoming.write(received)
        try:
            if self.error is None:
                self.tls.do_handshake()
                self.tls.read(1)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error
        return self.outgoing.read()


def failed(server: ssl.SSLContext, client: ssl.SSLContext, name: str = NAME) -> tuple[End, End]:
    """Both ends of a handshake that does not succeed."""
    ours, theirs = End(client, name), End(server)
    said = ours.go_on(b"")
    while said:
        said = ours.go_on(theirs.go_on(said))
    theirs.go_on(b"")
    return ours, theirs


def told_to_client(server: ssl.SSLContext, client: ssl.SSLContext, name: str = NAME) -> ProxyError:
    error = failed(server, client, name)[0].error
    assert error is not None
    return of_upstream(error)


@pytest.mark.parametrize(
    ("server", "name", "reason"),
    [
        (certificates.server(is_expired=True), NAME, "certificate has expired"),
        (certificates.server(is_trusted=False), NAME, "unable to get local issuer certificate"),
        (
            certificates.server(),
            "other.test",
            "Hostname mismatch, certificate is not valid for 'other.test'.",
        ),
        (
            certificates.server(),
            "127.0.0.1",
            "IP address mismatch, certificate is not valid for '127.0.0.1'.",
        ),
    ],
)
def test_a_certificate_that_is_not_valid(server: ssl.SSLContext, name: str, reason: str) -> None:
    error = told_to_client(server, certificates.client(), name)
    assert isinstance(error, TlsCertificateError)
    assert error.details == f"the certificate of the upstream is not valid: {reason}"
    assert (error.status, str(error.outcome)) == (502, "failure(tls)")


def test_no_version_that_both_speak() -> None:
    error = told_to_client(certificates.server(version="1.2"), certificates.client(version="1.3"))
    assert isinstance(error, TlsProtocolError)
    assert error.details == "the upstream speaks no version of TLS from tls.min_version on"


def test_an_alert_by_its_name() -> None:
    server = certificates.server(version="1.2")
    server.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    client = certificates.client(version="1.2")
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    error = told_to_client(server, client)
    assert isinstance(error, TlsAlertReceived)
    assert error.details == "the upstream refused TLS: handshake_failure"


@pytest.mark.parametrize(
    ("version", "alert"), [("1.2", "handshake_failure"), ("1.3", "certificate_required")]
)
def test_the_want_of_a_certificate_of_ours(version: str, alert: str) -> None:
    server = certificates.server(version=version)
    server.verify_mode = ssl.CERT_REQUIRED
    error = told_to_client(server, certificates.client())
    assert isinstance(error, TlsAlertReceived)
    assert error.details == f"the upstream refused TLS: {alert}"


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 ready\r\n", b"\0" * 20, b"SSH-2.0-x\r\n"]
)
def test_what_is_no_tls(said: bytes) -> None:
    client = End(certificates.client(), NAME)
    client.go_on(b"")
    client.go_on(said)
    assert client.error is not None
    error = of_upstream(client.error)
    assert isinstance(error, TlsProtocolError)
    assert error.details == "the upstream does not seem to speak TLS: wrong version number"


def test_what_the_other_end_says_of_our_certificate() -> None:
    _, theirs = failed(certificates.server(is_trusted=False), certificates.client())
    assert theirs.error is not None
    assert alert_of(theirs.error) == "unknown_ca"


@pytest.mark.parametrize(
    ("reason", "alert"),
    [
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "handshake_failure"),
        ("TLSV1_ALERT_UNKNOWN_CA", "unknown_ca"),
        ("TLSV13_ALERT_MISSING_EXTENSION", "missing_extension"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "certificate_expired"),
        ("WRONG_VERSION_NUMBER", None),
        ("", None),
        (None, None),
    ],
)
def test_alerts_and_reasons(reason: str | None, alert: str | None) -> None:
    error = ssl.SSLError()
    error.reason = reason  # type: ignore[assignment]
    assert alert_of(error) == alert
    expected = reason.lower().replace("_", " ") if reason else "no reason is known"
    assert reason_of(error) == expected
    if alert is None:
        translated = of_upstream(error)
        assert isinstance(translated, TlsProtocolError)
        assert translated.details.endswith(expected)


@pytest.mark.parametrize(
    ("reason", "is_of_the_ca", "details"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", True, "the client refused the certificate: unknown_ca"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", True, "the client refused the certificate: bad_certificate"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", True, "the client refused the certificate: certificate_expired"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", False, "the client ended the TLS handshake: protocol_version"),
        ("NO_SHARED_CIPHER", False, "TLS with the client failed: no shared cipher"),
    ],
)
def test_what_clients_say_of_our_certificate(reason: str, details: str, *, is_of_the_ca: bool) -> None:
    error = ssl.SSLError()
    error.reason = reason
    translated = of_client(error)
    assert isinstance(translated, CaNotTrusted) is is_of_the_ca
    assert translated.details == details
