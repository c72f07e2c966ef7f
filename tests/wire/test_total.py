"""`timeouts.total` and `tunnel_idle`: how long a whole exchange may take, and who may take for ever."""

import asyncio

import h11
import pytest
from support.client import Client, get, request
from support.narrow import NarrowClient
from support.sidecar import SETTINGS, Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, Script, ScriptedUpstream, Send, Step, Wait

from proxy.core.exchange import Exchange
from proxy.core.host_pattern import HostPattern
from proxy.core.outcome import Verdict
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, Endpoint, Listen, Timeouts, Upstream
from proxy.core.quantities import Seconds
from proxy.core.route import Route, UpstreamUrl

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
# Beyond every other timeout in sum, and before each of them.
TOTAL = Timeouts(total=Seconds(20))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\ndata: 1\n\n"
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def swept(proxy: Running, seconds: float) -> None:
    """Lets so much time pass, and the sweep of the deadlines come round."""
    proxy.clock.now += seconds
    await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
    await turns()


def assert_total(exchange: Exchange, outcome: str) -> None:
    assert exchange.error is not None
    assert exchange.error.error_type == "http_response_timeout"
    assert exchange.error.details == "the exchange took longer than timeouts.total"
    assert str(exchange.outcome) == outcome


@pytest.mark.parametrize(
    ("sent", "outcome", "closes"),
    [
        (b"\r\n", "failure(response_timeout)", None),
        (b"Content-Length: 4\r\n\r\nfull", "failure(response_timeout)", None),
        (b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n", "failure(response_timeout)", "close"),
        (b"Content-Length: 9\r\n\r\nhalf", "neutral", None),
        (b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "neutral", "close"),
    ],
    ids=["head", "head behind content", "100", "content", "chunks"],
)
async def test_before_the_head_it_is_504_and_the_fault_of_who_owes(
    start: Start, sent: bytes, outcome: str, closes: str | None
) -> None:
    proxy = await start(timeouts=TOTAL, circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(f"POST http://{upstream.authority}/ HTTP/1.1\r\nHost: a\r\n".encode() + sent)
        await (await upstream.connection(0)).until(sent.rpartition(b"\r\n\r\n")[2].strip() or b"\r\n\r\n")
        await turns()
        await swept(proxy, 19.9)
        assert not proxy.exchanges
        await swept(proxy, 0.1)
        answer = await client.answer("POST")
        assert (answer.status, answer.header("X-Breaker-Reason")) == (504, "http_response_timeout")
        assert answer.header("Connection") == closes
    assert_total(await proxy.report(), outcome)
    assert proxy.state(upstream.authority) == ("open" if outcome != "neutral" else None)


async def test_time_counts_from_the_head_of_the_request_and_not_from_each_wait(start: Start) -> None:
    proxy = await start(timeouts=TOTAL)
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(request("POST", f"http://{upstream.authority}/", "Content-Length: 4"))
        for piece in (b"A", b"B", b"C", b"D"):
            await client.send(piece)
            await (await upstream.connection(0)).until(piece)
            await swept(proxy, 4)
        assert not proxy.exchanges
        await swept(proxy, 4)
        assert (await client.answer("POST")).status == 504
    # By now it was the upstream's turn.
    assert_total(await proxy.report(), "failure(response_timeout)")


async def test_a_second_try_has_no_time_of_its_own(start: Start) -> None:
    proxy = await start(timeouts=TOTAL)
    close = asyncio.Event()
    first: list[Step] = [Expect(), Send(OK), Expect(), Wait(close)]
    async with ScriptedUpstream(first, [Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        assert (await client.answer()).status == 200
        await client.send(get(f"http://{upstream.authority}/again"))
        await upstream.connections[0].until(b"/again")
        await swept(proxy, 15)
        close.set()
        await (await upstream.connection(1)).until(b"/again")
        await swept(proxy, 5)
        assert (await client.answer()).status == 504
    assert_total(await proxy.report(2), "failure(response_timeout)")


@pytest.mark.parametrize(
    ("response", "outcome"),
    [(HEAD + b"half", "failure(truncated)"), (STREAM, "success")],
    ids=["content", "events"],
)
async def test_a_response_under_way_is_cut(start: Start, response: bytes, outcome: str) -> None:
    proxy = await start(timeouts=TOTAL)
    async with ScriptedUpstream([Expect(), Send(response), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await client.reader.readuntil(b"half" if b"half" in response else b"data: 1\n\n")
            await swept(proxy, 20)
            with pytest.raises(h11.RemoteProtocolError):
                await client.answer()
    assert_total(await proxy.report(), outcome)


async def test_a_client_that_does_not_read_is_nobodys_fault(start: Start) -> None:
    proxy = await start(timeouts=TOTAL, circuit=ONE_FAILURE)
    size = 4_000_000
    response = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size
    async with ScriptedUpstream([Expect(), Send(response), Do.STALL]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await until(lambda: client.other_end.writing_paused)
            await turns()
            await swept(proxy, 20)
            exchange = await proxy.report()
    assert_total(exchange, "neutral")
    assert proxy.state(upstream.authority) is None


async def test_an_upstream_may_have_a_total_of_its_own(start: Start) -> None:
    async with ScriptedUpstream([Do.STALL]) as upstream, ScriptedUpstream([Do.STALL]) as other:
        own = Upstream(match=HostPattern("127.0.0.1", upstream.port), timeouts=Overlay({"total": Seconds(5)}))
        proxy = await start(timeouts=TOTAL, upstreams=(own,))
        async with await Client.connect(proxy.port) as client, await Client.connect(proxy.port) as second:
            for called, by in ((upstream, client), (other, second)):
                await by.send(get(f"http://{called.authority}/"))
                await (await called.connection(0)).until(b"GET")
            await swept(proxy, 5)
            assert (await client.answer()).status == 504
            assert len(proxy.exchanges) == 1
            await swept(proxy, 15)
            assert (await second.answer()).status == 504


async def test_it_counts_for_routes_as_well(start: Start) -> None:
    async with ScriptedUpstream([Do.STALL]) as upstream:
        listen = Listen(
            proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, reverse=Endpoint("127.0.0.1", 0)
        )
        routes = (Route(upstream=UpstreamUrl.parse(f"http://{upstream.authority}")),)
        proxy = await start(timeouts=TOTAL, listen=listen, routes=routes)
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await (await upstream.connection(0)).until(b"GET")
            await swept(proxy, 20)
            assert (await client.answer()).status == 504
    assert_total(await proxy.report(), "failure(response_timeout)")


WEBSOCKET = ("Upgrade: websocket", "Connection: Upgrade")


@pytest.mark.parametrize("kind", ["tunnel", "websocket"])
async def test_tunnels_and_websockets_may_take_longer(start: Start, kind: str) -> None:
    proxy = await start(timeouts=Timeouts(total=Seconds(20), tunnel_idle=Seconds(3600)))
    said = b"\0hello" if kind == "tunnel" else b"hello"
    script: Script = [Expect(said), Send(b"hi"), Do.STALL]
    opening: Script = [] if kind == "tunnel" else [Expect(), Send(ACCEPT)]
    async with ScriptedUpstream([*opening, *script]) as upstream, await Client.connect(proxy.port) as client:
        if kind == "tunnel":
            await client.send(request("CONNECT", upstream.authority))
        else:
            await client.send(get(f"http://{upstream.authority}/", *WEBSOCKET))
        await client.reader.readuntil(b"\r\n\r\n")
        await swept(proxy, 1000)
        await client.send(said)
        assert await client.reader.readexactly(2) == b"hi"
        await swept(proxy, 3599)
        assert not proxy.exchanges
        await swept(proxy, 1)
        assert await client.rest() == b""
    exchange = await proxy.report()
    assert exchange.error is not None
    assert (exchange.error.error_type, str(exchange.outcome)) == ("connection_read_timeout", "success")


async def test_without_a_total_an_exchange_may_take_for_ever(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(head=Seconds(1e6)))
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(), Wait(go_on), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await (await upstream.connection(0)).until(b"GET")
            await swept(proxy, 900_000)
            go_on.set()
            assert (await client.answer()).status == 200


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_an_event_stream_ends_by_tunnel_idle(start: Start, version: str) -> None:
    proxy = await start(timeouts=Timeouts(tunnel_idle=Seconds(600)), circuit=ONE_FAILURE)
    more = asyncio.Event()
    script = [Expect(), Send(STREAM), Wait(more), Send(b"data: 2\n\n"), Do.STALL]
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        await client.send(f"GET http://{upstream.authority}/ HTTP/{version}\r\nHost: a\r\n\r\n".encode())
        await client.reader.readuntil(b"data: 1\n\n")
        await swept(proxy, 599)
        more.set()
        await client.reader.readuntil(b"data: 2\n\n")
        await swept(proxy, 599)
        assert not proxy.exchanges
        await swept(proxy, 1)
        if version == "1.1":
            assert await client.rest() == b"\r\n", "without a last chunk"
        else:
            with pytest.raises(ConnectionResetError):
                await client.rest()
        exchange = await proxy.report()
    assert exchange.error is not None
    assert (exchange.error.error_type, str(exchange.outcome)) == ("connection_read_timeout", "success")
    assert dict(proxy.sidecar.circuits.totals.calls)[Verdict.SUCCESS] == 1
    assert proxy.state(upstream.authority) == "closed"
