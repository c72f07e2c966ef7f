"""Plain HTTP inside of a CONNECT: its requests walk the line, over the connection that the tunnel made."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest
from support.client import ESTABLISHED, Client, request, tunnel
from support.sidecar import SETTINGS, Running, Start
from support.turns import until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Wait

from proxy.core.errors import ConnectionTerminated, KeptAliveClosed
from proxy.core.exchange import Entry
from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode
from proxy.core.policy import CircuitPolicy, Limits, Upstream
from proxy.wire.client import ClientConnection
from proxy.wire.tunnel import Tunnel
from proxy.wire.vanished import options

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
SERVE = [Expect(), Send(OK)] * 10
OOPS = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"


def inner(upstream: ScriptedUpstream, *extra: str, method: str = "GET", content: bytes = b"") -> bytes:
    """A request as it stands inside."""
    lines = (f"Host: {upstream.authority}", *extra)
    if content:
        lines = (*lines, f"Content-Length: {len(content)}")
    return "\r\n".join((f"{method} /a?b HTTP/1.1", *lines)).encode() + b"\r\n\r\n" + content


def told(proxy: Running) -> list[tuple[str, int | None, str]]:
    return [(each.entry.value, each.status, str(each.outcome)) for each in proxy.exchanges]


CONNECTED = ("tunnel", 200, "neutral")
SERVED = ("forward", 200, "success")


@pytest.mark.parametrize("is_glued", [True, False], ids=["with the CONNECT", "behind the 200"])
async def test_requests_walk_the_line_over_the_one_connection(start: Start, *, is_glued: bool) -> None:
    proxy = await start()
    async with ScriptedUpstream(SERVE) as upstream:
        asked = inner(upstream)
        async with await tunnel(proxy.port, upstream.authority, asked if is_glued else b"") as client:
            if not is_glued:
                await client.send(asked)
            first = await client.answer()
            assert (first.status, first.content, first.header("Via")) == (200, b"ok", "1.1 testproxy")
            await client.send(asked)
            assert (await client.answer()).content == b"ok"
        await until(lambda: len(proxy.exchanges) == 3)
        assert len(upstream.connections) == 1
        received = upstream.connections[0].received
    assert received == 2 * asked.replace(b"\r\n\r\n", b"\r\nVia: 1.1 testproxy\r\n\r\n")
    assert told(proxy) == [CONNECTED, SERVED, SERVED]
    assert [each.reused for each in proxy.exchanges] == [False, False, True]
    assert proxy.exchanges[1].connect_s is None
    assert proxy.exchanges[1].address == "127.0.0.1"


@pytest.mark.parametrize("at", [1, 3, 12, 13, 20, 60])
async def test_a_request_may_come_in_pieces(start: Start, at: int) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(b"event"), Send(OK)]) as upstream:
        asked = inner(upstream, method="POST", content=b"event")
        async with await tunnel(proxy.port, upstream.authority, asked[:at]) as client:
            for place in range(at, len(asked)):
                await client.send(asked[place : place + 1])
                await asyncio.sleep(0)
            assert (await client.answer("POST")).status == 200
        await until(lambda: len(proxy.exchanges) == 2)
        assert upstream.connections[0].received.endswith(b"\r\n\r\nevent")
        assert len(upstream.connections) == 1
    assert told(proxy) == [CONNECTED, SERVED]


async def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    proxy = await start()
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(5)]
    script = [step for answer in answers for step in (Expect(), Send(answer))]
    async with ScriptedUpstream(script) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream) * 5) as client:
            assert [(await client.answer()).content for _ in answers] == [b"0", b"1", b"2", b"3", b"4"]
        await until(lambda: len(proxy.exchanges) == 6)
        assert len(upstream.connections) == 1


async def test_much_content_comes_behind(start: Start) -> None:
    proxy = await start()
    content = bytes(range(256)) * 8192
    async with ScriptedUpstream([Expect(content), Send(OK)]) as upstream:
        asked = inner(upstream, method="POST", content=content)
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", upstream.authority) + asked)
            assert await client.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
            assert (await client.answer("POST")).content == b"ok"
        await until(lambda: len(proxy.exchanges) == 2)
        assert len(upstream.connections) == 1


@pytest.mark.parametrize("last", [[], [Do.RESET]], ids=["closed", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_its_failures_count(start: Start, method: str, last: list[Any]) -> None:
    """The connection has served nobody before, so its end is no accident of keeping alive."""
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), *last]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream, method=method)) as client:
            assert (await client.answer(method)).status == 502
            await client.send(inner(upstream))
            assert (await client.answer()).status == 503
        await until(lambda: len(proxy.exchanges) == 3)
        assert len(upstream.connections) == 1
    assert told(proxy)[:2] == [CONNECTED, ("forward", 502, "failure(reset)")]
    error = proxy.exchanges[1].error
    assert isinstance(error, ConnectionTerminated)
    assert not isinstance(error, KeptAliveClosed)
    assert proxy.state(upstream.authority) == "open"


async def test_statuses_trip_the_circuit_for_what_comes_next(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=3))
    async with ScriptedUpstream([Expect(), Send(OOPS)] * 3) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            for _ in range(3):
                assert (await client.answer()).status == 500
                await client.send(inner(upstream))
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", upstream.authority))
            assert (await client.answer("CONNECT")).status == 503
        assert len(upstream.connections) == 1
    assert proxy.state(upstream.authority) == "open"


async def test_a_probe_is_not_used_up_by_the_connect(start: Start) -> None:
    """Half-open with one slot: the CONNECT gives it back, and the request inside takes it."""
    proxy = await start(circuit=replace(ONE_FAILURE, recovery_threshold=1, open_jitter=0.0))
    async with ScriptedUpstream([Expect(), Send(OOPS)], SERVE) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            assert (await client.answer()).status == 500
        assert proxy.state(upstream.authority) == "open"
        proxy.clock.now += 31
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            assert (await client.answer()).status == 200
        await until(lambda: len(proxy.exchanges) == 4)
    assert proxy.state(upstream.authority) == "closed"


@pytest.mark.parametrize(
    "line", ["Host: other.test", "Host: 127.0.0.1:1", "X-None: 1", "Host: 127.0.0.1"], ids=str
)
async def test_another_authority_inside_is_misdirected(start: Start, line: str) -> None:
    proxy = await start()
    async with ScriptedUpstream([Do.STALL]) as upstream:
        asked = f"GET / HTTP/1.1\r\n{line}\r\n\r\n".encode()
        async with await tunnel(proxy.port, upstream.authority, asked) as client:
            assert (await client.answer()).status == (400 if line.startswith("X") else 421)
            assert await client.rest() == b""
        await until(lambda: len(proxy.exchanges) == 2)
        assert upstream.connections[0].received == b""


async def test_an_upstream_that_has_spoken_first_gets_what_comes_as_it_is(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Send(b"220 hi\r\n"), Expect(), Send(b"raw")]) as upstream:
        async with await tunnel(proxy.port, upstream.authority) as client:
            assert await client.reader.readline() == b"220 hi\r\n"
            await client.send(inner(upstream))
            assert await client.rest() == b"raw"
        exchange = await proxy.report()
        assert upstream.connections[0].received == inner(upstream)
    assert (exchange.entry, str(exchange.outcome)) == (Entry.TUNNEL, "success")


async def test_so_does_one_that_spoke_before_the_client_had_its_200(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Tunnel.run

    async def late(self: Tunnel, *arguments: Any) -> None:
        self.data_received(b"220 hi\r\n")
        await run(self, *arguments)

    monkeypatch.setattr(Tunnel, "run", late)
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(b"raw")]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            assert await client.rest() == b"220 hi\r\nraw"
        await proxy.report()


@pytest.mark.parametrize("event", ["speaks", "ends", "is lost"])
async def test_an_upstream_that_moves_before_it_is_asked_is_called_anew(
    start: Start, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    release = Tunnel.release

    def late(self: Tunnel) -> Any:
        if event == "speaks":
            self.data_received(b"220 hi\r\n")
        elif event == "ends":
            self.eof_received()
        else:
            assert self._upstream is not None
            self._upstream.abort()
            self.connection_lost(None)
        return release(self)

    monkeypatch.setattr(Tunnel, "release", late)
    proxy = await start()
    leave = asyncio.Event()
    async with ScriptedUpstream([Wait(leave)], SERVE) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            assert (await client.answer()).content == b"ok"
        await until(lambda: len(proxy.exchanges) == 2)
        leave.set()
        assert len(upstream.connections) == 2
    assert told(proxy) == [CONNECTED, SERVED]


async def test_what_is_read_on_the_way_to_the_line_is_not_lost(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop may read once more after it was told to pause."""
    received = ClientConnection.data_received

    def in_two(self: ClientConnection, data: bytes) -> None:
        received(self, data[:-10])
        received(self, data[-10:])

    monkeypatch.setattr(ClientConnection, "data_received", in_two)
    proxy = await start()
    async with ScriptedUpstream([Expect(b"0123456789abc"), Send(OK)]) as upstream:
        async with await tunnel(proxy.port, upstream.authority) as client:
            await client.send(inner(upstream, method="POST", content=b"0123456789abc"))
            assert (await client.answer("POST")).status == 200


