"""What is sent again, once (RFC 9110 section 9.2.2): a kept-alive connection has closed without a byte."""

import asyncio

import pytest
from support.client import Client, get, request
from support.sidecar import Running, Start
from support.upstream import OK, Do, Expect, Script, ScriptedUpstream, Send, Step, Take, Wait

from proxy.core.outcome import Verdict
from proxy.core.policy import CircuitPolicy, Timeouts
from proxy.core.quantities import Seconds

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
MOST = 64 * 1024
FIRST: list[Step] = [Expect(), Send(OK)]
ENDS = [[], [Do.RESET]]
ends = pytest.mark.parametrize("end", ENDS, ids=["closed", "reset"])


async def kept(proxy: Running, upstream: ScriptedUpstream, client: Client) -> None:
    """One exchange, behind which the upstream's connection rests."""
    await client.send(get(f"http://{upstream.authority}/kept"))
    assert (await client.answer()).status == 200
    assert proxy.sidecar.data_plane.pool.idle == 1


def behind_the_first(upstream: ScriptedUpstream) -> bytes:
    """What arrived on the first connection behind its first request."""
    return bytes(upstream.connections[0].received).partition(b"\r\n\r\n")[2]


def booked(proxy: Running) -> dict[Verdict, int]:
    return {verdict: count for verdict, count in proxy.sidecar.circuits.totals.calls.items() if count}


