"""The beginning of a tunnel: what each side says first, and what the permit settles on."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import certificates
from support.certificates import NAME
from support.client import Client, tunnel
from support.metrics import nonzero, samples
from support.sidecar import SETTINGS, Running, Start
from support.tls_peer import Peer, hello
from support.turns import until
from support.upstream import Do, Expect, ScriptedUpstream, Send, Step, Wait

from proxy.core.acl import Acl
from proxy.core.egress import AllowedAddresses, Egress, HostRules, Hosts, SniRules
from proxy.core.errors import ClientTimeout, ConnectionTerminated, HttpRequestDenied, TlsAlertReceived
from proxy.core.exchange import Entry, Exchange
from proxy.core.host_pattern import HostPattern
from proxy.core.opening import Opening
from proxy.core.policy import CircuitPolicy
from proxy.core.target import Target
from proxy.wire.beginning import HELD_S, Beginning
from proxy.wire.client import ClientConnection

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
HELLO = hello(NAME)
# Fatal: handshake_failure.
ALERT = bytes.fromhex("15030300020228")
SERVER_HELLO = b"\x16\x03\x03\x00\x04\x02\0\0\0"
# Of TLS, and no ClientHello.
GARBAGE = b"\x16\x03\x01\x00\x05\x63\0\0\1\0"


def egress(sni: SniRules, *, deny: str = "denied.test", mode: HostRules = HostRules.ENFORCE) -> Egress:
    hosts = Hosts(deny=(HostPattern.parse(deny),), mode=mode)
    return Egress(addresses=AllowedAddresses.ANY, sni=sni, hosts=hosts)


def by_name(upstream: ScriptedUpstream) -> str:
    return f"localhost:{upstream.port}"


def denied(proxy: Running) -> dict[str, float]:
    return nonzero(samples(proxy.sidecar.metrics), "denied_total")


async def end_of(client: Client) -> bytes:
    """What comes until the connection has ended; what we have not read by then resets it."""
    try:
        return await client.rest()
    except ConnectionResetError:
        return b""


async def swept(proxy: Running) -> None:
    """Waits until the sweep has seen what time it is, and a turn more."""
    await until(lambda: proxy.sidecar.data_plane.clients.now >= proxy.clock.now)


# What the upstream says first.


async def by_upstream(client: Client) -> None:
    assert await end_of(client) == b""
    client.close()


async def by_client(client: Client) -> None:
    client.close()


async def by_reset(client: Client) -> None:
    client.reset()


@pytest.mark.parametrize(
    ("last", "ends"),
    [
        ([], by_upstream),
        ([Do.RESET], by_upstream),
        ([Do.STALL], by_client),
        ([Do.STALL], by_reset),
    ],
    ids=["closed", "reset", "closed by the client", "reset by the client"],
)
async def test_a_fatal_alert_is_a_failure_whoever_closes_then(
    start: Start, last: list[Step], ends: Callable[[Client], Awaitable[None]]
) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(HELLO), Send(ALERT), *last]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, HELLO) as client:
            assert await client.reader.readexactly(len(ALERT)) == ALERT
            await ends(client)
            exchange = await proxy.report()
    assert str(exchange.outcome) == "failure(tls)"
    assert isinstance(exchange.error, TlsAlertReceived)
    assert exchange.error.details == "the upstream refused TLS: handshake_failure"
    assert proxy.state(upstream.authority) == "open"


async def test_a_fatal_alert_may_come_byte_by_byte(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    heard = [asyncio.Event() for _ in ALERT]
    script: list[Step] = [Expect(HELLO)]
    for at, event in enumerate(heard):
        script += [Send(ALERT[at : at + 1]), Wait(event)]
    async with ScriptedUpstream(script) as upstream:
        async with await tunnel(proxy.port, upstream.authority, HELLO) as client:
            for at, event in enumerate(heard):
                assert proxy.state(upstream.authority) != "open"
                assert await client.reader.readexactly(1) == ALERT[at : at + 1]
                event.set()
            assert await client.rest() == b""
        assert str((await proxy.report()).outcome) == "failure(tls)"
    assert proxy.state(upstream.authority) == "open"


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        # unrecognized_name: level 1 is a warning.
        (HELLO, bytes.fromhex("15030300020170")),
        (HELLO, SERVER_HELLO + ALERT),
        (HELLO, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        (HELLO, b"\x15\x03\x03\x00\x1a" + bytes(26)),
        (b"\x00hello", ALERT),
        (b"\x15\x03\x03", ALERT),
    ],
    ids=["a warning", "behind another record", "no TLS", "encrypted", "to no TLS", "to an alert"],
)
async def test_anything_else_is_a_success(start: Start, said: bytes, answered: bytes) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(said), Send(answered)]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, said) as client:
            assert await client.rest() == answered
        exchange = await proxy.report()
    assert (str(exchange.outcome), exchange.error) == ("success", None)
    assert proxy.state(upstream.authority) != "open"


async def test_an_alert_to_a_client_that_has_said_nothing_is_a_success(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Send(ALERT)]) as upstream:
        async with await tunnel(proxy.port, upstream.authority) as client:
            assert await client.rest() == ALERT
        assert str((await proxy.report()).outcome) == "success"


@pytest.mark.parametrize("last", [[], [Do.RESET]], ids=["closed", "reset"])
@pytest.mark.parametrize("length", [1, 6])
async def test_a_part_of_an_alert_is_no_success(start: Start, length: int, last: list[Step]) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    heard = asyncio.Event()
    async with ScriptedUpstream([Expect(HELLO), Send(ALERT[:length]), Wait(heard), *last]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, HELLO) as client:
            assert await client.reader.readexactly(length) == ALERT[:length]
            heard.set()
            assert await client.rest() == b""
        exchange = await proxy.report()
    assert str(exchange.outcome) == "failure(tunnel)"
    assert isinstance(exchange.error, ConnectionTerminated)
    assert exchange.error.details == "the upstream closed the tunnel in the middle of an alert"


async def test_a_part_of_an_alert_gives_no_more_time(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(HELLO), Send(ALERT[:3]), Do.STALL]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, HELLO) as client:
            await client.reader.readexactly(3)
            proxy.clock.now += 30
            assert await client.rest() == b""
        assert str((await proxy.report()).outcome) == "failure(tunnel)"
    assert proxy.state(upstream.authority) == "open"


async def test_real_tls_passes_and_its_name_is_known(start: Start) -> None:
    proxy = await start()
    script = [Expect(b"ping"), Send(b"pong")]
    async with ScriptedUpstream(script, tls=certificates.server()) as upstream:
        async with await tunnel(proxy.port, upstream.authority) as client:
            peer = Peer(client.reader, client.writer, certificates.client(), NAME)
            await peer.shake(b"ping")
            assert await peer.receive(4) == b"pong"
            peer.end()
        exchange = await proxy.report()
    assert (str(exchange.outcome), exchange.server_name) == ("success", NAME)


async def test_a_client_that_refuses_the_upstreams_certificate_says_nothing_of_it(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL], tls=certificates.server(is_trusted=False)) as upstream:
        async with await tunnel(proxy.port, upstream.authority) as client:
            with pytest.raises(ssl.SSLCertVerificationError):
                await Peer(client.reader, client.writer, certificates.client(), NAME).shake()
        assert str((await proxy.report()).outcome) == "success"
    assert proxy.state(upstream.authority) != "open"


async def test_tls_may_begin_in_the_middle_of_another_protocol(start: Start) -> None:
    """STARTTLS: the permit has settled by then, and no alert unsettles it."""
    proxy = await start(circuit=ONE_FAILURE)
    script: list[Step] = [Send(b"220 hi\r\n"), Expect(b"EHLO a\r\n"), Send(b"250 STARTTLS\r\n")]
    script += [Expect(b"STARTTLS\r\n"), Send(b"220 go\r\n"), Expect(HELLO), Send(ALERT)]
    async with ScriptedUpstream(script) as upstream:
        async with await tunnel(proxy.port, upstream.authority) as client:
            for line, answer in ((b"220 hi\r\n", b"EHLO a\r\n"), (b"250 STARTTLS\r\n", b"STARTTLS\r\n")):
                assert await client.reader.readline() == line
                await client.send(answer)
            assert await client.reader.readline() == b"220 go\r\n"
            await client.send(HELLO)
            assert await client.rest() == ALERT
        exchange = await proxy.report()
    assert (str(exchange.outcome), exchange.server_name, exchange.error) == ("success", None, None)


# What the client says first, and how long it is held.


@pytest.mark.parametrize(
    "said",
    [b"EHLO a\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-x\r\n", b"\0", b"GET / HTTP/1.1 \r\n"],
)
async def test_what_is_neither_tls_nor_a_request_passes_at_once(start: Start, said: bytes) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(said), Send(b"raw")]) as upstream:
        async with await tunnel(proxy.port, upstream.authority) as client:
            await client.send(said)
            assert await client.rest() == b"raw"
        exchange = await proxy.report()
    assert (str(exchange.outcome), exchange.request_bytes) == ("success", len(said))


@pytest.mark.parametrize("said", [b"G", b"GET / HTTP/1.", b"\r\n", b"hello"])
async def test_what_may_become_a_request_passes_when_it_does_not(start: Start, said: bytes) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(said), Send(b"raw"), Expect(b" more"), Send(b"!")]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, said) as client:
            proxy.clock.now += HELD_S * 0.9
            await swept(proxy)
            assert (await upstream.connection(0)).received == b""
            proxy.clock.now += HELD_S
            assert await client.reader.readexactly(3) == b"raw"
            # From then on it is nobody's affair, not even if it becomes a request.
            await client.send(b" more")
            assert await client.rest() == b"!"
        assert (await proxy.report()).entry is Entry.TUNNEL
    assert upstream.connections[0].received == said + b" more"


async def test_what_is_held_passes_in_order_when_the_upstream_speaks(start: Start) -> None:
    proxy = await start()
    held = asyncio.Event()
    script = [Wait(held), Send(b"220 hi\r\n"), Expect(b"GET / HTTP/1.1\r\n\r\n"), Send(b"raw")]
    async with ScriptedUpstream(script) as upstream:
        async with await tunnel(proxy.port, upstream.authority, b"GET / HT") as client:
            held.set()
            assert await client.reader.readline() == b"220 hi\r\n"
            await client.send(b"TP/1.1\r\n\r\n")
            assert await client.rest() == b"raw"
        exchange = await proxy.report()
    assert (exchange.entry, str(exchange.outcome)) == (Entry.TUNNEL, "success")


async def test_a_hello_that_does_not_end_is_the_clients_fault(start: Start) -> None:
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, HELLO[:100]) as client:
            proxy.clock.now += SETTINGS.timeouts.request_head - 1
            await swept(proxy)
            # More of it gives no more time.
            await client.send(HELLO[100:101])
            proxy.clock.now += 1
            assert await client.rest() == b""
        exchange = await proxy.report()
        assert upstream.connections[0].received == b""
    assert (str(exchange.outcome), exchange.status) == ("neutral", 200)
    assert isinstance(exchange.error, ClientTimeout)


# Whom it asks for.


@pytest.mark.parametrize("size", [1, 7, 100, 5000], ids=str)
async def test_another_name_is_only_reported_by_default(start: Start, size: int) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(HELLO), Send(SERVER_HELLO)]) as upstream:
        async with await tunnel(proxy.port, by_name(upstream)) as client:
            for at in range(0, len(HELLO), size):
                await client.send(HELLO[at : at + size])
                await asyncio.sleep(0)
            assert await client.rest() == SERVER_HELLO
        exchange = await proxy.report()
    assert (exchange.server_name, exchange.unenforced) == (NAME, "sni_denied")
    assert str(exchange.outcome) == "success"
    assert denied(proxy) == {"denied_total{enforced=false,reason=sni_denied}": 1}


@pytest.mark.parametrize("size", [1, 7, 100, 5000], ids=str)
async def test_another_name_is_closed_where_that_is_enforced(start: Start, size: int) -> None:
    proxy = await start(circuit=ONE_FAILURE, egress=egress(SniRules.ENFORCE))
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await tunnel(proxy.port, by_name(upstream)) as client:
            for at in range(0, len(HELLO), size):
                client.writer.write(HELLO[at : at + size])
                await asyncio.sleep(0)
            # A second one, for the right name, does not help.
            client.writer.write(hello("localhost"))
            assert await end_of(client) == b""
        exchange = await proxy.report()
        await until(lambda: upstream.connections[0].ended)
    assert upstream.connections[0].received == b""
    assert (str(exchange.outcome), exchange.server_name, exchange.unenforced) == ("neutral", NAME, None)
    assert isinstance(exchange.error, HttpRequestDenied)
    assert exchange.error.reason == "sni_denied"
    assert denied(proxy) == {"denied_total{enforced=true,reason=sni_denied}": 1}
    assert proxy.state(by_name(upstream)) != "open"


async def test_what_comes_behind_a_refused_hello_does_not_get_through(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = ClientConnection.data_received

    def in_pieces(self: ClientConnection, data: bytes) -> None:
        for at in range(0, len(data), 100):
            received(self, data[at : at + 100])

    monkeypatch.setattr(ClientConnection, "data_received", in_pieces)
    proxy = await start(egress=egress(SniRules.ENFORCE))
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await tunnel(proxy.port, by_name(upstream)) as client:
            await client.send(HELLO + hello("localhost"))
            assert await end_of(client) == b""
        assert str((await proxy.report()).outcome) == "neutral"
        await until(lambda: upstream.connections[0].ended)
    assert upstream.connections[0].received == b""


@pytest.mark.parametrize("rules", SniRules)
@pytest.mark.parametrize(
    ("is_named", "said"),
    [(True, hello("localhost")), (True, hello()), (False, hello()), (False, HELLO)],
    ids=["the same name", "no name", "no name to an address", "a name to an address"],
)
async def test_what_asks_for_nobody_else_passes(
    start: Start, rules: SniRules, said: bytes, *, is_named: bool
) -> None:
    proxy = await start(egress=egress(rules))
    async with ScriptedUpstream([Expect(said), Send(SERVER_HELLO)]) as upstream:
        authority = by_name(upstream) if is_named else upstream.authority
        async with await tunnel(proxy.port, authority, said) as client:
            assert await client.rest() == SERVER_HELLO
        exchange = await proxy.report()
    assert (str(exchange.outcome), exchange.unenforced) == ("success", None)
    assert denied(proxy) == {}


@pytest.mark.parametrize(
    "said",
    [hello("denied.test"), GARBAGE, b"\x16\x04", b"\x16GET"],
    ids=["denied", "garbage", "type", "no TLS"],
)
async def test_an_address_is_no_way_to_a_host_that_is_denied(start: Start, said: bytes) -> None:
    proxy = await start(egress=egress(SniRules.ENFORCE))
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, said) as client:
            assert await client.rest() == b""
        exchange = await proxy.report()
        await until(lambda: upstream.connections[0].ended)
        assert upstream.connections[0].received == b""
    assert str(exchange.outcome) == "neutral"
    assert denied(proxy) == {"denied_total{enforced=true,reason=sni_denied}": 1}


async def test_what_makes_no_sense_as_tls_passes_where_nothing_is_enforced(start: Start) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(GARBAGE), Send(ALERT)]) as upstream:
        async with await tunnel(proxy.port, upstream.authority, GARBAGE) as client:
            assert await client.rest() == ALERT
        assert str((await proxy.report()).outcome) == "failure(tls)"
    assert denied(proxy) == {}


async def test_an_upstream_that_speaks_into_a_hello_does_not_help_it_past_the_rule(start: Start) -> None:
    proxy = await start(egress=egress(SniRules.ENFORCE))
    held = asyncio.Event()
    async with ScriptedUpstream([Wait(held), Send(b"go on"), Do.STALL]) as upstream:
        async with await tunnel(proxy.port, by_name(upstream), HELLO[:100]) as client:
            held.set()
            client.writer.write(HELLO[100:])
            assert await end_of(client) in (b"", b"go on")
        exchange = await proxy.report()
        await until(lambda: upstream.connections[0].ended)
    assert upstream.connections[0].received == b""
    assert exchange.error is not None
    assert exchange.error.reason == "sni_denied"


# The class by itself.


@given(st.data())
def test_what_is_said_passes_whole_and_in_order_however_it_is_divided(data: st.DataObject) -> None:
    said = data.draw(
        st.sampled_from([HELLO, GARBAGE, b"GET / x\r\n", b"GET", b"\0a", b"\r\nPRI * HTTP/2.0\r\n"])
    )
    said += data.draw(st.binary(max_size=20))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=8)) | {0, len(said)})
    beginning = Beginning(
        Exchange(Entry.TUNNEL, "CONNECT", 0),
        Target("", "a", 1, "", "a:1"),
        Acl(SETTINGS.egress),
        Opening(8192),
    )
    passed = b"".join(beginning.hear(said[a:b], 0) for a, b in pairwise(cuts))
    if beginning.is_http:
        assert passed == b""
        assert beginning.held == said
        return
    assert said == passed + beginning.held
    assert passed + beginning.let_pass() == said
    assert (beginning.held, beginning.let_pass(), beginning.hear(b"x", 1)) == (b"", b"", b"x")
