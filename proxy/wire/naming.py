"""How a request's target is named: on the proxy's port by the request itself, on the reverse port by routes.

What must not go on is refused here, before it costs anybody anything. Who has no token, where one is asked
for, is refused before the target is even looked at.
"""

from collections.abc import Callable, Sequence

from aiohttp import HttpVersion10

from proxy.core.errors import (
    AuthenticationRequired,
    HeadTooLarge,
    HttpRequestError,
    MaxForwardsReached,
    ProxyLoopDetected,
    TraceNotAnswered,
    VersionNotSupported,
)
from proxy.core.exchange import Entry
from proxy.core.headers import Framing, Head
from proxy.core.routes import Routes
from proxy.core.target import Target, from_absolute_form, from_authority_form, host_and_port, origin_form
from proxy.wire.call import Call

# Whose token the values of Proxy-Authorization give, or None.
Authenticate = Callable[[Sequence[bytes]], str | None]

_TUNNEL, _CHUNKED = Entry.TUNNEL, Framing.CHUNKED


class Naming:
    """Reads the head of a request, and says what it is for.

    Args:
        name: of this proxy; a request that has been here before bears it in its `Via`.
        max_head: bytes of a request's head, at most.
        routes: for the reverse port; None on the proxy's own.
        authenticate: asked before anything is said of the target; None lets everybody in.
    """

    def __init__(
        self,
        name: str,
        max_head: int,
        routes: Routes | None = None,
        authenticate: Authenticate | None = None,
    ) -> None:
        self._name = name.lower().encode("ascii")
        self._max_head = max_head
        self._routes = routes
        self._authenticate = authenticate

    def entry(self, method: str) -> Entry:
        """By which entry a request comes in."""
        if self._routes is not None:
            return Entry.REVERSE
        return Entry.TUNNEL if method == "CONNECT" else Entry.FORWARD

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
        target = exchange.target = call.target = self._target(call, exchange.entry)
        if head.has(b"via") and self._has_been_here(head):
            raise ProxyLoopDetected("the request has been through this proxy before")
        if head.has(b"max-forwards"):
            _stop_if_last(request.method, head)
        return target

    def _target(self, call: Call, entry: Entry) -> Target:
        request = call.request
        if self._routes is not None:
            return self._by_route(call, self._routes)
        if entry is _TUNNEL:
            if call.exchange.body.framing is not Framing.NONE:
                raise HttpRequestError("CONNECT has no content")
            return from_authority_form(request.raw_path)
        target = from_absolute_form(request.raw_path, request.method)
        if target.scheme != "http":
            raise HttpRequestError("https goes through CONNECT: set HTTPS_PROXY to the proxy's address too")
        return target

    def _by_route(self, call: Call, routes: Routes) -> Target:
        asked, method = call.request.raw_path, call.request.method
        if method == "CONNECT":
            raise HttpRequestError("CONNECT goes to listen.proxy: here are routes only")
        if asked == "*" or asked.startswith("/"):
            hosts = call.head.values(b"host")
            # RFC 9112 section 3.2: HTTP/1.0 clients may send no Host.
            authority = hosts[0].decode("latin-1") if hosts else ""
            host, port = host_and_port(authority, 80) if authority else ("", 80)
            return routes.target(host, port, asked if asked == "*" else origin_form(asked))
        # RFC 9112 section 3.2.2: a server MUST accept the absolute-form as well.
        absolute = from_absolute_form(asked, method)
        return routes.target(absolute.host, absolute.port, absolute.origin_form)

    def _has_been_here(self, head: Head) -> bool:
        # RFC 9110 section 7.6.3: [protocol "/"] version, then the name, then perhaps a comment.
        members = (option.split() for option in head.options(b"via"))
        return any(len(words) > 1 and words[1] == self._name for words in members)


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
