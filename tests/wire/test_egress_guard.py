"""The egress guard end to end: whatever a name or a literal leads to, nothing private is connected to.

Of loopback one address stands for the internet (`ways.PUBLIC`). The others are private, and listened on at
the same port.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.client import Client, get
from support.dns import DnsServer, Known, Record, Trouble
from support.inside import Inside
from support.metrics import nonzero, samples
from support.process import free_port
from support.sidecar import Running, Start
from support.upstream import OK, Expect, ScriptedUpstream, Send
from support.ways import (
    ANY,
    FORWARD,
    INTERNAL,
    PUBLIC,
    REVERSE,
    TUNNEL,
    WAYS,
    WEBSOCKET,
    Told,
    Way,
    hear,
    networks,
    patterns,
)

from proxy.core.egress import AllowedAddresses, Egress, HostRules, Hosts
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, Endpoint, Listen, Upstream
from proxy.core.ports import Ports

ONE_FAILURE = CircuitPolicy(consecutive_failures=1, open_jitter=0.0)
# So much later, no kept-alive connection and no answer of a resolver is fresh any more.
LATER_S = 400

each_way = pytest.mark.parametrize("way", WAYS, ids=str)


@pytest.fixture
def inside() -> Iterator[Inside]:
    """The private service; what was not announced by `expected` must not have been reached."""
    with Inside("127.0.0.1", "127.0.0.3", "::1") as service:
        yield service
        assert service.reached == []


def public(inside: Inside, *scripts: object) -> ScriptedUpstream:
    """The upstream that may be called, at the port of the private service."""
    return ScriptedUpstream(*scripts, host=PUBLIC, port=inside.port)  # type: ignore[arg-type]


def denials(proxy: Running) -> dict[str, float]:
    return nonzero(samples(proxy.sidecar.metrics), "denied_total")


def assert_denied(told: Told, proxy: Running, way: Way, authority: str, address: str | None = None) -> None:
    """It was refused for its address, and nothing else has happened."""
    assert (told.status, told.reason) == (502, "address_denied")
    assert told.setting == way.setting
    assert told.phrase == f"Address denied by {way.setting}"
    if authority[0].isalpha():
        # What a name has led to is for the log alone.
        for text in (b"127.0.0.1", b"127.0.0.3", b"::1", b"7f00:1", b"0.0.0.0", b"10.0.0.1"):
            assert text not in told.head + told.content
    exchange = proxy.exchanges[-1]
    assert str(exchange.outcome) == "neutral"
    assert exchange.connect_s is None
    assert exchange.address is not None
    if address is not None:
        assert exchange.address == address


PRIVATE = {
    "ipv4": ["127.0.0.1"],
    "ipv6": ["::1"],
    "both": ["127.0.0.1", "::1"],
    "several": ["127.0.0.1", "127.0.0.3"],
    "mapped": ["::ffff:7f00:1"],
    "nat64": ["64:ff9b::7f00:1"],
    "6to4": ["2002:7f00:1::1"],
    "compatible": ["::7f00:1"],
    "unspecified": ["0.0.0.0"],
    "unspecified ipv6": ["::"],
    "unspecified mapped": ["::ffff:0:0"],
    "private": ["10.0.0.1"],
    "alias": "inside.test",
    "alias of an alias": "alias.test",
}


@each_way
@pytest.mark.parametrize("answer", PRIVATE.values(), ids=PRIVATE.keys())
async def test_a_name_for_private_addresses_only(
    start: Start, inside: Inside, way: Way, answer: list[str] | str
) -> None:
    names = {"a.test": answer, "alias.test": "inside.test", "inside.test": ["127.0.0.1", "::1"]}
    authority = f"a.test:{inside.port}"
    async with DnsServer(names) as dns:
        proxy = await way.begin(start, authority, dns=dns)
        told = await way.ask(proxy, authority)
    assert_denied(told, proxy, way, authority)
    assert proxy.state(way.key(authority)) is None
    assert denials(proxy) == {"denied_total{enforced=true,reason=address_denied}": 1}


@each_way
async def test_a_name_of_this_machines_own_hosts_file(start: Start, inside: Inside, way: Way) -> None:
    authority = f"localhost:{inside.port}"
    async with DnsServer({}) as dns:
        proxy = await way.begin(start, authority, dns=dns)
        told = await way.ask(proxy, authority)
        assert dns.asked == []
    assert_denied(told, proxy, way, authority)


LITERALS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.0.0.3",
    "0.0.0.0",
    "10.0.0.1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::0001]",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7F00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[::127.0.0.1]",
    "[::]",
]


@each_way
@pytest.mark.parametrize("literal", LITERALS)
async def test_a_literal_is_refused_before_it_has_a_circuit(
    start: Start, inside: Inside, way: Way, literal: str
) -> None:
    authority = f"{literal}:{inside.port}"
    proxy = await way.begin(start, authority)
    told = await way.ask(proxy, authority)
    assert_denied(told, proxy, way, authority)
    assert proxy.sidecar.data_plane.handler.begun == 0
    assert len(proxy.sidecar.circuits) == 0


@pytest.mark.parametrize("way", [FORWARD, TUNNEL], ids=str)
@pytest.mark.parametrize(
    "number",
    [
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1..",
        "127.0.0.0x1",
        "%31%32%37.0.0.1",
        "[::1%lo]",
        "[::1%25lo]",
        "[fe80::1%25lo]",
        "[::ffff:127.1]",
        "[127.0.0.1]",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "\u2460\u2461\u2466.0.0.1",
    ],
)
async def test_a_number_that_only_some_take_for_an_address_is_no_host(
    start: Start, inside: Inside, way: Way, number: str
) -> None:
    async with DnsServer({number: ["127.0.0.1"]}) as dns:
        proxy = await way.begin(start, dns=dns)
        async with await Client.connect(proxy.port) as client:
            await client.send(way.request(f"{number}:{inside.port}"))
            assert (await hear(client)).status == 400
        assert dns.asked == []
    assert len(proxy.sidecar.circuits) == 0


@each_way
@pytest.mark.parametrize("ttl", [0, 60])
async def test_an_answer_that_changes_to_a_private_address(
    start: Start, inside: Inside, way: Way, ttl: int
) -> None:
    """DNS rebinding: what was public a moment ago is not any more."""
    names = {"a.test": Record(addresses=[PUBLIC], ttl=ttl)}
    authority = f"a.test:{inside.port}"
    async with DnsServer(names) as dns, way.upstream(PUBLIC, inside.port):
        proxy = await way.begin(start, authority, dns=dns)
        assert (await way.ask(proxy, authority)).status == way.passed
        for address in ("127.0.0.1", "::1", "127.0.0.3"):
            names["a.test"] = Record(addresses=[address], ttl=ttl)
            asked = len(dns.asked)
            # What is remembered leads where it was allowed to.
            assert (await way.ask(proxy, authority)).status == way.passed
            assert len(dns.asked) == asked
            told = await asked_anew(proxy, way, authority, dns)
            assert_denied(told, proxy, way, authority, address)
            # Nor by what is remembered now.
            assert_denied(await way.ask(proxy, authority), proxy, way, authority, address)
            names["a.test"] = Record(addresses=[PUBLIC], ttl=ttl)
            assert (await asked_anew(proxy, way, authority, dns)).status == way.passed


def later(proxy: Running, seconds: float) -> None:
    """Moves the clock, and sweeps: or who connects next would seem to have connected so long ago."""
    proxy.clock.now += seconds
    proxy.sidecar.data_plane.clients.sweep(proxy.clock.now)


async def asked_anew(proxy: Running, way: Way, authority: str, dns: DnsServer) -> Told:
    """Asks once what is remembered is too old: the proxy's by its clock, and that of c-ares.

    c-ares forgets in a thread of its own, for which our clock is too fast, and each family by itself.
    """
    asked = len(dns.asked)
    while True:
        later(proxy, LATER_S)
        told = await way.ask(proxy, authority)
        if {kind for _, kind in dns.asked[asked:]} == {"A", "AAAA"}:
            return told


@each_way
async def test_an_answer_that_comes_over_tcp(start: Start, inside: Inside, way: Way) -> None:
    authority = f"a.test:{inside.port}"
    known = Record(addresses=["127.0.0.1", "::1"], truncated=True)
    async with DnsServer({"a.test": known}, tcp=True) as dns:
        proxy = await way.begin(start, authority, dns=dns)
        assert_denied(await way.ask(proxy, authority), proxy, way, authority)
        assert dns.asked_by_tcp


@pytest.mark.parametrize("trouble", [Trouble.SERVFAIL, Trouble.REFUSED])
async def test_a_stale_answer_is_vetted_when_it_is_used(start: Start, trouble: Trouble) -> None:
    """It was asked for under the rules of one upstream, and serves one with others as well."""
    names: dict[str, Known] = {"a.test": ["127.0.0.1"]}
    async with ScriptedUpstream([Expect(), Send(OK)]) as upstream, DnsServer(names) as dns:
        free = Upstream(
            match=HostPattern.parse(f"a.test:{upstream.port}"),
            egress=Overlay({"addresses": AllowedAddresses.ANY}),
        )
        proxy = await FORWARD.begin(start, dns=dns, egress=Egress(), upstreams=(free,))
        allowed = f"a.test:{upstream.port}"
        assert (await FORWARD.ask(proxy, allowed)).status == 200
        names["a.test"] = trouble
        later(proxy, 10)
        assert (await TUNNEL.ask(proxy, allowed)).status == 200
        connections = len(upstream.connections)
        with Inside("127.0.0.1") as inside:
            for way in (FORWARD, TUNNEL, WEBSOCKET):
                authority = f"a.test:{inside.port}"
                assert_denied(await way.ask(proxy, authority), proxy, way, authority, "127.0.0.1")
            assert inside.reached == []
        assert len(upstream.connections) == connections
        found = samples(proxy.sidecar.metrics)
        assert found["dns_lookups_total{result=stale}"] == 4


@pytest.mark.parametrize("way", [FORWARD, REVERSE, INTERNAL], ids=str)
async def test_a_second_try_asks_and_vets_anew(start: Start, inside: Inside, way: Way) -> None:
    """A kept-alive connection ends as the request goes out; by now the name leads inside."""
    names = {"a.test": [PUBLIC]}
    authority = f"a.test:{inside.port}"
    async with DnsServer(names) as dns:
        async with public(inside, [Expect(), Send(OK), Expect()]) as upstream:
            proxy = await way.begin(start, authority, dns=dns)
            assert (await way.ask(proxy, authority)).status == 200
            names["a.test"] = ["127.0.0.1"]
            # The answer is not remembered any more, the connection still is.
            later(proxy, 3)
            assert_denied(await way.ask(proxy, authority), proxy, way, authority, "127.0.0.1")
            assert upstream.connections[0].received.count(b"GET") == 2


@each_way
@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "127.0.0.1"],
        [PUBLIC, "::1"],
        ["::1", "127.0.0.1", PUBLIC, "::ffff:7f00:1", "0.0.0.0"],
    ],
    ids=len,
)
async def test_of_mixed_answers_only_the_public_address_is_called(
    start: Start, inside: Inside, way: Way, answer: list[str]
) -> None:
    authority = f"a.test:{inside.port}"
    async with DnsServer({"a.test": answer}) as dns:
        proxy = await way.begin(start, authority, dns=dns)
        async with way.upstream(PUBLIC, inside.port):
            assert (await way.ask(proxy, authority)).status == way.passed
            assert proxy.exchanges[0].address == PUBLIC
        # Not even where the public one refuses, so that the others would be next.
        later(proxy, LATER_S)
        told = await way.ask(proxy, authority)
        assert (told.status, told.reason) == (502, "connection_refused")
    assert denials(proxy) == {}


@each_way
async def test_of_several_public_addresses_one_that_answers_is_found(
    start: Start, inside: Inside, way: Way
) -> None:
    """Denied, refusing and good ones (RFC 8305 among those that may be called)."""
    authority = f"a.test:{inside.port}"
    egress = way.egress if way.internal else Egress(allow=networks(PUBLIC, "127.0.0.4"))
    for answer in (["127.0.0.1", "127.0.0.4", PUBLIC, "::1"], [PUBLIC, "127.0.0.4", "127.0.0.1"]):
        async with DnsServer({"a.test": answer}) as dns, way.upstream(PUBLIC, inside.port):
            proxy = await way.begin(start, authority, dns=dns, egress=egress)
            assert (await way.ask(proxy, authority)).status == way.passed


@each_way
@pytest.mark.parametrize("host", ["a.test", "127.0.0.1", "[::1]"])
async def test_the_answer_is_the_same_whether_or_not_anything_is_there(
    start: Start, way: Way, host: str
) -> None:
    async with DnsServer({"a.test": ["127.0.0.1", "::1"]}) as dns:
        with Inside("127.0.0.1", "::1") as inside:
            authority = f"{host}:{inside.port}"
            proxy = await way.begin(start, authority, dns=dns)
            there = await way.ask(proxy, authority)
            assert inside.reached == []
        assert_denied(there, proxy, way, authority)
        assert await way.ask(proxy, authority) == there


@each_way
async def test_an_open_circuit_is_not_fed_and_a_probe_is_given_back(
    start: Start, inside: Inside, way: Way
) -> None:
    names = {"a.test": [PUBLIC]}
    authority = f"a.test:{inside.port}"
    key = way.key(authority)
    async with DnsServer(names) as dns:
        proxy = await way.begin(start, authority, dns=dns, circuit=ONE_FAILURE)
        assert (await way.ask(proxy, authority)).reason == "connection_refused"
        assert proxy.state(key) == "open"
        names["a.test"] = ["127.0.0.1"]
        asked = len(dns.asked)
        assert (await way.ask(proxy, authority)).reason == "circuit_open"
        assert len(dns.asked) == asked
        circuit = proxy.sidecar.circuits.get(key)
        assert circuit is not None
        # There is one slot for probes: a second one that is let in shows that the first was given back.
        for _ in range(3):
            later(proxy, LATER_S)
            told = await way.ask(proxy, authority)
            assert_denied(told, proxy, way, authority)
            assert (proxy.state(key), circuit.in_flight) == ("half_open", 0)
        names["a.test"] = [PUBLIC]
        later(proxy, LATER_S)
        async with way.upstream(PUBLIC, inside.port):
            for _ in range(3):
                assert (await way.ask(proxy, authority)).status == way.passed
        assert proxy.state(key) == "closed"


async def test_a_connection_of_an_internal_route_is_not_for_others(start: Start) -> None:
    """The same upstream, kept alive by the route, and asked for by who may not."""
    listen = Listen(
        proxy=Endpoint("127.0.0.1", 0), admin=Endpoint("127.0.0.1", 0), reverse=Endpoint("127.0.0.1", 0)
    )
    async with ScriptedUpstream([Expect(), Send(OK)] * 9) as upstream:
        for host in ("127.0.0.1", "localhost"):
            authority = f"{host}:{upstream.port}"
            proxy = await INTERNAL.begin(start, authority, egress=Egress(), listen=listen)
            assert (await INTERNAL.ask(proxy, authority)).status == 200
            assert proxy.sidecar.data_plane.pool.idle == 1
            connections = len(upstream.connections)
            received = bytes(upstream.connections[-1].received)
            for way in (FORWARD, TUNNEL):
                assert_denied(await way.ask(proxy, authority), proxy, way, authority)
            assert proxy.state(authority) is None
            assert proxy.state(f"{authority}+internal") == "closed"
            assert len(upstream.connections) == connections
            assert bytes(upstream.connections[-1].received) == received
            assert proxy.sidecar.data_plane.pool.idle == 1
            assert (await INTERNAL.ask(proxy, authority)).status == 200
            assert len(upstream.connections) == connections


async def test_an_upstreams_own_rules_are_for_its_host_and_port_only(start: Start) -> None:
    """Its connection and its address, remembered from before, help nobody else."""
    async with (
        ScriptedUpstream([Expect(), Send(OK)] * 9) as upstream,
        DnsServer({"a.test": ["127.0.0.1"], "b.test": "a.test"}) as dns,
    ):
        own = Upstream(
            match=HostPattern.parse(f"a.test:{upstream.port}"),
            egress=Overlay({"addresses": AllowedAddresses.ANY}),
        )
        proxy = await FORWARD.begin(start, dns=dns, egress=Egress(), upstreams=(own,))
        for way in (FORWARD, TUNNEL):
            assert (await way.ask(proxy, f"a.test:{upstream.port}")).status == 200
        connections = len(upstream.connections)
        with Inside("127.0.0.1") as inside:
            for way in (FORWARD, TUNNEL):
                for authority in (
                    f"b.test:{upstream.port}",
                    f"127.0.0.1:{upstream.port}",
                    f"a.test:{inside.port}",
                ):
                    assert_denied(await way.ask(proxy, authority), proxy, way, authority)
            assert inside.reached == []
        assert len(upstream.connections) == connections


@each_way
async def test_deny_beats_allow(start: Start, inside: Inside, way: Way) -> None:
    egress = Egress(
        addresses=AllowedAddresses.ANY,
        allow=networks("127.0.0.0/8", "::/0"),
        deny=networks("127.0.0.1", "127.0.0.3", "::1"),
    )
    hosts = ("a.test", "127.0.0.1", "[::1]", "[::ffff:127.0.0.3]", "[64:ff9b::7f00:1]")
    authorities = [f"{host}:{inside.port}" for host in hosts]
    async with DnsServer({"a.test": ["127.0.0.1", "127.0.0.3", "::1"]}) as dns:
        proxy = await way.begin(start, *authorities, dns=dns, egress=egress)
        for authority in authorities:
            told = await way.ask(proxy, authority)
            assert (told.status, told.reason, told.setting) == (502, "address_denied", "egress.deny")


@each_way
@pytest.mark.parametrize("egress", [ANY, Egress(allow=networks("0.0.0.0/0", "::/0"))], ids=["any", "allow"])
async def test_our_own_listeners_are_no_upstreams_in_any_mode(start: Start, way: Way, egress: Egress) -> None:
    ports = [free_port() for _ in range(3)]
    proxy_at, admin_at, reverse_at = (Endpoint("127.0.0.1", port) for port in ports)
    listen = Listen(proxy=proxy_at, admin=admin_at, reverse=reverse_at)
    hosts = (
        "127.0.0.1",
        "127.0.0.2",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "a.test",
    )
    authorities = [f"{host}:{port}" for host in hosts for port in ports]
    async with DnsServer({"a.test": ["127.0.0.2", "::1"]}) as dns:
        proxy = await way.begin(start, *authorities, dns=dns, egress=egress, listen=listen)
        for authority in authorities:
            told = await way.ask(proxy, authority)
            assert (told.status, told.reason, told.phrase) == (502, "address_denied", "Own listener")
            assert str(proxy.exchanges[-1].outcome) == "neutral"
        # None of these came in again by the other side.
        assert len(proxy.exchanges) == len(authorities)
    assert len(proxy.sidecar.circuits) == 0


@each_way
@pytest.mark.parametrize("by_deny", [False, True], ids=["class", "deny"])
async def test_a_refusal_does_not_tell_which_addresses_are_ours(
    start: Start, way: Way, *, by_deny: bool
) -> None:
    ports = [free_port() for _ in range(3)]
    proxy_at, admin_at, reverse_at = (Endpoint("127.0.0.1", port) for port in ports)
    listen = Listen(proxy=proxy_at, admin=admin_at, reverse=reverse_at)
    here, elsewhere = "127.0.0.1", "10.0.0.12"
    authorities = {host: [f"{host}:{port}" for port in ports] for host in (here, elsewhere)}
    # For a route that is called internal, only `deny` forbids anything.
    is_denied = by_deny or way.internal
    egress = replace(ANY, deny=networks(here, elsewhere)) if is_denied else Egress()
    proxy = await way.begin(start, *authorities[here], *authorities[elsewhere], egress=egress, listen=listen)
    for ours, other in zip(authorities[here], authorities[elsewhere], strict=True):
        told = await way.ask(proxy, ours)
        assert told.phrase == f"Address denied by {'egress.deny' if is_denied else 'egress.addresses'}"
        there = await way.ask(proxy, other)
        assert told.head.replace(here.encode(), b"-") == there.head.replace(elsewhere.encode(), b"-")
        assert told.content.replace(here.encode(), b"-") == there.content.replace(elsewhere.encode(), b"-")
    assert len(proxy.exchanges) == 2 * len(ports)


async def test_the_very_first_client_cannot_call_our_listeners_either(start: Start) -> None:
    """While it starts: the reverse port's address takes a moment to find, and the others listen by then."""
    ports = [free_port() for _ in range(3)]
    proxy_at, admin_at = (Endpoint("127.0.0.1", port) for port in ports[:2])
    listen = Listen(proxy=proxy_at, admin=admin_at, reverse=Endpoint("localhost", ports[2]))
    told: list[Told] = []

    async def call() -> None:
        while True:
            try:
                client = await Client.connect(ports[0])
            except ConnectionRefusedError:
                continue
            async with client:
                for port in ports[:2]:
                    await client.send(get(f"http://127.0.0.1:{port}/livez"))
                    told.append(await hear(client))
            return

    first = asyncio.create_task(call())
    await start(listen=listen, egress=ANY)
    await first
    assert [one.phrase for one in told] == ["Own listener", "Own listener"]


