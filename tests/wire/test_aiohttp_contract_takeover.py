"""What aiohttp does when a connection stops speaking HTTP (CONNECT, Upgrade, TLS); upgrades fail here first.

Each test names one fact on which tunnels rest, or will.
"""

import asyncio
import ssl

import pytest
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import BadHttpMethod
from support.bare import OK, REFUSED, Bare, Held, Written, answered, listening
from support.client import Client
from support.turns import turns, until

pytestmark = pytest.mark.usefixtures("start")

HOST = b"Host: a\r\n"
CONNECT = b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n"
GET = b"GET /inside HTTP/1.1\r\n" + HOST + b"\r\n"
ESTABLISHED = b"HTTP/1.1 200 OK\r\n\r\n"


def upgrade(to: bytes, fields: bytes = b"") -> bytes:
    return (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: " + to + b"\r\n" + fields + b"\r\n"
    )


class Sink:
    """Takes over a connection; has the two methods that aiohttp calls and no other."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def feed_data(self, received: bytes) -> tuple[bool, bytes]:
        self.told.append(received)
        return received == b"enough", b""

    def feed_eof(self) -> None:
        self.told.append("eof")


class TakesOver:
    """A handler that waits to be told, then sets a sink and stays until it is told to return."""

    def __init__(self, answer: bytes = ESTABLISHED) -> None:
        self.answer = answer
        self.sink = Sink()
        self.requests: list[web.BaseRequest] = []
        self.told_at_once: list[bytes | str] | None = None
        self.go = asyncio.Event()
        self.done = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        await self.go.wait()
        assert request.transport is not None
        request.transport.write(self.answer)
        request.protocol.set_parser(self.sink)  # type: ignore[arg-type]
        self.told_at_once = list(self.sink.told)
        await self.done.wait()
        return Written(keep_alive=False)


@pytest.mark.parametrize("text", [CONNECT, upgrade(b"websocket"), upgrade(b"WebSocket")])
async def test_set_parser_hands_over_what_has_come_behind_and_then_each_piece_as_it_comes(
    text: bytes,
) -> None:
    line = TakesOver()
    async with listening(Bare(line.handle)) as port, await Client.connect(port) as client:
        await client.send(text + GET)
        await until(lambda: line.requests)
        await client.send(b"\x16\x03raw")
        await turns()
        line.go.set()
        await client.reader.readexactly(len(ESTABLISHED))
        # All at once, in the call itself.
        assert line.told_at_once == [GET + b"\x16\x03raw"]
        await client.send(b"more")
        await until(lambda: line.sink.told[-1] == b"more")
        line.done.set()
        assert await client.rest() == b""
    await until(lambda: line.sink.told == [GET + b"\x16\x03raw", b"more", "eof"])
    assert len(line.requests) == 1


async def test_a_sink_that_nothing_has_come_for_is_not_called() -> None:
    line = TakesOver()
    line.go.set()
    async with listening(Bare(line.handle)) as port, await Client.connect(port) as client:
        await client.send(CONNECT)
        await client.reader.readexactly(len(ESTABLISHED))
        assert line.told_at_once == []


async def test_a_sink_hears_of_a_lost_client_and_the_handler_is_cancelled() -> None:
    line = TakesOver()
    line.go.set()
    async with listening(Bare(line.handle)) as port, await Client.connect(port) as client:
        await client.send(CONNECT)
        await client.reader.readexactly(len(ESTABLISHED))
        client.close()
        await until(lambda: line.sink.told == ["eof"])
        assert line.requests[0].transport is None


async def test_a_sink_that_says_enough_is_called_no_more() -> None:
    line = TakesOver()
    line.go.set()
    async with listening(Bare(line.handle)) as port, await Client.connect(port) as client:
        await client.send(CONNECT)
        await client.reader.readexactly(len(ESTABLISHED))
        await client.send(b"enough")
        await until(lambda: line.sink.told)
        await client.send(b"more")
        await turns()
        assert line.sink.told == [b"enough"]
        line.done.set()
        assert await client.rest() == b""


async def test_what_comes_behind_connect_is_held_up_to_read_bufsize_and_set_parser_reads_on() -> None:
    line = TakesOver()
    plenty = bytes(4 * 1024 * 1024)
    server = Bare(line.handle, read_bufsize=4096)
    async with listening(server) as port, await Client.connect(port) as client:
        client.writer.write(CONNECT + plenty)
        await until(lambda: line.requests)
        transport = line.requests[0].transport
        assert transport is not None
        await until(lambda: not transport.is_reading())
        line.go.set()
        await client.reader.readexactly(len(ESTABLISHED))
        assert line.told_at_once is not None
        # One read of the event loop can hold 256 KiB.
        assert len(line.told_at_once[0]) < 512 * 1024
        await until(lambda: sum(map(len, line.sink.told)) == len(plenty))
        assert transport.is_reading()


async def test_set_parser_reads_on_even_if_the_sink_has_just_paused_the_transport() -> None:
    # Who pauses in feed_data must pause again behind set_parser, if aiohttp had paused before.
    line = TakesOver()
    paused: list[bool] = []

    class Pauses(Sink):
        def feed_data(self, received: bytes) -> tuple[bool, bytes]:
            transport = line.requests[0].transport
            assert transport is not None
            transport.pause_reading()
            paused.append(transport.is_reading())
            return super().feed_data(received)

    line.sink = Pauses()
    server = Bare(line.handle, read_bufsize=4096)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(CONNECT + bytes(8192))
        await until(lambda: line.requests)
        transport = line.requests[0].transport
        assert transport is not None
        # What comes in one piece with the CONNECT is not enough, however much it is.
        await turns()
        assert transport.is_reading()
        await client.send(b"more")
        await until(lambda: not transport.is_reading())
        line.go.set()
        await client.reader.readexactly(len(ESTABLISHED))
        assert paused[0] is False
        await until(transport.is_reading)


async def test_returning_from_a_connect_as_usual_executes_what_comes_behind_it() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(CONNECT + GET)
        assert await client.reader.readexactly(2 * len(OK)) == OK + OK
    assert [request.raw_path for request in server.seen] == ["a:1", "/inside"]


async def test_returning_from_a_connect_as_usual_writes_400_into_the_tunnel() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(CONNECT + b"\x16\x03\x01 raw")
        assert await client.rest() == OK + REFUSED
    assert isinstance(server.faults[0][1], BadHttpMethod)


async def test_a_connect_whose_answer_does_not_keep_executes_nothing_behind_it() -> None:
    for behind in (GET, b"\x16\x03\x01 raw"):
        held = Held(keep_alive=False)
        server = Bare(held.handle)
        async with listening(server) as port, await Client.connect(port) as client:
            await client.send(CONNECT + behind)
            await until(lambda held=held: held.requests)  # type: ignore[misc]
            await client.send(GET)
            await turns()
            held.go.set()
            assert await client.rest() == OK
        assert len(held.requests) == 1
        assert server.faults == []


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 3\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"],
    ids=["length", "chunked"],
)
async def test_the_content_that_a_connect_announces_is_taken_for_what_comes_behind_it(framing: bytes) -> None:
    line = TakesOver()
    line.go.set()
    async with listening(Bare(line.handle)) as port, await Client.connect(port) as client:
        await client.send(CONNECT[:-2] + framing + b"3\r\n")
        await until(lambda: line.sink.told)
        assert line.sink.told == [b"3\r\n"]


async def test_a_websocket_upgrade_that_is_not_made_executes_what_comes_behind_it() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(upgrade(b"websocket") + GET)
        assert await client.reader.readexactly(2 * len(OK)) == OK + OK
    assert [request.raw_path for request in server.seen] == ["/", "/inside"]


async def test_what_comes_behind_a_websocket_upgrade_waits_for_its_answer() -> None:
    held = Held(keep_alive=False)
    server = Bare(held.handle)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(upgrade(b"websocket") + b"garbage\r\n\r\n")
        await until(lambda: held.requests)
        held.go.set()
        assert await client.rest() == OK
    assert server.faults == []


async def test_a_websocket_upgrade_with_content_gets_its_content_first() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(upgrade(b"websocket", b"Content-Length: 2\r\n") + b"ok" + GET)
        assert await client.reader.readexactly(2 * len(OK)) == OK + OK
    assert server.contents == [b"ok", b""]


@pytest.mark.parametrize("to", [b"h2c", b"h2c, websocket", b"TLS/1.0", b"\xff"])
async def test_what_comes_in_one_piece_behind_another_upgrade_is_lost(to: bytes) -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(upgrade(to) + GET.replace(b"inside", b"lost"))
        assert (await client.answer()).status == 200
        await client.send(GET)
        assert (await client.answer()).status == 200
    assert [request.raw_path for request in server.seen] == ["/", "/inside"]


async def test_an_upgrade_that_connection_does_not_name_is_none() -> None:
    server = Bare()
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(upgrade(b"h2c").replace(b"Connection: upgrade\r\n", b"") + GET)
        assert await client.reader.readexactly(2 * len(OK)) == OK + OK


def anonymous(side: int) -> ssl.SSLContext:
    """TLS without certificates, which the standard library cannot make."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


