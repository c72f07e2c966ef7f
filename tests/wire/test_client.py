"""A client's time: for its head, for its next request, for its last answer; and how many there are."""

import asyncio
import tracemalloc

import pytest
from support.client import Client, get, request
from support.clients import Taken, taken_in
from support.sidecar import Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.policy import CircuitPolicy, Limits, Timeouts
from proxy.core.quantities import Bytes, Seconds

TIMES = Timeouts(request_head=Seconds(15), client_idle=Seconds(600))
HEAD = b"GET http://a.invalid/ HTTP/1.1\r\nHost: a"


async def swept(proxy: Running, seconds: float) -> None:
    """Lets so much time pass, and the sweep come round."""
    proxy.clock.now += seconds
    await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
    await turns()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """What the proxy takes in."""
    return taken_in(monkeypatch)


@pytest.mark.parametrize("before", [0, 1], ids=["never spoke", "after an exchange"])
async def test_an_idle_client_is_closed_after_client_idle(start: Start, before: int) -> None:
    proxy = await start(timeouts=TIMES)
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            for _ in range(before):
                await client.send(get(f"http://{upstream.authority}/"))
                assert (await client.answer()).status == 200
            await until(lambda: len(proxy.sidecar.data_plane.clients) == 1)
            await swept(proxy, 599)
            assert len(proxy.sidecar.data_plane.clients) == 1
            await swept(proxy, 1)
            assert await client.rest() == b""
    assert len(proxy.exchanges) == before


async def test_a_client_that_waits_for_its_answer_is_not_idle(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(client_idle=Seconds(1), request_head=Seconds(1)))
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        await (await upstream.connection(0)).until(b"GET")
        await swept(proxy, 20)
        assert len(proxy.sidecar.data_plane.clients) == 1
        assert not proxy.exchanges


@pytest.mark.parametrize("before", [0, 1], ids=["first request", "later request"])
async def test_a_head_that_does_not_end_gets_408(start: Start, taken: Taken, before: int) -> None:
    proxy = await start(timeouts=TIMES)
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            for _ in range(before):
                await client.send(get(f"http://{upstream.authority}/"))
                assert (await client.answer()).status == 200
            already = taken.count
            # Each byte comes in time for an idle connection, and all of them too late for a head.
            for number in range(5):
                await client.send(HEAD[number : number + 1])
                await taken.until(already + number + 1)
                assert len(proxy.exchanges) == before
                await swept(proxy, 3)
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (408, "client_timeout")
            assert answer.header("Connection") == "close"
            assert await client.rest() == b""
    exchange = await proxy.report(before + 1)
    assert str(exchange.outcome) == "neutral"


