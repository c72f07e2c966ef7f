"""What is told of a circuit."""

from dataclasses import asdict

import msgspec
import pytest
from support.api import AdminPort
from support.circuits import FAILED, HOST, REFUSED, SILENT, policy

from proxy.control.circuit_views import CircuitDetail, circuit_detail, settings_view
from proxy.core.exchange import Awaited
from proxy.core.host_pattern import HostPattern
from proxy.core.outcome import FailureKind
from proxy.core.overlay import Overlay
from proxy.core.overrides import Force
from proxy.core.policies import Policies
from proxy.core.policy import CircuitPolicy, Mode, Settings, Timeouts, Upstream
from proxy.core.quantities import Seconds
from proxy.core.scope import CircuitKey
from proxy.core.states import Condition, State, Trigger
from proxy.core.statuses import Statuses


def detail(port: AdminPort, now: float, key: str = HOST) -> CircuitDetail:
    circuit = port.rig.circuit(key)
    circuit.advance(now)
    port.clock.now = now
    return circuit_detail(circuit, port.history.of(circuit), {}, now, port.api.iso)


def test_a_circuit_that_opens_says_why_since_when_and_until_when() -> None:
    port = AdminPort()
    port.rig.call(REFUSED, 1.0)
    port.rig.fail(4, 2.5)
    with pytest.raises(Exception, match="the upstream failed"):
        port.rig.admit(3.0)
    seen = detail(port, 12.5)
    assert (seen.key, seen.host, seen.scope.value) == (HOST, HOST, "host")
    assert (seen.state, seen.reason, seen.cause) == (
        Condition.OPEN,
        Trigger.CONSECUTIVE_FAILURES,
        "failure(status)",
    )
    assert seen.since == "2001-09-09T01:46:42.500+00:00"
    assert (seen.level, seen.next_probe_in_s, seen.open_s, seen.rejected) == (1, 20.0, 10.0, 1)
    assert [asdict(failure) for failure in seen.last_failures] == [
        {"kind": FailureKind.STATUS, "count": 4, "last_at": "2001-09-09T01:46:42.500+00:00"},
        {"kind": FailureKind.REFUSED, "count": 1, "last_at": "2001-09-09T01:46:41.000+00:00"},
    ]
    (transition,) = seen.transitions
    assert (transition.from_state, transition.to_state, transition.open_s) == (State.CLOSED, State.OPEN, 30.0)
    assert [asdict(each) for each in seen.rejections] == [
        {"reason": "circuit_open", "enforced": True, "count": 1}
    ]
    assert seen.outcomes == {"failure": 5}


def test_half_open_it_shows_its_probes_and_its_past_newest_first() -> None:
    port = AdminPort()
    port.rig.fail(5, 0.0)
    port.rig.admit(30.0)
    seen = detail(port, 31.0)
    assert (seen.state, seen.probes_in_flight, seen.in_flight, seen.next_probe_in_s) == (
        Condition.HALF_OPEN,
        1,
        1,
        None,
    )
    assert [each.reason for each in seen.transitions] == [Trigger.OPEN_ELAPSED, Trigger.CONSECUTIVE_FAILURES]


def test_the_window_and_its_ratio_which_takes_enough_calls() -> None:
    port = AdminPort()
    port.rig.fail(3, 1.0)
    port.rig.succeed(6, 1.0)
    seen = detail(port, 2.0)
    assert (seen.calls, seen.failed, seen.slow, seen.failure_ratio) == (9, 3, 0, None)
    assert (seen.latency_s, seen.spared_s) == (0.0, 0.0)
    assert (seen.state, seen.since, seen.reason, seen.window_s) == (Condition.CLOSED, None, None, 60.0)
    port.rig.call(FAILED, 2.0)
    seen = detail(port, 2.0)
    assert (seen.failure_ratio, seen.failures_in_a_row) == (0.4, 1)


def test_the_window_by_its_parts_and_the_latency() -> None:
    port = AdminPort()
    port.rig.policy = policy(slow_call=10)
    port.rig.fail(2, 0.0)
    for upstream_s in (1.5, 10.0):
        permit, _ = port.rig.waiting(Awaited.RESPONSE_HEAD, 6.0)
        with permit:
            permit.settle(permit.head(200, None, 6.0 + upstream_s), 6.0 + upstream_s)
    seen = detail(port, 59.9)
    parts = [(part.calls, part.failed, part.slow) for part in seen.window]
    # One ended at 7.5 s, in the second part; the other, slow, at 16 s, in the third.
    assert parts == [(2, 2, 0), (1, 0, 0), (1, 0, 1), *[(0, 0, 0)] * 7]
    assert (seen.calls, seen.slow, seen.latency_s) == (4, 1, 2.875)
    seen = detail(port, 60.0)
    assert (seen.window[0].calls, seen.window[-1].calls, seen.latency_s) == (1, 0, 5.75)
    seen = detail(port, 1000.0)
    assert (seen.calls, seen.latency_s) == (0, None)


