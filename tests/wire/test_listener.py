"""What the listener adds to aiohttp's server: our own answers, our own bounds, nothing decoded."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.client import Answer, Client, get, request
from support.dns import DnsServer
from support.sidecar import Start
from support.upstream import OK, Expect, ScriptedUpstream, Send

from proxy.core.errors import ProxyError
from proxy.core.policy import Dns, Endpoint, Limits, Timeouts
from proxy.core.quantities import Bytes
from proxy.wire.client import ClientConnection
from proxy.wire.listener import Clients, Listener
from proxy.wire.naming import ByRequest, Naming
from proxy.wire.roles import Line
from proxy.wire.written import CLOSE, KEEP

SECRET = "s3cr3t"
GOOD = b"GET / HTTP/1.1\r\nHost: a\r\n"


def assert_ours(answer: Answer, status: int, reason: str) -> None:
    """Asserts that this is an answer of the proxy's, and holds nothing of the request."""
    assert (answer.status, answer.header("X-Breaker-Reason")) == (status, reason)
    assert answer.header("Server") is None
    assert answer.header("Date") is None
    assert answer.header("Content-Type") == "application/problem+json"
    assert answer.header("Connection") == "close"
    assert json.loads(answer.content)["status"] == status
    assert SECRET not in repr(answer)


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}\r\n\r\n",
        f"GET\r\n{SECRET}: 1\r\n\r\n",
        f"GET /{SECRET}\r\n\r\n",
        f"GET /{SECRET} HTTP/1.1 {SECRET}\r\n\r\n",
        f"GET /{SECRET} HTTP/x.y\r\n\r\n",
        f"G{SECRET}(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET /\x00{SECRET} HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\n{SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\n{SECRET} : 1\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n {SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nX: {SECRET}\x00\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nX: {SECRET}\rY: 1\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{SECRET}",
        f"GET / HTTP/1.1\r\nX: {SECRET}\r\n\r\n",
        f"CONNECT {SECRET} HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        f"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{SECRET}",
        f"\x16\x03\x01\x02\x00\x01{SECRET}\r\n\r\n",
    ],
)
async def test_what_cannot_be_parsed_gets_an_answer_of_ours_that_echoes_nothing(
    start: Start, text: str
) -> None:
    proxy = await start()
    async with await Client.connect(proxy.port) as client:
        await client.send(text.encode("latin-1") + get("http://b.invalid/"))
        assert_ours(await client.answer(), 400, "bad_request")
        assert await client.rest() == b""
    exchange = await proxy.report()
    assert exchange.target is None
    assert str(exchange.outcome) == "neutral"
    assert exchange.error is not None
    assert SECRET not in str(exchange.error)


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (f"GET http://a/{SECRET}{'x' * 2000} HTTP/1.1\r\nHost: a\r\n\r\n", 414, "target_too_long"),
        (f"GET http://a/{SECRET}{'x' * 2000}", 414, "target_too_long"),
        (f"GET / HTTP/1.1\r\nHost: a\r\n{SECRET}: {'x' * 2000}\r\n\r\n", 431, "head_too_large"),
        (f"GET / HTTP/1.1\r\nHost: a\r\n{SECRET}{'x' * 2000}: 1\r\n\r\n", 431, "head_too_large"),
        (f"GET / HTTP/1.1\r\nHost: a\r\n{SECRET}: {'x' * 2000}", 431, "head_too_large"),
        ("GET / HTTP/1.1\r\nHost: a\r\n" + "X: 1\r\n" * 200 + "\r\n", 431, "head_too_large"),
    ],
    ids=["target", "target without an end", "value", "name", "value without an end", "number"],
)
async def test_a_head_beyond_the_limits_is_refused(start: Start, text: str, status: int, reason: str) -> None:
    proxy = await start(limits=Limits(max_head=Bytes(1024)))
    async with await Client.connect(proxy.port) as client:
        await client.send(text.encode())
        assert_ours(await client.answer(), status, reason)
        assert await client.rest() == b""


