"""CONNECT: bytes both ways, half-closes, and what settles the permit."""

import asyncio

import pytest
from support.client import ESTABLISHED, Client, request, tunnel
from support.sidecar import Running, Start
from support.tls_peer import hello
from support.turns import until
from support.upstream import Do, Expect, ScriptedUpstream, Send, Step, Take, Wait

from proxy.core.errors import ConnectionReadTimeout
from proxy.core.policy import CircuitPolicy

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
HELLO = hello("upstream.test")


async def _connect(proxy: Running, upstream: ScriptedUpstream, behind: bytes = b"") -> Client:
    return await tunnel(proxy.port, upstream.authority, behind)


async def test_bytes_go_both_ways_untouched(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream(
        [Expect(b"ping\0\r\n\r\n"), Send(b"GET / \x00\xff pong"), Do.STALL]
    ) as upstream:
        async with await _connect(proxy, upstream) as client:
            await client.send(b"ping\0\r\n\r\n")
            assert await client.reader.readuntil(b"pong") == b"GET / \x00\xff pong"
        exchange = await proxy.report()
    assert str(exchange.outcome) == "success"
    assert (exchange.request_bytes, exchange.response_bytes) == (9, 13)
    assert proxy.state(upstream.authority) == "closed"


async def test_what_comes_with_the_connect_is_the_first_thing_through(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(b"\x00hello"), Send(b"world")]) as upstream:
        async with await _connect(proxy, upstream, b"\x00hello") as client:
            assert await client.rest() == b"world"


async def test_an_upstream_may_speak_first(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Send(b"220 ready\r\n"), Do.STALL]) as upstream:
        async with await _connect(proxy, upstream) as client:
            assert await client.reader.readline() == b"220 ready\r\n"
        assert str((await proxy.report()).outcome) == "success"


async def test_a_half_close_of_the_client_passes_on_once_the_permit_has_settled(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Send(b"hi"), Expect(b"never")]) as upstream:
        async with await _connect(proxy, upstream) as client:
            await client.reader.readexactly(2)
            client.writer.write(b"last words")
            client.writer.write_eof()
            assert await client.rest() == b""
        assert upstream.connections[0].received == b"last words"
    assert not (await proxy.report()).client_left


async def test_a_half_close_of_the_upstream_passes_on(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Send(b"bye"), Do.HALF_CLOSE, Expect(b"thanks")]) as upstream:
        async with await _connect(proxy, upstream) as client:
            assert await client.rest() == b"bye"
            await client.send(b"thanks")
            await upstream.connections[0].until(b"thanks")
    await proxy.report()


