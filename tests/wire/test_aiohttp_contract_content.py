"""What aiohttp does with the content of requests and with what comes behind it; an upgrade fails here first.

Each test names one fact on which the listener, the line or the forwarding rests.
"""

import asyncio

import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod
from support.bare import OK, REFUSED, Bare, Held, answered, listening
from support.client import Client
from support.turns import turns, until

pytestmark = pytest.mark.usefixtures("start")

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
READ_BUFFER = 4096


def post(length: int) -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length


async def test_content_that_came_with_the_head_is_there_when_the_handler_starts() -> None:
    found = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        content = request.content
        found.append((content.read_nowait(-1), content.at_eof(), content.total_bytes))
        return answered(request)

    async with listening(Bare(handle)) as port, await Client.connect(port) as client:
        for text in (post(5) + b"hello", CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"):
            await client.send(text)
            assert (await client.answer("POST")).status == 200
    assert found == [(b"hello", True, 5)] * 2


async def test_a_request_without_content_has_one_that_is_at_its_end_and_can_be_read_all_the_same() -> None:
    held = Held()
    async with listening(Bare(held.handle)) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: held.requests)
        content = held.requests[0].content
        assert (content.at_eof(), content.is_eof(), content.exception()) == (True, True, None)
        assert (content.read_nowait(-1), await content.readany(), content.total_bytes) == (b"", b"", 0)
        held.go.set()
        assert (await client.answer()).status == 200


async def test_at_eof_says_that_all_was_read_and_is_eof_only_that_all_has_arrived() -> None:
    held = Held()
    async with listening(Bare(held.handle)) as port, await Client.connect(port) as client:
        await client.send(post(4) + b"ab")
        await until(lambda: held.requests)
        content = held.requests[0].content
        assert (content.read_nowait(-1), content.read_nowait(-1)) == (b"ab", b"")
        assert (content.is_eof(), content.at_eof()) == (False, False)
        await client.send(b"cd")
        await until(content.is_eof)
        assert not content.at_eof()
        assert content.read_nowait(-1) == b"cd"
        assert content.at_eof()
        held.go.set()
        assert (await client.answer("POST")).status == 200


async def test_the_end_of_chunks_may_come_after_all_content_was_read() -> None:
    held = Held()
    async with listening(Bare(held.handle)) as port, await Client.connect(port) as client:
        await client.send(CHUNKED + b"2\r\nab\r\n")
        await until(lambda: held.requests and held.requests[0].content.total_bytes)
        content = held.requests[0].content
        assert content.read_nowait(-1) == b"ab"
        reading = asyncio.ensure_future(content.readany())
        await turns()
        assert not reading.done()
        assert not content.at_eof()
        await client.send(b"0\r\n\r\n")
        assert await reading == b""
        assert content.at_eof()
        held.go.set()
        assert (await client.answer("POST")).status == 200


async def test_two_readers_of_one_content_are_refused() -> None:
    held = Held()
    async with listening(Bare(held.handle)) as port, await Client.connect(port) as client:
        await client.send(post(1))
        await until(lambda: held.requests)
        reading = asyncio.ensure_future(held.requests[0].content.readany())
        await turns()
        with pytest.raises(RuntimeError):
            held.requests[0].content.read_nowait(-1)
        await client.send(b"a")
        assert await reading == b"a"
        held.go.set()
        assert (await client.answer("POST")).status == 200


