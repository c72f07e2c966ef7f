"""A scripted upstream: what it does on a connection is data.

A script is a sequence of steps; each connection takes the next script, and the last one serves all that
follow. What arrived is kept per connection, byte for byte.
"""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

from support import certificates


class Step:
    """One thing that an upstream does."""


@dataclass(frozen=True)
class Expect(Step):
    """Reads until the text has arrived (from where the last step stopped reading)."""

    text: bytes = b"\r\n\r\n"


@dataclass(frozen=True)
class Take(Step):
    """Reads this many bytes."""

    count: int


@dataclass(frozen=True)
class Send(Step):
    """Writes these bytes."""

    text: bytes


@dataclass(frozen=True)
class Refuse(Step):
    """Shakes hands in a TLS that its client does not satisfy, and says so; TLS of the loops says nothing."""

    context: ssl.SSLContext


class Do(Step, Enum):
    """Steps without an argument."""

    STALL = auto()  # says nothing until the peer goes away
    RESET = auto()  # closes with a RST
    HALF_CLOSE = auto()  # closes the sending side, reads on
    CUT = auto()  # closes without the close_notify that ends TLS


@dataclass(frozen=True)
class Wait(Step):
    """Waits for an event of the test."""

    event: asyncio.Event


Script = Sequence[Step]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Connection:
    """One connection that the upstream has accepted."""

    received: bytearray = field(default_factory=bytearray)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    async def until(self, text: bytes) -> bytes:
        """Waits until the text has arrived; returns everything so far."""
        while text not in self.received:
            self.changed.clear()
            await self.changed.wait()
        return bytes(self.received)


class ScriptedUpstream:
    """Listens on loopback while its `async with` lasts; on port 0 by default, which takes a free one.

    With `tls` it plays behind its handshake; who does not finish that is none of its connections.
    """

    def __init__(
        self,
        *scripts: Script,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.connections: list[Connection] = []
        self.accepted = asyncio.Event()
        self._scripts = scripts
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._host = host
        self._tls = tls
        self.port = port

    @property
    def authority(self) -> str:
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    async def connection(self, index: int) -> Connection:
        """Waits for the connection with this number, 0 for the first."""
        while len(self.connections) <= index:
            self.accepted.clear()
            await self.accepted.wait()
        return self.connections[index]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        script = self._scripts[min(len(self.connections), len(self._scripts) - 1)]
        connection = Connection()
        self.connections.append(connection)
        self.accepted.set()
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await _Player(connection, reader, writer).play(script)
        finally:
            connection.ended = True
            connection.changed.set()
            writer.close()
            self._tasks.discard(task)


def tls_upstream(*scripts: Script, host: str = "127.0.0.1") -> ScriptedUpstream:
    """One that plays over TLS, with a certificate for all names of this machine."""
    tls = certificates.server("localhost", "127.0.0.1", "127.0.0.2", "::1")
    return ScriptedUpstream(*scripts, host=host, tls=tls)


class _Player:
    """Plays a script on one connection."""

    def __init__(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._unread = bytearray()

    async def play(self, script: Script) -> None:
        """Takes one step after the other, until the peer goes away."""
        for step in script:
            match step:
                case Expect(text):
                    while text not in self._unread:
                        await self._more()
                    del self._unread[: self._unread.index(text) + len(text)]
                case Take(count):
                    while len(self._unread) < count:
                        await self._more()
                    del self._unread[:count]
                case Send(text):
                    self._writer.write(text)
                    await self._writer.drain()
                case Wait(event):
                    await event.wait()
                case Refuse(context):
                    await self._refuse(context)
                case Do():
                    await self._do(step)

    async def _do(self, step: Do) -> None:
        if step is Do.HALF_CLOSE:
            self._writer.write_eof()
        elif step is Do.RESET:
            raw = self._writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        elif step is Do.CUT:
            with socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno())) as raw:
                raw.shutdown(socket.SHUT_WR)
        else:
            while True:
                await self._more()

    async def _refuse(self, context: ssl.SSLContext) -> None:
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(received, to_send, server_side=True)
        is_refused = False
        while not is_refused:
            await self._more()
            received.write(self._unread)
            self._unread.clear()
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                is_refused = True
            else:
                raise AssertionError("it was to be refused")
            self._writer.write(to_send.read())

    async def _more(self) -> None:
        received = await self._reader.read(65536)
        if not received:
            raise ConnectionResetError("the peer has closed")
        self._connection.received += received
        self._unread += received
        self._connection.changed.set()
