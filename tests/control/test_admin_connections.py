"""Peers of the admin port that send what is no request, or hold on to connections, on real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec
import pytest
from support.api import AdminPort

from proxy.control.admin_connections import MOST_CONNECTIONS
from proxy.control.admin_server import AdminServer
from proxy.core.policy import Admin, Endpoint

SECRET = b"c0ntents"
HEALTH = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
NOTHING = b""
HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: local"
HALF_A_CONTENT = (
    b"POST /api/v1/circuits/a:80/open HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 100\r\n\r\n{"note": "'
)
EVENTS = b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def is_well(self) -> bool:
        """Whether it is told that the process lives."""
        self.writer.write(HEALTH)
        head = await self.reader.readuntil(b"\r\n\r\n")
        return head.startswith(b"HTTP/1.1 200 ") and await self.reader.readexactly(3) == b"ok\n"

    async def until_cut(self) -> None:
        """Reads on until the other side has ended the connection."""
        with suppress(ConnectionResetError):
            await self.reader.read(-1)


@asynccontextmanager
async def listening() -> AsyncIterator[AdminServer]:
    behind = AdminPort()
    server = AdminServer(
        Endpoint("127.0.0.1", 0),
        behind.application(),
        behind.trust,
        on_trust=behind.events.review,
        clock=behind.clock,
        environ={},
    )
    server.configure(Admin(), None)
    await server.listen()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def connected(server: AdminServer, says: bytes = NOTHING) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(says)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + SECRET + b" HTTP/1.1\r\nHo st: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + SECRET + b"\x00\r\n\r\n",
        b"<" + SECRET + b">\r\n\r\n",
        b"GET /" + SECRET * 2000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + SECRET * 2000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECRET + b"\r\n\r\n",
    ],
    ids=["field name", "field value", "no request", "long target", "long field", "TLS"],
)
async def test_what_is_no_request_is_refused_and_not_repeated(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with listening() as server, connected(server, request_) as peer:
            answer = await peer.reader.read(-1)
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    fields = {line.partition(b":")[0].lower(): line.partition(b": ")[2] for line in head.split(b"\r\n")[1:]}
    assert fields[b"content-type"] == b"application/problem+json"
    assert fields[b"x-content-type-options"] == b"nosniff"
    assert fields[b"cache-control"] == b"no-store"
    assert b"aiohttp" not in head.lower()
    assert msgspec.json.decode(content)["reason"] == "bad_request"
    assert SECRET not in answer
    assert SECRET.decode() not in caplog.text
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


@pytest.mark.parametrize(
    "says",
    [NOTHING, HALF_A_HEAD, HALF_A_CONTENT, EVENTS],
    ids=["nothing", "half a head", "half a content", "reads events"],
)
async def test_those_who_hold_on_to_connections_make_room_for_a_health_check(says: bytes) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening())
        peers = [
            await stack.enter_async_context(connected(server, says)) for _ in range(2 * MOST_CONNECTIONS)
        ]
        async with connected(server) as kubelet:
            assert await kubelet.is_well()
            # All but the room that there is, less the one of the health check.
            await asyncio.gather(*(peer.until_cut() for peer in peers[: MOST_CONNECTIONS + 1]))


async def test_who_does_something_stays_longer_than_who_does_not() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening())
        first = await stack.enter_async_context(connected(server))
        second = await stack.enter_async_context(connected(server))
        assert await second.is_well()
        assert await first.is_well()
        for _ in range(MOST_CONNECTIONS - 1):
            peer = await stack.enter_async_context(connected(server))
        assert await peer.is_well()
        assert await first.is_well()
        await second.until_cut()


async def test_who_leaves_makes_room() -> None:
    async with listening() as server, connected(server) as first:
        assert await first.is_well()
        for _ in range(2 * MOST_CONNECTIONS):
            async with connected(server) as peer:
                assert await peer.is_well()
        assert await first.is_well()
