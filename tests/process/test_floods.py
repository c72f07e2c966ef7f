"""Up to every limit and beyond, against the real process: the limits hold, and who is served stays served."""

import asyncio
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from threading import Event, Thread
from typing import Any

import pytest
from support.process import PATIENCE_S, PROGRAM, RunningProxy, until

from proxy.core.budget import (
    EXCHANGE_BYTES,
    IDLE_CLIENT_BYTES,
    STALLED_BYTES,
    STALLED_TUNNEL_BYTES,
    TUNNEL_BYTES,
    TURNED_AWAY,
    memory_bytes,
)
from proxy.core.policy import Limits

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# What is said through tunnels begins with a byte that begins no request: those would be seen.
ASKED, TUNNEL, ENDLESS_TUNNEL = b"\0ask\n", b"\0tunnel\n", b"\0endless tunnel\n"
LENGTH = 10**9
BLOCK = bytes(64 * 1024)
# In the small, so that a flood is soon there.
LIMITS: dict[str, Any] = {"max_connections": 130, "max_tunnels": 121, "max_circuits": 10, "idle_total": 10}
FLOOD = 110
# What the first exchanges of each kind make for all later ones: code that is read, tables, arenas.
ONCE_BYTES = 3_000_000
# Its listeners are noticed late, or a client of the admin server is still there.
FEW = 6


class Upstream:
    """Answers GET and ASKED with OK; content it reads not at all, and what is asked of /endless never ends.

    Through a tunnel it says one byte, and reads no more.
    """

    def __init__(self) -> None:
        self.authority = b""
        self._begun = Event()
        self._over = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._thread = Thread(target=asyncio.run, args=(self._run(),))
        self._thread.start()
        assert self._begun.wait(PATIENCE_S)

    def hang_up(self) -> None:
        """Ends all but the answers: that a client has gone is not seen where there is no more to read."""
        self._call(self._hung_up.set)

    def close(self) -> None:
        self._call(self._over.set)
        self._thread.join()

    async def _run(self) -> None:
        self._call = asyncio.get_running_loop().call_soon_threadsafe
        listening = socket.create_server(("127.0.0.1", 0))
        # Its connections inherit that: by itself each would take megabytes.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, len(BLOCK))
        self.authority = b"127.0.0.1:%d" % listening.getsockname()[1]
        server = await asyncio.start_server(self._serve, sock=listening, backlog=4096)
        self._begun.set()
        await self._over.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            try:
                while True:
                    await self._answer(reader, writer)
            finally:
                writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\n")
        if head == ASKED:
            writer.write(OK)
            return
        if head in {TUNNEL, ENDLESS_TUNNEL}:
            writer.write(b"!")
            if head == ENDLESS_TUNNEL:
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is one of both
                await self._flood(writer)
            # The half-close of a client is no reason to go.
            await self._stay()
        await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # as above
            await self._stay()
        if b"/endless" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LENGTH)
            await self._flood(writer)
        writer.write(OK)

    async def _stay(self) -> None:
        await self._hung_up.wait()
        raise ConnectionAbortedError

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(BLOCK)
            await writer.drain()