async def test_the_beginning_of_a_head_that_came_ahead_has_its_time_from_its_turn_on(start: Start) -> None:
    proxy = await start(timeouts=TIMES)
    async with ScriptedUpstream([Expect(), Do.STALL], [Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            await (await upstream.connection(0)).until(b"GET")
            await client.send(HEAD)
            await turns()
            await swept(proxy, 30)
            assert (await client.answer()).status == 504
            assert not client.reader.at_eof()
            await swept(proxy, 15)
            assert (await client.answer()).status == 408


async def test_a_last_answer_is_read_whatever_the_client_still_sends(start: Start) -> None:
    proxy = await start(timeouts=TIMES)
    async with await Client.connect(proxy.port) as client:
        # Far more than any buffer between us takes: without being read on, it could not all be sent.
        plenty = b"x" * 1_000_000
        await client.send(get("http://user@a.invalid/", "X: 1"))
        for _ in range(20):
            await client.send(plenty)
        answer = await client.answer()
        assert (answer.status, answer.header("Connection")) == (400, "close")
        assert await client.rest() == b""
    assert len(proxy.exchanges) == 1


async def test_a_client_that_does_not_end_after_its_last_answer_is_closed_after_2_s(start: Start) -> None:
    proxy = await start(timeouts=TIMES)
    async with await Client.connect(proxy.port) as client:
        await client.send(b"GET /x y\r\n\r\n")
        assert (await client.answer()).status == 400
        assert await client.rest() == b""
        await turns()
        assert len(proxy.sidecar.data_plane.clients) == 1
        await swept(proxy, 2)
        await until(lambda: not proxy.sidecar.data_plane.clients)


async def test_nothing_behind_a_refused_connect_is_carried_out(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream([Expect(), Send(OK)]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(request("CONNECT", "127.0.0.1:1") + get(f"http://{upstream.authority}/"))
        assert (await client.answer("CONNECT")).status == 502
        await client.send(get(f"http://{upstream.authority}/"))
        assert await client.rest() == b""
        assert not upstream.connections
    await proxy.report()


async def test_when_full_the_longest_idle_client_goes(start: Start) -> None:
    proxy = await start(limits=Limits(max_connections=2), timeouts=TIMES)
    async with await Client.connect(proxy.port) as first:
        await until(lambda: len(proxy.sidecar.data_plane.clients) == 1)
        await swept(proxy, 1)
        async with await Client.connect(proxy.port) as second:
            await until(lambda: len(proxy.sidecar.data_plane.clients) == 2)
            await swept(proxy, 1)
            async with await Client.connect(proxy.port) as third:
                assert await first.rest() == b""
                await until(lambda: len(proxy.sidecar.data_plane.clients) == 2)
                for client in (second, third):
                    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert (await client.answer()).status == 400


async def test_when_full_of_busy_clients_a_new_one_is_told_so(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.wire.listener.TURNED_AWAY", 1)
    proxy = await start(limits=Limits(max_connections=1), timeouts=TIMES)
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as busy:
        await busy.send(get(f"http://{upstream.authority}/"))
        await (await upstream.connection(0)).until(b"GET")
        async with await Client.connect(proxy.port) as other:
            answer = await other.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "local_limit")
            assert answer.header("Retry-After") == "1"
            # Only so many are told so at once.
            async with await Client.connect(proxy.port) as third:
                assert await third.rest() == b""
        await until(lambda: len(proxy.sidecar.data_plane.clients) == 1)
        assert str((await proxy.report()).outcome) == "neutral"
        assert proxy.sidecar.data_plane.handler.in_flight == 1
        busy.close()
        await asyncio.sleep(0)
    await proxy.report(2)


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("trailers", [b"Authorization: leaked\r\n", b"A: 10\r\n", b"A: 1\r\nB: 0\r\n"])
@pytest.mark.parametrize("pipelined", [False, True])
async def test_trailers_of_a_request_get_into_no_other_request(
    start: Start,
    trailers: bytes,
    pipelined: bool,  # noqa: FBT001 -- a column
) -> None:
    """aiohttp would make them the first field of the next request on the connection."""
    proxy = await start()
    async with ScriptedUpstream([Expect(b"0\r\n\r\n"), Send(OK), Expect(), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            url = f"http://{upstream.authority}/"
            text = request("POST", url, CHUNKED) + b"1\r\nx\r\n0\r\n" + trailers + b"\r\n"
            await client.send(text + (get(url) if pipelined else b""))
            assert (await client.answer()).header("Connection") == "close"
            assert await client.rest() == b""
        received = bytes(upstream.connections[0].received)
        assert received.endswith(b"1\r\nx\r\n0\r\n\r\n")
        assert b"leaked" not in received


@pytest.mark.parametrize(
    "content", [b"0\r\n\r\n", b"3\r\n\r\n0\r\n0\r\n\r\n"], ids=["empty", "with a nought"]
)
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_chunked_content_without_trailers_keeps_the_connection(
    start: Start,
    content: bytes,
    in_pieces: bool,  # noqa: FBT001 -- a column
) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(b"0\r\n\r\n"), Send(OK)] * 2) as upstream:
        async with await Client.connect(proxy.port) as client:
            for _ in range(2):
                text = request("POST", f"http://{upstream.authority}/", CHUNKED) + content
                for at in range(0, len(text), 3 if in_pieces else len(text)):
                    await client.send(text[at : at + (3 if in_pieces else len(text))])
                    await turns(5)
                answer = await client.answer("POST")
                assert (answer.status, answer.header("Connection")) == (200, None)


@pytest.mark.parametrize(
    "end", [[b"0\r\n\r\n"], [b"0\r\n", b"\r\n"], [b"0", b"\r\n\r\n"]], ids=["one", "line", "nought"]
)
async def test_a_last_chunk_that_comes_for_itself_is_no_head(
    start: Start, taken: Taken, end: list[bytes]
) -> None:
    proxy = await start(timeouts=TIMES)
    async with ScriptedUpstream(
        [Expect(b"0\r\n\r\n"), Send(OK), Do.STALL], [Expect(), Send(OK), Do.STALL]
    ) as upstream:
        url = f"http://{upstream.authority}/"
        async with await Client.connect(proxy.port) as client:
            text = request("POST", url, CHUNKED) + b"1\r\nx\r\n"
            await client.send(text)
            await (await upstream.connection(0)).until(b"1\r\nx\r\n")
            for piece in end:
                await client.send(piece)
                text += piece
                await taken.until(len(text))
            answer = await client.answer("POST")
            assert (answer.status, answer.header("Connection")) == (200, None)
            await turns()
            await swept(proxy, 16)
            assert len(proxy.exchanges) == len(proxy.sidecar.data_plane.clients) == 1
            # A 408 would stand before this answer.
            await client.send(get(url))
            assert (await client.answer()).status == 200
    await proxy.report(2)


@pytest.mark.parametrize("behind", [b"", b"\r\n"], ids=["nothing", "an empty line"])
async def test_content_that_an_answer_did_not_wait_for_is_no_head(
    start: Start, taken: Taken, behind: bytes
) -> None:
    proxy = await start(timeouts=TIMES)
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with ScriptedUpstream(
        [Expect(), Send(early), Do.STALL], [Expect(), Send(OK), Do.STALL]
    ) as upstream:
        url = f"http://{upstream.authority}/"
        async with await Client.connect(proxy.port) as client:
            text = request("POST", url, content=b"x" * 1000)
            await client.send(text[:-600])
            answer = await client.answer("POST")
            assert (answer.status, answer.header("Connection")) == (413, None)
            await client.send(text[-600:] + behind)
            await taken.until(len(text + behind))
            await turns()
            # An idle connection has more time than a head.
            await swept(proxy, 20)
            await client.send(get(url))
            assert (await client.answer()).status == 200
    await proxy.report(2)


async def test_a_head_behind_content_that_an_answer_did_not_wait_for_has_its_time(
    start: Start, taken: Taken
) -> None:
    proxy = await start(timeouts=TIMES)
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with ScriptedUpstream([Expect(), Send(early), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            text = request("POST", f"http://{upstream.authority}/", content=b"x" * 1000)
            await client.send(text[:-600])
            assert (await client.answer("POST")).status == 413
            await client.send(text[-600:] + HEAD)
            await taken.until(len(text + HEAD))
            await turns()
            await swept(proxy, 15)
            assert (await client.answer()).status == 408


async def test_a_head_without_an_end_is_refused_and_no_more_of_it_is_held(start: Start, taken: Taken) -> None:
    """Each of its fields is small enough, and there are not too many."""
    max_head = 32 * 1024
    proxy = await start(limits=Limits(max_head=Bytes(max_head)))
    head = get("http://a.invalid/").removesuffix(b"\r\n")
    field = b"X: " + b"x" * (max_head - 100) + b"\r\n"
    refused_at = held = 0
    tracemalloc.start()
    async with await Client.connect(proxy.port) as client:
        await client.send(head)
        await taken.until(len(head))
        for number in range(1, 121):
            await client.send(field)
            await taken.until(len(head) + number * len(field))
            if proxy.exchanges and not refused_at:
                refused_at = len(head) + number * len(field)
                held, _ = tracemalloc.get_traced_memory()
        more, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        answer = await client.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (431, "head_too_large")
        assert await client.rest() == b""
    assert 2 * max_head < refused_at <= 2 * max_head + len(field)
    assert more - held < len(field)
    assert str((await proxy.report()).outcome) == "neutral"
