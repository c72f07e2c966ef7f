"""One connection to an upstream, carrying one exchange at a time.

The protocol only buffers, within bounds, and wakes whoever waits. Judging what a lost connection means is
left to the caller, who knows what was awaited; the errors raised here say which operation it was.
"""

import asyncio
import ssl
from collections.abc import Hashable
from types import TracebackType
from typing import Protocol, Self, cast

from proxy.core.errors import ConnectionTerminated, HttpResponseIncomplete, KeptAliveClosed, ProxyError
from proxy.wire.parser import ResponseHead, ResponseParser
from proxy.wire.reading import ReadsLittle, what_waits
from proxy.wire.tls_errors import of_upstream

# So much content waits for the client before nothing more is read; one piece more may have come by then.
HIGH_WATER = 16 * 1024


class Owner(Protocol):
    """Who lends connections; the pool."""

    def take_back(self, connection: "UpstreamConnection") -> None:
        """The exchange on it is over."""

    def forget(self, connection: "UpstreamConnection") -> None:
        """It has ended while no exchange was on it."""


class UpstreamConnection(ReadsLittle):
    """A connection to one address of one upstream; the `with` around an exchange gives it back.

    Args:
        owner: who lends it.
        key: what the owner knows it by.

    Attributes:
        address: of the upstream, as connected to.
        reused: whether the connection has carried an exchange before.
        has_whole_request: whether the request of this exchange has been handed to the socket.
        idle_until: until when it may rest, in monotonic seconds; the owner's.
    """

    transport: asyncio.Transport | None = None
    address: str | None = None
    reused = False
    has_whole_request = False
    idle_until = 0.0
    _parser: ResponseParser | None = None
    _lost = False
    # Why TLS has ended, where it has not ended in order.
    _tls_error: ProxyError | None = None
    _reader: asyncio.Future[None] | None = None
    _writer: asyncio.Future[None] | None = None
    _writing_paused = False
    _reading_paused = False
    _is_held = False

    def __init__(self, owner: Owner, key: Hashable) -> None:
        self.key = key
        self._owner = owner
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.address} {'lost' if self._lost else 'open'} reused={self.reused}>"

    # The exchange.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parser is not None:
            self._parser.close()
        self._owner.take_back(self)

    def begin(
        self, method: str, max_head: int, max_fields: int, *, may_switch: bool = False
    ) -> ResponseParser:
        """Makes ready for the response to a request that is about to be written."""
        response = self._parser = ResponseParser(method, max_head, max_fields, may_switch=may_switch)
        self.has_whole_request = False
        return response

    def write(self, part: bytes) -> None:
        """Hands a part of the request to the socket; dropped if the connection is lost."""
        if self.transport is not None and not self._lost:
            self.transport.write(part)

    def request_sent(self) -> None:
        """Says that the request is whole, so that the connection can serve another."""
        self.has_whole_request = True

    @property
    def writing_paused(self) -> bool:
        """Whether the upstream owes us window."""
        return self._writing_paused and not self._lost

    @property
    def has_taken_all(self) -> bool:
        """Whether all that was written has left our buffers."""
        return self.transport is not None and not self.transport.get_write_buffer_size()

    async def drain(self) -> None:
        """Waits until the upstream takes more; returns as well when the connection is lost."""
        if self.writing_paused:
            self._writer = self._loop.create_future()
            await self._writer

    @property
    def response(self) -> ResponseParser:
        """What has arrived of the response."""
        if self._parser is None:
            raise RuntimeError("no exchange was begun")
        return self._parser

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost

    @property
    def is_closing(self) -> bool:
        """Whether its transport is about to end, of which the loop has yet to tell."""
        return self.transport is None or self.transport.is_closing()

    def arrival(self) -> asyncio.Future[None]:
        """What to wait for: more of the response, or the end of the connection."""
        reader = self._reader = self._loop.create_future()
        return reader

    async def next_head(self) -> ResponseHead:
        """Waits for the next interim head, or the final one.

        Raises:
            ConnectionTerminated, KeptAliveClosed, HttpProtocolError, HttpResponseHeaderSectionSize,
            HttpResponseTransferCoding: 502.
            TlsAlertReceived, TlsProtocolError: 502; of TLS 1.3 a client hears only behind the handshake that
                its certificate was not accepted.
        """
        response = self.response
        while not response.interim:
            if response.head is not None:
                return response.head
            if response.fault is not None:
                raise response.fault
            if self._lost:
                if self.reused and not response.started:
                    raise KeptAliveClosed("a kept-alive connection was closed")
                if self._tls_error is not None:
                    raise self._tls_error
                raise ConnectionTerminated("the upstream closed the connection before its response")
            await self.arrival()
        return response.interim.pop(0)

    async def content(self) -> bytes:
        """Waits for more content; empty at the end of the response.

        Raises:
            HttpResponseIncomplete, HttpProtocolError, HttpResponseHeaderSectionSize: 502, but the response
                has begun and can only be cut.
        """
        response = self.response
        while not response.buffered and not response.complete:
            if response.fault is not None:
                raise response.fault
            if self._lost:
                raise HttpResponseIncomplete("the upstream closed in the middle of its response")
            await self.arrival()
        return self.take()

    def take(self) -> bytes:
        """The content that has arrived, possibly none; reads on if reading was paused."""
        content = self.response.take()
        if self._reading_paused and not self._is_held:
            self._read_on()
        return content

    def hold(self) -> None:
        """Reads nothing more until `release`: what arrives could not be passed on."""
        self._is_held = True
        self._stop_reading()

    def release(self) -> None:
        """Reads on, unless enough is waiting to be taken."""
        self._is_held = False
        if self._reading_paused and self.response.buffered <= HIGH_WATER:
            self._read_on()

    def _stop_reading(self) -> None:
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()

    @property
    def reusable(self) -> bool:
        """Whether the connection is fit for another exchange."""
        response = self._parser
        return (
            not self._lost
            and self.has_whole_request
            # Paused, it would see neither its end nor the next response.
            and not self._reading_paused
            and response is not None
            and response.complete
            and not response.excess
            and response.head is not None
            and response.head.keeps_alive
        )

    def may_rest_s(self, most_s: float) -> float:
        """For how long the connection may rest: `most_s`, or less by the upstream's own word."""
        head = self.response.head
        told_s = None if head is None else head.keep_alive_s
        return most_s if told_s is None or told_s > most_s else told_s

    def rest(self) -> None:
        """Ends the exchange; what arrives from now on is not asked for."""
        self._parser = None
        self.reused = True

    def hand_over(self, successor: asyncio.BaseProtocol) -> asyncio.Transport | None:
        """Leaves the connection to another protocol, which ends it; None if it is lost."""
        transport, self.transport = self.transport, None
        self._lost = True
        if transport is not None:
            # Until the successor reads on, the loop must not fill a buffer of ours.
            transport.pause_reading()
            transport.set_protocol(successor)
        return transport

    def abort(self) -> None:
        """Closes at once, dropping what was not sent.

        An orderly close would have the loop read on (uvloop for 30 s) while the upstream sends.
        """
        if self.transport is not None:
            self.transport.abort()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none of its subclasses
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else None

    def data_received(self, data: bytes) -> None:
        """Parses what has arrived; on an idle connection it is the end of it."""
        if self._parser is None:
            self._end_idle()
            return
        self._parser.feed(data)
        if self._parser.buffered > HIGH_WATER:
            self._stop_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        """The upstream has closed its side; an upstream that has said all it will say is done."""
        if self._parser is not None:
            self._parser.feed_eof()
        self._lost = True
        _wake(self._reader)
        _wake(self._writer)
        if self._parser is None:
            self._end_idle()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; an orderly end has been told by `eof_received`."""
        if isinstance(exc, ssl.SSLError):
            self._tls_error = of_upstream(exc)
        if self._parser is not None and not self._lost:
            if exc is None:
                self._parser.feed_eof()
            else:
                self._read_the_rest(self._parser)
        self._lost = True
        self.transport = None
        _wake(self._reader)
        _wake(self._writer)
        if self._parser is None:
            self._end_idle()

    def _read_the_rest(self, parser: ResponseParser) -> None:
        """Takes what had arrived before the connection broke; over TLS that has been done."""
        for received in what_waits(self.transport) if self.transport is not None else ():
            parser.feed(received)
            if parser.buffered > HIGH_WATER:
                break

    def pause_writing(self) -> None:
        """The upstream reads more slowly than we write."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The upstream has taken most of what we wrote."""
        self._writing_paused = False
        _wake(self._writer)

    def _end_idle(self) -> None:
        self._lost = True
        self._owner.forget(self)
        self.abort()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
