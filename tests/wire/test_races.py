"""What comes in the last moment: in one turn of the loop with the sweep that gives up waiting for it."""

import socket
import struct

import pytest
from support.client import Client, get, request
from support.clients import connections, taken_in
from support.narrow import narrow_legs
from support.sidecar import Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.policy import Limits, OpenAction, Timeouts
from proxy.core.quantities import Seconds
from proxy.wire.client import ClientConnection

TIMES = Timeouts(request_head=Seconds(15), client_idle=Seconds(600))


async def _only(proxy: Running) -> ClientConnection:
    """The proxy's protocol of the only client."""
    await until(lambda: len(proxy.sidecar.data_plane.clients) == 1)
    (connection,) = connections(proxy)
    return connection


def _in_one_turn(proxy: Running, connection: ClientConnection, last: bytes, seconds: float) -> None:
    """As where a loop has both to do: what is readable is read, and then it is time for the sweep."""
    connection.data_received(last)
    proxy.clock.now += seconds
    proxy.sidecar.data_plane.clients.sweep(proxy.clock.now)


@pytest.mark.parametrize("method", ["GET", "POST", "CONNECT"])
@pytest.mark.parametrize("before", [0, 1], ids=["first request", "later request"])
async def test_a_request_that_was_told_408_is_not_carried_out(
    start: Start, monkeypatch: pytest.MonkeyPatch, before: int, method: str
) -> None:
    taken = taken_in(monkeypatch)
    proxy = await start(timeouts=TIMES)
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            for _ in range(before):
                await client.send(get(f"http://{upstream.authority}/"))
                assert (await client.answer()).status == 200
            connection = await _only(proxy)
            already = taken.count
            target = upstream.authority if method == "CONNECT" else f"http://{upstream.authority}/order"
            text = request(method, target, content=b"buy" if method == "POST" else b"")
            await client.send(text[:-9])
            await taken.until(already + len(text) - 9)
            await turns()
            _in_one_turn(proxy, connection, text[-9:], 15)
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (408, "client_timeout")
            assert await client.rest() == b""
        await until(lambda: not proxy.sidecar.data_plane.clients)
        assert len(upstream.connections) == before
        assert not any(b"order" in called.received for called in upstream.connections)
    exchange = await proxy.report(before + 1)
    assert (exchange.status, str(exchange.outcome)) == (408, "neutral")


async def test_a_request_in_time_is_carried_out_whatever_the_sweep_finds_then(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counterpart: the head is whole, and its exchange begins with the next turn."""
    taken = taken_in(monkeypatch)
    proxy = await start(timeouts=TIMES)
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            connection = await _only(proxy)
            text = get(f"http://{upstream.authority}/")
            await client.send(text[:-9])
            await taken.until(len(text) - 9)
            _in_one_turn(proxy, connection, text[-9:], 14)
            assert (await client.answer()).status == 200
    await proxy.report()


async def test_a_request_in_the_turn_in_which_its_client_was_idle_for_too_long_is_answered(
    start: Start,
) -> None:
    """The sweep finds it in a head that has just begun, which has its time."""
    proxy = await start(timeouts=TIMES)
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            connection = await _only(proxy)
            await turns()
            proxy.clock.now += 590
            await until(lambda: proxy.sidecar.data_plane.clients.now == proxy.clock.now)
            _in_one_turn(proxy, connection, get(f"http://{upstream.authority}/"), 10)
            assert (await client.answer()).status == 200
    await proxy.report()


@pytest.mark.parametrize("action", OpenAction)
async def test_a_request_of_one_who_was_turned_away_is_not_carried_out(
    start: Start, action: OpenAction
) -> None:
    """There are too many connections, so that it is told before it has asked."""
    proxy = await start(limits=Limits(max_connections=1), timeouts=TIMES, open_action=action)
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as busy:
        await busy.send(get(f"http://{upstream.authority}/1"))
        await (await upstream.connection(0)).until(b"GET")
        async with await Client.connect(proxy.port) as other:
            await other.send(get(f"http://{upstream.authority}/2"))
            try:
                told = await other.rest()
            except ConnectionResetError:
                told = b""
            assert told.startswith(b"HTTP/1.1 503 ") or action is OpenAction.CLOSE
        assert len(upstream.connections) == 1
        assert b"/2" not in upstream.connections[0].received
        busy.close()
    await proxy.report(2)


async def test_a_line_that_is_too_long_at_once_is_refused_once(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """In one read it exceeds aiohttp's limit of a line and ours of an unfinished head."""
    proxy = await start()
    async with await Client.connect(proxy.port) as client:
        await client.send(b"GET http://a.invalid/" + b"x" * 200_000)
        answer = await client.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (414, "target_too_long")
        assert await client.rest() == b""
        await turns()
    await proxy.report()
    # Nobody has tried to write behind the end of the answer.
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def _connected(port: int) -> socket.socket:
    """A client that resets its connection when it closes it, without the loop."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return client


async def test_a_client_that_has_reset_when_its_last_answer_ends_is_gone(start: Start) -> None:
    """There is nothing left to close, which asyncio says by an error."""
    proxy = await start()
    with _connected(proxy.port):
        connection = await _only(proxy)
    connection.linger()
    await until(lambda: not proxy.sidecar.data_plane.clients)


async def test_a_client_that_has_reset_when_the_upstream_ends_is_gone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half-close of a tunnel finds nobody."""
    legs = narrow_legs(monkeypatch)
    proxy = await start()
    async with ScriptedUpstream([Send(b"hi"), Do.STALL]) as upstream:
        with _connected(proxy.port) as client:
            client.sendall(request("CONNECT", upstream.authority))
            await until(lambda: legs and legs[0].received)
            await turns()
        legs[0].protocol.eof_received()
        await proxy.report()
        await until(lambda: not proxy.sidecar.data_plane.clients)


async def test_an_upstream_that_has_reset_when_the_client_ends_is_gone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    legs = narrow_legs(monkeypatch)
    proxy = await start()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        authority = f"127.0.0.1:{listening.getsockname()[1]}"
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", authority))
            await until(lambda: legs)
            upstream, _ = listening.accept()
            with upstream:
                upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                upstream.sendall(b"hi")
                await until(lambda: legs[0].received)
                connection = await _only(proxy)
            connection.eof_received()
            await proxy.report()
        await until(lambda: not proxy.sidecar.data_plane.clients)
