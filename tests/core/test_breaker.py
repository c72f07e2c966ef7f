"""The circuit: every transition, and what must not cause one. POLICY opens at three and closes at two."""

from dataclasses import replace

import pytest

from proxy.core.breaker import (
    REJECTION_REASONS,
    TRANSITIONS,
    Circuit,
    Permit,
    State,
    Tally,
    Transition,
    Trigger,
)
from proxy.core.errors import DestinationUnavailable
from proxy.core.outcome import ALIVE, NEUTRAL, SUCCESS, THROTTLED, FailureKind, Outcome, Verdict, failed
from proxy.core.policy import CircuitPolicy, Seconds

KEY = "example.com:443"
POLICY = CircuitPolicy(consecutive_failures=3, open=Seconds(30), half_open_in_flight=1, recovery_threshold=2)
FAILURE = failed(FailureKind.STATUS)
OUTCOMES = {"S": SUCCESS, "A": ALIVE, "T": THROTTLED, "F": FAILURE, "N": NEUTRAL}
CLOSED, HALF_OPEN, OPEN = State.CLOSED, State.HALF_OPEN, State.OPEN


class Watched(Circuit):
    """A circuit whose transitions and totals the test can see."""

    __slots__ = ("told", "totals")

    def __init__(self, policy: CircuitPolicy = POLICY) -> None:
        self.told: list[Transition] = []
        self.totals = Tally()
        super().__init__(KEY, policy, self.totals, self.told.append)

    def call(self, outcome: Outcome, now: float) -> Permit:
        with self.admit(now) as permit:
            permit.settle(outcome, now)
        return permit


def opened_at(now: float, policy: CircuitPolicy = POLICY) -> Watched:
    circuit = Watched(policy)
    for _ in range(policy.consecutive_failures):
        circuit.call(FAILURE, now)
    assert circuit.state is OPEN
    return circuit


def half_opened_at(now: float, policy: CircuitPolicy = POLICY) -> Watched:
    circuit = opened_at(now - policy.open, policy)
    circuit.advance(now)
    assert circuit.state is HALF_OPEN
    return circuit


def test_the_table_of_transitions() -> None:
    assert TRANSITIONS == {
        CLOSED: {Trigger.CONSECUTIVE_FAILURES: OPEN},
        OPEN: {Trigger.OPEN_ELAPSED: HALF_OPEN},
        HALF_OPEN: {Trigger.PROBE_FAILED: OPEN, Trigger.RECOVERED: CLOSED},
    }
    assert set(TRANSITIONS) == set(State)
    assert {trigger for changes in TRANSITIONS.values() for trigger in changes} == set(Trigger)


