"""Everything that can go wrong with an exchange, as one tree.

Each class is an error type of RFC 9209 section 2.3, its name in CamelCase. The token serves the
`Proxy-Status` field, the log, the metric label and the docs. A class says what the client is told (status)
and what it means for the circuit (`outcome`); an instance adds the reason token and the details.

Details are for the client and the operator: never a query string, a path or a credential.
"""

import re
from typing import ClassVar

from proxy.core.outcome import NEUTRAL, FailureKind, Outcome, failed


class ProxyError(Exception):
    """An exchange that ends with an answer of our own, or a cut one.

    Attributes:
        error_type: the token of RFC 9209.
        status: the status of the answer; `connect_status` where CONNECT differs.
        reason: the token of `X-Breaker-Reason`; it equals the type unless a more telling one exists.
        phrase: the reason phrase, short (Go's clients show nothing else of a refused CONNECT).
        outcome: what this says of the upstream's health.
        retry_after_s: whole seconds for `Retry-After`, or None.
        keeps_alive: whether the client's connection may live on behind the answer.
        refused: whether a circuit or a limit turned the exchange away before it cost anything; such an
            answer gets no line in the log.
        denies: whether the request itself is not wanted, by its form, by a rule, by where it leads or for
            want of room; such answers are counted by their reasons.
    """

    error_type: ClassVar[str] = ""
    default_reason: ClassVar[str] = ""
    keeps_alive: ClassVar[bool] = True
    refused: ClassVar[bool] = False
    denies: ClassVar[bool] = False
    status: ClassVar[int] = 502
    retry_after_s: int | None = None
    phrase: str = "Bad gateway"
    outcome: Outcome = NEUTRAL

    def __init__(
        self,
        details: str,
        *,
        reason: str | None = None,
        phrase: str | None = None,
        outcome: Outcome | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(details)
        self.details = details
        self.reason = reason or self.default_reason or self.error_type
        if phrase is not None:
            self.phrase = phrase
        if outcome is not None:
            self.outcome = outcome
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s

    def __init_subclass__(cls) -> None:
        # The direct subclasses are the types; those below them refine one with a status and a reason.
        if ProxyError in cls.__bases__:
            cls.error_type = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def connect_status(self) -> int:
        """The status where the request was a CONNECT.

        401 and 403 make some dispatchers take the proxy for broken and deliver again for ever, so they
        become 502 there.
        """
        return 502 if self.status in (401, 403) else self.status


class DestinationUnavailable(ProxyError):
    """503: the circuit lets no call through now."""

    status = 503
    phrase = "Circuit open"
    refused = True


class AnswerPassedOver(DestinationUnavailable):
    """A failing answer that no client sees, since its request goes elsewhere (`fallback.on: failure`)."""

    refused = False


class ConnectionLimitReached(ProxyError):
    """503: a limit of our own; it says nothing of the upstream."""

    status = 503
    phrase = "Local limit reached"
    retry_after_s = 1
    refused = True


class LocalLimit(ConnectionLimitReached):
    """503: what is full is ours, and not one circuit's: connections, tunnels, descriptors, names."""

    denies = True
    default_reason = "local_limit"


class DnsError(ProxyError):
    """502: the name does not exist (a failure of the upstream), or the resolver failed (neutral)."""

    phrase = "Name not resolved"


class DnsTimeout(ProxyError):
    """504: the resolver did not answer in time."""

    status = 504
    phrase = "Name resolution timed out"


class DestinationNotFound(ProxyError):
    """404: no route of `routes:` fits the request."""

    status = 404
    denies = True
    default_reason = "no_route"
    phrase = "No route"


class HttpRequestDenied(ProxyError):
    """403, 502 on CONNECT: a rule of the configuration forbids the request (`host_denied`, `port_denied`)."""

    status = 403
    phrase = "Denied"
    denies = True


class AuthenticationRequired(HttpRequestDenied):
    """407: the request has no credentials, or wrong ones (RFC 9110 section 11.7)."""

    status = 407
    default_reason = "authentication_required"
    phrase = "Proxy authentication required"


class DestinationIpProhibited(ProxyError):
    """502: the address of the upstream may not be called.

    It never counts against the upstream: whoever sends a dispatcher somewhere it must not go has not shown
    that the upstream is sick. The answer is the same whether anything is there or not.
    """

    default_reason = "address_denied"
    phrase = "Address denied"
    denies = True


class ProxyLoopDetected(ProxyError):
    """502: the request has been through this very proxy, as its `Via` says (RFC 9110 section 7.6.3)."""

    phrase = "Proxy loop"
    denies = True


class ConnectionRefused(ProxyError):
    """502: nothing listens at the upstream's address."""

    phrase = "Connection refused"
    outcome = failed(FailureKind.REFUSED)


class DestinationIpUnroutable(ProxyError):
    """502: there is no way to the upstream's address."""

    phrase = "Upstream unreachable"
    outcome = failed(FailureKind.UNREACHABLE)


class ConnectionTimeout(ProxyError):
    """504: the upstream did not accept a connection in time."""

    status = 504
    phrase = "Connection timed out"
    outcome = failed(FailureKind.CONNECT_TIMEOUT)


class TlsProtocolError(ProxyError):
    """502: TLS with the upstream failed: it speaks none, or no version or cipher that both know."""

    phrase = "TLS failed"
    outcome = failed(FailureKind.TLS)


class TlsCertificateError(ProxyError):
    """502: the certificate of the upstream is not valid for it: expired, self-signed, for another name."""

    phrase = "Upstream certificate invalid"
    outcome = failed(FailureKind.TLS)


class TlsAlertReceived(ProxyError):
    """502: the upstream ended the TLS handshake with an alert."""

    phrase = "TLS refused by the upstream"
    outcome = failed(FailureKind.TLS)


class ConnectionTerminated(ProxyError):
    """502: the upstream closed the connection before a whole head of a response."""

    phrase = "Upstream closed the connection"
    outcome = failed(FailureKind.RESET)


class KeptAliveClosed(ConnectionTerminated):
    """502: a kept-alive connection was closed as the request went out, which says nothing of the upstream.

    RFC 9112 section 9.5: an idle connection may be closed at any time.
    """

    outcome = NEUTRAL


class ConnectionReadTimeout(ProxyError):
    """The upstream fell silent in the middle of a response; the response is cut."""

    status = 504
    phrase = "Upstream fell silent"
    outcome = failed(FailureKind.TRUNCATED)


class ConnectionWriteTimeout(ProxyError):
    """504: the upstream took none of the content we had for it."""

    status = 504
    phrase = "Upstream stopped reading"
    outcome = failed(FailureKind.RESPONSE_TIMEOUT)


class HttpRequestError(ProxyError):
    """4xx: the request itself is at fault; the connection closes behind the answer."""

    status = 400
    keeps_alive = False
    denies = True
    default_reason = "bad_request"
    phrase = "Bad request"


class UnknownCoding(HttpRequestError):
    """501: the request has a transfer coding other than chunked (RFC 9112 section 6.1)."""

    status = 501
    default_reason = "unknown_coding"
    phrase = "Unknown transfer coding"


class HeadTooLarge(HttpRequestError):
    """431: the head of the request is larger than `limits.max_head`."""

    status = 431
    default_reason = "head_too_large"
    phrase = "Request head too large"


class TargetTooLong(HttpRequestError):
    """414: the request-target is longer than `limits.max_head`."""

    status = 414
    default_reason = "target_too_long"
    phrase = "Request target too long"


class VersionNotSupported(HttpRequestError):
    """505: the request is neither HTTP/1.0 nor HTTP/1.1."""

    status = 505
    default_reason = "unknown_version"
    phrase = "HTTP version not supported"


class NotAProxyRequest(HttpRequestError):
    """400: an origin-form request on the proxy port."""

    default_reason = "not_a_proxy_request"
    phrase = "Not a proxy request"


class MisdirectedRequest(HttpRequestError):
    """421: a request inside of a CONNECT is for another authority than that (RFC 9110 section 15.5.20)."""

    status = 421
    default_reason = "misdirected_request"
    phrase = "Misdirected request"


class ClientTlsFailed(HttpRequestError):
    """The client's TLS came to nothing where it was to be intercepted; it is closed, nothing can be said."""

    default_reason = "client_tls_failed"
    phrase = "Client TLS failed"


class ClientTlsClosed(ClientTlsFailed):
    """The client closed the connection in its TLS handshake; some say so that they do not trust the CA."""


class CaNotTrusted(ClientTlsFailed):
    """The client does not accept the certificate that the proxy has made for the upstream."""

    default_reason = "ca_not_trusted"


class ClientTimeout(HttpRequestError):
    """408: the client owed the next move for too long."""

    status = 408
    default_reason = "client_timeout"
    phrase = "Client timed out"


class HttpResponseTimeout(ProxyError):
    """504: no head of a response in time."""

    status = 504
    phrase = "Upstream did not answer in time"
    outcome = failed(FailureKind.RESPONSE_TIMEOUT)


class HttpResponseIncomplete(ProxyError):
    """502: the response ended before its content did; once begun, it is cut for the client as well."""

    phrase = "Incomplete response"
    outcome = failed(FailureKind.TRUNCATED)


class HttpResponseTransferCoding(ProxyError):
    """502: the response uses a transfer coding other than chunked."""

    phrase = "Unknown transfer coding"
    outcome = failed(FailureKind.MALFORMED)


class HttpResponseHeaderSectionSize(ProxyError):
    """502: the head of the response is larger than `limits.max_head`."""

    phrase = "Response head too large"
    outcome = failed(FailureKind.MALFORMED)


class HttpProtocolError(ProxyError):
    """502: the response breaks the rules of HTTP/1.1."""

    phrase = "Malformed response"
    outcome = failed(FailureKind.MALFORMED)


class ProxyInternalResponse(ProxyError):
    """An answer that is ours to give, without asking an upstream."""


class Draining(ProxyInternalResponse):
    """503: the proxy is going away.

    Attributes:
        was_idle: whether nothing is lost by that, as far as anybody can see: a tunnel without a byte lately.
    """

    was_idle: bool = False
    status = 503
    keeps_alive = False
    default_reason = "draining"
    phrase = "Proxy is draining"
    retry_after_s = 1


class MaxForwardsReached(ProxyInternalResponse):
    """200: an OPTIONS that was to come this far and no further (RFC 9110 section 7.6.2)."""

    status = 200
    default_reason = "max_forwards"
    phrase = "OK"


class TraceNotAnswered(MaxForwardsReached):
    """405: a TRACE that was to come this far. It is not reflected: its fields may hold credentials."""

    status = 405
    phrase = "Method not allowed"


class ProxyInternalError(ProxyError):
    """500: a fault of our own."""

    status = 500
    default_reason = "internal_error"
    phrase = "Internal error"
