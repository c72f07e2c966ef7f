"""What is left of a circuit after some time without a process, in literal times."""

import math
from dataclasses import replace
from typing import Any

import pytest
from support.circuits import BY_PATH, HOST, policy

from proxy.core.policy import CircuitPolicy, Mode
from proxy.core.record import CONDITIONS, HIGHEST_LEVEL, MEANINGS, Record
from proxy.core.scope import CircuitKey
from proxy.core.states import Condition

OPEN, HALF_OPEN = Condition.OPEN, Condition.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = Condition.FORCED_OPEN, Condition.FORCED_CLOSED
# Openings of 30 s and then longer, up to 300 s.
POLICY = policy()


def record(state: Condition = OPEN, left_s: float | None = 60.0, **changes: Any) -> Record:
    return replace(Record(HOST, state, level=2, since_s=10.0, left_s=left_s, spread_s=30.0), **changes)


def aged(
    elapsed_s: float, of: Record, by: CircuitPolicy = POLICY
) -> tuple[Condition, float, float | None] | None:
    """State, since when and until when; None if nothing is left."""
    left = of.aged(elapsed_s, by)
    return None if left is None else (left.state, left.since_s, left.left_s)


def test_what_a_record_can_be_of() -> None:
    assert {CONDITIONS[meaning] for meaning in MEANINGS.values()} == set(MEANINGS)
    assert set(Condition) - set(MEANINGS) == {Condition.CLOSED, Condition.DISABLED}


@pytest.mark.parametrize(
    ("state", "left_s", "elapsed_s", "left"),
    [
        # The time without a process counts like any other.
        (OPEN, 60.0, 0.0, (OPEN, 10.0, 60.0)),
        (OPEN, 60.0, 59.0, (OPEN, 69.0, 1.0)),
        (OPEN, 60.0, 60.0, (HALF_OPEN, 0.0, None)),
        (OPEN, 60.0, 100.0, (HALF_OPEN, 40.0, None)),
        (OPEN, 60.0, 300.0, (HALF_OPEN, 240.0, None)),
        (OPEN, 60.0, 300.5, None),
        # An upstream can wish for more than open_max: what has time left is not stale.
        (OPEN, 300.0, 0.0, (OPEN, 10.0, 300.0)),
        (HALF_OPEN, None, 300.0, (HALF_OPEN, 310.0, None)),
        (HALF_OPEN, None, 300.5, None),
        # An operator's word holds until it ends.
        (FORCED_OPEN, None, 1e6, (FORCED_OPEN, 1e6 + 10.0, None)),
        (FORCED_CLOSED, None, 1e6, (FORCED_CLOSED, 1e6 + 10.0, None)),
        (FORCED_OPEN, 86400.0, 86399.0, (FORCED_OPEN, 86409.0, 1.0)),
        (FORCED_CLOSED, 86400.0, 86399.0, (FORCED_CLOSED, 86409.0, 1.0)),
        (FORCED_OPEN, 60.0, 61.0, (HALF_OPEN, 1.0, None)),
        (FORCED_OPEN, 60.0, 300.5, None),
        (FORCED_CLOSED, 60.0, 60.0, None),
    ],
)
def test_time_goes_by(
    state: Condition,
    left_s: float | None,
    elapsed_s: float,
    left: tuple[Condition, float, float | None] | None,
) -> None:
    assert aged(elapsed_s, record(state, left_s)) == left


def test_an_opening_that_outlasts_open_max_is_not_stale() -> None:
    asked = policy(retry_after_max=3600)
    assert aged(600.0, record(left_s=3600.0), asked) == (OPEN, 610.0, 3000.0)
    assert aged(600.0, record(left_s=599.0), asked) is None


