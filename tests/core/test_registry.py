"""The table: finds circuits, and stays within its bound."""

from support.circuits import BY_PATH, FAILED, HOST, Rig, policy

from proxy.core.outcome import NEUTRAL, SUCCESS, Verdict
from proxy.core.overrides import Force
from proxy.core.policy import CircuitPolicy, Limits, Mode
from proxy.core.quantities import Seconds
from proxy.core.states import Condition, State, Transition

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


def rig_of(
    max_circuits: int = 3, *, max_per_host: int = 500, idle_s: float = 900.0, **changes: object
) -> Rig:
    limits = Limits(max_circuits=max_circuits, max_per_host=max_per_host, circuit_idle=Seconds(idle_s))
    return Rig(policy(**changes), limits)


def keys(rig: Rig) -> list[str]:
    return [circuit.key for circuit in rig.circuits]


# Coming and going.


def test_a_circuit_with_nothing_booked_leaves_with_its_last_permit() -> None:
    rig = rig_of()
    with rig.admit(0.0, "a") as first:
        with rig.admit(0.0, "a"):
            pass
        assert keys(rig) == ["a"]
        first.settle(NEUTRAL, 0.0)
    assert keys(rig) == []
    rig.call(SUCCESS, 0.0, "a")
    assert keys(rig) == ["a"]
    assert repr(rig.circuits) == "<Circuits 1 of 3, 1 at rest>"


def test_a_call_that_is_refused_leaves_no_circuit_behind() -> None:
    rig = rig_of(key=BY_PATH)
    for _ in range(5):
        rig.answer(500, 0.0, "a", "a#1")
    rig.circuits.force("a", rig.policy, Force.OPEN, 0.0)
    assert rig.refusal(0.0, "a", "a#2") is not None
    assert keys(rig) == ["a", "a#1"]


def test_the_keys_are_independent() -> None:
    rig = rig_of()
    rig.fail(5, 0.0, "a")
    rig.succeed(1, 0.0, "b")
    assert rig.refusal(0.0, "a") is not None
    assert rig.passes(0.0, "b")
    assert rig.circuits.totals.calls == {Verdict.FAILURE: 5, Verdict.SUCCESS: 1}


# Room.


def test_the_closed_circuit_that_is_idle_for_longest_makes_room() -> None:
    rig = rig_of()
    for at, key in enumerate("abca"):
        rig.succeed(1, float(at), key)
    rig.succeed(1, 5.0, "d")
    assert keys(rig) == ["a", "c", "d"]
    assert rig.circuits.evictions == 1


def test_a_busy_circuit_stays() -> None:
    rig = rig_of()
    with rig.admit(0.0, "a"):
        for at, key in enumerate("bcdef"):
            rig.succeed(1, float(at), key)
        assert keys(rig) == ["a", "e", "f"]


def test_open_and_forced_circuits_stay_and_what_finds_no_room_passes_unprotected() -> None:
    rig = rig_of()
    rig.fail(5, 0.0, "a")
    rig.circuits.force("b", rig.policy, Force.CLOSED, 0.0)
    rig.circuits.force("c", rig.policy, Force.OPEN, 0.0)
    for at in (1.0, 29.0):
        rig.fail(9, at, "d")
    assert keys(rig) == ["a", "b", "c"]
    assert rig.circuits.unprotected == 18
    assert rig.circuits.evictions == 0
    assert rig.circuits.force("d", rig.policy, Force.OPEN, 30.0) is None


def test_a_half_open_circuit_makes_room_once_nobody_has_called_it_for_long() -> None:
    rig = rig_of(max_circuits=2, idle_s=900)
    rig.fail(5, 0.0, "a")
    rig.fail(5, 1.0, "b")
    assert rig.passes(200.0, "a")
    rig.succeed(1, 930.9, "c")
    assert keys(rig) == ["a", "b"]
    # Nobody has looked at b since it opened: it is half-open since 31.
    rig.succeed(1, 931.0, "c")
    assert keys(rig) == ["a", "c"]
    with rig.admit(1099.0, "c"):
        rig.succeed(1, 1099.9, "d")
        assert keys(rig) == ["a", "c"]
        rig.succeed(1, 1100.0, "d")
        assert keys(rig) == ["c", "d"]


def test_a_half_open_circuit_with_a_probe_under_way_stays() -> None:
    rig = rig_of(max_circuits=1)
    rig.fail(5, 0.0, "a")
    with rig.admit(30.0, "a"):
        rig.succeed(1, 5000.0, "b")
        assert keys(rig) == ["a"]
    rig.succeed(1, 5899.0, "b")
    assert keys(rig) == ["a"]
    rig.succeed(1, 5900.0, "b")
    assert keys(rig) == ["b"]


def test_closed_circuits_make_room_before_half_open_ones() -> None:
    rig = rig_of(max_circuits=2, idle_s=500)
    rig.fail(5, 0.0, "a")
    rig.succeed(1, 1000.0, "b")
    rig.succeed(1, 1001.0, "c")
    assert keys(rig) == ["a", "c"]