HOST_RULES = {
    "denied": (Hosts(deny=patterns("*.test")), "egress.hosts.deny"),
    "denied and allowed": (Hosts(allow=patterns("a.test"), deny=patterns("a.test")), "egress.hosts.deny"),
    "not allowed": (Hosts(allow=patterns("b.test")), "egress.hosts.allow"),
}


@each_way
@pytest.mark.parametrize(("hosts", "key"), HOST_RULES.values(), ids=HOST_RULES.keys())
async def test_a_host_that_is_denied_is_not_even_asked_for(
    start: Start, inside: Inside, way: Way, hosts: Hosts, key: str
) -> None:
    authority = f"a.test:{inside.port}"
    behind = get(f"http://b.test:{inside.port}/smuggled") if way is TUNNEL else b""
    async with DnsServer({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]}) as dns:
        proxy = await way.begin(
            start, authority, dns=dns, egress=Egress(addresses=AllowedAddresses.ANY, hosts=hosts)
        )
        told = await way.ask(proxy, authority, behind)
        assert dns.asked == []
    assert (told.status, told.reason) == (way.denied_status, "host_denied")
    assert told.setting == key
    assert str(proxy.exchanges[-1].outcome) == "neutral"
    assert len(proxy.sidecar.circuits) == 0
    assert denials(proxy) == {"denied_total{enforced=true,reason=host_denied}": 1}


