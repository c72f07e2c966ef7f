"""A scripted upstream: what it does on a connection is data.

A script is a sequence of steps; each connection takes the next script, and the last one serves all that
follow. What arrived is kept per connection, byte for byte.
"""

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self


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


class Do(Step, Enum):
    """Steps without an argument."""

    STALL = auto()  # says nothing until the peer goes away
    RESET = auto()  # closes with a RST
    HALF_CLOSE = auto()  # closes the sending side, reads on


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
    """Listens on loopback while its `async with` lasts; on port 0 by default, which takes a free one."""

    def __init__(self, *scripts: Script, host: str = "127.0.0.1", port: int = 0) -> None:
        self.connections: list[Connection] = []
        self.accepted = asyncio.Event()
        self._scripts = scripts
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._host = host
        self.port = port

    @property
    def authority(self) -> str:
        return f"{self._host}:{self.port}"

    async def connection(self, index: int) -> Connection:
        """Waits for the connection with this number, 0 for the first."""
        while len(self.connections) <= index:
            self.accepted.clear()
            await self.accepted.wait()
        return self.connections[index]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self.port)
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
                case Do():
                    await self._do(step)

    async def _do(self, step: Do) -> None:
        if step is Do.HALF_CLOSE:
            self._writer.write_eof()
        elif step is Do.RESET:
            raw = self._writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        else:
            while True:
                await self._more()

    async def _more(self) -> None:
        received = await self._reader.read(65536)
        if not received:
            raise ConnectionResetError("the peer has closed")
        self._connection.received += received
        self._unread += received
        self._connection.changed.set()
