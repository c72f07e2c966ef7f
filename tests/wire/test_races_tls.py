"""What happens in the same turn of the loop, or while a peer is slow, where a CONNECT or TLS is under way."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from aiohttp import web
from support import certificates
from support.client import ESTABLISHED, request
from support.clients import connections
from support.interception import start_intercepting
from support.sidecar import SETTINGS, Start
from support.tls_client import TlsClient, inside
from support.turns import turns, until
from support.upstream import OK, Do, Expect, Send, tls_upstream

from proxy.core.policy import Limits
from proxy.core.quantities import Bytes
from proxy.wire.call import Call
from proxy.wire.handler import Handler
from proxy.wire.pool import Pool
from proxy.wire.tls import TlsTransport
from proxy.wire.tunnels import Tunnels

NOWHERE = "localhost:9"
ASKED = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
_PATIENCE_S = 10.0


@asynccontextmanager
async def standing(port: int, authority: str) -> AsyncIterator[socket.socket]:
    """A socket behind the 200 to its CONNECT."""
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.settimeout(0)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(raw, request("CONNECT", authority))
        assert await loop.sock_recv(raw, 1000) == ESTABLISHED
        yield raw


@pytest.mark.parametrize("is_reset", [True, False])
async def test_an_upstream_that_goes_just_as_http_is_found_is_called_anew(
    start: Start, *, is_reset: bool
) -> None:
    proxy = await start()
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        authority = f"127.0.0.1:{listening.getsockname()[1]}"
        async with standing(proxy.port, authority) as raw, asyncio.timeout(_PATIENCE_S):
            first, _ = await loop.sock_accept(listening)
            await turns()
            if is_reset:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            raw.send(inside("GET", authority))
            second, _ = await loop.sock_accept(listening)
            with second:
                second.settimeout(0)
                assert (await loop.sock_recv(second, 1000)).startswith(b"GET / ")
                await loop.sock_sendall(second, OK)
                assert (await loop.sock_recv(raw, 1000)).endswith(b"ok")
    assert (await proxy.report(2)).status == 200
    assert proxy.exchanges[0].error is None


async def test_a_client_that_does_not_read_is_given_up_where_its_connect_came_to_nothing(
    start: Start,
) -> None:
    proxy = await start_intercepting(start)
    async with standing(proxy.port, NOWHERE) as raw:
        (client,) = connections(proxy)
        assert client.transport is not None
        while not client.transport.get_write_buffer_size():
            client.transport.write(b"unread" * 100)
            await turns(2)
        raw.send(b"\0neither TLS nor HTTP")
        await proxy.report()
        await turns()
        assert len(proxy.sidecar.data_plane.clients) == 1
        for _ in range(2):
            proxy.clock.now += SETTINGS.timeouts.body_idle
            await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
        await until(lambda: not proxy.sidecar.data_plane.clients)


async def test_what_comes_behind_a_connect_that_came_to_nothing_is_no_request(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop may still read in the turn before the connection is closed."""
    handle = Handler.handle

    async def late(self: Handler, asked: web.BaseRequest) -> web.StreamResponse:
        answer = await handle(self, asked)
        asked.protocol.data_received(b"x" * 20_000)
        return answer

    monkeypatch.setattr(Handler, "handle", late)
    proxy = await start_intercepting(start, limits=Limits(max_head=Bytes(1024)))
    async with standing(proxy.port, NOWHERE) as raw:
        raw.send(b"\0neither TLS nor HTTP")
        assert await asyncio.get_running_loop().sock_recv(raw, 1000) == b""
    await proxy.report()


async def test_a_connection_that_tls_has_just_given_up_is_not_lent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may not be repeated would have failed on it."""
    proxy = await start_intercepting(start)
    take, made = Pool.take, TlsTransport.carry
    towards_upstream: list[TlsTransport] = []

    def noted(self: TlsTransport, protocol: asyncio.BaseProtocol) -> None:
        towards_upstream.append(self)
        made(self, protocol)

    def late(self: Pool, *arguments: Any) -> Any:
        if self.idle:
            # As the loop does for a FIN, here without a close_notify; of the loss it tells in its next turn.
            towards_upstream[-1].eof_received()
        return take(self, *arguments)

    monkeypatch.setattr(TlsTransport, "carry", noted)
    monkeypatch.setattr(Pool, "take", late)
    async with tls_upstream([Expect(), Send(OK), Do.STALL], [Expect(), Send(OK)]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(inside("GET", upstream.authority))
            assert (await client.answer()).status == 200
            await until(lambda: proxy.sidecar.data_plane.pool.idle)
            await client.send(inside("POST", upstream.authority, content=b"x"))
            assert (await client.answer("POST")).status == 200
    assert len(upstream.connections) == 2
    await proxy.report(3)


class _Slow:
    """An upstream in a thread, which switches protocols and reads nothing more until it may."""

    def __init__(self) -> None:
        self.may_read = threading.Event()
        self.received = b""
        self.ended_in_order = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.authority = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def serve(self) -> None:
        context = certificates.server("127.0.0.1")
        with self._listening, self._listening.accept()[0] as raw:
            raw.settimeout(_PATIENCE_S)
            with context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False) as tls:
                while not tls.recv(1000).endswith(b"\r\n\r\n"):
                    pass
                tls.sendall(ACCEPT)
                self.may_read.wait(_PATIENCE_S)
                try:
                    while received := tls.recv(65536):
                        self.received += received
                    self.ended_in_order = True
                except (ssl.SSLError, OSError):
                    pass


@contextmanager
def slow() -> Iterator[_Slow]:
    """Serves one connection."""
    upstream = _Slow()
    thread = threading.Thread(target=upstream.serve)
    thread.start()
    try:
        yield upstream
    finally:
        upstream.may_read.set()
        thread.join()


@pytest.mark.parametrize("takes", [True, False])
async def test_what_a_client_said_before_its_close_notify_gets_to_a_slow_upstream(
    start: Start, monkeypatch: pytest.MonkeyPatch, *, takes: bool
) -> None:
    """Or not, but then nobody waits for that for ever."""
    tunnels: list[tuple[Call, asyncio.Transport]] = []
    carry_on = Tunnels.carry_on

    async def noted(self: Tunnels, call: Call, hand_over: Any, *arguments: Any) -> None:
        def handed(tunnel: asyncio.BaseProtocol) -> Any:
            transport = hand_over(tunnel)
            tunnels.append((call, transport))
            return transport

        await carry_on(self, call, handed, *arguments)

    monkeypatch.setattr(Tunnels, "carry_on", noted)
    proxy = await start_intercepting(start)
    with slow() as upstream:
        client = await TlsClient.through(proxy.port, upstream.authority)
        await client.send(inside("GET", upstream.authority, "/chat", *ASKED))
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        ((call, towards_upstream),) = tunnels
        sent = 0
        while not towards_upstream.get_write_buffer_size():
            await client.send(b"x" * 4000)
            sent += 4000
            while call.exchange.request_bytes < sent:
                await turns(1)
        await client.send_raw(client.inside.close_notify())
        await turns()
        assert len(proxy.exchanges) == 1
        if takes:
            upstream.may_read.set()
            await until(lambda: upstream.ended_in_order)
            assert len(upstream.received) == sent
        else:
            proxy.clock.now += 60
        await until(lambda: len(proxy.exchanges) == 2)
        assert str(proxy.exchanges[1].outcome) == "success"
        await until(lambda: not proxy.sidecar.data_plane.clients)
        client.close()