class Intercepts:
    """A handler that answers CONNECT with 200 and speaks TLS from then on, on a connection within."""

    def __init__(self) -> None:
        self.server = Bare(self.handle)
        self.go = asyncio.Event()
        self.outer: web.RequestHandler | None = None
        self.inner: web.RequestHandler | None = None
        self.fault: OSError | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "CONNECT":
            return answered(request)
        self.outer = request.protocol
        await self.go.wait()
        transport = request.transport
        assert transport is not None
        transport.write(ESTABLISHED)
        inner = self.server()
        try:
            secure = await asyncio.get_running_loop().start_tls(
                transport,
                inner,
                anonymous(ssl.PROTOCOL_TLS_SERVER),
                server_side=True,
                ssl_handshake_timeout=0.5,
            )
        except OSError as error:
            self.fault = error
            return Written(keep_alive=False)
        assert secure is not None
        inner.connection_made(secure)
        self.inner = inner
        await asyncio.Event().wait()
        raise AssertionError


async def test_start_tls_leaves_the_outer_connection_in_the_server_until_it_is_told_of_the_loss() -> None:
    line = Intercepts()
    line.go.set()
    async with listening(line.server) as port, await Client.connect(port) as client:
        await client.send(CONNECT)
        await client.reader.readexactly(len(ESTABLISHED))
        await client.writer.start_tls(anonymous(ssl.PROTOCOL_TLS_CLIENT))
        await client.send(GET)
        assert (await client.answer()).status == 200
        assert line.outer is not None
        assert set(line.server.connections) == {line.outer, line.inner}
        client.close()
        await until(lambda: line.server.connections == [line.outer])
        await turns()
        assert line.server.connections == [line.outer]
        line.outer.connection_lost(None)
        await until(lambda: not line.server.connections)


