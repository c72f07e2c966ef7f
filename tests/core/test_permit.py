"""Whose fault it is: evidence of a host with a circuit for each endpoint."""

import pytest
from support.circuits import (
    ABANDONED,
    BY_PATH,
    FAILED,
    HOST,
    REFUSED,
    SILENT,
    Rig,
    policy,
)

from proxy.core.errors import DestinationUnavailable
from proxy.core.exchange import Awaited, Entry
from proxy.core.outcome import ALIVE, NEUTRAL, SUCCESS, FailureKind, Outcome, Verdict, failed
from proxy.core.overrides import Force
from proxy.core.policy import Limits, Mode
from proxy.core.states import State

ONE, TWO = f"{HOST}#1", f"{HOST}#2"
CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
RESET, MALFORMED, TRUNCATED = (
    failed(FailureKind.RESET),
    failed(FailureKind.MALFORMED),
    failed(FailureKind.TRUNCATED),
)


def by_path(**changes: object) -> Rig:
    return Rig(policy(key=BY_PATH, **changes))


def calls(rig: Rig, key: str) -> dict[Verdict, int]:
    circuit = rig.circuits.get(key)
    return {} if circuit is None else circuit.tally.calls


S, A, F = Verdict.SUCCESS, Verdict.ALIVE, Verdict.FAILURE


@pytest.mark.parametrize(
    ("step", "outcome", "of_host", "of_endpoint", "host_run"),
    [
        ("connecting", REFUSED, {F: 1}, {}, 1),
        ("connecting", failed(FailureKind.DNS), {F: 1}, {}, 1),
        ("connecting", failed(FailureKind.TLS), {F: 1}, {}, 1),
        ("connecting", ABANDONED, {F: 1}, {}, 1),
        ("connecting", RESET, {F: 1}, {}, 1),
        ("connecting", NEUTRAL, {}, {}, 0),
        ("connected", SILENT, {}, {F: 1}, 1),
        ("connected", ABANDONED, {}, {F: 1}, 1),
        ("connected", RESET, {}, {F: 1}, 1),
        ("connected", MALFORMED, {A: 1}, {F: 1}, 0),
        ("connected", failed(FailureKind.TLS), {F: 1}, {}, 1),
        ("connected", NEUTRAL, {}, {}, 0),
        ("connected", SUCCESS, {S: 1}, {S: 1}, 0),
        ("head", FAILED, {S: 1}, {F: 1}, 0),
        ("head", ALIVE, {S: 1}, {A: 1}, 0),
        ("head", TRUNCATED, {S: 1}, {F: 1}, 0),
        ("head", ABANDONED, {S: 1}, {F: 1}, 0),
        ("head", NEUTRAL, {S: 1}, {}, 0),
    ],
)
def test_each_circuit_books_its_own_evidence(
    step: str, outcome: Outcome, of_host: dict[Verdict, int], of_endpoint: dict[Verdict, int], host_run: int
) -> None:
    rig = by_path()
    with rig.admit(0.0, endpoint=ONE) as permit:
        assert repr(permit) == f"<Permit {HOST} and {ONE}>"
        if step != "connecting":
            permit.connected(0.0)
        if step == "head":
            permit.head(500, None, 0.0)
        permit.settle(outcome, 1.0)
    assert calls(rig, HOST) == of_host
    assert calls(rig, ONE) == of_endpoint
    if host_run:
        assert rig.circuit(HOST).run == host_run
    # The totals count each call once.
    assert rig.circuits.totals.calls == (of_endpoint or of_host if outcome is not NEUTRAL else {})


def test_an_endpoint_opens_alone() -> None:
    rig = by_path()
    for _ in range(5):
        rig.answer(500, 0.0, endpoint=ONE)
    assert rig.state(0.0, ONE) is OPEN
    with pytest.raises(DestinationUnavailable) as refused:
        rig.admit(1.0, endpoint=ONE)
    assert refused.value.phrase == f"Circuit open for {ONE}"
    assert rig.passes(1.0, endpoint=TWO)
    assert rig.passes(1.0)


def test_connection_failures_open_the_host_for_all() -> None:
    rig = by_path()
    for endpoint in (ONE, TWO, ONE, TWO, ONE):
        with rig.admit(0.0, endpoint=endpoint) as permit:
            permit.settle(REFUSED, 0.0)
    assert rig.state(0.0, HOST) is OPEN
    assert rig.refusal(1.0, endpoint=f"{HOST}#3") == ("circuit_open", 29)


