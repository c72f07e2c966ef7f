"""The table of transitions, pair by pair, in the words that the metrics use."""

from dataclasses import FrozenInstanceError

import pytest

from proxy.core.scope import Scope
from proxy.core.states import TRANSITIONS, Condition, State, Transition, Trigger

FROM = ("closed", "open", "half_open")
# Where each trigger leads from these; None: it cannot happen there, and must be missing.
TO: dict[str, tuple[str | None, str | None, str | None]] = {
    # What calls say: only a closed circuit weighs them, only a half-open one has probes.
    "consecutive_failures": ("open", None, None),
    "failure_ratio": ("open", None, None),
    "slow_ratio": ("open", None, None),
    "probe_failed": (None, None, "open"),
    "recovered": (None, None, "closed"),
    # What time does.
    "open_elapsed": (None, "half_open", None),
    # What an operator does; the end of an override never finds a circuit half-open.
    "forced_open": ("open", "open", "open"),
    "forced_closed": ("closed", "closed", "closed"),
    "override_ended": ("closed", "half_open", None),
    "reset": ("closed", "closed", "closed"),
}
PAIRS = [
    (from_state, trigger, to_state)
    for trigger, row in TO.items()
    for from_state, to_state in zip(FROM, row, strict=True)
]


def test_the_table_is_complete() -> None:
    assert sorted(FROM) == sorted(state.value for state in State)
    assert sorted(TO) == sorted(trigger.value for trigger in Trigger)
    assert len(PAIRS) == 30


@pytest.mark.parametrize(("from_state", "trigger", "to_state"), PAIRS)
def test_where_a_pair_leads(from_state: str, trigger: str, to_state: str | None) -> None:
    row = {key.value: state.value for key, state in TRANSITIONS[State(from_state)].items()}
    assert row.get(trigger) == to_state


@pytest.mark.parametrize(("from_state", "trigger"), [pair[:2] for pair in PAIRS if pair[2] is None])
def test_what_cannot_happen_is_a_bug(from_state: str, trigger: str) -> None:
    with pytest.raises(KeyError):
        TRANSITIONS[State(from_state)][Trigger(trigger)]


def test_an_operator_sees_the_state_or_what_stands_above_it() -> None:
    assert [condition.value for condition in Condition] == [
        "closed",
        "half_open",
        "open",
        "forced_open",
        "forced_closed",
        "disabled",
    ]


@pytest.mark.parametrize("members", [State, Trigger, Condition])
def test_members_are_told_apart_as_keys(members: type[State | Trigger | Condition]) -> None:
    assert len({member: member.value for member in members}) == len(members)


def test_a_transition_is_of_a_host_and_without_a_level_or_a_note_unless_said() -> None:
    change = Transition("a:443", State.OPEN, State.HALF_OPEN, Trigger.OPEN_ELAPSED, None, open_s=0.0, at=30.0)
    assert (change.scope, change.level, change.note) == (Scope.HOST, 0, "")
    with pytest.raises(FrozenInstanceError):
        change.at = 31.0  # type: ignore[misc]  # that it cannot is the point
