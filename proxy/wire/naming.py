"""How a request's target is named: by the request itself, by routes, or by the CONNECT that it is inside of.

What must not go on is refused here, before it costs anybody anything. Who has no token, where one is asked
for, is refused before the target is even looked at.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import HttpVersion10

from proxy.core.errors import (
    AuthenticationRequired,
    HeadTooLarge,
    HttpRequestError,
    MaxForwardsReached,
    MisdirectedRequest,
    ProxyLoopDetected,
    TraceNotAnswered,
    VersionNotSupported,
)
from proxy.core.exchange import Entry
from proxy.core.headers import Framing, Head
from proxy.core.routes import Routes
from proxy.core.target import (
    DEFAULT_PORTS,
    Target,
    from_absolute_form,
    from_authority_form,
    host_and_port,
    origin_form,
)
from proxy.wire.call import Call

# Whose token the values of Proxy-Authorization give, or None.
Authenticate = Callable[[Sequence[bytes]], str | None]

_FORWARD, _TUNNEL, _CHUNKED = Entry.FORWARD, Entry.TUNNEL, Framing.CHUNKED


class Names(Protocol):
    """How an entry names targets."""

    def entry(self, method: str) -> Entry:
        """By which entry a request with this method comes in."""

    def target(self, call: Call) -> Target:
        """What a request is for; its head has been read."""


class Naming:
    """Reads the head of a request, and says what it is for.

    Args:
        name: of this proxy; a request that has been here before bears it in its `Via`.
        max_head: bytes of a request's head, at most.
        names: how targets are named where the client has connected.
        authenticate: asked before anything is said of the target; None lets everybody in.
    """

    def __init__(
        self, name: str, max_head: int, names: Names, authenticate: Authenticate | None = None
    ) -> None:
        self._name = name.lower().encode("ascii")
        self._max_head = max_head
        self._names = names
        self._authenticate = authenticate
        self.entry = names.entry

    def name(self, call: Call) -> Target:
        """What the request is for.

        Raises:
            HttpRequestError: 4xx or 505, the request is at fault.
            AuthenticationRequired: 407.
            DestinationNotFound: 404, no route fits.
            ProxyLoopDetected: 502.
            MaxForwardsReached: 200 or 405, the request was meant for us.
        """
        request, exchange = call.request, call.exchange
        if not call.is_http_1_1 and request.version != HttpVersion10:
            raise VersionNotSupported("the request is neither HTTP/1.0 nor HTTP/1.1")
        head = call.head = Head(request.raw_headers)
        # aiohttp bounds each field, and their number.
        if len(request.raw_path) + head.size > self._max_head:
            raise HeadTooLarge("the head of the request exceeds limits.max_head")
        exchange.body = head.request_body(http_1_1=call.is_http_1_1)
        call.client.head_is_read(is_chunked=exchange.body.framing is _CHUNKED)
        if self._authenticate is not None:
            exchange.client_name = _authenticated(head, self._authenticate)
        target = exchange.target = self._names.target(call)
        if head.has(b"via") and self._has_been_here(head):
            raise ProxyLoopDetected("the request has been through this proxy before")
        if head.has(b"max-forwards"):
            _stop_if_last(request.method, head)
        return target

    def inside(self, connect: Call, scheme: str, *, is_misdirected: bool = False) -> "Naming":
        """For the requests inside of a CONNECT; whoever was let in for that is in.

        Args:
            connect: the CONNECT.
            scheme: `http` or `https`.
            is_misdirected: whether the client has asked for another server in its TLS than in its CONNECT.
        """
        client_name = connect.exchange.client_name
        authenticate = None if client_name is None else lambda _: client_name
        names = InsideConnect(connect.target, scheme, is_misdirected=is_misdirected)
        return Naming(self._name.decode("ascii"), self._max_head, names, authenticate)

    def _has_been_here(self, head: Head) -> bool:
        # RFC 9110 section 7.6.3: [protocol "/"] version, then the name, then perhaps a comment.
        members = (option.split() for option in head.options(b"via"))
        return any(len(words) > 1 and words[1] == self._name for words in members)


class ByRequest:
    """On the proxy's own port the request says it itself: in absolute-form, or by CONNECT."""

    def entry(self, method: str) -> Entry:
        """By which entry a request with this method comes in."""
        return _TUNNEL if method == "CONNECT" else _FORWARD

    def target(self, call: Call) -> Target:
        """What the request is for.

        Raises:
            HttpRequestError: 400.
        """
        request = call.request
        if call.exchange.entry is _TUNNEL:
            if call.exchange.body.framing is not Framing.NONE:
                raise HttpRequestError("CONNECT has no content")
            return from_authority_form(request.raw_path)
        return from_absolute_form(request.raw_path, request.method)


