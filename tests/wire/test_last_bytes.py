"""The last bytes of an answer, or of a tunnel: they wait for who is slow to read, not for who does not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.client import get, request
from support.clients import connections
from support.narrow import NarrowClient, narrow_legs
from support.sidecar import Running, Start
from support.turns import turns, until
from support.upstream import Do, Expect, ScriptedUpstream, Send, Wait

from proxy.core.policy import Timeouts
from proxy.core.quantities import Seconds
from proxy.wire.tunnel import HALF_CLOSED_S

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
# More than the narrow windows hold, and less than stops the upstream: the proxy has it all, and has to wait.
LAST = bytes(range(256)) * 200
TIMES = Timeouts(body_idle=Seconds(60))
KINDS = ["HTTP/1.0", "HTTP/1.1", "tunnel"]


@pytest.fixture(autouse=True)
def much_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as a loop allows by itself, so that who reads a little has still something to read."""
    monkeypatch.setattr("proxy.wire.unsent._MOST_WAITING", 64 * 1024)


async def swept(proxy: Running, seconds: float) -> None:
    """Lets so much time pass, and the sweep come round."""
    proxy.clock.now += seconds
    await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
    await turns()


async def tunnel(client: NarrowClient, upstream: ScriptedUpstream) -> None:
    """Opens a tunnel in which the upstream says one byte."""
    await client.send(request("CONNECT", upstream.authority))
    client.read_slowly()
    assert await client.reader.readexactly(len(ESTABLISHED) + 1) == ESTABLISHED + b"!"
    client.stop_reading()


@asynccontextmanager
async def ended(proxy: Running, kind: str) -> AsyncIterator[NarrowClient]:
    """A client whose exchange is over, and who has most of it still to read."""
    in_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(LAST),
        LAST,
    )
    last = asyncio.Event()
    steps = (
        [Send(b"!"), Wait(last), Send(LAST)] if kind == "tunnel" else [Expect(), Send(in_chunks), Do.STALL]
    )
    async with ScriptedUpstream(steps) as upstream, await NarrowClient.connect_to(proxy) as client:
        if kind == "tunnel":
            await tunnel(client, upstream)
            client.writer.write_eof()
            await turns()
            last.set()
        else:
            head = get(f"http://{upstream.authority}/", "Connection: close").replace(
                b"HTTP/1.1", kind.encode(), 1
            )
            await client.send(head)
        exchange = await proxy.report()
        assert exchange.error is None
        assert exchange.response_bytes == len(LAST) + (kind == "tunnel")
        await until(client.proxy_side.is_closing)
        assert client.proxy_side.get_write_buffer_size() > len(LAST) / 4
        yield client


async def read_a_little(client: NarrowClient) -> None:
    """Reads until the proxy has got rid of something, which may be more than the client has read."""
    left = client.proxy_side.get_write_buffer_size()
    client.read_slowly()
    await until(lambda: client.proxy_side.get_write_buffer_size() < left)
    client.stop_reading()


async def read_steadily(proxy: Running, client: NarrowClient, seconds: float) -> float:
    """Has a little taken each time that so many seconds have passed; returns how long it took altogether."""
    began = proxy.clock.now
    # The sweep comes round ten times a second: it sees what is left, and then that it has become less.
    await swept(proxy, 1)
    while client.proxy_side.get_write_buffer_size():
        await read_a_little(client)
        await swept(proxy, 1)
        await swept(proxy, seconds - 1)
    return proxy.clock.now - began


