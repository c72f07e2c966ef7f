"""The traps of well-known breakers, each by its name. See the issue of the circuit engine for the list."""

import math
import tracemalloc

import pytest
from support.circuits import (
    ABANDONED,
    BY_PATH,
    FAILED,
    HOST,
    REFUSED,
    SILENT,
    Rig,
    exchange,
    half_open,
    policy,
)

from proxy.core.errors import DnsError, DnsTimeout, LocalLimit, ProxyError, ProxyInternalError
from proxy.core.exchange import Awaited
from proxy.core.outcome import ALIVE, NEUTRAL, SUCCESS, Outcome, of_leaving
from proxy.core.overrides import Force
from proxy.core.policy import Limits
from proxy.core.quantities import Seconds
from proxy.core.retry_after import retry_after_at
from proxy.core.states import State, Transition, Trigger
from proxy.core.window import Counts

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


def leave(rig: Rig, awaited: Awaited, started: float, after_s: float) -> None:
    """A call whose client leaves after so long."""
    permit, call = rig.waiting(awaited, started)
    with permit:
        now = started + after_s
        owed_s = call.upstream_owed_s(now)
        permit.settle(
            of_leaving(upstream_owed_s=owed_s, abandoned_after_s=permit.policy.abandoned_after), now
        )


@pytest.mark.parametrize(
    "awaited", [Awaited.CONNECTION, Awaited.TLS, Awaited.RESPONSE_HEAD, Awaited.TUNNEL_FIRST_BYTES]
)
def test_trap_a_client_that_always_leaves_before_our_timeouts_keeps_a_dead_upstream_closed_for_ever(
    awaited: Awaited,
) -> None:
    rig = Rig()
    for number in range(5):
        leave(rig, awaited, number * 10.0, 4.0)
    assert rig.state(44.0) is OPEN
    assert rig.heard[0].cause == ABANDONED


def test_trap_a_clients_early_leaving_counts_against_the_upstream() -> None:
    rig = Rig()
    for number in range(100):
        leave(rig, Awaited.RESPONSE_HEAD, number * 10.0, 2.9)
    assert rig.circuits.get(HOST) is None


def test_trap_a_clients_leaving_while_it_owes_itself_counts_against_the_upstream() -> None:
    rig = Rig()
    for number in range(100):
        leave(rig, Awaited.REQUEST_CONTENT, number * 1000.0, 900.0)
    assert rig.circuits.get(HOST) is None


def test_trap_a_slow_upload_as_a_probe_reopens_a_healthy_circuit() -> None:
    rig = half_open(recovery_threshold=1)
    permit, call = rig.waiting(Awaited.REQUEST_CONTENT, 30.0)
    with permit:
        for at in range(35, 95, 5):
            call.wait_for(Awaited.UPSTREAM_WINDOW, 30.0, float(at))
            call.upstream_took(at + 1.0)
            call.wait_for(Awaited.REQUEST_CONTENT, 60.0, at + 1.0)
        assert rig.state(95.0) is HALF_OPEN
        # Its slot is free again, and another call closes the circuit.
        rig.succeed(1, 95.0)
        permit.settle(permit.head(200, None, 99.0), 99.0)
    assert rig.state(99.0) is CLOSED


def test_trap_an_upload_that_the_upstream_is_taking_as_a_probe_reopens_a_healthy_circuit() -> None:
    rig = half_open(recovery_threshold=1)
    permit, call = rig.waiting(Awaited.UPSTREAM_WINDOW, 30.0)
    with permit:
        call.upstream_took(78.0)
        # The lease ended at 80, and the upstream owed; but it had taken content a moment before.
        assert rig.state(81.0) is HALF_OPEN


def test_trap_a_silent_tunnel_as_a_probe_reopens_a_healthy_circuit() -> None:
    rig = half_open()
    permit, _ = rig.waiting(Awaited.TUNNEL_BYTES, 30.0)
    with permit:
        assert rig.state(4000.0) is HALF_OPEN
        assert rig.passes(4000.0)


