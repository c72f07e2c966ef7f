"""What Prometheus reads: the exchanges that have ended, and the table of circuits as it stands.

Counting happens for each exchange, reading every few seconds. So everything counted is a plain number
(`observe` takes 0.9 us, and 1.2 us for a call on a new connection; with prometheus_client's own, their
children kept, the first would be more than twice as much), and metric families are made only when somebody
reads. What the kernel knows of the process comes from prometheus_client, by the names that all programs use.

`circuit_metrics.py` reads the circuits. Labels are bounded: a circuit has labels of its own while it is among
the first `max_circuits` of the table, and keeps them until it leaves. What the others did is in the totals
without the label `circuit`, which are exact; there is no label value that stands for "the others", because a
circuit that moved in and out of it would be counted again by rate(). No label value holds a URL, a path or a
query.

`Metrics` belongs on the event loop; a `Snapshot` may be encoded in any thread.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.core import HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from proxy import __version__
from proxy.control.circuit_metrics import CircuitMetrics, Taken
from proxy.control.deferred_metrics import Kept, deferred_families
from proxy.control.durations import Durations
from proxy.control.families import PREFIX, counters, gauge, gauges
from proxy.core import errors, policy
from proxy.core.answers import Lookup
from proxy.core.exchange import Entry, Exchange, Source
from proxy.core.refusals import REJECTION_REASONS
from proxy.core.registry import Circuits

# The first digit of a status; 0 is an exchange that ended without an answer. 6 to 9 are no classes of
# RFC 9110, but what an upstream sends is passed on, so they are counted, and shown once seen.
_CODE_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx")
_KNOWN_CODE_CLASSES = 6

# A member is looked up on its class in Python; it is read in every exchange.
_TUNNEL = Entry.TUNNEL

# What we do ourselves takes a fraction of a millisecond, and more where the process gets too little of a CPU.
_OWN_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

# Rules of the configuration, which may only report; the other reasons are those of the classes of errors.
_RULES = ("host_denied", "port_denied", "sni_denied")
_DENYING = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ProxyError) and kind.denies
]
_NO_DENIALS = {
    **{(rule, enforced): 0 for rule in _RULES for enforced in (True, False)},
    **{
        (kind.default_reason or kind.error_type, True): 0
        for kind in _DENYING
        if kind is not errors.HttpRequestDenied  # its reason is always one of the rules
    },
}

_REDIRECT, _DEFER = "redirect", "defer"
_NO_FALLBACKS = {(fallback, reason): 0 for fallback in (_REDIRECT, _DEFER) for reason in REJECTION_REASONS}

# prometheus_client 0.26 raises TypeError for a version that is not numbers, and echoes one that is, known
# to it or not; so it gets to see only what it can do.
_ENCODABLE = re.compile(
    r"\s*(?:text/plain|application/openmetrics-text)\s*"
    r"(?:;\s*(?:version=(?:0\.0\.1|0\.0\.4|1\.0\.0)|charset=[a-z0-9-]+|escaping=[a-z0-9-]+|q=[0-9.]+)\s*)*",
    re.ASCII,
)


class _Counts:
    """What the exchanges of one entry have added up to."""

    __slots__ = ("answered_by_proxy", "answered_by_upstream", "durations")

    def __init__(self) -> None:
        self.answered_by_proxy = [0] * len(_CODE_CLASSES)
        self.answered_by_upstream = [0] * len(_CODE_CLASSES)
        self.durations = Durations()


class Snapshot:
    """The metrics of one moment.

    They are apart because writing them down takes too long for an event loop that carries traffic: for 500
    circuits of 10,000 it takes 45 ms (as OpenMetrics 75), while taking them takes 3 ms.
    """

    def __init__(self, families: list[Metric], circuits: Taken) -> None:
        self._families = families
        self._circuits = circuits

    def collect(self) -> Iterator[Metric]:
        """Gives the families out; called by prometheus_client."""
        yield from self._families
        yield from self._circuits.families()
        # Read here, since it takes some system calls: CPU, memory and descriptors, by the usual names.
        yield from PROCESS_COLLECTOR.collect()

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
        in_flight: counts the exchanges under way, tunnels included.
        tunnels: counts the tunnels that stand.
        idle_connections: counts the upstream connections that wait in the pool.
        dns_lookups: counts the look-ups of names, by how they ended.
        reload_succeeded: tells whether the last reload of the configuration did.
        clock: monotonic seconds, as the circuits are told them.
        kept: tells what is kept for later; None where nothing is.
    """

    def __init__(
        self,
        circuits: Circuits,
        *,
        in_flight: Callable[[], int],
        tunnels: Callable[[], int],
        idle_connections: Callable[[], int],
        dns_lookups: Callable[[], Mapping[Lookup, int]],
        reload_succeeded: Callable[[], bool],
        clock: Callable[[], float],
        kept: Callable[[], Kept] | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._tunnels = tunnels
        self._idle_connections = idle_connections
        self._dns_lookups = dns_lookups
        self._reload_succeeded = reload_succeeded
        self._kept = kept
        self._counts = {entry: _Counts() for entry in Entry}
        self._dns, self._connect, self._tls, self._head, self._upstream = (Durations() for _ in range(5))
        self._own = Durations(_OWN_BOUNDS_S)
        self._denied: Counter[tuple[str, bool]] = Counter()
        self._fallbacks: Counter[tuple[str, str]] = Counter()
        self._request_bytes = 0
        self._response_bytes = 0
        self._circuits = CircuitMetrics(circuits)
        self._clock = clock

    def configure(self, settings: policy.Metrics) -> None:
        """Has so many circuits with labels of their own; of too many the latest lose theirs."""
        self._circuits.max_labelled = settings.max_circuits

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
        if exchange.unenforced is not None:
            self._denied[exchange.unenforced, False] += 1
        if error is not None and error.denies:
            self._denied[error.reason, True] += 1
        if exchange.fell_back_for is not None:
            self._fallbacks[_REDIRECT if exchange.original else _DEFER, exchange.fell_back_for] += 1
        if error is None or not error.refused:
            counts.durations.add(now - exchange.started)
            self._own.add(exchange.total_own_s(now))
        if exchange.dns_s is not None:
            self._dns.add(exchange.dns_s)
        if exchange.connect_s is not None:
            self._connect.add(exchange.connect_s)
        if exchange.tls_s is not None:
            self._tls.add(exchange.tls_s)
        if exchange.head_s is not None:
            self._head.add(exchange.head_s)
            if exchange.entry is not _TUNNEL:
                self._upstream.add(exchange.total_upstream_s(now))

    def snapshot(self) -> Snapshot:
        """The metrics as they stand."""
        return Snapshot(list(self._families()), self._circuits.take(self._clock()))

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Writes the metrics down as they stand; see `Snapshot.render`."""
        return self.snapshot().render(accept)

    def _families(self) -> Iterator[Metric]:
        """What concerns the process and its exchanges."""
        yield InfoMetricFamily(f"{PREFIX}build", "The running program.", {"version": __version__})
        yield gauge(
            "config_reload_success",
            "Whether the last reload of the configuration succeeded, 1 before the first.",
            int(self._reload_succeeded()),
        )
        yield gauge("in_flight", "Exchanges under way, tunnels included.", self._in_flight())
        yield gauge("tunnels", "CONNECT tunnels that stand.", self._tunnels())
        pool = gauges("pool_connections", "Upstream connections kept for the next request.", "state")
        pool.add_metric(["idle"], self._idle_connections())
        yield pool
        lookups = counters("dns_lookups", "Look-ups of names, each by how it ended.", "result")
        for result, number in self._dns_lookups().items():
            lookups.add_metric([result.value], number)
        yield lookups
        passed = counters("bytes", "Content passed on, added as exchanges end.", "direction", unit="bytes")
        passed.add_metric(["request"], self._request_bytes)
        passed.add_metric(["response"], self._response_bytes)
        yield passed
        yield self._denials()
        yield self._fallback_counts()
        if self._kept is not None:
            yield from deferred_families(self._kept())
        yield self._requests()
        yield self._request_seconds()
        yield self._overhead_seconds()
        yield self._upstream_phase_seconds()

    def _denials(self) -> Metric:
        family = counters(
            "denied",
            "Requests that are not wanted, by their form, by a rule, by where they lead, or for want of room;"
            " not enforced: that a rule would have refused.",
            "reason",
            "enforced",
        )
        for (reason, is_enforced), count in sorted((_NO_DENIALS | self._denied).items()):
            family.add_metric([reason, str(is_enforced).lower()], count)
        return family

    def _fallback_counts(self) -> Metric:
        family = counters(
            "fallbacks",
            "Requests that ended by their upstream's fallback, redirected or deferred, by why they did.",
            "fallback",
            "reason",
        )
        for (fallback, reason), count in sorted((_NO_FALLBACKS | self._fallbacks).items()):
            family.add_metric([fallback, reason], count)
        return family

    def _requests(self) -> Metric:
        family = counters(
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
            f"{PREFIX}request_seconds",
            "Time from a request's head to the end of its answer; without tunnels, whose length says nothing"
            " of speed, and refusals, which would make a sick upstream look fast.",
            labels=["entry"],
            unit="seconds",
        )
        for entry, counts in self._counts.items():
            if entry is not Entry.TUNNEL:
                counts.durations.add_to(family, entry.value)
        return family

    def _overhead_seconds(self) -> Metric:
        family = HistogramMetricFamily(
            f"{PREFIX}overhead_seconds",
            "Time of an exchange in which nobody but the proxy was waited for; without refusals.",
            unit="seconds",
        )
        self._own.add_to(family)
        return family

    def _upstream_phase_seconds(self) -> Metric:
        family = HistogramMetricFamily(
            f"{PREFIX}upstream_phase_seconds",
            "Time of each step that has succeeded: finding the upstream's address, connecting, the handshake"
            " where the proxy itself speaks TLS, and the head of the answer (in a tunnel, its first byte);"
            " total: all that an upstream kept waiting which answered a request.",
            labels=["phase"],
            unit="seconds",
        )
        phases = {"dns": self._dns, "connect": self._connect, "tls": self._tls, "head": self._head}
        phases["total"] = self._upstream
        for phase, durations in phases.items():
            durations.add_to(family, phase)
        return family
