"""The circuit of one upstream: everything that decides whether a call may pass lives here.

A circuit is a state machine whose transitions are the table TRANSITIONS; a pair that is missing there is a
bug. All operations are synchronous and O(1), and take the time as an argument: `now` is monotonic seconds.
A transition that is due is made by whoever looks next, so no timer is needed and none can be late.

A call asks for a permit (`admit`), settles it with an outcome, and leaves its `with`:

    with circuit.admit(now) as permit:
        ...
        permit.settle(outcome, now)

A permit left without a verdict is neutral. Every transition begins a new generation; a verdict on a permit
of an earlier generation changes nothing and is counted as late.

Words are the electrical ones: a closed circuit lets calls through.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from math import ceil
from types import TracebackType
from typing import Self

from proxy.core.errors import DestinationUnavailable
from proxy.core.outcome import EFFECTS, NEUTRAL, FailureKind, Outcome, Verdict
from proxy.core.policy import CircuitPolicy


class State(Enum):
    """The states of a circuit."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Trigger(Enum):
    """Why a circuit changes its state; the `reason` label of the transitions."""

    CONSECUTIVE_FAILURES = "consecutive_failures"
    OPEN_ELAPSED = "open_elapsed"
    PROBE_FAILED = "probe_failed"
    RECOVERED = "recovered"


CIRCUIT_OPEN = "circuit_open"
CIRCUIT_HALF_OPEN = "circuit_half_open"
# Every reason with which a circuit refuses a call; the `reason` label of the refusals.
REJECTION_REASONS = (CIRCUIT_OPEN, CIRCUIT_HALF_OPEN)

TRANSITIONS = {
    State.CLOSED: {Trigger.CONSECUTIVE_FAILURES: State.OPEN},
    State.OPEN: {Trigger.OPEN_ELAPSED: State.HALF_OPEN},
    State.HALF_OPEN: {Trigger.PROBE_FAILED: State.OPEN, Trigger.RECOVERED: State.CLOSED},
}


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, for those who watch."""

    key: str
    from_state: State
    to_state: State
    trigger: Trigger
    cause: Outcome | None
    open_s: float


@dataclass(slots=True)
class Tally:
    """What has been counted so far, of one circuit or of a whole table."""

    calls: dict[Verdict, int] = field(default_factory=dict)
    failures: dict[FailureKind, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    transitions: dict[tuple[State, State, Trigger], int] = field(default_factory=dict)
    late: int = 0

    def add_call(self, outcome: Outcome) -> None:
        """Counts a settled call."""
        self.calls[outcome.verdict] = self.calls.get(outcome.verdict, 0) + 1
        if outcome.kind is not None:
            self.failures[outcome.kind] = self.failures.get(outcome.kind, 0) + 1

    def add_rejected(self, reason: str) -> None:
        """Counts a refusal."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def add_transition(self, transition: Transition) -> None:
        """Counts a change of state."""
        change = (transition.from_state, transition.to_state, transition.trigger)
        self.transitions[change] = self.transitions.get(change, 0) + 1


