"""Conversations through a proxy on loopback, with a client and upstreams that say what they are told to.

All of them live on the proxy's own loop, so that its turns are theirs: nobody sleeps, and a pause is over
when nothing has moved for some turns. What is tried depends on that, what is right does not.
"""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self, cast

from fuzz.messages import PORT, TUNNEL, UPSTREAM
from fuzz.reading import Answer, Malformed, Request, answer_of, arrived_of, begins_http
from fuzz.strategies import Ending
from support.sidecar import Running
from support.turns import turns

from proxy.core.errors import ProxyInternalResponse

# Further than any deadline is away.
_LONG_S = 10_000.0
# Each exchange that waits on a connection may take one sweep.
_SWEEP_S, _SWEEPS = 0.5, 12
# After how many turns without a move nothing will move; what is in flight may wait for the kernel.
_QUIET_TURNS = 25
_BUSY_TURNS = 150
# IPv6 has a form for it (RFC 4291 section 2.5.5.2).
_OWN_ADDRESSES = ("127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1")
_ODD_TUNNEL = re.compile(rb"(CONNECT [^\s/]*:)" + PORT)


class Peer(asyncio.Protocol):
    """One end of a connection: keeps what arrives.

    Attributes:
        ended: the other side has closed, in an orderly way.
        lost: the connection is gone.
        answered: how many requests have been.
    """

    def __init__(self, hears: Callable[["Peer"], None] = lambda _: None) -> None:
        self.received = bytearray()
        self.ended = False
        self.lost = False
        self.answered = 0
        self.echoed = 0
        self.has_continued = False
        self.transport: asyncio.Transport | None = None
        self._hears = hears

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none of its subclasses

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._hears(self)

    def eof_received(self) -> bool:
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True

    def write(self, text: bytes) -> None:
        """Writes, if there is still somebody."""
        if text and self.transport is not None and not self.transport.is_closing():
            self.transport.write(text)

    def end(self, ending: Ending) -> None:
        """Closes; a reset drops what the other side has not read."""
        if self.transport is None or self.transport.is_closing():
            return
        if ending is Ending.RESET:
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif ending is Ending.FIN:
            self.transport.close()