@pytest.mark.parametrize("host", ["inside.test", "127.0.0.1", "denied.test"])
async def test_nothing_behind_a_refused_connect_is_carried_out(
    start: Start, inside: Inside, host: str
) -> None:
    egress = Egress(allow=networks(PUBLIC), hosts=Hosts(deny=patterns("denied.test")))
    async with (
        DnsServer({"a.test": [PUBLIC], "inside.test": ["127.0.0.1"]}) as dns,
        public(inside, [Expect(), Send(OK)]) as upstream,
    ):
        proxy = await TUNNEL.begin(start, dns=dns, egress=egress)
        behind = get(f"http://a.test:{inside.port}/smuggled")
        told = await TUNNEL.ask(proxy, f"{host}:{inside.port}", behind)
        assert told.status == 502
        assert upstream.connections == []
    assert len(proxy.exchanges) == 1


@each_way
async def test_rules_that_only_report_let_pass_and_are_counted(
    start: Start, inside: Inside, way: Way
) -> None:
    hosts = Hosts(deny=patterns("*.test"), mode=HostRules.REPORT)
    egress = Egress(allow=way.egress.allow, deny=way.egress.deny, hosts=hosts)
    passing, denied = f"a.test:{inside.port}", f"b.test:{inside.port}"
    async with (
        DnsServer({"a.test": [PUBLIC], "b.test": ["127.0.0.1"]}) as dns,
        way.upstream(PUBLIC, inside.port),
    ):
        proxy = await way.begin(start, passing, denied, dns=dns, egress=egress)
        assert (await way.ask(proxy, passing)).status == way.passed
        assert proxy.exchanges[0].unenforced == "host_denied"
        assert denials(proxy) == {"denied_total{enforced=false,reason=host_denied}": 1}
        # The addresses are no matter of theirs.
        assert_denied(await way.ask(proxy, denied), proxy, way, denied)
    assert denials(proxy) == {
        "denied_total{enforced=false,reason=host_denied}": 2,
        "denied_total{enforced=true,reason=address_denied}": 1,
    }


