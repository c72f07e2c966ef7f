"""How aiohttp's connections live and end, where the listener rests on it; an upgrade fails here first.

Each test names one fact.
"""

import asyncio
import math
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from support.bare import OK, REFUSED, Bare, HalfOpen, Held, Written, answered, listening
from support.client import Client
from support.turns import turns, until

pytestmark = pytest.mark.usefixtures("start")

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def leave(client: Client, by: str) -> None:
    if by == "close":
        client.close()
    elif by == "half-close":
        client.writer.write_eof()
    else:
        client.writer.transport.abort()


WAYS = pytest.mark.parametrize("by", ["close", "half-close", "reset"])


async def test_of_an_answer_aiohttp_calls_prepare_then_write_eof_then_asks_whether_to_keep() -> None:
    answer = Written()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answered(request)
        return answer

    async with listening(Bare(handle)) as port, await Client.connect(port) as client:
        await client.send(GET)
        assert await client.reader.readexactly(len(OK)) == OK
        await until(lambda: len(answer.asked) == 3)
        assert answer.asked == ["prepare", "write_eof(b'')", "keep_alive"]
        # The same answer serves another request: aiohttp keeps nothing of an exchange in it.
        await client.send(GET)
        assert await client.reader.readexactly(len(OK)) == OK
        answer.kept = False
        await client.send(GET)
        assert await client.rest() == OK


async def test_an_answer_that_does_not_keep_closes_only_when_all_is_written() -> None:
    content = bytes(8 * 1024 * 1024)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(content)
        return Written(keep_alive=False)

    async with listening(Bare(handle)) as port, await Client.connect(port) as client:
        await client.send(GET)
        assert await client.rest() == content


@WAYS
async def test_a_client_that_leaves_cancels_the_handler_with_handler_cancellation(by: str) -> None:
    line = Held()
    server = Bare(line.handle, handler_cancellation=True)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: line.requests)
        leave(client, by)
        await until(lambda: line.ended)
        assert line.cancelled
        assert line.requests[0].transport is None
        await until(lambda: not server.connections)


@WAYS
async def test_without_handler_cancellation_a_client_that_leaves_goes_unnoticed(by: str) -> None:
    line = Held()
    server = Bare(line.handle, handler_cancellation=False)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: line.requests)
        leave(client, by)
        await until(lambda: line.requests[0].transport is None)
        await turns()
        assert not line.ended
        line.go.set()
        await until(lambda: line.ended)
        assert not line.cancelled


async def test_a_lost_client_makes_its_unread_content_raise_an_os_error() -> None:
    line = Held()
    server = Bare(line.handle, handler_cancellation=False)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab")
        await until(lambda: line.requests)
        client.close()
        content = line.requests[0].content
        await until(lambda: content.exception() is not None)
        assert isinstance(content.exception(), OSError)
        with pytest.raises(OSError, match="lost"):
            await content.readany()
        with pytest.raises(OSError, match="lost"):
            content.read_nowait(-1)
        line.go.set()
        await until(lambda: line.ended)


async def test_a_fin_closes_the_connection_unless_eof_received_says_otherwise() -> None:
    line = Held()
    server = Bare(line.handle, connection=HalfOpen)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: line.requests)
        client.writer.write_eof()
        await turns()
        assert not line.ended
        line.go.set()
        assert (await client.answer()).status == 200


