"""A small table with more keys than room: two of them, one swept all the time and one never.

Asserted after every step:

 1. The table never holds more than its bound, and a host never more endpoints than its own.
 2. No circuit that is open, forced or busy leaves the table, unless it is half-open and was left alone. This
    is asserted after every call: in a burst one call may close a circuit, and the next one need its room.
 3. The sweeper changes no decision: both refuse the same calls, give room to the same keys, evict the same.
 4. The books of the table itself agree: what is at rest, and how many endpoints each host has.
"""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from support.circuits import BY_PATH, Rig, exchange, policy

from proxy.core.errors import ProxyError
from proxy.core.exchange import Awaited
from proxy.core.outcome import ALIVE, NEUTRAL, SUCCESS, FailureKind, Outcome, failed
from proxy.core.overrides import Force
from proxy.core.permit import Permit
from proxy.core.policy import Limits
from proxy.core.quantities import Seconds
from proxy.core.states import State

IDLE_S = 20.0
MAX_CIRCUITS, MAX_PER_HOST = 4, 2
POLICY = policy(
    key=BY_PATH, consecutive_failures=2, recovery_threshold=1, open=4, open_max=8, probe_lease=8, min_calls=0
)
HOSTS = ["a", "b", "c", "d", "e"]
KEYS = st.tuples(st.sampled_from(HOSTS), st.sampled_from([None, None, "1", "2", "3"]))
OUTCOMES = [
    SUCCESS,
    ALIVE,
    NEUTRAL,
    failed(FailureKind.REFUSED),
    failed(FailureKind.RESPONSE_TIMEOUT),
    failed(FailureKind.STATUS),
]


@dataclass(eq=False)
class Held:
    """A permit of both tables."""

    keys: tuple[str, str | None]
    permits: list[Permit]