def test_the_whole_way_round() -> None:
    circuit = opened_at(0.0)
    circuit.call(FAILURE, 30.0)
    circuit.call(SUCCESS, 60.0)
    circuit.call(ALIVE, 60.5)
    assert circuit.told == [
        Transition(KEY, CLOSED, OPEN, Trigger.CONSECUTIVE_FAILURES, FAILURE, 30.0),
        Transition(KEY, OPEN, HALF_OPEN, Trigger.OPEN_ELAPSED, None, 0.0),
        Transition(KEY, HALF_OPEN, OPEN, Trigger.PROBE_FAILED, FAILURE, 30.0),
        Transition(KEY, OPEN, HALF_OPEN, Trigger.OPEN_ELAPSED, None, 0.0),
        Transition(KEY, HALF_OPEN, CLOSED, Trigger.RECOVERED, ALIVE, 0.0),
    ]
    in_table = {(a, b, trigger) for a, changes in TRANSITIONS.items() for trigger, b in changes.items()}
    assert {(t.from_state, t.to_state, t.trigger) for t in circuit.told} == in_table
    assert circuit.generation == 5


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        pytest.param("FF", CLOSED, id="one-short"),
        pytest.param("FFF", OPEN, id="a-run"),
        pytest.param("FFSFF", CLOSED, id="success-clears-the-run"),
        pytest.param("FFSFFF", OPEN, id="a-run-behind-a-success"),
        pytest.param("FAFAF", OPEN, id="4xx-between-do-not-clear-it"),
        pytest.param("FTFTF", OPEN, id="throttled-between-do-not-clear-it"),
        pytest.param("FNFNF", OPEN, id="neutral-between-do-not-clear-it"),
        pytest.param("FFA", CLOSED, id="4xx-do-not-add-to-it"),
        pytest.param("FFT", CLOSED, id="throttled-does-not-add-to-it"),
        pytest.param("FFN", CLOSED, id="neutral-does-not-add-to-it"),
        pytest.param("TTTTTT", CLOSED, id="throttled-alone"),
        pytest.param("AAAAAA", CLOSED, id="4xx-alone"),
        pytest.param("NNNNNN", CLOSED, id="neutral-alone"),
        pytest.param("SSSSSS", CLOSED, id="success-alone"),
    ],
)
def test_what_opens_a_closed_circuit(calls: str, state: State) -> None:
    circuit = Watched()
    for call in calls:
        circuit.call(OUTCOMES[call], 0.0)
    assert circuit.state is state


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        pytest.param("S", HALF_OPEN, id="one-success-is-too-few"),
        pytest.param("SS", CLOSED, id="enough-successes"),
        pytest.param("AA", CLOSED, id="4xx-come-from-a-working-upstream"),
        pytest.param("SA", CLOSED, id="both"),
        pytest.param("SNNNS", CLOSED, id="neutral-between"),
        pytest.param("NNNN", HALF_OPEN, id="neutral-alone"),
        pytest.param("F", OPEN, id="failure"),
        pytest.param("SF", OPEN, id="failure-behind-a-success"),
        pytest.param("T", OPEN, id="throttled"),
        pytest.param("ST", OPEN, id="throttled-behind-a-success"),
    ],
)
def test_what_ends_half_open(calls: str, state: State) -> None:
    circuit = half_opened_at(30.0)
    for call in calls:
        assert circuit.call(OUTCOMES[call], 30.0).is_probe
    assert circuit.state is state


def test_a_client_that_gave_up_counts_like_any_failure() -> None:
    circuit = Watched()
    for _ in range(3):
        circuit.call(failed(FailureKind.ABANDONED), 0.0)
    assert circuit.told[-1].cause == failed(FailureKind.ABANDONED)


def test_never_opens_where_the_run_is_off() -> None:
    circuit = Watched(replace(POLICY, consecutive_failures=0))
    for _ in range(100):
        circuit.call(FAILURE, 0.0)
    assert circuit.state is CLOSED


@pytest.mark.parametrize(
    ("now", "retry_after_s"), [(0.0, 30), (0.001, 30), (1.0, 29), (28.5, 2), (29.0, 1), (29.999, 1)]
)
def test_nothing_passes_while_open(now: float, retry_after_s: int) -> None:
    circuit = opened_at(0.0)
    with pytest.raises(DestinationUnavailable) as refused:
        circuit.admit(now)
    error = refused.value
    assert (error.status, error.reason, error.retry_after_s) == (503, "circuit_open", retry_after_s)
    assert (error.phrase, error.details) == (f"Circuit open for {KEY}", "the upstream failed")
    assert error.outcome == NEUTRAL
    assert (circuit.state, circuit.in_flight) == (OPEN, 0)


@pytest.mark.parametrize("now", [30.0, 30.001, 1e6])
def test_the_first_to_look_after_the_open_time_gets_a_probe(now: float) -> None:
    circuit = opened_at(0.0)
    assert circuit.admit(now).is_probe
    assert circuit.state is HALF_OPEN


