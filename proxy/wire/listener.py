"""Where clients connect: aiohttp's server, and what a proxy needs of it beyond a web server.

aiohttp parses the requests and calls the handler (`wire/handler.py`) with each. What it cannot know is told
here, through public names only: a client's leaving cancels the exchange, a tunnel takes the connection over,
an unparseable request gets an answer of our own.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from proxy.core.errors import HeadTooLarge, HttpRequestError, ProxyError
from proxy.core.policy import Limits, Timeouts

READ_BUFFER = 64 * 1024
# How long a closing connection may take for its last bytes; a client that does not read would take for ever.
_LAST_BYTES_S = 10.0


class TunnelClient(Protocol):
    """What a client connection tells the tunnel that has taken it over."""

    def client_sent(self, sent: bytes) -> None:
        """Bytes for the upstream."""

    def client_ended(self) -> bool:
        """The client has closed its side; returns whether the other side stays open."""

    def client_lost(self) -> None:
        """The connection is gone."""

    def client_paused(self) -> None:
        """The client reads more slowly than we write."""

    def client_resumed(self) -> None:
        """The client has taken most of what we wrote."""


class Written(web.StreamResponse):
    """Tells aiohttp that the answer has been written to the transport already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._kept = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether the connection takes another request."""
        return self._kept

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Writes nothing."""
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes nothing."""


# They carry nothing of an exchange, so one of each is enough.
KEEP = Written(keep_alive=True)
CLOSE = Written(keep_alive=False)


class ClientConnection(web.RequestHandler):
    """One connection of a client."""

    __slots__ = ("_ahead", "_content", "_max_ahead", "_refuse", "is_lost", "tunnel")

    def __init__(
        self,
        manager: "Listener",
        refuse: Callable[[web.BaseRequest, ProxyError], web.StreamResponse],
        **settings: Any,
    ) -> None:
        super().__init__(manager, **settings)
        self._refuse = refuse
        self._content: StreamReader | None = None
        self._ahead = 0
        self._max_ahead = 2 * self.max_line_size
        self.is_lost = False
        self.tunnel: TunnelClient | None = None

    def exchange_begins(self, content: StreamReader) -> None:
        """Says what the client may send from now on: the content of this request, and little ahead of it."""
        self._content = content
        self._ahead = 0

    def exchange_ends(self) -> None:
        """Lets the client send on; a connection that closes now gets a time for that."""
        transport = self.transport
        if transport is not None:
            if self._ahead > self._max_ahead:
                transport.resume_reading()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(_LAST_BYTES_S, _give_up, transport)
        self._content = None
        self._ahead = 0

    def data_received(self, data: bytes) -> None:
        """Takes what the client sends; pauses a client that sends too much ahead of its turn.

        While an exchange is under way only its content is wanted. aiohttp would queue whole requests, and
        behind malformed chunks an error for each piece that arrives.
        """
        content = self._content
        if content is None or self.tunnel is not None:
            super().data_received(data)
            return
        before = content.total_bytes
        super().data_received(data)
        if content.total_bytes != before:
            self._ahead = 0
            return
        self._ahead += len(data)
        if self._ahead > self._max_ahead and self.transport is not None:
            self.transport.pause_reading()

    def take_over(self, tunnel: TunnelClient) -> None:
        """Hands the connection to a tunnel; what the client has sent behind its CONNECT comes first."""
        self.tunnel = tunnel
        # Typed for aiohttp's WebSocket reader, of which it calls these two methods alone.
        self.set_parser(cast("Any", _TunnelSink(tunnel)))
        if self._ahead > self._max_ahead and self.transport is not None:
            # Its turn has come. aiohttp, which holds little yet, has not paused it and will not resume it.
            self.transport.resume_reading()
        self._ahead = 0

    def cut(self, *, ends_by_close: bool) -> None:
        """Ends the connection in the middle of an answer, so that nobody takes it for the end of it.

        Args:
            ends_by_close: the client would take an orderly end for the end of the content: reset it.
        """
        transport = self.transport
        if transport is None:
            return
        if ends_by_close:
            # Without this the kernel sends a FIN for an aborted connection as well.
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        elif self.writing_paused:
            # A client that does not read would keep an orderly end waiting for ever.
            transport.abort()

    def eof_received(self) -> Any:
        """The client closes its side: leaving, except in a tunnel that allows a half-close."""
        return self.tunnel.client_ended() if self.tunnel is not None else None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone; aiohttp cancels the exchange in flight."""
        self.is_lost = True
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
        if isinstance(exc, LineTooLong):
            return self._refuse(request, HeadTooLarge("a line of the request's head is too long"))
        if isinstance(exc, HttpProcessingError):
            return self._refuse(request, HttpRequestError("the request is not HTTP/1.1"))
        # The line answers its own faults; what comes here happened behind it, with the answer written.
        self.logger.error("fault behind an exchange", exc_info=exc)
        return CLOSE


class Listener(web.Server):
    """Makes a `ClientConnection` for each client.

    Args:
        handle: the line; answers by writing to the transport and returning KEEP or CLOSE.
        refuse: answers a request that never reached the line.
    """

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        refuse: Callable[[web.BaseRequest, ProxyError], web.StreamResponse],
        limits: Limits,
        timeouts: Timeouts,
    ) -> None:
        # Without handler_cancellation a client's leaving goes unnoticed while an upstream is awaited.
        super().__init__(handle, handler_cancellation=True)
        self._refuse = refuse
        self._settings = {
            "loop": asyncio.get_running_loop(),
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": float(timeouts.client_idle),
            "lingering_time": 2.0,
            "max_field_size": int(limits.max_head),
            "max_headers": limits.max_fields,
            "max_line_size": int(limits.max_head),
            "read_bufsize": READ_BUFFER,
        }

    def __call__(self) -> ClientConnection:
        """Makes the protocol of a new connection."""
        return ClientConnection(self, self._refuse, **self._settings)


def _give_up(transport: asyncio.Transport) -> None:
    if transport.is_closing():
        transport.abort()


class _TunnelSink:
    """What aiohttp feeds with the bytes behind a CONNECT."""

    __slots__ = ("_tunnel",)

    def __init__(self, tunnel: TunnelClient) -> None:
        self._tunnel = tunnel

    def feed_data(self, received: bytes) -> tuple[bool, bytes]:
        self._tunnel.client_sent(received)
        return False, b""

    def feed_eof(self) -> None:
        """The connection is gone; `connection_lost` says so as well."""
