"""Finding the settings of an upstream."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from proxy.core.acl import OwnListeners
from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Intercept, Tls, TlsVersion
from proxy.core.overlay import Overlay
from proxy.core.policies import MAX_REMEMBERED, Policies, ways_of
from proxy.core.policy import CircuitPolicy, OpenAction, Settings, Timeouts, Upstream
from proxy.core.quantities import Seconds
from proxy.core.target import Target, from_absolute_form, from_authority_form


def entry(match: str, circuit: dict[str, object], timeouts: dict[str, object] | None = None) -> Upstream:
    return Upstream(
        match=HostPattern.parse(match), circuit=Overlay(circuit), timeouts=Overlay(timeouts or {})
    )


def test_without_entries_all_have_the_general_settings() -> None:
    policies = Policies(Settings(circuit=CircuitPolicy(consecutive_failures=7)))
    assert policies.of("a", 80).circuit.consecutive_failures == 7
    assert policies.of("a", 80) is policies.of("b", 443)


def test_it_says_which_entry_is_the_one() -> None:
    policies = Policies(Settings(upstreams=(entry("b.example.com", {}), entry("*.example.com:80", {}))))
    assert [policies.place(host, 80) for host in ("b.example.com", "a.example.com", "a")] == [0, 1, None]
    assert policies.place("a.example.com", 443) is None


def test_the_first_match_wins_and_keeps_what_it_does_not_set() -> None:
    policies = Policies(
        Settings(
            circuit=CircuitPolicy(consecutive_failures=7),
            upstreams=(
                entry("a.example.com", {"open": Seconds(1)}),
                entry("*.example.com", {"open": Seconds(2)}, {"head": Seconds(60)}),
            ),
        )
    )
    assert policies.of("a.example.com", 443).circuit.open == Seconds(1)
    assert policies.of("b.example.com", 443).circuit.open == Seconds(2)
    assert policies.of("b.example.com", 443).circuit.consecutive_failures == 7
    assert policies.of("b.example.com", 443).timeouts.head == Seconds(60)
    assert policies.of("example.com", 443).circuit.open == Seconds(30)


def test_an_entry_may_have_an_action_of_its_own() -> None:
    close = replace(entry("a", {}), open_action=OpenAction.CLOSE)
    respond = replace(entry("b", {}), open_action=OpenAction.RESPOND)
    default = Policies(Settings(upstreams=(close, entry("c", {}))))
    assert default.of("a", 80).open_action is OpenAction.CLOSE
    assert default.of("c", 80).open_action is OpenAction.RESPOND
    assert default.of("d", 80).open_action is OpenAction.RESPOND
    closing = Policies(Settings(open_action=OpenAction.CLOSE, upstreams=(respond, entry("c", {}))))
    assert closing.of("b", 80).open_action is OpenAction.RESPOND
    assert closing.of("c", 80).open_action is OpenAction.CLOSE
    assert closing.of("d", 80).open_action is OpenAction.CLOSE


def refused(policies: Policies, host: str, address: str, *, is_internal: bool = False) -> str | None:
    """How the policy of a host refuses an address; None if it does not."""
    denied = policies.of(host, 80, is_internal=is_internal).acl.vet(address, 80)
    return None if denied is None else denied.phrase


def test_an_entry_may_have_rules_of_its_own_on_addresses() -> None:
    general = Egress(deny=(Network.parse("8.8.8.8"),))
    policies = Policies(
        Settings(
            egress=general,
            upstreams=(
                Upstream(match=HostPattern.parse("any"), egress=Overlay({"addresses": AllowedAddresses.ANY})),
                Upstream(match=HostPattern.parse("all"), egress=Overlay({"deny": ()})),
                entry("same", {"open": Seconds(1)}),
            ),
        )
    )
    table = {
        host: [refused(policies, host, address) for address in ("10.0.0.1", "8.8.8.8")]
        for host in ("any", "all", "same", "other")
    }
    by_class, by_deny = "Address denied by egress.addresses", "Address denied by egress.deny"
    assert table == {
        "any": [None, by_deny],
        "all": [by_class, None],
        "same": [by_class, by_deny],
        "other": [by_class, by_deny],
    }


def test_what_a_route_calls_internal_has_the_same_settings_but_for_the_class_of_its_address() -> None:
    own = OwnListeners(lambda address: address == ip_address("10.9.9.9"))
    own.ports = frozenset({80})
    policies = Policies(
        Settings(
            egress=Egress(deny=(Network.parse("10.6.0.0/16"),)), upstreams=(entry("a", {"open": Seconds(1)}),)
        ),
        own,
    )
    for host in ("a", "b"):
        outside = policies.of(host, 80)
        inside = policies.of(host, 80, is_internal=True)
        assert inside is policies.of(host, 80, is_internal=True)
        assert replace(inside, acl=outside.acl) == outside
        assert inside.acl is not outside.acl
        assert refused(policies, host, "10.0.0.1") == "Address denied by egress.addresses"
        assert refused(policies, host, "10.0.0.1", is_internal=True) is None
        assert refused(policies, host, "10.6.0.1", is_internal=True) == "Address denied by egress.deny"
        assert refused(policies, host, "10.9.9.9", is_internal=True) == "Own listener"


def test_each_set_of_rules_is_an_object_of_its_own() -> None:
    """Connections are kept apart by it."""
    settings = Settings(upstreams=(entry("a", {}),))
    policies = Policies(settings)
    rules = [
        policies.of(host, 80, is_internal=is_internal).acl
        for host in ("a", "b")
        for is_internal in (False, True)
    ]
    rules.append(Policies(settings).general.acl)
    assert len(set(rules)) == 5


def test_long_lists_are_read_once_for_all_upstreams() -> None:
    read = 0

    class Listed(tuple[Network, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[Network]:
            nonlocal read
            read += 1
            return super().__iter__()

    deny = Listed(map(Network.parse, ("8.8.8.8", "8.8.4.4")))
    free = Upstream(match=HostPattern.parse("b"), egress=Overlay({"addresses": AllowedAddresses.ANY}))
    policies = Policies(Settings(egress=Egress(deny=deny), upstreams=(entry("a", {}), free)))
    assert read == 1
    for host in ("a", "b", "c"):
        assert refused(policies, host, "8.8.4.4") == "Address denied by egress.deny"


def test_the_same_upstream_gets_the_same_object() -> None:
    policies = Policies(Settings(upstreams=(entry("a", {"open": Seconds(1)}),)))
    assert policies.of("a", 80) is policies.of("a", 80)
    assert policies.of("b", 80) is policies.of("c", 80)


def test_the_lease_is_the_sum_of_the_real_timeouts_unless_it_is_set() -> None:
    policies = Policies(
        Settings(
            timeouts=Timeouts(head=Seconds(10)),
            upstreams=(
                entry("slow", {}, {"head": Seconds(100)}),
                entry("set", {"probe_lease": Seconds(77)}),
            ),
        )
    )
    assert policies.of("any", 80).circuit.lease_s == 30
    assert policies.of("slow", 80).circuit.lease_s == 120
    assert policies.of("set", 80).circuit.lease_s == 77
    assert CircuitPolicy().lease_s == 50


def test_the_longest_of_all_timeouts() -> None:
    policies = Policies(
        Settings(
            timeouts=Timeouts(body_idle=Seconds(5), dns=Seconds(7)),
            upstreams=(entry("a", {}, {"body_idle": Seconds(9)}), entry("b", {}, {"dns": Seconds(3)})),
        )
    )
    assert (policies.longest_body_idle_s, policies.longest_dns_s) == (9, 7)
    alone = Policies(Settings(timeouts=Timeouts(body_idle=Seconds(5), dns=Seconds(7))))
    assert (alone.longest_body_idle_s, alone.longest_dns_s) == (5, 7)


def test_peers_cannot_make_it_remember_for_ever() -> None:
    policies = Policies(Settings(upstreams=(entry("host1", {"open": Seconds(1)}),)))
    for number in range(MAX_REMEMBERED + 2):
        assert policies.of(f"host{number}", 80).circuit.open == Seconds(1 if number == 1 else 30)
    assert policies.of("host1", 80).circuit.open == Seconds(1)


# HTTPS.


def over_tls(match: str, https: HttpsMode = HttpsMode.TUNNEL, **tls: object) -> Upstream:
    return Upstream(match=HostPattern.parse(match), https=https, tls=Overlay(tls))


def test_an_entry_says_how_tls_is_spoken_and_keeps_what_it_does_not_set() -> None:
    policies = Policies(
        Settings(
            upstreams=(
                over_tls("a", HttpsMode.ORIGINATE, ca="private.pem", min_version=TlsVersion.TLS_1_3),
                over_tls("b"),
            )
        )
    )
    of_a = policies.of("a", 443)
    assert of_a.https is HttpsMode.ORIGINATE
    assert of_a.tls == Tls(ca="private.pem", min_version=TlsVersion.TLS_1_3)
    for host in ("b", "c"):
        assert (policies.of(host, 443).https, policies.of(host, 443).tls) == (HttpsMode.TUNNEL, Tls())


def test_all_the_ways_in_which_tls_is_spoken() -> None:
    """Files are read, and contexts made, once for each of them."""
    assert ways_of(Settings()) == (Tls(),)
    upstreams = (over_tls("a", ca="one"), over_tls("b", ca="one"), over_tls("c", ca="two"), over_tls("d"))
    assert ways_of(Settings(upstreams=upstreams)) == (Tls(), Tls(ca="one"), Tls(ca="two"))


ORIGINATED = Policies(
    Settings(
        upstreams=(
            Upstream(match=HostPattern.parse("own.example:443"), circuit=Overlay({"open": Seconds(443)})),
            Upstream(
                match=HostPattern.parse("*.example"),
                https=HttpsMode.ORIGINATE,
                circuit=Overlay({"open": Seconds(80)}),
            ),
        )
    )
)


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("http://a.example/x?y", Target("https", "a.example", 443, "/x?y", "a.example")),
        ("http://a.example:80/", Target("https", "a.example", 443, "/", "a.example")),
        # Other ports stay: what speaks HTTPS there is not known to be at 443.
        ("http://a.example:8080/", Target("https", "a.example", 8080, "/", "a.example:8080")),
        ("http://a.example:443/", Target("https", "a.example", 443, "/", "a.example:443")),
        # What asks for HTTPS itself needs no help.
        ("https://a.example/", Target("https", "a.example", 443, "/", "a.example")),
        ("https://a.example:80/", Target("https", "a.example", 80, "/", "a.example:80")),
        # No entry, or one that says nothing of it.
        ("http://b/", Target("http", "b", 80, "/", "b")),
    ],
)
def test_what_is_sent_over_http_goes_on_over_https_where_it_is_originated(sent: str, found: Target) -> None:
    target, policy = ORIGINATED.find(from_absolute_form(sent, "GET"))
    assert target == found
    assert policy is ORIGINATED.of(found.host, found.port)


def test_a_tunnel_is_not_originated() -> None:
    connect = from_authority_form("a.example:80")
    assert ORIGINATED.find(connect) == (connect, ORIGINATED.of("a.example", 80))


def test_the_settings_are_those_of_the_new_target() -> None:
    target, policy = ORIGINATED.find(from_absolute_form("http://own.example/", "GET"))
    assert (target.scheme, target.port) == ("https", 443)
    assert (policy.circuit.open, policy.https) == (Seconds(443), HttpsMode.TUNNEL)
    _, policy = ORIGINATED.find(from_absolute_form("http://other.example/", "GET"))
    assert (policy.circuit.open, policy.https) == (Seconds(80), HttpsMode.ORIGINATE)


def test_an_internal_target_stays_internal() -> None:
    for host in ("a.example", "b"):
        sent = from_absolute_form(f"http://{host}/", "GET")._replace(is_internal=True)
        target, policy = ORIGINATED.find(sent)
        assert target.is_internal
        assert policy is ORIGINATED.of(target.host, target.port, is_internal=True)
        assert policy is not ORIGINATED.of(target.host, target.port)


def test_the_settings_of_a_circuit_are_found_by_its_key() -> None:
    policies = Policies(Settings(upstreams=(entry("a.example.com:80", {"open": Seconds(1)}),)))
    assert policies.of_circuit("a.example.com:80") is policies.of("a.example.com", 80)
    assert policies.of_circuit("a.example.com:80+internal") is policies.of(
        "a.example.com", 80, is_internal=True
    )
    assert policies.of_circuit("[::1]:80") is policies.general


@pytest.mark.parametrize(
    "key",
    [
        *(
            "",
            "a",
            "a:",
            "a:0",
            "a:99999",
            "A:80",
            "a.:80",
            "a:080",
            "127.1:80",
            "[0::1]:80",
            "a:80+Internal",
        ),
        "a:80#0123456789abcdef",
    ],
)
def test_what_is_no_key_of_a_hosts_circuit(key: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Policies(Settings()).of_circuit(key)


def test_what_is_excluded_is_tunnelled_and_keeps_all_else() -> None:
    intercepted = over_tls("*.example", HttpsMode.INTERCEPT, ca="private.pem")
    originated = over_tls("*.net", HttpsMode.ORIGINATE)
    exclude = tuple(map(HostPattern.parse, ("a.example", "b.example:8443", "*.net", "*.org")))
    policies = Policies(
        Settings(intercept=Intercept(exclude=exclude), upstreams=(intercepted, originated)),
    )
    modes = {
        (host, port): policies.of(host, port).https
        for host, port in (
            ("a.example", 443),
            ("b.example", 8443),
            ("b.example", 443),
            ("c.example", 443),
            # What is not intercepted anyway.
            ("a.net", 443),
            ("a.org", 443),
        )
    }
    assert list(modes.values()) == [
        HttpsMode.TUNNEL,
        HttpsMode.TUNNEL,
        HttpsMode.INTERCEPT,
        HttpsMode.INTERCEPT,
        HttpsMode.ORIGINATE,
        HttpsMode.TUNNEL,
    ]
    for is_internal in (False, True):
        excluded = policies.of("a.example", 443, is_internal=is_internal)
        assert excluded.https is HttpsMode.TUNNEL
        other = policies.of("c.example", 443, is_internal=is_internal)
        assert replace(excluded, https=HttpsMode.INTERCEPT) == other
        # Connections are kept apart by it, and it is the same upstream's.
        assert excluded.acl is other.acl


# After a reload.


def rules_of(policies: Policies, host: str) -> list[object]:
    return [policies.of(host, 80, is_internal=is_internal).acl for is_internal in (False, True)]


def test_rules_that_stay_the_same_are_the_same_objects() -> None:
    """By them connections are told apart, so that these go on being lent."""
    upstreams = (over_tls("a", ca="one"), entry("b", {}), over_tls("c", ca="two"))
    former = Policies(Settings(upstreams=upstreams))
    changed = (
        replace(entry("b", {"open": Seconds(1)}), open_action=OpenAction.CLOSE),
        over_tls("c", ca="three"),
        over_tls("a", ca="one"),
    )
    policies = Policies(Settings(upstreams=changed, timeouts=Timeouts(head=Seconds(3))), former=former)
    for host in ("a", "b", "d"):
        assert rules_of(policies, host) == rules_of(former, host)
    assert set(rules_of(policies, "c")).isdisjoint(rules_of(former, "c"))
    assert policies.of("b", 80).circuit.open == Seconds(1)
    assert former.acls - policies.acls == set(rules_of(former, "c"))


def test_other_general_rules_are_others_for_all() -> None:
    settings = Settings(upstreams=(entry("a", {}),))
    former = Policies(settings)
    policies = Policies(replace(settings, egress=Egress(addresses=AllowedAddresses.ANY)), former=former)
    assert former.acls.isdisjoint(policies.acls)
    assert refused(policies, "a", "10.0.0.1") is None


def test_rules_of_an_entry_are_others_if_it_writes_others() -> None:
    free = Upstream(match=HostPattern.parse("a"), egress=Overlay({"addresses": AllowedAddresses.ANY}))
    former = Policies(Settings(upstreams=(entry("a", {}),)))
    policies = Policies(Settings(upstreams=(free,)), former=former)
    assert refused(policies, "a", "10.0.0.1") is None
    assert rules_of(policies, "b") == rules_of(former, "b")


def test_rules_are_others_where_the_files_of_tls_say_something_else() -> None:
    settings = Settings(upstreams=(over_tls("a", ca="one"), over_tls("b", ca="two")))
    former = Policies(settings)
    policies = Policies(settings, former=former, reread={Tls(ca="one")})
    assert set(rules_of(policies, "a")).isdisjoint(rules_of(former, "a"))
    assert rules_of(policies, "b") == rules_of(former, "b")


def test_of_entries_with_one_pattern_the_first_counts_after_a_reload_too() -> None:
    settings = Settings(upstreams=(over_tls("a", ca="one"), over_tls("a", ca="two")))
    former = Policies(settings)
    assert rules_of(Policies(settings, former=former), "a") == rules_of(former, "a")


def test_whether_rules_are_those_of_an_upstream() -> None:
    policies = Policies(Settings(upstreams=(entry("a", {}),)))
    for rules in (policies.of("a", 80).acl, policies.of("a", 80, is_internal=True).acl):
        assert policies.is_under(rules, "a", 80)
        assert not policies.is_under(rules, "b", 80)


@pytest.mark.parametrize(
    ("key", "open_s"),
    [
        ("a:80", 1),
        ("a:80+internal", 1),
        ("a:443", 30),
        ("[::1]:80", 2),
        ("b:80", 30),
    ],
)
def test_the_settings_of_a_circuit_by_its_key(key: str, open_s: float) -> None:
    entries = (entry("a:80", {"open": Seconds(1)}), entry("[::1]", {"open": Seconds(2)}))
    assert Policies(Settings(upstreams=entries)).of_circuit(key).circuit.open == open_s
