"""Deliveries: in order, once, when the circuit lets them through, and what becomes of those that fail."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.client import Client, request
from support.sidecar import Running, Start
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Wait
from wire.test_deferring import FAIL, keeping, kept_in, stored, tripped

from proxy.core.breaker import Circuit
from proxy.core.defer import Defer
from proxy.core.exchange import Entry
from proxy.core.fallback import DeferOrder
from proxy.core.first_probe import FirstProbe
from proxy.core.pace import Pace
from proxy.core.quantities import Seconds

SERVE = [Expect(b"\r\n\r\nevent"), Send(OK)] * 50
ONE_FAILURE = FAIL[:2]


def answer(status: int) -> list[Any]:
    """An upstream that takes events and always answers so."""
    return [Expect(b"\r\n\r\nevent"), Send(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)] * 50


async def keep(client: Client, upstream: ScriptedUpstream, *contents: bytes) -> None:
    for content in contents:
        await client.send(
            request("POST", f"http://{upstream.authority}/hook?a=b", "X-Sig: s", content=content)
        )
        assert (await client.answer("POST")).status == 202


def claim_of(circuit: Circuit) -> FirstProbe:
    """Whose the first probe is, now."""
    return circuit.first_probe


async def until(proxy: Running, **ended: int) -> None:
    """Waits until so many deliveries have come to this."""
    assert proxy.sidecar.deferral is not None
    deliveries = proxy.sidecar.deferral.deliveries
    while any(deliveries.ended[how] < count for how, count in ended.items()):
        await asyncio.sleep(0.01)


async def test_what_was_kept_is_delivered_in_order_when_the_circuit_is_half_open(
    start: Start, tmp_path: Path
) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(ONE_FAILURE, SERVE) as upstream, await tripped(proxy, upstream) as client:
        await keep(client, upstream, b"event 1", b"event 2", b"event 3", b"event 4")
        kept = await stored(proxy)
        proxy.clock.now += 30
        await until(proxy, delivered=4)
        received = b"".join(bytes(connection.received) for connection in upstream.connections[1:])
        assert await stored(proxy) == []
    assert [received.find(b"event %d" % number) > 0 for number in (1, 2, 3, 4)] == [True] * 4
    assert received.index(b"event 1") < received.index(b"event 2") < received.index(b"event 4")
    head = received.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0] == b"POST /hook?a=b HTTP/1.1"
    assert head[1:] == [
        b"Host: " + upstream.authority.encode(),
        b"X-Sig: s",
        b"Content-Length: 7",
        b"X-Breaker-Delivery-Id: " + kept[0].id.encode(),
        b"Via: 1.1 testproxy",
    ]
    assert proxy.state(upstream.authority) == "closed"
    assert [exchange.entry for exchange in proxy.exchanges].count(Entry.DEFERRED) == 4


async def test_a_delivery_that_fails_is_repeated_with_the_same_id(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with (
        ScriptedUpstream(ONE_FAILURE, [Expect(b"event"), Do.RESET], SERVE) as upstream,
        await tripped(proxy, upstream) as client,
    ):
        await keep(client, upstream, b"event")
        (kept,) = await stored(proxy)
        proxy.clock.now += 30
        await until(proxy, failed=1)
        (tried,) = await stored(proxy)
        assert (tried.attempts, tried.result) == (1, "connection_terminated")
        circuit = proxy.sidecar.circuits.get(upstream.authority)
        assert circuit is not None
        assert circuit.first_probe is FirstProbe.LIVE
        # A live call that nobody makes: their claim lapses after one `open`.
        proxy.clock.now += 60 + 31
        await until(proxy, delivered=1)
        received = [bytes(connection.received) for connection in upstream.connections[1:]]
    assert [kept.id.encode() in each for each in received] == [True, True]


@pytest.mark.parametrize(("status", "cause"), [(410, "final_status"), (404, "final_status")])
async def test_an_upstream_that_does_not_want_it_gets_it_once(
    start: Start, tmp_path: Path, status: int, cause: str
) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with (
        ScriptedUpstream(ONE_FAILURE, answer(status)) as upstream,
        await tripped(proxy, upstream) as client,
    ):
        await keep(client, upstream, b"event")
        proxy.clock.now += 30
        await until(proxy, final_status=1)
        (dead,) = await stored(proxy)
        assert (dead.died_of, dead.result, dead.attempts) == (cause, str(status), 1)
        assert proxy.sidecar.deferral is not None
        assert (proxy.sidecar.deferral.store.depth, proxy.sidecar.deferral.store.dead) == (0, 1)


async def test_too_many_attempts_make_a_dead_letter_and_the_next_one_goes(
    start: Start, tmp_path: Path
) -> None:
    proxy = await start(**kept_in(tmp_path, max_attempts=1))
    script = [Expect(b"event 1"), Send(b"HTTP/1.1 302 X\r\nContent-Length: 0\r\n\r\n"), *SERVE]
    async with ScriptedUpstream(ONE_FAILURE, script) as upstream, await tripped(proxy, upstream) as client:
        await keep(client, upstream, b"event 1", b"event 2")
        proxy.clock.now += 30
        await until(proxy, too_many_attempts=1, delivered=1)
        (dead,) = await stored(proxy)
        assert (dead.content, dead.died_of, dead.result) == (b"event 1", "too_many_attempts", "302")


async def test_what_is_too_old_is_not_sent(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(ONE_FAILURE, SERVE) as upstream, await tripped(proxy, upstream) as client:
        await keep(client, upstream, b"event")
        assert proxy.sidecar.deferral is not None
        proxy.sidecar.deferral.configure(Defer(path=str(tmp_path / "deferred.db"), max_age=Seconds(0)))
        await until(proxy, too_old=1)
        (dead,) = await stored(proxy)
        assert (dead.died_of, dead.attempts) == ("too_old", 0)
        assert len(upstream.connections) == 1


async def test_while_paused_nothing_goes(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(ONE_FAILURE, SERVE) as upstream, await tripped(proxy, upstream) as client:
        assert proxy.sidecar.deferral is not None
        deferral = proxy.sidecar.deferral
        await deferral.store.pause(is_paused=True)
        await keep(client, upstream, b"event")
        proxy.clock.now += 30
        for _ in range(5):
            deferral.look(proxy.clock.now)
        assert len(upstream.connections) == 1
        await deferral.store.pause(is_paused=False)
        await until(proxy, delivered=1)


async def test_the_first_probe_is_a_deferred_one_and_live_calls_do_not_pay_for_it(
    start: Start, tmp_path: Path
) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(ONE_FAILURE, SERVE) as upstream, await tripped(proxy, upstream) as client:
        await keep(client, upstream, b"event 1")
        circuit = proxy.sidecar.circuits.get(upstream.authority)
        assert circuit is not None
        while claim_of(circuit) is not FirstProbe.DEFERRED:
            await asyncio.sleep(0.01)
        proxy.clock.now += 30
        await until(proxy, delivered=1)
        assert claim_of(circuit) is FirstProbe.ANY


async def test_a_delivery_waits_for_a_place_among_the_calls_under_way(start: Start, tmp_path: Path) -> None:
    sections = kept_in(tmp_path) | {"upstreams": keeping(max_in_flight=1)}
    proxy = await start(**sections)
    answered = asyncio.Event()
    async with (
        ScriptedUpstream([Expect(), Wait(answered), Send(OK)], SERVE) as upstream,
        await Client.connect(proxy.port) as slow,
        await Client.connect(proxy.port) as client,
    ):
        await slow.send(request("GET", f"http://{upstream.authority}/slow"))
        await (await upstream.connection(0)).until(b"/slow")
        await keep(client, upstream, b"event")
        assert proxy.sidecar.deferral is not None
        for _ in range(5):
            proxy.sidecar.deferral.look(proxy.clock.now)
            assert [task for task in asyncio.all_tasks() if task.get_name().startswith("delivery ")] == []
        answered.set()
        assert (await slow.answer("GET")).status == 200
        await until(proxy, delivered=1)
        (kept,) = [each for each in proxy.exchanges if each.entry is Entry.DEFERRED]
        assert (kept.status, len(await stored(proxy))) == (200, 0)


async def test_a_backlog_leaves_turns_to_live_calls(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path))
    assert proxy.sidecar.deferral is not None
    proxy.sidecar.deferral.deliveries.pace = Pace(0.25)
    async with ScriptedUpstream(ONE_FAILURE, SERVE) as upstream, await tripped(proxy, upstream) as client:
        await keep(client, upstream, b"event 1", b"event 2", b"event 3")
        proxy.clock.now += 30
        began = asyncio.get_running_loop().time()
        await until(proxy, delivered=3)
        # The clock of the proxy stands still: the second waits for one turn, the third for two.
        assert asyncio.get_running_loop().time() - began > 0.7


async def test_with_strict_order_the_claim_stays_the_deferred_ones(start: Start, tmp_path: Path) -> None:
    sections = kept_in(tmp_path) | {"upstreams": keeping(DeferOrder.STRICT)}
    proxy = await start(**sections)
    async with (
        ScriptedUpstream(ONE_FAILURE, [Expect(b"event"), Do.RESET], SERVE) as upstream,
        await tripped(proxy, upstream) as client,
    ):
        await keep(client, upstream, b"event")
        proxy.clock.now += 30
        await until(proxy, failed=1)
        circuit = proxy.sidecar.circuits.get(upstream.authority)
        assert circuit is not None
        assert circuit.first_probe is FirstProbe.DEFERRED
        proxy.clock.now += 61
        await until(proxy, delivered=1)


async def test_what_waits_is_delivered_by_the_next_process(start: Start, tmp_path: Path) -> None:
    first = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(ONE_FAILURE, SERVE) as upstream:
        async with await tripped(first, upstream) as client:
            await keep(client, upstream, b"event 1", b"event 2")
        await first.sidecar.stop()
        second = await start(**kept_in(tmp_path))
        await until(second, delivered=2)
        assert b"event 1" in bytes(upstream.connections[1].received)