def test_trap_a_long_download_as_a_probe_reopens_a_healthy_circuit() -> None:
    rig = half_open(recovery_threshold=1)
    permit, call = rig.waiting(Awaited.RESPONSE_HEAD, 30.0)
    with permit:
        outcome = permit.head(200, None, 31.0)
        call.wait_for(Awaited.RESPONSE_CONTENT, 60.0, 31.0)
        assert rig.state(31.0) is CLOSED
        assert rig.state(4000.0) is CLOSED
        permit.settle(outcome, 4000.0)
    assert rig.state(4000.0) is CLOSED


def test_trap_a_long_download_as_a_probe_holds_its_slot() -> None:
    rig = half_open()
    with rig.admit(30.0) as permit:
        permit.head(200, None, 31.0)
        assert rig.passes(31.0)


def test_trap_a_late_success_from_before_the_opening_closes_a_half_open_circuit() -> None:
    rig = Rig(policy(recovery_threshold=1))
    with rig.admit(0.0) as early:
        rig.fail(5, 1.0)
        assert rig.state(31.0) is HALF_OPEN
        early.settle(SUCCESS, 31.0)
    assert rig.state(31.0) is HALF_OPEN
    assert rig.circuit().tally.late == 1


def test_trap_a_late_failure_from_before_the_opening_reopens_a_recovered_circuit() -> None:
    rig = Rig(policy(recovery_threshold=1, consecutive_failures=1))
    with rig.admit(0.0) as early:
        rig.fail(1, 1.0)
        rig.succeed(1, 31.0)
        early.settle(FAILED, 32.0)
    assert rig.state(32.0) is CLOSED


@pytest.mark.parametrize("outcome", [SUCCESS, FAILED, NEUTRAL])
def test_trap_a_late_result_mints_an_extra_permit(outcome: Outcome) -> None:
    rig = Rig()
    early = [rig.admit(0.0) for _ in range(3)]
    rig.fail(5, 1.0)
    with rig.admit(31.0):
        for permit in early:
            with permit:
                permit.settle(outcome, 32.0)
        assert rig.refusal(32.0) == ("circuit_half_open", 1)
        assert rig.circuit().probes == 1


def test_trap_a_probe_of_an_earlier_half_open_frees_a_slot_of_this_one() -> None:
    rig = half_open(half_open_in_flight=2)
    old = rig.admit(30.0)
    rig.call(FAILED, 30.0)
    with rig.admit(90.0), rig.admit(90.0):
        with old:
            pass
        assert rig.refusal(90.0) == ("circuit_half_open", 1)


def test_trap_a_cancelled_probe_closes_it_reopens_it_or_leaks_its_permit_for_ever() -> None:
    rig = half_open(recovery_threshold=1)
    with pytest.raises(KeyboardInterrupt), rig.admit(30.0):
        raise KeyboardInterrupt
    assert rig.state(30.0) is HALF_OPEN
    assert (rig.circuit().probes, rig.circuit().in_flight) == (0, 0)
    assert rig.passes(30.0)


def test_trap_a_probe_that_is_never_given_back_wedges_half_open() -> None:
    rig = half_open()
    permit, _ = rig.waiting(Awaited.NOTHING, 30.0)
    assert rig.refusal(79.0) is not None
    assert rig.passes(80.0)
    assert permit.is_probe


def test_trap_min_calls_larger_than_the_probes_wedges_half_open() -> None:
    rig = half_open(min_calls=1000, recovery_threshold=1)
    rig.succeed(1, 30.0)
    assert rig.state(30.0) is CLOSED


def test_trap_an_idle_circuits_window_does_not_expire_unless_somebody_writes() -> None:
    rig = Rig(policy(consecutive_failures=0))
    rig.fail(9, 0.0)
    assert rig.circuit().counts(59.9) == Counts(9, 9, 0, 0.0)
    assert rig.circuit().counts(60.0) == Counts(0, 0, 0, 0.0)
    rig.fail(9, 60.0)
    assert rig.state(60.0) is CLOSED


def test_trap_a_wall_clock_step_corrupts_the_window() -> None:
    # Time is an argument, in monotonic seconds. Should one run backwards all the same, nothing is lost.
    rig = Rig(policy(consecutive_failures=0))
    rig.fail(5, 1000.0)
    rig.fail(4, 10.0)
    assert rig.circuit().counts(1000.0) == Counts(9, 9, 0, 0.0)
    rig.fail(1, 1000.0)
    assert rig.state(1000.0) is OPEN


