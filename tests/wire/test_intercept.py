"""Interception: the client's TLS ends in the proxy, and each request inside of its CONNECT walks the line."""

import asyncio
import os
import random
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import certificates, credentials
from support.client import ESTABLISHED, Client, request
from support.clients import connections
from support.interception import private_directory, sections, slow_minting, start_intercepting, trusting
from support.sidecar import SETTINGS, Running, Start
from support.tls_client import TlsClient, inside
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, tls_upstream

from proxy.core.errors import CaNotTrusted, ClientTimeout, ClientTlsFailed, ProxyInternalError
from proxy.core.exchange import Entry
from proxy.core.host_pattern import HostPattern
from proxy.core.https import Intercept
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, Listen
from proxy.core.quantities import Seconds
from proxy.wire import mint
from proxy.wire.dialer import Dialer
from proxy.wire.intercept import Listening

SERVE = [Expect(), Send(OK)] * 100
VERSIONS = ("1.2", "1.3")
# Somebody whom nobody calls in these tests.
NOWHERE = "localhost:9"
ENDS = ("orderly", "reset")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither aiohttp nor the loop has anything to complain of."""
    yield
    assert [record.getMessage() for record in caplog.records if record.name != "breaker_proxy"] == []


def leave(client: TlsClient, end: str) -> None:
    """Closes the connection, past TLS."""
    writer = client.inside.writer
    if end == "reset":
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort() if end == "reset" else writer.close()


async def nothing_is_left(proxy: Running) -> None:
    """Waits until the connections have ended, and looks whether they have cost an upstream anything."""
    listeners = proxy.sidecar.data_plane.listeners.values()
    await until(
        lambda: not proxy.sidecar.data_plane.clients and not any(each.connections for each in listeners)
    )
    assert len(proxy.sidecar.circuits) == 0


async def ask(client: TlsClient, upstream: ScriptedUpstream, authority: str | None = None) -> None:
    """One request, answered by the upstream."""
    await client.send(inside("GET", authority or upstream.authority))
    answer = await client.answer()
    assert (answer.status, answer.content) == (200, b"ok")


async def test_a_request_inside_of_a_connect_is_an_exchange_of_its_own(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await proxy.report()
            assert not upstream.connections, "a CONNECT by itself calls nobody"
            assert len(proxy.sidecar.circuits) == 0
            await client.send(inside("GET", upstream.authority, "/a?b"))
            answer = await client.answer()
        assert (answer.status, answer.content) == (200, b"ok")
        assert bytes(upstream.connections[0].received) == (
            f"GET /a?b HTTP/1.1\r\nHost: {upstream.authority}\r\nVia: 1.1 testproxy\r\n\r\n".encode()
        )
    connect, exchange = proxy.exchanges
    assert (connect.entry, connect.status, str(connect.outcome)) == (Entry.TUNNEL, 200, "neutral")
    assert (exchange.entry, exchange.status, str(exchange.outcome)) == (Entry.INTERCEPTED, 200, "success")
    assert exchange.target is not None
    assert exchange.target.scheme == "https"


# The ClientHello.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", ["glued", "half glued", "byte by byte", "late", "before the 200 is read"])
async def test_the_hello_comes_as_it_likes(start: Start, way: str, version: str) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        authority = f"localhost:{upstream.port}"
        async with await TlsClient.dialled(proxy.port, authority, trusting(version=version)) as client:
            client.inside.writer.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )
            hello = client.inside.hello()
            glued = {"glued": len(hello), "half glued": len(hello) // 2}.get(way, 0)
            if way == "before the 200 is read":
                await client.send_raw(request("CONNECT", authority))
                await client.send_raw(hello)
                assert await client.inside.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
            else:
                await client.connect_to(authority, behind=hello[:glued])
                if way == "late":
                    await turns()
                pieces = 1 if way != "byte by byte" else len(hello)
                size = -(-(len(hello) - glued) // pieces) or 1
                for at in range(glued, len(hello), size):
                    await client.send_raw(hello[at : at + size])
                    await turns(2)
            await client.inside.shake()
            assert client.inside.tls.version() == f"TLSv{version}"
            await ask(client, upstream, authority)
    assert [exchange.server_name for exchange in proxy.exchanges] == ["localhost", None]


async def test_what_comes_behind_the_handshake_in_the_same_segment_is_a_request(start: Start) -> None:
    """The last of the client's flight, the request and the end of all, at once."""
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        async with await TlsClient.standing(proxy.port, upstream.authority) as client:
            flight = await client.inside.last_flight()
            await client.send_raw(flight + client.inside.encrypted(inside("GET", upstream.authority) * 3))
            for _ in range(3):
                assert (await client.answer()).status == 200
    await proxy.report(4)


