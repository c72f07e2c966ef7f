"""An upstream that keeps every byte, and is strict: what h11 does not take as a request is none.

It answers as the case says that is being fed, possibly in pieces.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Self, cast

import h11
from wire.raw.case import Case

UNEXPECTED = b"HTTP/1.1 200 Unexpected\r\nContent-Length: 0\r\n\r\n"
# What is larger does not become whole while it is looked at.
_LARGEST_REQUEST = 16 * 1024


class StrictUpstream:
    """Listens on loopback while its `async with` lasts.

    Attributes:
        arrived: the whole requests since `begin`, chunked content as a single chunk.
        raw: what has arrived of a tunnel since `begin`.
        lost: what had arrived of requests whose connections have ended before they were whole.
        at_head: what is said to the next head that arrives.
        malformed: what arrived that is no HTTP, if anything.
        total: how many whole requests there were in all.
        split: how the answers are cut in pieces.
    """

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self.raw = b""
        self.lost = b""
        self.at_head = b""
        self.malformed = b""
        self.total = 0
        self.port = 0
        self.split: Callable[[bytes], list[bytes]] = lambda answer: [answer]
        self.case = Case(name="none", sent=b"")
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.transport.abort()

    def begin(self, case: Case) -> None:
        """Forgets what has arrived, and answers like this case from now on."""
        self.case = case
        self.arrived = []
        self.raw = b""
        self.lost = b""
        self.at_head = case.at_head

    @property
    def unfinished(self) -> bytes:
        """What has arrived of requests that are not whole."""
        return self.lost + b"".join([bytes(connection.buffer) for connection in self.connections])

    def proxy_has_read(self) -> None:
        """Sends the next pieces of what is being said."""
        for connection in self.connections:
            connection.say_on()


class _Connection(asyncio.Protocol):
    """One connection of the proxy's."""

    transport: asyncio.Transport

    def __init__(self, upstream: StrictUpstream) -> None:
        self._upstream = upstream
        case = upstream.case
        self._tunnel = bool(case.raw) and len(upstream.arrived) == len(case.requests)
        self._to_say: deque[bytes] = deque()
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none of its subclasses
        self._upstream.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._upstream.connections.discard(self)
        self._upstream.lost += self.buffer

    def data_received(self, data: bytes) -> None:
        upstream = self._upstream
        self.buffer += data
        try:
            while self.buffer and not self._tunnel:
                if upstream.at_head and self._has_enough():
                    self._say(upstream.at_head)
                    upstream.at_head = b""
                if len(self.buffer) > _LARGEST_REQUEST:
                    return
                size = request_size(bytes(self.buffer))
                if size is None:
                    return
                upstream.arrived.append(one_chunk(bytes(self.buffer[:size])))
                upstream.total += 1
                del self.buffer[:size]
                self._answer(len(upstream.arrived) - 1)
        except h11.RemoteProtocolError:
            upstream.malformed += self.buffer
            self.transport.abort()
        if self.buffer and self._tunnel:
            upstream.raw += self.buffer
            self.buffer.clear()
            if upstream.raw == upstream.case.raw:
                self._say(upstream.case.raw_answer)

    def say_on(self) -> None:
        if self._to_say:
            self.transport.write(self._to_say.popleft())
            if self._upstream.case.upstream_closes and not self._to_say:
                self.transport.close()

    def _has_enough(self) -> bool:
        return len(self.buffer) >= self._upstream.case.at_least and b"\r\n\r\n" in self.buffer

    def _answer(self, number: int) -> None:
        case = self._upstream.case
        answer = case.answers[number] if number < len(case.answers) else UNEXPECTED
        self._tunnel = answer.startswith(b"HTTP/1.1 101")
        self._say(answer)

    def _say(self, text: bytes) -> None:
        if text:
            self._to_say.extend(self._upstream.split(text))
            self.say_on()


@lru_cache(maxsize=1024)
def request_size(received: bytes) -> int | None:
    """How long the request is with which this begins; None if it is not whole.

    Raises:
        h11.RemoteProtocolError: it does not begin with a request.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_REQUEST)
    parser.receive_data(received)
    while (event := parser.next_event()) is not h11.NEED_DATA:
        if isinstance(event, h11.EndOfMessage):
            return len(received) - len(parser.trailing_data[0])
    return None


@lru_cache(maxsize=1024)
def one_chunk(text: bytes) -> bytes:
    """The same message with its chunked content as a single chunk, trailers kept; what is not whole stays.

    Chunks may be cut anew on their way. Extensions may not be there at all.
    """
    at = text.lower().find(b"\r\ntransfer-encoding: chunked\r\n")
    begin = text.find(b"\r\n\r\n", at) + 4
    if at < 0 or begin < 4:
        return text
    position, content = begin, b""
    while True:
        line_end = text.find(b"\r\n", position)
        try:
            size = int(text[position:line_end], 16)
        except ValueError:
            return text
        position = line_end + 2
        if not size:
            break
        content += text[position : position + size]
        if text[position + size : position + size + 2] != b"\r\n":
            return text
        position += size + 2
    chunk = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
    return text[:begin] + chunk + b"0\r\n" + text[position:]