@pytest.mark.parametrize("is_half", [True, False], ids=["closes its side", "closes"])
async def test_a_client_that_leaves_in_the_middle_of_a_request_says_nothing(
    start: Start, *, is_half: bool
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await tunnel(proxy.port, upstream.authority) as client:
            await client.send(inner(upstream))
            await (await upstream.connection(0)).until(b"\r\n\r\n")
            if is_half:
                client.writer.write_eof()
                assert await client.rest() == b""
        await until(lambda: len(proxy.exchanges) == 2)
    assert told(proxy) == [CONNECTED, ("forward", None, "neutral")]
    assert proxy.exchanges[1].client_left


async def test_a_client_that_leaves_at_once_passes_no_end_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its upstream's connection is for others now."""
    release = Tunnel.release

    def late(self: Tunnel) -> Any:
        assert not self.client_ended()
        return release(self)

    monkeypatch.setattr(Tunnel, "release", late)
    proxy = await start()
    async with ScriptedUpstream(SERVE) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            assert (await client.answer()).content == b"ok"
        async with await Client.connect(proxy.port) as client:
            await client.send(request("GET", f"http://{upstream.authority}/"))
            assert (await client.answer()).content == b"ok"
        assert len(upstream.connections) == 1


async def test_a_request_that_never_gets_whole_is_the_clients_fault(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, b"GET / HTTP/1.1\r\nHost: ") as client:
            await until(lambda: len(proxy.exchanges) == 1)
            await until(lambda: proxy.sidecar.data_plane.pool.idle == 1)
            proxy.clock.now += SETTINGS.timeouts.request_head
            assert (await client.answer()).status == 408
        assert upstream.connections[0].received == b""
    assert [str(each.outcome) for each in proxy.exchanges] == ["neutral", "neutral"]


async def test_a_peer_that_vanishes_is_noticed_again(start: Start) -> None:
    """In tunnels a peer may take as long as it likes."""
    proxy = await start()
    async with ScriptedUpstream(SERVE) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            assert (await client.answer()).status == 200
            (resting,) = proxy.sidecar.data_plane.pool._idle  # noqa: SLF001 -- nobody else need know of it
            assert resting.transport is not None
            raw = resting.transport.get_extra_info("socket")
            timeouts = SETTINGS.timeouts
            for level, option, value in options(max(timeouts.body_idle, timeouts.head)):
                assert raw.getsockopt(level, option) == value
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0


async def test_where_nothing_may_rest_it_is_called_anew(start: Start) -> None:
    proxy = await start(limits=Limits(idle_per_host=0))
    async with ScriptedUpstream([Do.STALL], SERVE) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            assert (await client.answer()).content == b"ok"


async def test_what_is_to_be_originated_goes_out_over_tls(start: Start) -> None:
    entry = Upstream(match=HostPattern.parse("127.0.0.1"), https=HttpsMode.ORIGINATE)
    proxy = await start(upstreams=(entry,))
    async with ScriptedUpstream([Do.STALL], [Expect(b"\x16\x03")]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, inner(upstream)) as client:
            assert (await client.answer()).status == 502
        assert upstream.connections[0].received == b""
        await until(lambda: len(proxy.exchanges) == 2)
    assert told(proxy) == [CONNECTED, ("forward", 502, "failure(tls)")]