@pytest.mark.parametrize(("now", "left"), [(0.0, 30.0), (10.0, 20.0), (30.0, 0.0), (99.0, 0.0)])
def test_the_seconds_left(now: float, left: float) -> None:
    assert opened_at(0.0).open_s_left(now) == left


def test_no_seconds_are_left_unless_open() -> None:
    assert Watched().open_s_left(-100.0) == 0.0
    assert half_opened_at(30.0).open_s_left(-100.0) == 0.0


def test_looking_makes_a_due_transition_once_and_no_other() -> None:
    circuit = opened_at(0.0)
    for now in (0.0, 29.999, 30.0, 31.0, 1e6):
        circuit.advance(now)
    assert [transition.trigger for transition in circuit.told] == [
        Trigger.CONSECUTIVE_FAILURES,
        Trigger.OPEN_ELAPSED,
    ]


def test_a_failed_probe_opens_for_the_whole_time_from_its_verdict_on() -> None:
    circuit = half_opened_at(30.0)
    with circuit.admit(31.0) as probe:
        probe.settle(FAILURE, 40.0)
    assert circuit.open_s_left(40.0) == 30.0


def test_a_closed_circuit_begins_a_new_run() -> None:
    circuit = half_opened_at(30.0)
    for outcome in (SUCCESS, SUCCESS, FAILURE, FAILURE):
        circuit.call(outcome, 30.0)
    assert circuit.state is CLOSED
    circuit.call(FAILURE, 30.0)
    assert circuit.state is OPEN


def test_each_half_open_counts_its_own_successes() -> None:
    circuit = half_opened_at(30.0)
    circuit.call(SUCCESS, 30.0)
    circuit.call(FAILURE, 30.0)
    circuit.call(SUCCESS, 60.0)
    assert circuit.state is HALF_OPEN


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_only_so_many_probes_at_once(limit: int) -> None:
    circuit = half_opened_at(30.0, replace(POLICY, half_open_in_flight=limit))
    probes = [circuit.admit(30.0) for _ in range(limit)]
    assert all(probe.is_probe for probe in probes)
    with pytest.raises(DestinationUnavailable) as refused:
        circuit.admit(30.0)
    error = refused.value
    assert (error.status, error.reason, error.retry_after_s) == (503, "circuit_half_open", 1)
    assert error.phrase == f"Circuit half-open for {KEY}"
    assert circuit.in_flight == limit


def test_a_settled_probe_makes_room_before_its_exchange_ends() -> None:
    circuit = half_opened_at(30.0)
    with circuit.admit(30.0) as streaming:
        streaming.settle(SUCCESS, 30.0)
        with circuit.admit(30.0) as second:
            assert second.is_probe
            assert circuit.in_flight == 2


def test_a_neutral_probe_makes_room() -> None:
    circuit = half_opened_at(30.0)
    circuit.call(NEUTRAL, 30.0)
    assert circuit.admit(30.0).is_probe
    assert (circuit.state, circuit.in_flight) == (HALF_OPEN, 1)


def test_a_probe_left_without_a_verdict_makes_room() -> None:
    circuit = half_opened_at(30.0)
    with circuit.admit(30.0):
        pass
    assert circuit.admit(30.0).is_probe
    assert circuit.tally.calls == {Verdict.FAILURE: 3}


def test_an_exception_gives_the_permit_back_and_passes() -> None:
    circuit = half_opened_at(30.0)
    with pytest.raises(KeyError), circuit.admit(30.0):
        raise KeyError
    assert (circuit.state, circuit.in_flight) == (HALF_OPEN, 0)
    assert circuit.admit(30.0).is_probe


def test_only_the_first_verdict_counts() -> None:
    circuit = half_opened_at(30.0)
    with circuit.admit(30.0) as probe:
        probe.settle(SUCCESS, 30.0)
        probe.settle(FAILURE, 30.0)
        probe.settle(SUCCESS, 30.0)
        assert probe.settled
    assert circuit.state is HALF_OPEN
    assert circuit.tally.calls == {Verdict.FAILURE: 3, Verdict.SUCCESS: 1}
    # Its slot came back once: one more probe, and not two.
    circuit.admit(30.0)
    with pytest.raises(DestinationUnavailable):
        circuit.admit(30.0)


