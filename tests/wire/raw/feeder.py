"""A client that knows what the proxy has read, so that what it sends in pieces is read in pieces."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

import pytest
from wire.raw.upstream import StrictUpstream

from proxy.wire.client import ClientConnection
from proxy.wire.upstream import UpstreamConnection


class Reads:
    """How much the proxy has read, told by its own connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, upstream: StrictUpstream) -> None:
        self.of_port: Counter[int] = Counter()
        self.paused = False
        from_client, from_upstream = ClientConnection.data_received, UpstreamConnection.data_received

        def count(connection: ClientConnection, data: bytes) -> None:
            transport = connection.transport
            assert transport is not None
            port = transport.get_extra_info("peername")[1]
            from_client(connection, data)
            self.of_port[port] += len(data)
            self.paused = not transport.is_closing() and not transport.is_reading()

        def go_on(connection: UpstreamConnection, data: bytes) -> None:
            from_upstream(connection, data)
            upstream.proxy_has_read()

        monkeypatch.setattr(ClientConnection, "data_received", count)
        monkeypatch.setattr(UpstreamConnection, "data_received", go_on)


class Feeder:
    """One connection to the proxy, which sends nothing before the proxy has read what went before it."""

    def __init__(self, port: int, reads: Reads) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)  # noqa: FBT003 -- the name of the argument is none
        self.received = b""
        self.ended = False
        self._sent = 0
        self._port = self.socket.getsockname()[1]
        self._reads = reads
        reads.of_port[self._port] = 0
        reads.paused = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def feed(self, pieces: list[bytes], *, insists: bool = True) -> None:
        """Sends pieces, each of which the proxy gets in a read of its own, as long as it listens.

        Args:
            insists: waits for a proxy that has paused reading.
        """
        reads = self._reads
        for piece in pieces:
            if self.ended or (reads.paused and not insists):
                return
            with suppress(OSError):
                assert self.socket.send(piece) == len(piece)
            self._sent += len(piece)
            while reads.of_port[self._port] < self._sent and not self.ended:
                await self.turn()

    async def stream(self, pieces: Iterator[bytes]) -> int:
        """Sends what is wanted of this until the other side has closed; returns how much that was."""
        sent = 0
        left = memoryview(b"")
        while not self.ended:
            with suppress(BlockingIOError, ConnectionError):
                left = left or memoryview(next(pieces, b""))
                taken = self.socket.send(left)
                left = left[taken:]
                sent += taken
            await self.turn()
        return sent

    async def turn(self) -> None:
        """Gives the loop a turn, and takes what has come."""
        await asyncio.sleep(0)
        try:
            while received := self.socket.recv(65536):
                self.received += received
            self.ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
