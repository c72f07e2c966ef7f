"""What /metrics says of circuits, and that asking changes nothing."""

from copy import deepcopy
from dataclasses import replace

import pytest
from support.circuits import BY_PATH, FAILED, Rig, policy
from support.metrics import Samples, families, metrics_of, nonzero, samples

from proxy.control.metrics import Metrics
from proxy.core.outcome import FailureKind, failed
from proxy.core.overrides import Force
from proxy.core.policy import Limits, Mode
from proxy.core.policy import Metrics as MetricsSettings
from proxy.core.states import State, Transition

A = "a:80"
POLICY = policy(consecutive_failures=2, open=10, recovery_threshold=1)
RESET = failed(FailureKind.RESET)


def rig_of(max_circuits: int = 10) -> Rig:
    return Rig(POLICY, Limits(max_circuits=max_circuits))


def shown(rig: Rig, now: float = 0.0) -> Samples:
    """What a scrape shows."""
    return samples(metrics_of(rig.circuits, clock=lambda: now))


def of_circuit(found: Samples, name: str, key: str = A, scope: str = "host") -> float | None:
    return found.get(f"circuit_{name}{{circuit={key},scope={scope}}}")


def test_a_circuit_starts_with_its_usual_series_at_zero() -> None:
    rig = rig_of()
    with rig.admit(0.0, A):
        found = shown(rig)
    of_a = {name: value for name, value in found.items() if f"circuit={A}" in name}
    assert set(of_a.values()) == {0}

    def count(name: str) -> int:
        return len([series for series in of_a if series.startswith(f"circuit_{name}{{")])

    assert (count("calls_total"), count("rejected_total"), count("transitions_total")) == (4, 3, 6)
    assert (count("state"), count("window_calls"), count("open_seconds_total")) == (1, 1, 1)
    assert len(of_a) == 16


def test_the_life_of_a_circuit() -> None:
    rig = rig_of()
    rig.succeed(1, 0.0, A)
    assert of_circuit(shown(rig), "state") == 0

    for _ in range(2):
        rig.call(RESET, 1.0, A)
    assert rig.refusal(2.0, A) == ("circuit_open", 9)
    found = shown(rig)
    assert of_circuit(found, "state") == 2
    assert found["circuits{state=open}"] == 1

    with rig.admit(11.0, A) as probe:
        assert rig.refusal(11.0, A) == ("circuit_half_open", 1)
        found = shown(rig)
        assert of_circuit(found, "state") == 1
        assert found["circuits{state=half_open}"] == 1
        probe.settle(probe.head(200, None, 12.0), 12.0)
    found = shown(rig)
    assert of_circuit(found, "state") == 0
    assert nonzero(found, "circuit_transitions_total") == {
        f"circuit_transitions_total{{circuit={A},{change}}}": 1
        for change in (
            "from_state=closed,reason=consecutive_failures,scope=host,to_state=open",
            "from_state=open,reason=open_elapsed,scope=host,to_state=half_open",
            "from_state=half_open,reason=recovered,scope=host,to_state=closed",
        )
    }
    assert nonzero(found, "circuit_rejected_total") == {
        f"circuit_rejected_total{{circuit={A},enforced=true,reason=circuit_open,scope=host}}": 1,
        f"circuit_rejected_total{{circuit={A},enforced=true,reason=circuit_half_open,scope=host}}": 1,
    }
    assert nonzero(found, "circuit_calls_total") == {
        f"circuit_calls_total{{circuit={A},outcome=success,scope=host}}": 2,
        f"circuit_calls_total{{circuit={A},outcome=failure,scope=host}}": 2,
    }
    assert nonzero(found, "circuit_failures_total") == {
        f"circuit_failures_total{{circuit={A},kind=reset,scope=host}}": 2
    }
    assert nonzero(found, "circuit_probes_total") == {
        f"circuit_probes_total{{circuit={A},result=success,scope=host}}": 1
    }
    assert nonzero(found, "calls_total") == {
        "calls_total{outcome=success}": 2,
        "calls_total{outcome=failure}": 2,
    }
    assert nonzero(found, "failures_total") == {"failures_total{kind=reset}": 2}
    assert nonzero(found, "probes_total") == {"probes_total{result=success}": 1}
    assert nonzero(found, "rejected_total") == {
        "rejected_total{enforced=true,reason=circuit_open}": 1,
        "rejected_total{enforced=true,reason=circuit_half_open}": 1,
    }
    assert nonzero(found, "transitions_total") == {
        "transitions_total{to_state=open}": 1,
        "transitions_total{to_state=half_open}": 1,
        "transitions_total{to_state=closed}": 1,
    }