def test_what_has_recovered_or_left_is_not_taken_for_half_open() -> None:
    rig = rig_of(max_circuits=2, idle_s=400, recovery_threshold=1)
    rig.fail(5, 0.0, "a")
    rig.fail(5, 1.0, "b")
    rig.succeed(1, 31.0, "a")
    rig.succeed(1, 100.0, "c")
    assert keys(rig) == ["b", "c"]
    rig.fail(5, 100.0, "c")
    rig.succeed(1, 600.0, "d")
    assert keys(rig) == ["c", "d"]
    rig.fail(5, 600.0, "d")
    rig.succeed(1, 601.0, "e")
    assert keys(rig) == ["d", "e"]


def test_a_smaller_table_shrinks_when_it_needs_room() -> None:
    rig = rig_of()
    for at, key in enumerate("abc"):
        rig.succeed(1, float(at), key)
    rig.circuits.configure(Limits(max_circuits=1), lambda _: rig.policy, 3.0)
    rig.succeed(1, 4.0, "d")
    assert keys(rig) == ["d"]


# Idle.


def test_a_closed_circuit_that_nobody_touches_is_gone_swept_or_not() -> None:
    rig = rig_of()
    rig.fail(4, 0.0, "a")
    rig.fail(1, 899.0, "a")
    assert rig.state(899.0, "a") is OPEN
    rig = rig_of()
    rig.fail(4, 0.0, "a")
    rig.fail(1, 900.0, "a")
    assert rig.state(900.0, "a") is CLOSED
    assert rig.circuit("a").run == 1


def test_what_is_gone_takes_no_room() -> None:
    rig = rig_of(max_circuits=1)
    rig.succeed(1, 0.0, "a")
    rig.succeed(1, 900.0, "b")
    assert (keys(rig), rig.circuits.evictions) == (["b"], 0)


def test_a_long_exchange_is_a_touch_until_its_end() -> None:
    rig = rig_of()
    with rig.admit(0.0, "a") as permit:
        permit.settle(SUCCESS, 1.0)
        rig.succeed(1, 5000.0, "b")
    rig.circuits.advance(5800.0)
    assert keys(rig) == ["a", "b"]
    with rig.admit(5800.0, "a") as permit:
        permit.settle(SUCCESS, 5801.0)
        permit.settle(NEUTRAL, 9000.0)
    rig.circuits.advance(9899.0)
    assert keys(rig) == ["a"]
    rig.circuits.advance(9900.0)
    assert keys(rig) == []


def test_a_circuit_that_has_left_is_told_of_and_does_not_come_back() -> None:
    rig = rig_of(max_circuits=1)
    rig.succeed(1, 0.0, "a")
    left = rig.circuit("a")
    rig.succeed(1, 1.0, "b")
    left.reset(2.0)
    assert [change.key for change in rig.heard] == ["a"]
    assert keys(rig) == ["b"]
    assert len(rig.circuits) == 1


# Endpoints.


def test_a_host_has_so_many_endpoints_at_most_and_the_rest_is_asked_at_the_host() -> None:
    rig = rig_of(max_circuits=10, max_per_host=2, key=BY_PATH)
    for endpoint in ("a#1", "a#2", "a#3", "a#3", "b#1"):
        rig.answer(500, 0.0, endpoint[0], endpoint)
    assert keys(rig) == ["a", "a#1", "a#2", "b", "b#1"]
    assert rig.circuits.unprotected == 0
    assert rig.circuit("a").tally.calls == {Verdict.SUCCESS: 4}
    # Those that are gone do not count, swept or not.
    rig.answer(500, 1000.0, "a", "a#4")
    assert keys(rig) == ["a", "a#4"]


def test_an_endpoint_never_takes_the_room_of_its_own_host() -> None:
    rig = rig_of(max_circuits=2, key=BY_PATH)
    rig.answer(200, 0.0, "a")
    rig.answer(200, 1.0, "b")
    rig.answer(200, 2.0, "a", "a#1")
    assert keys(rig) == ["a", "a#1"]


def test_an_endpoint_that_has_closed_gives_its_room_to_its_own_host() -> None:
    rig = rig_of(max_circuits=2, key=BY_PATH, recovery_threshold=1)
    for _ in range(5):
        rig.answer(500, 0.0, "a", "a#1")
    rig.fail(5, 0.0, "b")
    assert keys(rig) == ["a#1", "b"]
    rig.answer(200, 30.0, "a", "a#1")
    assert (rig.circuits.unprotected, keys(rig)) == (1, ["a#1", "b"])
    # Whether the host can be reached is known to the host's circuit alone.
    rig.answer(200, 30.0, "a", "a#1")
    assert (rig.circuits.unprotected, keys(rig)) == (2, ["b", "a"])


