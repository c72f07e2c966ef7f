"""What interim responses change: a 100 is a move of the upstream's, all others are none."""

import asyncio

import pytest
from support.client import Client, request
from support.sidecar import Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Wait

from proxy.core.policy import CircuitPolicy, Timeouts
from proxy.core.quantities import Seconds

ONE_FAILURE = CircuitPolicy(consecutive_failures=1, abandoned_after=Seconds(3))
HEAD_30_S = Timeouts(head=Seconds(30))
OTHERS = [b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

each_other = pytest.mark.parametrize("interim", OTHERS, ids=["102", "103"])
each = pytest.mark.parametrize(
    ("interim", "is_move"),
    [(OTHERS[0], False), (OTHERS[1], False), (CONTINUE, True)],
    ids=["102", "103", "100"],
)


async def swept(proxy: Running, seconds: float) -> None:
    """Lets so much time pass, and the sweep come round."""
    proxy.clock.now += seconds
    await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
    await turns()


async def hears(client: Client, interim: bytes) -> None:
    """Waits until the client has got this interim response, and the proxy is back to waiting."""
    assert await client.reader.readuntil(b"\r\n\r\n") == interim
    await turns()


def script(interim: bytes, *gates: asyncio.Event) -> list[Step]:
    """Says the same behind each gate, and never more."""
    says = [step for gate in gates for step in (Wait(gate), Send(interim))]
    return [Expect(), *says, Do.STALL]


@each_other
async def test_interim_responses_do_not_lengthen_the_wait_for_the_head(start: Start, interim: bytes) -> None:
    proxy = await start(circuit=ONE_FAILURE, timeouts=HEAD_30_S)
    gates = [asyncio.Event(), asyncio.Event()]
    async with ScriptedUpstream(script(interim, *gates)) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", content=b"event"))
            await (await upstream.connection(0)).until(b"event")
            await turns()
            for gate in gates:
                await swept(proxy, 14)
                gate.set()
                await hears(client, interim)
            await swept(proxy, 1.9)
            assert not proxy.exchanges
            proxy.clock.now += 0.1
            answer = await client.answer("POST")
        assert (answer.status, answer.header("X-Breaker-Reason")) == (504, "http_response_timeout")
        assert str((await proxy.report()).outcome) == "failure(response_timeout)"


async def test_behind_a_100_the_head_has_its_whole_time(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE, timeouts=HEAD_30_S)
    gate = asyncio.Event()
    async with ScriptedUpstream(script(CONTINUE, gate)) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", content=b"event"))
            await (await upstream.connection(0)).until(b"event")
            await turns()
            await swept(proxy, 20)
            gate.set()
            await hears(client, CONTINUE)
            await swept(proxy, 29.9)
            assert not proxy.exchanges
            proxy.clock.now += 0.1
            assert (await client.answer("POST")).status == 504
        assert str((await proxy.report()).outcome) == "failure(response_timeout)"


@each_other
async def test_a_client_that_waits_for_a_100_hears_others_in_vain(start: Start, interim: bytes) -> None:
    """It need not send its content yet, so that the upstream still owes."""
    proxy = await start(circuit=ONE_FAILURE, timeouts=HEAD_30_S)
    gate = asyncio.Event()
    async with ScriptedUpstream(script(interim, gate)) as upstream:
        async with await Client.connect(proxy.port) as client:
            fields = "Expect: 100-continue", "Content-Length: 5"
            await client.send(request("POST", f"http://{upstream.authority}/", *fields))
            await (await upstream.connection(0)).until(b"\r\n\r\n")
            await turns()
            await swept(proxy, 20)
            gate.set()
            await hears(client, interim)
            await swept(proxy, 9.9)
            assert not proxy.exchanges
            proxy.clock.now += 0.1
            assert (await client.answer("POST")).status == 504
        assert str((await proxy.report()).outcome) == "failure(response_timeout)"


@each
async def test_leaving_behind_an_interim_response(start: Start, interim: bytes, *, is_move: bool) -> None:
    """The upstream has owed for 3 s in all, and for 1 s since it said so."""
    proxy = await start(circuit=ONE_FAILURE)
    gate = asyncio.Event()
    async with ScriptedUpstream(script(interim, gate)) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", content=b"event"))
            await (await upstream.connection(0)).until(b"event")
            await turns()
            proxy.clock.now += 2
            gate.set()
            await hears(client, interim)
            proxy.clock.now += 1
        exchange = await proxy.report()
    assert exchange.client_left
    assert str(exchange.outcome) == ("neutral" if is_move else "failure(abandoned)")


async def test_leaving_long_behind_a_100_is_a_failure_again(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    gate = asyncio.Event()
    async with ScriptedUpstream(script(CONTINUE, gate)) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", content=b"event"))
            await (await upstream.connection(0)).until(b"event")
            await turns()
            gate.set()
            await hears(client, CONTINUE)
            proxy.clock.now += 3
        assert str((await proxy.report()).outcome) == "failure(abandoned)"


@each
async def test_a_final_response_in_time_is_a_success_whatever_came_before(
    start: Start, interim: bytes, *, is_move: bool
) -> None:
    proxy = await start(circuit=ONE_FAILURE, timeouts=HEAD_30_S)
    gates = [asyncio.Event(), asyncio.Event()]
    steps = [Expect(), Wait(gates[0]), Send(interim), Wait(gates[1]), Send(OK), Do.STALL]
    async with ScriptedUpstream(steps) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", content=b"event"))
            await (await upstream.connection(0)).until(b"event")
            await turns()
            await swept(proxy, 15)
            gates[0].set()
            await hears(client, interim)
            # Beyond the first 30 s only where they have begun anew.
            await swept(proxy, 20 if is_move else 14)
            gates[1].set()
            assert (await client.answer("POST")).status == 200
        assert str((await proxy.report()).outcome) == "success"
