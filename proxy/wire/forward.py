"""One request forwarded: its head and content upstream, the response back, both streamed.

Byte-exact where HTTP lets a proxy be (RFC 9112 section 3.2.2, RFC 9110 section 7.6): the request-target in
origin-form and the fields go as they came, in their order and spelling; only what concerns a single hop is
removed and made anew. Head and first content go out in one write on both legs, since system calls are what
costs.
"""

import asyncio
from collections.abc import Callable

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from proxy.core.breaker import Permit
from proxy.core.errors import HttpRequestError
from proxy.core.exchange import FOREVER, Awaited, Exchange, Source
from proxy.core.headers import Body, Fields, Framing, end_to_end
from proxy.core.outcome import of_status
from proxy.core.policy import Limits, Timeouts
from proxy.core.target import Target
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
        via: the value of the `Via` field without the version, or None to add none.
    """

    def __init__(
        self, pool: Pool, clock: Callable[[], float], timeouts: Timeouts, limits: Limits, via: str | None
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._timeouts = timeouts
        self._max_head = int(limits.max_head)
        self._via = via

    async def carry(
        self, exchange: Exchange, target: Target, request: web.BaseRequest, permit: Permit
    ) -> web.StreamResponse:
        """Forwards one request and relays its response.

        Raises:
            ProxyError: what went wrong; if `exchange.begun`, the response can only be cut.
        """
        with await self._pool.connect(exchange, target) as upstream:
            upstream.begin(request.method, self._max_head)
            body = exchange.body
            head = self._request_head(target, request, body)
            content = request.content
            piece = b"" if body.framing is Framing.NONE else content.read_nowait(-1)
            exchange.request_bytes = len(piece)
            whole = body.framing is Framing.NONE or content.at_eof()
            upstream.write(head + _framed(piece, body, last=whole))
            if whole:
                self._request_sent(exchange, upstream)
                return await self._respond(exchange, request, upstream, permit)
            return await self._respond_while_sending(exchange, request, upstream, permit)

    async def _respond_while_sending(
        self, exchange: Exchange, request: web.BaseRequest, upstream: UpstreamConnection, permit: Permit
    ) -> web.StreamResponse:
        try:
            async with asyncio.TaskGroup() as both:
                sending = both.create_task(self._send(exchange, request, upstream))
                answer = await self._respond(exchange, request, upstream, permit)
                # A response that is complete makes the rest of the request pointless.
                sending.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return answer

    async def _send(self, exchange: Exchange, request: web.BaseRequest, upstream: UpstreamConnection) -> None:
        """Passes the rest of the content on, as the client sends it and as the upstream takes it."""
        content = request.content
        if "Expect" in request.headers:
            # RFC 9110 section 10.1.1: the client may wait for the upstream's 100, so the upstream owes.
            exchange.wait_for(Awaited.RESPONSE_HEAD, self._timeouts.head, self._clock())
        else:
            self._wait_unless_answering(exchange, Awaited.REQUEST_CONTENT, self._timeouts.body_idle)
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
            exchange.request_bytes += len(piece)
            if piece:
                upstream.write(_framed(piece, exchange.body, last=False))
            if upstream.writing_paused:
                self._wait_unless_answering(exchange, Awaited.UPSTREAM_WINDOW, self._timeouts.head)
                await upstream.drain()
            self._wait_unless_answering(exchange, Awaited.REQUEST_CONTENT, self._timeouts.body_idle)
        if exchange.body.framing is Framing.CHUNKED:
            upstream.write(_LAST_CHUNK)
        self._request_sent(exchange, upstream)

    def _request_sent(self, exchange: Exchange, upstream: UpstreamConnection) -> None:
        upstream.request_sent()
        self._wait_unless_answering(exchange, Awaited.RESPONSE_HEAD, self._timeouts.head)

    def _wait_unless_answering(self, exchange: Exchange, awaited: Awaited, timeout_s: float) -> None:
        # Once a response has begun, its own waits are what counts.
        if not exchange.begun:
            exchange.wait_for(awaited, timeout_s, self._clock())

    async def _respond(
        self, exchange: Exchange, request: web.BaseRequest, upstream: UpstreamConnection, permit: Permit
    ) -> web.StreamResponse:
        asked = self._clock()
        while (head := await upstream.next_head()).status < 200:  # noqa: PLR2004 -- RFC 9110 section 15.2
            await self._relay_interim(exchange, request, head)
        arrived = self._clock()
        exchange.head_s = arrived - asked
        exchange.status = head.status
        exchange.source = Source.UPSTREAM
        exchange.outcome = of_status(head.status)
        if permit.is_probe:
            # A probe is judged at the head, so that a long download does not hold its slot.
            permit.settle(exchange.outcome, arrived)

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
        out = self._response_head(head, body, keep=keep) + _framed(piece, body, last=complete)
        exchange.begun = True
        _write(request, out)
        body_idle_s = FOREVER if _is_event_stream(head.fields) else self._timeouts.body_idle
        while not complete:
            await self._drain(exchange, request)
            exchange.wait_for(Awaited.RESPONSE_CONTENT, body_idle_s, self._clock())
            piece = await upstream.content()
            complete = upstream.response.complete
            exchange.response_bytes += len(piece)
            _write(request, _framed(piece, body, last=complete))
        permit.settle(exchange.outcome, self._clock())
        # The next answer on this connection must not pile up behind one that is not read.
        await self._drain(exchange, request)
        exchange.wait_over()
        return KEEP if keep else CLOSE

    async def _relay_interim(self, exchange: Exchange, request: web.BaseRequest, head: ResponseHead) -> None:
        """Passes a 1xx on (RFC 9110 section 15.2: "MUST forward"; not to HTTP/1.0 clients)."""
        if request.version == HttpVersion11:
            _write(request, _status_line(head) + _field_lines(end_to_end(head.fields)) + b"\r\n")
            await self._drain(exchange, request)
        if head.status == 100:  # noqa: PLR2004 -- RFC 9110 section 15.2.1
            awaited = Awaited.RESPONSE_HEAD if request.content.at_eof() else Awaited.REQUEST_CONTENT
            timeout_s = self._timeouts.head if request.content.at_eof() else self._timeouts.body_idle
            exchange.wait_for(awaited, timeout_s, self._clock())

    async def _drain(self, exchange: Exchange, request: web.BaseRequest) -> None:
        if request.protocol.writing_paused:
            exchange.wait_for(Awaited.CLIENT_WINDOW, self._timeouts.body_idle, self._clock())
            await request.writer.drain()

    def _request_head(self, target: Target, request: web.BaseRequest, body: Body) -> bytes:
        fields: Fields = []
        host = (b"Host", target.authority.encode("ascii"))
        for name, value in end_to_end(request.raw_headers):
            if name.lower() != b"host":
                fields.append((name, value))
            elif host not in fields:
                # RFC 9112 section 3.2.2: "a proxy MUST ignore the received Host header field and instead
                # replace it with the host information of the request-target".
                host = (name, host[1])
                fields.append(host)
        if host not in fields:
            fields.insert(0, host)
        if body.framing is Framing.CHUNKED:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if self._via is not None:
            version = "1.1" if request.version == HttpVersion11 else "1.0"
            fields.append((b"Via", f"{version} {self._via}".encode("ascii")))
        line = f"{request.method} {target.origin_form} HTTP/1.1\r\n".encode("ascii")
        return line + _field_lines(fields) + b"\r\n"

    def _response_head(self, head: ResponseHead, body: Body, *, keep: bool) -> bytes:
        # Only the proxy itself says that an answer is the proxy's.
        fields = [field for field in end_to_end(head.fields) if field[0].lower() != b"x-breaker-reason"]
        if body.framing is Framing.CHUNKED:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if self._via is not None:
            fields.append((b"Via", f"1.1 {self._via}".encode("ascii")))
        if not keep:
            fields.append((b"Connection", b"close"))
        return _status_line(head) + _field_lines(fields) + b"\r\n"


def _write(request: web.BaseRequest, out: bytes) -> None:
    # A client that has left has no transport any more; its exchange is about to be cancelled.
    if out and request.transport is not None:
        request.transport.write(out)


def _status_line(head: ResponseHead) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)


def _field_lines(fields: Fields) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


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
