"""A side that does not read holds up its own exchange, and nothing else: no memory, no connection."""

import asyncio
import socket
from typing import Any

import pytest
from support.client import Client, get, request
from support.narrow import NarrowClient, narrow_legs
from support.sidecar import Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Take

from proxy.core.policy import CircuitPolicy, Limits, Timeouts
from proxy.core.quantities import Bytes, Seconds
from proxy.wire.dialer import Dialer

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
# More than all narrow buffers on the way hold, and less than the high-water mark of an upstream's leg.
FILL = 200_000
# What one transport may hold: its high-water mark and what came in one read.
HELD = 1024 * 1024


def _hold_dialing(monkeypatch: pytest.MonkeyPatch, gate: asyncio.Event, *, connected: bool) -> None:
    """Holds every call of the dialer at the gate, connected already or not yet."""
    connect = Dialer.connect

    async def held(self: Dialer, *args: Any) -> Any:
        if not connected:
            await gate.wait()
        protocol = await connect(self, *args)
        await gate.wait()
        return protocol

    monkeypatch.setattr(Dialer, "connect", held)


def _length(count: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count


@pytest.mark.parametrize(
    ("method", "steps", "outcome"),
    [
        ("GET", [Expect(), Send(_length(1_000_000) + b"x" * 1_000_000), Do.STALL], "neutral"),
        ("CONNECT", [Send(b"x" * 1_000_000), Do.STALL], "success"),
    ],
    ids=["forward", "tunnel"],
)
async def test_a_client_that_stops_reading_leaves_no_connection_behind(
    start: Start, method: str, steps: list[Step], outcome: str
) -> None:
    """It is not even given the time that the last bytes of a whole answer get."""
    proxy = await start(circuit=ONE_FAILURE, timeouts=Timeouts(tunnel_idle=Seconds(60)))
    async with ScriptedUpstream(steps) as upstream, await NarrowClient.connect_to(proxy) as client:
        url = upstream.authority if method == "CONNECT" else f"http://{upstream.authority}/"
        await client.send(request(method, url))
        await until(lambda: client.other_end.writing_paused)
        await turns()
        proxy.clock.now += 60
        exchange = await proxy.report()
        await until(lambda: not proxy.sidecar.data_plane.clients)
    assert str(exchange.outcome) == outcome
    assert proxy.state(upstream.authority) in (None, "closed")


async def test_refusals_do_not_pile_up_for_a_client_that_does_not_read_them(
    start: Start,
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect()]) as upstream:
        asked = get(f"http://{upstream.authority}/")
        async with await Client.connect(proxy.port) as opener:
            await opener.send(asked)
            assert (await opener.answer()).status == 502
        async with await NarrowClient.connect_to(proxy) as client:
            client.writer.write(asked * 2000)
            await until(lambda: client.proxy_side.is_closing() or len(proxy.exchanges) == 2001)
            assert client.proxy_side.get_write_buffer_size() < HELD / 8
            assert len(proxy.exchanges) < 1000
            # Its last answers have a minute to be read.
            proxy.clock.now += 60
            await turns()
            proxy.clock.now += 60
            await until(lambda: not proxy.sidecar.data_plane.clients)


async def test_what_comes_behind_a_connect_stops_the_client_where_the_upstream_does_not_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    legs = narrow_legs(monkeypatch, window=4096)
    connect = asyncio.Event()
    _hold_dialing(monkeypatch, connect, connected=False)
    proxy = await start()
    loop, size = asyncio.get_running_loop(), HELD
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with await NarrowClient.connect_to(proxy) as client:
            client.read_on()
            authority = f"127.0.0.1:{listening.getsockname()[1]}"
            client.writer.write(request("CONNECT", authority) + b"z" * size)
            # Until the listener holds as much as it wants to; it is more than what two kernels take.
            await until(lambda: not client.proxy_side.is_reading())
            connect.set()
            assert await client.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
            assert not client.proxy_side.is_reading()
            accepted, _ = await loop.sock_accept(listening)
            with accepted:
                legs[0].widen()
                received = 0
                while received < size:
                    received += len(await loop.sock_recv(accepted, size))
        exchange = await proxy.report()
    assert exchange.request_bytes == size


