"""Finding the settings of an upstream."""

from dataclasses import replace

from proxy.core.overlay import HostPattern, Overlay
from proxy.core.policies import MAX_CACHED, Policies
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


def test_the_cache_is_bounded() -> None:
    policies = Policies(Settings(upstreams=(entry("host1", {"open": Seconds(1)}),)))
    for number in range(MAX_CACHED + 2):
        assert policies.of(f"host{number}", 80).circuit.open == Seconds(1 if number == 1 else 30)
    assert policies.of("host1", 80).circuit.open == Seconds(1)
