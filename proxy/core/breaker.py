"""The circuit of one key: everything that decides whether a call may pass lives here.

A circuit is a state machine whose transitions are the table in `states.py`. All operations are synchronous,
and take the time as an argument: `now` is monotonic seconds. What time makes due (the end of an opening, of a
probe's lease, of an override) is made up for by whoever looks next, and as of when it was due, so that no
timer is needed and none can be late.

Each call that is let through has a seat. Every transition begins a new generation; a verdict on a seat of an
earlier generation changes nothing and is counted as late.

This module knows one circuit. Calls are admitted by `registry.py`, which asks one or two of them, and their
verdicts come through `permit.py`, which knows whose they are.
"""

from collections.abc import Callable

from proxy.core import escalation
from proxy.core.evidence import NEVER, Evidence
from proxy.core.exchange import FOREVER, Exchange
from proxy.core.first_probe import FirstProbe, holds_back
from proxy.core.outcome import (
    CONNECTION_KINDS,
    EFFECTS,
    NEUTRAL,
    SILENT_KINDS,
    Effect,
    FailureKind,
    Outcome,
    Verdict,
)
from proxy.core.overrides import Force, Override
from proxy.core.policy import CircuitPolicy, Mode
from proxy.core.ramp import Ramp
from proxy.core.record import MEANINGS, Record
from proxy.core.refusals import (
    CIRCUIT_FORCED_OPEN,
    CIRCUIT_HALF_OPEN,
    CIRCUIT_OPEN,
    CIRCUIT_RAMPING,
    TOO_MANY_IN_FLIGHT,
)
from proxy.core.scope import Scope
from proxy.core.seats import Probes, Seat
from proxy.core.spread import Spread
from proxy.core.states import TRANSITIONS, Condition, State, Transition, Trigger
from proxy.core.tally import Tally
from proxy.core.waits import Waits
from proxy.core.window import Counts, Window

# A member is looked up on its class in Python; these are asked on every call.
_CLOSED, _HALF_OPEN, _OPEN = State.CLOSED, State.HALF_OPEN, State.OPEN
_NEUTRAL = Verdict.NEUTRAL
_DISABLED, _ANY = Mode.DISABLED, FirstProbe.ANY
_CONDITIONS = {state: Condition(state.value) for state in State}

# What a refused client is told where nobody knows when a call would pass.
_RETRY_FORCED_S = 60.0

Draw = Callable[[], float]


