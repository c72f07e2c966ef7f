"""What Prometheus reads: the exchanges that have ended, and the table of circuits as it stands.

Counting happens for each exchange, reading every few seconds. So everything counted is a plain number
(`observe` takes 0.4 us; the same with prometheus_client's own, their children kept, 1.5 us), and metric
families are made only when somebody reads.

Labels are bounded: a circuit has labels of its own while it is among the first `max_circuits` of the table,
and keeps them until it leaves. What the others did is in the totals without the label `circuit`, which are
exact; there is no label value that stands for "the others", because a circuit that moved in and out of it
would be counted again by rate(). No label value holds a URL, a path or a query.

`Metrics` belongs on the event loop; a `Snapshot` may be encoded in any thread.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from proxy import __version__
from proxy.core.breaker import REJECTION_REASONS, TRANSITIONS, Circuit, State
from proxy.core.exchange import Entry, Exchange, Source
from proxy.core.outcome import EFFECTS, FailureKind
from proxy.core.registry import Circuits

_PREFIX = "breaker_proxy_"
_SCOPE = "host"
_STATE_VALUES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}

# The first digit of a status; 0 is an exchange that ended without an answer. 6 to 9 are no classes of
# RFC 9110, but what an upstream sends is passed on, so they are counted, and shown once seen.
_CODE_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")
_KNOWN_CODE_CLASSES = 6

# Upper bounds in seconds: from an upstream next door to twice the default `timeouts.head`.
_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BOUND_NAMES = (*map(str, _BOUNDS_S), "+Inf")

# prometheus_client 0.26 raises TypeError for a version that is not numbers, and echoes one that is, known
# to it or not; so it gets to see only what it can do.
_ENCODABLE = re.compile(
    r"\s*(?:text/plain|application/openmetrics-text)\s*"
    r"(?:;\s*(?:version=(?:0\.0\.1|0\.0\.4|1\.0\.0)|charset=[a-z0-9-]+|escaping=[a-z0-9-]+|q=[0-9.]+)\s*)*",
    re.ASCII,
)


class _Counts:
    """What the exchanges of one entry have added up to."""

    __slots__ = ("answered_by_proxy", "answered_by_upstream", "in_bucket", "total_s")

    def __init__(self) -> None:
        self.answered_by_proxy = [0] * len(_CODE_CLASSES)
        self.answered_by_upstream = [0] * len(_CODE_CLASSES)
        self.in_bucket = [0] * len(_BOUND_NAMES)
        self.total_s = 0.0


class Snapshot:
    """The metrics of one moment.

    They are apart because encoding them takes 50 ms for 500 circuits, which is too long for an event loop
    that carries traffic; taking them takes 7 ms.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        """Gives the families out; called by prometheus_client."""
        return self._families

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Writes the metrics down, in the format the reader likes best.

        Args:
            accept: the `Accept` field of the request, whatever it holds.

        Returns:
            The content and its `Content-Type`: OpenMetrics 1.0 if asked for, else the Prometheus text format.
        """
        encodable = filter(_ENCODABLE.fullmatch, (accept or "").split(","))
        encode, content_type = choose_encoder(",".join(encodable))
        return encode(self), content_type


class Metrics:
    """All metrics of the process.

    Args:
        circuits: the table to show.
        max_circuits: how many circuits have labels of their own, >= 0 (`metrics.max_circuits`).
        in_flight: counts the exchanges under way, tunnels included.
        tunnels: counts the tunnels that stand.
        idle_connections: counts the upstream connections that wait in the pool.
    """

    def __init__(
        self,
        circuits: Circuits,
        *,
        max_circuits: int,
        in_flight: Callable[[], int],
        tunnels: Callable[[], int],
        idle_connections: Callable[[], int],
    ) -> None:
        self._in_flight = in_flight
        self._tunnels = tunnels
        self._idle_connections = idle_connections
        self._counts = {entry: _Counts() for entry in Entry}
        self._request_bytes = 0
        self._response_bytes = 0
        # Not the global registry: two instances in one process (as in tests) must not meet.
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._registry.register(_CircuitsCollector(circuits, max_circuits))

    def observe(self, exchange: Exchange, now: float) -> None:
        """Counts an exchange; to be called once, when it has ended.

        Args:
            exchange: with a status of 100-999 or None.
            now: monotonic seconds, not before `exchange.started`.
        """
        counts = self._counts[exchange.entry]
        by_upstream = exchange.source is Source.UPSTREAM
        answered = counts.answered_by_upstream if by_upstream else counts.answered_by_proxy
        answered[(exchange.status or 0) // 100] += 1
        self._request_bytes += exchange.request_bytes
        self._response_bytes += exchange.response_bytes
        error = exchange.error
        if error is None or not error.refused:
            took_s = now - exchange.started
            counts.in_bucket[bisect_left(_BOUNDS_S, took_s)] += 1
            counts.total_s += took_s

    def snapshot(self) -> Snapshot:
        """The metrics as they stand."""
        return Snapshot(self._registry.collect())

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Writes the metrics down as they stand; see `Snapshot.render`."""
        return self.snapshot().render(accept)

    def collect(self) -> Iterator[Metric]:
        """Gives out what concerns the process and its exchanges; called by prometheus_client."""
        yield InfoMetricFamily(f"{_PREFIX}build", "The running program.", {"version": __version__})
        yield _gauge("in_flight", "Exchanges under way, tunnels included.", self._in_flight())
        yield _gauge("tunnels", "CONNECT tunnels that stand.", self._tunnels())
        pool = _gauges("pool_connections", "Upstream connections kept for the next request.", "state")
        pool.add_metric(["idle"], self._idle_connections())
        yield pool
        passed = _counters("bytes", "Content passed on, added as exchanges end.", "direction", unit="bytes")
        passed.add_metric(["request"], self._request_bytes)
        passed.add_metric(["response"], self._response_bytes)
        yield passed
        yield self._requests()
        yield self._request_seconds()

    def _requests(self) -> Metric:
        family = _counters(
            "requests",
            "Exchanges that ended, by the answer's class and who gave it; none: the client got no answer.",
            "entry",
            "code_class",
            "source",
        )
        for entry, counts in self._counts.items():
            for source, answered in (
                (Source.UPSTREAM, counts.answered_by_upstream),
                (Source.PROXY, counts.answered_by_proxy),
            ):
                for digit, count in enumerate(answered):
                    if count or digit < _KNOWN_CODE_CLASSES:
                        family.add_metric([entry.value, _CODE_CLASSES[digit], source.value], count)
        return family

    def _request_seconds(self) -> Metric:
        family = HistogramMetricFamily(
            f"{_PREFIX}request_seconds",
            "Time from a request's head to the end of its answer; without tunnels, whose length says nothing"
            " of speed, and refusals, which would make a sick upstream look fast.",
            labels=["entry"],
            unit="seconds",
        )
        for entry, counts in self._counts.items():
            if entry is not Entry.TUNNEL:
                buckets = list(zip(_BOUND_NAMES, accumulate(counts.in_bucket), strict=True))
                family.add_metric([entry.value], buckets, counts.total_s)
        return family


