"""`open_action: close`: a refused call gets no byte, for dispatchers that take any answer for a delivery."""

import asyncio
from dataclasses import replace

import pytest
from support.client import Client, get, request
from support.sidecar import Start
from support.turns import turns
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Wait

from proxy.core.host_pattern import HostPattern
from proxy.core.policy import CircuitPolicy, OpenAction, Upstream

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
FAIL = [Expect(), Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), Do.STALL]


async def end_of(client: Client) -> bytes:
    """What comes until the connection has ended, orderly or not."""
    try:
        return await client.rest()
    except ConnectionResetError:
        return b""


async def fail(port: int, upstream: ScriptedUpstream) -> None:
    """Opens the circuit: other answers than refusals are given as ever."""
    async with await Client.connect(port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        assert (await client.answer()).status == 500


@pytest.mark.parametrize("content", [b"", b"event"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "CONNECT"])
async def test_a_refused_call_gets_no_byte(start: Start, method: str, content: bytes) -> None:
    proxy = await start(circuit=ONE_FAILURE, open_action=OpenAction.CLOSE)
    async with ScriptedUpstream(FAIL, [Expect(), Send(OK)]) as upstream:
        await fail(proxy.port, upstream)
        async with await Client.connect(proxy.port) as client:
            tunnel = method == "CONNECT"
            target = upstream.authority if tunnel else f"http://{upstream.authority}/"
            text = request(method, target, content=b"" if tunnel else content)
            await client.send(text + get(f"http://{upstream.authority}/behind"))
            assert await end_of(client) == b""
            await turns()
        exchange = await proxy.report(2)
        assert len(upstream.connections) == 1
        assert b"behind" not in upstream.connections[0].received
    assert exchange.error is not None
    assert (exchange.error.reason, exchange.status, exchange.begun) == ("circuit_open", None, False)
    assert str(exchange.outcome) == "neutral"


async def test_neither_does_one_whose_content_is_still_coming(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE, open_action=OpenAction.CLOSE)
    async with ScriptedUpstream(FAIL) as upstream:
        await fail(proxy.port, upstream)
        async with await Client.connect(proxy.port) as client:
            url = f"http://{upstream.authority}/"
            await client.send(request("POST", url, "Content-Length: 5", "Expect: 100-continue"))
            assert await end_of(client) == b""
        await proxy.report(2)


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_the_rest_of_a_refused_upload_is_not_waited_for(start: Start, framing: str) -> None:
    proxy = await start(circuit=ONE_FAILURE, open_action=OpenAction.CLOSE)
    async with ScriptedUpstream(FAIL) as upstream:
        await fail(proxy.port, upstream)
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", framing) + b"5\r\nevent\r\n")
            await proxy.report(2)
            # So many take no time; the content would be given some.
            await turns()
            assert not proxy.sidecar.data_plane.clients
            assert await end_of(client) == b""


async def test_a_second_probe_gets_none_either(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE, open_action=OpenAction.CLOSE)
    go_on = asyncio.Event()
    async with ScriptedUpstream(FAIL, [Expect(), Wait(go_on), Send(OK)]) as upstream:
        await fail(proxy.port, upstream)
        proxy.clock.now += 30
        async with await Client.connect(proxy.port) as probe, await Client.connect(proxy.port) as second:
            await probe.send(get(f"http://{upstream.authority}/"))
            await (await upstream.connection(1)).until(b"GET")
            await second.send(get(f"http://{upstream.authority}/"))
            assert await end_of(second) == b""
            go_on.set()
            assert (await probe.answer()).status == 200


@pytest.mark.parametrize("closes_here", [True, False])
async def test_an_upstream_may_have_an_action_of_its_own(
    start: Start,
    closes_here: bool,  # noqa: FBT001 -- a column
) -> None:
    general, own = (OpenAction.RESPOND, OpenAction.CLOSE) if closes_here else tuple(reversed(OpenAction))
    async with ScriptedUpstream(FAIL) as upstream, ScriptedUpstream(FAIL) as other:
        entry = replace(Upstream(match=HostPattern("127.0.0.1", upstream.port)), open_action=own)
        proxy = await start(circuit=ONE_FAILURE, open_action=general, upstreams=(entry,))
        for called, closes in ((upstream, closes_here), (other, not closes_here)):
            await fail(proxy.port, called)
            async with await Client.connect(proxy.port) as client:
                await client.send(get(f"http://{called.authority}/"))
                received = await end_of(client) if closes else await client.reader.readuntil(b"\r\n")
                assert received == (
                    b"" if closes else f"HTTP/1.1 503 Circuit open for {called.authority}\r\n".encode()
                )


async def test_what_is_no_refusal_is_told(start: Start) -> None:
    proxy = await start(open_action=OpenAction.CLOSE)
    async with ScriptedUpstream(FAIL) as upstream:
        port = upstream.port
    async with await Client.connect(proxy.port) as client:
        await client.send(get(f"http://127.0.0.1:{port}/"))
        assert (await client.answer()).header("X-Breaker-Reason") == "connection_refused"
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer()).header("X-Breaker-Reason") == "not_a_proxy_request"
