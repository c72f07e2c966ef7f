"""The connection of one client: aiohttp's, and what a proxy needs of it beyond a web server.

aiohttp parses the requests and calls the line with each. What it cannot know is told here, through public
names only: a client's leaving cancels the exchange, a tunnel takes the connection over, an unparseable
request gets an answer of our own, and a client that is slow or idle has so much time.
"""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from aiohttp import StreamReader, web

from proxy.core.errors import ClientTimeout, HeadTooLarge, ProxyError, TargetTooLong
from proxy.core.exchange import Exchange
from proxy.wire.reading import Door
from proxy.wire.request_bytes import ChunkedEnd, RequestBytes
from proxy.wire.roles import Line, Neighbours, Origin, TunnelClient, TunnelSink
from proxy.wire.unparsed import unparsed
from proxy.wire.unsent import is_writing, keep_little, unsent
from proxy.wire.vanished import reset
from proxy.wire.written import CLOSE

if TYPE_CHECKING:
    from proxy.wire.naming import Naming

# For how long what a client still sends is thrown away, so that it gets to read its answer (RFC 9112
# section 9.6: closing at once could reset the connection, and the answer be lost).
_LINGER_S = 2.0
_LINE_ENDS = b"\r\n"


class ClientConnection(web.RequestHandler):
    """One connection of a client.

    Attributes:
        is_lost: whether it is gone.
        naming: how targets are named where it has connected.
        tunnel: who has taken it over, if anybody has.
    """

    __slots__ = (
        "_ahead",
        "_beginning",
        "_chunks",
        "_clients",
        "_content",
        "_exchange",
        "_in_head",
        "_is_ahead",
        "_is_held",
        "_is_taken",
        "_line",
        "_lingering",
        "_max_ahead",
        "_origin",
        "_own_transport",
        "_rest",
        "_since",
        "_unsent",
        "is_lost",
        "naming",
        "tunnel",
    )

    def __init__(
        self, origin: Origin, clients: Neighbours, line: Line, naming: "Naming", **settings: Any
    ) -> None:
        super().__init__(cast("web.Server", origin), **settings)
        self.naming = naming
        self._origin = origin
        self._clients = clients
        self._line = line
        # aiohttp forgets its transport as soon as it closes, which may still take long.
        self._own_transport: asyncio.Transport | None = None
        # The exchange under way and its content; None between two exchanges.
        self._exchange: Exchange | None = None
        self._content: StreamReader | None = None
        # Content that an answer did not wait for, while it still comes.
        self._rest: StreamReader | None = None
        self._beginning = RequestBytes(2 * self.max_line_size)
        self._chunks: ChunkedEnd | None = None
        self._ahead = 0
        self._max_ahead = 2 * self.max_line_size
        # Since when it is idle, in the middle of a head, lingering, or closing.
        self._since = clients.now
        self._in_head = False
        # Whether we have paused it, and whether aiohttp has.
        self._is_ahead = False
        self._is_held = False
        self._unsent = 0
        self._lingering: asyncio.Future[None] | None = None
        self.is_lost = False
        # Whether what it sends is no request any more, also when the tunnel is over.
        self._is_taken = False
        self.tunnel: TunnelClient | None = None

    # The exchange.

    def exchange_begins(self, exchange: Exchange, content: StreamReader) -> None:
        """Says what the client may send from now on: the content of this request, and little ahead of it."""
        self._exchange = exchange
        self._content = content
        self._ahead = 0
        if self._is_ahead and not content.is_eof():
            self._read_on()

    def head_is_read(self, *, is_chunked: bool) -> None:
        """Says how the content of the exchange that has begun is framed: of chunks, the end matters."""
        if is_chunked:
            self._chunks = self._beginning.chunked_end()
        self._beginning.begin(is_all=False)

    def exchange_ends(self) -> None:
        """Lets the client send on; a connection that closes now gets a time for that."""
        if self._content is not None and not self._content.is_eof():
            self._rest = self._content
        # What came ahead may be the beginning of a head.
        self._in_head = self._ahead > 0 and self._rest is None
        self._since = self._clients.now
        self._content = self._exchange = None
        self._ahead = 0
        self._chunks = None
        self._beginning.begin(is_all=False)

    @property
    def ends_with_chunks(self) -> bool:
        """Whether all that it has sent ends with the chunked content of this exchange, without trailers."""
        return self._chunks is not None and self._chunks.is_clean

    @property
    def is_draining(self) -> bool:
        """Whether its next answer is its last, as the process is about to end."""
        return self._clients.is_draining

    @property
    def is_writing(self) -> bool:
        """Whether it has not taken all that was written."""
        return is_writing(self._own_transport)

    def resting(self, since: float) -> Exchange | None:
        """Its exchange, if that is a tunnel in which nothing has been under way since then."""
        return self._exchange if self.tunnel is not None and self.tunnel.is_idle(since) else None

    @property
    def may_lose_answer(self) -> bool:
        """Whether closing now could lose the client its last answer: it is not sent, or more is coming."""
        is_sending = self._in_head or self._rest is not None
        return self.is_writing or (self._lingering is not None and is_sending)

    @property
    def is_lingering(self) -> bool:
        """Whether it has had its last answer."""
        return self._lingering is not None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for its client's next request and has nothing of it yet."""
        return self._content is None and not self._in_head and self._lingering is None and self.tunnel is None

    @property
    def idle_since(self) -> float:
        """Since when, in monotonic seconds, where it is idle."""
        return self._since

    def take_over(self, tunnel: TunnelClient) -> None:
        """Hands the connection to a tunnel; what the client has sent behind its request comes first."""
        self.tunnel = tunnel
        if self._is_taken:
            return
        self._is_taken = True
        # aiohttp's timer, which would keep quiet anyhow, takes half a kilobyte.
        self.keep_alive(val=False)
        self.set_parser(cast("Any", TunnelSink(self)))  # typed for a WebSocket reader
        if self._is_ahead:
            # Its turn has come. aiohttp, which holds little yet, has not paused it and will not resume it.
            self._read_on()
        self._ahead = 0

    def detach(self) -> None:
        """Lets go of the connection: it goes on with another protocol, or has ended as that of one."""
        self.transport = self.tunnel = None
        self.connection_lost(None)

    def successor(self, naming: "Naming") -> "ClientConnection":
        """Makes the connection that comes next, for one whose targets are named in another way."""
        return self._origin.connection(naming)

    def cut(self, *, ends_by_close: bool) -> None:
        """Ends the connection in the middle of an answer, so that nobody takes it for the end of it.

        Args:
            ends_by_close: the client would take an orderly end for the end of the content: reset it.
        """
        transport, self.tunnel = self._own_transport, None
        if transport is None:
            return
        if ends_by_close:
            reset(transport)
        elif self.writing_paused:
            # A client that does not read would keep an orderly end waiting for ever.
            transport.abort()

    def linger(self) -> "asyncio.Future[None]":
        """Closes our side behind the last answer, and throws away what the client still sends, for 2 s.

        Returns:
            What to wait for, for one who would otherwise close the connection.
        """
        lingering = self._lingering = asyncio.get_running_loop().create_future()
        self._since = self._clients.now
        transport = self.transport
        if transport is None or transport.is_closing():
            lingering.set_result(None)
            return lingering
        if transport.can_write_eof():
            # asyncio raises if the client has reset the connection, of which the loop has yet to tell.
            with suppress(OSError):
                transport.write_eof()
        transport.resume_reading()
        return lingering

    # Time.

    def sweep(self, now: float, *, head_s: float, idle_s: float, unread_s: float) -> None:
        """Ends what has taken too long, unless an exchange is under way: that has deadlines of its own.

        Args:
            now: monotonic seconds.
            head_s: how long a head may take.
            idle_s: how long there may be none.
            unread_s: how long a client may leave its last bytes unread.
        """
        transport = self._own_transport
        if self.tunnel is not None:
            self.tunnel.sweep(now)
            return
        if transport is None:
            return
        if self._exchange is not None:
            if self.writing_paused and self._has_read(transport):
                self._exchange.client_took(now)
            return
        self._sweep_idle(transport, now, head_s=head_s, idle_s=idle_s, unread_s=unread_s)

    def _sweep_idle(
        self, transport: asyncio.Transport, now: float, *, head_s: float, idle_s: float, unread_s: float
    ) -> None:
        if self._is_ahead:
            # Nothing that it has sent waits for its turn any more, or an exchange would be under way.
            self._read_on()
        waited_s = now - self._since
        if transport.is_closing():
            self._sweep_last_bytes(transport, now, unread_s)
        elif self._lingering is not None:
            if waited_s >= _LINGER_S:
                self.end_lingering()
        elif self._in_head:
            if waited_s >= head_s:
                self._line.turn_away(self, ClientTimeout("the head of the request did not arrive in time"))
        elif waited_s >= idle_s:
            self.leave()

    def _sweep_last_bytes(self, transport: asyncio.Transport, now: float, unread_s: float) -> None:
        """Gives up a client that does not read its last bytes; one that does so slowly has time."""
        if self._has_read(transport):
            self._since = now
        elif now - self._since >= unread_s:
            self.cut(ends_by_close=True)

    def _has_read(self, transport: asyncio.Transport) -> bool:
        before, self._unsent = self._unsent, unsent(transport)
        return self._unsent < before

    def leave(self) -> None:
        """Closes a connection without an exchange; one that does not read would keep that waiting."""
        transport = self._own_transport
        self.force_close()
        if transport is not None and transport.get_write_buffer_size():
            self.cut(ends_by_close=True)

    def end_lingering(self) -> None:
        """Closes the connection, if it only waits for its client to do so."""
        if self._lingering is None:
            return
        self._since = self._clients.now
        if not self._lingering.done():
            self._lingering.set_result(None)
        self.force_close()

    def dismiss(self, error: ProxyError) -> None:
        """Ends a connection without an exchange, as nothing more is read; what was read is answered.

        Args:
            error: what one in the middle of a head is told.
        """
        if self._exchange is not None or self._lingering is not None:
            return
        if self._in_head:
            self._line.turn_away(self, error)
        elif self._rest is not None:
            self.linger()
        else:
            self.force_close()

    def abort(self) -> None:
        """Ends the connection at once, whatever is under way or waits to be sent."""
        if self._own_transport is not None:
            self._own_transport.abort()

    # Called by the transport and by aiohttp.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._own_transport = cast("asyncio.Transport", transport)  # uvloop's is none of its subclasses
        self._own_transport.set_protocol(Door(self))
        keep_little(self._own_transport)
        self._clients.joined(self)

    def data_received(self, data: bytes) -> None:
        """Takes what the client sends; pauses a client that sends too much ahead of its turn.

        While an exchange is under way only its content is wanted. aiohttp would queue whole requests, and
        behind malformed chunks an error for each piece that arrives.
        """
        if self._is_taken:
            super().data_received(data)
            return
        content = self._content
        if content is None:
            if self._lingering is not None:
                return
            self._between_exchanges(data)
            return
        if self._chunks is not None:
            self._chunks.feed(data)
        before = content.total_bytes
        had_ended = content.is_eof()
        super().data_received(data)
        came = content.total_bytes - before
        if not had_ended and content.is_eof():
            # Behind the end of the content the next head may begin; behind chunks that is not seen.
            self._ahead = 0 if self._chunks is not None else len(data[came:].strip(_LINE_ENDS))
        elif came:
            self._ahead = 0
        else:
            self._ahead += len(data)
            if self._ahead > self._max_ahead and self.transport is not None:
                self._is_ahead = True
                self.transport.pause_reading()

    def _read_on(self) -> None:
        self._is_ahead = False
        if self.transport is not None:
            self.transport.resume_reading()

    def _between_exchanges(self, data: bytes) -> None:
        """Takes the rest of the content that an answer did not wait for, or the beginning of a head."""
        rest = self._rest
        before = 0 if rest is None else rest.total_bytes
        super().data_received(data)
        if rest is not None:
            self._since = self._clients.now
            if not rest.is_eof():
                return
            self._rest = None
            data = data[rest.total_bytes - before :]
        if not self._in_head:
            if data in _LINE_ENDS:
                # RFC 9112 section 2.2: an empty line before a request is ignored.
                return
            self._in_head = True
            self._since = self._clients.now
            # Behind content that an answer did not wait for, it begins in the middle of what has come.
            self._beginning.begin(is_all=rest is None)
        if self._beginning.add(data):
            what = "request-target" if self._beginning.is_one_line else "head of the request"
            error = TargetTooLong if self._beginning.is_one_line else HeadTooLarge
            self._line.turn_away(self, error(f"the {what} exceeds limits.max_head"))

    def pause_reading(self) -> None:
        """The content is not read as fast as it comes; called by the reader of it."""
        self._is_held = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 -- as aiohttp has it
        """The content is being read; called for each piece, and mostly nothing was held."""
        if self._is_held:
            self._is_held = False
            super().resume_reading(resume_parser)

    def eof_received(self) -> Any:
        """The client closes its side: leaving, except in a tunnel that allows a half-close."""
        if self._lingering is not None:
            self.end_lingering()
            return False
        return self.tunnel.client_ended() if self.tunnel is not None else None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone; aiohttp cancels the exchange in flight."""
        self.is_lost = True
        self._own_transport = None
        self._clients.left(self)
        super().connection_lost(exc)
        if self.tunnel is not None:
            self.tunnel.client_lost()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self.tunnel is not None:
            self.tunnel.client_paused()

    def resume_writing(self) -> None:
        """The client has taken most of what we wrote."""
        super().resume_writing()
        if self.tunnel is not None:
            self.tunnel.client_resumed()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what aiohttp could not parse; echoes nothing of the request."""
        del status, message  # they quote the request
        error = unparsed(exc, self.max_line_size)
        if error is not None:
            return self._line.refuse(request, error)
        # The line answers its own faults; what comes here happened behind it, with the answer written.
        self.logger.error("fault behind an exchange", exc_info=exc)
        return CLOSE
