"""What has been counted so far, of one circuit or of the whole table."""

from dataclasses import dataclass, field

from proxy.core.outcome import FailureKind, Outcome, Verdict
from proxy.core.states import State, Transition, Trigger


@dataclass(slots=True)
class Tally:
    """Counts that only grow.

    Attributes:
        calls: settled ones that counted, by verdict.
        failures: those of them that failed, by kind.
        probes: settled ones of half-open circuits, by verdict.
        rejected: refusals, by reason and whether they were enforced; in the mode `observe` none is.
        spared_s: for how long those that were enforced would have waited; an estimate, see `waits.py`.
        late: verdicts that changed nothing, since they were on a permit of an earlier generation or came
            after the probe's lease.
    """

    calls: dict[Verdict, int] = field(default_factory=dict)
    failures: dict[FailureKind, int] = field(default_factory=dict)
    probes: dict[Verdict, int] = field(default_factory=dict)
    rejected: dict[tuple[str, bool], int] = field(default_factory=dict)
    spared_s: float = 0.0
    transitions: dict[tuple[State, State, Trigger], int] = field(default_factory=dict)
    late: int = 0

    def add_call(self, outcome: Outcome) -> None:
        """Counts a settled call."""
        self.calls[outcome.verdict] = self.calls.get(outcome.verdict, 0) + 1
        if outcome.kind is not None:
            self.failures[outcome.kind] = self.failures.get(outcome.kind, 0) + 1

    def add_probe(self, verdict: Verdict) -> None:
        """Counts a settled probe."""
        self.probes[verdict] = self.probes.get(verdict, 0) + 1

    def add_rejected(self, reason: str, *, enforced: bool, would_wait_s: float) -> None:
        """Counts a refusal; its caller would have waited for so long, and has if it was not enforced."""
        self.rejected[reason, enforced] = self.rejected.get((reason, enforced), 0) + 1
        if enforced:
            self.spared_s += would_wait_s

    def add_transition(self, transition: Transition) -> None:
        """Counts a change of state."""
        change = (transition.from_state, transition.to_state, transition.trigger)
        self.transitions[change] = self.transitions.get(change, 0) + 1
