"""Requests that come ahead of their turn: few are taken, and each is answered."""

import asyncio

import pytest
from support.client import Client, get
from support.clients import taken_in
from support.narrow import NarrowClient
from support.sidecar import Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Wait

from proxy.core.policy import Limits
from proxy.core.quantities import Bytes


async def test_little_is_taken_ahead_of_its_turn_however_many_turns_there_are(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every exchange that ends another read would be let through."""
    taken = taken_in(monkeypatch)
    proxy = await start()
    asked, count = 1000, 200
    async with ScriptedUpstream([*([Expect(), Send(OK)] * count), Do.STALL]) as upstream:
        url = f"http://{upstream.authority}/"
        text = get(url, "X-Pad: " + "x" * (asked - len(get(url, "X-Pad: "))))
        async with await Client.connect(proxy.port) as client:
            client.writer.write(text * 20 * count)
            most = 0
            for _ in range(count):
                assert (await client.answer()).status == 200
                most = max(most, taken.count - asked * len(proxy.exchanges))
            # What is allowed ahead, and one read of the loop's, which is 256 KiB on asyncio.
            assert most < 400_000
            # It is not read, so that its leaving is noticed only with the next answer.
            client.writer.transport.abort()
            proxy.clock.now += 60
            await until(lambda: not proxy.sidecar.data_plane.clients)


async def test_every_request_that_came_ahead_is_answered_to_one_who_reads_late(start: Start) -> None:
    proxy = await start()
    count = 2000
    async with ScriptedUpstream([Expect(), Send(OK)] * count) as upstream:
        url = f"http://{upstream.authority}/"
        text = get(url, "X-Pad: " + "x" * (100 - len(get(url, "X-Pad: "))))
        async with await NarrowClient.connect_to(proxy) as client:
            client.writer.write(text * count)
            await until(lambda: client.other_end.writing_paused)
            await turns()
            assert len(proxy.exchanges) < count
            client.read_on()
            received = b""
            # If one got no answer, it would be waited for in vain.
            async with asyncio.timeout(30):
                while received.count(b"\r\n\r\nok") < count:
                    piece = await client.reader.read(65536)
                    assert piece, f"closed behind {len(proxy.exchanges)} answers"
                    received += piece
            assert received.count(b"HTTP/1.1 200 OK\r\n") == count
    await proxy.report(count)


@pytest.mark.parametrize("ahead", [1_000, 6_000, 100_000])
async def test_a_client_that_was_stopped_is_read_on(start: Start, ahead: int) -> None:
    """The listener stops it at twice `max_head`, aiohttp only at 64 KiB; who stops it has to read on."""
    proxy = await start(limits=Limits(max_head=Bytes(2048)))
    go_on = asyncio.Event()
    asked = 200
    answers: list[Step] = [Expect(), Send(OK)]
    async with ScriptedUpstream(
        [Expect(), Wait(go_on), Send(OK), *(answers * (ahead // asked + 1))]
    ) as upstream:
        url = f"http://{upstream.authority}/"
        text = get(url, "X-Pad: " + "x" * (asked - len(get(url, "X-Pad: "))))
        async with await NarrowClient.connect_to(proxy) as client:
            client.read_on()
            await client.send(get(url))
            await (await upstream.connection(0)).until(b"GET")
            await client.send(text * (ahead // asked))
            await until(lambda: ahead < 4096 or not client.proxy_side.is_reading())
            go_on.set()
            async with asyncio.timeout(10):
                for _ in range(1 + ahead // asked):
                    assert (await client.answer()).status == 200
                await client.send(get(url))
                assert (await client.answer()).status == 200
    await proxy.report(2 + ahead // asked)
