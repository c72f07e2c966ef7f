"""Turns, one after the other."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.pace import Pace


def test_nobody_waits_where_nobody_is_before() -> None:
    pace = Pace(0.5)
    assert [pace.turn_in_s(now) for now in (10.0, 10.5, 12.0)] == [0, 0, 0]


def test_many_at_once_come_one_after_the_other() -> None:
    pace = Pace(0.5)
    assert [pace.turn_in_s(10.0) for _ in range(4)] == [0, 0.5, 1.0, 1.5]
    assert pace.turn_in_s(11.75) == 0.25


@given(st.lists(st.floats(0, 10), max_size=50))
def test_no_two_turns_are_closer_than_that(steps: list[float]) -> None:
    pace, now, turns = Pace(0.25), 0.0, list[float]()
    for step in steps:
        now += step
        waits_s = pace.turn_in_s(now)
        assert waits_s >= 0
        turns.append(now + waits_s)
    assert all(later - earlier >= 0.25 - 1e-9 for earlier, later in pairwise(turns))
    # And none is later than it has to be.
    assert turns == pytest.approx(expected(steps))


def expected(steps: list[float]) -> list[float]:
    found, now = list[float](), 0.0
    for step in steps:
        now += step
        found.append(max(now, found[-1] + 0.25) if found else now)
    return found
