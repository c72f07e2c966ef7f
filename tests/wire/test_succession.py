"""What goes on inside of a CONNECT: a connection like any other, with HTTP over TLS or in the clear."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from typing import cast

import pytest
from support.client import ESTABLISHED, Client, request
from support.clients import connections
from support.interception import start_intercepting
from support.sidecar import SETTINGS, Running, Start
from support.tls_client import TlsClient, inside
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Take, Wait, tls_upstream

from proxy.core.exchange import Entry
from proxy.core.policy import CircuitPolicy, Limits, OpenAction, Timeouts
from proxy.core.quantities import Seconds

SERVE = [Expect(), Send(OK)] * 500
ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
NOWHERE = "localhost:9"
PLENTY = 10 * 1024 * 1024
# What one transport may hold: its high-water mark and what came in one read.
HELD = 1024 * 1024
NARROW = 64 * 1024
ENDS = ("orderly", "reset", "close_notify")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither aiohttp nor the loop has anything to complain of."""
    yield
    assert [record.getMessage() for record in caplog.records if record.name != "breaker_proxy"] == []


async def leave(client: TlsClient, end: str) -> None:
    writer = client.inside.writer
    if end == "reset":
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    elif end == "orderly":
        writer.close()
    else:
        await client.send_raw(client.inside.close_notify())


async def gone(proxy: Running) -> None:
    """Waits until no client is left."""
    listeners = proxy.sidecar.data_plane.listeners.values()
    await until(
        lambda: not proxy.sidecar.data_plane.clients and not any(each.connections for each in listeners)
    )


async def swept(proxy: Running, seconds: float) -> None:
    """Lets so much time pass, and the sweep come round."""
    proxy.clock.now += seconds
    await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
    await turns()


async def narrow(proxy: Running, client: TlsClient) -> asyncio.Transport:
    """Narrows the windows towards a client, as loopback by itself takes megabytes; returns its transport."""
    await proxy.report()
    await until(lambda: len(connections(proxy)) == len(proxy.sidecar.data_plane.clients) == 1)
    (end,) = connections(proxy)
    assert end.transport is not None
    own = cast("asyncio.Transport", client.inside.writer.transport)
    end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
    own.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    return own