def test_both_must_admit_and_the_later_time_is_told() -> None:
    rig = by_path()
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    assert rig.refusal(0.0, endpoint=ONE) == ("circuit_forced_open", 10)
    rig.circuits.clear_override(HOST, 0.0)
    for _ in range(5):
        rig.answer(500, 0.0, endpoint=ONE)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    assert rig.refusal(0.0, endpoint=ONE) == ("circuit_forced_open", 30)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=50.0)
    assert rig.refusal(0.0, endpoint=ONE) == ("circuit_forced_open", 50)


def test_the_spread_of_the_one_that_refuses_begins_at_the_later_end_of_both() -> None:
    rig = by_path(retry_spread=0.5)
    for _ in range(5):
        rig.answer(500, 0.0, endpoint=ONE)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    # The endpoint's end, and shares of half of the 10 s of its host. By its own end all would be told 30.
    assert [rig.refusal(0.0, endpoint=ONE) for _ in range(3)] == [
        ("circuit_forced_open", 30),
        ("circuit_forced_open", 34),
        ("circuit_forced_open", 32),
    ]
    # Of the endpoint's own nothing was taken.
    assert [rig.refusal(10.0, endpoint=ONE) for _ in range(2)] == [("circuit_open", 20), ("circuit_open", 30)]


def test_a_refusal_of_the_endpoint_takes_no_probe_of_the_host() -> None:
    rig = by_path()
    for _ in range(5):
        rig.answer(500, 0.0, endpoint=ONE)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    assert rig.refusal(20.0, endpoint=ONE) == ("circuit_open", 10)
    assert rig.circuit(HOST).probes == 0
    assert rig.circuit(HOST).in_flight == 0


def test_silent_endpoints_count_in_the_run_of_the_host_once_each() -> None:
    rig = by_path()
    for number in range(4):
        for _ in range(3):
            rig.silence(0.0, f"{HOST}#{number}")
    assert rig.circuit(HOST).run == 4
    assert calls(rig, HOST) == {}
    rig.silence(0.0, f"{HOST}#4")
    assert rig.state(0.0, HOST) is OPEN
    assert rig.heard[-1].cause == SILENT


def test_any_response_clears_the_run_of_the_host_and_its_memory() -> None:
    rig = by_path()
    for number in range(4):
        rig.silence(0.0, f"{HOST}#{number}")
    rig.answer(500, 0.0, endpoint=ONE)
    assert rig.circuit(HOST).run == 0
    rig.silence(0.0, f"{HOST}#0")
    assert rig.circuit(HOST).run == 1


def test_without_the_rule_the_run_remembers_nothing() -> None:
    rig = by_path(consecutive_failures=0, min_calls=0)
    rig.silence(0.0, ONE)
    assert rig.state(0.0, HOST) is CLOSED
    assert rig.circuits.get(HOST) is None


@pytest.mark.parametrize("outcome", [SILENT, ABANDONED, RESET])
def test_silence_fails_the_probe_of_the_host(outcome: Outcome) -> None:
    rig = host_half_open()
    rig.silence(10.0, ONE, outcome)
    assert rig.state(10.0, HOST) is OPEN
    assert rig.circuits.totals.calls == {F: 1}


def host_half_open(**changes: object) -> Rig:
    rig = by_path(**changes)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    assert rig.state(10.0, HOST) is HALF_OPEN
    return rig


def test_any_response_is_a_good_probe_of_the_host() -> None:
    rig = host_half_open(recovery_threshold=1)
    rig.answer(500, 10.0, endpoint=ONE)
    assert rig.state(10.0, HOST) is CLOSED


def test_the_probe_of_an_endpoint_says_nothing_before_there_is_a_connection() -> None:
    rig = by_path()
    for _ in range(5):
        rig.answer(500, 0.0, endpoint=ONE)
    with rig.admit(30.0, endpoint=ONE) as permit:
        permit.settle(REFUSED, 31.0)
    assert rig.state(31.0, ONE) is HALF_OPEN
    assert rig.circuit(HOST).run == 1
    rig.answer(200, 32.0, endpoint=ONE)
    assert rig.circuit(ONE).tally.probes == {Verdict.NEUTRAL: 1, Verdict.SUCCESS: 1}


@pytest.mark.parametrize(
    ("awaited", "host", "endpoint"),
    [
        (Awaited.CONNECTION, OPEN, HALF_OPEN),
        (Awaited.TLS, OPEN, HALF_OPEN),
        (Awaited.RESPONSE_HEAD, OPEN, OPEN),
        (Awaited.ADDRESS, HALF_OPEN, HALF_OPEN),
    ],
)
def test_the_lease_of_a_probe_of_both(awaited: Awaited, host: State, endpoint: State) -> None:
    rig = by_path()
    for _ in range(5):
        rig.answer(500, 0.0, endpoint=ONE)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 0.0, ttl_s=30.0)
    counted = sum(rig.circuits.totals.calls.values())
    permit, _ = rig.waiting(awaited, 30.0, endpoint=ONE)
    with permit:
        assert rig.state(80.0, HOST) is host
        assert rig.state(80.0, ONE) is endpoint
    assert sum(rig.circuits.totals.calls.values()) == counted + (host is OPEN)


