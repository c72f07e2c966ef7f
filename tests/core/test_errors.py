import inspect
from typing import NamedTuple

import pytest

from proxy.core import errors
from proxy.core.errors import ProxyError
from proxy.core.outcome import NEUTRAL, FailureKind, Outcome, failed

# RFC 9209 section 2.3, in its order.
RFC_9209_TYPES = [
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
]


class Row(NamedTuple):
    """What a class tells; a reason of "" is the type itself."""

    error: type[ProxyError]
    token: str
    status: int
    on_connect: int
    reason: str
    outcome: Outcome
    retry_after_s: int | None = None
    refused: bool = False


REFUSED = failed(FailureKind.REFUSED)
UNREACHABLE = failed(FailureKind.UNREACHABLE)
CONNECT_TIMEOUT = failed(FailureKind.CONNECT_TIMEOUT)
RESPONSE_TIMEOUT = failed(FailureKind.RESPONSE_TIMEOUT)
TLS = failed(FailureKind.TLS)
RESET = failed(FailureKind.RESET)
MALFORMED = failed(FailureKind.MALFORMED)
TRUNCATED = failed(FailureKind.TRUNCATED)

ROWS = [
    Row(errors.DestinationUnavailable, "destination_unavailable", 503, 503, "", NEUTRAL, refused=True),
    Row(errors.AnswerPassedOver, "destination_unavailable", 503, 503, "", NEUTRAL),
    Row(errors.ConnectionLimitReached, "connection_limit_reached", 503, 503, "", NEUTRAL, 1, refused=True),
    Row(errors.LocalLimit, "connection_limit_reached", 503, 503, "local_limit", NEUTRAL, 1, refused=True),
    Row(errors.DnsError, "dns_error", 502, 502, "", NEUTRAL),
    Row(errors.DnsTimeout, "dns_timeout", 504, 504, "", NEUTRAL),
    Row(errors.DestinationNotFound, "destination_not_found", 404, 404, "no_route", NEUTRAL),
    Row(errors.HttpRequestDenied, "http_request_denied", 403, 502, "", NEUTRAL),
    Row(
        errors.AuthenticationRequired,
        "http_request_denied",
        407,
        407,
        "authentication_required",
        NEUTRAL,
    ),
    Row(
        errors.DestinationIpProhibited,
        "destination_ip_prohibited",
        502,
        502,
        "address_denied",
        NEUTRAL,
    ),
    Row(errors.ProxyLoopDetected, "proxy_loop_detected", 502, 502, "", NEUTRAL),
    Row(errors.ConnectionRefused, "connection_refused", 502, 502, "", REFUSED),
    Row(errors.DestinationIpUnroutable, "destination_ip_unroutable", 502, 502, "", UNREACHABLE),
    Row(errors.ConnectionTimeout, "connection_timeout", 504, 504, "", CONNECT_TIMEOUT),
    Row(errors.TlsProtocolError, "tls_protocol_error", 502, 502, "", TLS),
    Row(errors.TlsCertificateError, "tls_certificate_error", 502, 502, "", TLS),
    Row(errors.TlsAlertReceived, "tls_alert_received", 502, 502, "", TLS),
    Row(errors.ConnectionTerminated, "connection_terminated", 502, 502, "", RESET),
    Row(errors.KeptAliveClosed, "connection_terminated", 502, 502, "", NEUTRAL),
    Row(errors.ConnectionReadTimeout, "connection_read_timeout", 504, 504, "", TRUNCATED),
    Row(errors.ConnectionWriteTimeout, "connection_write_timeout", 504, 504, "", RESPONSE_TIMEOUT),
    Row(errors.HttpRequestError, "http_request_error", 400, 400, "bad_request", NEUTRAL),
    Row(errors.UnknownCoding, "http_request_error", 501, 501, "unknown_coding", NEUTRAL),
    Row(errors.HeadTooLarge, "http_request_error", 431, 431, "head_too_large", NEUTRAL),
    Row(errors.TargetTooLong, "http_request_error", 414, 414, "target_too_long", NEUTRAL),
    Row(errors.VersionNotSupported, "http_request_error", 505, 505, "unknown_version", NEUTRAL),
    Row(errors.NotAProxyRequest, "http_request_error", 400, 400, "not_a_proxy_request", NEUTRAL),
    Row(errors.MisdirectedRequest, "http_request_error", 421, 421, "misdirected_request", NEUTRAL),
    Row(errors.ClientTlsFailed, "http_request_error", 400, 400, "client_tls_failed", NEUTRAL),
    Row(errors.ClientTlsClosed, "http_request_error", 400, 400, "client_tls_failed", NEUTRAL),
    Row(errors.CaNotTrusted, "http_request_error", 400, 400, "ca_not_trusted", NEUTRAL),
    Row(errors.ClientTimeout, "http_request_error", 408, 408, "client_timeout", NEUTRAL),
    Row(errors.HttpResponseTimeout, "http_response_timeout", 504, 504, "", RESPONSE_TIMEOUT),
    Row(errors.HttpResponseIncomplete, "http_response_incomplete", 502, 502, "", TRUNCATED),
    Row(errors.HttpResponseTransferCoding, "http_response_transfer_coding", 502, 502, "", MALFORMED),
    Row(errors.HttpResponseHeaderSectionSize, "http_response_header_section_size", 502, 502, "", MALFORMED),
    Row(errors.HttpProtocolError, "http_protocol_error", 502, 502, "", MALFORMED),
    Row(errors.ProxyInternalResponse, "proxy_internal_response", 502, 502, "", NEUTRAL),
    Row(errors.Draining, "proxy_internal_response", 503, 503, "draining", NEUTRAL, 1),
    Row(errors.MaxForwardsReached, "proxy_internal_response", 200, 200, "max_forwards", NEUTRAL),
    Row(errors.TraceNotAnswered, "proxy_internal_response", 405, 405, "max_forwards", NEUTRAL),
    Row(errors.ProxyInternalError, "proxy_internal_error", 500, 500, "internal_error", NEUTRAL),
]


