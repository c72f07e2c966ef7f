"""The circuit of one key, through the table as the line uses it."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.circuits import ABANDONED, FAILED, HOST, REFUSED, Rig, exchange, half_open, policy

from proxy.core.errors import ConnectionLimitReached, DestinationUnavailable
from proxy.core.exchange import Awaited
from proxy.core.outcome import ALIVE, NEUTRAL, SUCCESS, THROTTLED, FailureKind, Outcome, Verdict
from proxy.core.overrides import Force
from proxy.core.policy import Mode
from proxy.core.scope import Scope
from proxy.core.states import TRANSITIONS, Condition, State, Transition, Trigger
from proxy.core.window import Counts

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


def test_every_state_and_every_trigger_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {trigger for row in TRANSITIONS.values() for trigger in row} == set(Trigger)


# Closed: what opens it.


def test_failures_in_a_row_open_it() -> None:
    rig = Rig()
    rig.fail(4, 1.0)
    assert rig.state(1.0) is CLOSED
    rig.fail(1, 2.0)
    assert rig.state(2.0) is OPEN
    assert rig.heard == [
        Transition(
            key=HOST,
            scope=Scope.HOST,
            from_state=CLOSED,
            to_state=OPEN,
            trigger=Trigger.CONSECUTIVE_FAILURES,
            cause=FAILED,
            open_s=30.0,
            at=2.0,
            level=1,
        )
    ]


@pytest.mark.parametrize(
    ("between", "opens"),
    [(SUCCESS, False), (ALIVE, True), (THROTTLED, True), (NEUTRAL, True), (REFUSED, True), (ABANDONED, True)],
)
def test_what_ends_a_run_of_failures(between: Outcome, *, opens: bool) -> None:
    rig = Rig(policy(min_calls=0))
    rig.fail(4, 1.0)
    rig.call(between, 1.0)
    rig.fail(1, 1.0) if rig.state(1.0) is CLOSED else None
    assert (rig.state(1.0) is OPEN) is opens


def test_no_run_opens_it_when_that_is_off() -> None:
    rig = Rig(policy(consecutive_failures=0, min_calls=0))
    rig.fail(100, 1.0)
    assert rig.state(1.0) is CLOSED


def test_a_share_of_failures_opens_it_once_there_are_enough_calls() -> None:
    rig = Rig(policy(min_calls=6, failure_ratio=0.5))
    for _ in range(2):
        rig.fail(1, 1.0)
        rig.succeed(1, 1.0)
    rig.fail(1, 1.0)
    assert rig.state(1.0) is CLOSED
    rig.succeed(1, 1.0)
    assert rig.state(1.0) is OPEN
    assert rig.heard[0].trigger is Trigger.FAILURE_RATIO


def test_throttled_calls_count_as_failed_in_the_window() -> None:
    rig = Rig(policy(min_calls=4))
    for _ in range(4):
        rig.call(THROTTLED, 1.0)
    assert rig.heard[0].trigger is Trigger.FAILURE_RATIO
    assert rig.heard[0].cause == THROTTLED


@pytest.mark.parametrize("off", [{"min_calls": 0}, {"failure_ratio": 0.0}])
def test_no_share_opens_it_when_that_is_off(off: dict[str, float]) -> None:
    rig = Rig(policy(consecutive_failures=0, **off))
    rig.fail(100, 1.0)
    assert rig.state(1.0) is CLOSED


def test_failures_that_have_left_the_window_do_not_count() -> None:
    rig = Rig(policy(consecutive_failures=0, min_calls=4))
    rig.fail(3, 0.0)
    rig.fail(3, 60.0)
    assert rig.state(60.0) is CLOSED
    rig.fail(1, 60.0)
    assert rig.state(60.0) is OPEN


def test_a_share_of_slow_calls_opens_it() -> None:
    rig = Rig(policy(min_calls=2, slow_ratio=1.0, slow_call=10))
    for started in (0.0, 20.0):
        with rig.circuits.admit(HOST, rig.policy, call := exchange(started), started) as permit:
            call.wait_for(Awaited.RESPONSE_HEAD, 30.0, started)
            outcome = permit.head(200, None, started + 10.0)
            call.wait_for(Awaited.RESPONSE_CONTENT, 30.0, started + 10.0)
            permit.settle(outcome, started + 11.0)
    assert rig.heard[0].trigger is Trigger.SLOW_RATIO


def test_slow_calls_are_counted_although_no_share_of_them_opens_it() -> None:
    rig = Rig(policy(slow_call=10))
    for upstream_s in (10.0, 9.9):
        permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 30.0 - upstream_s)
        with permit:
            permit.settle(permit.head(200, None, 30.0), 30.0)
    assert rig.circuit().counts(30.0).slow == 1


def test_the_latency_is_what_the_upstream_owed_up_to_the_head() -> None:
    rig = Rig()
    for upstream_s in (1.0, 4.0):
        permit, call = rig.waiting(Awaited.REQUEST_CONTENT, 0.0)
        with permit:
            call.wait_for(Awaited.RESPONSE_HEAD, 30.0, 20.0)
            outcome = permit.head(404, None, 20.0 + upstream_s)
            call.wait_for(Awaited.RESPONSE_CONTENT, 60.0, 20.0 + upstream_s)
            permit.settle(outcome, 50.0)
    assert rig.circuit().counts(50.0).mean_upstream_s == 2.5


def test_a_call_without_an_answer_is_slow_by_what_the_upstream_owed() -> None:
    rig = Rig(policy(min_calls=1, slow_ratio=1.0, slow_call=10, failure_ratio=0.0))
    permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 0.0)
    with permit:
        permit.settle(FAILED, 10.0)
    assert rig.heard[0].trigger is Trigger.SLOW_RATIO


def test_the_time_that_the_client_takes_is_not_slow() -> None:
    rig = Rig(policy(min_calls=1, slow_ratio=1.0, slow_call=10))
    permit, call = rig.waiting(Awaited.REQUEST_CONTENT, 0.0)
    with permit:
        call.wait_for(Awaited.RESPONSE_HEAD, 30.0, 100.0)
        outcome = permit.head(200, None, 109.0)
        # Nor is the content's.
        call.wait_for(Awaited.RESPONSE_CONTENT, 60.0, 109.0)
        permit.settle(outcome, 150.0)
    assert rig.state(150.0) is CLOSED


# Open.


def test_an_open_circuit_refuses_and_says_for_how_long() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    with pytest.raises(DestinationUnavailable) as refused:
        rig.admit(0.5)
    assert refused.value.status == 503
    assert refused.value.reason == "circuit_open"
    assert refused.value.phrase == f"Circuit open for {HOST}"
    assert refused.value.retry_after_s == 30
    assert rig.refusal(29.5) == ("circuit_open", 1)
    assert rig.passes(30.0)


def test_the_time_it_was_open_adds_up() -> None:
    rig = half_open(30.0)
    assert rig.circuit().open_seconds(40.0) == 30.0
    rig.fail(1, 40.0)
    assert rig.circuit().open_seconds(45.0) == 35.0
    assert rig.circuit().open_s_left(45.0) == 55.0
    assert rig.state(100.0) is HALF_OPEN
    assert rig.circuit().open_seconds(200.0) == 90.0
    assert rig.circuit().open_s_left(200.0) == 0.0


def told(rig: Rig, now: float, calls: int) -> list[int | None]:
    """The seconds that so many calls are told in a row, all of them refused for the same reason."""
    refusals = [rig.refusal(now) for _ in range(calls)]
    assert len({refusal[0] for refusal in refusals if refusal}) == 1
    return [refusal and refusal[1] for refusal in refusals]


def test_refused_calls_are_not_all_told_the_end_of_the_opening() -> None:
    rig = Rig(policy(retry_spread=0.5))
    rig.fail(5, 0.0)
    # 0, 0.618, 0.236, 0.854, ... of half of 30 s.
    assert told(rig, 0.0, 8) == [30, 40, 34, 43, 38, 32, 41, 35]
    assert told(rig, 29.5, 2) == [15, 9]


def test_the_spread_is_of_the_opening_as_the_upstream_wished_it() -> None:
    rig = Rig(policy(retry_spread=2))
    for _ in range(5):
        rig.answer(503, 0.0, retry_after_at=200.0)
    assert told(rig, 0.0, 4) == [200, 448, 295, 542]


def test_each_opening_spreads_anew_over_its_own_length() -> None:
    rig = Rig(policy(retry_spread=0.5))
    rig.fail(5, 0.0)
    assert told(rig, 0.0, 2) == [30, 40]
    rig.fail(1, 30.0)
    assert rig.heard[-1].open_s == 60
    assert told(rig, 30.0, 3) == [60, 79, 68]


def test_other_settings_leave_the_spread_of_an_opening_as_it_is() -> None:
    rig = Rig(policy(retry_spread=0.5))
    rig.fail(5, 0.0)
    rig.policy = policy(retry_spread=0, open=1)
    assert told(rig, 0.0, 2) == [30, 40]


# Half-open.


def test_calls_beside_a_probe_that_hangs_are_told_more_than_a_second() -> None:
    rig = half_open(retry_spread=0.5)
    with rig.admit(30.0):
        assert told(rig, 30.0, 5) == [1, 10, 4, 13, 8]
    # The next probe goes on where that was.
    with rig.admit(31.0):
        assert told(rig, 31.0, 2) == [2, 11]


def test_half_open_goes_on_with_the_times_of_the_opening() -> None:
    rig = Rig(policy(retry_spread=0.5))
    rig.fail(5, 0.0)
    assert told(rig, 20.0, 3) == [10, 20, 14]
    with rig.admit(30.0):
        assert told(rig, 30.0, 2) == [13, 8]


def test_what_is_refused_for_another_reason_has_no_time_in_the_spread() -> None:
    rig = half_open(retry_spread=0.5, max_in_flight=1, half_open_in_flight=2)
    with rig.admit(30.0):
        assert told(rig, 30.0, 3) == [1, 1, 1]
    rig = half_open(retry_spread=0.5, recovery_threshold=1, ramp=1e9)
    rig.succeed(1, 30.0)
    assert rig.passes(30.0)
    assert told(rig, 30.0, 3) == [1, 1, 1]


@given(
    spread=st.floats(0, 10),
    drawn=st.floats(0, 1),
    wish_s=st.floats(0, 1000),
    waits_s=st.lists(st.floats(0, 5), min_size=1, max_size=40),
)
def test_nobody_is_told_a_time_before_the_end_or_behind_the_spread(
    spread: float, drawn: float, wish_s: float, waits_s: list[float]
) -> None:
    rig = Rig(policy(retry_spread=spread, open_jitter=0.2), drawn=drawn)
    for _ in range(5):
        rig.answer(503, 0.0, retry_after_at=wish_s)
    length_s = rig.heard[-1].open_s
    now, probe = 0.0, None
    for wait_s in waits_s:
        now += wait_s
        if now >= length_s and probe is None:
            probe = rig.admit(now)
        refusal = rig.refusal(now)
        assert refusal is not None
        assert refusal[1] is not None
        left_s = max(0.0, length_s - now)
        assert max(1, left_s) <= refusal[1] < max(1.0, left_s + spread * length_s) + 1
        if not spread:
            assert refusal[1] == max(1, ceil(left_s))


def test_as_many_probes_as_allowed_at_once() -> None:
    rig = half_open(half_open_in_flight=2)
    with rig.admit(30.0) as first, rig.admit(30.0):
        assert first.is_probe
        assert rig.circuit().probes == 2
        assert rig.refusal(30.0) == ("circuit_half_open", 1)
        first.settle(SUCCESS, 31.0)
        # A settled probe gives its place to the next, though its content still flows.
        assert rig.passes(31.0)


def test_so_many_good_probes_close_it() -> None:
    rig = half_open()
    rig.succeed(2, 31.0)
    assert rig.state(31.0) is HALF_OPEN
    rig.call(ALIVE, 32.0)
    assert rig.state(32.0) is CLOSED
    assert rig.heard[-1].trigger is Trigger.RECOVERED
    assert rig.circuit().counts(32.0) == Counts(0, 0, 0, 0.0)


@pytest.mark.parametrize("outcome", [FAILED, THROTTLED, REFUSED, ABANDONED])
def test_one_failed_probe_reopens_it(outcome: Outcome) -> None:
    rig = half_open()
    rig.succeed(2, 31.0)
    rig.call(outcome, 32.0)
    assert rig.state(32.0) is OPEN
    assert rig.heard[-1].trigger is Trigger.PROBE_FAILED


def test_a_probe_is_judged_at_the_head() -> None:
    rig = half_open(recovery_threshold=1)
    with rig.admit(30.0) as permit:
        outcome = permit.head(200, None, 31.0)
        assert rig.state(31.0) is CLOSED
        assert rig.circuit().tally.late == 0
        permit.settle(outcome, 99.0)
    assert rig.circuit().tally.calls == {Verdict.FAILURE: 5, Verdict.SUCCESS: 1}
    assert rig.circuit().tally.probes == {Verdict.SUCCESS: 1}
    assert rig.circuit().tally.late == 0


def test_a_call_that_is_no_probe_is_booked_at_its_completion() -> None:
    rig = Rig(policy(consecutive_failures=1))
    with rig.admit(0.0) as permit:
        outcome = permit.head(500, None, 1.0)
        assert rig.state(1.0) is CLOSED
        permit.settle(outcome, 2.0)
        assert rig.state(2.0) is OPEN


# Generations.


def test_only_the_first_verdict_counts() -> None:
    rig = Rig(policy(consecutive_failures=1))
    with rig.admit(0.0) as permit:
        permit.settle(SUCCESS, 0.0)
        permit.settle(FAILED, 0.0)
    assert rig.state(0.0) is CLOSED
    assert rig.circuit().tally.calls == {Verdict.SUCCESS: 1}


def test_a_verdict_of_an_earlier_generation_is_late_unless_it_is_neutral() -> None:
    rig = Rig()
    permits = [rig.admit(0.0) for _ in range(2)]
    rig.fail(5, 0.0)
    for permit, outcome in zip(permits, (FAILED, NEUTRAL), strict=True):
        with permit:
            permit.settle(outcome, 1.0)
    assert rig.circuit().tally.late == rig.circuits.totals.late == 1
    assert rig.circuit().tally.calls == {Verdict.FAILURE: 5}
    assert rig.circuit().in_flight == 0


def test_a_permit_shows_what_it_is_of() -> None:
    with Rig().admit(0.0) as permit:
        assert repr(permit) == f"<Permit {HOST}>"
        permit.settle(SUCCESS, 0.0)
        assert repr(permit) == f"<Permit {HOST} settled>"


# In flight.


def test_too_many_in_flight() -> None:
    rig = Rig(policy(max_in_flight=1))
    with rig.admit(0.0) as permit:
        permit.settle(SUCCESS, 0.0)
        with pytest.raises(ConnectionLimitReached) as refused:
            rig.admit(0.0)
    assert (refused.value.reason, refused.value.retry_after_s) == ("too_many_in_flight", 1)
    assert rig.passes(0.0)
    assert rig.circuits.totals.rejected == {("too_many_in_flight", True): 1}


def test_the_circuit_is_asked_before_the_limit_and_a_refusal_takes_no_probe() -> None:
    rig = half_open(max_in_flight=1, half_open_in_flight=2)
    with rig.admit(30.0):
        assert rig.refusal(30.0) == ("too_many_in_flight", 1)
        assert rig.circuit().probes == 1


# Ramp.


def test_after_closing_calls_come_back_in_growing_shares() -> None:
    rig = half_open(recovery_threshold=1, ramp=100)
    rig.succeed(1, 30.0)

    def passed(at: float) -> int:
        return sum(rig.passes(at) for _ in range(100))

    assert passed(30.0) == 10
    assert rig.passes(30.0)
    assert rig.refusal(30.0) == ("circuit_ramping", 1)
    assert passed(80.0) == 55
    assert passed(130.0) == 100
    assert rig.circuit().tally.rejected == {("circuit_ramping", True): 90 + 1 + 45}


def test_neither_a_reset_nor_the_end_of_an_override_ramps() -> None:
    rig = half_open(ramp=100)
    rig.circuits.reset(HOST, 30.0)
    assert all(rig.passes(30.0) for _ in range(10))


# Modes.


def test_observing_refuses_nothing_and_counts_what_it_would() -> None:
    rig = Rig(policy(mode=Mode.OBSERVE))
    rig.fail(5, 0.0)
    assert rig.state(1.0) is OPEN
    with rig.admit(1.0) as shadow:
        assert repr(shadow) == "<Permit of no circuit>"
        assert not shadow.is_probe
        shadow.settle(shadow.head(200, None, 1.0), 1.0)
    assert rig.circuits.totals.rejected == {("circuit_open", False): 1}
    assert rig.circuit().tally.calls == {Verdict.FAILURE: 5}
    assert rig.circuit().in_flight == 0
    rig.succeed(3, 30.0)
    assert rig.state(30.0) is CLOSED


def test_what_observing_would_refuse_has_a_time_in_the_spread() -> None:
    rig = Rig(policy(mode=Mode.OBSERVE, retry_spread=0.5))
    rig.fail(5, 0.0)
    assert [rig.refusal(0.0) for _ in range(3)] == [None] * 3
    rig.policy = policy(retry_spread=0.5)
    assert told(rig, 0.0, 2) == [43, 38]


def test_observing_gives_shadows_beside_a_probe() -> None:
    rig = half_open(mode=Mode.OBSERVE)
    with rig.admit(30.0) as probe, rig.admit(30.0) as shadow:
        shadow.settle(FAILED, 30.0)
        assert rig.state(30.0) is HALF_OPEN
        probe.settle(FAILED, 30.0)
        assert rig.state(30.0) is OPEN


def test_disabled_asks_nobody_and_books_nothing() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    rig.policy = policy(mode=Mode.DISABLED)
    rig.fail(5, 1.0)
    rig.fail(5, 1.0, "other:80")
    assert rig.circuits.get("other:80") is None
    assert rig.condition(1.0) is Condition.DISABLED
    assert rig.circuit().tally.calls == {Verdict.FAILURE: 5}
    # Its state is kept meanwhile.
    rig.policy = policy()
    assert rig.refusal(2.0) == ("circuit_open", 28)


def test_what_was_admitted_before_it_was_disabled_is_not_booked() -> None:
    rig = half_open()
    with rig.admit(30.0) as permit:
        rig.policy = policy(mode=Mode.DISABLED)
        rig.call(SUCCESS, 30.0)
        permit.settle(FAILED, 31.0)
    assert rig.state(99.0) is HALF_OPEN
    assert rig.circuit().probes == 0
    rig.policy = policy()
    assert rig.passes(99.0)


# Overrides.


def test_forced_open_refuses_and_ends_in_half_open() -> None:
    rig = Rig()
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, note="they asked us to")
    assert rig.condition(1000.0) is Condition.FORCED_OPEN
    assert rig.refusal(1000.0) == ("circuit_forced_open", 60)
    assert (rig.heard[-1].trigger, rig.heard[-1].note) == (Trigger.FORCED_OPEN, "they asked us to")
    rig.circuits.clear_override(HOST, 1000.0)
    assert rig.condition(1000.0) is Condition.HALF_OPEN
    assert rig.circuit().level == 0


def test_forced_open_for_a_time() -> None:
    rig = Rig()
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    assert rig.heard[-1].open_s == 10.0
    assert rig.refusal(4.0) == ("circuit_forced_open", 6)
    assert rig.state(9.999) is OPEN
    assert rig.state(10.0) is HALF_OPEN


def test_forced_open_for_a_time_spreads_over_no_more_than_the_longest_opening() -> None:
    rig = Rig(policy(retry_spread=0.5))
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    assert told(rig, 4.0, 3) == [6, 10, 8]
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 4.0, ttl_s=86_400.0)
    # Half of 5 minutes, not of a day.
    assert told(rig, 4.0, 3) == [86_400, 86_493, 86_436]
    with rig.admit(86_404.0):
        assert told(rig, 86_404.0, 2) == [129, 71]


def test_forced_open_without_an_end_spreads_only_once_it_is_taken_back() -> None:
    rig = Rig(policy(retry_spread=0.5))
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0)
    assert told(rig, 0.0, 3) == [60, 60, 60]
    rig.circuits.clear_override(HOST, 100.0)
    with rig.admit(100.0):
        assert told(rig, 100.0, 3) == [1, 93, 36]


def test_forced_closed_passes_all_books_nothing_and_ends_empty() -> None:
    rig = half_open()
    rig.circuits.force(HOST, rig.policy, Force.CLOSED, 30.0, ttl_s=100.0)
    assert rig.condition(30.0) is Condition.FORCED_CLOSED
    with rig.admit(31.0) as permit:
        rig.fail(20, 31.0)
        assert rig.state(129.0) is CLOSED
        assert rig.condition(130.0) is Condition.CLOSED
        permit.settle(FAILED, 131.0)
    assert rig.circuit().run == 0
    assert rig.circuit().tally.calls == {Verdict.FAILURE: 5}
    assert rig.circuit().tally.late == 1


def test_one_override_replaces_another() -> None:
    rig = Rig()
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    rig.circuits.force(HOST, rig.policy, Force.CLOSED, 5.0, ttl_s=10.0)
    assert rig.condition(14.0) is Condition.FORCED_CLOSED
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 14.0)
    assert rig.condition(1e6) is Condition.FORCED_OPEN


def test_setting_and_clearing_an_override_begin_a_generation() -> None:
    rig = Rig(policy(consecutive_failures=1))
    permit = rig.admit(0.0)
    rig.circuits.force(HOST, rig.policy, Force.CLOSED, 0.0)
    rig.circuits.clear_override(HOST, 1.0)
    with permit:
        permit.settle(FAILED, 2.0)
    assert rig.state(2.0) is CLOSED


def test_clearing_no_override_changes_nothing() -> None:
    rig = Rig()
    rig.fail(1, 0.0)
    rig.circuits.clear_override(HOST, 1.0)
    assert rig.circuit().run == 1
    assert rig.heard == []


def test_a_reset_closes_it_on_level_0_without_an_override() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 1.0)
    rig.circuits.reset(HOST, 2.0)
    assert rig.condition(2.0) is Condition.CLOSED
    assert rig.circuit().level == 0
    assert rig.heard[-1].trigger is Trigger.RESET


# Settings that change.


def test_other_settings_leave_an_opening_as_it_is() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    rig.policy = policy(open=1)
    assert rig.refusal(10.0) == ("circuit_open", 20)
    rig.call(FAILED, 30.0)
    assert rig.heard[-1].open_s == 2.0


def test_the_window_starts_anew_only_if_its_length_changed() -> None:
    rig = Rig()
    rig.fail(2, 0.0)
    rig.policy = policy(open=1)
    rig.fail(1, 0.0)
    assert rig.circuit().counts(0.0).calls == 3
    rig.policy = policy(window=10)
    rig.fail(1, 0.0)
    assert rig.circuit().counts(0.0).calls == 1
    assert rig.circuit().run == 4


def test_it_shows_what_it_is() -> None:
    rig = half_open()
    with rig.admit(30.0):
        assert (
            repr(rig.circuit())
            == f"<Circuit {HOST} half_open generation=2 run=0 level=1 in_flight=1 probes=1>"
        )


def test_what_an_operator_says_stands_in_the_transition_that_it_brought_about() -> None:
    rig = Rig()
    rig.circuits.force(HOST, rig.policy, Force.CLOSED, 0.0, note="one")
    rig.circuits.clear_override(HOST, 1.0, note="two")
    rig.circuits.reset(HOST, 2.0, note="three")
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 3.0, ttl_s=1.0, note="four")
    rig.circuit().advance(4.0)
    assert [each.note for each in rig.heard] == ["one", "two", "three", "four", ""]


def test_when_a_call_last_failed_is_known_by_kind() -> None:
    rig = Rig()
    rig.call(FAILED, 1.0)
    rig.call(REFUSED, 2.0)
    rig.call(FAILED, 3.0)
    rig.succeed(1, 4.0)
    assert rig.circuit().last_failures == {FailureKind.STATUS: 3.0, FailureKind.REFUSED: 2.0}
    rig.circuits.reset(HOST, 5.0)
    assert rig.circuit().last_failures[FailureKind.REFUSED] == 2.0


def test_a_probe_that_outlives_its_lease_fails_as_of_then() -> None:
    rig = half_open(30.0)
    rig.waiting(Awaited.RESPONSE_HEAD, 31.0)
    rig.circuit().advance(100.0)
    assert rig.circuit().last_failures[FailureKind.RESPONSE_TIMEOUT] == 81.0
