"""WebSockets between a real client and a real server, on all ways: tunnels, interception, forward, route."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest
from support import certificates
from support.process import CLOSED, RunningProxy, free_port, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

# Whatever hangs shall not do so for long.
pytestmark = pytest.mark.timeout(20)

# Inside of a tunnel the proxy sees plain HTTP, and TLS only where it intercepts.
ENTRIES = ("tunnel", "tls-tunnel", "intercepted", "forward", "reverse")
MESSAGE = random.Random(0).randbytes(16 * 1024 * 1024)  # noqa: S311 -- no secret
CLOSES = [
    (1000, "done"),
    (1001, "going away"),
    (1011, "ein Fehler: \N{LATIN SMALL LETTER O WITH DIAERESIS}"),
    (4000, ""),
]
# What a side is told that hears no closing frame (RFC 6455 section 7.1.5).
ABNORMAL = 1006


class AbsoluteForm(ClientConnection):
    """Asks a proxy as RFC 9112 section 3.2.2 has it; the library by itself knows only CONNECT."""

    def __init__(self, protocol: ClientProtocol, **settings: Any) -> None:
        uri = protocol.uri
        protocol.uri = replace(uri, path=f"http://{uri.host}:{uri.port}{uri.path}")
        super().__init__(protocol, **settings)


class Server:
    """Does what the path says, and keeps what its connections have seen.

    Attributes:
        port: on loopback.
        requests: that have arrived.
        closed: how each connection has ended: its code and its reason.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[Request] = []
        self.closed: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if urlsplit(request.path).path != "/refuse":
            return None
        refusal = connection.respond(HTTPStatus.UNAUTHORIZED, "who are you?\n")
        refusal.headers["WWW-Authenticate"] = 'Basic realm="hooks"'
        return refusal

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        with suppress(ConnectionClosed):
            await self._talk(connection, urlsplit(connection.request.path))
        await connection.wait_closed()
        self.closed.put_nowait((connection.close_code, connection.close_reason))

    async def _talk(self, connection: ServerConnection, asked: SplitResult) -> None:
        match asked.path:
            case "/echo":
                async for message in connection:
                    await connection.send(message)
            case "/ping":
                await (await connection.ping(b"are you there?"))
                await connection.send("it is")
            case "/close":
                query = parse_qs(asked.query, keep_blank_values=True)
                await connection.close(int(query["code"][0]), query["reason"][0])
            case "/die":
                await connection.recv()
                connection.transport.abort()


@dataclass
class Line:
    """A server behind a proxy, and one of the ways there."""

    proxy: RunningProxy
    server: Server
    entry: str
    reverse_port: int
    trusting: ssl.SSLContext | None

    def open(self, path: str, **options: Any) -> connect:
        """A connection of the client's, to be entered."""
        url = f"{'ws' if self.trusting is None else 'wss'}://127.0.0.1:{self.server.port}{path}"
        match self.entry:
            case "tunnel" | "tls-tunnel" | "intercepted":
                return connect(url, proxy=self.proxy.url, ssl=self.trusting, **options)
            case "forward":
                there: dict[str, Any] = {"host": "127.0.0.1", "port": self.proxy.proxy_port}
                return connect(url, proxy=None, create_connection=AbsoluteForm, **there, **options)
            case _:
                return connect(f"ws://127.0.0.1:{self.reverse_port}{path}", proxy=None, **options)

    def nothing_is_left(self) -> None:
        """Asserts that the proxy has let go of all connections, and took none of their ends for a failure."""
        until(lambda: self.proxy.metric("in_flight") == 0, "an exchange does not end")
        assert self.proxy.metric("tunnels") == 0
        circuit = f"127.0.0.1:{self.server.port}"
        assert self.proxy.state(circuit) in {None, CLOSED}
        assert self.proxy.metric("calls_total", outcome="failure") == 0


@dataclass(frozen=True)
class Places:
    """Where servers and the listener with a route are, and whom to trust.

    Attributes:
        plain, tunnelled, intercepted: ports of servers; the latter two speak TLS.
        reverse: the port of the listener.
        bundle: of the proxy's.
    """

    plain: int
    tunnelled: int
    intercepted: int
    reverse: int
    bundle: Path


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("certificates")
    ports = (free_port(), free_port(), free_port(), free_port())
    return Places(*ports, folder / "shared" / "ca-bundle.crt")