class _CircuitsCollector:
    """Reads the table of circuits at the moment it is asked.

    Args:
        circuits: the table.
        max_labelled: how many circuits have labels of their own, >= 0.
    """

    def __init__(self, circuits: Circuits, max_labelled: int) -> None:
        self._circuits = circuits
        self._max_labelled = max_labelled
        # An ordered set: who came first stays.
        self._labelled: dict[str, None] = {}

    def collect(self) -> Iterator[Metric]:
        """Gives out the totals, then the circuits that have labels; called by prometheus_client."""
        yield from self._table()
        yield from self._totals()
        yield from self._each()

    def _table(self) -> Iterator[Metric]:
        circuits = self._circuits
        states = _gauges("circuits", "Circuits in the table.", "state")
        found = Counter(circuit.state for circuit in circuits)
        for state in State:
            states.add_metric([state.value], found[state])
        yield states
        yield _gauge("circuits_limit", "How many circuits the table holds at most.", circuits.max_circuits)
        yield _counter(
            "circuit_evictions", "Circuits that left a full table to make room.", circuits.evictions
        )
        yield _counter(
            "circuits_unprotected",
            "Calls that passed without a circuit, because the table was full of circuits that must stay.",
            circuits.unprotected,
        )
        yield _counter(
            "circuit_late_results",
            "Verdicts that came after their circuit had changed its state, and changed nothing.",
            circuits.totals.late,
        )

    def _totals(self) -> Iterator[Metric]:
        totals = self._circuits.totals
        calls = _counters("calls", "Calls by what they said of their upstream.", "outcome")
        for verdict in EFFECTS:
            calls.add_metric([verdict.value], totals.calls.get(verdict, 0))
        yield calls
        failures = _counters("failures", "Calls that failed, by kind.", "kind")
        for kind in FailureKind:
            failures.add_metric([kind.value], totals.failures.get(kind, 0))
        yield failures
        rejected = _counters("rejected", "Calls that a circuit refused.", "reason", "enforced")
        for reason in REJECTION_REASONS:
            rejected.add_metric([reason, "true"], totals.rejected.get(reason, 0))
        yield rejected
        reached: Counter[State] = Counter()
        for (_, to_state, _), count in totals.transitions.items():
            reached[to_state] += count
        transitions = _counters("transitions", "Changes of state, by the state they led to.", "to_state")
        for state in State:
            transitions.add_metric([state.value], reached[state])
        yield transitions

    def _each(self) -> Iterator[Metric]:
        state = _gauges("circuit_state", "State: 0 closed, 1 half-open, 2 open.", "circuit", "scope")
        calls = _of_circuits("circuit_calls", "Calls by what they said of the upstream.", "outcome")
        failures = _of_circuits(
            "circuit_failures", "Calls that failed, by kind; a kind is absent until it occurs.", "kind"
        )
        rejected = _of_circuits("circuit_rejected", "Calls that the circuit refused.", "reason", "enforced")
        transitions = _of_circuits(
            "circuit_transitions", "Changes of state and why.", "from_state", "to_state", "reason"
        )
        for circuit in self._with_labels():
            key, tally = circuit.key, circuit.tally
            state.add_metric([key, _SCOPE], _STATE_VALUES[circuit.state])
            for verdict in EFFECTS:
                calls.add_metric([key, _SCOPE, verdict.value], tally.calls.get(verdict, 0))
            # Zeros for twelve kinds would double the time of a scrape; the totals have them.
            for kind, count in tally.failures.items():
                failures.add_metric([key, _SCOPE, kind.value], count)
            for reason in REJECTION_REASONS:
                rejected.add_metric([key, _SCOPE, reason, "true"], tally.rejected.get(reason, 0))
            for change in _CHANGES:
                labels = [key, _SCOPE, *(part.value for part in change)]
                transitions.add_metric(labels, tally.transitions.get(change, 0))
        yield from (state, calls, failures, rejected, transitions)

    def _with_labels(self) -> list[Circuit]:
        table = self._circuits
        self._labelled = {key: None for key in self._labelled if table.get(key)}
        for newcomer in table:
            if len(self._labelled) >= self._max_labelled:
                break
            self._labelled[newcomer.key] = None
        return [circuit for key in self._labelled if (circuit := table.get(key))]


_CHANGES = [
    (from_state, to_state, trigger)
    for from_state, changes in TRANSITIONS.items()
    for trigger, to_state in changes.items()
]


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, meaning, value)


def _gauges(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, meaning, labels=labels)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, meaning, value)


def _counters(name: str, meaning: str, *labels: str, unit: str = "") -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, meaning, labels=labels, unit=unit)


def _of_circuits(name: str, meaning: str, *labels: str) -> CounterMetricFamily:
    return _counters(name, meaning, "circuit", "scope", *labels)
