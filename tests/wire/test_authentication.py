"""Who may use the proxy, over the wire: strangers get 407 and cost nothing, tokens go no further than us."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.client import Answer, Client, get, request
from support.credentials import OTHER, TOKEN, field, line
from support.dns import DnsServer
from support.sidecar import SETTINGS, Start
from support.turns import until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.policy import AccessLog, Dns, Endpoint, Listen, Log, OpenAction
from proxy.core.route import Route, UpstreamUrl

SERVE = [Expect(), Send(OK)] * 20
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
NAME = "upstream.test"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """The file, with one token in it."""
    file = tmp_path / "tokens"
    file.write_text(line())
    return file


def asking(tokens: Path) -> Listen:
    return replace(SETTINGS.listen, credentials_file=str(tokens))


def assert_asked(answer: Answer, *, keeps: bool) -> None:
    """All that a stranger gets, which is the same for everybody."""
    assert (answer.status, answer.reason) == (407, "Proxy authentication required")
    assert answer.header("Proxy-Authenticate") == 'Basic realm="breaker-proxy", charset="UTF-8"'
    details = "the proxy wants a name and a token (Proxy-Authorization: Basic)"
    assert answer.header("Proxy-Status") == f'testproxy; error=http_request_denied; details="{details}"'
    assert answer.header("X-Breaker-Reason") == "authentication_required"
    assert answer.header("Connection") == (None if keeps else "close")
    assert json.loads(answer.content) == {
        "title": "Proxy Authentication Required",
        "status": 407,
        "detail": details,
        "error": "http_request_denied",
        "reason": "authentication_required",
    }


WRONG: dict[str, Sequence[str]] = {
    "none": [],
    "wrong-token": [field(token=OTHER)],
    "unknown-name": [field("nobody")],
    "no-token": [field(token="")],
    "bearer": [f"Proxy-Authorization: Bearer {TOKEN}"],
    "malformed": ["Proxy-Authorization: Basic"],
    "twice": [field(), field()],
    "right-and-wrong": [field(), field(token=OTHER)],
    "for-the-upstream": [field().removeprefix("Proxy-")],
    "too-long": [f"Proxy-Authorization: Basic {'A' * 8000}"],
}
each_wrong = pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)


@each_wrong
async def test_a_stranger_costs_nothing_and_the_connection_takes_the_next(
    start: Start, tokens: Path, fields: Sequence[str]
) -> None:
    async with DnsServer({NAME: ["127.0.0.1"]}) as dns, ScriptedUpstream(SERVE) as upstream:
        server = Endpoint("127.0.0.1", dns.port)
        proxy = await start(listen=asking(tokens), dns=Dns(servers=(server,)))
        url = f"http://{NAME}:{upstream.port}/s3cret"
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", url, *fields, content=b"event"))
            assert_asked(await client.answer("POST"), keeps=True)
            exchange = await proxy.report()
            assert (dns.asked, upstream.connections, list(proxy.sidecar.circuits)) == ([], [], [])
            assert proxy.sidecar.data_plane.handler.begun == 0
            await client.send(get(url, field()))
            assert (await client.answer()).status == 200
        assert (exchange.client_name, exchange.target, exchange.status) == (None, None, 407)
        assert (await proxy.report(2)).client_name == "ci"
        assert len(upstream.connections) == 1


@each_wrong
async def test_behind_a_refused_connect_nothing_is_carried_out(
    start: Start, tokens: Path, fields: Sequence[str]
) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(listen=asking(tokens))
        async with await Client.connect(proxy.port) as client:
            behind = get(f"http://{upstream.authority}/", field())
            await client.send(request("CONNECT", upstream.authority, *fields) + behind)
            assert_asked(await client.answer("CONNECT"), keeps=False)
            assert await client.rest() == b""
        await proxy.report()
        assert (upstream.connections, list(proxy.sidecar.circuits)) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        # What all of these get without a token file, they get here behind it alone.
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nVia: 1.1 testproxy\r\n\r\n",
        b"TRACE http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
    ],
)
async def test_a_stranger_learns_nothing_of_the_target(start: Start, tokens: Path, text: bytes) -> None:
    proxy = await start(listen=asking(tokens))
    async with await Client.connect(proxy.port) as client:
        await client.send(text)
        assert_asked(await client.answer(), keeps=True)


@pytest.mark.parametrize(
    "text", [b"CONNECT nowhere HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n"]
)
async def test_neither_from_a_connect_that_is_wrong(start: Start, tokens: Path, text: bytes) -> None:
    proxy = await start(listen=asking(tokens))
    async with await Client.connect(proxy.port) as client:
        await client.send(text + b"Host: a\r\n\r\n")
        assert_asked(await client.answer("CONNECT"), keeps=False)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (
            b"GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"GET http://a/ HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 33_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_cannot_be_read_is_told_first(
    start: Start, tokens: Path, text: bytes, status: int
) -> None:
    proxy = await start(listen=asking(tokens))
    async with await Client.connect(proxy.port) as client:
        await client.send(text)
        assert (await client.answer()).status == status


async def test_the_token_goes_no_further_than_the_proxy(start: Start, tokens: Path) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        proxy = await start(listen=asking(tokens))
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/", "X: 1", field(), "Authorization: mine"))
            assert (await client.answer()).status == 200
        assert (
            bytes(upstream.connections[0].received)
            == (
                f"GET / HTTP/1.1\r\nHost: {upstream.authority}\r\nX: 1\r\nAuthorization: mine\r\n"
                "Via: 1.1 testproxy\r\n\r\n"
            ).encode()
        )


async def test_a_tunnel_with_a_token(start: Start, tokens: Path) -> None:
    async with ScriptedUpstream([Send(b"hi"), Do.STALL]) as upstream:
        proxy = await start(listen=asking(tokens))
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", upstream.authority, field()))
            assert await client.reader.readexactly(len(ESTABLISHED) + 2) == ESTABLISHED + b"hi"
        assert (await proxy.report()).client_name == "ci"


async def test_the_routes_ask_nobody(start: Start, tokens: Path) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        listen = replace(asking(tokens), reverse=Endpoint("127.0.0.1", 0))
        route = Route(upstream=UpstreamUrl.parse(f"http://{upstream.authority}"))
        proxy = await start(listen=listen, routes=(route,))
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.answer()).status == 200
        assert (await proxy.report()).client_name is None


async def test_without_a_file_a_token_is_not_looked_at(start: Start) -> None:
    proxy = await start()
    async with await Client.connect(proxy.port) as client:
        await client.send(request("OPTIONS", "http://a/", "Max-Forwards: 0", field(token=OTHER)))
        assert (await client.answer("OPTIONS")).status == 200
    assert (await proxy.report()).client_name is None


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_open_action_close_is_not_for_a_stranger(start: Start, tokens: Path, method: str) -> None:
    # Clients that wait to be asked would never give their token.
    proxy = await start(listen=asking(tokens), open_action=OpenAction.CLOSE)
    async with await Client.connect(proxy.port) as client:
        await client.send(request(method, "a:1" if method == "CONNECT" else "http://a/"))
        assert_asked(await client.answer(method), keeps=method != "CONNECT")


async def test_a_head_gets_the_fields_alone(start: Start, tokens: Path) -> None:
    proxy = await start(listen=asking(tokens))
    async with await Client.connect(proxy.port) as client:
        await client.send(request("HEAD", "http://a/"))
        answer = await client.answer("HEAD")
    assert (answer.status, answer.content) == (407, b"")
    assert answer.header("Proxy-Authenticate")


async def test_an_upload_of_a_stranger_is_not_read_on(start: Start, tokens: Path) -> None:
    proxy = await start(listen=asking(tokens))
    async with await Client.connect(proxy.port) as client:
        await client.send(request("POST", "http://a/", "Content-Length: 1000000") + b"half")
        assert_asked(await client.answer("POST"), keeps=False)


async def test_who_is_wrong_over_and_over_fills_nothing(start: Start, tokens: Path) -> None:
    async with ScriptedUpstream(SERVE) as upstream:
        with capture_logs() as logs:
            proxy = await start(listen=asking(tokens), log=Log(access=AccessLog.ERRORS))
            logs.clear()
            async with (
                await Client.connect(proxy.port) as stranger,
                await Client.connect(proxy.port) as known,
            ):
                guesses = [
                    get(f"http://{number}.test/", field(f"n{number}", f"t{number}")) for number in range(1000)
                ]
                stranger.writer.write(b"".join(guesses))
                answers = asyncio.create_task(statuses(stranger, len(guesses)))
                # Meanwhile who is right is served.
                await known.send(get(f"http://{upstream.authority}/", field()))
                assert (await known.answer()).status == 200
                assert await answers == {407}
        assert logs == []
        assert [circuit.key for circuit in proxy.sidecar.circuits] == [upstream.authority]
        assert proxy.sidecar.data_plane.handler.begun == 1


async def statuses(client: Client, count: int) -> set[int]:
    return {(await client.answer()).status for _ in range(count)}


# The file changes.


def become(file: Path, text: str | None) -> None:
    """None: it goes."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


