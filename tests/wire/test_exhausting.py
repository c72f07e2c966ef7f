"""Peers that send more than their turn: every buffer that they could fill has a bound."""

import asyncio

import pytest
from support.client import Client, get, request
from support.sidecar import Start
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.policy import CircuitPolicy, Limits
from proxy.core.quantities import Bytes

SMALL = Limits(max_head=Bytes(4096))


async def _stuck(client: Client, piece: bytes, most: int) -> int:
    """Sends the piece over and over; returns after how many bytes the proxy stops reading."""
    sent = 0
    client.writer.transport.set_write_buffer_limits(0)
    while sent < most:
        client.writer.write(piece)
        sent += len(piece)
        try:
            async with asyncio.timeout(0.5):
                await client.writer.drain()
        except TimeoutError:
            return sent
    return sent


@pytest.mark.parametrize("malformed", [b"", b"zz\r\n"], ids=["pipelined", "behind a malformed chunk"])
async def test_a_client_that_sends_ahead_of_its_turn_is_not_read(start: Start, malformed: bytes) -> None:
    proxy = await start(limits=SMALL)
    most = 64 * 1024 * 1024
    chunked = ("Transfer-Encoding: chunked",) if malformed else ()
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        url = f"http://{upstream.authority}/"
        await client.send(request("POST", url, *chunked))
        await (await upstream.connection(0)).until(b"\r\n\r\n")
        await client.send(malformed)
        assert await _stuck(client, get(url, f"X: {'y' * 3000}") * 20, most) < most
        client.writer.transport.abort()
        proxy.clock.now += 100
        await proxy.report()


async def test_requests_sent_ahead_are_answered_in_the_end(start: Start) -> None:
    proxy = await start(limits=SMALL)
    count = 40
    async with ScriptedUpstream([Expect(), Send(OK)] * count) as upstream:
        async with await Client.connect(proxy.port) as client:
            client.writer.write(get(f"http://{upstream.authority}/", f"X: {'y' * 3000}") * count)
            for _ in range(count):
                assert (await client.answer()).status == 200
    await proxy.report(count)


async def test_max_head_bounds_the_whole_head_of_a_request(start: Start) -> None:
    proxy = await start(limits=SMALL)
    fields = [f"X{number}: {'y' * 900}" for number in range(5)]
    async with await Client.connect(proxy.port) as client:
        await client.send(get("http://a.invalid/", *fields))
        answer = await client.answer()
    assert (answer.status, answer.header("X-Breaker-Reason")) == (431, "head_too_large")


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 900 + b"\r\n",
    ],
    ids=["fields", "bytes"],
)
async def test_many_small_fields_of_a_response(start: Start, response: bytes) -> None:
    proxy = await start(limits=SMALL)
    async with ScriptedUpstream([Expect(), Send(response), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            answer = await client.answer()
    assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "http_response_header_section_size")


async def test_another_protocol_than_http(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream(
        [Expect(), Send(b"RTSP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]
    ) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).header("X-Breaker-Reason") == "http_protocol_error"


async def test_an_expect_that_stays_with_us_is_not_owed_by_the_upstream(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            url = f"http://{upstream.authority}/"
            await client.send(
                request("POST", url, "Connection: Expect", "Expect: 100-continue", "Content-Length: 5")
            )
            await (await upstream.connection(0)).until(b"\r\n\r\n")
            proxy.clock.now += 4
        assert str((await proxy.report()).outcome) == "neutral"