@each_way
async def test_ports_are_for_tunnels(start: Start, inside: Inside, way: Way) -> None:
    egress = Egress(allow=networks(PUBLIC), deny=way.egress.deny, connect_ports=Ports.parse([443]))
    authority = f"a.test:{inside.port}"
    async with DnsServer({"a.test": [PUBLIC]}) as dns, way.upstream(PUBLIC, inside.port) as upstream:
        proxy = await way.begin(start, authority, dns=dns, egress=egress)
        told = await way.ask(proxy, authority, get(f"http://{authority}/") if way is TUNNEL else b"")
        if way is not TUNNEL:
            assert told.status == way.passed
            return
        assert (told.status, told.reason, told.setting) == (502, "port_denied", "egress.connect_ports")
        assert (dns.asked, upstream.connections) == ([], [])
    assert len(proxy.sidecar.circuits) == 0
    assert denials(proxy) == {"denied_total{enforced=true,reason=port_denied}": 1}


@each_way
async def test_an_upstream_may_have_host_rules_and_addresses_of_its_own(
    start: Start, inside: Inside, way: Way
) -> None:
    upstreams = (
        Upstream(
            match=HostPattern.parse("a.test"), egress=Overlay({"hosts": Hosts(deny=patterns("a.test"))})
        ),
        Upstream(match=HostPattern.parse("b.test"), egress=Overlay({"deny": networks(PUBLIC)})),
    )
    authorities = [f"{name}.test:{inside.port}" for name in "abc"]
    async with (
        DnsServer({"a.test": [PUBLIC], "b.test": [PUBLIC], "c.test": [PUBLIC]}) as dns,
        way.upstream(PUBLIC, inside.port),
    ):
        proxy = await way.begin(start, *authorities, dns=dns, upstreams=upstreams)
        told = [await way.ask(proxy, authority) for authority in authorities]
    assert [one.status for one in told] == [way.denied_status, 502, way.passed]
    assert [one.reason for one in told] == ["host_denied", "address_denied", None]
    assert told[1].setting == "egress.deny"