def test_an_open_endpoint_refuses_although_its_host_finds_no_room() -> None:
    rig = rig_of(max_circuits=2, key=BY_PATH)
    for _ in range(5):
        rig.answer(500, 0.0, "a", "a#1")
    rig.fail(5, 1.0, "b")
    assert keys(rig) == ["a#1", "b"]
    assert rig.refusal(2.0, "a", "a#1") == ("circuit_open", 28)
    rig.answer(500, 2.0, "a", "a#2")
    assert keys(rig) == ["a#1", "b"]
    for _ in range(3):
        rig.answer(200, 30.0, "a", "a#1")
    assert rig.state(30.0, "a#1") is CLOSED
    assert rig.circuits.totals.calls[Verdict.SUCCESS] == 3
    with rig.admit(30.0, "c") as permit:
        assert not permit.is_probe


# The sweeper.


def test_the_sweeper_shows_what_is_due() -> None:
    rig = rig_of()
    rig.fail(5, 0.0, "a")
    rig.circuits.force("b", rig.policy, Force.CLOSED, 0.0, ttl_s=20.0)
    rig.circuits.force("c", rig.policy, Force.OPEN, 0.0, ttl_s=10.0)
    rig.circuits.advance(100.0)
    assert [(change.key, change.to_state, change.at) for change in rig.heard[-3:]] == [
        ("c", HALF_OPEN, 10.0),
        ("b", CLOSED, 20.0),
        ("a", HALF_OPEN, 30.0),
    ]


def test_the_sweeper_is_no_touch() -> None:
    rig = rig_of()
    with rig.admit(0.0, "a") as permit:
        permit.settle(SUCCESS, 1.0)
        rig.circuits.advance(800.0)
    # It was touched at 1, and swept at 800.
    rig.circuits.advance(901.0)
    assert keys(rig) == []


def test_what_was_forced_closed_comes_to_rest_when_that_ends() -> None:
    rig = rig_of(max_circuits=2)
    rig.circuits.force("a", rig.policy, Force.CLOSED, 0.0, ttl_s=20.0)
    with rig.admit(10.0, "b") as permit:
        permit.settle(SUCCESS, 30.0)
    # a is at rest since 20, b since 30.
    rig.succeed(1, 40.0, "c")
    assert keys(rig) == ["b", "c"]


# Steering and settings.


def test_steering_by_key() -> None:
    rig = rig_of(key=BY_PATH)
    assert rig.circuits.force("a#1", rig.policy, Force.OPEN, 0.0) is None
    assert rig.circuits.clear_override("a", 0.0) is None
    assert rig.circuits.reset("a", 0.0) is None
    rig.answer(500, 0.0, "a", "a#1")
    forced = rig.circuits.force("a#1", rig.policy, Force.OPEN, 0.0)
    assert forced is rig.circuits.get("a#1")
    assert rig.condition(0.0, "a#1") is Condition.FORCED_OPEN
    assert rig.circuits.clear_override("a#1", 0.0) is forced
    assert rig.circuits.reset("a#1", 0.0) is forced
    assert rig.condition(0.0, "a#1") is Condition.CLOSED


def test_a_reload_reaches_every_circuit() -> None:
    rig = rig_of()
    rig.fail(5, 0.0, "a")
    rig.succeed(1, 0.0, "b")
    changed = {"a": policy(mode=Mode.DISABLED), "b": policy()}
    rig.circuits.configure(Limits(circuit_idle=Seconds(10)), changed.__getitem__, 1.0)
    assert rig.condition(1.0, "a") is Condition.DISABLED
    rig.circuits.advance(10.0)
    assert keys(rig) == ["a"]


# Listeners.


def test_listeners_hear_in_order_of_what_happened_even_if_they_cause_it() -> None:
    heard: list[tuple[str, State]] = []

    def reset(change: Transition) -> None:
        heard.append(("first", change.to_state))
        if change.to_state is OPEN:
            rig.circuits.reset(change.key, change.at)

    rig = Rig(listeners=(reset, lambda change: heard.append(("second", change.to_state))))
    rig.fail(5, 0.0)
    assert heard == [("first", OPEN), ("second", OPEN), ("first", CLOSED), ("second", CLOSED)]
    assert rig.passes(0.0)


def test_a_listener_that_raises_is_reported_and_the_others_hear_all_the_same() -> None:
    fault = RuntimeError("a listener's fault")
    heard: list[State] = []

    def broken(_: Transition) -> None:
        raise fault

    rig = Rig(listeners=(broken, lambda change: heard.append(change.to_state)))
    rig.fail(5, 0.0)
    rig.call(FAILED, 30.0)
    assert rig.faults == [fault, fault, fault]
    assert heard == [OPEN, HALF_OPEN, OPEN]
    assert rig.state(30.0) is OPEN


def test_the_settings_of_a_call_are_those_of_its_circuit() -> None:
    rig = rig_of()
    with rig.admit(0.0, HOST) as permit:
        assert isinstance(permit.policy, CircuitPolicy)
        assert permit.policy is rig.circuit(HOST).policy
