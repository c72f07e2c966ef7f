"""What is taken in for later: what its client is told, what is stored, and what stays a refusal."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.client import Client, get, request
from support.sidecar import Running, Start
from support.upstream import Expect, ScriptedUpstream, Send

from proxy.core.defer import Defer
from proxy.core.deferred import Deferred
from proxy.core.fallback import DeferOrder, Fallback
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policy import Timeouts, Upstream
from proxy.core.quantities import Bytes, Seconds
from proxy.core.scope import CircuitKey
from proxy.wire import deferring

FAIL = [Expect(), Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")] * 50


def keeping(order: DeferOrder = DeferOrder.LOOSE, **circuit: Any) -> tuple[Upstream, ...]:
    """Settings with which every upstream's circuit opens with its first failure, and its calls are kept."""
    written = {"consecutive_failures": 1, **circuit}
    fallback = Fallback(defer=True, order=order)
    return (Upstream(match=HostPattern.parse("*"), circuit=Overlay(written), fallback=fallback),)


def kept_in(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    """The sections of settings with which calls are kept."""
    return {"defer": Defer(path=str(tmp_path / "deferred.db"), **settings), "upstreams": keeping()}


async def tripped(proxy: Running, upstream: ScriptedUpstream) -> Client:
    """A client that has just seen the circuit open."""
    client = await Client.connect(proxy.port)
    await client.send(get(f"http://{upstream.authority}/"))
    assert (await client.answer()).status == 500
    return client


async def stored(proxy: Running) -> list[Deferred]:
    """All that is kept."""
    assert proxy.sidecar.deferral is not None
    return [each async for each in proxy.sidecar.deferral.store.export()]


async def test_what_an_open_circuit_refuses_is_stored_and_then_answered_202(
    start: Start, tmp_path: Path
) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        url = f"http://{upstream.authority}/hooks/7?sig=abc"
        fields = ("X-Sig: a,b", "Proxy-Authorization: Basic x", "Connection: X-Hop", "X-Hop: 1", "x-odd:  y ")
        await client.send(request("POST", url, *fields, content=b"event"))
        answer = await client.answer("POST")
        (kept,) = await stored(proxy)
        told, _ = proxy.sidecar.metrics.render(None)
        exchange = await proxy.report(2)
        assert len(upstream.connections) == 1
    assert (answer.status, answer.reason) == (202, "Accepted")
    assert answer.header("X-Breaker-Reason") == "circuit_open"
    assert answer.header("Proxy-Status") == 'testproxy; details="deferred: circuit_open"'
    assert answer.header("X-Breaker-Delivery-Id") == kept.id
    assert answer.header("Cache-Control") == "no-store"
    assert json.loads(answer.content) == {
        "id": kept.id,
        "reason": "circuit_open",
        "look_up": f"/api/v1/deferred/requests/{kept.id}",
    }
    assert (kept.method, kept.content, kept.reason) == ("POST", b"event", "circuit_open")
    assert (kept.queue, kept.circuit) == (upstream.authority, upstream.authority)
    assert kept.target.origin_form == "/hooks/7?sig=abc"
    assert kept.fields == [(b"X-Sig", b"a,b"), (b"x-odd", b"y"), (b"Content-Length", b"5")]
    assert (exchange.status, exchange.error, exchange.fell_back_for) == (202, None, "circuit_open")
    assert exchange.request_bytes == 5
    assert b"\nbreaker_proxy_deferred_depth 1.0\n" in told
    assert b"\nbreaker_proxy_deferred_store_up 1.0\n" in told
    assert b"\nbreaker_proxy_deferred_stored_total 1.0\n" in told
    assert b"\nbreaker_proxy_deferred_store_seconds_count 1.0\n" in told


async def test_the_connection_goes_on_behind_it(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        url = f"http://{upstream.authority}/"
        chunks = f"PUT {url} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        await client.send(chunks + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer("PUT")).status == 202
        await client.send(request("DELETE", url))
        assert (await client.answer("DELETE")).status == 202
        assert [(each.method, each.content) for each in await stored(proxy)] == [
            ("PUT", b"abcde"),
            ("DELETE", b""),
        ]


async def test_who_waits_for_a_100_gets_one(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        head = f"POST http://{upstream.authority}/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        await client.send(f"{head}Content-Length: 5\r\n\r\n".encode())
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"event")
        assert (await client.answer("POST")).status == 202
        (kept,) = await stored(proxy)
        assert kept.content == b"event"
        assert b"expect" not in {name.lower() for name, _ in kept.fields}


@pytest.mark.parametrize(
    ("method", "fields", "content", "settings"),
    [
        ("GET", (), b"", {}),
        ("POST", (), b"four", {"max_content": Bytes(3)}),
        ("POST", (), b"four", {"methods": ("PUT",)}),
        ("POST", (), b"x" * 2000, {"max_bytes": Bytes(1024)}),
        ("POST", ("Upgrade: websocket", "Connection: Upgrade"), b"four", {}),
    ],
)
async def test_what_is_not_kept_stays_a_refusal(
    start: Start, tmp_path: Path, method: str, fields: tuple[str, ...], content: bytes, settings: Any
) -> None:
    proxy = await start(**kept_in(tmp_path, **settings))
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        await client.send(request(method, f"http://{upstream.authority}/", *fields, content=content))
        answer = await client.answer(method)
        assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
        assert await stored(proxy) == []
        assert (await proxy.report(2)).fell_back_for is None


def not_stored(proxy: Running) -> dict[str, int]:
    """What was to be kept and was not, by why."""
    assert proxy.sidecar.deferral is not None
    return dict(proxy.sidecar.deferral.deferring.not_stored)


async def test_chunks_beyond_the_bound_get_the_refusal(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path, max_content=Bytes(8)))
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        head = f"POST http://{upstream.authority}/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head.encode() + b"5\r\nabcde\r\n")
        await client.send(b"5\r\nabcde\r\n")
        answer = await client.answer("POST")
        assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
        assert await stored(proxy) == []
        assert not_stored(proxy) == {"content_too_large": 1}


async def test_a_tunnel_is_never_kept(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path, methods=("CONNECT", "POST")))
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        await client.send(request("CONNECT", upstream.authority))
        assert (await client.answer("CONNECT")).status == 503
        assert await stored(proxy) == []


