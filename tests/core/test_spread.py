"""The times that refused calls are told, one behind the other."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.spread import Spread


def first(count: int, width_s: float) -> list[float]:
    spread = Spread(width_s)
    return [spread.next_s() for _ in range(count)]


@pytest.mark.parametrize(
    ("width_s", "told"),
    [
        (1.0, [0.0, 0.618, 0.236, 0.854, 0.472, 0.090, 0.708, 0.326]),
        (15.0, [0.0, 9.271, 3.541, 12.812, 7.082, 1.353, 10.623, 4.894]),
        (0.0, [0.0] * 8),
    ],
)
def test_the_first_is_told_the_end_and_each_further_one_falls_into_a_gap(
    width_s: float, told: list[float]
) -> None:
    assert first(8, width_s) == pytest.approx(told, abs=0.001)


def test_a_hundred_fall_into_each_tenth_alike() -> None:
    tenths = [int(told_s) for told_s in first(100, 10.0)]
    assert {tenths.count(tenth) for tenth in range(10)} <= {9, 10, 11}


@given(before=st.integers(0, 10_000), count=st.integers(2, 500), width_s=st.floats(0.001, 1e6))
def test_calls_in_a_row_leave_no_gap_of_twice_their_share(before: int, count: int, width_s: float) -> None:
    told = sorted(first(before + count, width_s)[before:])
    assert told[0] >= 0.0
    assert told[-1] < width_s
    gaps = [later - earlier for earlier, later in pairwise([*told, told[0] + width_s])]
    assert max(gaps) < 2 * width_s / count
    assert min(gaps) > 0.3 * width_s / count
