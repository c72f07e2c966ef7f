"""The table of circuits. POLICY opens at two, so that a circuit can have failed and still be closed."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.breaker import Permit, State, Transition
from proxy.core.errors import DestinationUnavailable
from proxy.core.outcome import ALIVE, NEUTRAL, SUCCESS, FailureKind, Outcome, Verdict, failed
from proxy.core.policy import CircuitPolicy, Seconds
from proxy.core.registry import Circuits

POLICY = CircuitPolicy(consecutive_failures=2, open=Seconds(30), recovery_threshold=1)
FAILURE = failed(FailureKind.STATUS)


def call(circuits: Circuits, key: str, outcome: Outcome, now: float = 0.0) -> None:
    with circuits.admit(key, POLICY, now) as permit:
        permit.settle(outcome, now)


def open_circuit(circuits: Circuits, key: str) -> None:
    for _ in range(2):
        call(circuits, key, FAILURE)


def keys(circuits: Circuits) -> list[str]:
    return [circuit.key for circuit in circuits]


def test_one_circuit_for_each_key() -> None:
    circuits = Circuits(10)
    assert circuits.get("a") is None
    open_circuit(circuits, "a")
    call(circuits, "b", SUCCESS)
    with pytest.raises(DestinationUnavailable):
        circuits.admit("a", POLICY, 0.0)
    states = {circuit.key: circuit.state for circuit in circuits}
    assert states == {"a": State.OPEN, "b": State.CLOSED}
    assert len(circuits) == 2
    circuit = circuits.get("a")
    assert circuit is not None
    assert circuit.key == "a"


def test_a_circuit_takes_the_settings_of_the_latest_call() -> None:
    circuits = Circuits(10)
    call(circuits, "a", FAILURE)
    stricter = replace(POLICY, consecutive_failures=1)
    permit = circuits.admit("a", stricter, 0.0)
    assert permit.policy is stricter


def test_totals_are_exact_over_all_circuits() -> None:
    circuits = Circuits(10)
    call(circuits, "a", FAILURE)
    call(circuits, "b", FAILURE)
    call(circuits, "b", SUCCESS)
    assert circuits.totals.calls == {Verdict.FAILURE: 2, Verdict.SUCCESS: 1}


def test_totals_outlive_their_circuits() -> None:
    circuits = Circuits(1)
    call(circuits, "a", SUCCESS)
    call(circuits, "b", SUCCESS)
    assert keys(circuits) == ["b"]
    assert circuits.totals.calls == {Verdict.SUCCESS: 2}


@pytest.mark.parametrize("outcome", [NEUTRAL, None], ids=["neutral", "no-verdict"])
def test_a_circuit_with_nothing_booked_leaves_with_its_last_permit(outcome: Outcome | None) -> None:
    circuits = Circuits(10)
    with circuits.admit("a", POLICY, 0.0):
        with circuits.admit("a", POLICY, 0.0) as permit:
            if outcome is not None:
                permit.settle(outcome, 0.0)
        assert keys(circuits) == ["a"]
    assert keys(circuits) == []
    assert circuits.evictions == 0


@pytest.mark.parametrize("outcome", [SUCCESS, ALIVE, FAILURE], ids=str)
def test_a_circuit_with_something_booked_stays(outcome: Outcome) -> None:
    circuits = Circuits(10)
    call(circuits, "a", outcome)
    call(circuits, "a", NEUTRAL)
    assert keys(circuits) == ["a"]


def test_the_longest_idle_closed_circuit_is_evicted_first() -> None:
    circuits = Circuits(3)
    for key in ("a", "b", "c", "a"):
        call(circuits, key, SUCCESS)
    call(circuits, "d", SUCCESS)
    assert sorted(keys(circuits)) == ["a", "c", "d"]
    call(circuits, "e", SUCCESS)
    assert sorted(keys(circuits)) == ["a", "d", "e"]
    assert (circuits.evictions, circuits.unprotected) == (2, 0)


def test_idle_counts_from_the_end_of_the_last_exchange() -> None:
    circuits = Circuits(2)
    with circuits.admit("a", POLICY, 0.0) as permit:
        permit.settle(SUCCESS, 0.0)
        call(circuits, "b", SUCCESS)
    call(circuits, "c", SUCCESS)
    assert sorted(keys(circuits)) == ["a", "c"]


def test_a_circuit_in_use_again_is_not_evicted() -> None:
    circuits = Circuits(1)
    call(circuits, "a", SUCCESS)
    with circuits.admit("a", POLICY, 0.0):
        call(circuits, "b", SUCCESS)
        assert keys(circuits) == ["a"]
    assert (circuits.evictions, circuits.unprotected) == (0, 1)


def test_a_circuit_that_is_still_in_use_is_not_evicted() -> None:
    circuits = Circuits(1)
    with circuits.admit("a", POLICY, 0.0):
        call(circuits, "a", SUCCESS)
        call(circuits, "b", SUCCESS)
        assert keys(circuits) == ["a"]
    assert circuits.unprotected == 1


@pytest.mark.parametrize("now", [0.0, 30.0], ids=["open", "half-open"])
def test_a_circuit_that_is_not_closed_is_never_evicted(now: float) -> None:
    circuits = Circuits(1)
    open_circuit(circuits, "a")
    circuits.advance(now)
    call(circuits, "b", SUCCESS, now)
    assert keys(circuits) == ["a"]
    assert (circuits.evictions, circuits.unprotected) == (0, 1)


def test_a_recovered_circuit_may_be_evicted() -> None:
    circuits = Circuits(1)
    open_circuit(circuits, "a")
    call(circuits, "a", SUCCESS, 30.0)
    call(circuits, "b", SUCCESS, 30.0)
    assert keys(circuits) == ["b"]


def test_a_new_key_passes_unprotected_where_nothing_can_be_evicted() -> None:
    circuits = Circuits(1)
    open_circuit(circuits, "a")
    for _ in range(10):
        call(circuits, "b", FAILURE)
    assert circuits.get("b") is None
    assert circuits.unprotected == 10
    assert circuits.totals.calls == {Verdict.FAILURE: 12}


def test_an_unprotected_call_opens_nothing() -> None:
    told: list[Transition] = []
    circuits = Circuits(1, (told.append,))
    with circuits.admit("a", POLICY, 0.0):
        policy = replace(POLICY, consecutive_failures=1, abandoned_after=Seconds(7))
        with circuits.admit("b", policy, 0.0) as permit:
            assert permit.policy.abandoned_after == Seconds(7)
            permit.settle(FAILURE, 0.0)
    assert told == []
    assert circuits.totals.transitions == {}


def test_the_end_of_an_unprotected_call_leaves_a_later_circuit_of_its_key_alone() -> None:
    circuits = Circuits(1)
    with ExitStack() as blocker:
        blocker.enter_context(circuits.admit("a", POLICY, 0.0))
        unprotected = circuits.admit("b", POLICY, 0.0)
        blocker.close()
    with circuits.admit("b", POLICY, 0.0):
        with unprotected:
            pass
        assert keys(circuits) == ["b"]
        call(circuits, "c", SUCCESS)
        assert keys(circuits) == ["b"], "in flight, thus not evictable"


def test_a_refused_call_leaves_the_table_as_it_was() -> None:
    circuits = Circuits(2)
    open_circuit(circuits, "a")
    with pytest.raises(DestinationUnavailable):
        circuits.admit("a", POLICY, 1.0)
    circuit = circuits.get("a")
    assert circuit is not None
    assert circuit.in_flight == 0
    assert circuits.totals.rejected == {"circuit_open": 1}


def test_due_transitions_are_made_early() -> None:
    told: list[Transition] = []
    circuits = Circuits(10, (told.append,))
    for key in ("a", "b"):
        open_circuit(circuits, key)
    circuits.advance(29.999)
    assert [circuit.state for circuit in circuits] == [State.OPEN, State.OPEN]
    circuits.advance(30.0)
    assert [circuit.state for circuit in circuits] == [State.HALF_OPEN, State.HALF_OPEN]
    assert [(transition.key, transition.to_state) for transition in told[2:]] == [
        ("a", State.HALF_OPEN),
        ("b", State.HALF_OPEN),
    ]


def test_listeners_run_in_order_after_the_transition() -> None:
    heard: list[tuple[str, str, State | None]] = []

    def listener(name: str, transition: Transition) -> None:
        circuit = circuits.get(transition.key)
        heard.append((name, transition.to_state.value, circuit.state if circuit else None))

    circuits = Circuits(10, (lambda t: listener("first", t), lambda t: listener("second", t)))
    open_circuit(circuits, "a")
    assert heard == [("first", "open", State.OPEN), ("second", "open", State.OPEN)]


def test_a_listener_may_use_the_table() -> None:
    circuits = Circuits(
        10, (lambda transition: call(circuits, f"{transition.to_state.value} {transition.key}", SUCCESS),)
    )
    open_circuit(circuits, "a")
    open_circuit(circuits, "b")
    circuits.advance(30.0)
    assert sorted(keys(circuits)) == ["a", "b", "half_open a", "half_open b", "open a", "open b"]


# (key, how much later, how its oldest call ends; None begins one)
steps = st.tuples(
    st.sampled_from("abcde"),
    st.sampled_from([0.0, 0.5, 29.999, 30.0, 90.0]),
    st.sampled_from([None, None, SUCCESS, ALIVE, FAILURE, FAILURE, NEUTRAL]),
)


@given(st.integers(1, 3), st.lists(steps, max_size=60))
def test_whatever_is_called_the_table_keeps_its_bound_and_what_it_must_know(
    max_circuits: int, calls: list[tuple[str, float, Outcome | None]]
) -> None:
    circuits = Circuits(max_circuits)
    held: dict[str, list[Permit]] = {key: [] for key in "abcde"}
    now = 0.0
    with ExitStack() as left_over:
        for key, wait_s, outcome in calls:
            now += wait_s
            tripped = {circuit.key for circuit in circuits if circuit.state is not State.CLOSED}
            busy = {circuit.key for circuit in circuits if circuit.in_flight}
            if outcome is None:
                try:
                    held[key].append(circuits.admit(key, POLICY, now))
                except DestinationUnavailable:
                    assert key in tripped
            elif held[key]:
                with held[key].pop(0) as permit:
                    permit.settle(outcome, now)
                busy = set()
            assert tripped | busy <= set(keys(circuits))
            assert len(circuits) <= max_circuits
        for permits in held.values():
            for permit in permits:
                left_over.enter_context(permit)
    assert [circuit for circuit in circuits if circuit.in_flight] == []
    assert all(circuit.tally.calls for circuit in circuits)
