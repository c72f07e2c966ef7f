"""How long a circuit stays open."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.circuits import FAILED, HOST, Rig, half_open, policy

from proxy.core import escalation
from proxy.core.policy import CircuitPolicy
from proxy.core.quantities import Seconds

NEVER = -math.inf


def levels(of: CircuitPolicy, count: int) -> list[tuple[int, float]]:
    reached, level = [], 0
    for _ in range(count):
        level = escalation.raised(of, level)
        reached.append((level, escalation.base_s(of, level)))
    return reached


@pytest.mark.parametrize(
    ("changes", "reached"),
    [
        ({}, [(1, 30), (2, 60), (3, 120), (4, 240), (5, 300), (5, 300)]),
        ({"open_max": 120}, [(1, 30), (2, 60), (3, 120), (3, 120)]),
        ({"open_multiplier": 1.0}, [(1, 30), (1, 30)]),
        ({"open": 300}, [(1, 300), (1, 300)]),
    ],
)
def test_each_opening_is_longer_up_to_the_most(
    changes: dict[str, float], reached: list[tuple[int, float]]
) -> None:
    assert levels(policy(**changes), len(reached)) == reached


def test_a_level_of_other_settings_is_brought_back_to_where_it_matters() -> None:
    assert escalation.bounded(policy(), 5000) == 5
    assert escalation.bounded(policy(open_multiplier=100), 5000) == 2
    assert escalation.bounded(policy(open_multiplier=1.0), 5000) == 1
    assert escalation.bounded(policy(), 0) == 0


@pytest.mark.parametrize(
    ("closed_s", "level"), [(0.0, 5), (59.9, 5), (60.0, 4), (180.0, 2), (300.0, 0), (1e9, 0)]
)
def test_the_level_falls_with_the_time_spent_closed(closed_s: float, level: int) -> None:
    assert escalation.decayed(policy(), 5, closed_s) == level


@pytest.mark.parametrize(
    ("drawn", "retry_after_s", "open_s"),
    [
        (0.0, NEVER, 24.0),
        (0.5, NEVER, 30.0),
        (1.0, NEVER, 36.0),
        (0.5, 29.0, 30.0),
        (0.5, 31.0, 31.0),
        (0.5, 1e9, 300.0),
        (0.5, math.inf, 300.0),
        (0.5, math.nan, 30.0),
        (0.5, -5.0, 30.0),
        (0.5, 0.0, 30.0),
    ],
)
def test_jitter_and_the_wish_of_the_upstream(drawn: float, retry_after_s: float, open_s: float) -> None:
    assert escalation.open_s(policy(open_jitter=0.2), 1, drawn, retry_after_s) == pytest.approx(open_s)


def test_the_wish_may_be_ignored_or_bounded() -> None:
    assert escalation.open_s(policy(retry_after=False), 1, 0.5, 100.0) == 30
    assert escalation.open_s(policy(retry_after_max=0), 1, 0.5, 100.0) == 30
    assert escalation.open_s(policy(retry_after_max=40), 1, 0.5, 100.0) == 40


@given(
    level=st.integers(1, 10_000),
    multiplier=st.floats(1, 100),
    jitter=st.floats(0, 0.9),
    drawn=st.floats(0, 1),
    wish_s=st.floats(),
)
def test_the_time_lies_within_its_formula(
    level: int, multiplier: float, jitter: float, drawn: float, wish_s: float
) -> None:
    settings = CircuitPolicy(open_multiplier=multiplier, open_jitter=jitter)
    open_s = escalation.open_s(settings, level, drawn, wish_s)
    assert 30 * (1 - jitter) - 1e-9 <= open_s <= max(300 * (1 + jitter) + 1e-9, Seconds(300))


# In the circuit.


def test_the_level_rises_with_failed_probes_and_stays_when_it_closes() -> None:
    rig = half_open()
    rig.call(FAILED, 30.0)
    rig.succeed(3, 90.0)
    rig.fail(5, 91.0)
    assert [change.open_s for change in rig.heard if change.open_s] == [30, 60, 120]
    assert rig.circuit().level == 3


def test_the_level_falls_while_the_circuit_is_closed() -> None:
    rig = half_open()
    rig.call(FAILED, 30.0)
    rig.succeed(3, 90.0)
    rig.fail(5, 90.0 + 60.0)
    assert rig.heard[-1].open_s == 60


def test_the_draw_is_made_once_for_each_opening() -> None:
    rig = Rig(policy(open_jitter=0.2), drawn=0.0)
    rig.fail(5, 0.0)
    rig.drawn = 1.0
    assert rig.refusal(23.0) == ("circuit_open", 1)
    assert rig.passes(24.0)
    rig.call(FAILED, 24.0)
    assert rig.heard[-1].open_s == pytest.approx(72)


def test_the_latest_failed_answer_of_this_generation_says_when_to_come_back() -> None:
    rig = Rig()
    rig.answer(500, 0.0, retry_after_at=500.0)
    rig.fail(3, 1.0)
    rig.answer(503, 2.0, retry_after_at=102.0)
    assert rig.heard[-1].open_s == 100
    # Good answers do not matter, and the next generation knows nothing of it.
    rig.call(FAILED, 102.0)
    assert rig.heard[-1].open_s == 60


def test_a_failed_probe_says_it_as_well() -> None:
    rig = half_open()
    rig.answer(503, 30.0, retry_after_at=230.0)
    assert rig.heard[-1].open_s == 200


def test_a_good_answer_does_not_say_it() -> None:
    rig = Rig()
    rig.fail(4, 0.0)
    rig.answer(404, 0.0, retry_after_at=500.0)
    rig.fail(1, 0.0)
    assert rig.heard[-1].open_s == 30
    assert rig.circuits.get(HOST) is not None
