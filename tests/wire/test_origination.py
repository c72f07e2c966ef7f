"""HTTPS that begins here: absolute-form `https://`, routes, and `https: originate`, each over real TLS."""

import asyncio
import hashlib
from typing import Any

import h11
import pytest
from support import certificates
from support.client import Answer, Client, get, request
from support.sidecar import Running, Start
from support.turns import until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Take, tls_upstream

from proxy.core.egress import AllowedAddresses, Egress, Hosts
from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Tls
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, Endpoint, Listen, Upstream
from proxy.core.route import PathPrefix, Route, UpstreamUrl

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
SERVE = [Expect(), Send(OK)] * 5
OOPS = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
HERE = Endpoint("127.0.0.1", 0)
LISTEN = Listen(proxy=HERE, admin=HERE, reverse=HERE)
# Nobody listens there.
NOWHERE = "127.66.0.1"


@pytest.fixture
def trusted() -> Upstream:
    """The settings of upstreams at 127.0.0.1: their CA is believed."""
    return entry()


def entry(https: HttpsMode = HttpsMode.TUNNEL, host: str = "127.0.0.1") -> Upstream:
    tls: Overlay[Tls] = Overlay({"ca": certificates.authority_path()})
    return Upstream(match=HostPattern.parse(host), tls=tls, https=https)


async def ask(proxy: Running, url: str, *fields: str) -> Answer:
    async with await Client.connect(proxy.port) as client:
        await client.send(get(url, *fields))
        return await client.answer()


# Absolute-form.


async def test_a_request_for_https_goes_out_over_tls(start: Start, trusted: Upstream) -> None:
    proxy = await start(upstreams=(trusted,))
    async with tls_upstream(SERVE) as upstream:
        assert (await ask(proxy, f"https://{upstream.authority}/a?b", "X-Other: 1")).content == b"ok"
        received = bytes(upstream.connections[0].received)
        exchange = await proxy.report()
    head = f"GET /a?b HTTP/1.1\r\nHost: {upstream.authority}\r\nX-Other: 1\r\nVia: 1.1 testproxy\r\n\r\n"
    assert received == head.encode()
    assert exchange.target is not None
    assert (exchange.target.scheme, exchange.entry.value) == ("https", "forward")
    assert exchange.target.circuit == upstream.authority


async def test_its_connection_is_kept_and_only_for_https(start: Start, trusted: Upstream) -> None:
    proxy = await start(upstreams=(trusted,))
    async with tls_upstream(SERVE) as upstream:
        for _ in range(3):
            assert (await ask(proxy, f"https://{upstream.authority}/")).status == 200
        assert len(upstream.connections) == 1
        # In clear: a connection of its own, to which this upstream has nothing to say.
        assert (await ask(proxy, f"http://{upstream.authority}/")).status == 502
    assert [exchange.reused for exchange in proxy.exchanges] == [False, True, True, False]
    assert [exchange.tls_s is not None for exchange in proxy.exchanges] == [True, False, False, False]


@pytest.mark.parametrize("last", [[], [Do.RESET], [Do.CUT]], ids=["closed", "reset", "cut"])
async def test_what_may_be_repeated_is_where_a_kept_connection_has_ended(
    start: Start, trusted: Upstream, last: list[Any]
) -> None:
    proxy = await start(circuit=ONE_FAILURE, upstreams=(trusted,))
    first = [Expect(), Send(OK), Expect(), *last]
    async with tls_upstream(first, SERVE) as upstream:
        for _ in range(2):
            assert (await ask(proxy, f"https://{upstream.authority}/")).status == 200
        assert len(upstream.connections) == 2
    assert [str(exchange.outcome) for exchange in proxy.exchanges] == ["success", "success"]


async def test_statuses_trip_the_circuit(start: Start, trusted: Upstream) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=3), upstreams=(trusted,))
    async with tls_upstream([Expect(), Send(OOPS)] * 3) as upstream:
        statuses = [(await ask(proxy, f"https://{upstream.authority}/")).status for _ in range(4)]
    assert statuses == [500, 500, 500, 503]
    assert proxy.state(upstream.authority) == "open"


# Content.


