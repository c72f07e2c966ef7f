"""The share of calls that pass after closing."""

import pytest

from proxy.core.ramp import Ramp


def passed(ramp: Ramp, now: float, calls: int) -> int:
    count = 0
    for _ in range(calls):
        passes = ramp.passes(now)
        ramp.count(now, passed=passes)
        count += passes
    return count


@pytest.mark.parametrize(("now", "share"), [(100.0, 0.1), (150.0, 0.55), (200.0, 1.0)])
def test_the_share_grows_linearly(now: float, share: float) -> None:
    assert passed(Ramp(100.0, 100.0), now, 1000) == pytest.approx(1000 * share, abs=1)


def test_exactly_one_of_ten_passes_at_first_and_it_is_the_first() -> None:
    ramp = Ramp(0.0, 1e9)
    assert [passed(ramp, 0.0, 1) for _ in range(11)] == [1] + [0] * 9 + [1]


def test_asking_changes_nothing() -> None:
    ramp = Ramp(0.0, 100.0)
    assert [ramp.passes(0.0) for _ in range(5)] == [True] * 5


def test_it_is_over_at_its_end() -> None:
    assert not Ramp(0.0, 10.0).is_over(9.999)
    assert Ramp(0.0, 10.0).is_over(10.0)
