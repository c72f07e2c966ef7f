"""A hundred peers that stop reading: they cost the proxy little memory, and the one who owes is dropped."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from support.process import OPEN, PATIENCE_S, RunningProxy, until

READERS = 100
BLOCK = bytes(64 * 1024)
BLOCKS = 1600
TOTAL = BLOCKS * len(BLOCK)
# What a reader takes before it stalls.
TAKEN = 16 * len(BLOCK)
ALLOWED = 40_000_000
# Long enough that all stall at the same time, which the tests assert.
OWED_S = 3
OWED = f"{OWED_S}s"

CHUNK = b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK)
# The head of the answer, and its content in pieces.
FRAMINGS = {
    "content-length": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL, BLOCK),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNK),
    "tunnel": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL, BLOCK),
}

# Both are to be kept: a writer that is forgotten closes its connection.
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


class Measured:
    """What the proxy has before the peers come, and what it must not have more of afterwards."""

    def __init__(self, proxy: RunningProxy) -> None:
        # The first exchange makes what every later one uses.
        proxy.metric("in_flight")
        self._proxy = proxy
        self._resident = proxy.memory("VmRSS")
        self._descriptors = proxy.descriptors()

    def ended(self) -> list[dict[str, Any]]:
        """The lines of the exchanges that have ended."""
        return [line for line in list(self._proxy.lines) if line["event"] == "exchange ended"]

    async def all_ended(self) -> list[dict[str, Any]]:
        """Waits until the proxy has ended the exchanges of all; the peers carry on meanwhile."""
        wait = partial(until, lambda: len(self.ended()) >= READERS, "an exchange does not end")
        await anyio.to_thread.run_sync(wait)
        lines = self.ended()
        assert len(lines) == READERS, "one line for each"
        ends = [datetime.fromisoformat(line["timestamp"]) for line in lines]
        assert max(ends) - min(ends) < timedelta(seconds=OWED_S), "they did not all stall at the same time"
        return lines

    def nothing_is_left(self) -> None:
        """Judges: the most that was resident at any time, and what is open now."""
        assert self._proxy.memory("VmHWM") - self._resident < ALLOWED
        until(lambda: self._proxy.descriptors() <= self._descriptors, "a descriptor is left")
        assert self._proxy.metric("in_flight") == 0
        assert self._proxy.metric("tunnels") == 0


@asynccontextmanager
async def upstream(serve: Serve) -> AsyncIterator[str]:
    """A server on loopback; gives its host and port."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.CancelledError):  # the end of a test that has failed
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    listener = socket.create_server(("127.0.0.1", 0), backlog=2 * READERS)
    async with await asyncio.start_server(served, sock=listener):
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def connected(proxy: RunningProxy, clients: AsyncExitStack) -> Ends:
    """A connection of one of the clients to the proxy."""
    sock = socket.socket()
    sock.settimeout(0)
    # It could grow to many MB each; what the proxy holds is what this is about.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, len(BLOCK))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", proxy.proxy_port))
    reader, writer = await asyncio.open_connection(sock=sock)
    clients.callback(writer.transport.abort)
    return reader, writer


async def rest(reader: asyncio.StreamReader) -> int:
    """How much there still is to read before the end, be it orderly or a reset."""
    count = 0
    with suppress(ConnectionError):
        while piece := await reader.read(len(BLOCK)):
            count += len(piece)
    return count


def expected(kind: str) -> dict[str, Any]:
    """What the line of an exchange says whose client has stopped reading."""
    if kind == "tunnel":
        return {"status": 200, "reason": "connection_read_timeout", "outcome": "success"}
    return {"status": 200, "reason": "client_timeout", "outcome": "neutral"}


@pytest.mark.parametrize("kind", FRAMINGS)
async def test_clients_that_stop_reading_are_dropped_and_cost_little(kind: str) -> None:
    head, piece = FRAMINGS[kind]
    # The upstream's connections that it has lost.
    lost: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        try:
            for _ in range(BLOCKS):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            lost.append(writer)

    async def read_some(authority: str) -> Ends:
        reader, writer = await connected(proxy, clients)
        if kind == "tunnel":
            writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            # What is no request is only carried.
            writer.write(b"\0\r\n\r\n")
        else:
            writer.write(f"GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        await reader.readexactly(TAKEN)
        return reader, writer

    with RunningProxy(timeouts={"body_idle": OWED, "tunnel_idle": OWED}) as proxy:
        measured = Measured(proxy)
        async with upstream(serve) as authority, AsyncExitStack() as clients:
            connections = await asyncio.gather(*(read_some(authority) for _ in range(READERS)))
            lines = await measured.all_ended()
            for line in lines:
                assert expected(kind).items() <= line.items()
                assert TAKEN <= line["response_bytes"] < TOTAL
            # What the kernels hold still arrives; then even the client that slept sees its answer cut.
            assert TAKEN + await rest(connections[0][0]) < TOTAL
            await anyio.to_thread.run_sync(measured.nothing_is_left)
            await anyio.to_thread.run_sync(until, lambda: len(lost) == READERS, "an upstream's leg is left")
            assert proxy.state(authority) in {None, 0}


async def test_upstreams_that_stop_reading_are_dropped_and_cost_little() -> None:
    gone = asyncio.Event()
    taken: list[int] = []

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST / HTTP/1.1\r\n")
        got = len(await reader.readexactly(TAKEN))
        # From here on nobody reads, and what the stream may hold is soon full.
        await gone.wait()
        taken.append(got + await rest(reader))

    async def send(writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for _ in range(BLOCKS):
                writer.write(BLOCK)
                await writer.drain()

    async def upload(authority: str) -> bytes:
        reader, writer = await connected(proxy, clients)
        writer.write(
            f"POST http://{authority}/ HTTP/1.1\r\nHost: a\r\nContent-Length: {TOTAL}\r\n\r\n".encode()
        )
        sending = asyncio.create_task(send(writer))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert not sending.done(), "the proxy has taken more than it can pass on"
        sending.cancel()
        writer.transport.abort()
        return answer

    with RunningProxy(timeouts={"head": OWED}) as proxy:
        measured = Measured(proxy)
        async with upstream(serve) as authority, AsyncExitStack() as clients:
            async with asyncio.timeout(PATIENCE_S):
                answers = await asyncio.gather(*(upload(authority) for _ in range(READERS)))
            assert {answer.partition(b"\r\n")[0].split()[1] for answer in answers} == {b"504"}
            lines = await measured.all_ended()
            assert {line["reason"] for line in lines} == {"connection_write_timeout"}
            assert max(line["request_bytes"] for line in lines) < TOTAL
            await anyio.to_thread.run_sync(measured.nothing_is_left)
            gone.set()
            await anyio.to_thread.run_sync(until, lambda: len(taken) == READERS, "an upstream's leg is left")
            assert max(taken) < TOTAL
            assert proxy.state(authority) == OPEN
