"""One request forwarded: its head and content upstream, the response back, both streamed.

Head and first content go out in one write on both legs, since system calls are what costs. What the heads say
is in `wire/heads.py`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from proxy.core.errors import HttpRequestError
from proxy.core.exchange import FOREVER, Awaited, Exchange, Source
from proxy.core.headers import Body, Fields, Framing, end_to_end
from proxy.core.permit import Permit
from proxy.core.policies import UpstreamPolicy
from proxy.core.policy import Limits, Timeouts
from proxy.core.retry_after import retry_after_at
from proxy.core.target import Target
from proxy.wire.heads import Heads
from proxy.wire.listener import CLOSE, KEEP
from proxy.wire.parser import ResponseHead
from proxy.wire.pool import Pool
from proxy.wire.upstream import UpstreamConnection

_LAST_CHUNK = b"0\r\n\r\n"


class Forwarding:
    """Carries requests to upstreams and responses back.

    Args:
        pool: lends connections.
        clock: monotonic seconds.
        limits: `max_head` and `max_fields`.
        heads: makes the heads that go out.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float], limits: Limits, heads: Heads) -> None:
        self._pool = pool
        self._clock = clock
        self._limits = limits
        self._heads = heads

    async def carry(
        self,
        exchange: Exchange,
        target: Target,
        policy: UpstreamPolicy,
        request: web.BaseRequest,
        permit: Permit,
    ) -> web.StreamResponse:
        """Forwards one request and relays its response.

        Raises:
            ProxyError: what went wrong; if `exchange.begun`, the response can only be cut.
        """
        with await self._pool.connect(exchange, target, policy.timeouts) as upstream:
            permit.connected(self._clock())
            upstream.begin(request.method, self._limits.max_head, self._limits.max_fields)
            relay = _Relay(exchange, request, upstream, permit, policy.timeouts, self._clock, self._heads)
            # The field that tells the endpoint is meant for us.
            ours = policy.circuit.key.header.encode("ascii")
            return await relay.run(self._heads.request(target, request, exchange.body, ours))