async def test_a_client_hello_that_came_with_the_connect_hangs_start_tls() -> None:
    # aiohttp holds it back, where only set_parser would find it; the handshake waits for it in vain.
    line = Intercepts()
    async with listening(line.server) as port, await Client.connect(port) as client:
        inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = anonymous(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(inward, outward)
        with pytest.raises(ssl.SSLWantReadError):
            secure.do_handshake()
        await client.send(CONNECT + outward.read())
        await until(lambda: line.outer)
        line.go.set()
        await client.reader.readexactly(len(ESTABLISHED))
        assert await client.rest() == b"", "nothing of a handshake came back"
        await until(lambda: line.fault)
        assert "handshake" in str(line.fault)


async def test_the_answer_is_prepared_in_the_turn_in_which_the_handler_returns() -> None:
    """So that nothing comes from the client in between, which nobody would keep."""
    turned = asyncio.Event()
    seen: list[bool] = []

    class Prepared(Written):
        async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
            seen.append(turned.is_set())
            return await super().prepare(request)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(OK)
        asyncio.get_running_loop().call_soon(turned.set)
        return Prepared(keep_alive=False)

    async with listening(Bare(handle)) as port, await Client.connect(port) as client:
        await client.send(CONNECT)
        assert await client.rest() == OK
    assert seen == [False]
    assert turned.is_set()
