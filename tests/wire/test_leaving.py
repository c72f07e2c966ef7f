"""Who owed the next move when a client left, or a deadline passed; and that report and circuit agree."""

import asyncio
import socket
import struct

import pytest
from support.client import Client, get, request
from support.narrow import NarrowClient, narrow_legs
from support.sidecar import Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Take, Wait

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