def test_what_operators_do() -> None:
    rig = rig_of()
    seen = []
    for force in (Force.OPEN, Force.CLOSED):
        rig.circuits.force(A, POLICY, force, 0.0)
        found = shown(rig)
        seen.append((of_circuit(found, "state"), *nonzero(found, "circuits{")))
        rig.refusal(1.0, A)
    rig.circuits.clear_override(A, 2.0)
    rig.circuits.reset(A, 2.0)
    assert seen == [(3, "circuits{state=forced_open}"), (4, "circuits{state=forced_closed}")]
    found = shown(rig)
    assert nonzero(found, "circuits{") == {"circuits{state=closed}": 1}
    assert nonzero(found, "rejected_total") == {"rejected_total{enforced=true,reason=circuit_forced_open}": 1}
    assert of_circuit(found, "state") == 0
    assert nonzero(found, "circuit_transitions_total") == {
        f"circuit_transitions_total{{circuit={A},{change}}}": 1
        for change in (
            "from_state=closed,reason=forced_open,scope=host,to_state=open",
            "from_state=open,reason=forced_closed,scope=host,to_state=closed",
            "from_state=closed,reason=override_ended,scope=host,to_state=closed",
            "from_state=closed,reason=reset,scope=host,to_state=closed",
        )
    }


def test_a_disabled_circuit() -> None:
    rig = rig_of()
    rig.fail(2, 0.0, A)
    rig.policy = replace(POLICY, mode=Mode.DISABLED)
    assert rig.passes(1.0, A)
    found = shown(rig)
    assert of_circuit(found, "state") == 5
    assert nonzero(found, "circuits{") == {"circuits{state=disabled}": 1}


def test_what_is_only_observed_is_not_enforced() -> None:
    rig = rig_of()
    rig.policy = replace(POLICY, mode=Mode.OBSERVE)
    rig.fail(2, 0.0, A)
    assert rig.passes(1.0, A)
    found = shown(rig)
    refused = f"circuit_rejected_total{{circuit={A},enforced=false,reason=circuit_open,scope=host}}"
    assert nonzero(found, "circuit_rejected_total") == {refused: 1}
    assert nonzero(found, "rejected_total") == {"rejected_total{enforced=false,reason=circuit_open}": 1}
    # What cannot happen in this mode has no series.
    assert not [name for name in found if name.startswith("circuit_rejected") and "enforced=true" in name]


def test_an_endpoint_is_told_by_its_hash_and_its_scope() -> None:
    rig = Rig(policy(consecutive_failures=1, key=BY_PATH))
    endpoint = BY_PATH.endpoint(A, "/hooks/s3cret", ())
    assert endpoint is not None
    rig.answer(500, 0.0, A, endpoint)
    found = shown(rig)
    assert of_circuit(found, "state", endpoint, "endpoint") == 2
    assert of_circuit(found, "state") == 0
    assert nonzero(found, "calls_total") == {"calls_total{outcome=failure}": 1}


def test_a_late_verdict() -> None:
    rig = rig_of()
    with rig.admit(0.0, A) as slow:
        rig.fail(2, 1.0, A)
        assert of_circuit(shown(rig), "late_results_total") is None
        slow.settle(FAILED, 2.0)
    found = shown(rig)
    assert of_circuit(found, "late_results_total") == 1
    assert found["late_results_total"] == 1


@pytest.mark.parametrize(
    ("good", "bad", "now", "calls", "ratio"),
    [
        (8, 1, 1.0, 9, None),
        (8, 2, 1.0, 10, 0.2),
        (10, 0, 1.0, 10, 0.0),
        (8, 2, 60.0, 0, None),
    ],
)
def test_the_window(good: int, bad: int, now: float, calls: int, ratio: float | None) -> None:
    rig = Rig()
    rig.succeed(good, 0.0, A)
    rig.fail(bad, 0.0, A)
    found = shown(rig, now)
    assert of_circuit(found, "window_calls") == calls
    assert of_circuit(found, "failure_ratio") == ratio


@pytest.mark.parametrize(("good", "ratio"), [(0, None), (1, 0.0)])
def test_the_ratio_where_no_number_of_calls_is_asked_for(good: int, ratio: float | None) -> None:
    rig = Rig(policy(min_calls=0))
    rig.succeed(good, 0.0, A)
    with rig.admit(0.0, A):
        assert of_circuit(shown(rig), "failure_ratio") == ratio


