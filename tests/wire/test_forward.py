"""Forwarding: what arrives upstream, what comes back, and how failures in between look."""

import asyncio

import h11
import pytest
from support.client import Client, get, request
from support.sidecar import Start
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Take, Wait

from proxy.core.policy import CircuitPolicy, Limits, Timeouts
from proxy.core.quantities import Bytes, Seconds


async def test_the_request_arrives_as_it_was_sent(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(b"event"), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(
                f"POST http://{upstream.authority}/A%2f%7e/../b?q=%20&&x HTTP/1.1\r\n".encode()
                + b"hOST: elsewhere\r\nX-Sig: \xe4\xff\r\nx-sig:  two \r\nAccept-Encoding: gzip\r\n"
                + b"Proxy-Connection: keep-alive\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\n"
                + b"Proxy-Authorization: Basic eA==\r\nTE: trailers\r\nUser-Agent:\r\n"
                + b"Content-Length: 5\r\n\r\nevent"
            )
            answer = await client.answer("POST")
            assert answer.header("Connection") == "close"
        assert bytes(upstream.connections[0].received) == (
            b"POST /A%2f%7e/../b?q=%20&&x HTTP/1.1\r\n"
            + f"hOST: {upstream.authority}\r\n".encode()
            + b"X-Sig: \xe4\xff\r\nx-sig: two\r\nAccept-Encoding: gzip\r\nUser-Agent: \r\n"
            + b"Content-Length: 5\r\nTE: trailers\r\nConnection: TE\r\n"
            + b"Via: 1.1 testproxy\r\n\r\nevent"
        )


async def test_the_response_comes_back_as_it_was_sent(start: Start) -> None:
    proxy = await start()
    response = (
        b"HTTP/1.1 418 I'm a teapot\r\nset-COOKIE: a\r\nSet-Cookie: b\r\nX: \xe4\r\nKeep-Alive: timeout=5\r\n"
        b"Connection: X-Hop\r\nX-Hop: 1\r\nX-Breaker-Reason: forged\r\nContent-Length: 3\r\n\r\nabc"
    )
    async with ScriptedUpstream([Expect(), Send(response)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            received = await client.reader.readuntil(b"abc")
    assert received == (
        b"HTTP/1.1 418 I'm a teapot\r\nset-COOKIE: a\r\nSet-Cookie: b\r\nX: \xe4\r\nContent-Length: 3\r\n"
        b"Via: 1.1 testproxy\r\n\r\nabc"
    )
    exchange = await proxy.report()
    assert (exchange.status, exchange.source.value, str(exchange.outcome)) == (418, "upstream", "alive")
    assert exchange.response_bytes == 3


@pytest.mark.parametrize(
    ("response", "method", "content"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n",
            "GET",
            b"ok!",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", b""),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "GET", b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", b""),
        # So much that reading is paused, but all at once.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + bytes(40_000), "GET", bytes(40_000)),
    ],
    ids=["length", "chunked", "204", "304", "HEAD length", "HEAD chunked", "no phrase", "empty", "large"],
)
async def test_each_framing_keeps_both_connections(
    start: Start, response: bytes, method: str, content: bytes
) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(response)] * 2) as upstream:
        async with await Client.connect(proxy.port) as client:
            for _ in range(2):
                await client.send(request(method, f"http://{upstream.authority}/"))
                answer = await client.answer(method)
                assert answer.content == content
                assert answer.header("Connection") is None
        assert len(upstream.connections) == 1
    assert [exchange.reused for exchange in proxy.exchanges] == [False, True]