class Circuit:
    """The breaker of one key.

    Args:
        key: what the circuit is for, `host:port`.
        policy: its settings; may be replaced at any time.
        totals: where everything is counted once more, beside the circuit's own tally.
        listener: called after each transition; see `Circuits`.
    """

    __slots__ = (
        "_failure_run",
        "_listener",
        "_open_until",
        "_permits",
        "_probes",
        "_probes_succeeded",
        "_totals",
        "generation",
        "key",
        "policy",
        "state",
        "tally",
    )

    def __init__(
        self, key: str, policy: CircuitPolicy, totals: Tally, listener: Callable[[Transition], None]
    ) -> None:
        self.key = key
        self.policy = policy
        self.tally = Tally()
        self._totals = totals
        self._listener = listener
        self.state = State.CLOSED
        self.generation = 0
        self._failure_run = 0
        self._open_until = 0.0
        self._permits = 0
        self._probes = 0
        self._probes_succeeded = 0

    def __repr__(self) -> str:
        return (
            f"<Circuit {self.key} {self.state.value} generation={self.generation} run={self._failure_run}"
            f" in_flight={self._permits} probes={self._probes}>"
        )

    @property
    def in_flight(self) -> int:
        """Exchanges that hold a permit of this circuit, settled ones included until they end."""
        return self._permits

    @property
    def is_blank(self) -> bool:
        """Whether nothing is known of the upstream that a new circuit would not know as well."""
        return self.state is State.CLOSED and self._failure_run == 0

    def open_s_left(self, now: float) -> float:
        """Seconds until the first probe is let through; 0 unless the circuit is open."""
        return max(0.0, self._open_until - now) if self.state is State.OPEN else 0.0

    def advance(self, now: float) -> None:
        """Makes the transition that time has made due, if there is one."""
        if self.state is State.OPEN and now >= self._open_until:
            self._change(Trigger.OPEN_ELAPSED, None, now)

    def admit(self, now: float) -> "Permit":
        """Gives leave to send one call.

        Raises:
            DestinationUnavailable: 503, `circuit_open` with the seconds left, or `circuit_half_open`
                while the allowed probes are under way.
        """
        self.advance(now)
        if self.state is State.OPEN:
            wait_s = ceil(self._open_until - now)
            raise self._refusal(CIRCUIT_OPEN, "Circuit open", "the upstream failed", wait_s)
        is_probe = self.state is State.HALF_OPEN
        if is_probe:
            if self._probes >= self.policy.half_open_in_flight:
                raise self._refusal(CIRCUIT_HALF_OPEN, "Circuit half-open", "probes are under way", 1)
            self._probes += 1
        self._permits += 1
        return Permit(self, self.generation, is_probe=is_probe)

    def _refusal(self, reason: str, phrase: str, details: str, retry_after_s: int) -> DestinationUnavailable:
        self.tally.add_rejected(reason)
        self._totals.add_rejected(reason)
        return DestinationUnavailable(
            details, reason=reason, phrase=f"{phrase} for {self.key}", retry_after_s=max(1, retry_after_s)
        )

    def book(self, permit: "Permit", outcome: Outcome, now: float) -> None:
        """Takes the verdict of a permit into account; called by `Permit.settle` alone."""
        current = permit.generation == self.generation
        if current and permit.is_probe:
            self._probes -= 1
        if outcome.verdict is Verdict.NEUTRAL:
            return
        if not current:
            self.tally.late += 1
            self._totals.late += 1
            return
        self.tally.add_call(outcome)
        self._totals.add_call(outcome)
        effect = EFFECTS[outcome.verdict]
        if self.state is State.HALF_OPEN:
            if not effect.probe_succeeded:
                self._change(Trigger.PROBE_FAILED, outcome, now)
                return
            self._probes_succeeded += 1
            if self._probes_succeeded >= self.policy.recovery_threshold:
                self._change(Trigger.RECOVERED, outcome, now)
            return
        self._failure_run = 0 if effect.run is None else self._failure_run + effect.run
        if 0 < self.policy.consecutive_failures <= self._failure_run:
            self._change(Trigger.CONSECUTIVE_FAILURES, outcome, now)

    def release(self) -> None:
        """Ends the exchange of a permit; called by `Permit` alone."""
        self._permits -= 1

    def _change(self, trigger: Trigger, cause: Outcome | None, now: float) -> None:
        from_state = self.state
        self.state = TRANSITIONS[from_state][trigger]
        self.generation += 1
        self._failure_run = 0
        self._probes = 0
        self._probes_succeeded = 0
        open_s = self.policy.open if self.state is State.OPEN else 0.0
        self._open_until = now + open_s
        transition = Transition(self.key, from_state, self.state, trigger, cause, open_s)
        self.tally.add_transition(transition)
        self._totals.add_transition(transition)
        self._listener(transition)


class Permit:
    """Leave to send one call; settled once, and given back by leaving its `with`."""

    __slots__ = ("_circuit", "_end", "generation", "is_probe", "settled")

    def __init__(self, circuit: Circuit, generation: int, *, is_probe: bool) -> None:
        self._circuit = circuit
        self._end: Callable[[Circuit], None] | None = None
        self.generation = generation
        self.is_probe = is_probe
        self.settled = False

    @property
    def policy(self) -> CircuitPolicy:
        """The settings of the circuit that gave the permit."""
        return self._circuit.policy

    def on_end(self, end: Callable[[Circuit], None]) -> Self:
        """Has `end` called with the circuit when the exchange has ended."""
        self._end = end
        return self

    def settle(self, outcome: Outcome, now: float) -> None:
        """Books what the call said of the upstream; only the first verdict counts."""
        if not self.settled:
            self.settled = True
            self._circuit.book(self, outcome, now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A neutral verdict needs no clock: it only gives the permit back.
        self.settle(NEUTRAL, 0.0)
        self._circuit.release()
        if self._end is not None:
            self._end(self._circuit)
