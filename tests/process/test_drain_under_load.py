"""SIGTERM under load: whoever was let in is answered, and whoever was not may ask again."""

import asyncio
import fcntl
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from pathlib import Path
from signal import SIGTERM
from time import monotonic

import pytest
from support import certificates
from support.process import PATIENCE_S, RunningProxy

HOST = "localhost"
TIMEOUT_S = 1
# The last words of those who are cut, and the end of the interpreter on a machine that does something else.
LEEWAY_S = 3
# Of each kind of client; together they keep the proxy busy.
CLIENTS = 6
# So many answers have come before the signal.
BEFORE = 400
# The pipe of the log takes all lines, however late they are read; it drops what a full one does not take.
PIPE_BYTES = 1024 * 1024

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# No HTTP and no TLS, so that a tunnel only carries it.
OPAQUE = b"\0opaque\r\n\r\n"


class Ending(Enum):
    """How a request ended for its client."""

    OK = auto()
    DRAINING = auto()
    NOTHING = auto()  # the connection ended without a byte: it may be sent again
    REFUSED = auto()  # there was no connection


class Refused(Exception):
    """Nobody listens any more: the client goes home."""


class Upstream:
    """Answers at once, or never what is asked of a path that ends in /slow; echoes what is no request.

    Attributes:
        seen: the paths that were asked of it.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.port = self.tls_port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        tls = certificates.server(HOST)
        async with (
            await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512) as plain,
            await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512, ssl=tls) as secure,
        ):
            self.port, self.tls_port = (each.sockets[0].getsockname()[1] for each in (plain, secure))
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head == OPAQUE:
                    writer.write(OPAQUE)
                    continue
                path = head.split(b" ", 2)[1].decode()
                self.seen.append(path)
                if path.endswith("/slow"):
                    await reader.read()
                    return
                await reader.readexactly(4 if head.startswith(b"POST") else 0)
                writer.write(OK)


@dataclass
class Load:
    """Clients that go on until nobody listens, and what became of each of their requests."""

    proxy: RunningProxy
    upstream: Upstream
    trusted: ssl.SSLContext
    endings: dict[str, Ending] = field(default_factory=dict)
    connects: Counter[Ending] = field(default_factory=Counter)
    echoes: Counter[bool] = field(default_factory=Counter)
    numbers: "count[int]" = field(default_factory=count)
    warm: asyncio.Event = field(default_factory=asyncio.Event)

    def path(self, kind: str) -> str:
        return f"/{next(self.numbers)}/{kind}"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to the proxy.

        Raises:
            Refused: there is none to be had.
        """
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.proxy_port)
        except ConnectionRefusedError as error:
            raise Refused from error
        except ConnectionResetError:
            # It came between the end of the listener and that of its queue.
            raise Refused from None
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(
        self, path: str, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Sends a request whole, and notes what becomes of it; returns whether another one may follow."""
        ending, keeps = await answered(request, reader, writer)
        self.endings[path] = ending
        if len(self.endings) == BEFORE:
            self.warm.set()
        return keeps

    async def kept(self) -> None:
        """One connection for as many requests as it takes."""
        while True:
            async with self.connected() as (reader, writer):
                keeps = True
                while keeps:
                    path = self.path("kept")
                    keeps = await self.ask(path, self.post(path), reader, writer)

    async def single(self) -> None:
        """A connection for each request."""
        while True:
            async with self.connected() as (reader, writer):
                path = self.path("single")
                await self.ask(path, self.post(path), reader, writer)

    async def slow(self) -> None:
        """Waits for an answer that does not come."""
        await self.warm.wait()
        while True:
            async with self.connected() as (reader, writer):
                path = self.path("slow")
                await self.ask(path, self.post(path), reader, writer)

    async def tunnelled(self) -> None:
        """A tunnel for every few words."""
        while True:
            async with self.connected() as (reader, writer):
                if await self.connect(f"127.0.0.1:{self.upstream.port}", reader, writer):
                    echoed = b""
                    with suppress(ConnectionError, asyncio.IncompleteReadError):
                        for _ in range(3):
                            writer.write(OPAQUE)
                            echoed += await reader.readexactly(len(OPAQUE))
                    self.echoes[len(echoed) == 3 * len(OPAQUE)] += 1

    async def intercepted(self) -> None:
        """Requests inside of TLS that the proxy ends, several on each connection."""
        authority = f"{HOST}:{self.upstream.tls_port}"
        while True:
            async with self.connected() as (reader, writer):
                if not await self.connect(authority, reader, writer):
                    continue
                try:
                    await writer.start_tls(self.trusted, server_hostname=HOST)
                except (ConnectionError, ssl.SSLError):
                    continue  # nothing has been asked yet
                keeps, left = True, 5
                while keeps and left:
                    path = self.path("intercepted")
                    request = f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
                    keeps = await self.ask(path, request, reader, writer)
                    left -= 1

    async def connect(
        self, authority: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        request = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
        ending, _ = await answered(request, reader, writer)
        self.connects[ending] += 1
        return ending is Ending.OK

    def post(self, path: str) -> bytes:
        authority = f"127.0.0.1:{self.upstream.port}"
        head = f"POST http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 4\r\n\r\n"
        return head.encode() + b"post"


async def answered(
    request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[Ending, bool]:
    """Sends it, and reads the whole of what comes; half an answer is a fault of the test's."""
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as ended:
        head = ended.partial
    except ConnectionError:
        head = b""
    if not head:
        return Ending.NOTHING, False
    fields = head.lower()
    if b"content-length: " in fields:
        await reader.readexactly(int(fields.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    if head.startswith(b"HTTP/1.1 200 "):
        return Ending.OK, b"connection: close" not in fields
    assert head.startswith(b"HTTP/1.1 503 "), head
    assert b"x-breaker-reason: draining\r\n" in fields
    assert b"connection: close\r\n" in fields
    return Ending.DRAINING, False


async def until_refused(client: Callable[[], Awaitable[None]]) -> None:
    with suppress(Refused):
        await client()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


async def test_under_load_everybody_who_was_let_in_is_answered(shared: Path) -> None:
    upstream = Upstream()
    async with AsyncExitStack() as resources:
        await resources.enter_async_context(upstream.serving())
        proxy = resources.enter_context(
            RunningProxy(
                drain={"quiet": "300ms", "timeout": f"{TIMEOUT_S}s"},
                log={"access": "all", "path": "full"},
                intercept={"ephemeral": True, "directory": str(shared)},
                upstreams=[
                    {"match": HOST, "https": "intercept", "tls": {"ca": certificates.authority_path()}}
                ],
            )
        )
        assert proxy.process.stdout is not None
        fcntl.fcntl(proxy.process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        load = Load(proxy, upstream, certificates.trusting(shared / "ca.crt"))
        kinds = (load.kept, load.single, load.slow, load.tunnelled, load.intercepted)
        clients = [asyncio.create_task(until_refused(kind)) for kind in kinds for _ in range(CLIENTS)]
        async with asyncio.timeout(2 * PATIENCE_S):
            await load.warm.wait()
            told = monotonic()
            before = len(load.endings)
            proxy.send(SIGTERM)
            code = await asyncio.to_thread(proxy.ended)
            took_s = monotonic() - told
            await asyncio.gather(*clients)
        assert (code, proxy.errors()) == (0, "")
        assert took_s < TIMEOUT_S + LEEWAY_S
        assert not any("lines_dropped" in line for line in proxy.lines)
        check(load, before)


def check(load: Load, before: int) -> None:
    """What the clients saw, the proxy's log and the upstream agree on what became of each request."""
    assert load.warm.is_set()
    by_ending = Counter(load.endings.values())
    # They went on after the signal, and at the end some were waiting.
    assert by_ending[Ending.OK] > before
    assert by_ending[Ending.DRAINING] >= CLIENTS
    lines = [line for line in load.proxy.lines if line["event"] == "exchange ended"]
    connects = [line for line in lines if line["method"] == "CONNECT"]
    walked = {path_of(line["upstream"]) for line in lines if line["method"] in {"GET", "POST"}}
    is_answered = {path for path, ending in load.endings.items() if ending in {Ending.OK, Ending.DRAINING}}
    # Who got no answer was never heard of: no byte of it was read, or it would have been told.
    assert walked <= is_answered
    assert set(load.upstream.seen) <= is_answered
    # Of those whose task had not yet begun it is known only how many they were.
    others = [line for line in lines if not line["method"]]
    assert all(line["reason"] == "draining" for line in others)
    connected = load.connects[Ending.OK] + load.connects[Ending.DRAINING]
    assert len(is_answered - walked) + connected - len(connects) == len(others)


def path_of(upstream: str | None) -> str:
    assert upstream is not None
    return "/" + upstream.partition("/")[2]