class Upstreams:
    """Two upstreams: one reads HTTP strictly and answers, one is what tunnels lead to, and echoes all else.

    Attributes:
        arrived: the connections of the first, in order.
        tunnelled: those of the second.
        scripted: the connection whose first request the test answers itself; set once that has arrived.
    """

    def __init__(self) -> None:
        self.arrived: list[Peer] = []
        self.tunnelled: list[Peer] = []
        self.scripted: Peer | None = None
        self._is_scripting = False
        self._answers = 0
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for accept in (self._accept, self._accept_tunnel):
            self._servers.append(await loop.create_server(accept, "127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        self.forget()

    def addressed(self, text: bytes) -> bytes:
        """The text with the addresses of these upstreams, each in the request-targets that lead to it."""
        text = text.replace(b"CONNECT " + UPSTREAM, b"CONNECT " + TUNNEL)
        text = text.replace(b"//" + TUNNEL, b"//" + UPSTREAM)
        for name, port in zip((UPSTREAM, TUNNEL), self.ports, strict=True):
            text = text.replace(name, b"127.0.0.1:%05d" % port)
        upstream, tunnel = self.ports
        text = _ODD_TUNNEL.sub(rb"\g<1>%05d" % tunnel, text)
        return text.replace(PORT, b"%05d" % upstream)

    @property
    def ports(self) -> list[int]:
        """Of the first, and of the second."""
        return [server.sockets[0].getsockname()[1] for server in self._servers]

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(not peer.lost for peer in self.arrived + self.tunnelled)

    def forget(self) -> None:
        """Begins a new conversation, in which all is answered as usual."""
        for peer in self.arrived + self.tunnelled:
            peer.end(Ending.RESET)
        self.arrived.clear()
        self.tunnelled.clear()
        self.scripted = None
        self._is_scripting = False
        self._answers = 0

    def leave_the_next(self) -> None:
        """Leaves the next request to the test, as `scripted`."""
        self._is_scripting = True

    def serve_on(self) -> None:
        """Takes the scripted connection back."""
        peer, self.scripted = self.scripted, None
        self._is_scripting = False
        if peer is not None:
            self._hears(peer)

    def requests(self) -> list[tuple[Request, bytes]]:
        """What has arrived, as h11 reads it, each with what came behind it where it was an upgrade.

        Raises:
            Malformed: something else has arrived.
        """
        return _requests_of(self.arrived)

    def requests_inside(self) -> list[tuple[Request, bytes]]:
        """The same of what was inside of a CONNECT.

        Raises:
            Malformed: as above.
        """
        return _requests_of(self.tunnelled)

    def _accept(self) -> Peer:
        self.arrived.append(Peer(self._hears))
        return self.arrived[-1]

    def _accept_tunnel(self) -> Peer:
        self.tunnelled.append(Peer(self._hears_inside))
        return self.tunnelled[-1]

    def _hears_inside(self, peer: Peer) -> None:
        if begins_http(bytes(peer.received)):
            self._hears(peer)
        else:
            peer.write(bytes(peer.received[peer.echoed :]))
            peer.echoed = len(peer.received)

    def _hears(self, peer: Peer) -> None:
        """Answers the requests that have arrived whole; each answer says which one it is for."""
        if peer is self.scripted:
            return
        try:
            requests, raw = arrived_of(bytes(peer.received))
        except Malformed:
            # Whoever asks for `requests` is told.
            peer.end(Ending.FIN)
            return
        for request in requests[peer.answered :]:
            if not request.complete:
                if request.values(b"expect") == [b"100-continue"] and not peer.has_continued:
                    peer.has_continued = True
                    peer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            peer.answered += 1
            if self._is_scripting:
                self._is_scripting = False
                self.scripted = peer
                return
            self._answers += 1
            self._answer(peer, request, self._answers)
        if requests and requests[-1].values(b"upgrade"):
            peer.write(raw[peer.echoed :])
            peer.echoed = len(raw)

    def _answer(self, peer: Peer, request: Request, number: int) -> None:
        """Answers in one of the three framings."""
        head = b"X-Asked: " + asked(request) + b"\r\n"
        content = b"" if request.method == b"HEAD" else asked(request)
        if request.values(b"upgrade"):
            switch = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            peer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + switch + head + b"\r\n")
        elif number % 3 == 1:
            peer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(asked(request)), head, content)
            )
        elif number % 3 == 2:
            chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b""
            peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + head + b"\r\n" + chunks)
        else:
            peer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n" + content)
            peer.end(Ending.FIN)


def _requests_of(peers: list[Peer]) -> list[tuple[Request, bytes]]:
    found = []
    for peer in peers:
        requests, raw = arrived_of(bytes(peer.received))
        found += [(request, raw if request is requests[-1] else b"") for request in requests]
    return found


def asked(request: Request) -> bytes:
    """What an answer of `Upstreams` says of the request it is for."""
    return request.method + b" " + request.target