@pytest.mark.parametrize(
    ("behind", "steps", "outcome"),
    [
        (b"\x00hello", [Expect(b"\x00hello")], "failure(tunnel)"),
        (b"\x00hello", [Expect(b"\x00hello"), Do.RESET], "failure(tunnel)"),
        (b"", [Do.RESET], "failure(tunnel)"),
    ],
    ids=["closed after the client spoke", "reset after the client spoke", "closed at once"],
)
async def test_an_upstream_that_ends_the_tunnel_without_a_byte_failed(
    start: Start, behind: bytes, steps: list[Step], outcome: str
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream(steps) as upstream, await Client.connect(proxy.port) as client:
        await client.send(request("CONNECT", upstream.authority) + behind)
        assert await client.rest() in (ESTABLISHED, b"")
        assert str((await proxy.report()).outcome) == outcome
    assert proxy.state(upstream.authority) == "open"


async def test_closed_later_with_a_silent_client_says_nothing(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    leave = asyncio.Event()
    async with ScriptedUpstream([Wait(leave)]) as upstream:
        async with await _connect(proxy, upstream) as client:
            await upstream.connection(0)
            proxy.clock.now += 4
            leave.set()
            assert await client.rest() == b""
        assert str((await proxy.report()).outcome) == "neutral"


async def test_silence_after_the_clients_first_byte_is_a_failure_by_head(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await _connect(proxy, upstream) as client:
            await client.send(b"\x00hello")
            await (await upstream.connection(0)).until(b"\x00hello")
            proxy.clock.now += 30
            assert await client.rest() == b""
        assert str((await proxy.report()).outcome) == "failure(tunnel)"


async def test_an_idle_tunnel_ends_by_tunnel_idle_and_says_nothing(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await _connect(proxy, upstream) as client:
            await upstream.connection(0)
            proxy.clock.now += 3600
            assert await client.rest() == b""
        assert str((await proxy.report()).outcome) == "neutral"


async def test_back_pressure_holds_in_both_directions(start: Start) -> None:
    """A side that does not read stops the other side from being read."""
    proxy = await start()
    go_on = asyncio.Event()
    size = 64 * 1024 * 1024  # more than the kernel buffers on four sockets
    script = [Send(b"x"), Wait(go_on), Take(size), Send(b"y" * size), Do.STALL]
    async with ScriptedUpstream(script) as upstream:
        async with await _connect(proxy, upstream) as client:
            await client.reader.readexactly(1)
            client.writer.write(b"z" * size)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.writer.drain()
            go_on.set()
            assert await client.reader.readexactly(size) == b"y" * size
    exchange = await proxy.report()
    assert (exchange.request_bytes, exchange.response_bytes) == (size, size + 1)


@pytest.mark.parametrize("said", [b"\x00hello", HELLO], ids=["no TLS", "TLS"])
async def test_a_port_that_accepts_and_never_answers_trips_the_circuit(start: Start, said: bytes) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=3))
    async with ScriptedUpstream([Do.STALL]) as upstream:
        for number in range(3):
            assert proxy.state(upstream.authority) in (None, "closed")
            async with await tunnel(proxy.port, upstream.authority, said) as client:
                await (await upstream.connection(number)).until(said)
                proxy.clock.now += 30
                assert await client.rest() == b""
            exchange = await proxy.report(number + 1)
            assert str(exchange.outcome) == "failure(tunnel)"
            assert isinstance(exchange.error, ConnectionReadTimeout)
        assert proxy.state(upstream.authority) == "open"
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", upstream.authority))
            assert (await client.answer("CONNECT")).status == 503


@pytest.mark.parametrize("last", [[], [Do.RESET]], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("said", "after_s", "outcome"),
    [
        (b"", 3, "failure(tunnel)"),
        (b"", 3.1, "neutral"),
        (HELLO[:50], 3, "failure(tunnel)"),
        (HELLO[:50], 3.1, "neutral"),
        # What is held of a request passes on soon.
        (b"GET / HT", 0, "failure(tunnel)"),
    ],
)
async def test_how_long_an_upstream_without_a_byte_has_stood_decides_where_it_has_been_told_nothing(
    start: Start, said: bytes, after_s: float, outcome: str, last: list[Step]
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    leave = asyncio.Event()
    async with ScriptedUpstream([Wait(leave), *last]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, said) as client:
            await upstream.connection(0)
            proxy.clock.now += after_s
            leave.set()
            assert await client.rest() == b""
        assert str((await proxy.report()).outcome) == outcome
        assert upstream.connections[0].received == b""


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize(
    ("said", "after_s", "outcome"),
    [
        (b"", 0, "neutral"),
        (b"", 4, "neutral"),
        (HELLO[:50], 4, "neutral"),
        (HELLO, 2.9, "neutral"),
        (HELLO, 3, "failure(abandoned)"),
        (b"\x00hello", 3, "failure(abandoned)"),
    ],
)
async def test_a_client_that_leaves_before_the_upstream_has_spoken(
    start: Start, said: bytes, after_s: float, outcome: str, *, is_reset: bool
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, said) as client:
            connection = await upstream.connection(0)
            if outcome != "neutral":
                await connection.until(said)
            proxy.clock.now += after_s
            if is_reset:
                client.reset()
        exchange = await proxy.report()
        await until(lambda: connection.ended)
    assert (str(exchange.outcome), exchange.client_left) == (outcome, True)
    assert proxy.state(upstream.authority) in ({"open"} if outcome != "neutral" else {None, "closed"})


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "closed"])
async def test_a_client_that_leaves_in_the_middle_of_an_alert_kept_nobody_waiting(
    start: Start, *, is_reset: bool
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(HELLO), Send(b"\x15\x03"), Do.STALL]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, HELLO) as client:
            assert await client.reader.readexactly(2) == b"\x15\x03"
            if is_reset:
                client.reset()
        assert str((await proxy.report()).outcome) == "neutral"
