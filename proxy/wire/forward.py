"""One request forwarded: its head and content upstream, the response back, both streamed.

Head and first content go out in one write on both legs, since system calls are what costs. What the heads say
is in `wire/heads.py`.
"""

import asyncio
from collections.abc import Callable

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from proxy.core.errors import AnswerPassedOver, HttpRequestError, KeptAliveClosed
from proxy.core.exchange import Awaited, Source
from proxy.core.headers import Body, Framing
from proxy.core.outcome import Verdict
from proxy.core.policy import Limits
from proxy.wire.call import Call
from proxy.wire.fallbacks import Fallbacks
from proxy.wire.framing import body_for_client, framed
from proxy.wire.heads import Heads
from proxy.wire.parser import ResponseHead
from proxy.wire.pool import Pool
from proxy.wire.tunnels import Tunnels
from proxy.wire.upstream import UpstreamConnection
from proxy.wire.written import CLOSE, KEEP, LINGER

# RFC 9110 section 9.2.2: methods that may be sent again without asking, as their effect is the same.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
# So much content is kept for a second try.
_MAX_REPLAYED = 64 * 1024
_LAST_CHUNK = b"0\r\n\r\n"
_SWITCHING_PROTOCOLS = 101
# Members are looked up on their class in Python; these are read in every exchange.
_NONE, _CHUNKED, _CLOSE = Framing.NONE, Framing.CHUNKED, Framing.CLOSE
_BY_UPSTREAM, _FAILURE = Source.UPSTREAM, Verdict.FAILURE
_RESPONSE_HEAD, _RESPONSE_CONTENT = Awaited.RESPONSE_HEAD, Awaited.RESPONSE_CONTENT


class Forwarding:
    """Carries requests to upstreams and responses back.

    Args:
        pool: lends connections.
        tunnels: carry what has become a WebSocket.
        fallbacks: where what has failed may go instead.
        clock: monotonic seconds.
    """

    def __init__(
        self, pool: Pool, tunnels: Tunnels, fallbacks: Fallbacks, clock: Callable[[], float]
    ) -> None:
        self.pool = pool
        self.tunnels = tunnels
        self.fallbacks = fallbacks
        self.clock = clock

    def configure(self, limits: Limits, heads: Heads) -> None:
        """Goes on with `max_head` and `max_fields`, and these heads; an exchange under way keeps its own."""
        self.limits = limits
        self.heads = heads

    async def carry(self, call: Call) -> web.StreamResponse:
        """Forwards one request and relays its response.

        Raises:
            ProxyError: what went wrong; if `exchange.begun`, the response can only be cut.
        """
        relay = _Relay(self, call)
        upstream = self.pool.take(call.exchange, call.target, call.policy, self.clock())
        if upstream is not None:
            try:
                with upstream:
                    return await relay.run(upstream)
            except KeptAliveClosed:
                # RFC 9110 section 9.2.2 and RFC 9112 section 9.3.1: what may be repeated is, once.
                if not relay.may_repeat:
                    raise
        with await self.pool.dial(call.exchange, call.target, call.policy) as upstream:
            return await relay.run(upstream)