async def test_total_bytes_counts_content_as_it_arrives_and_not_the_framing_of_chunks() -> None:
    held = Held()
    async with listening(Bare(held.handle)) as port, await Client.connect(port) as client:
        await client.send(CHUNKED + b"2;extension=1\r\nab\r\n3\r\nc")
        await until(lambda: held.requests and held.requests[0].content.total_bytes == 3)
        held.requests[0].content.read_nowait(-1)
        assert held.requests[0].content.total_bytes == 3
        await client.send(b"de\r\n0\r\n\r\n")
        await until(held.requests[0].content.is_eof)
        assert held.requests[0].content.total_bytes == 5
        held.go.set()
        assert (await client.answer("POST")).status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_content_beyond_twice_read_bufsize_stops_the_reading_until_it_is_read(framing: str) -> None:
    held = Held()
    content = bytes(4 * 1024 * 1024)
    text = post(len(content)) if framing == "length" else CHUNKED + b"%x\r\n" % len(content)
    server = Bare(held.handle, read_bufsize=READ_BUFFER)
    async with listening(server) as port, await Client.connect(port) as client:
        client.writer.write(text + content + (b"" if framing == "length" else b"\r\n0\r\n\r\n"))
        await until(lambda: held.requests)
        request = held.requests[0]
        assert request.transport is not None
        await until(lambda: request.content.total_bytes > 2 * READ_BUFFER)
        await until(lambda: request.transport is not None and not request.transport.is_reading())
        # One read of the event loop can hold 256 KiB.
        assert request.content.total_bytes < 2 * READ_BUFFER + 512 * 1024
        received = 0
        while piece := await request.content.readany():
            received += len(piece)
        assert received == len(content)
        held.go.set()
        assert (await client.answer("POST")).status == 200


async def test_content_is_not_decoded_if_auto_decompress_is_off() -> None:
    server = Bare(auto_decompress=False)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(post(5).replace(HOST, HOST + b"Content-Encoding: gzip\r\n") + b"plain")
        assert (await client.answer("POST")).status == 200
    assert server.contents == [b"plain"]


async def test_expect_is_not_answered_by_a_server_without_routes() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(post(2).replace(HOST, HOST + b"Expect: 100-continue\r\n"))
        await until(lambda: server.seen)
        await client.send(b"ok")
        assert (await client.answer("POST")).interim == []
    assert server.contents == [b"ok"]


async def test_a_length_of_64_bits_gets_a_request_without_content() -> None:
    held = Held()
    async with listening(Bare(held.handle)) as port, await Client.connect(port) as client:
        await client.send(post(2**64 - 1) + b"ok")
        await until(lambda: held.requests)
        assert held.requests[0].content.at_eof()
        held.go.set()
        assert (await client.answer("POST")).status == 200


async def test_request_trailers_are_hidden() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(CHUNKED + b"2\r\nok\r\n0\r\nT: 1\r\nU: 2\r\n\r\n")
        assert (await client.answer("POST")).status == 200
    assert server.contents == [b"ok"]
    assert [name for name, _ in server.seen[0].raw_headers] == [b"Host", b"Transfer-Encoding"]


@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "apart"])
async def test_the_last_request_trailer_becomes_the_first_field_of_the_next_request(*, apart: bool) -> None:
    server = Bare()
    texts = [CHUNKED + b"2\r\nok\r\n0\r\nT: 1\r\nAuthorization: me\r\n\r\n", GET]
    async with listening(server) as port, await Client.connect(port) as client:
        for text in texts if apart else [b"".join(texts)]:
            await client.send(text)
            assert (await client.answer("POST")).status == 200
        if not apart:
            assert (await client.answer()).status == 200
    assert server.seen[1].raw_headers == ((b"Authorization", b"me"), (b"Host", b"a"))


async def test_a_host_in_the_trailers_makes_the_next_request_a_bad_one() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(CHUNKED + b"0\r\nHost: b\r\n\r\n")
        assert (await client.answer("POST")).status == 200
        await client.send(GET)
        assert await client.rest() == REFUSED


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"transfer-encoding"])
async def test_a_trailer_that_frames_is_malformed(name: bytes) -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(CHUNKED + b"0\r\n" + name + b": 1\r\n\r\n")
        assert await client.rest() == REFUSED