async def test_without_a_disk_there_is_no_202(start: Start, tmp_path: Path) -> None:
    sections = kept_in(tmp_path) | {"defer": Defer(path=str(tmp_path / "nowhere" / "deferred.db"))}
    proxy = await start(**sections)
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        await client.send(request("POST", f"http://{upstream.authority}/", content=b"event"))
        answer = await client.answer("POST")
    assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
    assert answer.header("Retry-After") is not None
    assert not_stored(proxy) == {"unavailable": 1}


async def test_a_client_that_leaves_in_the_middle_is_not_kept(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(FAIL) as upstream:
        async with await tripped(proxy, upstream) as client:
            head = f"POST http://{upstream.authority}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"
            await client.send(head.encode())
        exchange = await proxy.report(2)
        assert exchange.status is None
        assert await stored(proxy) == []
        assert proxy.sidecar.deferral is not None
        assert proxy.sidecar.deferral.deferring.held_bytes == 0


async def test_a_client_that_is_slow_gets_408(start: Start, tmp_path: Path) -> None:
    proxy = await start(**kept_in(tmp_path), timeouts=Timeouts(body_idle=Seconds(20)))
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        head = f"POST http://{upstream.authority}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"
        await client.send(head.encode())
        while proxy.sidecar.data_plane.handler.in_flight == 0:
            await asyncio.sleep(0)
        proxy.clock.now += 20
        assert (await client.answer("POST")).status == 408


async def test_more_than_is_held_at_once_is_refused(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferring, "HELD_BYTES", 8)
    proxy = await start(**kept_in(tmp_path))
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        for content, status in ((b"x" * 9, 503), (b"x" * 8, 202)):
            await client.send(request("POST", f"http://{upstream.authority}/", content=content))
            assert (await client.answer("POST")).status == status
    assert not_stored(proxy) == {"too_many_at_once": 1}


async def test_strict_order_has_live_calls_wait_behind(start: Start, tmp_path: Path) -> None:
    sections = kept_in(tmp_path) | {"upstreams": keeping(DeferOrder.STRICT)}
    proxy = await start(**sections)
    async with ScriptedUpstream(FAIL) as upstream, await tripped(proxy, upstream) as client:
        url = f"http://{upstream.authority}/"
        await client.send(request("POST", url, content=b"first"))
        assert (await client.answer("POST")).status == 202
        assert proxy.sidecar.deferral is not None
        await proxy.sidecar.deferral.store.pause(is_paused=True)
        proxy.sidecar.circuits.reset(upstream.authority, proxy.clock.now)
        await client.send(request("POST", url, content=b"second"))
        answer = await client.answer("POST")
        assert (answer.status, answer.header("X-Breaker-Reason")) == (202, "order")
        # What is never kept need not wait either.
        await client.send(get(url))
        assert (await client.answer()).status == 500
        assert [each.content for each in await stored(proxy)] == [b"first", b"second"]


async def test_a_queue_is_that_of_the_endpoint(start: Start, tmp_path: Path) -> None:
    sections = kept_in(tmp_path) | {"upstreams": keeping(key=CircuitKey.parse("header:X-Tenant"))}
    proxy = await start(**sections)
    async with ScriptedUpstream(FAIL) as upstream, await Client.connect(proxy.port) as client:
        for status in (500, 202):
            url = f"http://{upstream.authority}/"
            await client.send(request("POST", url, "X-Tenant: seven", content=b"event"))
            assert (await client.answer("POST")).status == status
        (kept,) = await stored(proxy)
    assert kept.circuit == upstream.authority
    assert kept.queue.startswith(f"{upstream.authority}#")
