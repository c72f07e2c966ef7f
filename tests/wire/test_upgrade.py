"""Upgrades that come to nothing: declined, not passed on, or not asked for."""

import pytest
from support.client import Client, get
from support.sidecar import Start
from support.turns import turns
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.policy import CircuitPolicy

WEBSOCKET = "Upgrade: websocket\r\nConnection: Upgrade"
FRAME = b"\x81\x85hello\r\n\r\n"
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def smuggled(upstream: ScriptedUpstream) -> bytes:
    """A request that nobody may ever carry out."""
    return get(f"http://{upstream.authority}/smuggled")


@pytest.mark.parametrize("status", [200, 400, 426])
@pytest.mark.parametrize("fields", [WEBSOCKET, "Upgrade: h2c\r\nConnection: Upgrade", "Upgrade: websocket"])
async def test_an_upgrade_that_is_declined_is_answered_and_ends_the_connection(
    start: Start, fields: str, status: int
) -> None:
    proxy = await start()
    declined = f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nok".encode()
    async with ScriptedUpstream([Expect(), Send(declined)] * 2) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/", fields))
            answer = await client.answer()
            assert (answer.status, answer.content) == (status, b"ok")
            assert answer.header("Connection") == "close"
            assert answer.header("Upgrade") is None
            assert await client.rest() == b""
        # The upstream's connection is as good as before.
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == status
        assert len(upstream.connections) == 1
    await proxy.report(2)


@pytest.mark.parametrize("fields", [WEBSOCKET, "Upgrade: h2c\r\nConnection: Upgrade", "Upgrade: h2c"])
@pytest.mark.parametrize("frame", [b"", FRAME])
async def test_nothing_behind_an_upgrade_that_is_declined_is_carried_out(
    start: Start, fields: str, frame: bytes
) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            behind = frame + smuggled(upstream)
            await client.send(get(f"http://{upstream.authority}/", fields) + behind)
            received = await client.rest()
            # Where aiohttp reads on, it refuses what is no request, and then all that came with it.
            assert received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
            assert received.count(b"HTTP/1.1") == 1 + received.count(b"is not HTTP/1.1")
            await turns()
        assert len(proxy.exchanges) == 1
        for connection in upstream.connections:
            assert b"smuggled" not in connection.received
            assert b"hello" not in connection.received


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        ("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\nA: 1", "A: 1\r\n"),
        ("Upgrade: websocket, h2c\r\nConnection: Upgrade\r\nA: 1", "A: 1\r\n"),
        ("Upgrade: TLS/1.0\r\nConnection: Upgrade\r\nA: 1", "A: 1\r\n"),
        ("Upgrade: websocket\r\nA: 1", "A: 1\r\n"),
        ("Connection: Upgrade\r\nA: 1", "A: 1\r\n"),
        ("Upgrade: h2c\r\nConnection: Upgrade, TE\r\nTE: trailers", "TE: trailers\r\nConnection: TE\r\n"),
    ],
)
async def test_other_upgrades_are_not_passed_on(start: Start, fields: str, passed: str) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(OK)]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/", fields))
        assert (await client.answer()).status == 200
        received = bytes(upstream.connections[0].received).decode()
    assert received == (f"GET / HTTP/1.1\r\nHost: {upstream.authority}\r\n{passed}Via: 1.1 testproxy\r\n\r\n")


@pytest.mark.parametrize(
    "head",
    [
        "POST {url} HTTP/1.1\r\nHost: a\r\n",
        "GET {url} HTTP/1.0\r\nHost: a\r\n",
        "GET {url} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n",
        "GET {url} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
    ],
)
async def test_only_a_get_of_http_1_1_without_content_becomes_a_websocket(start: Start, head: str) -> None:
    """RFC 6455 section 4.1; what would be content and what frames, nobody could tell."""
    proxy = await start()
    async with ScriptedUpstream([Expect(), Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        url = f"http://{upstream.authority}/"
        await client.send(f"{head.format(url=url)}{WEBSOCKET}\r\n\r\n".encode())
        received = await (await upstream.connection(0)).until(b"\r\n\r\n")
        assert b"pgrade" not in received


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ("", ACCEPT),
        ("Upgrade: h2c\r\nConnection: Upgrade", ACCEPT),
        ("Upgrade: h2c\r\nConnection: Upgrade", ACCEPT.replace(b"websocket", b"h2c")),
        ("Upgrade: websocket", ACCEPT),
        (WEBSOCKET, ACCEPT.replace(b"websocket", b"h2c")),
        (WEBSOCKET, ACCEPT.replace(b"websocket", b"websocket, h2c")),
        (WEBSOCKET, ACCEPT.replace(b"Upgrade: websocket\r\n", b"")),
        (WEBSOCKET, ACCEPT.replace(b"Connection: Upgrade\r\n", b"")),
        (WEBSOCKET, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (WEBSOCKET, ACCEPT.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n")),
        (WEBSOCKET, ACCEPT.replace(b"HTTP/1.1 101", b"HTTP/2.0 101")),
    ],
)
async def test_a_101_that_was_not_asked_for_is_no_response(start: Start, fields: str, answer: bytes) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    script = [Expect(), Send(answer + b"HTTP/1.1 200 OK\r\n\r\nforged"), Do.STALL]
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/", *([fields] if fields else [])))
        told = await client.answer()
        assert (told.status, told.header("X-Breaker-Reason")) == (502, "http_protocol_error")
        assert str((await proxy.report()).outcome) == "failure(malformed)"
        assert proxy.state(upstream.authority) == "open"
        assert proxy.sidecar.data_plane.pool.idle == 0
        if not fields:
            # Nothing has happened to the client's connection.
            assert told.header("Connection") is None
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 503


async def test_a_101_for_content_that_is_under_way_is_no_response(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(ACCEPT), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            head = f"POST http://{upstream.authority}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
            await client.send(head.encode())
            assert (await client.answer("POST")).status == 502
    assert str((await proxy.report()).outcome) == "failure(malformed)"