def test_an_exchange_is_in_flight_until_it_ends() -> None:
    circuit = Watched()
    with circuit.admit(0.0) as permit:
        assert not permit.is_probe
        permit.settle(SUCCESS, 0.0)
        assert circuit.in_flight == 1
    assert circuit.in_flight == 0


@pytest.mark.parametrize("outcome", [SUCCESS, ALIVE, THROTTLED, FAILURE], ids=str)
@pytest.mark.parametrize(
    ("settled_at", "state"),
    [pytest.param(10.0, OPEN, id="while-open"), pytest.param(30.0, HALF_OPEN, id="later")],
)
def test_a_verdict_of_an_earlier_generation_changes_nothing(
    outcome: Outcome, settled_at: float, state: State
) -> None:
    circuit = Watched()
    with circuit.admit(0.0) as slow:
        for _ in range(3):
            circuit.call(FAILURE, 0.0)
        circuit.advance(settled_at)
        generation = circuit.generation
        slow.settle(outcome, settled_at)
        assert (circuit.state, circuit.generation, circuit.in_flight) == (state, generation, 1)
    assert circuit.in_flight == 0
    assert (circuit.tally.late, circuit.totals.late) == (1, 1)
    assert circuit.tally.calls == {Verdict.FAILURE: 3}


def test_a_stale_success_is_no_probe_of_the_next_half_open() -> None:
    circuit = Watched(replace(POLICY, recovery_threshold=1))
    slow = circuit.admit(0.0)
    for _ in range(3):
        circuit.call(FAILURE, 0.0)
    with circuit.admit(30.0) as probe:
        assert probe.is_probe
        slow.settle(SUCCESS, 31.0)
        assert circuit.state is HALF_OPEN


def test_a_stale_failure_does_not_open_a_circuit_that_has_recovered() -> None:
    circuit = Watched(replace(POLICY, consecutive_failures=1))
    slow = circuit.admit(0.0)
    circuit.call(FAILURE, 0.0)
    circuit.call(SUCCESS, 30.0)
    circuit.call(SUCCESS, 30.0)
    slow.settle(FAILURE, 31.0)
    assert circuit.state is CLOSED


def test_a_stale_probe_does_not_give_back_the_slot_of_a_later_one() -> None:
    circuit = half_opened_at(30.0, replace(POLICY, half_open_in_flight=2))
    stale = circuit.admit(30.0)
    circuit.call(FAILURE, 30.0)
    first, second = circuit.admit(60.0), circuit.admit(60.0)
    assert first.is_probe
    assert second.is_probe
    stale.settle(SUCCESS, 61.0)
    with pytest.raises(DestinationUnavailable):
        circuit.admit(61.0)
    assert circuit.tally.late == 1


def test_a_stale_neutral_verdict_is_not_even_counted() -> None:
    circuit = half_opened_at(30.0, replace(POLICY, half_open_in_flight=2))
    with circuit.admit(30.0):
        circuit.call(FAILURE, 30.0)
    assert circuit.tally.late == 0


def test_the_probes_beside_a_failed_one_are_late() -> None:
    circuit = half_opened_at(30.0, replace(POLICY, half_open_in_flight=3, recovery_threshold=1))
    probes = [circuit.admit(30.0) for _ in range(3)]
    for probe, outcome in zip(probes, (FAILURE, SUCCESS, FAILURE), strict=True):
        probe.settle(outcome, 31.0)
    assert circuit.state is OPEN
    assert circuit.open_s_left(31.0) == 30.0
    assert circuit.tally.late == 2