def test_the_time_open_never_goes_back() -> None:
    rig = rig_of()
    rig.fail(2, 0.0, A)
    # Nobody has noticed at 15 s that the opening was over at 10 s.
    seen = [of_circuit(shown(rig, now), "open_seconds_total") for now in (0.0, 4.0, 10.0, 15.0)]
    rig.circuits.advance(16.0)
    seen.append(of_circuit(shown(rig, 17.0), "open_seconds_total"))
    assert seen == [0, 4, 10, 10, 10]


def test_asking_changes_nothing() -> None:
    rig = rig_of()
    rig.fail(2, 0.0, A)
    rig.succeed(3, 0.0, "b:80")
    rig.circuits.force("c:80", POLICY, Force.OPEN, 0.0, ttl_s=5.0)
    heard, tallies = len(rig.heard), deepcopy([circuit.tally for circuit in rig.circuits])
    # Everything is due by then: the opening, the override, and b:80 is gone.
    shown(rig, 5000.0)
    assert [repr(circuit) for circuit in rig.circuits] == [
        "<Circuit a:80 open generation=1 run=0 level=1 in_flight=0 probes=0>",
        "<Circuit b:80 closed generation=0 run=0 level=0 in_flight=0 probes=0>",
        "<Circuit c:80 forced_open generation=1 run=0 level=0 in_flight=0 probes=0>",
    ]
    assert ([circuit.tally for circuit in rig.circuits], len(rig.heard)) == (tallies, heard)


def labelled(metrics: Metrics) -> list[str]:
    return [
        sample.labels["circuit"]
        for family in families(metrics)
        if family.name == "breaker_proxy_circuit_state"
        for sample in family.samples
    ]


def test_labels_are_bounded_and_stay_with_the_circuits_that_came_first() -> None:
    rig = rig_of(max_circuits=3)
    metrics = metrics_of(rig.circuits, max_circuits=2)
    for key in (A, "b:80", "c:80"):
        rig.succeed(1, 0.0, key)
    assert labelled(metrics) == [A, "b:80"]
    # a:80 is now the one that was used last, so b:80 has to go for d:80.
    rig.succeed(1, 1.0, A)
    rig.succeed(1, 2.0, "d:80")
    assert labelled(metrics) == [A, "c:80"]
    found = samples(metrics)
    assert found["calls_total{outcome=success}"] == 5
    assert found["circuits{state=closed}"] == 3
    assert found["circuit_evictions_total"] == 1


def test_labels_do_not_move_to_a_circuit_that_stands_earlier_in_the_table() -> None:
    rig = rig_of(max_circuits=3)
    metrics = metrics_of(rig.circuits, max_circuits=1)
    rig.succeed(1, 0.0, A)
    assert labelled(metrics) == [A]
    for key in ("b:80", "c:80", "d:80", A):  # a:80 is evicted, and comes back behind the others
        rig.succeed(1, 1.0, key)
    assert [circuit.key for circuit in rig.circuits] == ["c:80", "d:80", A]
    assert labelled(metrics) == [A]


def test_how_many_have_labels_may_change() -> None:
    rig = rig_of(max_circuits=3)
    metrics = metrics_of(rig.circuits, max_circuits=2)
    for key in (A, "b:80", "c:80"):
        rig.succeed(1, 0.0, key)
    for most, expected in ((2, [A, "b:80"]), (1, [A]), (3, [A, "b:80", "c:80"]), (0, [])):
        metrics.configure(MetricsSettings(max_circuits=most))
        assert labelled(metrics) == expected


def test_no_circuit_needs_to_have_labels() -> None:
    rig = rig_of()
    rig.fail(2, 0.0, A)
    metrics = metrics_of(rig.circuits, max_circuits=0)
    assert labelled(metrics) == []
    assert samples(metrics)["circuits{state=open}"] == 1


def test_a_full_table_shows_calls_without_protection() -> None:
    rig = rig_of(max_circuits=1)
    rig.fail(2, 0.0, A)
    rig.succeed(1, 1.0, "b:80")
    found = shown(rig)
    assert found["circuits_unprotected_total"] == 1
    assert found["circuits_limit"] == 1


def test_a_listener_may_read_the_metrics() -> None:
    seen = []

    def listener(transition: Transition) -> None:
        seen.append((transition.to_state, of_circuit(shown(rig), "state")))

    rig = Rig(POLICY, listeners=(listener,))
    rig.fail(2, 0.0, A)
    assert seen == [(State.OPEN, 2)]