async def test_malformed_chunks_leave_the_content_waiting_and_each_further_piece_is_a_fault() -> None:
    held = Held(keep_alive=False)
    server = Bare(held.handle, lingering_time=0)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(CHUNKED + b"2\r\nok\r\n")
        await until(lambda: held.requests and held.requests[0].content.total_bytes)
        connection, content = server.made[0], held.requests[0].content
        assert content.read_nowait(-1) == b"ok"
        reading = asyncio.ensure_future(content.readany())
        queued = connection._messages  # noqa: SLF001 -- nothing public tells what is in wait
        for pieces in (1, 2, 3):
            await client.send(b"zz\r\n")
            while len(queued) < pieces:
                await asyncio.sleep(0)
        await turns()
        assert not reading.done()
        assert content.exception() is None
        reading.cancel()
        held.go.set()
        assert await client.rest() == OK


async def test_pipelined_requests_come_in_order_one_by_one() -> None:
    held = Held()
    async with listening(Bare(held.handle)) as port, await Client.connect(port) as client:
        await client.send(b"".join(GET.replace(b"/", b"/%d" % number, 1) for number in range(20)))
        await until(lambda: held.requests)
        await turns()
        assert len(held.requests) == 1
        held.go.set()
        for _ in range(20):
            assert (await client.answer()).status == 200
    assert [request.raw_path for request in held.requests] == [f"/{number}" for number in range(20)]


async def test_at_most_32_requests_wait_parsed_and_then_the_reading_stops() -> None:
    held = Held()
    server = Bare(held.handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: held.requests)
        connection = server.made[0]
        client.writer.write(GET * 100)
        await until(lambda: connection.transport is not None and not connection.transport.is_reading())
        assert len(connection._messages) == 32  # noqa: SLF001 -- nothing public tells what is in wait
        held.go.set()
        for _ in range(101):
            assert (await client.answer()).status == 200
    assert len(held.requests) == 101


async def test_a_request_is_lost_if_garbage_comes_behind_it_in_the_same_piece() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET + b"garbage\r\n\r\n")
        assert await client.rest() == REFUSED
    assert server.seen == []
    assert isinstance(server.faults[0][1], BadHttpMethod)


async def test_garbage_that_comes_later_is_refused_only_behind_the_answer_before_it() -> None:
    held = Held()
    server = Bare(held.handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: held.requests)
        await client.send(b"garbage\r\n\r\n")
        await turns()
        assert server.faults == []
        held.go.set()
        assert await client.rest() == OK + REFUSED


async def test_a_request_that_closes_is_lost_if_anything_comes_behind_it_in_the_same_piece() -> None:
    closing = GET.replace(HOST, HOST + b"Connection: close\r\n")
    for text in (closing + GET, GET.replace(b"1.1", b"1.0") + GET):
        server = Bare()
        async with listening(server) as port, await Client.connect(port) as client:
            await client.send(text)
            assert await client.rest() == REFUSED
        assert server.seen == []
        assert isinstance(server.faults[0][1], BadHttpMessage)


async def test_what_comes_behind_a_request_that_closes_is_not_executed() -> None:
    held = Held(keep_alive=False)
    server = Bare(held.handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: held.requests)
        await client.send(GET * 2)
        await turns()
        held.go.set()
        assert await client.rest() == OK
    assert len(held.requests) == 1


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_content_that_was_not_read_is_discarded_for_lingering_time_behind_the_answer(
    *, keep_alive: bool
) -> None:
    held = Held(keep_alive=keep_alive)
    held.go.set()
    server = Bare(held.handle, lingering_time=60)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(post(10) + b"12345")
        assert (await client.answer("POST")).status == 200
        # It neither closes nor half-closes while it waits, and takes no request for one before its turn.
        await client.send(b"12345" + GET)
        if keep_alive:
            assert (await client.answer()).status == 200
        else:
            assert await client.rest() == b""
    assert len(held.requests) == 1 + keep_alive


@pytest.mark.parametrize("lingering_s", [0, 0.05])
async def test_content_that_does_not_end_within_lingering_time_closes_the_connection(
    lingering_s: float,
) -> None:
    held = Held()
    held.go.set()
    async with listening(Bare(held.handle, lingering_time=lingering_s)) as port:
        async with await Client.connect(port) as client:
            await client.send(post(10) + b"12345")
            assert await client.rest() == OK
    assert len(held.requests) == 1