@dataclass(slots=True)
class _Relay:
    """One exchange on one connection: the request on its way up, the response on its way down."""

    exchange: Exchange
    request: web.BaseRequest
    upstream: UpstreamConnection
    permit: Permit
    timeouts: Timeouts
    clock: Callable[[], float]
    heads: Heads
    expects_continue: bool = False
    body_idle_s: float = FOREVER

    def __post_init__(self) -> None:
        self.body_idle_s = self.timeouts.body_idle

    async def run(self, head: bytes) -> web.StreamResponse:
        """Sends the request, and answers with its response."""
        exchange, request = self.exchange, self.request
        body = exchange.body
        piece = b"" if body.framing is Framing.NONE else request.content.read_nowait(-1)
        exchange.request_bytes = len(piece)
        whole = body.framing is Framing.NONE or request.content.at_eof()
        self.upstream.write(head + _framed(piece, body, last=whole))
        if whole:
            self.upstream.request_sent()
            self._await_next()
            return await self._respond()
        self.expects_continue = not piece and _expects_continue(request)
        self._await_next()
        try:
            async with asyncio.TaskGroup() as both:
                sending = both.create_task(self._send())
                answer = await self._respond()
                # A response that is complete makes the rest of the request pointless.
                sending.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return answer

    async def _send(self) -> None:
        """Passes the rest of the content on, as the client sends it and as the upstream takes it."""
        exchange, upstream, content = self.exchange, self.upstream, self.request.content
        while not content.at_eof():
            try:
                piece = await content.readany()
            except (RequestPayloadError, HttpProcessingError) as error:
                # Only aiohttp's parser in Python says so; the one in C leaves the content waiting, so that
                # malformed chunks end by the deadline of the client, who owes the next well-formed one.
                raise HttpRequestError("the content of the request is malformed") from error
            except OSError:
                # The client is gone; the exchange is being cancelled.
                return
            if upstream.is_lost:
                # What the upstream has answered, or not, tells why.
                return
            self.expects_continue = False
            exchange.request_bytes += len(piece)
            if piece:
                upstream.write(_framed(piece, exchange.body, last=False))
            if upstream.writing_paused:
                self._await_next()
                await upstream.drain()
            if upstream.has_taken_all:
                exchange.upstream_took(self.clock())
            self._await_next()
        if exchange.body.framing is Framing.CHUNKED:
            upstream.write(_LAST_CHUNK)
        upstream.request_sent()
        self._await_next()

    def _await_next(self) -> None:
        """Says who owes the next move, from how far both directions have come."""
        if self.upstream.has_whole_request:
            if self.exchange.begun:
                self.exchange.wait_for(Awaited.RESPONSE_CONTENT, self.body_idle_s, self.clock())
            else:
                self.exchange.wait_for(Awaited.RESPONSE_HEAD, self.timeouts.head, self.clock())
        elif self.upstream.writing_paused:
            self.exchange.wait_for(Awaited.UPSTREAM_WINDOW, self.timeouts.head, self.clock())
        elif self.expects_continue:
            # RFC 9110 section 10.1.1: the client may wait for the upstream's 100, so the upstream owes.
            self.exchange.wait_for(Awaited.RESPONSE_HEAD, self.timeouts.head, self.clock())
        else:
            self.exchange.wait_for(Awaited.REQUEST_CONTENT, self.timeouts.body_idle, self.clock())

    async def _respond(self) -> web.StreamResponse:
        exchange, request, upstream = self.exchange, self.request, self.upstream
        asked = self.clock()
        while (head := await upstream.next_head()).status < 200:  # noqa: PLR2004 -- RFC 9110 section 15.2
            await self._relay_interim(head)
        arrived = self.clock()
        exchange.head_s = arrived - asked
        exchange.status = head.status
        exchange.source = Source.UPSTREAM
        exchange.outcome = self.permit.head(head.status, _retry_after_at(head, arrived), arrived)

        body = _body_for_client(head.body, request)
        # An unfinished request leaves bytes on the connection that no later request can follow.
        keep = (
            body.framing is not Framing.CLOSE
            and request.keep_alive
            and request.version == HttpVersion11
            and request.content.at_eof()
        )
        piece = upstream.take()
        complete = upstream.response.complete
        exchange.response_bytes = len(piece)
        exchange.begun = True
        exchange.ends_by_close = body.framing is Framing.CLOSE
        _write(request, self.heads.response(head, body, keep=keep) + _framed(piece, body, last=complete))
        if _is_event_stream(head.fields):
            # Its silence and its client's leaving are how it lives and ends: it is judged at the head.
            self.permit.settle(exchange.outcome, arrived)
            self.body_idle_s = FOREVER
        while not complete:
            await self._drain()
            self._await_next()
            piece = await upstream.content()
            complete = upstream.response.complete
            exchange.response_bytes += len(piece)
            _write(request, _framed(piece, body, last=complete))
        self.permit.settle(exchange.outcome, self.clock())
        # The next answer on this connection must not pile up behind one that is not read.
        await self._drain()
        exchange.wait_over(self.clock())
        return KEEP if keep else CLOSE

    async def _relay_interim(self, head: ResponseHead) -> None:
        """Passes a 1xx on (RFC 9110 section 15.2: "MUST forward"; not to HTTP/1.0 clients)."""
        if self.request.version == HttpVersion11:
            _write(self.request, self.heads.interim(head))
            await self._drain()
        if head.status == 100:  # noqa: PLR2004 -- RFC 9110 section 15.2.1
            self.expects_continue = False
        self._await_next()

    async def _drain(self) -> None:
        if self.request.protocol.writing_paused:
            self.exchange.wait_for(Awaited.CLIENT_WINDOW, self.timeouts.body_idle, self.clock())
            await self.request.writer.drain()


def _expects_continue(request: web.BaseRequest) -> bool:
    """Whether the upstream is asked for a 100; an `Expect` that Connection names goes no further than us."""
    return "Expect" in request.headers and any(
        name.lower() == b"expect" and value.lower() == b"100-continue"
        for name, value in end_to_end(request.raw_headers)
    )


def _retry_after_at(head: ResponseHead, now: float) -> float | None:
    """When the upstream wants to be called again; a success does not say so."""
    if head.status < 300:  # noqa: PLR2004 -- RFC 9110 section 10.2.3 names 503, 429 and redirections
        return None
    wish = date = None
    for name, value in head.fields:
        lower = name.lower()
        if lower == b"retry-after":
            wish = value
        elif lower == b"date":
            date = value
    return None if wish is None else retry_after_at(wish, date, now)


def _write(request: web.BaseRequest, out: bytes) -> None:
    # A client that has left has no transport any more; its exchange is about to be cancelled.
    if out and request.transport is not None:
        request.transport.write(out)


def _framed(piece: bytes, body: Body, *, last: bool) -> bytes:
    if body.framing is not Framing.CHUNKED:
        return piece
    chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
    return chunk + _LAST_CHUNK if last else chunk


def _body_for_client(body: Body, request: web.BaseRequest) -> Body:
    """How the client learns where the response ends (RFC 9112 section 6.1: no chunks for HTTP/1.0)."""
    if body.framing is Framing.CLOSE and request.version != HttpVersion10:
        return Body(Framing.CHUNKED)
    if body.framing is Framing.CHUNKED and request.version == HttpVersion10:
        return Body(Framing.CLOSE)
    return body


def _is_event_stream(fields: Fields) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in fields
    )