@pytest.mark.parametrize(
    "connect",
    [
        "CONNECT {} HTTP/1.0\r\n\r\n",
        "CONNECT {} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "CONNECT {} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "CONNECT {} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    ],
    ids=["HTTP/1.0", "close", "upgrade", "expect"],
)
async def test_a_connect_of_any_form_is_intercepted(start: Start, connect: str) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        async with await TlsClient.dialled(proxy.port, upstream.authority) as client:
            await client.send_raw(connect.format(upstream.authority).encode() + client.inside.hello())
            assert await client.inside.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
            await client.inside.shake()
            for _ in range(2):
                await ask(client, upstream)
    await proxy.report(3)


async def test_a_segment_with_all_of_it_and_the_end_as_well_leaves_nothing_behind(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.standing(proxy.port, NOWHERE) as client:
        flight = await client.inside.last_flight()
        await client.send_raw(flight + client.inside.close_notify())
        assert await client.rest() == b""
        client.close()
    exchange = await proxy.report()
    assert (exchange.status, exchange.error, str(exchange.outcome)) == (200, None, "neutral")
    await nothing_is_left(proxy)


# Whom the certificate is for.


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_that_asks_for_somebody_else_can_read_that_it_is_wrong(
    start: Start, version: str
) -> None:
    proxy = await start_intercepting(start)
    through = TlsClient.through(proxy.port, NOWHERE, trusting(version=version), host="other.example.com")
    async with await through as client:
        for count in (2, 3):
            await client.send(inside("GET", "other.example.com"))
            answer = await client.answer()
            assert (answer.status, answer.header("X-Breaker-Reason")) == (421, "misdirected_request")
            exchange = await proxy.report(count)
            assert str(exchange.outcome) == "neutral"
            assert exchange.entry is Entry.INTERCEPTED
            if answer.header("Connection") == "close":
                break
    assert proxy.exchanges[0].server_name == "other.example.com"
    assert len(proxy.sidecar.circuits) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_certificate_of_an_address_is_for_the_address(start: Start, host: str) -> None:
    """RFC 6066 section 3: an address is never asked for by SNI."""
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE, host=host) as upstream:
        authority = f"[{host}]:{upstream.port}" if ":" in host else upstream.authority
        async with await TlsClient.through(proxy.port, authority) as client:
            await ask(client, upstream, authority)
    assert proxy.exchanges[0].server_name is None


async def test_without_sni_the_certificate_is_for_the_host_of_the_connect(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        authority = f"LocalHost.:{upstream.port}"
        async with await TlsClient.through(proxy.port, authority, host=None) as client:
            told = client.inside.tls.getpeercert()
            assert told is not None
            assert told["subjectAltName"] == (("DNS", "localhost"),)
            await ask(client, upstream, authority)


# What the client speaks instead.


async def test_a_client_without_http_1_1_gets_a_tunnel(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream([Do.STALL]) as upstream:
        authority = f"localhost:{upstream.port}"
        client = await TlsClient.standing(proxy.port, authority, certificates.client("h2"))
        async with client:
            await turns()
            assert not upstream.connections, "it is called only once that is clear"
            await client.inside.shake()
            await client.send(b"\0not a request")
            await (await upstream.connection(0)).until(b"\0not a request")
    exchange = await proxy.report()
    assert (exchange.entry, exchange.status, str(exchange.outcome)) == (Entry.TUNNEL, 200, "success")
    assert exchange.tunnelled_because == "the client's TLS does not offer http/1.1 (ALPN)"
    assert exchange.server_name == "localhost"
    # On the host's scope, as every tunnel is.
    assert proxy.state(authority) == "closed"


async def test_a_client_that_offers_http_1_1_among_others_speaks_that(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        context = trusting("h2", "http/1.1")
        async with await TlsClient.through(proxy.port, upstream.authority, context) as client:
            assert client.inside.tls.selected_alpn_protocol() == "http/1.1"
            await ask(client, upstream)
    assert proxy.exchanges[0].tunnelled_because is None


async def test_a_tunnel_that_is_refused_or_fails_behind_its_200_is_closed(start: Start) -> None:
    proxy = await start_intercepting(start, circuit=CircuitPolicy(consecutive_failures=1))
    expected = ["failure(refused)", "neutral"]
    for count, outcome in enumerate(expected, 1):
        async with await TlsClient.standing(proxy.port, NOWHERE, certificates.client("h2")) as client:
            with pytest.raises(ConnectionError):
                await client.inside.shake()
        exchange = await proxy.report(count)
        assert str(exchange.outcome) == outcome
        assert exchange.tunnelled_because is not None
    assert proxy.exchanges[-1].error is not None
    assert proxy.exchanges[-1].error.reason == "circuit_open"
    assert proxy.state(NOWHERE) == "open"


async def test_what_comes_while_the_tunnel_is_dialled_gets_there_and_is_bounded(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Dialer.connect
    go = asyncio.Event()

    async def slow(self: Dialer, *arguments: Any) -> Any:
        await go.wait()
        return await connect(self, *arguments)

    monkeypatch.setattr(Dialer, "connect", slow)
    proxy = await start_intercepting(start)
    # More than loopback takes.
    much = 16 << 20
    async with ScriptedUpstream([Do.STALL]) as upstream:
        authority = f"localhost:{upstream.port}"
        async with await TlsClient.dialled(proxy.port, authority, certificates.client("h2")) as client:
            hello = client.inside.hello()
            await client.connect_to(authority, behind=hello)
            (end,) = connections(proxy)
            assert end.transport is not None
            listening = end.tunnel
            assert isinstance(listening, Listening)
            flooding = asyncio.create_task(client.send_raw(b"\xff" * much))
            await until(lambda: end.transport is not None and not end.transport.is_reading())
            await turns()
            assert not flooding.done()
            assert len(listening.opening.received) < 256 * 1024
            go.set()
            await flooding
            connection = await upstream.connection(0)
            while len(connection.received) < len(hello) + much:
                connection.changed.clear()
                await connection.changed.wait()
            assert bytes(connection.received[: len(hello)]) == hello
    assert (await proxy.report()).tunnelled_because is not None


async def test_excluded_hosts_are_tunnelled(start: Start) -> None:
    excluded = (HostPattern.parse("localhost"),)
    intercept = Intercept(private_directory=str(private_directory()), exclude=excluded)
    proxy = await start_intercepting(start, intercept=intercept)
    async with tls_upstream(SERVE) as upstream:
        authority = f"localhost:{upstream.port}"
        async with await TlsClient.through(proxy.port, authority, certificates.client()) as client:
            await ask(client, upstream, authority)
        assert (await proxy.report()).tunnelled_because is None
        async with await TlsClient.through(proxy.port, upstream.authority) as client:
            await ask(client, upstream)
    await proxy.report(3)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0",
        b"SSH-2.0-a\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\x40\x01" + bytes(100),
        b"a" * 40_000,
    ],
    ids=["zero", "ssh", "http/2", "no hello", "too long a record", "long"],
)
@pytest.mark.parametrize("is_glued", [True, False])
async def test_garbage_in_place_of_tls_is_closed(start: Start, garbage: bytes, *, is_glued: bool) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.dialled(proxy.port, NOWHERE) as client:
        await client.connect_to(NOWHERE, behind=garbage if is_glued else b"")
        if not is_glued:
            await client.send_raw(garbage)
        assert await _end(client) == b""
        exchange = await proxy.report()
        assert isinstance(exchange.error, ClientTlsFailed)
        assert not isinstance(exchange.error, CaNotTrusted)
        assert str(exchange.outcome) == "neutral"
    await nothing_is_left(proxy)


async def test_garbage_in_the_handshake_is_closed(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.dialled(proxy.port, NOWHERE) as client:
        await client.connect_to(NOWHERE, behind=client.inside.hello())
        await client.inside.reader.readexactly(1)
        await client.send_raw(b"garbage, garbage")
        await _end(client)
        exchange = await proxy.report()
        assert isinstance(exchange.error, ClientTlsFailed)
        assert exchange.error.details == "TLS with the client failed: wrong version number"
    await nothing_is_left(proxy)


async def test_a_client_of_a_version_that_is_too_old_is_told_so(start: Start) -> None:
    proxy = await start_intercepting(start)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with await TlsClient.standing(proxy.port, NOWHERE, context) as client:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await client.inside.shake()
    exchange = await proxy.report()
    assert type(exchange.error) is ClientTlsFailed
    assert exchange.error.details == "TLS with the client failed: unsupported protocol"
    assert not exchange.client_left


async def test_plain_http_needs_no_certificate(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_leaf(*_: object) -> None:
        raise AssertionError("asked for a certificate")

    monkeypatch.setattr(mint.Mint, "leaf", no_leaf)
    proxy = await start_intercepting(start)
    async with ScriptedUpstream(SERVE) as upstream, await Client.connect(proxy.port) as client:
        await client.send(request("CONNECT", upstream.authority))
        assert await client.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
        for _ in range(3):
            await client.send(inside("GET", upstream.authority))
            assert (await client.answer()).status == 200
        assert bytes(upstream.connections[0].received).startswith(b"GET / HTTP/1.1\r\n")
    assert [exchange.entry for exchange in proxy.exchanges] == [Entry.TUNNEL] + [Entry.FORWARD] * 3
    assert proxy.exchanges[0].error is None


# Whom the client trusts.


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_that_does_not_trust_the_ca_is_reported_and_blames_nobody(
    start: Start, version: str
) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.standing(
        proxy.port, NOWHERE, certificates.stranger(version=version)
    ) as client:
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.inside.shake()
        assert await _end(client) == b""
        exchange = await proxy.report()
        assert isinstance(exchange.error, CaNotTrusted)
        assert exchange.error.details == "the client refused the certificate: unknown_ca"
        assert exchange.server_name == "localhost"
        assert str(exchange.outcome) == "neutral"
    await nothing_is_left(proxy)


# A client that leaves.


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("share", [0, 0.5])
async def test_a_client_leaves_while_its_hello_is_awaited(start: Start, share: float, end: str) -> None:
    proxy = await start_intercepting(start)
    client = await TlsClient.dialled(proxy.port, NOWHERE)
    hello = client.inside.hello()
    await client.connect_to(NOWHERE, behind=hello[: int(share * len(hello))])
    leave(client, end)
    exchange = await proxy.report()
    assert (exchange.error, str(exchange.outcome), exchange.client_left) == (None, "neutral", True)
    await nothing_is_left(proxy)


@pytest.mark.parametrize("end", ENDS)
async def test_a_client_leaves_while_its_certificate_is_made(
    start: Start, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    with slow_minting(monkeypatch):
        proxy = await start_intercepting(start)
        client = await TlsClient.dialled(proxy.port, NOWHERE)
        await client.connect_to(NOWHERE, behind=client.inside.hello())
        await until(lambda: minting(proxy))
        leave(client, end)
        exchange = await proxy.report()
        assert (exchange.error, str(exchange.outcome), exchange.client_left) == (None, "neutral", True)
        await nothing_is_left(proxy)


@pytest.mark.parametrize("apart", range(6))
@pytest.mark.parametrize("end", ENDS)
async def test_a_client_leaves_just_as_its_certificate_is_there(
    start: Start, monkeypatch: pytest.MonkeyPatch, end: str, apart: int
) -> None:
    with slow_minting(monkeypatch) as go:
        proxy = await start_intercepting(start)
        client = await TlsClient.dialled(proxy.port, NOWHERE)
        await client.connect_to(NOWHERE, behind=client.inside.hello())
        await until(lambda: minting(proxy))
        if apart % 2:
            go()
            await turns(apart)
            leave(client, end)
        else:
            leave(client, end)
            await turns(apart)
            go()
        exchange = await proxy.report()
        assert str(exchange.outcome) == "neutral"
        assert exchange.client_left
        await nothing_is_left(proxy)


@pytest.mark.parametrize("end", ENDS)
async def test_a_client_leaves_in_the_handshake(start: Start, end: str) -> None:
    proxy = await start_intercepting(start)
    client = await TlsClient.dialled(proxy.port, NOWHERE)
    await client.connect_to(NOWHERE, behind=client.inside.hello())
    await client.inside.reader.readexactly(1)
    leave(client, end)
    exchange = await proxy.report()
    assert isinstance(exchange.error, ClientTlsFailed)
    assert (str(exchange.outcome), exchange.client_left) == ("neutral", True)
    await nothing_is_left(proxy)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("apart", range(4))
async def test_a_client_leaves_just_as_the_handshake_is_done(start: Start, end: str, apart: int) -> None:
    proxy = await start_intercepting(start)
    client = await TlsClient.standing(proxy.port, NOWHERE)
    await client.send_raw(await client.inside.last_flight())
    await turns(apart)
    leave(client, end)
    exchange = await proxy.report()
    assert str(exchange.outcome) == "neutral"
    await nothing_is_left(proxy)


async def test_what_a_client_sent_before_its_reset_does_not_disturb(start: Start) -> None:
    proxy = await start_intercepting(start)
    client = await TlsClient.standing(proxy.port, NOWHERE)
    flight = await client.inside.last_flight()
    await client.send_raw(flight + client.inside.encrypted(b"GET / HTTP/1.1\r\n"))
    leave(client, "reset")
    await proxy.report()
    await nothing_is_left(proxy)


# Time.


@pytest.mark.parametrize("share", [0, 0.5])
async def test_a_hello_has_so_much_time(start: Start, share: float) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.dialled(proxy.port, NOWHERE) as client:
        hello = client.inside.hello()
        await client.connect_to(NOWHERE, behind=hello[: int(share * len(hello))])
        await turns()
        proxy.clock.now += SETTINGS.timeouts.request_head - 1
        await asyncio.wait({asyncio.create_task(proxy.reported.wait())}, timeout=0.25)
        assert not proxy.exchanges
        proxy.clock.now += 1
        assert await _end(client) == b""
        await _timed_out(proxy)
    await nothing_is_left(proxy)


async def test_an_upstream_may_have_a_time_of_its_own_for_the_hello(start: Start) -> None:
    """As in a tunnel to it."""
    entries = sections()["upstreams"]
    short = tuple(replace(entry, timeouts=Overlay({"request_head": Seconds(2)})) for entry in entries)
    proxy = await start_intercepting(start, upstreams=short)
    async with await TlsClient.dialled(proxy.port, NOWHERE) as client:
        await client.connect_to(NOWHERE)
        proxy.clock.now += 2
        assert await _end(client) == b""
        await _timed_out(proxy)
    await nothing_is_left(proxy)


async def test_a_handshake_has_as_much_time_again(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.dialled(proxy.port, NOWHERE) as client:
        await client.connect_to(NOWHERE)
        proxy.clock.now += SETTINGS.timeouts.request_head - 1
        await client.send_raw(client.inside.hello())
        await client.inside.reader.readexactly(1)
        proxy.clock.now += SETTINGS.timeouts.request_head
        await _end(client)
        await _timed_out(proxy)
    await nothing_is_left(proxy)


async def _timed_out(proxy: Running) -> None:
    exchange = await proxy.report()
    assert isinstance(exchange.error, ClientTimeout)
    assert exchange.error.reason == "client_timeout"
    assert (exchange.status, str(exchange.outcome), exchange.client_left) == (200, "neutral", False)


# The end of the process.


async def test_the_stop_ends_those_who_have_come_no_further(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is awaited, for whom a certificate is made, and who is in the handshake or behind it."""
    monkeypatch.setattr("proxy.wire.drain.LAST_WORDS_S", 60.0)
    proxy = await start_intercepting(start)
    clients = [await TlsClient.dialled(proxy.port, NOWHERE) for _ in range(4)]
    awaited, minted, shaking, idle = clients
    await idle.connect_to(NOWHERE)
    await idle.inside.shake()
    await shaking.connect_to(NOWHERE, behind=shaking.inside.hello())
    await shaking.inside.reader.readexactly(1)
    await awaited.connect_to(NOWHERE)
    with slow_minting(monkeypatch) as go:
        other = "other.localhost:9"
        minted = await TlsClient.dialled(proxy.port, other)
        await minted.connect_to(other, behind=minted.inside.hello())
        await until(lambda: minting(proxy))
        stopping = asyncio.create_task(proxy.sidecar.stop())
        await asyncio.sleep(0)
        go()
        async with asyncio.timeout(5):
            await stopping
    assert await idle.rest() == b""
    assert not idle.inside.was_cut
    for client in (awaited, minted, shaking):
        await _end(client)
    for client in (*clients, minted):
        client.close()
    await proxy.report(4)
    told = [exchange.error.reason if exchange.error else None for exchange in proxy.exchanges]
    assert sorted(told, key=str) == [None, "draining", "draining", "draining"]
    await nothing_is_left(proxy)


async def test_nobody_is_waited_for_who_is_idle_inside_of_a_connect(start: Start) -> None:
    proxy = await start_intercepting(start)
    async with await TlsClient.through(proxy.port, NOWHERE) as client:
        proxy.clock.now += 1
        draining = asyncio.create_task(proxy.sidecar.drain())
        await asyncio.sleep(0)
        proxy.clock.now += SETTINGS.drain.quiet
        async with asyncio.timeout(5):
            await draining
            await proxy.sidecar.stop()
        assert await client.rest() == b""
        assert not client.inside.was_cut
    await nothing_is_left(proxy)


# Who may, and what cannot.


async def test_credentials_are_given_once_and_hold_for_all_that_is_inside(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "credentials"
    path.write_text(credentials.line() + credentials.line("other", credentials.OTHER))
    listen = Listen(proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, credentials_file=str(path))
    proxy = await start_intercepting(start, listen=listen)
    async with tls_upstream(SERVE) as upstream:
        fields = {"ci": credentials.field(), "other": credentials.field("other", credentials.OTHER)}
        for count, (name, field) in enumerate(fields.items()):
            through = TlsClient.through(proxy.port, upstream.authority, None, field)
            async with await through as client:
                await ask(client, upstream)
                # What is inside is the upstream's affair, right or wrong.
                await client.send(inside("GET", upstream.authority, "/", "Proxy-Authorization: Basic !"))
                assert (await client.answer()).status == 200
            assert [exchange.client_name for exchange in proxy.exchanges[3 * count :]] == [name] * 3
        async with await Client.connect(proxy.port) as stranger:
            await stranger.send(request("CONNECT", upstream.authority))
            assert (await stranger.answer("CONNECT")).status == 407
        received = bytes(upstream.connections[0].received)
        assert b"Proxy-Auth" not in received
    await proxy.report(7)


@pytest.mark.parametrize("cause", ["ended", "descriptors"])
async def test_without_a_certificate_the_connection_is_closed(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cause: str,
) -> None:
    proxy = await start_intercepting(start)
    if cause == "ended":
        monkeypatch.setattr(mint, "_context", _ended)
    else:
        monkeypatch.setattr(os, "memfd_create", _no_descriptor)
    async with await TlsClient.standing(proxy.port, NOWHERE) as client:
        with pytest.raises(ConnectionError):
            await client.inside.shake()
        exchange = await proxy.report()
        assert isinstance(exchange.error, ProxyInternalError)
        assert exchange.error.error_type == "proxy_internal_error"
        assert exchange.error.details in {"it has ended", "Too many open files"}
        assert (exchange.status, str(exchange.outcome)) == (200, "neutral")
    await nothing_is_left(proxy)
    assert not any(record.exc_info for record in caplog.records), "a reason, not a trace"
    monkeypatch.undo()
    # The next one tries again.
    async with await TlsClient.through(proxy.port, NOWHERE):
        await proxy.report(2)


def _ended(_: bytes) -> ssl.SSLContext:
    raise mint.LeafFault("it has ended")


def _no_descriptor(*_: object) -> int:
    raise OSError(24, "Too many open files")


def minting(proxy: Running) -> bool:
    leaves = proxy.sidecar.data_plane.provisions.leaves
    return leaves is not None and leaves.minting > 0


async def _end(client: TlsClient) -> bytes:
    """What the proxy still says, past TLS, up to its end."""
    try:
        return await client.inside.reader.read()
    except ConnectionResetError:
        return b""


# Whatever else.


async def _walk(port: int, authority: str, chance: random.Random) -> None:
    """Goes some way as a client should, and ends there in one way or another."""
    client = await TlsClient.dialled(port, authority)
    hello = client.inside.hello()
    cut = chance.randrange(len(hello) + 1)
    request_bytes = inside("GET", authority)
    with suppress(ConnectionError, ssl.SSLError):
        await client.connect_to(authority, behind=hello[:cut])
        way = chance.randrange(7)
        if way > 0:
            await client.send_raw(hello[cut:])
        if way == 2:
            await client.inside.reader.read(1)
        elif way == 3:
            await client.send_raw(chance.randbytes(chance.randrange(1, 3000)))
        elif way > 3:
            await client.inside.shake()
        if way > 4:
            await client.send(request_bytes[: chance.randrange(len(request_bytes))])
            await client.send(request_bytes if way == 6 else b"")
        await turns(chance.randrange(8))
        if chance.randrange(2):
            client.inside.writer.write(client.inside.close_notify())
    leave(client, chance.choice(ENDS))


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_a_client_does_it_leaves_nothing_behind(start: Start, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- the same walks each time
    proxy = await start_intercepting(start)
    async with tls_upstream(SERVE) as upstream:
        authority = f"localhost:{upstream.port}"
        for _ in range(10):
            async with asyncio.timeout(10):
                await asyncio.gather(*(_walk(proxy.port, authority, chance) for _ in range(8)))
        listeners = proxy.sidecar.data_plane.listeners.values()
        await until(
            lambda: not proxy.sidecar.data_plane.clients and not any(each.connections for each in listeners)
        )
    assert sum(exchange.entry is Entry.TUNNEL for exchange in proxy.exchanges) == 80
    assert {str(exchange.outcome) for exchange in proxy.exchanges} <= {"neutral", "success"}
    assert not any(isinstance(exchange.error, ProxyInternalError) for exchange in proxy.exchanges)
