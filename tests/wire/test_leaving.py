"""Who owed the next move when a side left, or a deadline passed; and that report and circuit agree."""

import asyncio
import socket
import struct

import pytest
from support.client import Client, get, request
from support.clients import taken_in
from support.narrow import NarrowClient, narrow_legs
from support.sidecar import Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Take, Wait

from proxy.core.exchange import Awaited, Exchange
from proxy.core.outcome import Verdict
from proxy.core.policy import CircuitPolicy
from proxy.wire.upstream import UpstreamConnection

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CHUNKED_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n"
)
EVENT = b"data: 1\n\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _booked(proxy: Running) -> dict[Verdict, int]:
    return dict(proxy.sidecar.circuits.totals.calls)


async def test_leaving_a_quiet_event_stream_is_no_failure(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), Send(STREAM + EVENT), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await client.reader.readuntil(EVENT)
            proxy.clock.now += 4
        exchange = await proxy.report()
    assert exchange.client_left
    assert exchange.error is None
    assert str(exchange.outcome) == "success"
    assert _booked(proxy) == {Verdict.SUCCESS: 1}
    assert proxy.state(upstream.authority) == "closed"


async def test_an_event_stream_may_be_quiet_for_long(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    go_on = asyncio.Event()
    stream = [Expect(), Send(STREAM + EVENT), Wait(go_on), Send(EVENT), Do.STALL]
    async with (
        ScriptedUpstream(stream) as upstream,
        ScriptedUpstream([Do.STALL]) as silent,
        await Client.connect(proxy.port) as client,
        await Client.connect(proxy.port) as other,
    ):
        await client.send(get(f"http://{upstream.authority}/"))
        await client.reader.readuntil(EVENT)
        await other.send(get(f"http://{silent.authority}/"))
        await (await silent.connection(0)).until(b"GET")
        proxy.clock.now += 3599
        # By now the deadlines have been looked at.
        assert (await other.answer()).status == 504
        go_on.set()
        await client.reader.readuntil(EVENT)
        assert len(proxy.exchanges) == 1


async def test_an_event_stream_that_breaks_is_cut_and_was_judged_before(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    end = asyncio.Event()
    async with ScriptedUpstream([Expect(), Send(CHUNKED_STREAM + EVENT), Wait(end)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await client.reader.readuntil(EVENT)
            end.set()
            assert await client.rest() == b"\r\n"
        exchange = await proxy.report()
    assert exchange.error is not None
    assert exchange.error.error_type == "http_response_incomplete"
    assert str(exchange.outcome) == "success"
    assert _booked(proxy) == {Verdict.SUCCESS: 1}


async def test_a_client_that_resets_a_tunnel_that_worked_is_reported_as_it_was_booked(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Send(b"hi"), Do.STALL]) as upstream:
        client = await Client.connect(proxy.port)
        await client.send(request("CONNECT", upstream.authority))
        await client.reader.readuntil(b"hi")
        # An orderly end would be a half-close.
        raw = client.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        exchange = await proxy.report()
    assert exchange.client_left
    assert str(exchange.outcome) == "success"
    assert _booked(proxy) == {Verdict.SUCCESS: 1}


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "stalls"])
async def test_a_client_that_owes_content_owes_it_behind_an_early_head_as_well(
    start: Start, *, leaves: bool
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    early = [Expect(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), Take(10), Send(b"ok")]
    async with ScriptedUpstream(early) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(
                request("POST", f"http://{upstream.authority}/", "Content-Length: 10") + b"half"
            )
            await client.reader.readuntil(b"\r\n\r\n")
            await turns()
            proxy.clock.now += 4 if leaves else 60
            if not leaves:
                await proxy.report()
        exchange = await proxy.report()
    assert exchange.client_left is leaves
    assert str(exchange.outcome) == "neutral"
    assert proxy.state(upstream.authority) is None


async def test_an_upstream_that_owes_content_owes_it_behind_an_upload(start: Start) -> None:
    """The counterpart: the client has sent what it owed, after the head."""
    proxy = await start(circuit=ONE_FAILURE)
    early = [Expect(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), Do.STALL]
    async with ScriptedUpstream(early) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", "Content-Length: 4"))
            await client.reader.readuntil(b"\r\n\r\n")
            await client.send(b"full")
            await upstream.connections[0].until(b"full")
            proxy.clock.now += 4
        exchange = await proxy.report()
    assert exchange.client_left
    assert str(exchange.outcome) == "failure(abandoned)"


async def test_a_100_does_not_turn_the_upstreams_debt_into_the_clients(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the upstream has stopped reading, as the client sent without waiting for it."""
    legs = narrow_legs(monkeypatch)
    # Its kernel would take a last kilobyte at any time.
    monkeypatch.setattr(UpstreamConnection, "resume_writing", lambda _: None)
    proxy = await start(circuit=ONE_FAILURE)
    go_on, never = asyncio.Event(), asyncio.Event()
    async with ScriptedUpstream([Expect(), Wait(go_on), Send(CONTINUE), Wait(never)]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            client.read_on()
            size = 4_000_000
            length = f"Content-Length: {size}"
            head = request("POST", f"http://{upstream.authority}/", "Expect: 100-continue", length)
            client.writer.write(head + b"x" * size)
            await until(lambda: legs and legs[0].forwarding.writing_paused)
            go_on.set()
            assert await client.reader.readuntil(b"\r\n\r\n") == CONTINUE
            await turns()
            proxy.clock.now += 61
            exchange = await proxy.report()
    assert exchange.error is not None
    assert exchange.error.error_type == "connection_write_timeout"
    assert str(exchange.outcome) == "failure(response_timeout)"


async def test_behind_an_interim_response_the_upstream_owes_the_final_one(start: Start) -> None:
    """The client was slow to read the interim ones, and has read them."""
    proxy = await start(circuit=ONE_FAILURE)
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 30_000 + b"\r\n\r\n"
    steps: list[Step] = [Expect(), Send(hints * 8), Do.STALL]
    async with ScriptedUpstream(steps) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await until(lambda: client.other_end.writing_paused)
            client.read_on()
            assert await client.reader.readexactly(8 * len(hints)) == 8 * hints
            await turns()
            proxy.clock.now += 61
            answer = await client.answer()
        exchange = await proxy.report()
    assert (answer.status, answer.header("X-Breaker-Reason")) == (504, "http_response_timeout")
    assert str(exchange.outcome) == "failure(response_timeout)"


async def test_a_client_that_reads_nothing_owes_that_though_its_upload_is_whole(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = taken_in(monkeypatch)
    proxy = await start(circuit=ONE_FAILURE)
    size = 8_000_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with ScriptedUpstream([Expect(), Send(answer)]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            head = request("POST", f"http://{upstream.authority}/", "Content-Length: 8") + b"half"
            await client.send(head)
            await until(lambda: client.other_end.writing_paused)
            await client.send(b"half")
            await taken.until(len(head) + 4)
            await turns()
            proxy.clock.now += 61
            exchange = await proxy.report()
    assert exchange.request_bytes == 8
    _assert_the_client_did_not_read(proxy, exchange, upstream.authority)


async def test_a_client_that_reads_nothing_owes_that_though_its_upload_is_not_taken(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an echo, the upstream takes nothing more while nothing is taken of what it has sent."""
    legs = narrow_legs(monkeypatch)
    # Its kernel would take a last kilobyte at any time.
    monkeypatch.setattr(UpstreamConnection, "resume_writing", lambda _: None)
    proxy = await start(circuit=ONE_FAILURE)
    size = 8_000_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with ScriptedUpstream([Expect(), Send(answer)]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", f"Content-Length: {size}"))
            await until(lambda: client.other_end.writing_paused)
            await turns()
            client.writer.write(b"x" * size)
            await until(lambda: legs[0].forwarding.writing_paused)
            await turns()
            # An upstream that owed its window would be out of time.
            proxy.clock.now += 31
            await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
            await turns()
            assert not proxy.exchanges
            proxy.clock.now += 30
            exchange = await proxy.report()
    _assert_the_client_did_not_read(proxy, exchange, upstream.authority)


def _assert_the_client_did_not_read(proxy: Running, exchange: Exchange, authority: str) -> None:
    assert exchange.error is not None
    assert (exchange.error.reason, exchange.awaited) == ("client_timeout", Awaited.CLIENT_WINDOW)
    assert str(exchange.outcome) == "neutral"
    assert _booked(proxy) == {}
    assert proxy.state(authority) is None


async def test_a_100_makes_the_client_owe(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), Send(CONTINUE), Take(4), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            head = request(
                "POST", f"http://{upstream.authority}/", "Expect: 100-continue", "Content-Length: 4"
            )
            await client.send(head)
            assert await client.reader.readuntil(b"\r\n\r\n") == CONTINUE
            proxy.clock.now += 60
            assert (await client.answer("POST")).status == 408
        assert str((await proxy.report()).outcome) == "neutral"


# An upstream that leaves. The client may have kept it waiting: `abandoned_after` is 3 s.
LENGTH_10 = "Content-Length: 10"
EARLY_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
leaves = pytest.mark.parametrize(
    "end", [[], [Do.RESET], [Do.HALF_CLOSE, Do.STALL]], ids=["closes", "resets", "ends"]
)
waits = pytest.mark.parametrize(("waited_s", "is_excused"), [(3.0, True), (2.9, False)], ids=["late", "soon"])


@leaves
@waits
@pytest.mark.parametrize("early", [b"", EARLY_HEAD], ids=["before the head", "behind the head"])
async def test_an_upstream_that_gives_up_a_client_that_owes_content(
    start: Start, early: bytes, end: list[Step], waited_s: float, *, is_excused: bool
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(b"half"), Send(early), Wait(go_on), *end]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", LENGTH_10) + b"half")
            await (await upstream.connection(0)).until(b"half")
            if early:
                await client.reader.readuntil(b"\r\n\r\n")
            await turns()
            proxy.clock.now += waited_s
            go_on.set()
            exchange = await proxy.report()
            if early:
                # What was passed on already is cut.
                assert await client.rest() == b""
            else:
                assert (await client.answer("POST")).status == 502
    assert not exchange.client_left
    assert exchange.error is not None
    expected = "http_response_incomplete" if early else "connection_terminated"
    assert exchange.error.error_type == expected
    fault = "failure(truncated)" if early else "failure(reset)"
    assert str(exchange.outcome) == ("neutral" if is_excused else fault)
    assert proxy.state(upstream.authority) == (None if is_excused else "open")


@leaves
async def test_an_upstream_that_gives_up_has_no_excuse_where_it_owes_itself(
    start: Start, end: list[Step]
) -> None:
    """The client has owed for long, and then paid."""
    proxy = await start(circuit=ONE_FAILURE)
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(b"and half"), Wait(go_on), *end]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", LENGTH_10) + b"ha")
            await (await upstream.connection(0)).until(b"ha")
            await turns()
            proxy.clock.now += 30
            await client.send(b"and half")
            await (await upstream.connection(0)).until(b"and half")
            await turns()
            proxy.clock.now += 4
            go_on.set()
            assert (await client.answer("POST")).status == 502
        assert str((await proxy.report()).outcome) == "failure(reset)"


@pytest.mark.parametrize("end", [[], [Do.RESET]], ids=["closes", "resets"])
@waits
async def test_an_upstream_that_gives_up_a_client_that_does_not_read(
    start: Start, end: list[Step], waited_s: float, *, is_excused: bool
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    go_on = asyncio.Event()
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000
    async with ScriptedUpstream([Expect(), Send(large), Wait(go_on), *end]) as upstream:
        async with await NarrowClient.connect_to(proxy) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await until(lambda: client.other_end.writing_paused)
            await turns()
            proxy.clock.now += waited_s
            go_on.set()
            await until(lambda: upstream.connections[0].ended)
            client.read_on()
            exchange = await proxy.report()
    assert not exchange.client_left
    assert exchange.error is not None
    assert exchange.error.error_type == "http_response_incomplete"
    assert str(exchange.outcome) == ("neutral" if is_excused else "failure(truncated)")
    assert proxy.state(upstream.authority) == (None if is_excused else "open")