async def test_much_content_goes_both_ways(start: Start, trusted: Upstream) -> None:
    proxy = await start(upstreams=(trusted,))
    content = bytes(range(250)) * 42_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content)
    async with tls_upstream([Expect(), Take(len(content)), Send(head + content), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            url = f"https://{upstream.authority}/"
            await client.send(request("POST", url, content=content))
            answer = await client.answer("POST")
        assert upstream.connections[0].received.endswith(content)
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(content).digest()
    assert (await proxy.report()).response_bytes == len(content)


@pytest.mark.parametrize("last", [[], [Do.CUT], [Do.STALL]], ids=["closed", "cut", "waiting"])
async def test_an_early_answer_is_heard(start: Start, trusted: Upstream, last: list[Any]) -> None:
    proxy = await start(upstreams=(trusted,))
    early = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge"
    async with tls_upstream([Expect(), Send(early), *last]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(
                request("POST", f"https://{upstream.authority}/", f"Content-Length: {10**8}") + bytes(10**6)
            )
            answer = await client.answer("POST")
    assert (answer.status, answer.content) == (413, b"large")
    assert str((await proxy.report()).outcome) == "alive"


@pytest.mark.parametrize(
    ("response", "last", "is_whole"),
    [
        (UNTIL_CLOSE + b"part", [], True),
        (UNTIL_CLOSE + b"part", [Do.CUT], False),
        (UNTIL_CLOSE + b"part", [Do.RESET], False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npart", [], True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npart", [Do.CUT], True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart", [], False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart", [Do.CUT], False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n\r\n", [Do.CUT], True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", [Do.CUT], False),
    ],
)
async def test_content_up_to_the_end_of_the_connection_needs_a_close_notify(
    start: Start, trusted: Upstream, response: bytes, last: list[Any], *, is_whole: bool
) -> None:
    """RFC 9112 section 9.8: without it nobody knows whether that was all; other framing needs none."""
    proxy = await start(circuit=ONE_FAILURE, upstreams=(trusted,))
    async with tls_upstream([Expect(), Send(response), *last]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"https://{upstream.authority}/"))
            if is_whole:
                assert (await client.answer()).content == b"part"
            else:
                with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
                    await client.answer()
        exchange = await proxy.report()
    assert str(exchange.outcome) == ("success" if is_whole else "failure(truncated)")


async def test_websockets_go_over_tls(start: Start, trusted: Upstream) -> None:
    proxy = await start(upstreams=(trusted,))
    accept = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    frame = b"\x81\x05hello\r\n\r\n\0\xff"
    big = bytes(range(250)) * 4000
    script = [Expect(), Send(accept + b"first"), Expect(frame), Send(frame), Take(len(big)), Send(big)]
    async with tls_upstream(script) as upstream:
        async with await Client.connect(proxy.port) as client:
            asked = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x")
            await client.send(get(f"https://{upstream.authority}/", *asked))
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert await client.reader.readexactly(5) == b"first"
            await client.send(frame)
            assert await client.reader.readexactly(len(frame)) == frame
            await client.send(big)
            assert await client.reader.readexactly(len(big)) == big
            assert await client.rest() == b""
        exchange = await proxy.report()
    assert (exchange.status, str(exchange.outcome), exchange.error) == (101, "success", None)


async def test_a_websocket_that_is_cut_is_told_as_that(start: Start, trusted: Upstream) -> None:
    proxy = await start(upstreams=(trusted,))
    accept = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    async with tls_upstream([Expect(), Send(accept), Expect(b"end"), Do.CUT]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(
                get(f"https://{upstream.authority}/", "Upgrade: websocket", "Connection: Upgrade")
            )
            await client.reader.readuntil(b"\r\n\r\n")
            await client.send(b"end")
            with pytest.raises(ConnectionResetError):
                await client.rest()
        error = (await proxy.report()).error
    assert error is not None
    assert error.error_type == "http_response_incomplete"


# `https: originate`.


async def test_http_becomes_https_where_that_is_to_be_originated(start: Start) -> None:
    proxy = await start(upstreams=(entry(HttpsMode.ORIGINATE),))
    async with tls_upstream(SERVE) as upstream:
        for scheme in ("http", "https", "http"):
            assert (await ask(proxy, f"{scheme}://{upstream.authority}/a")).content == b"ok"
        assert len(upstream.connections) == 1
        head = f"GET /a HTTP/1.1\r\nHost: {upstream.authority}\r\nVia: 1.1 testproxy\r\n\r\n"
        assert upstream.connections[0].received == head.encode() * 3
    assert proxy.state(upstream.authority) is not None


@pytest.mark.parametrize("authority", [NOWHERE, f"{NOWHERE}:80", f"{NOWHERE}:"])
async def test_port_80_becomes_443_for_the_circuit_as_well(start: Start, authority: str) -> None:
    proxy = await start(circuit=ONE_FAILURE, upstreams=(entry(HttpsMode.ORIGINATE, NOWHERE),))
    answer = await ask(proxy, f"http://{authority}/")
    assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "connection_refused")
    exchange = await proxy.report()
    assert exchange.target is not None
    assert (exchange.target.scheme, exchange.target.port) == ("https", 443)
    assert exchange.target.authority == NOWHERE
    assert proxy.state(f"{NOWHERE}:443") == "open"
    assert proxy.state(f"{NOWHERE}:80") is None
    # Whoever says https himself is called by the same circuit.
    assert (await ask(proxy, f"https://{NOWHERE}/")).status == 503


@pytest.mark.parametrize(("denied", "status"), [(f"{NOWHERE}:443", 403), (f"{NOWHERE}:80", 502)])
async def test_the_rules_are_asked_of_the_new_target(start: Start, denied: str, status: int) -> None:
    hosts = Hosts(deny=(HostPattern.parse(denied),))
    proxy = await start(
        upstreams=(entry(HttpsMode.ORIGINATE, NOWHERE),),
        egress=Egress(addresses=AllowedAddresses.ANY, hosts=hosts),
    )
    assert (await ask(proxy, f"http://{NOWHERE}/")).status == status


async def test_a_connect_is_a_tunnel_there(start: Start) -> None:
    proxy = await start(upstreams=(entry(HttpsMode.ORIGINATE),))
    async with ScriptedUpstream([Expect(b"\0hello"), Send(b"raw")]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", upstream.authority) + b"\0hello")
            assert (await client.rest()).endswith(b"\r\n\r\nraw")
        assert (await proxy.report()).entry.value == "tunnel"


# Routes.


async def routed(start: Start, url: str, upstream: Upstream, *, internal: bool, **sections: Any) -> Running:
    route = Route(path=PathPrefix("/a"), upstream=UpstreamUrl.parse(url), internal=internal)
    return await start(listen=LISTEN, routes=(route,), upstreams=(upstream,), **sections)


@pytest.mark.parametrize("internal", [True, False], ids=["internal", "public"])
@pytest.mark.parametrize("is_originated", [True, False], ids=["originated", "https"])
async def test_routes_lead_over_tls(start: Start, *, internal: bool, is_originated: bool) -> None:
    mode = HttpsMode.ORIGINATE if is_originated else HttpsMode.TUNNEL
    scheme = "http" if is_originated else "https"
    async with tls_upstream(SERVE) as upstream:
        url = f"{scheme}://{upstream.authority}/base"
        proxy = await routed(start, url, entry(mode), internal=internal)
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(b"GET /a/b?c HTTP/1.1\r\nHost: me\r\n\r\n")
            assert (await client.answer()).content == b"ok"
        head = f"GET /base/b?c HTTP/1.1\r\nHost: {upstream.authority}\r\nVia: 1.1 testproxy\r\n\r\n"
        assert upstream.connections[0].received == head.encode()
        exchange = await proxy.report()
    assert exchange.target is not None
    assert exchange.target.is_internal is internal
    key = f"{upstream.authority}+internal" if internal else upstream.authority
    assert proxy.state(key) is not None


async def test_an_internal_routes_connection_is_nobody_elses(start: Start) -> None:
    """Public traffic to the same host and port asks its own rules."""
    async with tls_upstream(SERVE) as upstream:
        url = f"http://{upstream.authority}"
        proxy = await routed(start, url, entry(HttpsMode.ORIGINATE), internal=True, egress=Egress())
        async with await Client.connect(proxy.sidecar.reverse_port) as client:
            await client.send(b"GET /a HTTP/1.1\r\nHost: me\r\n\r\n")
            assert (await client.answer()).status == 200
        for scheme in ("http", "https"):
            answer = await ask(proxy, f"{scheme}://{upstream.authority}/")
            assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "address_denied")
        assert len(upstream.connections) == 1


# What is left over: nothing (the fixture looks).


async def test_a_client_that_leaves_in_the_middle_of_content_ends_it(start: Start, trusted: Upstream) -> None:
    proxy = await start(upstreams=(trusted,))
    async with tls_upstream([Expect(), Send(UNTIL_CLOSE + b"part"), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"https://{upstream.authority}/"))
            await client.reader.readuntil(b"part")
        await proxy.report()
        async with asyncio.timeout(10):
            await until(lambda: upstream.connections[0].ended)
