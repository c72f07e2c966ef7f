"""A probe has a lease: at its end it is judged by who owed the next move then."""

import pytest
from support.circuits import HOST, SILENT, half_open

from proxy.core.exchange import Awaited, Entry
from proxy.core.outcome import NEUTRAL, SUCCESS, FailureKind, Verdict, failed
from proxy.core.states import State, Trigger

# Half-open at 30, admitted at 30, a lease of 50 s.
END = 80.0


@pytest.mark.parametrize(
    ("awaited", "kind"),
    [
        (Awaited.NOTHING, None),
        (Awaited.ADDRESS, None),
        (Awaited.CONNECTION, FailureKind.CONNECT_TIMEOUT),
        (Awaited.TLS, FailureKind.TLS),
        (Awaited.CLIENT_TLS, None),
        (Awaited.REQUEST_CONTENT, None),
        (Awaited.UPSTREAM_WINDOW, FailureKind.RESPONSE_TIMEOUT),
        (Awaited.RESPONSE_HEAD, FailureKind.RESPONSE_TIMEOUT),
        (Awaited.CLIENT_WINDOW, None),
        (Awaited.TUNNEL_BYTES, None),
        (Awaited.TUNNEL_FIRST_BYTES, FailureKind.TUNNEL),
    ],
)
def test_who_owes_at_the_end_of_the_lease_decides(awaited: Awaited, kind: FailureKind | None) -> None:
    rig = half_open()
    permit, _ = rig.waiting(awaited, 30.0)
    with permit:
        assert rig.refusal(END - 0.001) == ("circuit_half_open", 1)
        assert rig.state(END) is (State.HALF_OPEN if kind is None else State.OPEN)
    if kind is None:
        assert rig.circuit().tally.probes == {Verdict.NEUTRAL: 1}
        assert rig.passes(END)
    else:
        assert rig.heard[-1].cause == failed(kind)
        assert rig.circuit().tally.failures[kind] == rig.circuits.totals.failures[kind] == 1


def test_it_is_judged_as_of_its_end_and_not_when_somebody_looks() -> None:
    rig = half_open()
    permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 30.0)
    with permit:
        # Reopened at 80 for 60 s: at 141 that is over.
        assert rig.state(141.0) is State.HALF_OPEN
    assert [(change.trigger, change.at) for change in rig.heard[-2:]] == [
        (Trigger.PROBE_FAILED, 80.0),
        (Trigger.OPEN_ELAPSED, 140.0),
    ]


@pytest.mark.parametrize(
    ("awaited_at_end", "awaited_then", "state"),
    [
        (Awaited.REQUEST_CONTENT, Awaited.RESPONSE_HEAD, State.HALF_OPEN),
        (Awaited.RESPONSE_HEAD, Awaited.REQUEST_CONTENT, State.OPEN),
    ],
)
def test_what_changes_after_its_end_does_not_matter(
    awaited_at_end: Awaited, awaited_then: Awaited, state: State
) -> None:
    rig = half_open()
    permit, call = rig.waiting(awaited_at_end, 30.0)
    with permit:
        call.wait_for(awaited_then, 30.0, END)
        call.wait_over(END + 1)
        call.upstream_took(END + 1)
        assert rig.state(END + 2) is state


@pytest.mark.parametrize(
    ("took_at", "state"), [(74.9, State.OPEN), (75.0, State.HALF_OPEN), (79.0, State.HALF_OPEN)]
)
def test_an_upstream_that_takes_content_is_at_work(took_at: float, state: State) -> None:
    rig = half_open()
    permit, call = rig.waiting(Awaited.UPSTREAM_WINDOW, 30.0)
    with permit:
        call.upstream_took(took_at)
        assert rig.state(END) is state


def test_what_the_upstream_takes_after_its_end_does_not_matter() -> None:
    rig = half_open()
    permit, call = rig.waiting(Awaited.UPSTREAM_WINDOW, 30.0)
    with permit:
        call.upstream_took(END)
        assert rig.state(END) is State.OPEN


def test_a_verdict_after_its_end_is_late_and_one_at_the_end_too() -> None:
    rig = half_open()
    permit, _ = rig.waiting(Awaited.REQUEST_CONTENT, 30.0)
    with permit:
        permit.settle(SUCCESS, END)
    assert rig.circuit().tally.late == 1
    assert rig.circuit().tally.calls == {Verdict.FAILURE: 5}


def test_a_permit_that_is_left_at_last_with_the_time_has_had_its_verdict() -> None:
    rig = half_open()
    permit, _ = rig.waiting(Awaited.RESPONSE_HEAD, 30.0)
    with permit:
        permit.settle(NEUTRAL, END)
    assert rig.state(END) is State.OPEN


def test_several_leases_end_one_by_one() -> None:
    rig = half_open(half_open_in_flight=3, recovery_threshold=9)
    first, _ = rig.waiting(Awaited.REQUEST_CONTENT, 30.0)
    second, _ = rig.waiting(Awaited.RESPONSE_HEAD, 31.0)
    third, _ = rig.waiting(Awaited.RESPONSE_HEAD, 32.0)
    with first, second, third:
        assert rig.state(80.0) is State.HALF_OPEN
        assert rig.circuit().probes == 2
        assert rig.state(81.0) is State.OPEN
        assert rig.circuit().tally.probes == {Verdict.NEUTRAL: 1, Verdict.FAILURE: 1}
        third.settle(SILENT, 82.0)
    assert rig.circuit().tally.late == 1


def test_a_call_that_is_no_probe_has_none() -> None:
    rig = half_open(recovery_threshold=1)
    rig.succeed(1, 30.0)
    permit, call = rig.waiting(Awaited.RESPONSE_HEAD, 30.0)
    with permit:
        assert call.lease_at == float("inf")
        assert rig.state(1e6) is State.CLOSED
        permit.settle(SUCCESS, 1e6)
    assert rig.circuit(HOST).tally.calls[Verdict.SUCCESS] == 2


def test_connecting_through_a_tunnel_is_not_slow() -> None:
    rig = half_open()
    with rig.admit(30.0, entry=Entry.TUNNEL) as permit:
        assert permit.is_probe
    permit, call = rig.waiting(Awaited.CONNECTION, 30.0)
    with permit:
        call.wait_for(Awaited.TUNNEL_BYTES, 3600.0, 34.0)
        call.wait_for(Awaited.TUNNEL_FIRST_BYTES, 30.0, 40.0)
        assert call.total_upstream_s(43.0) == 3.0