async def test_a_head_within_the_bounds_passes(start: Start) -> None:
    proxy = await start(limits=Limits(max_head=Bytes(1024), max_fields=16))
    fields = [f"X-{number}: 1" for number in range(14)] + [f"Y: {'y' * 700}"]
    async with ScriptedUpstream([Expect(), Send(OK)]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/", *fields))
        assert (await client.answer()).status == 200
        assert b"X-13: 1\r\nY: yyy" in upstream.connections[0].received


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_coded_content_is_not_decoded(start: Start, coding: str) -> None:
    proxy = await start()
    content = gzip.compress(b"event") if coding == "gzip" else b"not a stream of that coding"
    async with ScriptedUpstream([Expect(content), Send(OK)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            url = f"http://{upstream.authority}/"
            await client.send(request("POST", url, f"Content-Encoding: {coding}", content=content))
            assert (await client.answer("POST")).status == 200
        received = bytes(upstream.connections[0].received)
    assert received.endswith(b"\r\n\r\n" + content)
    assert f"\r\nContent-Encoding: {coding}\r\n".encode() in received
    assert f"\r\nContent-Length: {len(content)}\r\n".encode() in received


@pytest.mark.parametrize("name", ["xn--a.test", "xn--.test", "xn--0.test", "xn--127-.test"])
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_a_name_that_aiohttp_cannot_decode_is_asked_for_as_it_is(
    start: Start, name: str, method: str
) -> None:
    async with DnsServer({}) as dns:
        proxy = await start(dns=Dns(servers=(Endpoint("127.0.0.1", dns.port),)))
        async with await Client.connect(proxy.port) as client:
            await client.send(request(method, f"{name}:80" if method == "CONNECT" else f"http://{name}/"))
            answer = await client.answer(method)
            assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "dns_error")
        await proxy.report()


NAMING = Naming("testproxy", Limits().max_head, ByRequest())


def listener_of(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], line: Line) -> Listener:
    clients = Clients(line, 0.0)
    clients.configure(Limits(), Timeouts())
    listener = Listener(handle, line, clients)
    listener.configure(Limits(), NAMING)
    return listener


class Bare:
    """A listener with a line of the test's own behind it."""

    def __init__(self) -> None:
        self.answer: web.StreamResponse = KEEP
        self.fault: Exception | None = None
        self.refused: list[ProxyError] = []
        self.seen: list[web.BaseRequest] = []
        self.cancelled = asyncio.Event()
        self.stall = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        if self.stall:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        assert request.transport is not None
        request.transport.write(OK)
        if self.fault is not None:
            raise self.fault
        return self.answer

    def refuse(self, request: web.BaseRequest, error: ProxyError) -> web.StreamResponse:
        assert request.transport is not None
        self.refused.append(error)
        return CLOSE

    def turn_away(self, client: ClientConnection, error: ProxyError) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        listener = listener_of(self.handle, self)
        server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        await listener.shutdown(1)


@pytest.mark.usefixtures("start")
async def test_aiohttp_adds_nothing_to_what_the_line_has_written() -> None:
    bare = Bare()
    async with bare.listening() as port, await Client.connect(port) as client:
        await client.send(GOOD + b"\r\n")
        assert await client.reader.readexactly(len(OK)) == OK
        bare.answer = CLOSE
        await client.send(GOOD + b"\r\n")
        assert await client.rest() == OK
    assert len(bare.seen) == 2
    assert bare.refused == []


@pytest.mark.usefixtures("start")
async def test_a_fault_behind_an_exchange_is_logged_and_closes_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bare = Bare()
    bare.fault = ValueError("a bug")
    with caplog.at_level(logging.ERROR):
        async with bare.listening() as port, await Client.connect(port) as client:
            await client.send(GOOD + b"\r\n" + GOOD + b"\r\n")
            assert await client.rest() == OK
    assert [record.message for record in caplog.records] == ["fault behind an exchange"]
    assert len(bare.seen) == 1


@pytest.mark.usefixtures("start")
@pytest.mark.parametrize("by", ["close", "half-close", "reset"])
async def test_a_client_that_leaves_cancels_the_line_which_can_see_why(by: str) -> None:
    bare = Bare()
    bare.stall = True
    async with bare.listening() as port, await Client.connect(port) as client:
        await client.send(GOOD + b"\r\n")
        while not bare.seen:
            await asyncio.sleep(0)
        connection = bare.seen[0].protocol
        assert isinstance(connection, ClientConnection)
        assert not connection.is_lost
        if by == "close":
            client.close()
        elif by == "half-close":
            client.writer.write_eof()
        else:
            client.writer.transport.abort()
        await bare.cancelled.wait()
        assert connection.is_lost


class Recorded:
    """A tunnel that records what its client does."""

    def __init__(self) -> None:
        self.said: list[str | bytes] = []
        self.lost = asyncio.Event()

    def client_sent(self, sent: bytes) -> None:
        self.said.append(sent)

    def client_ended(self) -> bool:
        self.said.append("ended")
        return True

    def client_lost(self) -> None:
        self.said.append("lost")
        self.lost.set()

    def sweep(self, now: float) -> None:
        pass

    def is_idle(self, since: float) -> bool:
        raise AssertionError(since)

    def client_paused(self) -> None:
        self.said.append("paused")

    def client_resumed(self) -> None:
        self.said.append("resumed")


@pytest.mark.usefixtures("start")
async def test_a_tunnel_hears_all_that_its_client_does() -> None:
    tunnel = Recorded()
    done = asyncio.Event()
    plenty = 8 * 1024 * 1024

    async def take_over(request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, ClientConnection)
        assert connection.transport is not None
        connection.take_over(tunnel)
        connection.transport.write(b"z" * plenty)
        await done.wait()
        connection.transport.close()
        await tunnel.lost.wait()
        return CLOSE

    bare = Bare()
    listener = listener_of(take_over, bare)
    server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
    async with await Client.connect(server.sockets[0].getsockname()[1]) as client:
        await client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nGET first\r\n\r\n")
        await client.reader.readexactly(plenty)
        await client.send(b"then \x00\xff")
        while b"then \x00\xff" not in tunnel.said:
            await asyncio.sleep(0)
        client.writer.write_eof()
        while "ended" not in tunnel.said:
            await asyncio.sleep(0)
        assert "lost" not in tunnel.said
        done.set()
        assert await client.rest() == b""
    assert tunnel.said == [b"GET first\r\n\r\n", "paused", "resumed", b"then \x00\xff", "ended", "lost"]
    server.close()
    await listener.shutdown(1)