def test_a_late_verdict_on_both_counts_once_in_the_totals() -> None:
    rig = by_path()
    permit = rig.admit(0.0, endpoint=ONE)
    rig.circuits.reset(HOST, 0.0)
    rig.circuits.reset(ONE, 0.0)
    with permit:
        permit.connected(0.0)
        permit.settle(SILENT, 1.0)
    assert (rig.circuit(HOST).tally.late, rig.circuit(ONE).tally.late, rig.circuits.totals.late) == (1, 1, 1)


def test_where_no_endpoint_can_be_told_only_the_host_is_asked_and_status_is_booked_nowhere() -> None:
    rig = by_path()
    for _ in range(9):
        rig.answer(500, 0.0)
    assert calls(rig, HOST) == {S: 9}
    assert rig.circuits.totals.calls == {S: 9}
    for _ in range(9):
        rig.silence(0.0, None)
    # All of them together are one endpoint.
    assert rig.circuit(HOST).run == 1


def test_all_evidence_of_a_tunnel_is_its_hosts() -> None:
    rig = by_path()
    for _ in range(5):
        with rig.admit(0.0, entry=Entry.TUNNEL) as permit:
            permit.connected(0.0)
            permit.settle(ABANDONED, 4.0)
    assert rig.state(4.0, HOST) is OPEN


def test_429_throttles_an_endpoint_and_says_nothing_of_a_host() -> None:
    rig = by_path(min_calls=4)
    for _ in range(4):
        rig.answer(429, 0.0, endpoint=ONE, retry_after_at=60.0)
    assert rig.state(0.0, ONE) is OPEN
    assert rig.heard[-1].open_s == 60
    plain = Rig(policy(min_calls=4))
    for _ in range(4):
        plain.answer(429, 0.0)
    assert plain.state(0.0) is CLOSED


def test_a_shadow_and_a_call_that_nobody_asks_book_nothing() -> None:
    rig = by_path(mode=Mode.OBSERVE)
    for _ in range(5):
        rig.answer(500, 0.0, endpoint=ONE)
    rig.answer(200, 1.0, endpoint=ONE)
    assert calls(rig, ONE) == {F: 5}
    assert calls(rig, HOST) == {S: 5}
    rig.policy = policy(key=BY_PATH, mode=Mode.DISABLED)
    rig.answer(200, 1.0, endpoint=ONE)
    assert calls(rig, HOST) == {S: 5}


def test_slow_answers_are_the_endpoints() -> None:
    rig = by_path(min_calls=1, slow_ratio=1.0, slow_call=1)
    permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 0.0, endpoint=ONE)
    with permit:
        permit.settle(permit.head(200, None, 5.0), 5.0)
    assert rig.state(5.0, ONE) is OPEN
    assert rig.state(5.0, HOST) is CLOSED
    assert rig.circuit(HOST).counts(5.0).slow == 0


def test_the_latency_is_that_of_both() -> None:
    rig = by_path()
    for now, endpoint in ((2.0, ONE), (5.0, TWO)):
        permit, _ = rig.waiting(Awaited.CONNECTION, 0.0, endpoint=endpoint)
        with permit:
            permit.connected(now)
            permit.settle(permit.head(200, None, now), now)
    with rig.waiting(Awaited.CONNECTION, 0.0, endpoint=ONE)[0] as permit:
        permit.settle(REFUSED, 2.0)
    latencies = [rig.circuit(key).counts(5.0).mean_upstream_s for key in (HOST, ONE, TWO)]
    assert latencies == [3.0, 2.0, 5.0]


def test_an_endpoints_probe_is_judged_although_its_host_has_left_the_table() -> None:
    rig = Rig(
        policy(key=BY_PATH, consecutive_failures=1, open=10, recovery_threshold=1, min_calls=0),
        Limits(max_circuits=2),
    )
    rig.answer(500, 0.0, HOST, ONE)
    rig.circuits.force("other:443", rig.policy, Force.OPEN, 1.0)
    assert rig.circuits.get(HOST) is None
    rig.silence(20.0, ONE, host=HOST)
    circuit = rig.circuits.get(ONE)
    assert circuit is not None
    assert circuit.state is OPEN
    assert circuit.tally.probes == {F: 1}