@pytest.fixture(scope="module")
def proxy(places: Places) -> Iterator[RunningProxy]:
    loopback = "127.0.0.1:0"
    listen = {"proxy": loopback, "admin": loopback, "reverse": f"127.0.0.1:{places.reverse}"}
    tls = {"ca": certificates.authority_path()}
    with RunningProxy(
        listen=listen,
        routes=[{"upstream": f"http://127.0.0.1:{places.plain}"}],
        upstreams=[{"match": f"127.0.0.1:{places.intercepted}", "https": "intercept", "tls": tls}],
        intercept={"ephemeral": True, "directory": str(places.bundle.parent)},
    ) as running:
        yield running


@pytest.fixture(params=ENTRIES)
async def line(request: pytest.FixtureRequest, proxy: RunningProxy, places: Places) -> AsyncIterator[Line]:
    port, trusted = {
        "tls-tunnel": (places.tunnelled, Path(certificates.authority_path())),
        "intercepted": (places.intercepted, places.bundle),
    }.get(request.param, (places.plain, None))
    server = Server(port)
    async with serve(
        server.handle,
        "127.0.0.1",
        port,
        process_request=server.answer,
        max_size=None,
        ssl=None if trusted is None else certificates.server("127.0.0.1"),
    ):
        trusting = None if trusted is None else ssl.create_default_context(cafile=trusted)
        line = Line(proxy, server, request.param, places.reverse, trusting)
        yield line
        # In a thread: the server, which may have yet to close, is on this loop.
        await asyncio.to_thread(line.nothing_is_left)


async def test_large_messages_go_both_ways_at_once(line: Line) -> None:
    async with line.open("/echo?all", compression=None, max_size=None) as client:
        # The second is on its way up while the first comes down.
        async with asyncio.TaskGroup() as both:
            both.create_task(_send_all(client, [MESSAGE, MESSAGE[::-1]]))
            received = both.create_task(_receive(client, 2))
        assert received.result() == [MESSAGE, MESSAGE[::-1]]
    (request,) = line.server.requests
    assert request.path == "/echo?all"
    assert request.headers["Host"] == f"127.0.0.1:{line.server.port}"
    assert ("Via" in request.headers) == (line.entry != "tls-tunnel"), "it took the way that it should"


async def _send_all(client: ClientConnection, messages: list[bytes]) -> None:
    for message in messages:
        await client.send(message)


async def _receive(client: ClientConnection, count: int) -> list[str | bytes]:
    return [await client.recv() for _ in range(count)]


async def test_what_both_have_agreed_on_arrives(line: Line) -> None:
    async with line.open("/close?code=1000&reason=", subprotocols=[Subprotocol("hooks")]) as client:
        # The server knows none; deflating it does.
        assert client.subprotocol is None
        assert client.response is not None
        assert client.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
    (request,) = line.server.requests
    assert request.headers["Sec-WebSocket-Protocol"] == "hooks"
    assert request.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")


async def test_messages_in_fragments_and_deflated(line: Line) -> None:
    async with line.open("/echo", max_size=None) as client:
        await client.send(["a", "\N{SNOWMAN}" * 100_000, "", "b"])
        assert await client.recv() == "a" + "\N{SNOWMAN}" * 100_000 + "b"
        await client.send(b"")
        assert await client.recv() == b""


async def test_pings_are_answered_from_both_sides(line: Line) -> None:
    async with line.open("/ping") as client:
        # The server says so when it has heard the answer to its own.
        assert await client.recv() == "it is"
        assert await (await client.ping(b"and you?")) >= 0


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_a_close_of_the_client_is_kept(line: Line, code: int, reason: str) -> None:
    async with line.open("/echo") as client:
        await client.close(code, reason)
        assert await line.server.closed.get() == (code, reason)
        assert (client.close_code, client.close_reason) == (code, reason)


@pytest.mark.parametrize(("code", "reason"), CLOSES)
async def test_a_close_of_the_server_is_kept(line: Line, code: int, reason: str) -> None:
    async with line.open(f"/close?code={code}&reason={reason.replace(' ', '+')}") as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (code, reason)
        assert await line.server.closed.get() == (code, reason)


async def test_a_server_that_dies_is_an_abnormal_end(line: Line) -> None:
    async with line.open("/die") as client:
        await client.send("die")
        with pytest.raises(ConnectionClosedError) as ended:
            await client.recv()
        assert (ended.value.rcvd, client.close_code) == (None, ABNORMAL)


async def test_a_client_that_dies_is_an_abnormal_end(line: Line) -> None:
    async with line.open("/echo") as client:
        await client.send("here")
        assert await client.recv() == "here"
        client.transport.abort()
        assert await line.server.closed.get() == (ABNORMAL, "")


async def test_a_refusal_to_upgrade_is_the_answer(line: Line) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await line.open("/refuse")
    answer = refused.value.response
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="hooks"'
    assert answer.body == b"who are you?\n"
