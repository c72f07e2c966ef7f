"""Counts, as tables of what happened and what is counted."""

import pytest

from proxy.core.outcome import (
    ALIVE,
    NEUTRAL,
    SUCCESS,
    THROTTLED,
    FailureKind,
    Outcome,
    Verdict,
    failed,
)
from proxy.core.states import State, Transition, Trigger
from proxy.core.tally import Tally

RESET, TLS = failed(FailureKind.RESET), failed(FailureKind.TLS)


@pytest.mark.parametrize(
    ("outcomes", "calls", "failures"),
    [
        ([], {}, {}),
        ([SUCCESS, SUCCESS], {Verdict.SUCCESS: 2}, {}),
        (
            [SUCCESS, ALIVE, THROTTLED, NEUTRAL],
            {Verdict.SUCCESS: 1, Verdict.ALIVE: 1, Verdict.THROTTLED: 1, Verdict.NEUTRAL: 1},
            {},
        ),
        (
            [RESET, TLS, SUCCESS, RESET],
            {Verdict.FAILURE: 3, Verdict.SUCCESS: 1},
            {FailureKind.RESET: 2, FailureKind.TLS: 1},
        ),
    ],
)
def test_calls(outcomes: list[Outcome], calls: dict[Verdict, int], failures: dict[FailureKind, int]) -> None:
    tally = Tally()
    for outcome in outcomes:
        tally.add_call(outcome)
    assert tally == Tally(calls=calls, failures=failures)


def test_probes_are_counted_beside_calls() -> None:
    tally = Tally()
    for verdict in (Verdict.FAILURE, Verdict.SUCCESS, Verdict.NEUTRAL, Verdict.SUCCESS):
        tally.add_probe(verdict)
    assert tally == Tally(probes={Verdict.FAILURE: 1, Verdict.SUCCESS: 2, Verdict.NEUTRAL: 1})


def test_refusals_by_reason_and_whether_they_were_enforced() -> None:
    tally = Tally()
    tally.add_rejected("circuit_open", enforced=True, would_wait_s=1.0)
    tally.add_rejected("circuit_open", enforced=False, would_wait_s=2.0)
    tally.add_rejected("circuit_open", enforced=True, would_wait_s=4.0)
    tally.add_rejected("too_many_in_flight", enforced=True, would_wait_s=8.0)
    assert tally == Tally(
        rejected={("circuit_open", True): 2, ("circuit_open", False): 1, ("too_many_in_flight", True): 1},
        # The caller of the one that was not enforced has waited.
        spared_s=13.0,
    )


def test_transitions_by_both_states_and_the_trigger() -> None:
    tally = Tally()
    opened = (State.CLOSED, State.OPEN, Trigger.FAILURE_RATIO)
    reopened = (State.HALF_OPEN, State.OPEN, Trigger.PROBE_FAILED)
    for at, key, change in ((1.0, "a", opened), (31.0, "a", reopened), (32.0, "b", opened)):
        tally.add_transition(Transition(key, *change, cause=RESET, open_s=30.0, at=at))
    assert tally == Tally(transitions={opened: 2, reopened: 1})


def test_two_tallies_share_nothing() -> None:
    tally, other = Tally(), Tally()
    tally.add_call(RESET)
    tally.add_probe(Verdict.FAILURE)
    tally.add_rejected("circuit_open", enforced=True, would_wait_s=1.0)
    tally.late += 1
    assert other == Tally({}, {}, {}, {}, 0.0, {}, 0)