def test_what_is_counted() -> None:
    circuit = Watched()
    for outcome in (SUCCESS, ALIVE, THROTTLED, NEUTRAL, FAILURE, failed(FailureKind.RESET), FAILURE):
        circuit.call(outcome, 0.0)
    for _ in range(2):
        with pytest.raises(DestinationUnavailable):
            circuit.admit(1.0)
    circuit.admit(30.0)
    with pytest.raises(DestinationUnavailable):
        circuit.admit(30.0)
    expected = Tally(
        calls={Verdict.SUCCESS: 1, Verdict.ALIVE: 1, Verdict.THROTTLED: 1, Verdict.FAILURE: 3},
        failures={FailureKind.STATUS: 2, FailureKind.RESET: 1},
        rejected={"circuit_open": 2, "circuit_half_open": 1},
        transitions={
            (CLOSED, OPEN, Trigger.CONSECUTIVE_FAILURES): 1,
            (OPEN, HALF_OPEN, Trigger.OPEN_ELAPSED): 1,
        },
    )
    assert circuit.tally == expected
    assert circuit.totals == expected
    assert tuple(circuit.tally.rejected) == REJECTION_REASONS


def test_the_same_transition_adds_up() -> None:
    circuit = half_opened_at(30.0)
    circuit.call(FAILURE, 30.0)
    circuit.advance(60.0)
    assert circuit.tally.transitions[OPEN, HALF_OPEN, Trigger.OPEN_ELAPSED] == 2


@pytest.mark.parametrize(
    ("calls", "is_blank"),
    [
        pytest.param("", True, id="new"),
        pytest.param("SATN", True, id="no-failure"),
        pytest.param("F", False, id="a-failure"),
        pytest.param("FA", False, id="a-failure-and-4xx"),
        pytest.param("FS", True, id="a-failure-and-a-success"),
        pytest.param("FFF", False, id="open"),
    ],
)
def test_a_circuit_is_blank_while_a_new_one_would_know_as_much(calls: str, is_blank: bool) -> None:  # noqa: FBT001 -- a column of the table
    circuit = Watched()
    for call in calls:
        circuit.call(OUTCOMES[call], 0.0)
    assert circuit.is_blank is is_blank


def test_a_half_open_circuit_is_not_blank() -> None:
    assert not half_opened_at(30.0).is_blank


def test_new_settings_hold_from_the_next_decision_on() -> None:
    circuit = opened_at(0.0)
    circuit.policy = replace(POLICY, open=Seconds(5), half_open_in_flight=2, recovery_threshold=1)
    assert circuit.open_s_left(6.0) == 24.0, "the running open time stays"
    first, second = circuit.admit(30.0), circuit.admit(30.0)
    first.settle(FAILURE, 30.0)
    assert circuit.open_s_left(30.0) == 5.0
    assert circuit.admit(35.0).policy is second.policy is circuit.policy


def test_the_listener_sees_the_circuit_after_the_transition() -> None:
    seen: list[tuple[State, int]] = []
    circuit = Circuit(
        KEY,
        replace(POLICY, consecutive_failures=1),
        Tally(),
        lambda _: seen.append((circuit.state, circuit.generation)),
    )
    with circuit.admit(0.0) as permit:
        permit.settle(FAILURE, 0.0)
    assert seen == [(OPEN, 1)]


def test_the_end_of_an_exchange_is_told_when_nothing_of_it_is_in_flight() -> None:
    ended: list[tuple[Circuit, int]] = []
    circuit = Watched()
    with circuit.admit(0.0).on_end(lambda ended_circuit: ended.append((ended_circuit, circuit.in_flight))):
        assert ended == []
    assert ended == [(circuit, 0)]


def test_repr_shows_what_decides() -> None:
    circuit = half_opened_at(30.0)
    circuit.admit(30.0)
    assert repr(circuit) == f"<Circuit {KEY} half_open generation=2 run=0 in_flight=1 probes=1>"