class TableMachine(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(max_circuits=MAX_CIRCUITS, max_per_host=MAX_PER_HOST, circuit_idle=Seconds(IDLE_S))
        self.swept, self.unswept = Rig(POLICY, limits), Rig(POLICY, limits)
        self.rigs = (self.swept, self.unswept)
        self.now = 100.0
        self.stays: dict[str, float] = {}
        self.open: list[Held] = []

    def ask(self, host: str, endpoint: str | None) -> Held | None:
        name = f"{host}#{endpoint}" if endpoint else None
        permits: list[Permit] = []
        refusals = []
        for rig in self.rigs:
            call = exchange(self.now)
            call.wait_for(Awaited.RESPONSE_HEAD, 100.0, self.now)
            try:
                permits.append(rig.circuits.admit(host, POLICY, call, self.now, name))
            except ProxyError as error:
                refusals.append((error.reason, error.phrase, error.retry_after_s))
        if refusals:
            assert not permits
            assert refusals[0] == refusals[1]
            return None
        assert repr(permits[0]) == repr(permits[1])
        assert permits[0].is_probe == permits[1].is_probe
        return Held((host, name), permits)

    def finish(self, held: Held, outcome: Outcome, *, connected: bool = True) -> None:
        for permit in held.permits:
            if connected:
                permit.connected(self.now)
            permit.settle(outcome, self.now)
            permit.__exit__(None, None, None)
        self.loses_nothing_that_matters()

    @rule(target=held, keys=KEYS)
    def admit(self, keys: tuple[str, str | None]) -> object:
        held = self.ask(*keys)
        if held is None:
            return multiple()
        self.open.append(held)
        return held

    @rule(held=consumes(held), outcome=st.sampled_from(OUTCOMES))
    def end(self, held: Held, outcome: Outcome) -> None:
        self.open.remove(held)
        self.finish(held, outcome)

    @rule(held=consumes(held))
    def vanish(self, held: Held) -> None:
        """Without a word, and so without the time; where something is due, that would be told later."""
        if any(circuit.due <= self.now for circuit in self.unswept.circuits):
            self.end(held, NEUTRAL)
            return
        self.open.remove(held)
        for permit in held.permits:
            permit.__exit__(None, None, None)

    @rule(keys=KEYS, outcome=st.sampled_from(OUTCOMES), count=st.integers(1, 3), connected=st.booleans())
    def burst(self, keys: tuple[str, str | None], outcome: Outcome, count: int, *, connected: bool) -> None:
        for _ in range(count):
            if (held := self.ask(*keys)) is not None:
                self.finish(held, outcome, connected=connected)

    @rule(wait_s=st.sampled_from([0.25, 4.0 - 0.25, 4.0, 8.0, IDLE_S - 0.25, IDLE_S, IDLE_S + 4.0]))
    def wait(self, wait_s: float) -> None:
        self.now += wait_s
        self.swept.circuits.advance(self.now)

    @rule(
        host=st.sampled_from(HOSTS),
        what=st.sampled_from(["open", "closed", "clear", "reset"]),
        ttl_s=st.sampled_from([None, 2.0, IDLE_S]),
    )
    def steer(self, host: str, what: str, ttl_s: float | None) -> None:
        found = []
        for rig in self.rigs:
            if what in {"open", "closed"}:
                found.append(rig.circuits.force(host, POLICY, Force(what), self.now, ttl_s=ttl_s))
            elif what == "clear":
                found.append(rig.circuits.clear_override(host, self.now))
            else:
                found.append(rig.circuits.reset(host, self.now))
        assert repr(found[0]) == repr(found[1])

    @invariant()
    def stays_within_its_bounds(self) -> None:
        for rig in self.rigs:
            circuits = list(rig.circuits)
            assert len(circuits) == len(rig.circuits) <= MAX_CIRCUITS
            for host in HOSTS:
                assert sum(circuit.host == host != circuit.key for circuit in circuits) <= MAX_PER_HOST
            at_rest = sum(circuit.is_at_rest for circuit in circuits)
            assert repr(rig.circuits) == f"<Circuits {len(circuits)} of {MAX_CIRCUITS}, {at_rest} at rest>"
        assert self.swept.circuits.unprotected == self.unswept.circuits.unprotected
        assert self.swept.circuits.evictions == self.unswept.circuits.evictions
        # What is there unswept and not swept is gone.
        swept = {circuit.key for circuit in self.swept.circuits}
        for circuit in self.unswept.circuits:
            assert circuit.key in swept or self.now - circuit.touched >= IDLE_S

    @invariant()
    def loses_nothing_that_matters(self) -> None:
        here = {circuit.key: circuit for circuit in self.swept.circuits}
        for key, until in self.stays.items():
            assert key in here or self.now >= until
        self.stays = {
            key: (circuit.touched if circuit.state is State.HALF_OPEN else circuit.due) + IDLE_S
            for key, circuit in here.items()
            if circuit.override is not None or circuit.state is not State.CLOSED
        }
        busy = {
            key
            for held in self.open
            for key in held.keys
            if key and f"{key} " in f"{held.permits[0]!r}".replace(">", " ")
        }
        assert busy <= set(here)

    def teardown(self) -> None:
        for rig in self.rigs:
            rig.circuits.advance(self.now)
        assert {repr(circuit) for circuit in self.swept.circuits} == {
            repr(circuit) for circuit in self.unswept.circuits
        }
        assert self.swept.circuits.totals.calls == self.unswept.circuits.totals.calls


@pytest.mark.timeout(300)  # under coverage, on a slow machine, while it shrinks what it found
def test_a_full_table_decides_the_same_swept_or_not() -> None:
    run_state_machine_as_test(
        TableMachine,
        settings=settings(
            max_examples=300,
            stateful_step_count=60,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_a_burst_has_closed_may_make_room_in_the_same_burst() -> None:
    machine = TableMachine()
    failure, refused = failed(FailureKind.STATUS), failed(FailureKind.REFUSED)
    machine.burst(("d", "3"), failure, 2, connected=True)
    machine.steer("b", "open", None)
    machine.wait(4.0)
    machine.burst(("a", "1"), failure, 2, connected=True)
    machine.burst(("a", None), refused, 2, connected=True)
    machine.loses_nothing_that_matters()
    # Its host had to leave. The first call closes the endpoint, by which there is room for the host again.
    machine.burst(("d", "3"), SUCCESS, 2, connected=True)
    machine.loses_nothing_that_matters()
    machine.stays_within_its_bounds()
    assert {circuit.key for circuit in machine.swept.circuits} == {"a", "a#1", "b", "d"}
    machine.teardown()
