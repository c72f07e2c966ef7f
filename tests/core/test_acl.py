"""Which hosts, ports and addresses may be called, and what a refusal says."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from proxy.core.acl import MAX_REMEMBERED, Acl, Indexes, OwnListeners
from proxy.core.address import IpAddress, Network
from proxy.core.client_hello import ClientHello
from proxy.core.egress import AllowedAddresses, Egress, HostRules, Hosts, SniRules
from proxy.core.errors import DestinationIpProhibited, HttpRequestDenied, ProxyError
from proxy.core.exchange import Entry, Exchange
from proxy.core.host_pattern import HostPattern
from proxy.core.ports import Ports
from proxy.core.target import Target

PUBLIC = Egress()
NO_METADATA = Egress(addresses=AllowedAddresses.NO_METADATA)
ANY = Egress(addresses=AllowedAddresses.ANY)


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(Network.parse, texts))


def patterns(*texts: str) -> tuple[HostPattern, ...]:
    return tuple(map(HostPattern.parse, texts))


def asked(acl: Acl, host: str, port: int = 80, entry: Entry = Entry.FORWARD) -> tuple[str | None, Exchange]:
    """The reason of the refusal, None if it may go on, and the exchange."""
    exchange = Exchange(entry, "GET", 0)
    try:
        acl.authorize(exchange, Target("http", host, port, "/", host))
    except ProxyError as error:
        return error.reason, exchange
    return None, exchange


def refusal(acl: Acl, address: str, port: int = 80) -> DestinationIpProhibited:
    denied = acl.vet(address, port)
    assert denied is not None
    return denied


@pytest.mark.parametrize(
    ("egress", "address", "allowed"),
    [
        (PUBLIC, "8.8.8.8", True),
        (PUBLIC, "2606:4700::1", True),
        (PUBLIC, "10.0.0.1", False),
        (PUBLIC, "127.0.0.1", False),
        (PUBLIC, "0.0.0.0", False),
        (PUBLIC, "169.254.169.254", False),
        (PUBLIC, "fe80::1%eth0", False),
        (PUBLIC, "::ffff:10.0.0.1", False),
        (PUBLIC, "64:ff9b::10.0.0.1", False),
        (PUBLIC, "64:ff9b::8.8.8.8", True),
        (NO_METADATA, "10.0.0.1", True),
        (NO_METADATA, "127.0.0.1", True),
        (NO_METADATA, "169.254.1.1", False),
        (NO_METADATA, "168.63.129.16", False),
        (NO_METADATA, "fd00:ec2::254", False),
        (NO_METADATA, "2002:a9fe:a9fe::1", False),
        (NO_METADATA, "fd00::5efe:169.254.169.254", False),
        (ANY, "169.254.169.254", True),
        (ANY, "127.0.0.1", True),
    ],
)
def test_the_class_decides(egress: Egress, address: str, *, allowed: bool) -> None:
    assert (Acl(egress).vet(address, 80) is None) is allowed


def test_allow_permits_what_its_class_would_not() -> None:
    acl = Acl(Egress(allow=networks("10.1.0.0/16", "fd00::/8")))
    assert acl.vet("10.1.2.3", 80) is None
    assert acl.vet("::ffff:10.1.2.3", 80) is None
    assert acl.vet("fd12::1", 80) is None
    assert acl.vet("10.2.0.1", 80) is not None
    # What carries it takes another way, which may lead to another 10.1.2.3.
    assert acl.vet("64:ff9b::10.1.2.3", 80) is not None


def test_deny_comes_before_allow_and_sees_what_is_carried() -> None:
    acl = Acl(
        Egress(addresses=AllowedAddresses.ANY, allow=networks("0.0.0.0/0"), deny=networks("8.8.8.0/24"))
    )
    for address in ("8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"):
        assert refusal(acl, address).phrase == "Address denied by egress.deny"
    assert acl.vet("8.8.4.4", 80) is None


def test_our_own_listeners_are_refused_whatever_the_rules_let_pass() -> None:
    own = OwnListeners(lambda address: address == ip_address("10.9.9.9"))
    own.ports = frozenset({3128})
    acl = Acl(Egress(addresses=AllowedAddresses.ANY, allow=networks("10.0.0.0/8")), own)
    internal = Acl(PUBLIC, own, is_internal=True)
    for rules in (acl, internal, Acl(ANY, own)):
        assert refusal(rules, "10.9.9.9", 3128).phrase == "Own listener"
        assert refusal(rules, "64:ff9b::10.9.9.9", 3128).phrase == "Own listener"
        assert rules.vet("10.9.9.9", 3129) is None
        assert rules.vet("10.9.9.8", 3128) is None


@pytest.mark.parametrize(
    ("egress", "phrase"),
    [
        (PUBLIC, "Address denied by egress.addresses"),
        (
            Egress(addresses=AllowedAddresses.ANY, deny=networks("10.0.0.0/8")),
            "Address denied by egress.deny",
        ),
    ],
)
def test_of_what_the_rules_forbid_nobody_learns_whether_it_is_ours(egress: Egress, phrase: str) -> None:
    own = OwnListeners(lambda address: address == ip_address("10.9.9.9"))
    own.ports = frozenset({3128})
    acl = Acl(egress, own)
    for address in ("10.9.9.9", "10.9.9.8", "64:ff9b::10.9.9.9", "64:ff9b::10.9.9.8"):
        told = [refusal(acl, address, port) for port in (3128, 3129)]
        assert {one.phrase for one in told} == {phrase}
        assert len({one.details for one in told}) == 1


def test_the_kernel_is_asked_only_for_ports_of_ours_and_what_the_rules_let_pass() -> None:
    heard: list[IpAddress] = []

    def is_local(address: IpAddress) -> bool:
        heard.append(address)
        return False

    own = OwnListeners(is_local)
    own.ports = frozenset({3128})
    acl = Acl(ANY, own)
    assert acl.vet("10.0.0.1", 80) is None
    assert Acl(PUBLIC, own).vet("10.0.0.1", 3128) is not None
    assert heard == []
    assert acl.vet("10.0.0.1", 3128) is None
    assert heard == [ip_address("10.0.0.1")]


def test_internal_is_not_asked_for_its_class() -> None:
    acl = Acl(Egress(deny=networks("10.6.0.0/16")), is_internal=True)
    assert acl.vet("10.0.0.1", 80) is None
    assert acl.vet("169.254.169.254", 80) is None
    assert acl.vet("10.6.0.1", 80) is not None


@pytest.mark.parametrize(
    ("acl", "address", "details"),
    [
        (
            Acl(PUBLIC),
            "10.0.0.1",
            "egress.addresses forbids the address of the upstream; egress.allow could permit it",
        ),
        (Acl(Egress(deny=networks("8.8.8.8"))), "8.8.8.8", "egress.deny forbids the address of the upstream"),
    ],
)
def test_a_refusal_says_which_setting_would_have_to_change(acl: Acl, address: str, details: str) -> None:
    error = refusal(acl, address)
    assert (error.details, error.reason, error.status) == (details, "address_denied", 502)


def test_an_address_in_the_request_is_vetted_at_once_and_told_the_log() -> None:
    reason, exchange = asked(Acl(PUBLIC), "10.0.0.1")
    assert (reason, exchange.address) == ("address_denied", "10.0.0.1")
    assert asked(Acl(PUBLIC), "::1")[0] == "address_denied"
    assert asked(Acl(PUBLIC), "8.8.8.8")[0] is None
    # A second time, from memory.
    acl = Acl(PUBLIC)
    assert [asked(acl, "10.0.0.1")[0] for _ in range(2)] == ["address_denied"] * 2
    assert [asked(acl, "10.example.com")[0] for _ in range(2)] == [None, None]


def test_an_own_listener_in_the_request_is_refused_in_every_mode() -> None:
    own = OwnListeners(lambda _: True)
    acl = Acl(ANY, own)
    assert asked(acl, "127.0.0.1", 3128)[0] is None
    own.ports = frozenset({3128})
    assert asked(acl, "127.0.0.1", 3128)[0] == "address_denied"


@pytest.mark.parametrize(
    ("hosts", "host", "key"),
    [
        (Hosts(), "anything.example", None),
        (Hosts(allow=patterns("*.example.com")), "a.example.com", None),
        (Hosts(allow=patterns("*.example.com")), "example.com", "egress.hosts.allow"),
        (Hosts(allow=patterns("*.example.com")), "8.8.8.8", "egress.hosts.allow"),
        (Hosts(allow=patterns("a:443")), "a", "egress.hosts.allow"),
        (Hosts(deny=patterns("a.example.com")), "a.example.com", "egress.hosts.deny"),
        (Hosts(deny=patterns("a.example.com")), "b.example.com", None),
        (Hosts(allow=patterns("a"), deny=patterns("*")), "a", "egress.hosts.deny"),
        (Hosts(allow=()), "a", "egress.hosts.allow"),
    ],
)
def test_hosts_by_name(hosts: Hosts, host: str, key: str | None) -> None:
    exchange = Exchange(Entry.FORWARD, "GET", 0)
    acl = Acl(Egress(hosts=hosts))
    target = Target("http", host, 80, "/", host)
    if key is None:
        acl.authorize(exchange, target)
        return
    with pytest.raises(HttpRequestDenied) as caught:
        acl.authorize(exchange, target)
    error = caught.value
    assert (error.status, error.connect_status, error.reason) == (403, 502, "host_denied")
    assert error.phrase == f"Host denied by {key}"
    assert error.details.startswith(key)


def test_rules_that_only_report_let_pass_and_say_so() -> None:
    acl = Acl(Egress(hosts=Hosts(deny=patterns("a", "10.0.0.1", "8.8.8.8"), mode=HostRules.REPORT)))
    reason, exchange = asked(acl, "a")
    assert (reason, exchange.unenforced) == (None, "host_denied")
    assert asked(acl, "b")[1].unenforced is None
    # Addresses are no matter of host rules.
    reason, exchange = asked(acl, "10.0.0.1")
    assert (reason, exchange.unenforced) == ("address_denied", "host_denied")
    assert asked(acl, "8.8.8.8")[0] is None


def test_ports_of_tunnels() -> None:
    acl = Acl(Egress(connect_ports=Ports.parse([443, "8000-8999"]), hosts=Hosts(mode=HostRules.REPORT)))
    assert asked(acl, "a", 443, Entry.TUNNEL)[0] is None
    assert asked(acl, "a", 8500, Entry.TUNNEL)[0] is None
    assert asked(acl, "a", 80, Entry.TUNNEL)[0] == "port_denied"
    assert asked(acl, "a", 80)[0] is None
    assert asked(acl, "a", 80, Entry.REVERSE)[0] is None


NO_TLS = object()
A, ADDRESS = "a.example", "8.8.8.8"
SNI_RULES = Egress(
    connect_ports=Ports.parse([443]),
    hosts=Hosts(
        allow=patterns("*.example", ADDRESS, "1.1.1.1"), deny=patterns("denied.example", "port.example:443")
    ),
)


@pytest.mark.parametrize(
    ("host", "name", "passes"),
    [
        (A, A, True),
        # Who names nobody asks for nobody else.
        (A, None, True),
        (ADDRESS, None, True),
        (A, "b.example", False),
        (A, "a.example.", False),
        (A, ADDRESS, False),
        (A, NO_TLS, False),
        (ADDRESS, NO_TLS, False),
        # Where the CONNECT has no name to compare it with, the rules on hosts say of it.
        (ADDRESS, "b.example", True),
        ("2606:4700::1", "b.example", True),
        (ADDRESS, "denied.example", False),
        (ADDRESS, "port.example", False),
        (ADDRESS, "b.invalid", False),
        (ADDRESS, ADDRESS, True),
        # An address is no name; it would be another one than that of the CONNECT.
        (ADDRESS, "1.1.1.1", False),
    ],
)
@pytest.mark.parametrize("rules", SniRules)
def test_for_whom_tls_inside_of_a_tunnel_may_ask(
    rules: SniRules, host: str, name: str | object | None, *, passes: bool
) -> None:
    acl = Acl(replace(SNI_RULES, sni=rules))
    exchange = Exchange(Entry.TUNNEL, "CONNECT", 0)
    target = Target("", host, 443, "", f"{host}:443")
    hello = ClientHello(name, None) if name is None or isinstance(name, str) else None
    if passes or rules is SniRules.REPORT:
        acl.authorize_hello(exchange, target, hello)
        # What makes no sense as TLS asks for nobody, which there is nothing to report of.
        assert exchange.unenforced == (None if passes or hello is None else "sni_denied")
        return
    with pytest.raises(HttpRequestDenied) as caught:
        acl.authorize_hello(exchange, target, hello)
    assert (caught.value.reason, exchange.unenforced) == ("sni_denied", None)
    assert caught.value.details.startswith("egress.sni")


def test_of_two_refusals_that_are_only_reported_the_first_is_told() -> None:
    acl = Acl(Egress(hosts=Hosts(deny=patterns("a"), mode=HostRules.REPORT)))
    reason, exchange = asked(acl, "a", 443, Entry.TUNNEL)
    acl.authorize_hello(exchange, Target("", "a", 443, "", "a:443"), ClientHello("b", None))
    assert (reason, exchange.unenforced) == (None, "host_denied")


def test_a_denied_ipv4_network_has_no_loopback_of_ipv6_in_it() -> None:
    acl = Acl(Egress(addresses=AllowedAddresses.ANY, deny=networks("0.0.0.0/8")))
    assert [acl.vet(address, 80) for address in ("::1", "::")] == [None, None]
    assert acl.vet("::2", 80) is not None
    assert acl.vet("0.0.0.1", 80) is not None


def test_the_index_of_a_list_is_made_once() -> None:
    indexes = Indexes()
    one, same = (networks("10.0.0.0/8", "fd00::/8") for _ in range(2))
    assert indexes.of_networks(one) is indexes.of_networks(one)
    assert indexes.of_networks(one) is not indexes.of_networks(same)
    hosts, others = patterns("a"), patterns("b")
    assert indexes.of_hosts(hosts) is indexes.of_hosts(hosts)
    assert indexes.of_hosts(others).match("b", 80)


def test_peers_cannot_make_it_remember_for_ever() -> None:
    acl = Acl(PUBLIC)
    for number in range(MAX_REMEMBERED + 1):
        assert asked(acl, f"h{number}")[0] is None
        assert acl.vet(str(ip_address(0x0800_0000 + number)), 80) is None
    assert asked(acl, "10.0.0.1")[0] == "address_denied"
    assert acl.vet("10.0.0.1", 80) is not None
