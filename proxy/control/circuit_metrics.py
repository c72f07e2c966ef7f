"""The metrics of the circuits: the table, all its circuits together, and each of the first.

A scrape has two steps. On the event loop what the table shows is copied, which is quick and changes nothing;
the families are made of the copy, in any thread.

Of one circuit, its calls, its usual refusals and the changes of state that it makes by itself are shown as 0
before they happen: for Prometheus, a counter that begins with 1 has not increased. The rest is absent until
it happens, since zeros for everything would triple the time of a scrape; the totals have them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from prometheus_client.core import Metric

from proxy.control.families import counter, counters, gauge, gauges
from proxy.core.breaker import Circuit
from proxy.core.outcome import EFFECTS, FailureKind, Verdict
from proxy.core.policy import Metrics, Mode
from proxy.core.refusals import CIRCUIT_HALF_OPEN, CIRCUIT_OPEN, REJECTION_REASONS, TOO_MANY_IN_FLIGHT
from proxy.core.registry import Circuits
from proxy.core.states import TRANSITIONS, Condition, State, Trigger
from proxy.core.tally import Tally

_CONDITION_VALUES = {
    Condition.CLOSED: 0,
    Condition.HALF_OPEN: 1,
    Condition.OPEN: 2,
    Condition.FORCED_OPEN: 3,
    Condition.FORCED_CLOSED: 4,
    Condition.DISABLED: 5,
}
_BY_OPERATORS = {Trigger.FORCED_OPEN, Trigger.FORCED_CLOSED, Trigger.OVERRIDE_ENDED, Trigger.RESET}
_NO_CALLS = dict.fromkeys(EFFECTS, 0)
_NO_CHANGES = {
    (from_state, to_state, trigger): 0
    for from_state, changes in TRANSITIONS.items()
    for trigger, to_state in changes.items()
    if trigger not in _BY_OPERATORS
}
_NO_REJECTIONS = {
    enforced: {(reason, enforced): 0 for reason in (CIRCUIT_OPEN, CIRCUIT_HALF_OPEN, TOO_MANY_IN_FLIGHT)}
    for enforced in (True, False)
}
_BOOLEANS = {True: "true", False: "false"}


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one circuit shows at one moment.

    Attributes:
        labels: `circuit` and `scope`.
        observed: whether its refusals are not enforced.
        failure_ratio: in the window; None with too few calls to say.
        open_s: for how long it has been open so far, in seconds.
    """

    labels: tuple[str, str]
    condition: Condition
    observed: bool
    tally: Tally
    window_calls: int
    failure_ratio: float | None
    open_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What the table shows at one moment; nothing changes it any more."""

    limit: int
    evictions: int
    unprotected: int
    conditions: Counter[Condition]
    totals: Tally
    circuits: list[_Shown]

    def families(self) -> Iterator[Metric]:
        """Gives out the table, the totals, then the circuits that have labels."""
        yield from self._table()
        yield from self._totals()
        yield from self._counted()
        yield from self._measured()

    def _table(self) -> Iterator[Metric]:
        conditions = gauges("circuits", "Circuits in the table.", "state")
        for condition in Condition:
            conditions.add_metric([condition.value], self.conditions[condition])
        yield conditions
        yield gauge("circuits_limit", "How many circuits the table holds at most.", self.limit)
        yield counter("circuit_evictions", "Circuits that left a full table to make room.", self.evictions)
        yield counter(
            "circuits_unprotected",
            "Calls that passed without a circuit, because the table was full of circuits that must stay.",
            self.unprotected,
        )

    def _totals(self) -> Iterator[Metric]:
        totals = self.totals
        calls = counters("calls", "Calls by what they said of their upstream.", "outcome")
        for verdict in EFFECTS:
            calls.add_metric([verdict.value], totals.calls.get(verdict, 0))
        yield calls
        failures = counters("failures", "Calls that failed, by kind.", "kind")
        for kind in FailureKind:
            failures.add_metric([kind.value], totals.failures.get(kind, 0))
        yield failures
        rejected = counters(
            "rejected",
            "Calls that a circuit refused; not enforced: that it would have.",
            "reason",
            "enforced",
        )
        for reason in REJECTION_REASONS:
            for enforced, word in _BOOLEANS.items():
                rejected.add_metric([reason, word], totals.rejected.get((reason, enforced), 0))
        yield rejected
        probes = counters("probes", "Probes by what they said of their upstream.", "result")
        for verdict in Verdict:
            probes.add_metric([verdict.value], totals.probes.get(verdict, 0))
        yield probes
        reached: Counter[State] = Counter()
        for (_, to_state, _), count in totals.transitions.items():
            reached[to_state] += count
        transitions = counters("transitions", "Changes of state, by the state they led to.", "to_state")
        for state in State:
            transitions.add_metric([state.value], reached[state])
        yield transitions
        yield counter(
            "late_results",
            "Verdicts that came after their circuit had changed its state, and changed nothing.",
            totals.late,
        )

    def _counted(self) -> Iterator[Metric]:
        of_circuit = ("circuit", "scope")
        calls = counters("circuit_calls", "Calls by what they said of the upstream.", *of_circuit, "outcome")
        failures = counters("circuit_failures", "Calls that failed, by kind.", *of_circuit, "kind")
        rejected = counters(
            "circuit_rejected",
            "Calls that the circuit refused; not enforced: that it would have.",
            *of_circuit,
            "reason",
            "enforced",
        )
        transitions = counters(
            "circuit_transitions",
            "Changes of state and why.",
            *of_circuit,
            "from_state",
            "to_state",
            "reason",
        )
        probes = counters(
            "circuit_probes", "Probes by what they said of the upstream.", *of_circuit, "result"
        )
        late = counters(
            "circuit_late_results",
            "Verdicts that came after the circuit had changed its state, and changed nothing.",
            *of_circuit,
        )
        for circuit in self.circuits:
            labels, tally = circuit.labels, circuit.tally
            for verdict, count in (_NO_CALLS | tally.calls).items():
                calls.add_metric([*labels, verdict.value], count)
            for kind, count in tally.failures.items():
                failures.add_metric([*labels, kind.value], count)
            refusals = _NO_REJECTIONS[not circuit.observed] | tally.rejected
            for (reason, enforced), count in refusals.items():
                rejected.add_metric([*labels, reason, _BOOLEANS[enforced]], count)
            for change, count in (_NO_CHANGES | tally.transitions).items():
                transitions.add_metric([*labels, *(part.value for part in change)], count)
            for verdict, count in tally.probes.items():
                probes.add_metric([*labels, verdict.value], count)
            if tally.late:
                late.add_metric(labels, tally.late)
        yield from (calls, failures, rejected, transitions, probes, late)

    def _measured(self) -> Iterator[Metric]:
        of_circuit = ("circuit", "scope")
        state = gauges(
            "circuit_state",
            "State: 0 closed, 1 half-open, 2 open, 3 forced open, 4 forced closed, 5 disabled.",
            *of_circuit,
        )
        window_calls = gauges("circuit_window_calls", "Calls in the window.", *of_circuit)
        failure_ratio = gauges(
            "circuit_failure_ratio",
            "The share of the calls in the window that failed, 0 to 1; absent below min_calls.",
            *of_circuit,
        )
        open_seconds = counters(
            "circuit_open_seconds", "For how long the circuit has been open.", *of_circuit, unit="seconds"
        )
        for circuit in self.circuits:
            state.add_metric(circuit.labels, _CONDITION_VALUES[circuit.condition])
            window_calls.add_metric(circuit.labels, circuit.window_calls)
            if circuit.failure_ratio is not None:
                failure_ratio.add_metric(circuit.labels, circuit.failure_ratio)
            open_seconds.add_metric(circuit.labels, circuit.open_s)
        yield from (state, window_calls, failure_ratio, open_seconds)


class CircuitMetrics:
    """Reads the table of circuits at the moment it is asked, and changes nothing.

    Args:
        circuits: the table.

    Attributes:
        max_labelled: how many circuits have labels of their own, >= 0; may be replaced.
    """

    def __init__(self, circuits: Circuits) -> None:
        self._circuits = circuits
        self.max_labelled = Metrics().max_circuits
        # An ordered set: who came first stays.
        self._labelled: dict[str, None] = {}

    def take(self, now: float) -> Taken:
        """Copies what the table shows; `now` is monotonic seconds."""
        table = self._circuits
        return Taken(
            limit=table.limits.max_circuits,
            evictions=table.evictions,
            unprotected=table.unprotected,
            conditions=Counter(circuit.condition for circuit in table),
            totals=_copied(table.totals),
            circuits=[_shown(circuit, now) for circuit in self._with_labels()],
        )

    def _with_labels(self) -> list[Circuit]:
        table = self._circuits
        stays = (key for key in self._labelled if table.get(key))
        self._labelled = dict.fromkeys(islice(stays, self.max_labelled))
        for newcomer in table:
            if len(self._labelled) >= self.max_labelled:
                break
            self._labelled[newcomer.key] = None
        return [circuit for key in self._labelled if (circuit := table.get(key))]


def _shown(circuit: Circuit, now: float) -> _Shown:
    counts = circuit.counts(now)
    is_enough = counts.calls >= max(1, circuit.policy.min_calls)
    return _Shown(
        labels=(circuit.key, circuit.scope.value),
        condition=circuit.condition,
        observed=circuit.policy.mode is Mode.OBSERVE,
        tally=_copied(circuit.tally),
        window_calls=counts.calls,
        failure_ratio=counts.failed / counts.calls if is_enough else None,
        open_s=circuit.open_seconds(now),
    )


def _copied(tally: Tally) -> Tally:
    return Tally(
        calls=dict(tally.calls),
        failures=dict(tally.failures),
        probes=dict(tally.probes),
        rejected=dict(tally.rejected),
        spared_s=tally.spared_s,
        transitions=dict(tally.transitions),
        late=tally.late,
    )