class _Relay:
    """One exchange: the request on its way up, the response on its way down."""

    __slots__ = (
        "_by", "_call", "_expects_continue", "_first", "_heads", "_is_draining", "_more", "_sent",
        "_silence_s", "_upstream", "_whole",
    )  # fmt: skip

    _upstream: UpstreamConnection

    def __init__(self, by: Forwarding, call: Call) -> None:
        self._by = by
        self._call = call
        content, body = call.request.content, call.exchange.body
        self._sent = 0
        self._heads = by.heads
        self._first = by.heads.request(call)
        self._whole = True
        self._is_draining = False
        # How long the upstream may be silent within its content.
        self._silence_s = call.policy.timeouts.body_idle
        self._expects_continue = False
        # What has been sent behind the first piece; None if it is not kept for a second try.
        self._more: bytearray | None = bytearray() if call.request.method in _IDEMPOTENT else None
        # What an attempt elsewhere has read comes first.
        before, call.taken = call.taken, bytearray() if by.fallbacks.may_redirect(call) else None
        if body.framing is not _NONE:
            piece = content.read_nowait(-1)
            if before:
                piece = bytes(before) + piece
            call.keep(piece)
            call.exchange.request_bytes = self._sent = len(piece)
            self._whole = content.at_eof()
            self._first += framed(piece, body)
            if self._whole and body.framing is _CHUNKED:
                self._first += _LAST_CHUNK
            self._expects_continue = not piece and not self._whole and call.head.expects_continue

    @property
    def may_repeat(self) -> bool:
        """Whether the request may be sent once more: its method allows it, and all of its content is kept."""
        return self._more is not None and self._sent <= _MAX_REPLAYED

    async def run(self, upstream: UpstreamConnection) -> web.StreamResponse:
        """Sends the request, and answers with its response."""
        by, call = self._by, self._call
        now = by.clock()
        call.permit.connected(now)
        self._upstream = upstream
        limits = by.limits
        upstream.begin(call.request.method, limits.max_head, limits.max_fields, may_switch=call.upgrades)
        upstream.write(self._first)
        if self._more:
            upstream.write(bytes(self._more))
        if not upstream.reused:
            self._more = None
        if self._more is None:
            self._first = b""
        if self._whole:
            upstream.request_sent()
            call.exchange.wait_for(_RESPONSE_HEAD, call.policy.timeouts.head, now)
            return await self._respond(now)
        self._await_next(now)
        try:
            async with asyncio.TaskGroup() as both:
                sending = both.create_task(self._send())
                answer = await self._respond(now)
                # A response that is complete makes the rest of the request pointless.
                sending.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return answer

    async def _send(self) -> None:
        """Passes the rest of the content on, as the client sends it and as the upstream takes it."""
        exchange, upstream, content = self._call.exchange, self._upstream, self._call.request.content
        clock = self._by.clock
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
            if piece:
                self._pass_on(piece)
            del piece
            if upstream.is_lost:
                # What the upstream has answered, or not, tells why.
                return
            if upstream.writing_paused:
                self._await_next(clock())
                await self._hold_back(content)
            now = clock()
            if upstream.has_taken_all:
                exchange.upstream_took(now)
            self._await_next(now)
        if exchange.body.framing is _CHUNKED:
            self._write(_LAST_CHUNK)
        upstream.request_sent()
        self._whole = True
        self._await_next(clock())

    async def _hold_back(self, content: StreamReader) -> None:
        """Waits until the upstream takes more; what the client still has to send stays where it is."""
        # Of one who has sent all, aiohttp's parser has nothing to pause, and asserts that.
        is_coming = not content.is_eof()
        if is_coming:
            self._call.client.pause_reading()
        try:
            await self._upstream.drain()
        finally:
            # However that ends: the content may have to go elsewhere.
            if is_coming:
                self._call.client.resume_reading()

    def _pass_on(self, piece: bytes) -> None:
        exchange = self._call.exchange
        self._expects_continue = False
        self._call.keep(piece)
        exchange.request_bytes += len(piece)
        self._sent += len(piece)
        if self._sent > _MAX_REPLAYED:
            self._more = None
            self._first = b""
        self._write(framed(piece, exchange.body))

    def _write(self, part: bytes) -> None:
        if self._more is not None:
            self._more += part
        self._upstream.write(part)

    def _await_next(self, now: float) -> None:
        """Says who owes the next move, from how far both directions have come."""
        if self._is_draining:
            # The client owes, whatever the other direction does.
            return
        exchange, timeouts, upstream = self._call.exchange, self._call.policy.timeouts, self._upstream
        if upstream.has_whole_request:
            if exchange.begun:
                exchange.wait_for(_RESPONSE_CONTENT, self._silence_s, now)
            else:
                exchange.wait_for(_RESPONSE_HEAD, timeouts.head, now)
        elif upstream.writing_paused:
            exchange.wait_for(Awaited.UPSTREAM_WINDOW, timeouts.head, now)
        elif self._expects_continue:
            # RFC 9110 section 10.1.1: the client may wait for the upstream's 100, so the upstream owes.
            exchange.wait_for(_RESPONSE_HEAD, timeouts.head, now)
        else:
            exchange.wait_for(Awaited.REQUEST_CONTENT, timeouts.body_idle, now)

    async def _respond(self, asked: float) -> web.StreamResponse:
        """Relays the response from its first interim head to its end."""
        by, call, upstream = self._by, self._call, self._upstream
        exchange, permit, response = call.exchange, call.permit, upstream.response
        while (head := await upstream.next_head()).status < 200 and head.status != _SWITCHING_PROTOCOLS:  # noqa: PLR2004 -- RFC 9110 section 15.2
            await self._relay_interim(head)
        now = by.clock()
        exchange.head_s = now - asked
        exchange.status = head.status
        exchange.source = _BY_UPSTREAM
        exchange.outcome = permit.head(head.status, head.retry_after_at(now), now)
        if call.taken is not None and exchange.outcome.verdict is _FAILURE:
            permit.settle(exchange.outcome, now)
            raise AnswerPassedOver(f"the upstream answered {head.status}", reason="failing_status")
        if head.status == _SWITCHING_PROTOCOLS:
            return await self._switch(head, now)
        body = body_for_client(head.body, call)
        keep = body.framing is not _CLOSE and call.may_follow
        piece = upstream.take()
        exchange.response_bytes = len(piece)
        exchange.begun = True
        exchange.ends_by_close = body.framing is _CLOSE
        out = self._heads.response(head, body, keep=keep, fell_back_for=exchange.fell_back_for)
        if response.complete:
            # The rest is our own doing.
            exchange.wait_over(now)
            self._answer(out + self._end(piece, body))
        else:
            self._answer(out + framed(piece, body))
            # What has been written must not be held for as long as the rest takes.
            del piece, out
            await self._relay_content(body, now)
        now = by.clock()
        permit.settle(exchange.outcome, now)
        if call.client.writing_paused:
            # The next answer on this connection must not pile up behind one that is not read.
            await self._drain()
            now = by.clock()
        exchange.wait_over(now)
        if keep:
            return KEEP
        return LINGER if call.may_send_on else CLOSE

    async def _relay_content(self, body: Body, now: float) -> None:
        """Passes the content on that has not arrived together with the head."""
        by, call, upstream = self._by, self._call, self._upstream
        exchange, response = call.exchange, upstream.response
        if response.head is not None and response.head.is_event_stream:
            # Its silence and its client's leaving are how it lives and ends: it is judged at the head.
            call.permit.settle(exchange.outcome, now)
            self._silence_s = call.policy.timeouts.tunnel_idle
        complete = False
        while not complete:
            if call.client.writing_paused:
                await self._drain()
            if not upstream.is_lost:
                # If it is, that came of what was awaited so far.
                self._await_next(by.clock())
            piece = await upstream.content()
            complete = response.complete
            exchange.response_bytes += len(piece)
            self._answer(self._end(piece, body) if complete else framed(piece, body))
            del piece

    async def _relay_interim(self, head: ResponseHead) -> None:
        """Passes a 1xx on (RFC 9110 section 15.2: "MUST forward"; not to HTTP/1.0 clients)."""
        call = self._call
        awaits_anew = head.status == 100  # noqa: PLR2004 -- RFC 9110 section 15.2.1
        if awaits_anew:
            self._expects_continue = False
        if call.is_http_1_1:
            # The client has had something of this upstream.
            call.taken = None
            self._answer(self._heads.interim(head))
            if call.client.writing_paused:
                await self._drain()
                awaits_anew = True
        if awaits_anew:
            # Other interim responses are no answer: the upstream owes its head since it has owed it.
            self._await_next(self._by.clock())

    async def _switch(self, head: ResponseHead, now: float) -> web.StreamResponse:
        """Lets the connection become a WebSocket: bytes from now on."""
        call, upstream = self._call, self._upstream
        # It is judged at the head; what follows is how it lives and ends.
        call.permit.settle(call.exchange.outcome, now)
        tail = upstream.response.tail
        await self._by.tunnels.carry_on(call, upstream.hand_over, self._heads.switching(head), tail)
        return CLOSE

    def _answer(self, out: bytes) -> None:
        transport = self._call.request.transport
        # A client that has left has no transport any more; its exchange is about to be cancelled.
        if out and transport is not None:
            transport.write(out)

    def _end(self, piece: bytes, body: Body) -> bytes:
        """The last piece of content as it goes to the client."""
        if body.framing is not _CHUNKED:
            return piece
        return framed(piece, body) + self._heads.last_chunk(self._upstream.response)

    async def _drain(self) -> None:
        """Waits until the client has taken most of what was written; the upstream is not read meanwhile."""
        call = self._call
        call.exchange.wait_for(Awaited.CLIENT_WINDOW, call.policy.timeouts.body_idle, self._by.clock())
        self._is_draining = True
        self._upstream.hold()
        await call.request.writer.drain()
        self._is_draining = False
        self._upstream.release()
