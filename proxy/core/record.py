"""What of a circuit outlives its process, and what is left of that when the next one starts.

Only circuits that are not plainly closed have one: they are open, half-open, or forced. Whatever depends on
when the process began is told as a length, so that it holds by any clock. What a circuit has counted, its
probes and the refusals of this opening are not in it: they began with the process and end with it.
"""

from dataclasses import dataclass, replace

from proxy.core import escalation
from proxy.core.overrides import FOREVER, Force
from proxy.core.policy import CircuitPolicy, Mode
from proxy.core.scope import By
from proxy.core.states import Condition, State

# What a record can be of: the state, and the word of an operator that stands above it.
MEANINGS: dict[Condition, tuple[State, Force | None]] = {
    Condition.OPEN: (State.OPEN, None),
    Condition.HALF_OPEN: (State.HALF_OPEN, None),
    Condition.FORCED_OPEN: (State.OPEN, Force.OPEN),
    Condition.FORCED_CLOSED: (State.CLOSED, Force.CLOSED),
}
CONDITIONS = {meaning: condition for condition, meaning in MEANINGS.items()}
# No settings that make sense lead so high, and each level costs a step when it is bounded again.
HIGHEST_LEVEL = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """One circuit.

    Attributes:
        key: of the circuit.
        state: one of `MEANINGS`.
        level: how many times the opening has escalated, 0-1000.
        since_s: for how long it has been so.
        left_s: until its opening or its override ends; None where that waits for calls or for an operator.
        spread_s: how much later than that refused calls are told to return at most (`spread.py`).
        told_by: the setting `circuit.key` by which an endpoint is told; empty for a host.
        note: why an operator has forced it.

    Raises:
        ValueError: no circuit is like that.
    """

    key: str
    state: Condition
    level: int
    since_s: float
    left_s: float | None = None
    spread_s: float = 0.0
    told_by: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        # Not a number is in no range.
        is_timed = 0 <= self.since_s < FOREVER and 0 <= self.spread_s < FOREVER
        if not is_timed or not (self.left_s is None or 0 <= self.left_s < FOREVER):
            raise ValueError("a time is negative or without bound")
        if not 0 <= self.level <= HIGHEST_LEVEL:
            raise ValueError(f"a level is not from 0 to {HIGHEST_LEVEL}")
        if self.state not in MEANINGS:
            raise ValueError(f"nothing is to be remembered of a circuit that is {self.state.value}")
        waits = self.state is Condition.HALF_OPEN
        if waits is not (self.left_s is None) and not self.is_forced:
            raise ValueError("an opening has an end, and half-open has none")

    @property
    def host(self) -> str:
        """The key of its host's circuit."""
        return self.key.partition("#")[0]

    @property
    def is_forced(self) -> bool:
        """Whether an operator's word stands above it."""
        return MEANINGS[self.state][1] is not None

    def aged(self, elapsed_s: float, policy: CircuitPolicy) -> "Record | None":
        """What it is after some time in which there was no process.

        Args:
            elapsed_s: for so long nobody has looked; >= 0.
            policy: the settings now in force. They may be others than those by which it came to be so: they
                bound what is left of an opening, but not an operator's word.

        Returns:
            None if a new circuit would do: what has had no end, or has ended meanwhile, says nothing of the
            upstream any more after `open_max`; nobody asks where the mode is `disabled`, nor an endpoint that
            is told by something else now.
        """
        is_endpoint = self.host != self.key
        if is_endpoint and (policy.key.by is By.HOST or self.told_by != str(policy.key)):
            return None
        if policy.mode is Mode.DISABLED and not self.is_forced:
            return None
        longest_s = _longest_open_s(policy)
        spread_s = min(self.spread_s, longest_s * policy.retry_spread)
        since_s = self.since_s + elapsed_s
        if self.left_s is None:
            is_stale = not self.is_forced and elapsed_s > policy.open_max
            return None if is_stale else replace(self, since_s=since_s, spread_s=spread_s)
        left_s = self.left_s - elapsed_s
        if left_s > 0:
            left_s = left_s if self.is_forced else min(left_s, longest_s)
            return replace(self, since_s=since_s, left_s=left_s, spread_s=spread_s)
        # Forced closed and then given back to itself is closed.
        if self.state is Condition.FORCED_CLOSED or elapsed_s > policy.open_max:
            return None
        return Record(
            self.key, Condition.HALF_OPEN, self.level, -left_s, spread_s=spread_s, told_by=self.told_by
        )


def _longest_open_s(policy: CircuitPolicy) -> float:
    """How long an opening can last by these settings."""
    wished_s = float(policy.retry_after_max) if policy.retry_after else 0.0
    return max(escalation.longest_s(policy), wished_s)