@pytest.mark.parametrize(
    ("changes", "left_s"),
    [
        ({"open_max": 30, "retry_after_max": 20}, 30.0),
        ({"open_max": 30, "retry_after_max": 20, "open_jitter": 0.5}, 45.0),
        ({"open_max": 30, "retry_after_max": 120}, 120.0),
        ({"open_max": 30, "retry_after_max": 120, "retry_after": False}, 30.0),
    ],
)
def test_settings_of_now_bound_an_opening_but_not_an_operators_word(
    changes: dict[str, Any], left_s: float
) -> None:
    by = policy(**changes)
    assert aged(10.0, record(left_s=500.0), by) == (OPEN, 20.0, left_s)
    assert aged(10.0, record(FORCED_OPEN, 500.0), by) == (FORCED_OPEN, 20.0, 490.0)


def test_the_spread_stays_within_the_settings_of_now() -> None:
    spreads = {
        share: record(spread_s=40.0).aged(70.0, policy(retry_spread=share)) for share in (0.0, 0.1, 0.5)
    }
    assert {share: left and left.spread_s for share, left in spreads.items()} == {
        0.0: 0.0,
        0.1: 30.0,
        0.5: 40.0,
    }
    still_open = record(spread_s=40.0).aged(1.0, policy(retry_spread=0.1))
    half_open = record(HALF_OPEN, None, spread_s=40.0).aged(1.0, policy(retry_spread=0.1))
    assert [left and left.spread_s for left in (still_open, half_open)] == [30.0, 30.0]


def test_what_is_not_of_time_stays() -> None:
    spread = policy(retry_spread=0.5)
    before = record(FORCED_OPEN, None, note="maintenance", level=4)
    assert before.aged(10.0, spread) == replace(before, since_s=20.0)
    ended = record(FORCED_OPEN, 10.0, note="maintenance", level=4).aged(10.0, spread)
    assert ended == Record(HOST, HALF_OPEN, 4, 0.0, None, 30.0)


def test_nobody_asks_a_circuit_that_is_disabled_now() -> None:
    disabled = policy(mode=Mode.DISABLED)
    assert aged(0.0, record(), disabled) is None
    assert aged(0.0, record(HALF_OPEN, None), disabled) is None
    # Should it be asked again one day, the operator's word still stands.
    assert aged(0.0, record(FORCED_OPEN, None), disabled) == (FORCED_OPEN, 10.0, None)
    assert aged(0.0, record(), policy(mode=Mode.OBSERVE)) == (OPEN, 10.0, 60.0)


@pytest.mark.parametrize("state", [OPEN, FORCED_OPEN])
def test_an_endpoint_that_is_told_by_something_else_now_is_nobody(state: Condition) -> None:
    endpoint = record(state, key=f"{HOST}#0011223344556677", told_by="path")
    assert endpoint.host == HOST
    assert aged(0.0, endpoint, policy(key=BY_PATH)) == (state, 10.0, 60.0)
    assert aged(0.0, endpoint, policy(key=CircuitKey.parse("path:2"))) is None
    assert aged(0.0, endpoint, policy()) is None
    assert aged(0.0, replace(endpoint, told_by="host"), policy()) is None
    half_open = endpoint.aged(60.0, policy(key=BY_PATH))
    assert half_open is not None
    assert (half_open.key, half_open.told_by) == (endpoint.key, "path")


def test_a_host_stays_one_whatever_tells_its_endpoints() -> None:
    assert aged(0.0, record(), policy(key=BY_PATH)) == (OPEN, 10.0, 60.0)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"since_s": -0.1}, "a time is negative"),
        ({"since_s": math.inf}, "a time is negative or without bound"),
        ({"left_s": -0.1}, "a time is negative"),
        ({"left_s": math.nan}, "a time is negative"),
        ({"spread_s": -1.0}, "a time is negative"),
        ({"level": -1}, "a level"),
        ({"level": HIGHEST_LEVEL + 1}, "a level is not from 0 to 1000"),
        ({"state": Condition.CLOSED}, "nothing is to be remembered of a circuit that is closed"),
        ({"state": Condition.DISABLED}, "nothing is to be remembered of a circuit that is disabled"),
        ({"state": HALF_OPEN}, "an opening has an end"),
        ({"left_s": None}, "an opening has an end"),
    ],
)
def test_what_no_circuit_is_like(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        record(**changes)
