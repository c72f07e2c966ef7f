"""The table over a restart: what is taken, what is made of it, and that both processes decide alike."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.circuits import BY_PATH, FAILED, HOST, Rig, policy

from proxy.core.outcome import SUCCESS
from proxy.core.overrides import Force
from proxy.core.policies import Policies
from proxy.core.policy import CircuitPolicy, Limits, Mode, Settings
from proxy.core.quantities import Seconds
from proxy.core.record import Record
from proxy.core.snapshot import changes, restore, take
from proxy.core.states import Condition, State

OPEN, HALF_OPEN = Condition.OPEN, Condition.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = Condition.FORCED_OPEN, Condition.FORCED_CLOSED
ENDPOINT = f"{HOST}#0011223344556677"
# What the monotonic clock of the next process says: another machine time, and an earlier one.
RESTARTED = 7.0


def restarted(
    rig: Rig,
    at: float,
    elapsed_s: float = 0.0,
    *,
    by: CircuitPolicy | None = None,
    limits: Limits | None = None,
) -> Rig:
    """A table of the next process, which begins at `RESTARTED`."""
    after = Rig(by or rig.policy, limits or rig.limits)
    restore(after.circuits, take(rig.circuits, at), lambda _: after.policy, elapsed_s, RESTARTED)
    return after


def keys(rig: Rig) -> list[str]:
    return [circuit.key for circuit in rig.circuits]


# What is taken.


def test_what_is_closed_by_itself_is_not_remembered() -> None:
    rig = Rig()
    rig.succeed(3, 0.0, "a")
    rig.fail(4, 0.0, "b")
    with rig.admit(0.0, "c"):
        assert take(rig.circuits, 1.0) == []


def test_each_kind_has_its_record() -> None:
    rig = Rig(policy(retry_spread=0.5, key=BY_PATH, recovery_threshold=1))
    rig.fail(5, 0.0, "a")
    rig.fail(5, 0.0, "b")
    rig.call(FAILED, 30.0, "b")
    for _ in range(5):
        rig.answer(500, 70.0, HOST, ENDPOINT)
    rig.circuits.force("c", rig.policy, Force.OPEN, 80.0, note="why \ud800")
    rig.circuits.force("d", rig.policy, Force.CLOSED, 80.0, ttl_s=600.0)
    with rig.admit(90.0, "a"):
        assert take(rig.circuits, 95.0) == [
            # Its probe is under way, and will be lost.
            Record("a", HALF_OPEN, 1, since_s=65.0, left_s=None, spread_s=15.0),
            # Nobody has looked at it since its opening ended.
            Record("b", OPEN, 2, since_s=65.0, left_s=0.0, spread_s=30.0),
            Record(ENDPOINT, OPEN, 1, since_s=25.0, left_s=5.0, spread_s=15.0, told_by="path"),
            Record("c", FORCED_OPEN, 0, since_s=15.0, left_s=None, spread_s=150.0, note="why ?"),
            Record("d", FORCED_CLOSED, 0, since_s=15.0, left_s=585.0),
        ]


def test_taking_changes_nothing() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    before = repr(rig.circuit())
    take(rig.circuits, 1000.0)
    assert repr(rig.circuit()) == before
    assert rig.circuit().state is State.OPEN


def test_a_level_beyond_all_sense_is_cut() -> None:
    rig = Rig(policy(open=0.001, open_multiplier=1.001, recovery_threshold=1))
    rig.fail(5, 0.0)
    rig.circuit().level = 1001
    assert take(rig.circuits, 0.0)[0].level == 1000


def test_when_there_is_something_else_to_be_remembered() -> None:
    rig = Rig(limits=Limits(max_circuits=1, circuit_idle=Seconds(900)))
    seen = [changes(rig.circuits)]

    def changed() -> bool:
        seen.append(changes(rig.circuits))
        return seen[-1] > seen[-2]

    rig.fail(4, 0.0, "a")
    assert not changed()
    rig.fail(1, 0.0, "a")
    assert changed()
    assert rig.refusal(1.0, "a") is not None
    rig.circuits.advance(29.0)
    assert not changed()
    rig.circuits.advance(30.0)
    assert changed()
    rig.circuits.force("a", rig.policy, Force.OPEN, 31.0)
    assert changed()
    rig.circuits.clear_override("a", 32.0)
    assert changed()
    # It is half-open and long forgotten, and leaves for another.
    rig.succeed(1, 1000.0, "b")
    assert keys(rig) == ["b"]
    assert changed()


# What becomes of it.


def test_a_dead_upstream_is_not_forgotten() -> None:
    rig = Rig()
    rig.fail(5, 100.0)
    assert rig.refusal(110.0) == ("circuit_open", 20)
    after = restarted(rig, 110.0, 8.0)
    assert after.refusal(RESTARTED) == ("circuit_open", 12)
    assert after.refusal(RESTARTED + 11.5) == ("circuit_open", 1)
    # And it goes on: the next opening is on the next level.
    after.call(FAILED, RESTARTED + 12.0)
    assert after.refusal(RESTARTED + 12.0) == ("circuit_open", 60)
    assert (after.circuit().changed_at, after.circuit().level) == (RESTARTED + 12.0, 2)


def test_what_was_half_open_lets_a_probe_through() -> None:
    rig = Rig(policy(retry_spread=0.5))
    rig.fail(5, 0.0)
    with rig.admit(30.0):
        assert rig.refusal(31.0) == ("circuit_half_open", 1)
        after = restarted(rig, 31.0, 1.0)
    with after.admit(RESTARTED) as probe:
        assert probe.is_probe
        # The row of the times that are told begins anew, as wide as before.
        told = [after.refusal(RESTARTED) for _ in range(3)]
        assert told == [("circuit_half_open", seconds) for seconds in (1, 10, 4)]


def test_what_probes_have_said_so_far_is_gone() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    rig.succeed(2, 30.0)
    after = restarted(rig, 30.0)
    after.succeed(2, RESTARTED)
    assert after.state(RESTARTED) is State.HALF_OPEN
    after.succeed(1, RESTARTED)
    assert after.state(RESTARTED) is State.CLOSED


def test_an_opening_that_ended_meanwhile_is_half_open_and_nobody_is_told() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    after = restarted(rig, 10.0, 25.0)
    assert after.circuit().condition is HALF_OPEN
    assert after.circuit().changed_at == RESTARTED - 5.0
    after.circuits.advance(RESTARTED)
    assert after.heard == []
    assert after.circuits.totals.transitions == {}


def test_overrides_stand_until_they_end() -> None:
    rig = Rig()
    rig.circuits.force("a", rig.policy, Force.OPEN, 0.0, note="maintenance")
    rig.circuits.force("b", rig.policy, Force.CLOSED, 0.0, ttl_s=3600.0)
    rig.circuits.force("c", rig.policy, Force.OPEN, 0.0, ttl_s=3600.0)
    after = restarted(rig, 600.0, 1200.0)
    assert after.refusal(RESTARTED, "a") == ("circuit_forced_open", 60)
    assert after.refusal(RESTARTED, "c") == ("circuit_forced_open", 1800)
    override = after.circuit("a").override
    assert override is not None
    assert override.note == "maintenance"
    after.fail(9, RESTARTED, "b")
    assert after.condition(RESTARTED + 1799.0, "b") is FORCED_CLOSED
    # The table knows when they end, whether it is swept or not: here somebody else calls.
    after.succeed(1, RESTARTED + 1800.0, "d")
    assert [(change.key, change.to_state) for change in after.heard] == [
        ("b", State.CLOSED),
        ("c", State.HALF_OPEN),
    ]
    assert after.condition(RESTARTED + 1e6, "a") is FORCED_OPEN


def test_the_level_of_what_is_forced_closed_falls_meanwhile() -> None:
    rig = Rig(policy(level_decay=60))
    rig.fail(5, 0.0)
    rig.call(FAILED, 30.0)
    rig.circuits.force(HOST, rig.policy, Force.CLOSED, 40.0, ttl_s=1000.0)
    after = restarted(rig, 70.0, 40.0)
    after.circuits.clear_override(HOST, RESTARTED)
    # Closed for 70 s: one of two levels is left.
    assert after.circuit().level == 1


def test_a_clock_that_was_set_back_is_no_time() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    after = restarted(rig, 10.0, -86400.0)
    assert after.refusal(RESTARTED) == ("circuit_open", 20)


def test_what_was_open_before_is_not_counted_twice() -> None:
    rig = Rig()
    rig.fail(5, 0.1)
    after = restarted(rig, 10.3, 3.3)
    circuit = after.circuit()
    assert circuit.open_seconds(RESTARTED) == 0.0
    assert circuit.open_seconds(RESTARTED + 4.0) == pytest.approx(4.0)
    after.circuits.advance(RESTARTED + 500.0)
    assert circuit.open_seconds(RESTARTED + 500.0) == pytest.approx(30.0 - 10.2 - 3.3)


# By the settings of now.


def test_settings_of_now_hold() -> None:
    rig = Rig(policy(open=240, recovery_threshold=3))
    rig.fail(5, 0.0)
    after = restarted(rig, 1.0, by=policy(open=10, open_max=20, retry_after_max=20, recovery_threshold=1))
    assert after.refusal(RESTARTED) == ("circuit_open", 20)
    after.succeed(1, RESTARTED + 20.0)
    assert after.state(RESTARTED + 20.0) is State.CLOSED
    assert restarted(rig, 1.0, by=policy(mode=Mode.OBSERVE)).passes(RESTARTED)
    assert keys(restarted(rig, 1.0, by=policy(mode=Mode.DISABLED))) == []


def test_a_level_is_bounded_by_the_settings_of_now() -> None:
    rig = Rig(policy(open=1))
    rig.fail(5, 0.0)
    now = 0.0
    for _ in range(6):
        now = rig.circuit().due
        rig.call(FAILED, now)
    assert rig.circuit().level == 7
    # 1, 2, 4 and then 5 s.
    after = restarted(rig, now, by=policy(open=1, open_max=5))
    assert after.circuit().level == 4


def test_whose_key_is_none_any_more_is_left_out() -> None:
    records = [
        Record(key, OPEN, 1, 0.0, 60.0, told_by="path" if "#" in key else "")
        for key in (
            "a.example:80",
            "A.example:80",
            "a.example",
            "127.1:80",
            "[::1]:80+internal",
            ENDPOINT,
            "",
        )
    ]
    policies = Policies(Settings(circuit=policy(key=BY_PATH)))
    rig = Rig()
    assert restore(rig.circuits, records, lambda key: policies.of_circuit(key).circuit, 0.0, 0.0) == 3
    assert keys(rig) == ["a.example:80", "[::1]:80+internal", ENDPOINT]


# The table.


def test_a_smaller_table_takes_what_matters_most() -> None:
    rig = Rig(policy(key=BY_PATH))
    rig.fail(5, 0.0, "a")
    assert rig.state(30.0, "a") is State.HALF_OPEN
    rig.fail(5, 30.0, "b")
    rig.circuits.force("c", rig.policy, Force.CLOSED, 30.0)
    for size, kept in [(1, ["c"]), (2, ["c", "b"]), (3, ["c", "b", "a"])]:
        after = restarted(rig, 31.0, limits=Limits(max_circuits=size))
        assert keys(after) == kept
        assert (after.circuits.unprotected, after.circuits.evictions) == (0, 0)


def test_a_host_has_no_more_endpoints_than_it_may() -> None:
    rig = Rig(policy(key=BY_PATH))
    for number in range(5):
        for _ in range(5):
            rig.answer(500, 0.0, "a", f"a#{number}")
    after = restarted(rig, 1.0, limits=Limits(max_per_host=2))
    assert keys(after) == ["a#0", "a#1"]
    # Those that there are count for those that come.
    after.answer(500, RESTARTED, "a", "a#9")
    assert keys(after) == ["a#0", "a#1", "a"]


def test_what_the_table_has_stays() -> None:
    rig = Rig()
    rig.fail(5, 0.0)
    records = take(rig.circuits, 0.0)
    rig.circuits.reset(HOST, 1.0)
    assert restore(rig.circuits, records, lambda _: rig.policy, 0.0, 1.0) == 0
    assert rig.state(1.0) is State.CLOSED


def test_a_restored_circuit_that_nobody_calls_makes_room_like_any_other() -> None:
    rig = Rig(limits=Limits(max_circuits=1))
    rig.fail(5, 0.0, "a")
    after = restarted(rig, 0.0)
    after.succeed(1, RESTARTED + 930.0 - 0.25, "b")
    assert keys(after) == ["a"]
    after.succeed(1, RESTARTED + 930.0, "b")
    assert keys(after) == ["b"]


# Any table.

POLICY = policy(
    key=BY_PATH,
    consecutive_failures=2,
    recovery_threshold=1,
    open=4,
    open_max=8,
    probe_lease=8,
    retry_spread=0.5,
)
# In binary fractions, so that times are exact by either clock.
WAITS = [0.25, 1.0, 3.75, 4.0, 8.0, 20.0]
STEPS = ["fail", "fail", "succeed", "endpoint", "open", "closed", "clear"]
History = list[tuple[float, str, str]]
HISTORIES = st.lists(
    st.tuples(st.sampled_from(WAITS), st.sampled_from(STEPS), st.sampled_from("abc")), max_size=40
)


def played(history: History) -> tuple[Rig, float]:
    """What is left of a history, and when it ended."""
    rig = Rig(POLICY)
    now = 64.0
    for wait_s, step, key in history:
        now += wait_s
        if step == "open":
            rig.circuits.force(key, POLICY, Force.OPEN, now, ttl_s=6.0)
        elif step == "closed":
            rig.circuits.force(key, POLICY, Force.CLOSED, now)
        elif step == "clear":
            rig.circuits.clear_override(key, now)
        elif step == "endpoint":
            if rig.passes(now, key, f"{key}#1"):
                rig.answer(500, now, key, f"{key}#1")
        elif rig.passes(now, key):
            rig.call(FAILED if step == "fail" else SUCCESS, now, key)
    return rig, now


@given(HISTORIES)
def test_nothing_is_lost_on_the_way(
    history: History,
) -> None:
    rig, now = played(history)
    rig.circuits.advance(now)
    taken = take(rig.circuits, now)
    after = restarted(rig, now)
    assert sorted(taken, key=str) == sorted(take(after.circuits, RESTARTED), key=str)
    assert after.heard == []


@given(HISTORIES, st.sampled_from([0.0, 0.25, 2.0, 4.0, 7.75, 8.0]), st.sampled_from([0.0, *WAITS]))
def test_the_next_process_decides_as_the_earlier_one_would_have(
    history: History, elapsed_s: float, later_s: float
) -> None:
    rig, now = played(history)
    # Else what is due counts as of now.
    rig.circuits.advance(now)
    after = restarted(rig, now, elapsed_s)
    before_at, after_at = now + elapsed_s + later_s, RESTARTED + later_s
    shown = []
    for table, at in ((rig, before_at), (after, after_at)):
        table.circuits.advance(at)
        shown.append(
            {
                replace(record, spread_s=0.0): circuit.open_s_left(at)
                for record in take(table.circuits, at)
                if (circuit := table.circuits.get(record.key)) is not None
            }
        )
    assert shown[0] == shown[1]