READ, KEPT = "credentials read", "credentials not changed"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        # What the file becomes, what is logged, and the statuses that the old token and a new one then get.
        ([(line("web", OTHER), 407, 200)], [READ]),
        ([(line() + line("web", OTHER), 200, 200), (line("web", OTHER), 407, 200)], [READ, READ]),
        ([("", 200, 407), ("ci:", 200, 407), (line(), 200, 407)], [KEPT, KEPT, READ]),
        ([(None, 200, 407), (line("web", OTHER), 407, 200)], [KEPT, READ]),
    ],
)
async def test_a_change_holds_for_the_next_request(
    start: Start, tokens: Path, changes: list[tuple[str | None, int, int]], told: list[str]
) -> None:
    async with ScriptedUpstream([Send(b"hi"), Expect(b"ping"), Send(b"pong"), Do.STALL]) as upstream:
        proxy = await start(listen=asking(tokens))
        with capture_logs() as logs:
            async with await Client.connect(proxy.port) as tunnel, await Client.connect(proxy.port) as client:
                await tunnel.send(request("CONNECT", upstream.authority, field()))
                await tunnel.reader.readexactly(len(ESTABLISHED) + 2)
                for number, (text, *expected) in enumerate(changes, start=1):
                    become(tokens, text)
                    proxy.clock.now += 1.0
                    await until(lambda number=number: len(logs) == number)  # type: ignore[misc]
                    for given, status in zip((field(), field("web", OTHER)), expected, strict=True):
                        await client.send(request("OPTIONS", "http://a/", "Max-Forwards: 0", given))
                        reason = "max_forwards" if status == 200 else "authentication_required"
                        answer = await client.answer("OPTIONS")
                        assert (answer.status, answer.header("X-Breaker-Reason")) == (status, reason)
                # A tunnel was let in when it began.
                await tunnel.send(b"ping")
                assert await tunnel.reader.readexactly(4) == b"pong"
        assert [line["event"] for line in logs] == told
