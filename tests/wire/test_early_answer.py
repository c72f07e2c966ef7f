"""Final responses that come while the client still sends: who goes on, and who gets to read what."""

import pytest
from support.client import Client, get, request
from support.clients import connections, taken_in
from support.sidecar import SETTINGS, Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.policy import CircuitPolicy, Endpoint, Listen, Timeouts
from proxy.core.quantities import Seconds
from proxy.core.route import PathPrefix, Route, UpstreamUrl
from proxy.wire.call import MAX_DISCARDED

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
EARLY = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge"
PLENTY = b"x" * 1_000_000


def upload(upstream: ScriptedUpstream, size: int, *fields: str) -> bytes:
    return request("POST", f"http://{upstream.authority}/", *fields, f"Content-Length: {size}")


async def swept(proxy: Running, seconds: float) -> None:
    """Lets so much time pass, and the sweep come round."""
    proxy.clock.now += seconds
    await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
    await turns()


@pytest.mark.parametrize("sent", [0, 5])
@pytest.mark.parametrize("left", [1, 100, MAX_DISCARDED])
async def test_little_that_is_left_keeps_the_clients_connection(start: Start, sent: int, left: int) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    early = [Expect(), Send(EARLY), Do.STALL]
    async with ScriptedUpstream(early, [Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(upload(upstream, sent + left) + b"a" * sent)
            answer = await client.answer("POST")
            assert (answer.status, answer.content) == (413, b"large")
            assert answer.header("Connection") is None
            # The rest is thrown away, and the next request found behind it.
            await client.send(b"b" * left + get(f"http://{upstream.authority}/next"))
            assert (await client.answer()).status == 200
        # The upstream would take another request for content of the first one.
        await until(lambda: upstream.connections[0].ended)
        assert not upstream.connections[0].received.endswith(b"b")
        assert len(upstream.connections) == 2
    await proxy.report(2)
    assert [str(exchange.outcome) for exchange in proxy.exchanges] == ["alive", "success"]


@pytest.mark.parametrize("fields", [(), ("Expect: 100-continue",)], ids=["plain", "expects"])
async def test_what_must_not_follow_is_never_carried_out(start: Start, fields: tuple[str, ...]) -> None:
    """It may be content, or a request: nobody can tell."""
    proxy = await start()
    size = 9 if fields else MAX_DISCARDED + 1
    async with ScriptedUpstream([Expect(), Send(EARLY), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(upload(upstream, size, *fields))
            answer = await client.answer("POST")
            assert (answer.status, answer.header("Connection")) == (413, "close")
            await client.send(get(f"http://{upstream.authority}/next") * 2)
            assert await client.rest() == b""
        await turns()
        assert len(upstream.connections) == 1
        assert b"/next" not in upstream.connections[0].received
    await proxy.report()


@pytest.mark.parametrize("chunked", [False, True])
async def test_much_that_is_left_is_thrown_away_until_the_client_has_read(
    start: Start,
    chunked: bool,  # noqa: FBT001 -- a column
) -> None:
    """Closing at once would reset the connection, and the answer be lost (RFC 9112 section 9.6)."""
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(EARLY), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            url = f"http://{upstream.authority}/"
            length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000000000"
            await client.send(request("POST", url, length))
            # Far more than all the buffers between us take: it must be read on.
            for _ in range(20):
                await client.send(b"%x\r\n%b\r\n" % (len(PLENTY), PLENTY) if chunked else PLENTY)
            answer = await client.answer("POST")
            assert (answer.status, answer.content) == (413, b"large")
            assert answer.header("Connection") == "close"
            # Our side is closed by now, and the client's is read on.
            assert await client.rest() == b""
            for _ in range(20):
                await client.send(PLENTY)
    assert str((await proxy.report()).outcome) == "alive"


async def test_a_client_that_goes_on_for_ever_is_closed_after_2_s(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Send(EARLY), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(upload(upstream, 1_000_000))
            assert (await client.answer("POST")).status == 413
            assert await client.rest() == b""
            await swept(proxy, 1.9)
            assert len(proxy.sidecar.data_plane.clients) == 1
            await client.send(b"more")
            await swept(proxy, 0.1)
            await until(lambda: not proxy.sidecar.data_plane.clients)


async def test_a_refusal_of_ours_follows_the_same_rule(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    failing = [Expect(), Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")]
    async with ScriptedUpstream(failing) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        assert (await client.answer()).status == 500
        for left, closes in ((MAX_DISCARDED, None), (MAX_DISCARDED + 1, "close")):
            await client.send(upload(upstream, left))
            answer = await client.answer("POST")
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
            assert answer.header("Connection") == closes
            await client.send(b"x" * left)
        assert await client.rest() == b""


async def test_a_response_that_is_not_complete_takes_the_upload_along(start: Start) -> None:
    """An upstream may answer while it reads, so the upload ends only with the response."""
    proxy = await start()
    script = [Expect(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), Expect(b"end"), Send(b"ok")]
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        size = 4 * MAX_DISCARDED
        await client.send(upload(upstream, size))
        head = await client.reader.readuntil(b"\r\n\r\n")
        # What the head says cannot be taken back.
        assert b"\r\nConnection: close\r\n" in head
        await client.send(b"x" * (size - 3) + b"end")
        assert await client.rest() == b"ok"
    exchange = await proxy.report()
    assert (exchange.request_bytes, str(exchange.outcome)) == (size, "success")


async def test_a_client_that_has_sent_the_rest_of_a_refused_upload_is_idle(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No head has begun, so no 408 may come, which the client would take for its next answer."""
    taken = taken_in(monkeypatch)
    here = Endpoint("127.0.0.1", 0)
    never = Route(upstream=UpstreamUrl.parse("http://127.0.0.1:1"), path=PathPrefix("/never"))
    proxy = await start(
        listen=Listen(proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, reverse=here),
        routes=(never,),
        timeouts=Timeouts(request_head=Seconds(15), client_idle=Seconds(600)),
    )
    async with await Client.connect(proxy.sidecar.reverse_port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        assert (await client.answer("POST")).status == 404
        (connection,) = connections(proxy)
        before = taken.count
        await client.send(b"event")
        await taken.until(before + 5)
        await turns()
        await swept(proxy, 20)
        assert [exchange.status for exchange in proxy.exchanges] == [404]
        assert connection.is_idle
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer("POST")).status == 404