class ByRoute:
    """On the reverse port routes say it, by what the request would name at an ordinary server.

    Attributes:
        routes: all there are; may be replaced.
    """

    def __init__(self) -> None:
        self.routes = Routes(())

    def entry(self, method: str) -> Entry:  # noqa: ARG002 -- all come in by this one
        """By which entry a request comes in."""
        return Entry.REVERSE

    def target(self, call: Call) -> Target:
        """What the request is for.

        Raises:
            HttpRequestError: 400.
            DestinationNotFound: 404, no route fits.
        """
        if call.request.method == "CONNECT":
            raise HttpRequestError("CONNECT goes to listen.proxy: here are routes only")
        asked = _asked(call, "http")
        return self.routes.target(asked.host, asked.port, asked.origin_form)


class InsideConnect:
    """Inside of a CONNECT that has said it already; what is inside must not say otherwise.

    Args:
        connect: what the CONNECT was for.
        scheme: `http` or `https`.
        is_misdirected: whether the client has asked for another server in its TLS.
    """

    def __init__(self, connect: Target, scheme: str, *, is_misdirected: bool) -> None:
        self._connect = connect
        self._scheme = scheme
        self._is_misdirected = is_misdirected
        self._entry = Entry.INTERCEPTED if scheme == "https" else _FORWARD

    def entry(self, method: str) -> Entry:  # noqa: ARG002 -- all come in by this one
        """By which entry a request comes in."""
        return self._entry

    def target(self, call: Call) -> Target:
        """What the request is for.

        Raises:
            HttpRequestError: 400, 421.
        """
        if call.request.method == "CONNECT":
            raise HttpRequestError("a CONNECT inside of a CONNECT: one level only")
        connect, scheme = self._connect, self._scheme
        if self._is_misdirected:
            raise MisdirectedRequest(
                "the client asked for another server in its TLS (SNI) than in its CONNECT"
            )
        asked = _asked(call, scheme)
        if not asked.host:
            authority = connect.authority.removesuffix(f":{DEFAULT_PORTS[scheme]}")
            return asked._replace(host=connect.host, port=connect.port, authority=authority)
        if (asked.scheme, asked.host, asked.port) != (scheme, connect.host, connect.port):
            raise MisdirectedRequest("the request is for another scheme, host or port than its CONNECT")
        return asked


def _asked(call: Call, scheme: str) -> Target:
    """What a request names at a server; the host is empty if it names none."""
    asked = call.request.raw_path
    if asked != "*" and not asked.startswith("/"):
        # RFC 9112 section 3.2.2: a server MUST accept the absolute-form as well.
        return from_absolute_form(asked, call.request.method)
    hosts = call.head.values(b"host")
    # RFC 9112 section 3.2: HTTP/1.0 clients may send no Host.
    authority = hosts[0].decode("latin-1") if hosts else ""
    default = DEFAULT_PORTS[scheme]
    host, port = host_and_port(authority, default) if authority else ("", default)
    return Target(scheme, host, port, asked if asked == "*" else origin_form(asked), authority)


def _authenticated(head: Head, authenticate: Authenticate) -> str:
    """Whose token the client has given; a refusal does not tell what is wrong, so not which names exist."""
    name = authenticate(head.values(b"proxy-authorization"))
    if name is None:
        raise AuthenticationRequired("the proxy wants a name and a token (Proxy-Authorization: Basic)")
    return name


def _stop_if_last(method: str, head: Head) -> None:
    """RFC 9110 section 7.6.2: a request that has come as far as it may is answered by whoever has it."""
    if method in {"OPTIONS", "TRACE"} and any(
        value and not value.strip(b"0") for value in head.values(b"max-forwards")
    ):
        if method == "TRACE":
            raise TraceNotAnswered("Max-Forwards ends here, and a proxy does not reflect what it is sent")
        raise MaxForwardsReached("Max-Forwards ends here")
