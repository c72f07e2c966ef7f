"""The engine against a naive model, step by step, with whatever hypothesis thinks of.

Two engines make the same calls: one is swept all the time, one never. Both are held against the model of
`support/naive_circuit.py`. Without bursts, waits at the boundaries, clients that vanish and stale verdicts
such a machine finds nothing; they are the rules `burst`, `wait`, `leave`, and `settle` of any permit held.

What is asserted, after every step unless said otherwise:

 1. Legal transitions only: each is in TRANSITIONS, begins where the last one ended, and is the model's.
 2. Nothing is admitted while open: the reason of each refusal, and the time it tells, are the model's.
 3. In half-open there are never more probes than allowed, and exactly the model's.
 4. Every permit settles exactly once: what was booked and what came late are as many as in the model, and a
    circuit has as many in flight as permits are held.
 5. The window equals a recount of all calls, bucket by bucket, the run a walk back through them. Each refusal
    spares the mean of all waits that had ended in a failure by then.
 6. Keys are independent: each circuit equals a model that hears only of its own calls.
 7. Liveness (at the end): with all permits leaked, a circuit lets probes through after the longest opening
    and one lease; with all given back, good calls close it.
 8. The sweeper changes no decision: both engines refuse the same, and tell the same changes and times.
 9. The open time lies within its formula.
10. A generation never falls while its circuit is known.
11. Never more in flight than `max_in_flight`.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from support.circuits import BY_PATH, Rig
from support.naive_circuit import Change, NaiveCall, NaiveCircuit, NaiveSeat

from proxy.core.errors import ProxyError
from proxy.core.exchange import Awaited, Entry, Exchange
from proxy.core.outcome import (
    ALIVE,
    NEUTRAL,
    SUCCESS,
    THROTTLED,
    FailureKind,
    Outcome,
    failed,
    of_leaving,
    of_status,
)
from proxy.core.overrides import Force
from proxy.core.permit import Permit
from proxy.core.policy import CircuitPolicy, Limits, Mode
from proxy.core.quantities import Seconds
from proxy.core.scope import BY_HOST
from proxy.core.states import TRANSITIONS, State, Trigger

IDLE_S = 40.0
# A power of two, so that sums of times are exact and a boundary is met from both sides.
TICK_S = 2.0**-10
HOSTS = ["a:1", "b:1"]
ENDPOINTS = [None, "1", "2", "3"]
CONNECTION = {"dns", "refused", "unreachable", "connect_timeout", "tls", "tunnel"}
SILENT = {"response_timeout", "abandoned", "reset"}
VERDICTS = [SUCCESS, ALIVE, THROTTLED, NEUTRAL, *map(failed, FailureKind)]
REACHED: Counter[tuple[State, Trigger, State]] = Counter()

POLICIES = st.builds(
    CircuitPolicy,
    key=st.sampled_from([BY_HOST, BY_PATH]),
    consecutive_failures=st.sampled_from([2, 3, 3, 0]),
    window=st.just(Seconds(10)),
    min_calls=st.sampled_from([3, 6, 0]),
    failure_ratio=st.sampled_from([0.5, 0.8, 0.0]),
    slow_call=st.just(Seconds(2)),
    slow_ratio=st.sampled_from([0.0, 0.5]),
    open=st.just(Seconds(4)),
    open_max=st.just(Seconds(10)),
    open_jitter=st.sampled_from([0.0, 0.25]),
    level_decay=st.just(Seconds(6)),
    retry_after=st.booleans(),
    retry_after_max=st.just(Seconds(12)),
    retry_spread=st.sampled_from([0.0, 0.5, 3.0]),
    half_open_in_flight=st.sampled_from([1, 2]),
    recovery_threshold=st.sampled_from([1, 2]),
    probe_lease=st.just(Seconds(8)),
    ramp=st.sampled_from([Seconds(0), Seconds(4)]),
    max_in_flight=st.sampled_from([1024, 3]),
    mode=st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.OBSERVE]),
)


@dataclass(eq=False)
class Held:
    """A permit of both engines, and what the model knows of it."""

    host: str
    endpoint: str | None
    permits: tuple[Permit, Permit]
    exchanges: tuple[Exchange, Exchange]
    call: NaiveCall
    seats: dict[str, NaiveSeat]
    two_scopes: bool
    connected: bool = False
    from_head: Outcome | None = None
    wish: float | None = None
    settled: bool = False
    told: set[str] = field(default_factory=set)


class BreakerMachine(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.latest = self.now
        self.models: dict[str, NaiveCircuit] = {}
        self.log: dict[str, list[Change]] = {}
        self.generations: dict[str, int] = {}
        self.open_permits: list[Held] = []
        self.spared_s = 0.0

    @initialize(policy=POLICIES, drawn=st.sampled_from([0.0, 0.5, 1.0]))
    def begin(self, policy: CircuitPolicy, drawn: float) -> None:
        limits = Limits(circuit_idle=Seconds(IDLE_S))
        self.policy, self.drawn = policy, drawn
        self.swept = Rig(policy, limits, drawn=drawn)
        self.unswept = Rig(policy, limits, drawn=drawn)
        self.rigs = (self.swept, self.unswept)

    # The model of the table.

    def fresh(self, key: str) -> NaiveCircuit:
        self.generations.pop(key, None)
        model = NaiveCircuit(key, self.policy, self.drawn, since=self.now, touched=self.now)
        self.models[key] = model
        return model

    def obtain(self, key: str) -> NaiveCircuit:
        model = self.models.get(key)
        if model is None or (model.is_at_rest and self.now - model.touched >= IDLE_S):
            model = self.fresh(key)
        model.touched = self.now
        model.advance(self.now)
        return model

    def file(self, key: str) -> None:
        model = self.models[key]
        self.latest = max(self.latest, model.touched)
        if model.is_blank:
            del self.models[key]
            self.generations.pop(key, None)
        elif model.is_at_rest:
            model.touched = self.latest

    def tell(self, held: Held, key: str, outcome: Outcome, *, silent: str | None = None) -> None:
        if key not in held.seats:
            return
        model = self.models[key]
        if key not in held.told:
            held.told.add(key)
            # What an answer says besides its status is HTTP evidence as well.
            whole = key == held.endpoint or not held.two_scopes
            wish = held.wish if whole else None
            model.book(held.seats[key], outcome, self.now, silent=silent, wish=wish, timed=whole)
        model.touched = self.now

    # The rules.

    @rule(
        target=held,
        host=st.sampled_from(HOSTS),
        endpoint=st.sampled_from(ENDPOINTS),
        awaited=st.sampled_from(Awaited),
    )
    def admit(self, host: str, endpoint: str | None, awaited: Awaited) -> Any:
        held = self.ask(host, endpoint)
        if held is None:
            return multiple()
        self.wait_for(held, awaited)
        return held

    def ask(self, host: str, endpoint: str | None) -> Held | None:
        has_two = self.policy.key is not BY_HOST
        name = f"{host}#{endpoint}" if has_two and endpoint else None
        self.latest = self.now
        asked = [self.obtain(key) for key in (host, name) if key is not None]
        # Like `any`: the second is not asked if the first refuses.
        reason, refused = None, None
        for model in asked:
            if reason is None and (reason := model.refusal(self.now)) is not None:
                ends_s = max(model.open_s_left(self.now) for model in asked)
                before_s = model.spared_s
                refused = (reason, max(1, ceil(ends_s + model.turn_away(reason))))
                self.spared_s += model.spared_s - before_s
        exchanges = (Exchange(Entry.FORWARD, "GET", self.now), Exchange(Entry.FORWARD, "GET", self.now))
        permits = []
        refusals = []
        for rig, exchange in zip(self.rigs, exchanges, strict=True):
            try:
                permits.append(rig.circuits.admit(host, self.policy, exchange, self.now, name))
            except ProxyError as error:
                refusals.append((error.reason, error.retry_after_s))
        if refused is not None and self.policy.mode is Mode.ENFORCE:
            assert refusals == [refused, refused]
            for model in asked:
                self.file(model.key)
            return None
        assert not refusals
        call = NaiveCall()
        seats = {} if reason is not None else {model.key: model.admit(call, self.now) for model in asked}
        if reason is not None:
            for model in asked:
                self.file(model.key)
        for permit in permits:
            permit.__enter__()
        held = Held(host, name, (permits[0], permits[1]), exchanges, call, seats, has_two)
        assert permits[0].is_probe == any(seat.probe_since is not None for seat in seats.values())
        self.open_permits.append(held)
        return held

    @rule(
        held=held,
        awaited=st.sampled_from(
            [
                Awaited.CONNECTION,
                Awaited.TLS,
                Awaited.RESPONSE_HEAD,
                Awaited.REQUEST_CONTENT,
                Awaited.ADDRESS,
            ]
        ),
    )
    def wait_for(self, held: Held, awaited: Awaited) -> None:
        if held not in self.open_permits:
            return
        if awaited in {Awaited.TUNNEL_BYTES, Awaited.TUNNEL_FIRST_BYTES}:
            awaited = Awaited.CONNECTION
        held.call.waits.append((self.now, awaited))
        for exchange in held.exchanges:
            if awaited is Awaited.NOTHING:
                exchange.wait_over(self.now)
            else:
                exchange.wait_for(awaited, 1000.0, self.now)

    @rule(held=held)
    def take_content(self, held: Held) -> None:
        if held in self.open_permits:
            held.call.took.append(self.now)
            for exchange in held.exchanges:
                exchange.upstream_took(self.now)

    @rule(held=held)
    def connect(self, held: Held) -> None:
        if held in self.open_permits:
            held.connected = True
            for permit in held.permits:
                permit.connected(self.now)

    @rule(
        held=held,
        status=st.sampled_from([200, 404, 429, 500, 503]),
        wish_s=st.sampled_from([None, None, -1.0, 0.0, 3.0, 7.0, 1e9]),
    )
    def head(self, held: Held, status: int, wish_s: float | None) -> None:
        if held not in self.open_permits or held.from_head is not None or held.settled:
            return
        held.wish = None if wish_s is None or not self.policy.retry_after else self.now + wish_s
        at = None if wish_s is None else self.now + wish_s
        held.from_head = of_status(status, self.policy)
        held.call.head_at = self.now
        for permit in held.permits:
            assert permit.head(status, at, self.now) == held.from_head
        own = held.endpoint or held.host
        if held.two_scopes:
            self.tell(held, held.host, SUCCESS)
        is_own = not held.two_scopes or held.endpoint is not None
        if is_own and own in held.seats and held.seats[own].probe_since is not None:
            self.tell(held, own, held.from_head)

    @rule(held=held, outcome=st.sampled_from(VERDICTS))
    def settle(self, held: Held, outcome: Outcome) -> None:
        if held in self.open_permits:
            self.give_verdict(held, outcome)

    @rule(held=held)
    def complete(self, held: Held) -> None:
        if held in self.open_permits and held.from_head is not None:
            self.give_verdict(held, held.from_head)

    def give_verdict(self, held: Held, outcome: Outcome) -> None:
        for permit in held.permits:
            permit.settle(outcome, self.now)
        if held.settled:
            outcome = NEUTRAL
        held.settled = True
        kind = outcome.kind.value if outcome.kind else ""
        host, own = held.host, held.endpoint or held.host
        if not held.two_scopes:
            self.tell(held, host, outcome)
        elif outcome is NEUTRAL:
            self.tell(held, host, NEUTRAL)
            self.tell(held, own, NEUTRAL)
        elif held.from_head is not None:
            self.tell(held, host, NEUTRAL)
            if held.endpoint:
                self.tell(held, own, outcome)
        elif kind in CONNECTION or (kind and not held.connected):
            self.tell(held, host, outcome)
            self.tell(held, own, NEUTRAL)
        elif kind in SILENT:
            self.tell(held, host, outcome, silent=held.endpoint or "")
            self.tell(held, own, outcome)
        else:
            self.tell(held, host, ALIVE if kind == "malformed" else SUCCESS)
            self.tell(held, own, outcome)

    @rule(held=consumes(held))
    def end(self, held: Held) -> None:
        if held in self.open_permits:
            self.give_verdict(held, NEUTRAL)
            self.exit(held)

    @rule(held=consumes(held))
    def vanish(self, held: Held) -> None:
        """Without a word, and so without the time; where something is due, that would be told later."""
        if held not in self.open_permits:
            return
        if any(circuit.due <= self.now for circuit in self.unswept.circuits):
            self.give_verdict(held, NEUTRAL)
        self.exit(held)

    @rule(held=consumes(held))
    def leave(self, held: Held) -> None:
        """The client leaves, which is the upstream's failure if that kept it waiting."""
        if held in self.open_permits:
            after_s = self.policy.abandoned_after
            owed = [exchange.upstream_owed_s(self.now) for exchange in held.exchanges]
            assert owed[0] == owed[1]
            self.give_verdict(held, of_leaving(upstream_owed_s=owed[0], abandoned_after_s=after_s))
            self.exit(held)

    def exit(self, held: Held) -> None:
        for permit in held.permits:
            permit.__exit__(None, None, None)
        self.open_permits.remove(held)
        for key, seat in held.seats.items():
            model = self.models[key]
            seat.settled = True
            model.seats.remove(seat)
            self.file(key)

    @rule(
        host=st.sampled_from(HOSTS),
        endpoint=st.sampled_from(ENDPOINTS),
        count=st.integers(1, 6),
        how=st.sampled_from(["refused", "silent", "status", "good", "alive", "throttled", "slow", "cut"]),
    )
    def burst(self, host: str, endpoint: str | None, count: int, how: str) -> None:
        """Several whole calls, in no time unless they are slow or cut."""
        statuses = {"status": 500, "good": 200, "slow": 200, "cut": 200, "alive": 404, "throttled": 429}
        for _ in range(count):
            held = self.ask(host, endpoint)
            if held is None:
                continue
            if how == "refused":
                self.give_verdict(held, failed(FailureKind.REFUSED))
            else:
                self.connect(held)
                if how == "slow":
                    self.wait_for(held, Awaited.RESPONSE_HEAD)
                    self.wait(2.0)
                if how == "silent":
                    self.give_verdict(held, failed(FailureKind.RESPONSE_TIMEOUT))
                else:
                    self.head(held, statuses[how], None)
                    if how == "cut":
                        self.wait_for(held, Awaited.RESPONSE_CONTENT)
                        self.wait(1.0)
                        self.give_verdict(held, failed(FailureKind.TRUNCATED))
                    self.complete(held)
            self.exit(held)

    @rule(
        target=held,
        host=st.sampled_from(HOSTS),
        endpoint=st.sampled_from(ENDPOINTS),
        awaited=st.sampled_from(Awaited),
        took_before_s=st.sampled_from([None, 5.0 - TICK_S, 5.0, 5.0 + TICK_S]),
        then=st.sampled_from([None, Awaited.RESPONSE_HEAD, Awaited.REQUEST_CONTENT]),
        wakes=st.booleans(),
    )
    def outlive_the_lease(
        self,
        host: str,
        endpoint: str | None,
        awaited: Awaited,
        took_before_s: float | None,
        then: Awaited | None,
        *,
        wakes: bool,
    ) -> Any:
        """A call, mostly a probe, that is still there when its lease ends, and may go on after that."""
        if wakes:
            self.steer(host, "open", None)
            self.steer(host, "clear", None)
        held = self.ask(host, endpoint)
        if held is None:
            return multiple()
        self.wait_for(held, awaited)
        before_s = took_before_s or 0.0
        self.wait(8.0 - before_s)
        if took_before_s is not None:
            self.take_content(held)
        self.wait(before_s)
        if then is not None:
            self.wait_for(held, then)
            self.take_content(held)
        return held

    @rule(wait_s=st.sampled_from([TICK_S, 0.5, 1.0, 4.0 - TICK_S, 4.0, 8.0, 10.0, 12.0, 30.0, IDLE_S]))
    def wait(self, wait_s: float) -> None:
        self.now += wait_s
        self.swept.circuits.advance(self.now)

    @rule(index=st.integers(0, 5), offset_s=st.sampled_from([-TICK_S, 0.0, TICK_S]))
    def wait_until_something_is_due(self, index: int, offset_s: float) -> None:
        dues = sorted({model.next_due for model in self.models.values()} - {inf})
        if dues:
            self.wait(max(0.0, dues[index % len(dues)] + offset_s - self.now))

    @rule(
        key=st.sampled_from([*HOSTS, "a:1#1"]),
        what=st.sampled_from(["open", "closed", "clear", "reset"]),
        ttl_s=st.sampled_from([None, 2.0, 20.0]),
    )
    def steer(self, key: str, what: str, ttl_s: float | None) -> None:
        self.latest = self.now
        model = self.models.get(key)
        if model is not None and model.is_at_rest and self.now - model.touched >= IDLE_S:
            model = None
        forces = what in {"open", "closed"}
        if forces and "#" not in key:
            model = self.obtain(key)
        for rig in self.rigs:
            if forces:
                found = rig.circuits.force(key, self.policy, Force(what), self.now, ttl_s=ttl_s)
            else:
                do = rig.circuits.clear_override if what == "clear" else rig.circuits.reset
                found = do(key, self.now)
            assert (found is None) is (model is None)
        if model is None:
            return
        if forces:
            model.force(what, inf if ttl_s is None else self.now + ttl_s, self.now)
        elif what == "clear":
            model.clear(self.now)
        else:
            model.reset(self.now)

    # What holds after every step.

    @invariant()
    def equals_the_model(self) -> None:
        if not hasattr(self, "swept"):
            return
        for key, model in self.models.items():
            model.advance(self.now)
            circuit = self.swept.circuits.get(key)
            if circuit is None:
                assert model.is_blank or (model.is_at_rest and self.now - model.touched >= IDLE_S)
                continue
            circuit.advance(self.now)
            assert circuit.state.value == model.state
            assert (circuit.override is not None) == (model.forced is not None)
            assert circuit.level == model.level
            assert circuit.due == model.next_due
            assert circuit.probes == len(model.probes) <= self.policy.half_open_in_flight
            assert circuit.in_flight == len(model.seats) <= self.policy.max_in_flight
            assert sum(circuit.tally.calls.values()) == model.calls
            assert circuit.tally.late == model.late
            assert circuit.tally.spared_s == model.spared_s
            assert circuit.generation >= self.generations.get(key, 0)
            self.generations[key] = circuit.generation
            if model.state == "closed" and not model.forced:
                assert circuit.counts(self.now) == model.window(self.now)
                assert circuit.buckets(self.now) == model.buckets(self.now)
                assert not self.policy.consecutive_failures or circuit.run == model.run
        assert {circuit.key for circuit in self.swept.circuits} <= set(self.models)

    @invariant()
    def changes_are_legal(self) -> None:
        if not hasattr(self, "swept"):
            return
        last: dict[str, State] = {}
        for change in self.swept.heard:
            assert TRANSITIONS[change.from_state][change.trigger] is change.to_state
            # One that was forgotten begins anew, closed.
            assert change.from_state in {last.get(change.key, State.CLOSED), State.CLOSED}
            last[change.key] = change.to_state
            if change.to_state is State.OPEN and change.trigger is not Trigger.FORCED_OPEN:
                base_s = min(10.0, 4.0 * 2 ** (change.level - 1))
                jitter = self.policy.open_jitter
                most_s = max(base_s * (1 + jitter), 12.0 if self.policy.retry_after else 0.0)
                assert base_s * (1 - jitter) <= change.open_s <= most_s
        for key, model in self.models.items():
            model.advance(self.now)
            heard = [
                (change.from_state.value, change.to_state.value, change.trigger.value, change.at)
                for change in self.swept.heard
                if change.key == key
            ]
            assert heard[len(heard) - len(model.changes) :] == model.changes

    def teardown(self) -> None:
        if not hasattr(self, "swept"):
            return
        for rig in self.rigs:
            rig.circuits.advance(self.now)
            assert rig.faults == []
        # The sweeper has changed nothing.
        for key in {change.key for change in self.swept.heard + self.unswept.heard}:
            assert [change for change in self.swept.heard if change.key == key] == [
                change for change in self.unswept.heard if change.key == key
            ]
        assert self.swept.circuits.totals == self.unswept.circuits.totals
        assert self.swept.circuits.totals.spared_s == pytest.approx(self.spared_s)
        REACHED.update((change.from_state, change.trigger, change.to_state) for change in self.swept.heard)
        for rig, which in ((self.swept, 0), (self.unswept, 1)):
            self.check_liveness(rig, which)

    def check_liveness(self, rig: Rig, which: int) -> None:
        now = self.now
        for circuit in list(rig.circuits):
            circuit.clear_override(now)
        # All permits leaked: the longest opening, a lease, and the longest opening again if that failed it.
        now += 15.0 + 8.0 + 15.0
        for circuit in list(rig.circuits):
            circuit.advance(now)
            assert circuit.state is not State.OPEN
            assert circuit.refusal(now + 8.0) in {None, "too_many_in_flight"}
        # All given back.
        for held in self.open_permits:
            held.permits[which].settle(NEUTRAL, now)
            held.permits[which].__exit__(None, None, None)
        for circuit in list(rig.circuits):
            assert circuit.in_flight == circuit.probes == 0
            _, _, endpoint = circuit.key.partition("#")
            for _ in range(self.policy.recovery_threshold):
                now += 4.0  # as long as the ramp
                rig.answer(200, now, circuit.host, circuit.key if endpoint else None)
            current = rig.circuits.get(circuit.key)
            assert current is None or current.state is State.CLOSED


@pytest.mark.timeout(300)  # under coverage, on a slow machine, while it shrinks what it found
def test_the_engine_does_what_the_model_does_and_reaches_every_transition() -> None:
    REACHED.clear()
    run_state_machine_as_test(
        BreakerMachine,
        settings=settings(
            max_examples=600,
            stateful_step_count=50,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    table = {
        (state, trigger, to_state) for state, row in TRANSITIONS.items() for trigger, to_state in row.items()
    }
    assert table - set(REACHED) == set()
