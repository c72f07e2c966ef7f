"""What a refusal spares its caller: as long as the failed calls of its circuit have taken, on average."""

import pytest
from support.circuits import (
    BY_PATH,
    FAILED,
    HOST,
    REFUSED,
    SILENT,
    Rig,
    half_open,
    policy,
)

from proxy.core.exchange import Awaited
from proxy.core.outcome import ALIVE, NEUTRAL, SUCCESS, THROTTLED, FailureKind, Outcome, failed
from proxy.core.overrides import Force
from proxy.core.policy import Limits, Mode
from proxy.core.snapshot import restore, take
from proxy.core.waits import Waits

ONE, TWO = f"{HOST}#1", f"{HOST}#2"


def spared_s(rig: Rig, key: str = HOST) -> float:
    return rig.circuit(key).tally.spared_s


def refused(rig: Rig, now: float, count: int = 1, endpoint: str | None = None) -> None:
    for _ in range(count):
        assert not rig.passes(now, endpoint=endpoint)


def waited(
    rig: Rig, outcome: Outcome, upstream_s: float, now: float, *, awaited: Awaited = Awaited.RESPONSE_HEAD
) -> None:
    """A call that ends at `now`, after the upstream (or who else is awaited) has owed for so long."""
    permit, _ = rig.waiting(awaited, now - upstream_s)
    with permit:
        permit.settle(outcome, now)


@pytest.mark.parametrize(("waits", "mean_s"), [([], 0.0), ([3.0], 3.0), ([1.0, 0.0, 5.0], 2.0)])
def test_the_mean(waits: list[float], mean_s: float) -> None:
    known = Waits()
    for upstream_s in waits:
        known.add(upstream_s)
    assert known.mean_s == mean_s


def test_each_refusal_counts_as_the_mean_of_what_has_failed_by_then() -> None:
    rig = Rig(policy(consecutive_failures=2))
    waited(rig, FAILED, 1.0, 10.0)
    waited(rig, SILENT, 5.0, 10.0)
    assert spared_s(rig) == 0.0
    refused(rig, 11.0, 4)
    assert spared_s(rig) == 4 * 3.0
    # A probe that fails after 9 s: from then on the mean is 5.
    waited(rig, FAILED, 9.0, 50.0)
    refused(rig, 51.0, 2)
    assert spared_s(rig) == 12.0 + 2 * 5.0
    assert rig.circuits.totals.spared_s == 22.0


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [(SUCCESS, False), (ALIVE, False), (NEUTRAL, False), (THROTTLED, True), (REFUSED, True)],
)
def test_only_failed_calls_count(outcome: Outcome, *, counts: bool) -> None:
    rig = Rig()
    waited(rig, outcome, 100.0, 100.0)
    waited(rig, FAILED, 1.0, 100.0)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 100.0)
    refused(rig, 101.0)
    assert spared_s(rig) == (50.5 if counts else 1.0)


@pytest.mark.parametrize(
    ("awaited", "upstream_s"),
    [
        (Awaited.CONNECTION, 8.0),
        (Awaited.RESPONSE_CONTENT, 8.0),
        (Awaited.ADDRESS, 0.0),
        (Awaited.REQUEST_CONTENT, 0.0),
    ],
)
def test_only_what_the_upstream_owed_counts(awaited: Awaited, upstream_s: float) -> None:
    rig = Rig(policy(consecutive_failures=1))
    waited(rig, FAILED, 8.0, 10.0, awaited=awaited)
    refused(rig, 11.0)
    assert spared_s(rig) == upstream_s


def test_a_failure_behind_the_head_counts_to_its_end_and_in_the_latency_only_to_the_head() -> None:
    rig = Rig(policy(consecutive_failures=2, min_calls=0))
    for _ in range(2):
        permit, call = rig.waiting(Awaited.RESPONSE_HEAD, 0.0)
        with permit:
            permit.head(200, None, 1.0)
            call.wait_for(Awaited.RESPONSE_CONTENT, 60.0, 1.0)
            latency_s = rig.circuit().counts(1.0).mean_upstream_s
            permit.settle(failed(FailureKind.TRUNCATED), 61.0)
    assert latency_s == 1.0
    refused(rig, 62.0)
    assert spared_s(rig) == 61.0


def test_a_probe_that_outlives_its_lease_counts_to_the_end_of_that() -> None:
    rig = half_open()
    permit, call = rig.waiting(Awaited.RESPONSE_HEAD, 30.0)
    with permit:
        # Whoever looks, it is later.
        call.wait_for(Awaited.RESPONSE_CONTENT, 60.0, 90.0)
        call.wait_over(100.0)
        refused(rig, 110.0)
    # The five that opened it took no time.
    assert spared_s(rig) == 50.0 / 6