@pytest.mark.parametrize("kind", KINDS)
async def test_one_who_reads_slowly_gets_all(start: Start, kind: str) -> None:
    proxy = await start(timeouts=TIMES)
    async with ended(proxy, kind) as client:
        assert await read_steadily(proxy, client, 50) >= 120
        client.read_slowly()
        received = await client.rest()
        assert received.endswith(b"\r\n0\r\n\r\n" if kind == "HTTP/1.1" else LAST)
        assert LAST in received
    await until(lambda: not proxy.sidecar.data_plane.clients)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_who_reads_nothing_is_reset_after_body_idle(start: Start, kind: str) -> None:
    """An orderly end would pass for the end of the content."""
    proxy = await start(timeouts=TIMES)
    async with ended(proxy, kind) as client:
        await swept(proxy, 1)
        await swept(proxy, 58)
        assert len(proxy.sidecar.data_plane.clients) == 1
        await swept(proxy, 2)
        await until(lambda: not proxy.sidecar.data_plane.clients)
        client.read_slowly()
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize("kind", KINDS)
async def test_one_who_stops_reading_has_body_idle_from_then_on(start: Start, kind: str) -> None:
    proxy = await start(timeouts=TIMES)
    async with ended(proxy, kind) as client:
        await swept(proxy, 50)
        await read_a_little(client)
        await swept(proxy, 1)
        await swept(proxy, 58)
        assert len(proxy.sidecar.data_plane.clients) == 1
        await swept(proxy, 60)
        await until(lambda: not proxy.sidecar.data_plane.clients)
        client.read_slowly()
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize("answers", [False, True], ids=["and says nothing", "and speaks at the end"])
async def test_a_half_closed_tunnel_stays_while_its_client_takes_bytes(
    start: Start,
    answers: bool,  # noqa: FBT001 -- a column
) -> None:
    proxy = await start(timeouts=TIMES)
    steps = [Send(b"!"), Expect(b"go"), Send(LAST), Do.HALF_CLOSE, Do.STALL]
    async with ScriptedUpstream(steps) as upstream, await NarrowClient.connect_to(proxy) as client:
        await tunnel(client, upstream)
        await client.send(b"go")
        await until(lambda: client.proxy_side.get_write_buffer_size() > len(LAST) / 4)
        assert await read_steadily(proxy, client, HALF_CLOSED_S - 10) > 2 * HALF_CLOSED_S
        assert not proxy.exchanges
        client.read_slowly()
        assert await client.rest() == LAST
        if answers:
            await client.send(b"thanks")
            await upstream.connections[0].until(b"thanks")
    await proxy.report()


async def test_a_half_closed_tunnel_whose_client_takes_nothing_is_cut(start: Start) -> None:
    """The counterpart."""
    proxy = await start(timeouts=TIMES)
    steps = [Send(b"!"), Expect(b"go"), Send(LAST), Do.HALF_CLOSE, Do.STALL]
    async with ScriptedUpstream(steps) as upstream, await NarrowClient.connect_to(proxy) as client:
        await tunnel(client, upstream)
        await client.send(b"go")
        await until(lambda: client.proxy_side.get_write_buffer_size() > len(LAST) / 4)
        await turns()
        await swept(proxy, 1)
        await swept(proxy, HALF_CLOSED_S + 1)
        exchange = await proxy.report()
        assert exchange.error is not None
        assert exchange.error.error_type == "connection_read_timeout"
        await swept(proxy, 1)
        await swept(proxy, 60)
        await until(lambda: not proxy.sidecar.data_plane.clients)
        client.read_slowly()
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_one_who_reads_slowly_through_a_wide_window_gets_all(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes comes out of the kernel's buffers; ours gets less only when a third of those is free."""
    legs = narrow_legs(monkeypatch)
    proxy = await start(timeouts=TIMES)
    last, head = b"\xff" * 10_000, b"HTTP/1.1 200 OK\r\n\r\n"

    async def arrived(count: int) -> None:
        await until(lambda: legs[0].received == count)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = len(head)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        (client_side,) = [client.transport for client in connections(proxy)]
        assert client_side is not None
        while client_side.get_write_buffer_size() < 2 * len(last):
            writer.write(last)
            sent += len(last)
            await arrived(sent)
        writer.close()

    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        with socket.socket() as client:
            client.settimeout(0)
            await loop.sock_connect(client, ("127.0.0.1", proxy.port))
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            await loop.sock_sendall(client, get(url).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            await proxy.report()
            taken = 0
            while piece := await loop.sock_recv(client, 100_000):
                taken += piece.count(b"\xff")
                # Some kilobytes a second, without a pause.
                await swept(proxy, 20)
    assert taken == legs[0].received - len(head)