async def test_a_response_that_ends_with_the_connection(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            answer = await client.answer()
            assert answer.content == b"until the end"
            assert answer.header("Transfer-Encoding") == "chunked"
            assert answer.header("Connection") is None
    assert str((await proxy.report()).outcome) == "success"


async def test_an_http_1_0_client_gets_no_chunks_and_is_not_kept(start: Start) -> None:
    proxy = await start()
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with ScriptedUpstream([Expect(), Send(response)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(
                f"GET http://{upstream.authority}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode()
            )
            assert (
                await client.rest() == b"HTTP/1.1 200 OK\r\nVia: 1.1 testproxy\r\nConnection: close\r\n\r\nok"
            )
        assert upstream.connections[0].received.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"Via: 1.0 testproxy" in upstream.connections[0].received


async def test_a_chunked_upload_streams(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(b"0\r\n\r\n"), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", "Transfer-Encoding: chunked"))
            for piece in (b"first", b"second"):
                await client.send(b"%x;ext\r\n%b\r\n" % (len(piece), piece))
                await (await upstream.connection(0)).until(piece)
            await client.send(b"0\r\nTrailer: x\r\n\r\n")
            assert (await client.answer("POST")).status == 200
        sent = bytes(upstream.connections[0].received)
    assert sent.endswith(b"\r\n\r\n5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n")
    assert sent.count(b"Transfer-Encoding: chunked") == 1
    assert (await proxy.report()).request_bytes == 11


async def test_expect_100_continue_goes_end_to_end(start: Start) -> None:
    proxy = await start()
    script = [
        Expect(),
        Send(b"HTTP/1.1 100 Continue\r\n\r\n"),
        Take(5),
        Send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK),
    ]
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        await client.send(
            request("POST", f"http://{upstream.authority}/", "Expect: 100-continue", "Content-Length: 5")
        )
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"event")
        answer = await client.answer("POST")
    assert (answer.status, answer.interim, answer.content) == (200, [103], b"ok")


async def test_events_are_not_held_back(start: Start) -> None:
    proxy = await start()
    go_on = asyncio.Event()
    script = [
        Expect(),
        Send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"),
        Send(b"data: 1\n\n"),
        Wait(go_on),
        Send(b"data: 2\n\n"),
    ]
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        await client.reader.readuntil(b"data: 1\n\n")
        go_on.set()
        await client.reader.readuntil(b"data: 2\n\n")


@pytest.mark.parametrize(
    ("steps", "status", "reason", "outcome"),
    [
        ([Expect()], 502, "connection_terminated", "failure(reset)"),
        ([Expect(), Do.RESET], 502, "connection_terminated", "failure(reset)"),
        ([Expect(), Send(b"HTTP/1.1 200 OK\r\nContent-")], 502, "connection_terminated", "failure(reset)"),
        (
            [Expect(), Send(b"SSH-2.0-OpenSSH\r\n"), Do.STALL],
            502,
            "http_protocol_error",
            "failure(malformed)",
        ),
        ([Expect(), Send(b"HTTP/2.0 200 OK\r\n\r\n")], 502, "http_protocol_error", "failure(malformed)"),
        ([Expect(), Send(b"HTTP/1.1 099 OK\r\n\r\n")], 502, "http_protocol_error", "failure(malformed)"),
        (
            [Expect(), Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), Do.STALL],
            502,
            "http_response_transfer_coding",
            "failure(malformed)",
        ),
        (
            [Expect(), Send(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5000), Do.STALL],
            502,
            "http_response_header_section_size",
            "failure(malformed)",
        ),
        (
            [Expect(), Send(b"HTTP/1.1 100 Continue\r\n\r\n" * 17), Do.STALL],
            502,
            "http_protocol_error",
            "failure(malformed)",
        ),
    ],
    ids=["closed", "reset", "cut head", "not http", "version", "status", "coding", "large head", "interims"],
)
async def test_what_goes_wrong_before_the_head_is_told(
    start: Start, steps: list[Step], status: int, reason: str, outcome: str
) -> None:
    proxy = await start(limits=Limits(max_head=Bytes(4096)))
    async with ScriptedUpstream(steps) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        answer = await client.answer()
    assert (answer.status, answer.header("X-Breaker-Reason")) == (status, reason)
    assert str((await proxy.report()).outcome) == outcome


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ],
    ids=["length", "chunked", "bad chunk"],
)
async def test_a_cut_response_is_passed_on_as_cut(start: Start, response: bytes) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    go_on = asyncio.Event()
    script = [Expect(), Send(response), Wait(go_on)]
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        go_on.set()
        with pytest.raises(h11.RemoteProtocolError):
            await client.answer()
    exchange = await proxy.report()
    assert exchange.outcome.kind is not None
    assert exchange.outcome.kind.value in ("truncated", "malformed")
    assert proxy.state(upstream.authority) == "open"


