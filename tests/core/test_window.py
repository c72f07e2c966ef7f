"""The counts of the last while."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.window import BUCKETS, Counts, Window

EMPTY = Counts(0, 0, 0, 0.0)
# When, whether it failed, whether it was slow, and for how long the upstream owed.
Call = tuple[float, bool, bool, float]


def window_of(*calls: Call, length_s: float = 60.0) -> Window:
    window = Window(length_s)
    for at, failed, slow, upstream_s in calls:
        window.add(at, failed=failed, slow=slow, upstream_s=upstream_s)
    return window


def test_calls_failures_slow_ones_and_what_the_upstream_owed_are_counted() -> None:
    window = window_of(
        (1, True, False, 0.5), (2, False, True, 2.0), (3, True, True, 4.0), (4, False, False, 0)
    )
    assert window.counts(4) == Counts(calls=4, failed=2, slow=2, upstream_s=6.5)


def test_a_bucket_leaves_as_a_whole_when_the_window_has_passed_it() -> None:
    window = window_of((0.0, True, False, 1.0), (5.9, True, False, 2.0), (6.0, True, False, 4.0))
    assert window.counts(59.9) == Counts(3, 3, 0, 7.0)
    assert window.counts(60.0) == Counts(1, 1, 0, 4.0)
    assert window.counts(65.9) == Counts(1, 1, 0, 4.0)
    assert window.counts(66.0) == EMPTY


def test_a_long_silence_empties_it() -> None:
    window = window_of((1000.0, True, True, 1.0))
    assert window.counts(1e9) == EMPTY


@pytest.mark.parametrize(
    ("counts", "mean_s"), [(EMPTY, None), (Counts(4, 0, 0, 0.0), 0.0), (Counts(4, 3, 2, 6.0), 1.5)]
)
def test_the_mean_needs_a_call(counts: Counts, mean_s: float | None) -> None:
    assert counts.mean_upstream_s == mean_s


def test_its_buckets_are_told_oldest_first() -> None:
    window = window_of((0.0, True, False, 1.0), (5.9, False, True, 2.0), (54.0, True, True, 4.0))
    first, last = Counts(2, 1, 1, 3.0), Counts(1, 1, 1, 4.0)
    assert window.buckets(59.9) == [first, *[EMPTY] * 8, last]
    # A bucket later the first has left, and nothing has come.
    assert window.buckets(60.0) == [EMPTY] * 8 + [last, EMPTY]
    assert window.buckets(65.9) == [EMPTY] * 8 + [last, EMPTY]
    assert window.buckets(113.9) == [last, *[EMPTY] * 9]
    assert window.buckets(114.0) == [EMPTY] * BUCKETS


def test_the_first_calls_are_in_the_newest_bucket() -> None:
    window = window_of((1.0, False, False, 0.0))
    assert window.buckets(1.0) == [*[EMPTY] * 9, Counts(1, 0, 0, 0.0)]


def test_the_ratios_need_enough_calls() -> None:
    window = window_of((1, True, False, 0), (1, True, False, 0), (1, False, True, 0))
    assert window.failed_at_least(0.6, 3, 1)
    assert not window.failed_at_least(0.6, 4, 1)
    assert not window.failed_at_least(0.7, 3, 1)
    assert window.slow_at_least(0.3, 3, 1)
    assert not window.slow_at_least(0.3, 3, 100)


def test_a_ratio_is_met_exactly() -> None:
    window = window_of(*[(1, number < 3, False, 0.0) for number in range(30)])
    assert window.failed_at_least(0.1, 10, 1)


def test_clearing_forgets_everything() -> None:
    window = window_of((1, True, True, 1.0))
    window.clear()
    assert window.counts(1) == EMPTY
    assert window.buckets(1) == [EMPTY] * BUCKETS


@given(
    length_s=st.sampled_from([0.1, 1.0, 60.0, 3600.0]),
    # Whole seconds are owed, so that sums are exact.
    steps=st.lists(
        st.tuples(st.floats(0, 2), st.booleans(), st.booleans(), st.integers(0, 99).map(float)), max_size=60
    ),
)
def test_the_sums_equal_a_recount_of_all_calls(length_s: float, steps: list[Call]) -> None:
    window = Window(length_s)
    bucket_s = length_s / BUCKETS
    calls: list[Call] = []
    now = 0.0
    for step, failed, slow, upstream_s in steps:
        now += step * length_s * 0.3
        calls.append((now, failed, slow, upstream_s))
        window.add(now, failed=failed, slow=slow, upstream_s=upstream_s)
        newest = now // bucket_s
        by_bucket = [
            [call for call in calls if call[0] // bucket_s == newest - BUCKETS + 1 + number]
            for number in range(BUCKETS)
        ]
        assert window.counts(now) == recounted([call for bucket in by_bucket for call in bucket])
        assert window.buckets(now) == [recounted(bucket) for bucket in by_bucket]


def recounted(calls: list[Call]) -> Counts:
    return Counts(
        len(calls),
        sum(call[1] for call in calls),
        sum(call[2] for call in calls),
        sum(call[3] for call in calls),
    )