def test_what_refusals_have_spared_is_told_beside_their_number() -> None:
    port = AdminPort()
    for _ in range(5):
        permit, _ = port.rig.waiting(Awaited.RESPONSE_HEAD, 0.0)
        with permit:
            permit.settle(SILENT, 2.0004)
    for _ in range(3):
        assert not port.rig.passes(3.0)
    seen = detail(port, 4.0)
    assert (seen.rejected, seen.spared_s) == (3, 6.001)
    # The transition has emptied the window.
    assert (seen.calls, seen.latency_s) == (0, None)


def test_an_override_with_what_is_left_of_it() -> None:
    port = AdminPort()
    circuits = port.rig.circuits
    circuits.force(HOST, port.rig.policy, Force.OPEN, 10.0, ttl_s=600.0, note="they are moving")
    seen = detail(port, 70.0)
    assert seen.override is not None
    assert (seen.override.force, seen.override.note, seen.override.ttl_left_s) == (
        Force.OPEN,
        "they are moving",
        540.0,
    )
    assert (seen.state, seen.next_probe_in_s, seen.transitions[0].note) == (
        Condition.FORCED_OPEN,
        540.0,
        "they are moving",
    )
    circuits.force(HOST, port.rig.policy, Force.OPEN, 80.0)
    seen = detail(port, 90.0)
    assert seen.override is not None
    assert (seen.override.ttl_left_s, seen.override.note, seen.next_probe_in_s) == (None, None, None)
    assert seen.transitions[0].open_s is None


def test_of_an_endpoint_only_the_hash_is_told() -> None:
    port = AdminPort()
    port.rig.policy = policy(key=CircuitKey.parse("path"))
    endpoint = f"{HOST}#0123456789abcdef"
    port.rig.answer(500, 1.0, endpoint=endpoint)
    seen = detail(port, 2.0, endpoint)
    assert (seen.key, seen.host, seen.scope.value) == (endpoint, HOST, "endpoint")


def test_what_would_have_been_refused_is_not_counted_as_spared() -> None:
    port = AdminPort()
    port.rig.policy = policy(mode=Mode.OBSERVE)
    port.rig.fail(5, 0.0)
    port.rig.admit(1.0)
    seen = detail(port, 2.0)
    assert (seen.rejected, seen.spared_s) == (0, 0.0)
    assert [(each.enforced, each.count) for each in seen.rejections] == [(False, 1)]


def test_all_of_it_can_be_encoded_as_it_is_described() -> None:
    port = AdminPort()
    port.rig.fail(5, 0.0)
    encoded = msgspec.json.encode(detail(port, 1.0))
    assert msgspec.json.decode(encoded, type=CircuitDetail) == detail(port, 1.0)


def test_where_settings_come_from() -> None:
    settings = Settings(
        circuit=CircuitPolicy(open=Seconds(20), min_calls=3),
        upstreams=(
            Upstream(match=HostPattern("other.test")),
            Upstream(
                match=HostPattern("a.test"),
                circuit=Overlay({"min_calls": 4, "failure_statuses": Statuses({500})}),
                timeouts=Overlay({"head": Seconds(10)}),
            ),
        ),
    )
    policies = Policies(settings)
    place = policies.place("a.test", 80)
    views = settings_view(policies.of("a.test", 80).circuit, settings, place)
    told = {name: (view.value, view.origin) for name, view in views.items()}
    assert told["open"] == ("20s", "circuit")
    assert told["min_calls"] == (4, "upstreams[1]")
    assert told["failure_statuses"] == (["500"], "upstreams[1]")
    assert told["window"] == ("1m", "default")
    assert told["probe_lease"] == ("30s", "timeouts")
    # At host scope nothing throttles.
    assert told["throttle_statuses"] == ([], "default")
    assert told.keys() == set(CircuitPolicy.__dataclass_fields__)


@pytest.mark.parametrize(
    ("general", "upstream", "origin"),
    [
        (None, {}, "timeouts"),
        (Seconds(60), {}, "circuit"),
        (Seconds(60), {"probe_lease": Seconds(70)}, "upstreams[0]"),
        (None, {"probe_lease": Seconds(70)}, "upstreams[0]"),
        (Seconds(60), {"probe_lease": None}, "timeouts"),
    ],
)
def test_a_lease_that_nobody_set_comes_from_the_timeouts(
    general: Seconds | None, upstream: dict[str, Seconds | None], origin: str
) -> None:
    settings = Settings(
        circuit=CircuitPolicy(probe_lease=general),
        upstreams=(Upstream(match=HostPattern("*"), circuit=Overlay(upstream)),),
    )
    views = settings_view(Policies(settings).of("a.test", 80).circuit, settings, 0)
    assert views["probe_lease"].origin == origin
    if origin == "timeouts":
        assert views["probe_lease"].value == f"{Timeouts().lease_s:g}s"
