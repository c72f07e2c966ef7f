"""The line: refusals, circuits, outcomes; what is asserted holds for every entry."""

import asyncio
import json

import pytest
from support.client import Client, get, request
from support.sidecar import Start
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Wait

from proxy.core.policy import CircuitPolicy, Timeouts
from proxy.core.quantities import Seconds

SERVE = [Expect(), Send(OK)] * 50
FAIL = [Expect(), Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")] * 50


async def test_five_failures_open_the_circuit_and_the_next_call_costs_the_upstream_nothing(
    start: Start,
) -> None:
    proxy = await start()
    async with ScriptedUpstream(FAIL) as upstream, await Client.connect(proxy.port) as client:
        for _ in range(5):
            await client.send(get(f"http://{upstream.authority}/hook?secret=1"))
            assert (await client.answer()).status == 500
        seen = bytes(upstream.connections[0].received)
        proxy.clock.now += 9.5
        await client.send(get(f"http://{upstream.authority}/hook?secret=1"))
        answer = await client.answer()
    assert answer.status == 503
    assert answer.reason == f"Circuit open for {upstream.authority}"
    assert answer.header("Retry-After") == "21"
    assert answer.header("X-Breaker-Reason") == "circuit_open"
    assert answer.header("Proxy-Status") == (
        'testproxy; error=destination_unavailable; details="the upstream failed";'
        f' next-hop="{upstream.authority}"'
    )
    assert answer.header("Cache-Control") == "no-store"
    problem = json.loads(answer.content)
    assert problem["status"] == 503
    assert problem["reason"] == "circuit_open"
    assert "secret" not in str(answer)
    assert bytes(upstream.connections[0].received) == seen
    assert len(upstream.connections) == 1
    assert (await proxy.report(6)).error is not None


async def test_a_refusal_keeps_the_connection_although_content_came_with_it(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream(FAIL) as upstream, await Client.connect(proxy.port) as client:
        for expected in (500, 503, 503):
            await client.send(request("POST", f"http://{upstream.authority}/", content=b"event"))
            answer = await client.answer("POST")
            assert answer.status == expected
            assert answer.header("Connection") is None


async def test_recovery_takes_three_probes_one_at_a_time(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream(FAIL, SERVE) as upstream, await Client.connect(proxy.port) as client:
        url = f"http://{upstream.authority}/"
        await client.send(get(url))
        assert (await client.answer()).status == 500
        assert proxy.state(upstream.authority) == "open"
        proxy.clock.now += 30
        states = []
        for _ in range(3):
            await client.send(get(url))
            assert (await client.answer()).status == 200
            states.append(proxy.state(upstream.authority))
    assert states == ["half_open", "half_open", "closed"]


async def test_while_a_probe_is_under_way_others_are_refused(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    go_on = asyncio.Event()
    async with (
        ScriptedUpstream(FAIL, [Expect(), Wait(go_on), Send(OK)]) as upstream,
        await Client.connect(proxy.port) as first,
        await Client.connect(proxy.port) as second,
    ):
        url = f"http://{upstream.authority}/"
        await first.send(get(url))
        assert (await first.answer()).status == 500
        proxy.clock.now += 30
        await first.send(get(f"{url}probe"))
        await (await upstream.connection(1)).until(b"GET /probe")
        await second.send(get(url))
        refused = await second.answer()
        go_on.set()
        assert (await first.answer()).status == 200
    assert (refused.status, refused.header("X-Breaker-Reason")) == (503, "circuit_half_open")
    assert refused.header("Retry-After") == "1"


@pytest.mark.parametrize("entry", ["forward", "tunnel"])
async def test_a_silent_upstream_trips_although_the_client_always_leaves_first(
    start: Start, entry: str
) -> None:
    """The case the project exists for: no timeout of ours ever runs out."""
    proxy = await start()
    async with ScriptedUpstream([Do.STALL]) as upstream:
        for number in range(5):
            assert proxy.state(upstream.authority) != "open"
            async with await Client.connect(proxy.port) as client:
                if entry == "forward":
                    await client.send(get(f"http://{upstream.authority}/"))
                else:
                    await client.send(request("CONNECT", upstream.authority))
                    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                    await client.send(b"\x16hello")
                await (await upstream.connection(number)).until(b"GET" if entry == "forward" else b"hello")
                proxy.clock.now += 4
            exchange = await proxy.report(number + 1)
            assert exchange.client_left
            assert str(exchange.outcome) == "failure(abandoned)"
        assert proxy.state(upstream.authority) == "open"


async def test_a_client_that_leaves_early_says_nothing_of_the_upstream(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await (await upstream.connection(0)).until(b"GET")
            proxy.clock.now += 2.9
        exchange = await proxy.report()
    assert str(exchange.outcome) == "neutral"
    assert proxy.state(upstream.authority) is None


async def test_a_client_that_owes_content_and_leaves_says_nothing_of_the_upstream(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(f"POST http://{upstream.authority}/ HTTP/1.1\r\nHost: a\r\n".encode())
            await client.send(b"Content-Length: 10\r\n\r\nhalf")
            await (await upstream.connection(0)).until(b"half")
            proxy.clock.now += 20
        exchange = await proxy.report()
    assert str(exchange.outcome) == "neutral"


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "not_a_proxy_request"),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400, "bad_request"),
        (
            b"POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "bad_request",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431, "head_too_large"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
async def test_a_bad_request_is_refused_and_closes_the_connection_and_the_process_lives(
    start: Start, text: bytes, status: int, reason: str
) -> None:
    proxy = await start()
    async with await Client.connect(proxy.port) as client:
        await client.send(text + b"GET http://b.invalid/ HTTP/1.1\r\nHost: b\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (status, reason)
        assert answer.header("Connection") == "close"
        assert await client.rest() == b""
    await proxy.report(1)
    assert len(proxy.sidecar.circuits) == 0
    async with await Client.connect(proxy.port) as client:
        await client.send(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
        assert "HTTP_PROXY" in (await client.answer()).content.decode()


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (
            b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
            "unknown_coding",
        ),
        (b"GET http://a/ HTTP/2.0\r\nHost: a\r\n\r\n", 505, "unknown_version"),
    ],
    ids=["coding", "version"],
)
async def test_what_aiohttp_would_accept_is_refused_by_us(
    start: Start, text: bytes, status: int, reason: str
) -> None:
    proxy = await start()
    async with await Client.connect(proxy.port) as client:
        await client.send(text)
        answer = await client.answer("POST")
        assert (answer.status, answer.header("X-Breaker-Reason")) == (status, reason)
        client.writer.write_eof()
        assert await client.rest() == b""


async def test_a_refused_connect_executes_nothing_of_what_follows_it(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream(FAIL) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 500
        received = bytes(upstream.connections[0].received)
        async with await Client.connect(proxy.port) as client:
            url = f"http://{upstream.authority}/smuggled"
            await client.send(request("CONNECT", upstream.authority) + get(url))
            answer = await client.answer("CONNECT")
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
            assert answer.reason == f"Circuit open for {upstream.authority}"
            assert await client.rest() == b""
        assert bytes(upstream.connections[0].received) == received
    await proxy.report(2)


async def test_head_gets_our_answer_without_content(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream(FAIL) as upstream, await Client.connect(proxy.port) as client:
        for expected in (500, 503):
            await client.send(request("HEAD", f"http://{upstream.authority}/"))
            answer = await client.answer("HEAD")
            assert answer.status == expected
            assert answer.content == b""


async def test_an_upstream_that_refuses_is_502_and_five_of_them_open_the_circuit(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream(SERVE) as upstream:
        port = upstream.port
    answers = []
    async with await Client.connect(proxy.port) as client:
        for _ in range(6):
            await client.send(get(f"http://127.0.0.1:{port}/"))
            answers.append(await client.answer())
    assert [answer.status for answer in answers] == [502] * 5 + [503]
    assert answers[0].header("X-Breaker-Reason") == "connection_refused"
    assert [str(exchange.outcome) for exchange in proxy.exchanges] == ["failure(refused)"] * 5 + ["neutral"]


async def test_an_upstream_that_says_nothing_is_504_by_the_deadline_sweep(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(head=Seconds(7)))
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        await (await upstream.connection(0)).until(b"GET")
        proxy.clock.now += 7
        answer = await client.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (504, "http_response_timeout")
        assert str((await proxy.report()).outcome) == "failure(response_timeout)"


async def test_when_the_process_ends_who_has_no_answer_yet_gets_503_draining(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        await (await upstream.connection(0)).until(b"GET")
        proxy.clock.now += 20
        await proxy.sidecar.stop()
        answer = await client.answer()
    assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "draining")
    assert str((await proxy.report()).outcome) == "neutral"
    assert proxy.state(upstream.authority) is None