@ends
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
async def test_an_idempotent_request_is_sent_once_more(start: Start, method: str, end: Script) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([*FIRST, Expect(), *end], [Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(
                request(method, f"http://{upstream.authority}/a?b", "X-Sig: 1", "x-sig: \u00e4")
            )
            answer = await client.answer(method)
            assert (answer.status, answer.header("Connection")) == (200, None)
        exchange = await proxy.report(2)
        assert len(upstream.connections) == 2
        again = bytes(upstream.connections[1].received)
        assert again == behind_the_first(upstream)
        assert again.startswith(f"{method} /a?b HTTP/1.1\r\n".encode())
    assert exchange.error is None
    assert (exchange.reused, exchange.status, str(exchange.outcome)) == (False, 200, "success")
    # One permit for both.
    assert booked(proxy) == {Verdict.SUCCESS: 2}


@ends
@pytest.mark.parametrize("method", ["POST", "PATCH", "PROPFIND"])
async def test_other_requests_are_not_and_the_upstream_is_not_blamed(
    start: Start, method: str, end: Script
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([*FIRST, Expect(), *end], [Expect(), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(request(method, f"http://{upstream.authority}/"))
            answer = await client.answer(method)
            assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "connection_terminated")
            assert answer.header("Connection") is None
        exchange = await proxy.report(2)
        assert len(upstream.connections) == 1
    assert str(exchange.outcome) == "neutral"
    assert booked(proxy) == {Verdict.SUCCESS: 1}
    assert proxy.state(upstream.authority) == "closed"


@pytest.mark.parametrize("size", [1, MOST - 1, MOST])
async def test_content_that_is_kept_is_sent_again(start: Start, size: int) -> None:
    proxy = await start()
    content = bytes(range(256)) * (size // 256) + b"\r" * (size % 256)
    serve = [Expect(), Take(size), Send(OK), Do.STALL]
    async with ScriptedUpstream([*FIRST, Expect(), Take(size)], serve) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(request("PUT", f"http://{upstream.authority}/", content=content))
            assert (await client.answer("PUT")).status == 200
        assert bytes(upstream.connections[1].received) == behind_the_first(upstream)
        assert upstream.connections[1].received.endswith(b"\r\n\r\n" + content)
        exchange = await proxy.report(2)
    assert (exchange.request_bytes, str(exchange.outcome)) == (size, "success")


async def test_larger_content_is_not(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    size = MOST + 1
    async with ScriptedUpstream([*FIRST, Expect(), Take(size)], [Expect(), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(request("PUT", f"http://{upstream.authority}/", content=b"x" * size))
            answer = await client.answer("PUT")
            assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "connection_terminated")
        exchange = await proxy.report(2)
        assert len(upstream.connections) == 1
    assert str(exchange.outcome) == "neutral"


async def test_chunks_are_sent_again_as_they_were(start: Start) -> None:
    proxy = await start()
    pieces = [b"first", b"\0" * 3000, b"\r\n0\r\n\r\n", b"last"]
    serve = [Expect(b"last\r\n0\r\n\r\n"), Send(OK), Do.STALL]
    async with ScriptedUpstream([*FIRST, Expect(b"last\r\n0\r\n\r\n")], serve) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(request("PUT", f"http://{upstream.authority}/", "Transfer-Encoding: chunked"))
            for piece in pieces:
                await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                await upstream.connections[0].until(piece)
            await client.send(b"0\r\n\r\n")
            assert (await client.answer("PUT")).status == 200
        again = bytes(upstream.connections[1].received)
        assert again == behind_the_first(upstream)
        assert again.endswith(
            b"".join(b"\r\n%x\r\n%b" % (len(piece), piece) for piece in pieces) + b"\r\n0\r\n\r\n"
        )
        assert (await proxy.report(2)).request_bytes == len(b"".join(pieces))


@ends
@pytest.mark.parametrize("rest", [b"rest", b"y" * (MOST * 4)], ids=["short", "long"])
async def test_content_that_is_still_coming_goes_on_behind_what_is_sent_again(
    start: Start, end: Script, rest: bytes
) -> None:
    """What has come so far is kept; what comes later may be long."""
    proxy = await start()
    size = 4 + len(rest)
    end_it = asyncio.Event()
    script = [*FIRST, Expect(b"part"), Wait(end_it), *end]
    async with ScriptedUpstream(script, [Expect(), Take(size), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(request("PUT", f"http://{upstream.authority}/", f"Content-Length: {size}"))
            await client.send(b"part")
            await upstream.connections[0].until(b"part")
            end_it.set()
            await (await upstream.connection(1)).until(b"part")
            await client.send(rest)
            assert (await client.answer("PUT")).status == 200
        assert upstream.connections[1].received.endswith(b"\r\n\r\npart" + rest)
        exchange = await proxy.report(2)
    assert (exchange.request_bytes, str(exchange.outcome)) == (size, "success")


@pytest.mark.parametrize(
    "begun",
    [b"H", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n"],
    ids=repr,
)
async def test_an_answer_that_has_begun_is_not_asked_for_again(start: Start, begun: bytes) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([*FIRST, Expect(), Send(begun)], [Expect(), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(get(f"http://{upstream.authority}/"))
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "connection_terminated")
        exchange = await proxy.report(2)
        assert len(upstream.connections) == 1
    assert str(exchange.outcome) == "failure(reset)"
    assert proxy.state(upstream.authority) == "open"


@ends
async def test_a_cut_response_is_not_asked_for_again(start: Start, end: Script) -> None:
    proxy = await start()
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nha"
    async with ScriptedUpstream([*FIRST, Expect(), Send(cut), *end], [Expect(), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(get(f"http://{upstream.authority}/"))
            received = await client.rest()
            # A reset may have outrun them.
            assert b"ok" not in received
        exchange = await proxy.report(2)
        assert len(upstream.connections) == 1
    assert str(exchange.outcome) in ("failure(truncated)", "failure(reset)")


@ends
async def test_a_fresh_connection_that_closes_is_a_failure_and_final(start: Start, end: Script) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), *end], [Expect(), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "connection_terminated")
        assert str((await proxy.report()).outcome) == "failure(reset)"
        assert len(upstream.connections) == 1


@ends
async def test_the_second_time_is_final(start: Start, end: Script) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    script = [*FIRST, Expect(), *end]
    async with ScriptedUpstream(script, [Expect(), *end], [Expect(), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(get(f"http://{upstream.authority}/"))
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "connection_terminated")
        exchange = await proxy.report(2)
        assert len(upstream.connections) == 2
    assert str(exchange.outcome) == "failure(reset)"
    assert booked(proxy) == {Verdict.SUCCESS: 1, Verdict.FAILURE: 1}
    assert proxy.state(upstream.authority) == "open"


async def test_the_second_time_is_on_a_fresh_connection(start: Start) -> None:
    """Another kept-alive one may have been closed at the same time, as when a server restarts."""
    proxy = await start()
    script = [*FIRST, Expect()]
    async with ScriptedUpstream(script, script, [Expect(), Send(OK), Do.STALL]) as upstream:
        url = f"http://{upstream.authority}/"
        async with await Client.connect(proxy.port) as client, await Client.connect(proxy.port) as other:
            for each in (client, other):
                await each.send(get(url))
            for each in (client, other):
                assert (await each.answer()).status == 200
            assert proxy.sidecar.data_plane.pool.idle == 2
            await client.send(get(url))
            assert (await client.answer()).status == 200
        assert len(upstream.connections) == 3
    assert not (await proxy.report(3)).reused


async def test_an_upstream_that_is_gone_by_then_is_a_failure(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    close = asyncio.Event()
    async with await Client.connect(proxy.port) as client:
        async with ScriptedUpstream([*FIRST, Expect(), Wait(close)]) as upstream:
            await kept(proxy, upstream, client)
            await client.send(get(f"http://{upstream.authority}/"))
            await upstream.connections[0].until(b"GET / ")
        answer = await client.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "connection_refused")
    assert str((await proxy.report(2)).outcome) == "failure(refused)"


async def test_a_probe_keeps_its_permit(start: Start) -> None:
    proxy = await start(
        circuit=CircuitPolicy(consecutive_failures=1, recovery_threshold=2),
        timeouts=Timeouts(upstream_idle=Seconds(60)),
    )
    failing = Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    async with ScriptedUpstream([Expect(), failing, Expect()], [*FIRST, *FIRST, Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            states = []
            for status in (500, 200, 200):
                await client.send(get(f"http://{upstream.authority}/"))
                assert (await client.answer()).status == status
                states.append(proxy.state(upstream.authority))
                proxy.clock.now += 30 if status == 500 else 0
        assert states == ["open", "half_open", "closed"]
        assert len(upstream.connections) == 2
    await proxy.report(3)


async def test_silence_on_a_kept_alive_connection_is_a_failure_and_not_tried_again(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([*FIRST, Do.STALL], [Expect(), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(get(f"http://{upstream.authority}/second"))
            await upstream.connections[0].until(b"/second")
            proxy.clock.now += 30
            assert (await client.answer()).status == 504
        assert len(upstream.connections) == 1
    assert str((await proxy.report(2)).outcome) == "failure(response_timeout)"