def test_a_late_failure_changes_nothing() -> None:
    rig = Rig(policy(consecutive_failures=1))
    permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 0.0)
    with permit:
        waited(rig, FAILED, 2.0, 2.0)
        permit.settle(SILENT, 20.0)
    refused(rig, 21.0)
    assert spared_s(rig) == 2.0


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ENFORCE])
def test_what_is_not_enforced_spares_nothing(mode: Mode) -> None:
    rig = Rig(policy(consecutive_failures=1, mode=mode))
    waited(rig, FAILED, 2.0, 2.0)
    assert rig.passes(3.0) is (mode is Mode.OBSERVE)
    assert spared_s(rig) == rig.circuits.totals.spared_s == (2.0 if mode is Mode.ENFORCE else 0.0)


def test_without_a_failed_call_nothing_is_known() -> None:
    rig = Rig()
    waited(rig, SUCCESS, 2.0, 2.0)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 3.0)
    refused(rig, 4.0, 3)
    assert rig.circuit().tally.rejected == {("circuit_forced_open", True): 3}
    assert spared_s(rig) == 0.0


def test_what_an_earlier_process_knew_is_not_known() -> None:
    before, after = Rig(policy(consecutive_failures=1)), Rig(policy(consecutive_failures=1))
    waited(before, FAILED, 2.0, 2.0)
    restore(after.circuits, take(before.circuits, 3.0), lambda _: after.policy, 0.0, 3.0)
    refused(after, 4.0, 3)
    assert spared_s(after) == 0.0
    # Until a probe fails.
    waited(after, FAILED, 6.0, 40.0)
    refused(after, 41.0)
    assert spared_s(after) == 6.0


def test_neither_a_reset_nor_recovering_forgets_it() -> None:
    rig = Rig(policy(consecutive_failures=1))
    waited(rig, FAILED, 2.0, 2.0)
    rig.circuits.reset(HOST, 3.0)
    rig.circuits.force(HOST, rig.policy, Force.OPEN, 3.0)
    refused(rig, 4.0)
    assert spared_s(rig) == 2.0


def test_a_host_and_its_endpoints_have_each_their_own() -> None:
    rig = Rig(policy(key=BY_PATH, consecutive_failures=2))
    for _ in range(2):
        permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 0.0, endpoint=ONE)
        with permit:
            permit.connected(0.0)
            permit.settle(permit.head(500, None, 3.0), 3.0)
    refused(rig, 4.0, 2, ONE)
    # Only who refuses has spared; any answer is a success of the host.
    assert (spared_s(rig, ONE), spared_s(rig)) == (6.0, 0.0)
    for _ in range(2):
        permit, _ = rig.waiting(Awaited.CONNECTION, 5.0, endpoint=TWO)
        with permit:
            permit.settle(REFUSED, 10.0)
    refused(rig, 11.0, endpoint=TWO)
    refused(rig, 11.0, endpoint=ONE)
    assert (spared_s(rig, ONE), spared_s(rig)) == (6.0, 10.0)
    assert rig.circuits.totals.spared_s == 16.0


def test_silence_of_its_endpoints_is_a_wait_of_the_host() -> None:
    rig = Rig(policy(key=BY_PATH, consecutive_failures=2))
    for endpoint in (ONE, TWO):
        permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 0.0, endpoint=endpoint)
        with permit:
            permit.connected(0.0)
            permit.settle(SILENT, 30.0)
    refused(rig, 31.0, endpoint=f"{HOST}#3")
    assert spared_s(rig) == 30.0


def test_the_totals_keep_what_a_circuit_takes_with_it() -> None:
    rig = Rig(policy(consecutive_failures=1, recovery_threshold=1), Limits(max_circuits=1))
    waited(rig, FAILED, 2.0, 2.0)
    refused(rig, 3.0, 3)
    rig.succeed(1, 40.0)
    rig.succeed(1, 41.0, "other:443")
    assert rig.circuits.get(HOST) is None
    assert rig.circuits.evictions == 1
    assert rig.circuits.totals.spared_s == 6.0
    # The next circuit of this key begins at nothing.
    waited(rig, FAILED, 1.0, 50.0)
    refused(rig, 51.0)
    assert (spared_s(rig), rig.circuits.totals.spared_s) == (1.0, 7.0)
