"""Finding the settings of an upstream."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from proxy.core.acl import OwnListeners
from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policies import MAX_REMEMBERED, Policies
from proxy.core.policy import CircuitPolicy, OpenAction, Seconds, Settings, Timeouts, Upstream


def entry(match: str, circuit: dict[str, object], timeouts: dict[str, object] | None = None) -> Upstream:
    return Upstream(
        match=HostPattern.parse(match), circuit=Overlay(circuit), timeouts=Overlay(timeouts or {})
    )


def test_without_entries_all_have_the_general_settings() -> None:
    policies = Policies(Settings(circuit=CircuitPolicy(consecutive_failures=7)))
    assert policies.of("a", 80).circuit.consecutive_failures == 7
    assert policies.of("a", 80) is policies.of("b", 443)


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
