"""Server-Sent Events: a real client reads each event before the server sends the next one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import httpx
import pytest
from support.process import RunningProxy, free_port, until

# Whatever is held back is never sent on, as the server waits.
pytestmark = pytest.mark.timeout(20)

# As a server would send them: small, with a comment in between (a heartbeat), and large.
EVENTS = [
    b"data: 1\n\n",
    b":\n\n",
    b"id: 7\nevent: hook\ndata: {}\n\n",
    b"data: " + b"x" * 100_000 + b"\n\n",
] * 5
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
# The head, and whether the content comes in chunks: else it ends with the connection.
FRAMINGS = {
    "chunked": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", True),
    "to the end": (HEAD + b"\r\n", False),
    "1.0": (HEAD.replace(b"/1.1", b"/1.0", 1) + b"\r\n", False),
}
SILENT_S = 0.3


class Source:
    """Serves `/events` by what the test sends, and `/silent` with a beginning and no end.

    Attributes:
        gone: set once the connection of the events has ended.
    """

    def __init__(self, head: bytes, *, chunked: bool) -> None:
        self._head = head
        self._chunked = chunked
        self._events: asyncio.Queue[bytes] = asyncio.Queue()
        self.gone = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    async def end(self) -> None:
        """Ends all connections, and waits until they have ended."""
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    def send(self, event: bytes) -> None:
        """Sends a piece of the stream; an empty one is its end."""
        self._events.put_nowait(event)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            if request.startswith(b"GET /silent "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegin")
                await reader.read()
            else:
                writer.write(self._head)
                await self._stream(reader, writer)
                self.gone.set()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed = asyncio.create_task(reader.read())
        event = b"first"
        while event and not closed.done():
            sending = asyncio.create_task(self._events.get())
            await asyncio.wait([sending, closed], return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                sending.cancel()
                return
            event = sending.result()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)
            await writer.drain()
        closed.cancel()


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    """Of the sources, one after the other, and of the listener with a route to them."""
    return free_port(), free_port()


@pytest.fixture(scope="module")
def proxy(ports: tuple[int, int]) -> Iterator[RunningProxy]:
    source, reverse = ports
    listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0", "reverse": f"127.0.0.1:{reverse}"}
    routes = [{"upstream": f"http://127.0.0.1:{source}"}]
    with RunningProxy(listen=listen, routes=routes, timeouts={"body_idle": f"{SILENT_S}s"}) as running:
        yield running


@pytest.fixture(params=["forward", "reverse"])
async def client(
    request: pytest.FixtureRequest, proxy: RunningProxy, ports: tuple[int, int]
) -> AsyncIterator[httpx.AsyncClient]:
    source, reverse = ports
    via, port = (proxy.url, source) if request.param == "forward" else (None, reverse)
    async with httpx.AsyncClient(proxy=via, base_url=f"http://127.0.0.1:{port}", trust_env=False) as made:
        yield made


@pytest.fixture(params=FRAMINGS)
async def source(request: pytest.FixtureRequest, ports: tuple[int, int]) -> AsyncIterator[Source]:
    head, chunked = FRAMINGS[request.param]
    made = Source(head, chunked=chunked)
    async with await asyncio.start_server(made.serve, "127.0.0.1", ports[0]):
        yield made
        await made.end()


async def read(pieces: AsyncIterator[bytes], count: int) -> bytes:
    """Reads this many bytes; fails if there are more before the next is sent."""
    content = b""
    while len(content) < count:
        content += await anext(pieces)
    return content


async def test_each_event_arrives_before_the_next_is_sent(client: httpx.AsyncClient, source: Source) -> None:
    # It begins before there is any event.
    async with client.stream("GET", "/events", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        pieces = answer.aiter_raw()
        for event in EVENTS:
            source.send(event)
            assert await read(pieces, len(event)) == event
        source.send(b"")
        assert [piece async for piece in pieces] == []


async def test_an_event_in_pieces_arrives_in_pieces(client: httpx.AsyncClient, source: Source) -> None:
    async with client.stream("GET", "/events") as answer:
        pieces = answer.aiter_raw()
        for piece in (b"data:", b" a", b"\n", b"\n"):
            source.send(piece)
            assert await read(pieces, len(piece)) == piece


async def test_a_client_that_leaves_ends_the_stream_and_it_is_no_failure(
    client: httpx.AsyncClient, source: Source, proxy: RunningProxy
) -> None:
    before = proxy.metric("calls_total", outcome="failure")
    async with client.stream("GET", "/events") as answer:
        source.send(EVENTS[0])
        assert await read(answer.aiter_raw(), len(EVENTS[0])) == EVENTS[0]
    await source.gone.wait()
    until(lambda: proxy.metric("in_flight") == 0, "an exchange does not end")
    assert proxy.metric("calls_total", outcome="failure") == before


@pytest.mark.parametrize("client", ["forward"], indirect=True)
async def test_silence_does_not_end_a_stream(client: httpx.AsyncClient, source: Source) -> None:
    async with client.stream("GET", "/events") as answer:
        pieces = answer.aiter_raw()
        source.send(EVENTS[0])
        await read(pieces, len(EVENTS[0]))
        # By the time that another answer is cut for its silence, the stream has been silent for longer.
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/silent")
        source.send(EVENTS[2])
        assert await read(pieces, len(EVENTS[2])) == EVENTS[2]