def classes_of_the_module() -> set[type[ProxyError]]:
    """Every error that can be raised, the root of the tree excepted."""
    classes = (thing for _, thing in inspect.getmembers(errors, inspect.isclass))
    return {thing for thing in classes if issubclass(thing, ProxyError)} - {ProxyError}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.error.__name__)
def test_error(row: Row) -> None:
    error = row.error("what happened")
    told = Row(
        type(error),
        error.error_type,
        error.status,
        error.connect_status,
        error.reason,
        error.outcome,
        error.retry_after_s,
        error.refused,
    )
    assert told == row._replace(reason=row.reason or row.token)
    assert (error.details, str(error)) == ("what happened", "what happened")


def test_the_table_is_complete() -> None:
    in_table = [row.error for row in ROWS]
    assert set(in_table) == classes_of_the_module()
    assert len(in_table) == len(set(in_table))


def test_after_which_answers_the_clients_connection_ends() -> None:
    closing = {error for error in classes_of_the_module() if not error.keeps_alive}
    at_fault = {error for error in classes_of_the_module() if issubclass(error, errors.HttpRequestError)}
    assert closing == at_fault | {errors.Draining}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.error.__name__)
def test_the_token_is_a_type_of_rfc_9209(row: Row) -> None:
    assert row.error.error_type in RFC_9209_TYPES


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.error.__name__)
def test_the_phrase_fits_a_status_line(row: Row) -> None:
    # Several may share one; it is all that a Go client shows of a refused CONNECT.
    phrase = row.error("").phrase
    assert phrase.isascii()
    assert phrase.isprintable()
    assert 0 < len(phrase) <= 40


@pytest.mark.parametrize(
    ("status", "on_connect"),
    [
        (400, 400),
        (401, 502),
        (402, 402),
        (403, 502),
        (404, 404),
        (407, 407),
        (421, 421),
        (502, 502),
        (503, 503),
    ],
)
def test_the_status_on_connect(status: int, on_connect: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors.ProxyInternalError, "status", status)
    assert errors.ProxyInternalError("").connect_status == on_connect


def test_an_instance_can_tell_more_than_its_class() -> None:
    error = errors.DnsError(
        "no such name",
        reason="no_such_name",
        phrase="No such name",
        outcome=failed(FailureKind.DNS),
        retry_after_s=7,
    )
    assert error.reason == "no_such_name"
    assert error.phrase == "No such name"
    assert error.outcome == failed(FailureKind.DNS)
    assert error.retry_after_s == 7
    untouched = errors.DnsError("the resolver failed")
    assert (untouched.reason, untouched.phrase) == ("dns_error", "Name not resolved")
    assert (untouched.outcome, untouched.retry_after_s) == (NEUTRAL, None)


def test_an_instance_can_be_told_to_retry_at_once() -> None:
    assert errors.ConnectionLimitReached("", retry_after_s=0).retry_after_s == 0


def test_an_instance_can_take_the_blame_from_the_upstream() -> None:
    assert errors.ConnectionTerminated("", outcome=NEUTRAL).outcome == NEUTRAL
