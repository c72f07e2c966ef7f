"""What the line returns to aiohttp: an answer that has been written already, and when its connection ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.client import Client
from support.turns import turns, until
from support.upstream import OK

from proxy.wire.written import CLOSE, KEEP, LINGER, Written

# Nothing is left over afterwards.
pytestmark = pytest.mark.usefixtures("start")

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Lingering(web.RequestHandler):
    """A connection that ends when the test says so."""

    asked = 0

    def linger(self) -> asyncio.Future[None]:
        self.asked += 1
        self.may_end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return self.may_end


class Server(web.Server):
    """Answers every request with OK, and returns what the test has it return."""

    def __init__(self, returned: web.StreamResponse) -> None:
        super().__init__(self.handle)
        self.returned = returned
        self.made: list[Lingering] = []

    def __call__(self) -> web.RequestHandler:
        connection = Lingering(self, loop=asyncio.get_running_loop())
        self.made.append(connection)
        return connection

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(OK)
        return self.returned

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.get_running_loop().create_server(self, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        await self.shutdown(1)


async def test_a_kept_connection_gets_answer_behind_answer_and_nothing_else() -> None:
    server = Server(KEEP)
    async with server.listening() as port, await Client.connect(port) as client:
        for _ in range(3):
            await client.send(REQUEST)
            assert await client.reader.readexactly(len(OK)) == OK
        await turns()
        server.returned = CLOSE
        await client.send(REQUEST)
        # Had anything been written between them, it would come first.
        assert await client.rest() == OK
    assert server.made[0].asked == 0


async def test_a_closed_connection_gets_nothing_behind_its_answer() -> None:
    server = Server(CLOSE)
    async with server.listening() as port, await Client.connect(port) as client:
        await client.send(REQUEST * 2)
        assert await client.rest() == OK
    assert server.made[0].asked == 0


async def test_a_lingering_connection_ends_when_its_client_has_had_the_time() -> None:
    server = Server(LINGER)
    async with server.listening() as port, await Client.connect(port) as client:
        await client.send(REQUEST * 2)
        assert await client.reader.readexactly(len(OK)) == OK
        (connection,) = server.made
        await until(lambda: connection.asked)
        await turns()
        assert connection.transport is not None
        assert not connection.transport.is_closing()
        connection.may_end.set_result(None)
        assert await client.rest() == b""
    assert connection.asked == 1


@pytest.mark.parametrize("kept", [True, False])
async def test_what_is_kept(*, kept: bool) -> None:
    assert Written(keep_alive=kept).keep_alive is kept
    assert (KEEP.keep_alive, CLOSE.keep_alive, LINGER.keep_alive) == (True, False, False)