def test_trap_a_host_that_answers_one_probe_and_dies_again_never_escalates() -> None:
    rig = Rig(policy(recovery_threshold=2))
    rig.fail(5, 0.0)
    now = 0.0
    for open_s in (30, 60, 120, 240, 300, 300):
        assert rig.heard[-1].open_s == open_s
        now += open_s
        rig.succeed(1, now)
        rig.fail(1, now)
    # Nor does one that recovers and dies at once.
    now += 300
    rig.succeed(2, now)
    rig.fail(5, now + 1.0)
    assert rig.heard[-1].open_s == 300


def test_trap_the_escalation_overflows() -> None:
    rig = Rig(policy(open_multiplier=100, open_jitter=0.2), drawn=1.0)
    rig.fail(5, 0.0)
    now = 0.0
    for _ in range(2000):
        now += 400.0
        rig.call(FAILED, now)
    assert rig.heard[-1].open_s == 360
    assert rig.circuit().level == 2


def test_trap_4xx_mixed_with_5xx_clears_the_failure_run() -> None:
    rig = Rig(policy(min_calls=0))
    for _ in range(5):
        rig.answer(404, 0.0)
        rig.answer(500, 0.0)
    assert rig.state(0.0) is OPEN


@pytest.mark.parametrize(
    "error",
    [
        DnsTimeout("the resolver did not answer"),
        DnsError("SERVFAIL"),
        LocalLimit("no descriptor left"),
        ProxyInternalError("a fault of our own"),
    ],
)
def test_trap_a_pool_or_resolver_fault_of_our_own_opens_everything_at_once(error: ProxyError) -> None:
    rig = Rig()
    for number in range(100):
        with rig.admit(0.0, f"host{number % 5}:443") as permit:
            permit.settle(error.outcome, 5.0)
    assert len(rig.circuits) == 0


def test_trap_one_tenants_endpoint_on_a_shared_host_cuts_off_the_others() -> None:
    rig = Rig(policy(key=BY_PATH))
    for number in range(60):
        rig.silence(float(number), f"{HOST}#broken") if rig.passes(
            float(number), endpoint=f"{HOST}#broken"
        ) else None
        rig.answer(500, float(number), endpoint=f"{HOST}#{number}")
    assert rig.state(60.0, f"{HOST}#broken") is OPEN
    assert rig.state(60.0, HOST) is CLOSED
    assert rig.passes(60.0, endpoint=f"{HOST}#other")


def test_trap_one_silent_endpoint_called_again_and_again_cuts_off_its_host() -> None:
    rig = Rig(policy(key=BY_PATH))
    for number in range(600):
        if rig.passes(float(number), endpoint=f"{HOST}#broken"):
            rig.silence(float(number), f"{HOST}#broken")
    assert rig.state(600.0, HOST) is CLOSED
    assert rig.passes(600.0, endpoint=f"{HOST}#other")


def test_trap_a_silent_host_whose_endpoints_are_each_called_once_never_trips() -> None:
    rig = Rig(policy(key=BY_PATH))
    for number in range(5):
        rig.silence(float(number), f"{HOST}#{number}", (SILENT, ABANDONED)[number % 2])
    assert rig.state(5.0, HOST) is OPEN


def test_trap_half_open_circuits_that_nobody_calls_again_fill_the_table() -> None:
    rig = Rig(limits=Limits(max_circuits=100))
    for number in range(100):
        rig.fail(5, float(number), f"host{number}:443")
    now = 10_000.0
    for number in range(100, 200):
        rig.succeed(1, now, f"host{number}:443")
        assert rig.circuits.get(f"host{number}:443") is not None
    assert rig.circuits.unprotected == 0


