"""Who has the first probe: what was kept for later or what is live, and for how long."""

import pytest
from support.circuits import FAILED, HOST, Rig, policy

from proxy.core.breaker import Circuit
from proxy.core.errors import DestinationUnavailable
from proxy.core.exchange import Entry
from proxy.core.first_probe import FirstProbe, holds_back
from proxy.core.outcome import NEUTRAL, SUCCESS

LIVE, DEFERRED = Entry.FORWARD, Entry.DEFERRED


@pytest.mark.parametrize(
    ("first_probe", "entry", "half_open_s", "given", "held_back"),
    [
        *(
            (FirstProbe.ANY, entry, half_open_s, given, 0)
            for entry in (LIVE, DEFERRED)
            for half_open_s in (0.0, 0.5, 40.0)
            for given in (0, 1)
        ),
        (FirstProbe.DEFERRED, LIVE, 0.0, 0, 1),
        (FirstProbe.DEFERRED, LIVE, 0.999, 0, 1),
        (FirstProbe.DEFERRED, LIVE, 1.0, 0, 0),
        (FirstProbe.DEFERRED, LIVE, 0.0, 1, 0),
        (FirstProbe.DEFERRED, DEFERRED, 0.0, 0, 0),
        (FirstProbe.LIVE, DEFERRED, 0.0, 0, 1),
        (FirstProbe.LIVE, DEFERRED, 0.0, 1, 1),
        (FirstProbe.LIVE, DEFERRED, 29.999, 0, 1),
        (FirstProbe.LIVE, DEFERRED, 30.0, 0, 0),
        (FirstProbe.LIVE, LIVE, 0.0, 0, 0),
    ],
)
def test_who_has_to_leave_a_probe_to_others(
    first_probe: FirstProbe, entry: Entry, half_open_s: float, given: int, held_back: int
) -> None:
    held = holds_back(
        first_probe,
        is_deferred=entry is DEFERRED,
        half_open_s=half_open_s,
        open_s=30.0,
        are_given=bool(given),
    )
    assert held is bool(held_back)


def opened(first_probe: FirstProbe) -> tuple[Rig, Circuit]:
    """A circuit that has opened at 0 and is due at 30."""
    rig = Rig(policy(consecutive_failures=1, open_multiplier=1))
    rig.call(FAILED, 0.0)
    circuit = rig.circuits.get(HOST)
    assert circuit is not None
    circuit.first_probe = first_probe
    return rig, circuit


def passes(rig: Rig, now: float, entry: Entry) -> bool:
    """Whether a call gets a permit, which it gives back at once."""
    try:
        with rig.admit(now, entry=entry) as permit:
            permit.settle(NEUTRAL, now)
    except DestinationUnavailable:
        return False
    return True


def test_the_claim_of_deferred_requests_ends_with_their_first_probe() -> None:
    rig, _ = opened(FirstProbe.DEFERRED)
    assert not passes(rig, 30.0, LIVE)
    assert not passes(rig, 30.9, LIVE)
    assert passes(rig, 30.9, DEFERRED)
    assert passes(rig, 30.9, LIVE)


def test_the_claim_of_deferred_requests_lapses_when_none_comes() -> None:
    rig, _ = opened(FirstProbe.DEFERRED)
    assert not passes(rig, 30.0, LIVE)
    assert passes(rig, 31.0, LIVE)


def test_a_claim_begins_when_half_open_was_due_whoever_looks() -> None:
    rig, _ = opened(FirstProbe.DEFERRED)
    assert passes(rig, 500.0, LIVE)


def test_with_a_claim_of_live_calls_deferred_requests_wait_for_them_to_close_the_circuit() -> None:
    rig, circuit = opened(FirstProbe.LIVE)
    for at in (30.0, 30.1):
        assert not passes(rig, at, DEFERRED)
        rig.call(SUCCESS, at)
    assert not passes(rig, 30.2, DEFERRED)
    rig.call(SUCCESS, 30.2)
    assert circuit.condition.value == "closed"
    assert passes(rig, 30.2, DEFERRED)


def test_the_claim_of_live_calls_lapses_after_one_open() -> None:
    rig, _ = opened(FirstProbe.LIVE)
    assert not passes(rig, 59.9, DEFERRED)
    assert passes(rig, 60.0, DEFERRED)


def test_each_opening_has_a_first_probe_of_its_own() -> None:
    rig, _ = opened(FirstProbe.DEFERRED)
    with rig.admit(30.0, entry=DEFERRED) as permit:
        permit.settle(FAILED, 30.0)
    assert not passes(rig, 60.0, LIVE)
    assert passes(rig, 60.0, DEFERRED)


def test_a_claim_matters_only_while_half_open() -> None:
    rig, circuit = opened(FirstProbe.DEFERRED)
    rig.circuits.reset(HOST, 1.0)
    circuit.first_probe = FirstProbe.LIVE
    assert passes(rig, 1.0, DEFERRED)
    circuit.first_probe = FirstProbe.DEFERRED
    assert passes(rig, 1.0, LIVE)