async def test_a_kept_alive_connection_that_was_closed_meanwhile_is_not_used_again(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(OK)]) as upstream, await Client.connect(proxy.port) as client:
        for number in range(2):
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 200
            await (await upstream.connection(number)).until(b"\r\n\r\n")
            while proxy.sidecar.data_plane.pool.idle:
                await asyncio.sleep(0)
        assert len(upstream.connections) == 2


async def test_bytes_behind_a_response_end_the_connection_and_reach_nobody(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(OK + OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            for _ in range(2):
                await client.send(get(f"http://{upstream.authority}/"))
                assert (await client.answer()).content == b"ok"
        assert len(upstream.connections) == 2


async def test_an_early_answer_to_a_long_upload(start: Start) -> None:
    proxy = await start()
    refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
    async with ScriptedUpstream([Expect(), Send(refusal), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{upstream.authority}/", "Content-Length: 1000000"))
            answer = await client.answer("POST")
            assert answer.status == 413
            assert answer.header("Connection") == "close"
    assert str((await proxy.report()).outcome) == "alive"


async def test_malformed_request_content_is_the_clients_to_mend_and_no_fault_of_the_upstream(
    start: Start,
) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(request("POST", f"http://{upstream.authority}/", "Transfer-Encoding: chunked"))
        await (await upstream.connection(0)).until(b"\r\n\r\n")
        await client.send(b"zz\r\n")
        await asyncio.sleep(0)
        proxy.clock.now += 60
        answer = await client.answer("POST")
    assert answer.status == 408
    assert str((await proxy.report()).outcome) == "neutral"
    assert proxy.state(upstream.authority) is None


@pytest.mark.parametrize(
    ("sent", "moves", "status", "reason", "outcome"),
    [
        (b"Content-Length: 9\r\n\r\nhalf", 60, 408, "client_timeout", "neutral"),
        (b"Content-Length: 4\r\n\r\nfull", 30, 504, "http_response_timeout", "failure(response_timeout)"),
        (
            b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n",
            30,
            504,
            "http_response_timeout",
            "failure(response_timeout)",
        ),
    ],
    ids=["client owes content", "upstream owes the head", "upstream owes the 100"],
)
async def test_a_deadline_falls_on_the_side_that_owes(
    start: Start, sent: bytes, moves: float, status: int, reason: str, outcome: str
) -> None:
    proxy = await start()
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(f"POST http://{upstream.authority}/ HTTP/1.1\r\nHost: a\r\n".encode() + sent)
        await (await upstream.connection(0)).until(sent[-4:])
        proxy.clock.now += moves
        answer = await client.answer("POST")
    assert (answer.status, answer.header("X-Breaker-Reason")) == (status, reason)
    assert str((await proxy.report()).outcome) == outcome


async def test_an_upstream_that_falls_silent_in_the_middle_is_cut(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(body_idle=Seconds(20)))
    partial = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    async with ScriptedUpstream([Expect(), Send(partial), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await client.reader.readuntil(b"half")
            proxy.clock.now += 20
            assert await client.rest() == b""
    assert str((await proxy.report()).outcome) == "failure(truncated)"


async def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    proxy = await start()
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(3)]
    script = [step for answer in answers for step in (Expect(), Send(answer))]
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/") * 3)
        assert [(await client.answer()).content for _ in range(3)] == [b"0", b"1", b"2"]
        assert len(upstream.connections) == 1


async def test_what_the_upstream_takes_is_not_our_own_time(start: Start) -> None:
    proxy = await start()
    answers = asyncio.Event()
    async with ScriptedUpstream([Expect(), Wait(answers), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await (await upstream.connection(0)).until(b"\r\n\r\n")
            proxy.clock.now += 5
            answers.set()
            await client.answer()
    exchange = await proxy.report()
    assert exchange.total_upstream_s(proxy.clock.now) == 5
    assert exchange.total_own_s(proxy.clock.now) == 0
