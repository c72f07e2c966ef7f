"""A connection that becomes a WebSocket: the heads before it, bytes both ways, and how it ends."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from support.client import Client, get
from support.legs import leg
from support.sidecar import SETTINGS, Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Wait

from proxy.core.outcome import Verdict
from proxy.core.policy import CircuitPolicy, Endpoint, Limits, Listen, Timeouts
from proxy.core.quantities import Seconds
from proxy.core.route import Route, UpstreamUrl
from proxy.wire.upstream import UpstreamConnection

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
ASKED = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
ACCEPT = SWITCHING + b"upgrade: WebSocket\r\nSec-WebSocket-Accept: y\r\nconnection: upgrade\r\n\r\n"
ACCEPTED = (
    SWITCHING + b"Sec-WebSocket-Accept: y\r\nVia: 1.1 testproxy\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
)
# What no HTTP parser takes, and what one would.
FRAMES = b"\x81\x05hello\r\n\r\n\x00\xff", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def opened(proxy: Running, upstream: ScriptedUpstream, behind: bytes = b"") -> Client:
    client = await Client.connect(proxy.port)
    await client.send(get(f"http://{upstream.authority}/chat?a", *ASKED) + behind)
    assert await client.reader.readuntil(b"\r\n\r\n") == ACCEPTED
    return client


def booked(proxy: Running) -> dict[Verdict, int]:
    return dict(proxy.sidecar.circuits.totals.calls)


async def test_bytes_go_both_ways_behind_the_101(start: Start) -> None:
    proxy = await start()
    steps: list[Step] = [Expect(), Send(ACCEPT), *(Expect(frame) for frame in FRAMES)]
    async with ScriptedUpstream([*steps, *(Send(frame) for frame in FRAMES), Do.STALL]) as upstream:
        async with await opened(proxy, upstream) as client:
            for frame in FRAMES:
                await client.send(frame)
            assert await client.reader.readexactly(len(b"".join(FRAMES))) == b"".join(FRAMES)
        received = bytes(upstream.connections[0].received)
        exchange = await proxy.report()
    head = get(f"http://{upstream.authority}/chat?a", *ASKED[2:]).replace(upstream.authority.encode(), b"", 1)
    head = head.replace(b"http://", b"").removesuffix(b"\r\n")
    asked = b"Upgrade: websocket\r\nConnection: Upgrade\r\nVia: 1.1 testproxy\r\n\r\n"
    assert received == head + asked + b"".join(FRAMES)
    assert (exchange.status, exchange.source.value, str(exchange.outcome)) == (101, "upstream", "success")
    assert exchange.request_bytes == exchange.response_bytes == len(b"".join(FRAMES))


async def test_what_is_asked_of_every_hop_is_asked_at_once(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        lines = ("TE: trailers", "Connection: TE, upgrade, X-Hop", "uPGRADE: WebSocket", "X-Hop: 1")
        await client.send(get(f"http://{upstream.authority}/", *lines))
        head = await (await upstream.connection(0)).until(b"\r\n\r\n")
        assert head.endswith(
            upstream.authority.encode() + b"\r\nTE: trailers\r\nUpgrade: websocket\r\n"
            b"Connection: TE, Upgrade\r\nVia: 1.1 testproxy\r\n\r\n"
        )


@pytest.mark.parametrize("behind", FRAMES)
async def test_what_came_with_the_101_comes_behind_it(start: Start, behind: bytes) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(ACCEPT + behind), Expect(b"bye")]) as upstream:
        async with await opened(proxy, upstream) as client:
            assert await client.reader.readexactly(len(behind)) == behind
            await client.send(b"bye")
            assert await client.rest() == b""
    assert (await proxy.report()).response_bytes == len(behind)


# Where the reads are divided: in the head, behind it, in the first bytes behind it; all else follows singly.
@pytest.mark.parametrize("first", [1, len(ACCEPT) - 1, len(ACCEPT), len(ACCEPT) + 3])
async def test_what_is_read_before_anybody_takes_over_comes_in_order(
    start: Start, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """A loop that is behind reads more than once before the exchange hears of the 101."""
    behind = bytes(range(256)) * 4
    received = UpstreamConnection.data_received

    def in_pieces(self: UpstreamConnection, data: bytes) -> None:
        received(self, data[:first])
        for at in range(first, len(data)):
            received(self, data[at : at + 1])

    monkeypatch.setattr(UpstreamConnection, "data_received", in_pieces)
    proxy = await start()
    async with ScriptedUpstream(
        [Expect(), Send(ACCEPT + behind), Expect(b"bye"), Send(FRAMES[0])]
    ) as upstream:
        async with await opened(proxy, upstream) as client:
            # What was lost would be waited for in vain.
            async with asyncio.timeout(10):
                assert await client.reader.readexactly(len(behind)) == behind
            await client.send(b"bye")
            assert await client.rest() == FRAMES[0]
    assert (await proxy.report()).response_bytes == len(behind + FRAMES[0])


@pytest.mark.parametrize("size", [1, 7, 100, len(ACCEPT), len(ACCEPT) + 3])
async def test_a_connection_keeps_what_comes_behind_a_101_until_it_is_taken_over(size: int) -> None:
    sent = ACCEPT + b"".join(FRAMES) + b"HTTP/1.1 200 OK\r\n\r\n" + bytes(range(256))
    connection = leg()
    with connection:
        response = connection.begin("GET", 16_384, 100, may_switch=True)
        for at in range(0, len(sent), size):
            connection.data_received(sent[at : at + size])
        assert (await connection.next_head()).status == 101
        assert response.tail == sent[len(ACCEPT) :]
        assert not connection.reusable


@pytest.mark.parametrize("behind", FRAMES)
async def test_what_came_behind_the_request_goes_up_behind_the_101(start: Start, behind: bytes) -> None:
    proxy = await start()
    accept = asyncio.Event()
    steps = [Expect(), Wait(accept), Send(ACCEPT), Expect(behind + b"more"), Send(b"bye")]
    async with ScriptedUpstream(steps) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/", *ASKED) + behind)
        await (await upstream.connection(0)).until(b"\r\n\r\n")
        await client.send(b"more")
        await turns()
        assert upstream.connections[0].received.endswith(b"Via: 1.1 testproxy\r\n\r\n")
        accept.set()
        assert await client.rest() == ACCEPTED + b"bye"
    await proxy.report()


async def test_interim_responses_come_before_it(start: Start) -> None:
    proxy = await start()
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with ScriptedUpstream([Expect(), Send(hints + ACCEPT + b"hi")]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/", *ASKED))
            assert await client.rest() == hints + ACCEPTED + b"hi"


async def test_it_goes_through_a_route_as_well(start: Start) -> None:
    async with ScriptedUpstream([Expect(), Send(ACCEPT), Expect(b"ping"), Send(b"pong")]) as upstream:
        proxy = await start(
            listen=Listen(
                proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, reverse=Endpoint("127.0.0.1", 0)
            ),
            routes=(Route(upstream=UpstreamUrl.parse(f"http://{upstream.authority}")),),
        )
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send("\r\n".join(("GET /chat HTTP/1.1", "Host: a", *ASKED, "", "")).encode())
            assert await client.reader.readuntil(b"\r\n\r\n") == ACCEPTED
            await client.send(b"ping")
            assert await client.rest() == b"pong"
        assert (await proxy.report()).entry.value == "reverse"


async def test_a_half_close_of_the_client_passes_on(start: Start) -> None:
    proxy = await start()
    go_on = asyncio.Event()
    async with ScriptedUpstream(
        [Expect(), Send(ACCEPT), Wait(go_on), Expect(b"bye"), Send(b"x")]
    ) as upstream:
        async with await opened(proxy, upstream) as client:
            client.writer.write(b"bye")
            client.writer.write_eof()
            await turns()
            assert not proxy.exchanges
            go_on.set()
            assert await client.rest() == b"x"
    assert not (await proxy.report()).client_left


async def test_a_half_close_of_the_upstream_passes_on(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream(
        [Expect(), Send(ACCEPT + b"bye"), Do.HALF_CLOSE, Expect(b"thanks")]
    ) as upstream:
        async with await opened(proxy, upstream) as client:
            assert await client.rest() == b"bye"
            await client.send(b"thanks")
            await upstream.connections[0].until(b"thanks")
    await proxy.report()


async def test_it_is_judged_at_the_101(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), Send(ACCEPT), Expect(b"x"), Do.RESET]) as upstream:
        async with await opened(proxy, upstream) as client:
            await turns()
            assert booked(proxy) == {Verdict.SUCCESS: 1}
            # Whoever owes now, and for how long, says nothing of the upstream any more.
            await client.send(b"x")
            with pytest.raises(ConnectionResetError):
                await client.rest()
        exchange = await proxy.report()
    assert exchange.error is not None
    assert str(exchange.outcome) == "success"
    assert booked(proxy) == {Verdict.SUCCESS: 1}
    assert proxy.state(upstream.authority) == "closed"


async def test_a_client_that_leaves_a_quiet_one_says_nothing(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), Send(ACCEPT), Do.STALL]) as upstream:
        async with await opened(proxy, upstream) as client:
            await client.send(b"hello")
            await upstream.connections[0].until(b"hello")
            proxy.clock.now += 100
            client.writer.transport.abort()
            await proxy.report()
    assert booked(proxy) == {Verdict.SUCCESS: 1}


async def test_a_probe_ends_at_the_101(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1, recovery_threshold=1))
    failing = [Expect(), Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")]
    async with ScriptedUpstream(failing, [Expect(), Send(ACCEPT), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 500
            assert proxy.state(upstream.authority) == "open"
            proxy.clock.now += 30
        async with await opened(proxy, upstream):
            await turns()
            assert proxy.state(upstream.authority) == "closed"
        await proxy.report(2)


async def test_silence_ends_it_by_tunnel_idle(start: Start) -> None:
    times = Timeouts(tunnel_idle=Seconds(600), head=Seconds(1), body_idle=Seconds(1))
    proxy = await start(circuit=ONE_FAILURE, timeouts=times)
    async with ScriptedUpstream([Expect(), Send(ACCEPT), Expect(b"hello"), Do.STALL]) as upstream:
        async with await opened(proxy, upstream) as client:
            proxy.clock.now += 599
            await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
            # Each byte counts anew, of either side.
            await client.send(b"hello")
            await upstream.connections[0].until(b"hello")
            proxy.clock.now += 599
            await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
            await turns()
            assert not proxy.exchanges
            proxy.clock.now += 1
            assert await client.rest() == b""
        exchange = await proxy.report()
    assert exchange.error is not None
    assert exchange.error.error_type == "connection_read_timeout"
    assert str(exchange.outcome) == "success"
    assert booked(proxy) == {Verdict.SUCCESS: 1}


async def test_beyond_max_tunnels_it_is_503(start: Start) -> None:
    proxy = await start(limits=Limits(max_tunnels=1), circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), Send(ACCEPT), Do.STALL]) as upstream:
        async with await opened(proxy, upstream), await Client.connect(proxy.port) as other:
            assert proxy.sidecar.data_plane.tunnels.open == 1
            await other.send(get(f"http://{upstream.authority}/", *ASKED))
            answer = await other.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "local_limit")
            assert answer.header("Connection") == "close"
            assert await other.rest() == b""
            exchange = await proxy.report()
            assert (exchange.status, exchange.source.value) == (503, "proxy")
            # It speaks WebSocket by now: no request may go out on it.
            assert proxy.sidecar.data_plane.pool.idle == 0
            await until(lambda: upstream.connections[1].ended)
        await proxy.report(2)
        # The upstream has done nothing wrong.
        assert proxy.state(upstream.authority) == "closed"
        assert proxy.sidecar.data_plane.tunnels.open == 0


async def test_a_host_leaves_a_quarter_of_the_tunnels_to_others(start: Start) -> None:
    proxy = await start(limits=Limits(max_tunnels=4), circuit=ONE_FAILURE)
    script: list[Step] = [Expect(), Send(ACCEPT), Do.STALL]
    async with (
        ScriptedUpstream(script) as upstream,
        ScriptedUpstream(script) as healthy,
        AsyncExitStack() as clients,
    ):
        for _ in range(3):
            await clients.enter_async_context(await opened(proxy, upstream))
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/", *ASKED))
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "local_limit")
            assert "a quarter of limits.max_tunnels is kept for others" in str(answer.header("Proxy-Status"))
        await clients.enter_async_context(await opened(proxy, healthy))
        assert proxy.sidecar.data_plane.tunnels.of_host == {upstream.authority: 3, healthy.authority: 1}
        assert proxy.state(upstream.authority) == "closed"


async def test_an_upstream_that_is_gone_with_its_101_has_switched(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), Send(ACCEPT + b"bye")]) as upstream:
        async with await opened(proxy, upstream) as client:
            assert await client.rest() == b"bye"
        await proxy.report()


async def test_a_kept_alive_connection_that_closes_is_no_answer_to_it(start: Start) -> None:
    proxy = await start()
    first: list[Step] = [Expect(), Send(OK), Expect()]
    async with ScriptedUpstream(first, [Expect(), Send(ACCEPT + b"hi")]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 200
        async with await opened(proxy, upstream) as client:
            assert await client.rest() == b"hi"
        assert len(upstream.connections) == 2
    await proxy.report(2)