class Line:
    """The proxy, an upstream, and a client that is served from before the flood until after it."""

    def __init__(self, proxy: RunningProxy, upstream: Upstream, held: ExitStack) -> None:
        self.proxy = proxy
        self.authority = upstream.authority
        # One host alone does not get all tunnels.
        self._hosts = cycle([upstream.authority, upstream.authority.replace(b"127.0.0.1", b"localhost")])
        self.hang_up = upstream.hang_up
        self.held = held
        self.before = self.connect()
        # Between its calls a client is idle, and gives way to a new one. In a tunnel nobody is.
        self._busy, _ = self.connect_through()
        self.healthy()
        self.resident = proxy.memory("VmRSS")
        self.descriptors = proxy.descriptors()

    def connect(self, *, narrow: bool = False) -> socket.socket:
        client = self.held.enter_context(socket.socket())
        client.settimeout(PATIENCE_S)
        # Closing it ends a tunnel as well, in which an orderly end would only be a half-close.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if narrow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, len(BLOCK))
        client.connect(("127.0.0.1", self.proxy.proxy_port))
        return client

    def ask(self, client: socket.socket) -> bytes:
        """One call; the answer."""
        client.sendall(b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority)
        return client.recv(65536)

    def healthy(self, *, seats: bool = True) -> None:
        """Calls are answered: in an old tunnel; and on an old connection and a new one, if seats are left."""
        for _ in range(3):
            self._busy.sendall(ASKED)
            assert self._busy.recv(65536) == OK
        if seats:
            assert self.ask(self.before).startswith(b"HTTP/1.1 200")
            with self.connect() as client:
                assert self.ask(client).startswith(b"HTTP/1.1 200")

    def grown(self) -> int:
        """The most memory that there ever was beyond what there was before."""
        return self.proxy.memory("VmHWM") - self.resident

    def is_over(self) -> bool:
        return self.proxy.descriptors() <= self.descriptors + FEW

    # What floods are made of.

    def idle(self) -> socket.socket:
        return self.connect()

    def slow_head(self) -> socket.socket:
        client = self.connect()
        client.sendall(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: y")
        return client

    def slow_content(self) -> socket.socket:
        client = self.connect()
        head = b"POST http://%b/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\nx"
        client.sendall(head % (self.authority, LENGTH))
        return client

    def unread_content(self) -> socket.socket:
        return _stuffed(self.slow_content())

    def unread_answer(self) -> socket.socket:
        client = self.connect(narrow=True)
        client.sendall(b"GET http://%b/endless HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority)
        return client

    def connect_through(self) -> tuple[socket.socket, bytes]:
        """Asks for a tunnel; the client and the answer."""
        client = self.connect(narrow=True)
        client.sendall(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % next(self._hosts))
        return client, client.recv(4096)

    def tunnel(self, said: bytes = TUNNEL) -> socket.socket:
        client, answer = self.connect_through()
        assert answer.startswith(b"HTTP/1.1 200")
        client.sendall(said)
        assert client.recv(1) == b"!"
        return client

    def half_open_tunnel(self) -> socket.socket:
        client = self.tunnel()
        client.shutdown(socket.SHUT_WR)
        return client

    def stalled_tunnel(self) -> socket.socket:
        return _stuffed(self.tunnel(ENDLESS_TUNNEL))


def _stuffed(client: socket.socket) -> socket.socket:
    """Sends until nothing more is taken at once."""
    client.setblocking(False)  # noqa: FBT003 -- as the library has it
    with suppress(BlockingIOError):
        while True:
            client.send(BLOCK)
    return client


@contextmanager
def lined(**sections: Any) -> Iterator[Line]:
    with ExitStack() as held:
        upstream = Upstream()
        held.callback(upstream.close)
        # The upstream hangs up on many, which is not what this is about.
        proxy = held.enter_context(RunningProxy(circuit={"mode": "disabled"}, **sections))
        clients = held.enter_context(ExitStack())
        yield Line(proxy, upstream, clients)


@dataclass(frozen=True)
class Kind:
    """How one of a flood begins, and what it may take of memory and descriptors."""

    begin: Callable[[Line], socket.socket]
    memory: int
    descriptors: int = 2


KINDS = {
    "idle clients": Kind(Line.idle, IDLE_CLIENT_BYTES, 1),
    "slow heads": Kind(Line.slow_head, EXCHANGE_BYTES, 1),
    "slow content": Kind(Line.slow_content, EXCHANGE_BYTES + STALLED_BYTES),
    "uploads that the upstream does not read": Kind(Line.unread_content, EXCHANGE_BYTES + STALLED_BYTES),
    "answers that the client does not read": Kind(Line.unread_answer, EXCHANGE_BYTES + STALLED_BYTES),
    "half-open tunnels": Kind(Line.half_open_tunnel, TUNNEL_BYTES),
    "tunnels that neither side reads": Kind(Line.stalled_tunnel, TUNNEL_BYTES + STALLED_TUNNEL_BYTES),
}


@pytest.mark.parametrize("name", KINDS)
def test_while_a_flood_stands_who_is_served_stays_served(name: str) -> None:
    kind = KINDS[name]
    with lined(limits=LIMITS) as line:
        flood: list[socket.socket] = []
        for number in range(FLOOD):
            flood.append(kind.begin(line))
            if number % 20 == 0:
                line.healthy()
        for _ in range(4):
            line.healthy()
            if name.startswith(("uploads", "tunnels that")):
                for each in flood:
                    _stuffed(each)
        more = line.proxy.descriptors() - line.descriptors - FLOOD * kind.descriptors
        assert -FEW <= more <= FEW, "it does not stand"
        assert line.grown() <= FLOOD * kind.memory + ONCE_BYTES
        assert line.proxy.memory("VmHWM") <= memory_bytes(Limits(**LIMITS))
        for each in flood:
            each.close()
        line.hang_up()
        until(line.is_over, "a descriptor is left")
        line.healthy()


def test_beyond_the_limit_the_new_ones_are_turned_away_and_slow_heads_have_their_time() -> None:
    surplus = 3 * TURNED_AWAY
    most = LIMITS["max_connections"]
    with lined(limits=LIMITS, timeouts={"request_head": "5s"}) as line:
        slow = [line.slow_head() for _ in range(most - 2)]
        line.healthy(seats=False)
        for _ in range(surplus):
            line.slow_head()
            line.healthy(seats=False)
            assert line.proxy.descriptors() <= line.descriptors + most - 2 + TURNED_AWAY + FEW
        assert line.proxy.descriptors() >= line.descriptors + most - 2 - FEW, "they do not stand"
        for each in slow:
            assert each.recv(4096).startswith(b"HTTP/1.1 408")
            each.close()
        # It was idle when others wanted its place.
        line.before = line.connect()
        line.healthy()
        line.held.close()
        until(line.is_over, "a descriptor is left")


def test_the_longest_idle_go_when_two_thousand_are_connected() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most, surplus = Limits().max_connections, 300
    if hard < 2 * (most + surplus):
        pytest.skip("there are too few descriptors for so many clients")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with lined() as line:
            for number in range(most + surplus):
                line.idle()
                if number % 100 == 0:
                    line.healthy()
            line.healthy()
            assert line.proxy.descriptors() <= line.descriptors + most + FEW
            assert line.grown() <= most * IDLE_CLIENT_BYTES + ONCE_BYTES
            line.held.close()
            until(line.is_over, "a descriptor is left")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_beyond_the_limit_there_are_no_tunnels_but_all_else_until_one_ends() -> None:
    with lined(limits=LIMITS | {"max_tunnels": 51}) as line:
        tunnels = [line.tunnel() for _ in range(50)]
        for _ in range(10):
            refused, answer = line.connect_through()
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"X-Breaker-Reason: local_limit" in answer
            refused.close()
            line.healthy()
        assert line.proxy.metric("tunnels") == 51
        for each in tunnels[:20]:
            each.close()
        until(lambda: line.proxy.metric("tunnels") == 31, "no seat comes back")
        for _ in range(20):
            line.tunnel()
        assert line.connect_through()[1].startswith(b"HTTP/1.1 503")
        line.held.close()
        until(line.is_over, "a descriptor is left")


def test_with_few_descriptors_it_says_so_once_and_refuses_who_is_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The limit holds from the first line of the program on.
    monkeypatch.setattr("support.process.PROGRAM", ("prlimit", "--nofile=64:256", *PROGRAM))
    with lined() as line:
        lines = [each for each in line.proxy.lines if each["level"] == "warning" and "descriptors" in each]
        assert len(lines) == 1
        assert lines[0]["descriptors"] == 256
        most = int(lines[0]["limits.max_connections"].split()[-1])
        assert most >= 10
        for _ in range(most - 3):
            line.tunnel()
            line.healthy()
        line.tunnel()
        for _ in range(300):
            line.slow_head()
            line.healthy(seats=False)
            assert line.proxy.descriptors() < 256
        line.held.close()
        until(line.is_over, "a descriptor is left")


def test_an_idle_tunnel_takes_fifteen_kilobytes() -> None:
    count = 400
    with lined(limits={"max_tunnels": 1000}) as line:
        for _ in range(20):
            line.connect_through()
        before = line.proxy.memory("VmRSS")
        for _ in range(count):
            line.connect_through()
        assert (line.proxy.memory("VmRSS") - before) / count <= 15_000
