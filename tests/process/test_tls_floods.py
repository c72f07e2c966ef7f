"""Floods of clients whose TLS the proxy ends, up to the limits and beyond: who is served stays served."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import pytest
from support import certificates
from support.process import PATIENCE_S, RunningProxy, until

from proxy.core.budget import (
    EXCHANGE_BYTES,
    IDLE_CLIENT_BYTES,
    LEAF_BYTES,
    MOST_LEAVES,
    STALLED_BYTES,
    STALLED_TLS_BYTES,
    TLS_BYTES,
    TURNED_AWAY,
    memory_bytes,
)
from proxy.core.policy import Limits

HOST = "localhost"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BLOCK = bytes(64 * 1024)
LIMITS: dict[str, Any] = {"max_connections": 130, "max_tunnels": 121, "max_circuits": 10, "idle_total": 10}
FLOOD = 110
# What the first of each kind make for all later ones, and connections of the admin server.
ONCE_BYTES = 4_000_000
FEW = 6
# Connections to the upstream that rest.
RESTING = LIMITS["idle_total"]


class Upstream:
    """Answers GET with OK, over TLS; what is asked of /endless never ends."""

    def __init__(self) -> None:
        self.port = 0
        self._begun = Event()
        self._over = asyncio.Event()
        self._thread = Thread(target=asyncio.run, args=(self._run(),))
        self._thread.start()
        assert self._begun.wait(PATIENCE_S)

    def close(self) -> None:
        self._call(self._over.set)
        self._thread.join()

    async def _run(self) -> None:
        self._call = asyncio.get_running_loop().call_soon_threadsafe
        context = certificates.server()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        self._begun.set()
        await self._over.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    if b"/endless" in head:
                        await self._flood(writer)
                    writer.write(OK)
            finally:
                writer.transport.abort()

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(BLOCK)
            await writer.drain()


class Line:
    """The proxy, an upstream, and a client that is served from before the flood until after it."""

    def __init__(self, proxy: RunningProxy, upstream: Upstream, held: ExitStack) -> None:
        self.proxy = proxy
        self.held = held
        self._authority = f"{HOST}:{upstream.port}"
        self._context = ssl.create_default_context()
        # Who trusts whom is tested elsewhere.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._busy = self.shaken()
        self.healthy()
        self.resident = proxy.memory("VmRSS")
        self.descriptors = proxy.descriptors()

    def connect(self) -> socket.socket:
        client = self.held.enter_context(socket.socket())
        client.settimeout(PATIENCE_S)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, len(BLOCK))
        client.connect(("127.0.0.1", self.proxy.proxy_port))
        return client

    def healthy(self, *, seats: bool = True) -> None:
        """Calls are answered on an old connection, and on a new one if seats are left."""
        for _ in range(3):
            self.ask(self._busy)
        if seats:
            with self.shaken() as client:
                self.ask(client)

    def ask(self, client: ssl.SSLSocket, path: str = "/") -> None:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {self._authority}\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200")

    def grown(self) -> int:
        return self.proxy.memory("VmHWM") - self.resident

    def more(self) -> int:
        return self.proxy.descriptors() - self.descriptors

    # What floods are made of.

    def silent(self, host: str | None = None) -> socket.socket:
        authority = self._authority if host is None else f"{host}:443"
        client = self.connect()
        client.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        return client

    def hello(self) -> bytes:
        outgoing = ssl.MemoryBIO()
        tls = self._context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()

    def half_hello(self) -> socket.socket:
        client = self.silent()
        client.sendall(self.hello()[:100])
        return client

    def half_handshake(self) -> socket.socket:
        client = self.silent()
        client.sendall(self.hello())
        assert client.recv(4096).startswith(b"\x16")
        return client

    def shaken(self, host: str | None = None) -> ssl.SSLSocket:
        plain = self.silent(host)
        return self.held.enter_context(self._context.wrap_socket(plain, server_hostname=host or HOST))

    def idle(self) -> ssl.SSLSocket:
        client = self.shaken()
        self.ask(client)
        return client

    def unread_answer(self) -> ssl.SSLSocket:
        client = self.shaken()
        self.ask(client, "/endless")
        return client


@contextmanager
def lined(**sections: Any) -> Iterator[Line]:
    tls = {"ca": certificates.authority_path(), "server_name": certificates.NAME}
    with ExitStack() as held:
        upstream = Upstream()
        held.callback(upstream.close)
        settings: dict[str, Any] = {
            "circuit": {"mode": "disabled"},
            "intercept": {"ephemeral": True},
            "upstreams": [{"match": "*", "https": "intercept", "tls": tls}],
            "limits": LIMITS,
        }
        proxy = held.enter_context(RunningProxy(**(settings | sections)))
        yield Line(proxy, upstream, held.enter_context(ExitStack()))


@dataclass(frozen=True)
class Kind:
    """How one of a flood begins, and what it may take of memory and descriptors."""

    begin: Callable[[Line], socket.socket]
    memory: int
    descriptors: int = 1


STALLED_EXCHANGE = EXCHANGE_BYTES + STALLED_BYTES + 2 * (TLS_BYTES + STALLED_TLS_BYTES)
KINDS = {
    "idle clients": Kind(Line.idle, IDLE_CLIENT_BYTES + TLS_BYTES),
    "CONNECT and no hello": Kind(Line.silent, EXCHANGE_BYTES),
    "half a hello": Kind(Line.half_hello, EXCHANGE_BYTES),
    "half a handshake": Kind(Line.half_handshake, EXCHANGE_BYTES + TLS_BYTES),
    "answers that the client does not read": Kind(Line.unread_answer, STALLED_EXCHANGE, 2),
}


@pytest.mark.parametrize("name", KINDS)
def test_while_a_flood_stands_who_is_served_stays_served(name: str) -> None:
    kind = KINDS[name]
    with lined() as line:
        flood = []
        for number in range(FLOOD):
            flood.append(kind.begin(line))
            if number % 20 == 0:
                line.healthy()
        line.healthy()
        more = line.more() - FLOOD * kind.descriptors
        assert -FEW <= more <= FEW + RESTING, "it does not stand"
        assert line.grown() <= FLOOD * kind.memory + ONCE_BYTES
        assert line.proxy.memory("VmHWM") <= memory_bytes(Limits(**LIMITS), entries=1, intercepts=True)
        for each in flood:
            each.close()
        until(lambda: line.more() <= FEW, "a descriptor is left")
        line.healthy()


@pytest.mark.parametrize("begin", [Line.silent, Line.half_hello, Line.half_handshake])
def test_beyond_the_limit_who_does_not_go_on_has_its_time(begin: Callable[[Line], socket.socket]) -> None:
    most = LIMITS["max_connections"] - 2
    with lined(timeouts={"request_head": "4s"}) as line:
        served = line.unread_answer()
        flood = [begin(line) for _ in range(most)]
        assert line.more() >= most - FEW, "they do not stand"
        for _ in range(2 * TURNED_AWAY):
            line.connect().sendall(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: y")
            assert line.more() <= most + TURNED_AWAY + RESTING + FEW
            assert served.recv(65536)
        for each in flood:
            # It was told that its tunnel stands, so that there is nothing more to tell it.
            with suppress(ConnectionResetError):
                while each.recv(4096):
                    pass
            each.close()
        with line.shaken() as client:
            line.ask(client)
        assert line.proxy.memory("VmHWM") <= memory_bytes(Limits(**LIMITS), entries=1, intercepts=True)
        line.held.close()
        until(lambda: line.more() <= FEW, "a descriptor is left")


def test_certificates_for_ever_new_names_take_no_more_than_are_kept() -> None:
    with lined() as line:
        for number in range(3 * MOST_LEAVES):
            with line.shaken(f"n{number}.test"):
                pass
            if number % 100 == 0:
                line.healthy()
        line.healthy()
        assert line.grown() <= MOST_LEAVES * LEAF_BYTES + ONCE_BYTES
        assert line.proxy.memory("VmHWM") <= memory_bytes(Limits(**LIMITS), entries=1, intercepts=True)
        until(lambda: line.more() <= FEW, "a descriptor is left")