class Circuit:
    """The breaker of one key.

    Args:
        key: `host:port`, or `host:port#hash` for an endpoint.
        host: the key of the host's circuit.
        policy: its settings; replaced by `adopt`.
        totals: where everything is counted once more, beside the circuit's own tally.
        draw: a number from 0 to 1 at random, for the jitter.
        listener: called after each transition; it must not raise.

    Attributes:
        changed_at: when it made its last transition, in monotonic seconds; may be before the process began.
        due: when time makes the next transition due; for ever while it waits for calls.
        first_probe: whose the first probe of an opening is; set by who keeps requests for later.
        in_flight: exchanges that have a seat, settled ones included until they end.
        level: see `escalation.py`; since it falls with time, it is as of the last transition.
        spread: when refused calls are told to come back; None while it is closed.
        touched: when it was last asked or changed; what nobody touches may be forgotten.
        last_failures: when a call last failed so, in monotonic seconds, by kind.
    """

    __slots__ = (
        "__weakref__", "_draw", "_evidence", "_listener", "_open_s_so_far", "_probes", "_ramp", "_totals",
        "_waits", "changed_at", "due",
        "first_probe", "generation", "host", "in_flight", "key", "last_failures", "level",
        "override", "policy", "scope", "spread", "state", "tally", "touched",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        host: str,
        policy: CircuitPolicy,
        *,
        totals: Tally,
        draw: Draw,
        listener: Callable[["Circuit", Transition], None],
        now: float,
    ) -> None:
        self.key = key
        self.host = host
        self.scope = Scope.HOST if key == host else Scope.ENDPOINT
        self.policy = policy
        self.tally = Tally()
        self.last_failures: dict[FailureKind, float] = {}
        self.state = _CLOSED
        self.generation = 0
        self.level = 0
        self.override: Override | None = None
        self.in_flight = 0
        self.due = FOREVER
        self.touched = now
        self._totals = totals
        self._draw = draw
        self._listener = listener
        self._evidence = Evidence(policy.window)
        self._probes = Probes()
        self._waits = Waits()
        self._ramp: Ramp | None = None
        self.spread: Spread | None = None
        self.first_probe = _ANY
        self.changed_at = now
        self._open_s_so_far = 0.0

    def __repr__(self) -> str:
        return (
            f"<Circuit {self.key} {self.condition.value} generation={self.generation} run={self.run}"
            f" level={self.level} in_flight={self.in_flight} probes={self.probes}>"
        )

    # What can be seen of it. Whoever wants it up to date calls `advance` before.

    @property
    def condition(self) -> Condition:
        """What an operator sees."""
        if self.policy.mode is _DISABLED:
            return Condition.DISABLED
        if self.override is not None:
            return Condition.FORCED_OPEN if self.override.force is Force.OPEN else Condition.FORCED_CLOSED
        return _CONDITIONS[self.state]

    @property
    def run(self) -> int:
        """Failures in a row."""
        return self._evidence.run

    @property
    def probes(self) -> int:
        """Probes under way."""
        return len(self._probes)

    @property
    def is_at_rest(self) -> bool:
        """Whether it is closed by itself, with nothing in flight: all it knows is its past."""
        return self.state is _CLOSED and self.override is None and not self.in_flight

    @property
    def is_blank(self) -> bool:
        """Whether it is at rest and nothing was ever booked, so that a new one would know as much."""
        return self.is_at_rest and not self.tally.calls and not self.tally.transitions and not self.run

    def abandoned_since(self, now: float) -> float | None:
        """Since when it is half-open and nobody has called it; None if it is not, or a call is under way.

        Once its opening is over it is half-open, whether anybody has looked or not.
        """
        if self.in_flight or self.override is not None or self.state is _CLOSED:
            return None
        if self.state is _HALF_OPEN:
            return self.touched
        return max(self.touched, self.due) if now >= self.due else None

    def counts(self, now: float) -> Counts:
        """What its window has seen."""
        return self._evidence.window.counts(now)

    def buckets(self, now: float) -> list[Counts]:
        """The same by tenths of the window, oldest first."""
        return self._evidence.window.buckets(now)

    def open_s_left(self, now: float) -> float:
        """Seconds until the first probe is let through, 60 if nobody knows; 0 unless the circuit is open."""
        if self.state is not _OPEN:
            return 0.0
        return max(0.0, self.due - now) if self.due < FOREVER else _RETRY_FORCED_S

    def open_seconds(self, now: float) -> float:
        """For how long it has been open in all its life; an opening that is over does not go on."""
        open_s = min(now, self.due) - self.changed_at if self.state is _OPEN else 0.0
        return self._open_s_so_far + max(0.0, open_s)

    # Asking.

    def refusal(self, now: float, *, is_deferred: bool = False) -> str | None:
        """Why a call may not pass now; None if it may. `advance` comes before; asking changes nothing."""
        if self.state is _OPEN:
            return CIRCUIT_OPEN if self.override is None else CIRCUIT_FORCED_OPEN
        if self.state is _HALF_OPEN:
            if len(self._probes) >= self.policy.half_open_in_flight or self._is_held_back(now, is_deferred):
                return CIRCUIT_HALF_OPEN
        elif self._ramp is not None and not self._ramp.passes(now):
            return CIRCUIT_RAMPING
        if self.in_flight >= self.policy.max_in_flight:
            return TOO_MANY_IN_FLIGHT
        return None

    def _is_held_back(self, now: float, is_deferred: bool) -> bool:  # noqa: FBT001 -- passed on
        return self.first_probe is not _ANY and holds_back(
            self.first_probe,
            is_deferred=is_deferred,
            half_open_s=now - self.changed_at,
            open_s=self.policy.open,
            are_given=self._probes.begun > 0,
        )

    def count_refusal(self, reason: str, now: float, *, enforced: bool) -> float:
        """Counts a call that got no seat.

        Returns:
            By how much later than the end of the opening it should come back, in seconds; see `spread.py`.
        """
        would_wait_s = self._waits.mean_s
        self.tally.add_rejected(reason, enforced=enforced, would_wait_s=would_wait_s)
        self._totals.add_rejected(reason, enforced=enforced, would_wait_s=would_wait_s)
        if reason == CIRCUIT_RAMPING and self._ramp is not None:
            self._ramp.count(now, passed=False)
        if self.spread is None or reason == TOO_MANY_IN_FLIGHT:
            return 0.0
        # Without an end all wait from their own calls on, and so return as they came.
        is_endless = self.state is _OPEN and self.due == FOREVER
        return 0.0 if is_endless else self.spread.next_s()

    def seat(self, exchange: Exchange, now: float) -> Seat:
        """Takes a call in; `refusal` has said that it may pass."""
        self.in_flight += 1
        if self._ramp is not None:
            if self._ramp.is_over(now):
                self._ramp = None
            else:
                self._ramp.count(now, passed=True)
        if self.state is not _HALF_OPEN:
            return Seat(self, exchange, FOREVER, is_probe=False)
        lease_at = now + self.policy.lease_s
        # An endpoint's probe and its host's have one exchange, and begin at the same time.
        exchange.lease_at = min(exchange.lease_at, lease_at)
        seat = Seat(self, exchange, lease_at, is_probe=True)
        self._probes.begin(seat)
        self.due = min(self.due, lease_at)
        return seat

    # Booking; called by the permit alone.

    def book(
        self,
        seat: Seat,
        outcome: Outcome,
        now: float,
        *,
        upstream_s: float,
        slow: bool = False,
        retry_after_at: float = NEVER,
        silent_endpoint: str | None = None,
    ) -> None:
        """Takes the one verdict on a seat into account.

        Args:
            seat: one of this circuit's.
            outcome: of the call.
            now: monotonic seconds.
            upstream_s: for how long the upstream owed, up to the head of its answer if there was one.
            slow: whether that was long, and is this circuit's concern.
            retry_after_at: until when the upstream wants to be left alone, in monotonic seconds.
            silent_endpoint: for a host, that it is an endpoint that fell silent: it counts once a run, and
                not in the window.
        """
        if now >= self.due:
            self.advance(now)
        self.touched = now
        if seat.settled or seat.generation != self.generation:
            seat.settled = True
            self._count_late(seat, outcome, silent=silent_endpoint is not None)
            return
        seat.settled = True
        if seat.is_probe:
            self._end_probe(seat, outcome)
        if outcome.verdict is _NEUTRAL or self.override is not None:
            return
        effect = EFFECTS[outcome.verdict]
        if effect.failed:
            self._evidence.retry_after_at = retry_after_at
            self._waits.add(seat.exchange.total_upstream_s(now))
        if seat.is_probe:
            self._count(seat, outcome, now, silent=silent_endpoint is not None)
            self._judge_probe(effect, outcome, now)
        elif silent_endpoint is not None:
            self._book_silence(silent_endpoint, outcome, now)
        else:
            self._count(seat, outcome, now, silent=False)
            trigger = self._evidence.add(effect, self.policy, now, slow=slow, upstream_s=upstream_s)
            if trigger is not None:
                self._change(trigger, outcome, now)

    def _book_silence(self, endpoint: str, outcome: Outcome, now: float) -> None:
        trigger = self._evidence.add_silence(endpoint, self.policy)
        if trigger is not None:
            self._change(trigger, outcome, now)

    def leave(self, seat: Seat) -> None:
        """Ends the exchange of a seat; without a verdict that is neutral, and needs no clock."""
        if not seat.settled:
            seat.settled = True
            if seat.is_probe and seat.generation == self.generation:
                self._end_probe(seat, NEUTRAL)
        self.in_flight -= 1

    def _count(self, seat: Seat, outcome: Outcome, at: float, *, silent: bool) -> None:
        self.tally.add_call(outcome)
        if outcome.kind is not None:
            self.last_failures[outcome.kind] = at
        if _is_own(seat, outcome, silent=silent):
            self._totals.add_call(outcome)

    def _count_late(self, seat: Seat, outcome: Outcome, *, silent: bool) -> None:
        if outcome.verdict is not _NEUTRAL:
            self.tally.late += 1
            if _is_own(seat, outcome, silent=silent):
                self._totals.late += 1

    def _judge_probe(self, effect: Effect, outcome: Outcome, at: float) -> None:
        if effect.failed:
            self._change(Trigger.PROBE_FAILED, outcome, at)
            return
        self._probes.succeeded += 1
        if self._probes.succeeded >= self.policy.recovery_threshold:
            self._change(Trigger.RECOVERED, outcome, at)

    def _end_probe(self, seat: Seat, outcome: Outcome) -> None:
        self._probes.end(seat)
        self.due = self._probes.first_lease_at
        self.tally.add_probe(outcome.verdict)
        self._totals.add_probe(outcome.verdict)

    # Time.

    def advance(self, now: float) -> None:
        """Makes the transitions that time has made due, each as of when it was due."""
        while now >= self.due:
            if self.override is not None:
                self._end_override(self.due)
            elif self.state is _OPEN:
                self._change(Trigger.OPEN_ELAPSED, None, self.due)
            else:
                self._end_lease(self._probes.first())

    def _end_lease(self, seat: Seat) -> None:
        seat.settled = True
        outcome = seat.exchange.verdict_at_lease()
        if self.scope is Scope.ENDPOINT and outcome.kind in CONNECTION_KINDS:
            # No connection so far says something of the host, and nothing of its endpoint.
            outcome = NEUTRAL
        self._end_probe(seat, outcome)
        if outcome.verdict is not _NEUTRAL:
            # What is not neutral then has failed.
            self._evidence.retry_after_at = NEVER
            self._waits.add(seat.exchange.upstream_s_at_lease())
            self._count(seat, outcome, seat.lease_at, silent=outcome.kind in SILENT_KINDS)
            self._judge_probe(EFFECTS[outcome.verdict], outcome, seat.lease_at)

    # Steering.

    def force(self, force: Force, now: float, *, ttl_s: float | None = None, note: str = "") -> None:
        """Has an operator's word stand above everything; it replaces an earlier one.

        Args:
            force: what the circuit is to be.
            now: monotonic seconds.
            ttl_s: for how long, > 0; None is until `clear_override`.
            note: why.
        """
        self.advance(now)
        self.override = Override(force, FOREVER if ttl_s is None else now + ttl_s, note)
        self._change(Trigger.FORCED_OPEN if force is Force.OPEN else Trigger.FORCED_CLOSED, None, now, note)

    def clear_override(self, now: float, *, note: str = "") -> None:
        """Gives the circuit back to itself: forced open it probes, forced closed it starts empty."""
        self.advance(now)
        if self.override is not None:
            self._end_override(now, note)

    def reset(self, now: float, *, note: str = "") -> None:
        """Has the circuit start anew: closed, on level 0, without an override."""
        self.advance(now)
        self.override = None
        self.level = 0
        self._change(Trigger.RESET, None, now, note)

    def adopt(self, policy: CircuitPolicy, now: float) -> None:
        """Goes on with other settings; what they do not concern stays as it is."""
        self.advance(now)
        before, self.policy = self.policy, policy
        if policy.window != before.window:
            self._evidence.window = Window(policy.window)
        self.level = escalation.bounded(policy, self.level)
        if (policy.mode is _DISABLED) is not (before.mode is _DISABLED):
            # What was let through without being asked for, or is no longer to count, must not be booked.
            self._begin_generation()

    def resume(self, record: Record, now: float) -> None:
        """Has a new circuit go on where one of an earlier process was; no transition, so nobody is told."""
        self.state, force = MEANINGS[record.state]
        self.level = escalation.bounded(self.policy, record.level)
        self.changed_at = now - record.since_s
        self.due = FOREVER if record.left_s is None else now + record.left_s
        if force is not None:
            self.override = Override(force, self.due, record.note)
        if self.state is not _CLOSED:
            self.spread = Spread(record.spread_s)
        if self.state is _OPEN:
            # For so long it was open before; that was counted by the earlier process.
            self._open_s_so_far = self.changed_at - now

    def _end_override(self, at: float, note: str = "") -> None:
        self.override = None
        self._change(Trigger.OVERRIDE_ENDED, None, at, note)

    def _begin_generation(self) -> None:
        self.generation += 1
        self._probes.clear()
        if self.state is _HALF_OPEN:
            self.due = FOREVER

    def _change(self, trigger: Trigger, cause: Outcome | None, at: float, note: str = "") -> None:
        """Makes a transition, and tells it; the last thing that any operation does."""
        from_state = self.state
        since_s = at - self.changed_at
        if from_state is _OPEN:
            self._open_s_so_far += since_s
        elif from_state is _CLOSED:
            self.level = escalation.decayed(self.policy, self.level, since_s)
        retry_after_s = self._evidence.retry_after_at - at
        self.state = TRANSITIONS[from_state][trigger]
        self._begin_generation()
        self._evidence.clear()
        self._ramp = None
        self.changed_at = at
        self.touched = max(self.touched, at)
        self.due = FOREVER
        if self.override is not None:
            self.due = self.override.until
        elif self.state is _OPEN:
            self.level = escalation.raised(self.policy, self.level)
            self.due = at + escalation.open_s(self.policy, self.level, self._draw(), retry_after_s)
        elif trigger is Trigger.RECOVERED and self.policy.ramp:
            self._ramp = Ramp(at, self.policy.ramp)
        if self.state is _OPEN:
            # An operator's word may stand for a day, of which no share is to be waited for.
            length_s = self.due - at if self.override is None else min(self.due - at, self.policy.open_max)
            self.spread = Spread(length_s * self.policy.retry_spread)
        elif self.state is _CLOSED:
            self.spread = None
        transition = Transition(
            key=self.key,
            scope=self.scope,
            from_state=from_state,
            to_state=self.state,
            trigger=trigger,
            cause=cause,
            open_s=self.due - at if self.state is _OPEN and self.due < FOREVER else 0.0,
            at=at,
            level=self.level,
            note=note,
        )
        self.tally.add_transition(transition)
        self._totals.add_transition(transition)
        self._listener(self, transition)


def _is_own(seat: Seat, outcome: Outcome, *, silent: bool) -> bool:
    """Whether this is what the call is counted as in the totals.

    What a call says of its host is not if its endpoint's circuit books it, or it would be counted twice.
    """
    return not seat.has_endpoint or (outcome.kind is not None and not silent)
