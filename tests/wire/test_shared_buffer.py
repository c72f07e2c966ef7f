"""All connections to upstreams read into one buffer: none gets what another one has read."""

import asyncio
from itertools import count

import pytest
from support.client import Client, get
from support.legs import leg
from support.sidecar import Start
from support.turns import turns, until
from support.upstream import Do, Expect, ScriptedUpstream, Send, Step, Wait

from proxy.wire.upstream import HIGH_WATER, UpstreamConnection

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade"
# Of many reads, the last of them short.
SIZE = 3_000_001
PIECE = 50_001


def length(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


def filled(number: int, size: int = SIZE) -> bytes:
    """Content of which every stretch tells whose it is, and where it belongs."""
    lines: list[bytes] = []
    held = 0
    for at in count():
        lines.append(b"%d:%d;" % (number, at))
        held += len(lines[-1])
        if held >= size:
            return b"".join(lines)[:size]
    raise AssertionError


def in_turns(content: bytes) -> list[Step]:
    """In so many pieces that those of several upstreams come in between."""
    return [Send(content[at : at + PIECE]) for at in range(0, len(content), PIECE)]


async def test_responses_that_come_at_once_are_not_mixed(start: Start) -> None:
    proxy = await start()
    contents = [filled(number) for number in range(4)]

    async def asked(content: bytes) -> bytes:
        script = [Expect(), Send(length(SIZE)), *in_turns(content), Do.STALL]
        async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            return (await client.answer()).content

    assert await asyncio.gather(*map(asked, contents)) == contents


async def test_a_websocket_and_a_response_that_come_at_once_are_not_mixed(start: Start) -> None:
    """A leg that becomes a tunnel leaves the buffer to the others, in the middle of what it reads."""
    proxy = await start()
    response, frames = filled(1), filled(2)
    http = [Expect(), Send(length(SIZE)), *in_turns(response), Do.STALL]
    socket = [Expect(), Send(ACCEPT + frames[:PIECE]), *in_turns(frames[PIECE:]), Do.STALL]
    async with ScriptedUpstream(http) as upstream, ScriptedUpstream(socket) as switching:
        async with await Client.connect(proxy.port) as client, await Client.connect(proxy.port) as other:
            await other.send(get(f"http://{switching.authority}/", UPGRADE))
            await client.send(get(f"http://{upstream.authority}/"))

            async def switched() -> bytes:
                assert (await other.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                return await other.reader.readexactly(SIZE)

            answer, received = await asyncio.gather(client.answer(), switched())
    assert answer.content == response
    assert received == frames


async def dialed(upstream: ScriptedUpstream) -> UpstreamConnection:
    _, connection = await asyncio.get_running_loop().create_connection(leg, "127.0.0.1", upstream.port)
    connection.begin("GET", 4096, 128)
    connection.write(REQUEST)
    connection.request_sent()
    return connection


@pytest.mark.usefixtures("start")
async def test_what_waits_to_be_taken_stays_as_it_was_read() -> None:
    """Half a head, and content: both wait in one connection while another one reads."""
    heads = b"HTTP/1.1 200 OK\r\nX: first", b"HTTP/1.1 200 OK\r\nX: other"
    gate = asyncio.Event()
    scripts = [
        [Expect(), Send(head), Wait(gate), Send(b"-end\r\nContent-Length: 9\r\n\r\n" + content), Do.STALL]
        for head, content in zip(heads, (b"123456789", b"abcdefghi"), strict=True)
    ]
    async with ScriptedUpstream(scripts[0]) as one, ScriptedUpstream(scripts[1]) as two:
        first, second = await dialed(one), await dialed(two)
        await until(lambda: first.response.started and second.response.started)
        gate.set()
        await until(lambda: first.response.complete and second.response.complete)
        told = [(await each.next_head()).fields.kept[0] for each in (first, second)]
        assert told == [(b"X", b"first-end"), (b"X", b"other-end")]
        assert [each.take() for each in (first, second)] == [b"123456789", b"abcdefghi"]
        first.abort()
        second.abort()


# Held, a connection reads nothing.


@pytest.mark.usefixtures("start")
async def test_a_held_connection_reads_nothing_while_another_one_reads_on() -> None:
    held_content, content = filled(1), filled(2)
    gate = asyncio.Event()
    scripts = [
        [Expect(), Send(length(SIZE)), Wait(gate), *in_turns(each), Do.STALL]
        for each in (held_content, content)
    ]
    async with ScriptedUpstream(scripts[0]) as one, ScriptedUpstream(scripts[1]) as two:
        held, reading = await dialed(one), await dialed(two)
        for each in (held, reading):
            assert (await each.next_head()).status == 200
        held.hold()
        held.hold()
        gate.set()
        early = received = b""
        while len(received) < SIZE:
            received += await reading.content()
            # Taking what has come does not release it.
            early += held.take()
        assert received == content
        # A loop may read once more after it was told to pause.
        assert len(early) <= HIGH_WATER
        held.release()
        received = early
        while len(received) < SIZE:
            received += await held.content()
        assert received == held_content
        for each in (held, reading):
            assert each.reusable
            each.abort()


@pytest.mark.usefixtures("start")
async def test_a_released_connection_with_enough_to_take_reads_on_when_it_is_taken() -> None:
    content = filled(1)
    async with ScriptedUpstream([Expect(), Send(length(SIZE)), *in_turns(content), Do.STALL]) as upstream:
        connection = await dialed(upstream)
        await until(lambda: connection.response.buffered > HIGH_WATER)
        await turns()
        waiting = connection.response.buffered
        connection.hold()
        connection.release()
        await turns(200)
        assert connection.response.buffered == waiting
        received = connection.take()
        while len(received) < SIZE:
            received += await connection.content()
        assert received == content
        connection.abort()


@pytest.mark.usefixtures("start")
async def test_a_connection_that_is_gone_can_be_held_and_released() -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream([Expect(), Send(length(9) + b"half"), Wait(gate), Do.RESET]) as upstream:
        connection = await dialed(upstream)
        assert (await connection.next_head()).status == 200
        await until(lambda: connection.response.buffered)
        gate.set()
        await until(lambda: connection.transport is None)
        connection.hold()
        connection.release()
        assert connection.take() == b"half"
        assert not connection.reusable
