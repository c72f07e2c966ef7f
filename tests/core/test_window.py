"""The counts of the last while."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.window import BUCKETS, Counts, Window


def window_of(*calls: tuple[float, bool, bool], length_s: float = 60.0) -> Window:
    window = Window(length_s)
    for at, failed, slow in calls:
        window.add(at, failed=failed, slow=slow)
    return window


def test_calls_failures_and_slow_ones_are_counted() -> None:
    window = window_of((1, True, False), (2, False, True), (3, True, True), (4, False, False))
    assert window.counts(4) == Counts(calls=4, failed=2, slow=2)


def test_a_bucket_leaves_as_a_whole_when_the_window_has_passed_it() -> None:
    window = window_of((0.0, True, False), (5.9, True, False), (6.0, True, False))
    assert window.counts(59.9).failed == 3
    assert window.counts(60.0).failed == 1
    assert window.counts(65.9).failed == 1
    assert window.counts(66.0) == Counts(0, 0, 0)


def test_a_long_silence_empties_it() -> None:
    window = window_of((1000.0, True, True))
    assert window.counts(1e9) == Counts(0, 0, 0)


def test_the_ratios_need_enough_calls() -> None:
    window = window_of((1, True, False), (1, True, False), (1, False, True))
    assert window.failed_at_least(0.6, 3, 1)
    assert not window.failed_at_least(0.6, 4, 1)
    assert not window.failed_at_least(0.7, 3, 1)
    assert window.slow_at_least(0.3, 3, 1)
    assert not window.slow_at_least(0.3, 3, 100)


def test_a_ratio_is_met_exactly() -> None:
    window = window_of(*[(1, number < 3, False) for number in range(30)])
    assert window.failed_at_least(0.1, 10, 1)


def test_clearing_forgets_everything() -> None:
    window = window_of((1, True, True))
    window.clear()
    assert window.counts(1) == Counts(0, 0, 0)


@given(
    length_s=st.sampled_from([0.1, 1.0, 60.0, 3600.0]),
    steps=st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.booleans()), max_size=60),
)
def test_the_sums_equal_a_recount_of_all_calls(
    length_s: float, steps: list[tuple[float, bool, bool]]
) -> None:
    window = Window(length_s)
    bucket_s = length_s / BUCKETS
    calls: list[tuple[float, bool, bool]] = []
    now = 0.0
    for step, failed, slow in steps:
        now += step * length_s * 0.3
        calls.append((now, failed, slow))
        window.add(now, failed=failed, slow=slow)
        inside = [call for call in calls if call[0] // bucket_s > now // bucket_s - BUCKETS]
        assert window.counts(now) == Counts(
            len(inside), sum(call[1] for call in inside), sum(call[2] for call in inside)
        )