def response(content: bytes, *fields: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", *fields, f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


# One request after the other.


async def test_many_requests_one_by_one(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            for _ in range(200):
                await client.send(inside("GET", upstream.authority))
                assert (await client.answer()).content == b"ok"
        assert len(upstream.connections) == 1
    await proxy.report(201)
    assert [exchange.reused for exchange in proxy.exchanges[2:]] == [True] * 199


async def test_many_requests_at_once_are_answered_in_order(start: Start) -> None:
    proxy = await start_intercepting(start)
    count = 100
    script = [step for i in range(count) for step in (Expect(), Send(response(b"%d" % i)))]
    async with tls_upstream(script) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(b"".join(inside("GET", upstream.authority, f"/{i}") for i in range(count)))
            for i in range(count):
                assert (await client.answer()).content == b"%d" % i
        received = bytes(upstream.connections[0].received)
        asked = [line.split()[1] for line in received.split(b"\r\n") if line.startswith(b"GET")]
        assert asked == [b"/%d" % i for i in range(count)]
    await proxy.report(1 + count)


async def test_many_requests_in_the_clear_behind_their_connect_are_answered_in_order(start: Start) -> None:
    """More than may wait: the client is read only as fast as it is answered."""
    proxy = await start_intercepting(start)
    count = 500
    script = [step for i in range(count) for step in (Expect(), Send(response(b"%d" % i)))]
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        padding = f"X: {'x' * 500}"
        client.writer.write(
            request("CONNECT", upstream.authority)
            + b"".join(inside("GET", upstream.authority, f"/{i}", padding) for i in range(count))
        )
        assert await client.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
        for i in range(count):
            assert (await client.answer()).content == b"%d" % i
    await proxy.report(1 + count)
    assert {exchange.entry for exchange in proxy.exchanges[1:]} == {Entry.FORWARD}


@pytest.mark.parametrize("size", [1, 7])
async def test_requests_come_in_small_pieces(start: Start, size: int) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream([Expect(b"content"), Send(OK)]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            text = client.inside.encrypted(inside("POST", upstream.authority, content=b"the content"))
            for at in range(0, len(text), size):
                await client.send_raw(text[at : at + size])
                await turns(1)
            assert (await client.answer("POST")).status == 200
    await proxy.report(2)


# Much content.


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_much_content_comes_down_as_fast_as_it_is_read(start: Start, framing: str) -> None:
    proxy = await start_intercepting(start)
    content = bytes(range(256)) * (PLENTY // 256)
    sent = {
        "length": response(content),
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (len(content), content),
        "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + content,
    }[framing]
    async with tls_upstream([Expect(), Send(sent)]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            own = await narrow(proxy, client)
            own.pause_reading()
            await client.send(inside("GET", upstream.authority))
            (end,) = connections(proxy)
            await until(lambda: end.writing_paused)
            await turns()
            assert end.transport is not None
            assert end.transport.get_write_buffer_size() < HELD
            own.resume_reading()
            answer = await client.answer()
            assert answer.content == content
            assert not client.inside.was_cut
    exchange = await proxy.report(2)
    assert (exchange.response_bytes, str(exchange.outcome)) == (PLENTY, "success")


async def test_much_content_goes_up_as_fast_as_it_is_taken(start: Start) -> None:
    proxy = await start_intercepting(start)
    go = asyncio.Event()
    much = 4 * PLENTY
    async with tls_upstream([Expect(), Wait(go), Take(much), Send(OK)]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            head = f"POST / HTTP/1.1\r\nHost: {upstream.authority}\r\nContent-Length: {much}\r\n\r\n"
            await client.send(head.encode())

            async def upload() -> None:
                piece = bytes(range(256)) * 256
                for _ in range(much // len(piece)):
                    await client.send(piece)

            uploading = asyncio.create_task(upload())
            await upstream.connection(0)
            (end,) = connections(proxy)
            await until(lambda: end.transport is not None and not end.transport.is_reading())
            assert not uploading.done()
            go.set()
            await uploading
            assert (await client.answer("POST")).status == 200
            received = upstream.connections[0].received.partition(b"\r\n\r\n")[2]
            assert received == bytes(range(256)) * (much // 256)
    exchange = await proxy.report(2)
    assert (exchange.request_bytes, str(exchange.outcome)) == (much, "success")


# What HTTP has besides.


async def test_a_client_that_waits_for_100_gets_it(start: Start) -> None:
    proxy = await start_intercepting(start)
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    async with tls_upstream([Expect(), Send(go_on), Expect(b"content"), Send(OK)]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            fields = "Expect: 100-continue", "Content-Length: 7"
            await client.send(inside("POST", upstream.authority, "/", *fields))
            assert await client.reader.readuntil(b"\r\n\r\n") == go_on
            await client.send(b"content")
            assert (await client.answer("POST")).status == 200
    await proxy.report(2)


async def test_hints_come_before_the_answer(start: Start) -> None:
    proxy = await start_intercepting(start)
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with tls_upstream([Expect(), Send(hints), Send(OK)]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(inside("GET", upstream.authority))
            answer = await client.answer()
            assert (answer.interim, answer.status) == ([103], 200)
    await proxy.report(2)


async def test_a_head_has_no_content(start: Start) -> None:
    proxy = await start_intercepting(start)
    only_head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with tls_upstream([Expect(), Send(only_head), Expect(), Send(OK)]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            for method, content in (("HEAD", b""), ("GET", b"ok")):
                await client.send(inside(method, upstream.authority))
                assert (await client.answer(method)).content == content
    await proxy.report(3)


async def test_trailers_pass(start: Start) -> None:
    proxy = await start_intercepting(start)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSum: 1\r\n\r\n"
    async with tls_upstream([Expect(), Send(chunked)]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(inside("GET", upstream.authority, "/", "TE: trailers", "Connection: TE"))
            assert (await client.reader.readuntil(b"Sum: 1\r\n\r\n")).endswith(b"ok\r\n0\r\nSum: 1\r\n\r\n")
    await proxy.report(2)


async def test_an_early_refusal_is_read_while_the_upload_still_comes(start: Start) -> None:
    """Inside TLS there is no half-close: what still comes is read for 2 s, then we close."""
    proxy = await start_intercepting(start)
    early = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge"
    async with tls_upstream([Expect(), Send(early), Do.STALL]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(inside("POST", upstream.authority, "/", f"Content-Length: {PLENTY}"))
            answer = await client.answer("POST")
            assert (answer.status, answer.content) == (413, b"large")
            assert answer.header("Connection") == "close"
            for _ in range(PLENTY // 2 // 65536):
                await client.send(b"x" * 65536)
            (end,) = connections(proxy)
            await swept(proxy, 1.9)
            assert end.transport is not None
            assert not end.transport.is_closing()
            await swept(proxy, 0.2)
            await gone(proxy)
    exchange = await proxy.report(2)
    assert (exchange.status, str(exchange.outcome)) == (413, "alive")


async def test_an_open_circuit_answers_where_the_client_can_read_it(start: Start) -> None:
    proxy = await start_intercepting(start, circuit=ONE_FAILURE)
    failed = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    async with tls_upstream([Expect(), Send(failed), Do.STALL]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(inside("GET", upstream.authority))
            assert (await client.answer()).status == 500
            # The end of the opening, and behind it (`circuit.retry_spread`).
            for seconds in ("30", "40", "34"):
                await client.send(inside("GET", upstream.authority))
                answer = await client.answer()
                assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
                assert answer.header("Retry-After") == seconds
                assert answer.header("Connection") is None
        # A CONNECT asks no circuit, and a new client is told in the same way.
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(inside("GET", upstream.authority))
            assert (await client.answer()).status == 503
        assert len(upstream.connections) == 1
    await proxy.report(7)
    assert proxy.state(upstream.authority) == "open"


async def test_a_refusal_of_an_upload_is_read_while_that_still_comes(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.through(proxy.port, NOWHERE) as client:
        await client.send(inside("POST", "other:9", "/", f"Content-Length: {PLENTY}"))
        answer = await client.answer("POST")
        assert (answer.status, answer.header("Connection")) == (421, "close")
        for _ in range(PLENTY // 2 // 65536):
            await client.send(b"x" * 65536)
        await swept(proxy, 2)
        await gone(proxy)
    await proxy.report(2)


async def test_an_open_circuit_closes_without_a_byte_where_that_is_wanted(start: Start) -> None:
    proxy = await start_intercepting(start, circuit=ONE_FAILURE, open_action=OpenAction.CLOSE)
    failed = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    async with tls_upstream([Expect(), Send(failed), Do.STALL]) as upstream:
        for answers in (failed.partition(b"\r\n")[0], b""):
            async with await TlsClient.through(proxy.port, upstream.authority) as client:
                await client.send(inside("GET", upstream.authority))
                if answers:
                    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(answers)
                else:
                    assert await client.rest() == b""
    exchange = await proxy.report(4)
    assert exchange.error is not None
    assert exchange.error.reason == "circuit_open"


# A client that leaves.


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("silence_s", "outcome"), [(0, "neutral"), (4, "failure(abandoned)")])
async def test_a_client_leaves_while_its_answer_is_awaited(
    start: Start, end: str, silence_s: float, outcome: str
) -> None:
    proxy = await start_intercepting(start, circuit=ONE_FAILURE)
    async with tls_upstream([Expect(), Do.STALL]) as upstream:
        client = await TlsClient.through(proxy.port, upstream.authority)
        await client.send(inside("GET", upstream.authority))
        await (await upstream.connection(0)).until(b"\r\n\r\n")
        await until(lambda: proxy.sidecar.data_plane.pool.idle == 0)
        proxy.clock.now += silence_s
        await leave(client, end)
        exchange = await proxy.report(2)
        client.close()
        assert (str(exchange.outcome), exchange.client_left) == (outcome, True)
        assert exchange.entry is Entry.INTERCEPTED
        await gone(proxy)
        await until(lambda: upstream.connections[0].ended)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("requests", [0, 1])
async def test_a_client_leaves_between_requests(start: Start, end: str, requests: int) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        client = await TlsClient.through(proxy.port, upstream.authority)
        for _ in range(requests):
            await client.send(inside("GET", upstream.authority))
            await client.answer()
        await leave(client, end)
        await gone(proxy)
        client.close()
    await proxy.report(1 + requests)


@pytest.mark.parametrize("end", ENDS)
async def test_a_client_leaves_in_the_middle_of_its_content(start: Start, end: str) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream([Expect(), Do.STALL]) as upstream:
        client = await TlsClient.through(proxy.port, upstream.authority)
        await client.send(inside("POST", upstream.authority, "/", "Content-Length: 100") + b"half")
        await (await upstream.connection(0)).until(b"half")
        proxy.clock.now += 4
        await leave(client, end)
        exchange = await proxy.report(2)
        client.close()
        assert (str(exchange.outcome), exchange.client_left) == ("neutral", True)
        await gone(proxy)


async def test_a_client_leaves_in_the_middle_of_its_answer(start: Start) -> None:
    proxy = await start_intercepting(start)
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    async with tls_upstream([Expect(), Send(half), Do.STALL]) as upstream:
        client = await TlsClient.through(proxy.port, upstream.authority)
        await client.send(inside("GET", upstream.authority))
        await client.reader.readuntil(b"half")
        client.close()
        assert str((await proxy.report(2)).outcome) == "neutral"
        await gone(proxy)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_an_answer_that_is_cut_is_cut_inside_as_well(start: Start, version: str) -> None:
    """RFC 9112 section 9.8: where the end says that all has come, a close_notify would say so as well."""
    proxy = await start_intercepting(start)
    script = [Expect(), Send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf"), Do.RESET]
    async with tls_upstream(script) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(
                inside("GET", upstream.authority).replace(b"HTTP/1.1", b"HTTP/" + version.encode())
            )
            if version == "1.0":
                with pytest.raises(ConnectionResetError):
                    await client.rest()
            else:
                received = await client.rest()
                assert b"chunked" in received
                assert not received.endswith(b"0\r\n\r\n")
    exchange = await proxy.report(2)
    assert exchange.error is not None
    assert exchange.error.error_type == "http_response_incomplete"


# Time, and room.


async def test_a_slow_head_is_told_so(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.through(proxy.port, NOWHERE) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: ")
        await turns()
        await swept(proxy, SETTINGS.timeouts.request_head)
        answer = await client.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (408, "client_timeout")
        await swept(proxy, 2)
        assert await client.rest() == b""
        assert not client.inside.was_cut
        await gone(proxy)
    assert (await proxy.report(2)).entry is Entry.INTERCEPTED


async def test_a_client_that_does_not_read_its_answer_is_given_up(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream([Expect(), Send(response(bytes(PLENTY))), Do.STALL]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            own = await narrow(proxy, client)
            own.pause_reading()
            await client.send(inside("GET", upstream.authority))
            (end,) = connections(proxy)
            await until(lambda: end.writing_paused)
            await turns()
            await swept(proxy, SETTINGS.timeouts.body_idle - 1)
            assert len(proxy.exchanges) == 1
            async with asyncio.timeout(10):
                while len(proxy.exchanges) == 1:
                    # As long again, where the kernel has taken something meanwhile.
                    await swept(proxy, SETTINGS.timeouts.body_idle)
            await gone(proxy)
    exchange = await proxy.report(2)
    assert exchange.error is not None
    assert (exchange.error.reason, str(exchange.outcome)) == ("client_timeout", "neutral")


async def test_an_idle_client_is_closed_in_order(start: Start) -> None:
    proxy = await start_intercepting(start, timeouts=Timeouts(client_idle=Seconds(100)))
    async with await TlsClient.through(proxy.port, NOWHERE) as client:
        await swept(proxy, 99)
        assert len(proxy.sidecar.data_plane.clients) == 1
        await swept(proxy, 1)
        assert await client.rest() == b""
        assert not client.inside.was_cut
    await gone(proxy)
    await proxy.report()


async def test_when_there_are_too_many_the_longest_idle_goes(start: Start) -> None:
    proxy = await start_intercepting(start, limits=Limits(max_connections=2))
    async with (
        tls_upstream(SERVE) as upstream,
        await TlsClient.through(proxy.port, upstream.authority) as first,
    ):
        proxy.clock.now += 1
        await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
        async with await TlsClient.through(proxy.port, upstream.authority) as second:
            assert len(proxy.sidecar.data_plane.clients) == 2, "each of them is one client"
            async with await TlsClient.through(proxy.port, upstream.authority) as third:
                assert await first.rest() == b""
                assert not first.inside.was_cut
                for client in (second, third):
                    await client.send(inside("GET", upstream.authority))
                    assert (await client.answer()).status == 200
                assert len(proxy.sidecar.data_plane.clients) == 2
    await proxy.report(5)


async def test_nobody_goes_who_is_still_in_the_handshake(start: Start) -> None:
    proxy = await start_intercepting(start, limits=Limits(max_connections=1))
    async with await TlsClient.standing(proxy.port, NOWHERE) as first:
        async with await Client.connect(proxy.port) as second:
            answer = await second.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "local_limit")
        await first.inside.shake()
    await proxy.report(2)


# The end of the process.


async def test_a_request_under_way_is_told_of_the_stop(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.wire.drain.LAST_WORDS_S", 60.0)
    proxy = await start_intercepting(start)
    async with tls_upstream([Expect(), Do.STALL]) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await client.send(inside("GET", upstream.authority))
            await (await upstream.connection(0)).until(b"\r\n\r\n")
            async with asyncio.timeout(5):
                await proxy.sidecar.stop()
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "draining")
            assert await client.rest() == b""
            assert not client.inside.was_cut
    assert str((await proxy.report(2)).outcome) == "neutral"


# WebSockets.

ASKED = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
FRAMES = b"\x81\x05hello\r\n\r\n\x00\xff", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def opened(proxy: Running, upstream: ScriptedUpstream, behind: bytes = b"") -> TlsClient:
    client = await TlsClient.through(proxy.port, upstream.authority)
    await client.send(inside("GET", upstream.authority, "/chat", *ASKED) + behind)
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return client


@pytest.mark.parametrize("is_glued", [True, False])
async def test_a_websocket_inside_carries_bytes_both_ways(start: Start, *, is_glued: bool) -> None:
    proxy = await start_intercepting(start)
    script = [Expect(), Send(ACCEPT), *map(Expect, FRAMES), *map(Send, FRAMES)]
    async with tls_upstream([*script, Do.STALL]) as upstream:
        both = b"".join(FRAMES)
        async with await opened(proxy, upstream, both if is_glued else b"") as client:
            if not is_glued:
                await client.send(both)
            assert await client.reader.readexactly(len(both)) == both
        exchange = await proxy.report(2)
    assert (exchange.status, str(exchange.outcome)) == (101, "success")
    assert exchange.request_bytes == exchange.response_bytes == len(both)
    await gone(proxy)


async def test_an_upstream_that_closes_its_websocket_closes_it(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream([Expect(), Send(ACCEPT), Expect(FRAMES[0]), Send(FRAMES[1])]) as upstream:
        async with await opened(proxy, upstream) as client:
            await client.send(FRAMES[0])
            assert await client.rest() == FRAMES[1]
            assert not client.inside.was_cut
    assert (await proxy.report(2)).error is None
    await gone(proxy)


@pytest.mark.parametrize("end", ENDS)
async def test_a_client_that_closes_its_websocket_closes_it(start: Start, end: str) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream([Expect(), Send(ACCEPT), Do.STALL]) as upstream:
        client = await opened(proxy, upstream)
        await client.send(FRAMES[0])
        await (await upstream.connection(0)).until(FRAMES[0])
        await leave(client, end)
        await until(lambda: upstream.connections[0].ended)
        await proxy.report(2)
        client.close()
        await gone(proxy)


async def test_what_a_client_says_last_gets_there(start: Start) -> None:
    """In the same segment as its close_notify, which ends both ways at once."""
    proxy = await start_intercepting(start)
    async with tls_upstream([Expect(), Send(ACCEPT), Do.STALL]) as upstream:
        client = await opened(proxy, upstream)
        last = client.inside.encrypted(FRAMES[0] + b"last")
        await client.send_raw(last + client.inside.close_notify())
        await until(lambda: upstream.connections[0].ended)
        assert upstream.connections[0].received.endswith(b"last")
        await proxy.report(2)
        client.close()
        await gone(proxy)