@pytest.mark.parametrize("ahead", [1_000, 10_000, 100_000])
async def test_a_client_that_was_stopped_behind_its_connect_is_read_on(
    start: Start, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """The listener stops it at twice `max_head`, aiohttp only at 64 KiB."""
    connect = asyncio.Event()
    _hold_dialing(monkeypatch, connect, connected=False)
    proxy = await start(limits=Limits(max_head=Bytes(2048)))
    async with ScriptedUpstream([Take(ahead), Expect(b"more"), Send(b"all"), Do.STALL]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            client.read_on()
            await client.send(request("CONNECT", upstream.authority))
            await turns()
            client.writer.write(b"z" * ahead)
            await until(lambda: ahead < 4096 or not client.proxy_side.is_reading())
            connect.set()
            assert await client.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
            await client.send(b"more")
            async with asyncio.timeout(5):
                assert await client.reader.readexactly(3) == b"all"
    assert (await proxy.report()).request_bytes == ahead + 4


async def test_what_an_upstream_says_at_once_stops_it_where_the_client_does_not_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    legs = narrow_legs(monkeypatch)
    connected = asyncio.Event()
    _hold_dialing(monkeypatch, connected, connected=True)
    proxy = await start()
    size = 2_000_000
    async with ScriptedUpstream([Send(b"x" * size), Do.STALL]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            await client.send(request("CONNECT", upstream.authority))
            await until(lambda: legs and not legs[0].transport.is_reading())
            connected.set()
            await until(lambda: client.other_end.writing_paused)
            await turns()
            assert not legs[0].transport.is_reading()
            assert client.proxy_side.get_write_buffer_size() < HELD
            client.read_on()
            received = await client.reader.readexactly(len(ESTABLISHED) + size)
            assert received == ESTABLISHED + b"x" * size
    assert (await proxy.report()).response_bytes == size


async def test_a_client_that_reads_slowly_and_without_a_pause_is_not_cut(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    size = 600_000
    response = _length(size) + b"x" * size
    async with ScriptedUpstream([Expect(), Send(response)]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await until(lambda: client.other_end.writing_paused)
            received = b""
            for passes_s in (1, 25, 25, 25, 25, 25, 25):
                proxy.clock.now += passes_s
                await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
                client.read_slowly()
                received += await client.reader.readexactly(10_000)
                client.stop_reading()
                await turns()
            assert not proxy.exchanges
            client.read_on()
            while len(received.partition(b"\r\n\r\n")[2]) < size:
                received += await client.reader.read(65536)
    assert str((await proxy.report()).outcome) == "success"


async def test_what_a_client_takes_to_read_an_answer_is_not_our_own_time(start: Start) -> None:
    proxy = await start()
    size = 60_000  # it comes in one read
    async with ScriptedUpstream([Expect(), Send(_length(size) + b"x" * size)]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await until(lambda: client.other_end.writing_paused)
            await turns()
            proxy.clock.now += 7
            client.read_on()
            assert len((await client.answer()).content) == size
    exchange = await proxy.report()
    assert exchange.total_own_s(proxy.clock.now) == 0


async def test_content_that_has_all_come_waits_for_an_upstream_that_does_not_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp's parser is done with it by then, and must not be paused any more."""
    legs = narrow_legs(monkeypatch, window=4096)
    proxy = await start()
    content = b"x" * 60_000
    begun, reads = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\ny")
        begun.set()
        await reads.wait()
        assert await reader.readexactly(len(content)) == content
        writer.write(OK)
        writer.close()
        await writer.wait_closed()

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        authority = f"127.0.0.1:{listening.getsockname()[1]}"
        async with (
            await asyncio.start_server(serve, sock=listening, limit=1024),
            await Client.connect(proxy.port) as client,
        ):
            head = (
                f"POST http://{authority}/ HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content) + 1}\r\n\r\n"
            )
            await client.send(head.encode() + b"y")
            await begun.wait()
            await client.send(content)
            await until(lambda: legs[0].transport.get_write_buffer_size() > len(content) / 2)
            await turns()
            reads.set()
            assert (await client.answer()).status == 200
    await proxy.report()
