"""The end: what is on its way is told, and nothing new begins."""

import asyncio
import socket
from contextlib import suppress

import pytest
from aiohttp import web
from support.client import Client, get, request
from support.clients import connections
from support.sidecar import Running, Start
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.policy import CircuitPolicy

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)


async def _stop(proxy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops it, and fails if it waits for anybody."""
    monkeypatch.setattr("proxy.wire.drain.LAST_WORDS_S", 60.0)
    async with asyncio.timeout(5):
        await proxy.sidecar.stop()


async def test_what_is_under_way_is_told_and_what_was_pipelined_behind_it_does_not_begin(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/1") + get(f"http://{upstream.authority}/2"))
        await (await upstream.connection(0)).until(b"GET /1")
        await _stop(proxy, monkeypatch)
        answer = await client.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "draining")
        assert answer.header("Connection") == "close"
        assert await client.rest() == b""
        assert len(upstream.connections) == 1
        assert b"/2" not in upstream.connections[0].received
    assert str((await proxy.report()).outcome) == "neutral"


async def test_a_request_just_after_the_stop_is_told_as_well(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with (
        ScriptedUpstream([Do.STALL]) as upstream,
        await Client.connect(proxy.port) as first,
        await Client.connect(proxy.port) as second,
    ):
        await first.send(get(f"http://{upstream.authority}/1"))
        await (await upstream.connection(0)).until(b"GET /1")
        stopping = asyncio.create_task(_stop(proxy, monkeypatch))
        await asyncio.sleep(0)
        await second.send(get(f"http://{upstream.authority}/2"))
        await stopping
        assert (await first.answer()).status == 503
        answer = await second.answer()
        assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "draining")
        assert await second.rest() == b""
        assert len(upstream.connections) == 1
    await proxy.report(2)


@pytest.mark.parametrize("before", [0, 1], ids=["first request", "later request"])
async def test_a_request_in_the_turn_of_the_stop_is_told(
    start: Start, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """It has been read, and its exchange has not begun."""
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            for _ in range(before):
                await client.send(get(f"http://{upstream.authority}/1"))
                assert (await client.answer()).status == 200
            await until(lambda: len(proxy.sidecar.data_plane.clients))
            await turns()
            (connection,) = connections(proxy)
            # As the loop would, in its turn before this task's.
            connection.data_received(get(f"http://{upstream.authority}/2"))
            await _stop(proxy, monkeypatch)
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "draining")
            assert answer.header("Connection") == "close"
            assert await client.rest() == b""
        assert len(upstream.connections) == before
        assert not any(b"/2" in called.received for called in upstream.connections)
    assert str((await proxy.report(before + 1)).outcome) == "neutral"


async def test_a_scraper_that_never_reads_does_not_hold_the_stop(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = asyncio.Event()
    pause = web.RequestHandler.pause_writing

    def pause_writing(self: web.RequestHandler) -> None:
        full.set()
        pause(self)

    monkeypatch.setattr(web.RequestHandler, "pause_writing", pause_writing)
    proxy = await start()
    raw = socket.socket()
    raw.settimeout(0)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with raw:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", proxy.sidecar.admin_port))
        asked = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
        flood = asyncio.create_task(loop.sock_sendall(raw, asked * 100_000))
        await full.wait()
        # It takes a second or two; held, it takes two minutes.
        try:
            async with asyncio.timeout(20):
                await proxy.sidecar.stop()
        finally:
            flood.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await flood


async def test_an_idle_client_does_not_hold_the_stop(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = await start()
    async with await Client.connect(proxy.port) as client:
        await turns()
        await _stop(proxy, monkeypatch)
        assert await client.rest() == b""


async def test_a_tunnel_under_way_is_cut(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(request("CONNECT", upstream.authority))
        await client.reader.readuntil(b"\r\n\r\n")
        await _stop(proxy, monkeypatch)
        assert await client.rest() == b""
    assert str((await proxy.report()).outcome) == "neutral"