async def test_a_fault_of_the_handler_comes_to_handle_error_as_500_with_its_exception() -> None:
    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        raise ValueError

    server = Bare(handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        assert await client.rest() == REFUSED
    [(status, fault, request, _)] = server.faults
    assert (status, type(fault), request.method) == (500, ValueError, "GET")


async def test_a_timeout_of_the_handler_comes_to_handle_error_as_504_without_an_exception() -> None:
    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        raise TimeoutError

    server = Bare(handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        assert await client.rest() == REFUSED
    assert [fault[:2] for fault in server.faults] == [(504, None)]


async def test_a_connection_error_of_the_handler_is_taken_for_a_fault_of_its_own() -> None:
    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        raise ConnectionResetError

    server = Bare(handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        assert await client.rest() == REFUSED
    assert [type(fault[1]) for fault in server.faults] == [ConnectionResetError]


async def test_handle_error_echoes_bytes_of_the_request_unless_replaced() -> None:
    def unchanged(server: Bare, **settings: object) -> web.RequestHandler:
        return web.RequestHandler(server, **settings)  # type: ignore[arg-type]

    async with listening(Bare(connection=unchanged)) as port, await Client.connect(port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nsecret\r\n\r\n")
        answer = await client.answer()
        assert answer.status == 400
        assert b"secret" in answer.content


@pytest.mark.parametrize("before", [0, 1], ids=["never spoke", "after an exchange"])
async def test_keepalive_timeout_closes_an_idle_connection(before: int) -> None:
    async with listening(Bare(keepalive_timeout=0.05)) as port, await Client.connect(port) as client:
        await client.send(GET * before)
        assert await client.rest() == OK * before


async def test_keepalive_timeout_closes_a_connection_in_the_middle_of_a_head() -> None:
    async with listening(Bare(keepalive_timeout=0.05)) as port, await Client.connect(port) as client:
        await client.send(GET[:-2])
        assert await client.rest() == b""


@pytest.mark.parametrize("part", [GET, GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\no")])
async def test_keepalive_timeout_leaves_an_exchange_alone(part: bytes) -> None:
    line = Held()
    async with listening(Bare(line.handle, keepalive_timeout=0.05)) as port:
        async with await Client.connect(port) as client, await Client.connect(port) as idle:
            await client.send(part)
            await until(lambda: line.requests)
            assert await idle.rest() == b""
            # One that is younger has ended meanwhile.
            async with await Client.connect(port) as younger:
                assert await younger.rest() == b""
            assert not line.ended
            line.go.set()
            assert (await client.answer()).status == 200


@pytest.mark.parametrize("timeout_s", [math.inf, 1e9])
async def test_keepalive_timeout_can_be_set_out_of_reach(timeout_s: float) -> None:
    async with listening(Bare(keepalive_timeout=timeout_s)) as port, await Client.connect(port) as client:
        for _ in range(2):
            await client.send(GET)
            assert (await client.answer()).status == 200


async def test_pre_shutdown_makes_a_busy_connection_close_behind_its_answer_and_discard_its_input() -> None:
    line = Held()
    server = Bare(line.handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: line.requests)
        server.pre_shutdown()
        await client.send(GET)
        await turns()
        line.go.set()
        assert await client.rest() == OK
    assert len(line.requests) == 1


async def test_pre_shutdown_leaves_an_idle_connection_open_and_deaf() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        assert (await client.answer()).status == 200
        server.pre_shutdown()
        await client.send(GET)
        await turns()
        [connection] = server.connections
        assert connection.transport is not None
        assert not connection.transport.is_closing()
        assert len(server.seen) == 1


async def test_closing_the_transport_ends_an_idle_connection_in_order() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await until(lambda: server.connections)
        transport = server.connections[0].transport
        assert transport is not None
        transport.close()
        assert await client.rest() == b""
        await until(lambda: not server.connections)


async def test_shutdown_waits_for_an_exchange_and_lets_it_answer() -> None:
    line = Held()
    server = Bare(line.handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: line.requests)
        stopping = asyncio.ensure_future(server.shutdown(60))
        await turns()
        assert not stopping.done()
        line.go.set()
        await stopping
        assert await client.rest() == OK
        assert server.connections == []


async def test_shutdown_cancels_an_exchange_that_takes_too_long() -> None:
    line = Held()
    server = Bare(line.handle, handler_cancellation=False)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: line.requests)
        await server.shutdown(0.05)
        assert await client.rest() == b""
        await until(lambda: line.cancelled)
        assert server.connections == []


async def test_writing_paused_and_drain_follow_the_transport() -> None:
    seen: list[bool] = []
    content = bytes(16 * 1024 * 1024)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        seen.append(request.protocol.writing_paused)
        request.transport.write(content)
        seen.append(request.protocol.writing_paused)
        await request.writer.drain()
        seen.append(request.protocol.writing_paused)
        return Written(keep_alive=False)

    async with listening(Bare(handle)) as port, await Client.connect(port) as client:
        await client.send(GET)
        await until(lambda: len(seen) == 2)
        await turns()
        assert seen == [False, True]
        assert await client.rest() == content
    assert seen == [False, True, False]


async def on_transport(act: Callable[[asyncio.Transport], Awaitable[None]]) -> bytes:
    """What the client receives if the handler does this with its transport."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        await act(request.transport)
        return Written(keep_alive=False)

    async with listening(Bare(handle)) as port, await Client.connect(port) as client:
        await client.send(GET)
        return await client.rest()


async def test_reading_can_be_paused_twice_and_resumed_twice() -> None:
    async def act(transport: asyncio.Transport) -> None:
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.write(OK)

    assert await on_transport(act) == OK


async def test_the_socket_of_a_transport_takes_options_and_no_lingering_makes_abort_a_reset() -> None:
    async def act(transport: asyncio.Transport) -> None:
        raw = transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    with pytest.raises(ConnectionResetError):
        await on_transport(act)


async def test_abort_without_that_option_is_an_orderly_end() -> None:
    async def act(transport: asyncio.Transport) -> None:
        transport.abort()

    assert await on_transport(act) == b""