@dataclass
class Stage:
    """A proxy, its upstreams, and what must be so between any two conversations.

    Attributes:
        logged: the errors that anybody has logged: what the proxy does not expect is a fault of it.
        connected: where anybody has connected to.
    """

    proxy: Running
    upstreams: Upstreams
    logged: list[str] = field(default_factory=list)
    connected: set[tuple[str, int]] = field(default_factory=set)
    tasks: int = 0
    reported_before: int = 0
    patience_s: float = 10.0

    @property
    def reports(self) -> int:
        """How many exchanges of this conversation have been reported."""
        return len(self.proxy.exchanges) - self.reported_before

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Peer]:
        """A connection to the proxy, closed at the end."""
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_connection(Peer, "127.0.0.1", self.proxy.port)
        try:
            yield peer
        finally:
            peer.end(Ending.RESET)

    async def speak(self, peer: Peer, pieces: list[bytes]) -> None:
        """Sends pieces so that they are read as pieces, then lets everybody do what they have to."""
        for piece in pieces:
            peer.write(piece)
            await turns(2 if len(pieces) > 8 else 6)
        await self.quiet(peer)

    async def soon(self, condition: Callable[[], object], otherwise: str) -> None:
        """Waits until something is so; less long once that was in vain, to make examples smaller."""
        try:
            async with asyncio.timeout(self.patience_s):
                while not condition():
                    await asyncio.sleep(0)
        except TimeoutError:
            self.patience_s = 0.3
            raise AssertionError(otherwise) from None

    async def quiet(self, client: Peer) -> None:
        """Waits until nothing moves."""
        handler = self.proxy.sidecar.data_plane.handler
        seen: object = None
        still = 0
        while still < (_QUIET_TURNS if handler.in_flight == 0 else _BUSY_TURNS):
            await asyncio.sleep(0)
            peers = [client, *self.upstreams.arrived, *self.upstreams.tunnelled]
            now = len(self.proxy.exchanges), [(len(peer.received), peer.ended, peer.lost) for peer in peers]
            still = 0 if now != seen else still + 1
            seen = now

    async def end(self, client: Peer, ending: Ending) -> None:
        """Ends what is left of the client's conversation, and proves that nothing of it stays."""
        if ending is Ending.CLOCK:
            await self.pass_deadlines()
            await self.quiet(client)
        client.end(Ending.FIN if ending is Ending.CLOCK else ending)
        await self.soon(lambda: client.lost, "the connection stays open")
        # The proxy reads little ahead of what it has in hand: then it sees a client leave by the deadlines.
        await self.quiet(client)
        await self.pass_deadlines()

    async def over(self) -> None:
        """Waits until the proxy is done with all that was asked of it."""
        await self.soon(lambda: not self.proxy.sidecar.data_plane.handler.in_flight, "it hangs")

    async def pass_deadlines(self) -> None:
        """Lets all deadlines pass: afterwards nothing is in flight."""
        for _ in range(_SWEEPS):
            if not self.proxy.sidecar.data_plane.handler.in_flight:
                return
            self.proxy.clock.now += _LONG_S
            self.proxy.reported.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_S):
                    await self.proxy.reported.wait()
        raise AssertionError("it hangs, with all deadlines passed")

    async def swept(self) -> None:
        """Waits until the sweep has seen how far the clock has gone: a new client would seem so slow."""
        await self.soon(
            lambda: self.proxy.sidecar.data_plane.clients.now == self.proxy.clock.now, "nobody sweeps"
        )

    async def canary(self) -> None:
        """Proves that the proxy still serves: two clients, the second on what the first has left."""
        await self.swept()
        for name in (b"/canary/1", b"/canary/2"):
            line = b"GET http://" + UPSTREAM + name + b" HTTP/1.1\r\n"
            async with self.client() as client:
                client.write(self.upstreams.addressed(line + b"Host: " + UPSTREAM + b"\r\n\r\n"))
                answer = await self.answered(client)
                assert answer.content == b"GET " + name, f"an answer for somebody else: {answer}"

    async def answered(self, client: Peer, begin: int = 0) -> Answer:
        """Waits for the answer to a GET, from this offset on."""

        def answer() -> Answer:
            return answer_of(bytes(client.received[begin:]), b"GET", ended=client.ended)

        await self.soon(lambda: answer().complete, "a request afterwards is not answered")
        return answer()

    async def begin(self) -> None:
        """Begins a conversation; ends what one that failed has left."""
        await self.swept()
        sidecar = self.proxy.sidecar
        sidecar.data_plane.deadlines.fail_all(ProxyInternalResponse("the next conversation begins"))
        await turns()
        sidecar.data_plane.pool.close()
        self.upstreams.forget()
        self.tasks = len(asyncio.all_tasks())
        self.reported_before = len(self.proxy.exchanges)

    async def leaves_nothing(self) -> None:
        """Proves that nothing is left of a conversation, and that nothing in it was unforeseen."""
        sidecar = self.proxy.sidecar
        await self.soon(lambda: not sidecar.data_plane.clients, "a client's connection is left")
        await self.over()
        assert len(sidecar.data_plane.deadlines) == 0
        assert sidecar.data_plane.tunnels.open == 0
        assert sum(circuit.in_flight for circuit in sidecar.circuits) == 0, "a permit is left"
        sidecar.data_plane.pool.close()
        assert sidecar.data_plane.pool.idle == 0
        await self.soon(lambda: not self.upstreams.open, "a connection to an upstream is left")
        await self.soon(lambda: len(asyncio.all_tasks()) <= self.tasks, "a task is left")
        own = {
            (address, port) for address in _OWN_ADDRESSES for port in (self.proxy.port, *self.upstreams.ports)
        }
        assert self.connected & own, "the other client's request is not noted"
        elsewhere = self.connected - own
        self.connected.clear()
        assert not elsewhere, f"the proxy connects to {elsewhere}"
        logged = self.logged[:]
        self.logged.clear()
        assert not logged, logged
        # The fixture counts them in the end; they are not kept, since many come in a long run.
        exchanges = self.proxy.exchanges
        exchanges[self.reported_before :] = exchanges[:1] * self.reports