def test_trap_spraying_unknown_hosts_grows_memory_or_pushes_out_an_open_circuit() -> None:
    rig = Rig(limits=Limits(max_circuits=100))
    for number in range(50):
        rig.fail(5, 0.0, f"open{number}:443")

    def spray(first: int) -> None:
        for number in range(first, first + 5000):
            rig.call(REFUSED, number / 1e4, f"host{number}:443")

    spray(0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    spray(5000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(rig.circuits) == 100
    assert all(rig.refusal(1.0, f"open{number}:443") is not None for number in range(50))
    assert grown < 200_000


def test_trap_a_listener_that_raises_or_that_calls_back_into_the_circuit_breaks_it() -> None:
    def raises(_: Transition) -> None:
        raise RuntimeError

    def calls_back(change: Transition) -> None:
        if change.trigger is Trigger.OPEN_ELAPSED:
            # In the middle of the call that found the opening over.
            rig.call(SUCCESS, change.at)
            rig.circuits.advance(change.at)
        if change.trigger is Trigger.CONSECUTIVE_FAILURES and change.at < 1.0:
            rig.circuits.force(HOST, rig.policy, Force.OPEN, change.at, ttl_s=5.0)

    late: list[Transition] = []
    rig = Rig(policy(recovery_threshold=2), listeners=(raises, calls_back, raises, late.append))
    rig.fail(5, 0.0)
    assert rig.refusal(1.0) == ("circuit_forced_open", 4)
    assert rig.state(5.0) is HALF_OPEN
    rig.call(FAILED, 5.0)
    rig.call(ALIVE, 65.0)
    assert rig.state(65.0) is CLOSED
    assert len(rig.faults) == 2 * len(rig.heard)
    assert late == rig.heard, "everybody hears everything in the order in which it happened"
    assert rig.circuit().in_flight == 0


def test_trap_a_listener_takes_the_only_probe_of_the_call_that_woke_it() -> None:
    held = []

    def takes(change: Transition) -> None:
        if change.to_state is HALF_OPEN:
            held.append(rig.admit(change.at))

    rig = Rig(listeners=(takes,))
    rig.fail(5, 0.0)
    assert rig.refusal(30.0) == ("circuit_half_open", 1)
    assert rig.circuit().probes == len(held) == 1


@pytest.mark.parametrize(
    ("value", "open_s"),
    [
        (b"Sun, 06 Nov 1994 08:49:36 GMT", 30.0),
        (b"-1", 30.0),
        (b"0", 30.0),
        (b"9" * 400, 300.0),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 300.0),
        (b"tomorrow", 30.0),
        (b"1e400", 30.0),
        (b"\x00\xff", 30.0),
        (b"5", 30.0),
        (b"100", 100.0),
    ],
)
def test_trap_retry_after_with_a_date_in_the_past_a_huge_number_or_garbage(
    value: bytes, open_s: float
) -> None:
    rig = Rig()
    for _ in range(5):
        rig.answer(503, 0.0, retry_after_at=retry_after_at(value, b"Sun, 06 Nov 1994 08:49:37 GMT", 0.0))
    assert rig.heard[-1].open_s == open_s


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf])
def test_trap_retry_after_that_is_no_time_at_all(at: float) -> None:
    rig = Rig()
    for _ in range(5):
        rig.answer(503, 0.0, retry_after_at=at)
    assert rig.heard[-1].open_s == (300 if at == math.inf else 30)


def test_trap_retry_after_opens_a_circuit_by_itself() -> None:
    rig = Rig()
    rig.answer(503, 0.0, retry_after_at=100.0)
    assert rig.state(0.0) is CLOSED


def test_trap_slow_or_throttled_calls_are_not_seen_while_none_of_them_fails() -> None:
    rig = Rig(policy(slow_ratio=0.5, slow_call=5, min_calls=2))
    for started in (0.0, 6.0):
        with rig.circuits.admit(HOST, rig.policy, call := exchange(started), started) as permit:
            call.wait_for(Awaited.RESPONSE_HEAD, 30.0, started)
            permit.settle(permit.head(200, None, started + 5.0), started + 5.0)
    assert rig.heard[-1].trigger is Trigger.SLOW_RATIO


def test_trap_an_override_with_an_end_is_forgotten_or_ends_early() -> None:
    rig = Rig(limits=Limits(max_circuits=1, circuit_idle=Seconds(400)))
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10_000.0)
    rig.succeed(1, 9_999.0, "other:443")
    assert rig.refusal(9_999.0) == ("circuit_forced_open", 1)
    assert rig.passes(10_000.0)
