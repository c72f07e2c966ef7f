"""The states of a circuit and what leads from one to another.

The table TRANSITIONS is the whole state machine; a pair that is missing there is a bug. What is independent
of the state, an operator's override or the mode, is a field of the circuit and no state.

Words are the electrical ones: a closed circuit lets calls through.
"""

from dataclasses import dataclass
from enum import Enum

from proxy.core.outcome import Outcome
from proxy.core.scope import Scope


class State(Enum):
    """The states of a circuit."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"

    # Members are singletons; Enum's own hash is written in Python, and the metrics ask 10,000 circuits.
    __hash__ = object.__hash__


class Trigger(Enum):
    """Why a circuit changes its state; the `reason` label of the transitions."""

    CONSECUTIVE_FAILURES = "consecutive_failures"
    FAILURE_RATIO = "failure_ratio"
    SLOW_RATIO = "slow_ratio"
    OPEN_ELAPSED = "open_elapsed"
    PROBE_FAILED = "probe_failed"
    RECOVERED = "recovered"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    OVERRIDE_ENDED = "override_ended"
    RESET = "reset"

    __hash__ = object.__hash__


# Some lead from a state to itself: they begin a new generation, so what is under way no longer counts.
TRANSITIONS = {
    State.CLOSED: {
        Trigger.CONSECUTIVE_FAILURES: State.OPEN,
        Trigger.FAILURE_RATIO: State.OPEN,
        Trigger.SLOW_RATIO: State.OPEN,
        Trigger.FORCED_OPEN: State.OPEN,
        Trigger.FORCED_CLOSED: State.CLOSED,
        Trigger.OVERRIDE_ENDED: State.CLOSED,
        Trigger.RESET: State.CLOSED,
    },
    State.OPEN: {
        Trigger.OPEN_ELAPSED: State.HALF_OPEN,
        Trigger.FORCED_OPEN: State.OPEN,
        Trigger.FORCED_CLOSED: State.CLOSED,
        Trigger.OVERRIDE_ENDED: State.HALF_OPEN,
        Trigger.RESET: State.CLOSED,
    },
    State.HALF_OPEN: {
        Trigger.PROBE_FAILED: State.OPEN,
        Trigger.RECOVERED: State.CLOSED,
        Trigger.FORCED_OPEN: State.OPEN,
        Trigger.FORCED_CLOSED: State.CLOSED,
        Trigger.RESET: State.CLOSED,
    },
}


class Condition(Enum):
    """What an operator sees of a circuit: its state, or what stands above it."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    DISABLED = "disabled"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, for those who watch.

    Attributes:
        key: of the circuit.
        cause: the outcome that led to it, if one did.
        open_s: how long the circuit is to stay open, in seconds; 0 if it does not open or has no end.
        at: when it was due, in monotonic seconds; it may be told later.
        level: how many times the opening has escalated, from 1; 0 for a circuit that is well.
        note: the operator's, on what an operator did.
    """

    key: str
    from_state: State
    to_state: State
    trigger: Trigger
    cause: Outcome | None
    open_s: float
    at: float
    scope: Scope = Scope.HOST
    level: int = 0
    note: str = ""
