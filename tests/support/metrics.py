"""What /metrics says, as a dictionary."""

from collections.abc import Callable, Iterable

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.control.metrics import Metrics
from proxy.core import policy
from proxy.core.answers import Lookup
from proxy.core.registry import Circuits
from support.circuits import Rig

Samples = dict[str, float]


def metrics_of(
    circuits: Circuits | None = None, max_circuits: int = 500, clock: Callable[[], float] = lambda: 0.0
) -> Metrics:
    """The metrics of a process that has only circuits, or nothing at all."""
    metrics = Metrics(
        # An empty table is false.
        Rig().circuits if circuits is None else circuits,
        in_flight=lambda: 0,
        tunnels=lambda: 0,
        idle_connections=lambda: 0,
        dns_lookups=lambda: dict.fromkeys(Lookup, 0),
        reload_succeeded=lambda: True,
        clock=clock,
    )
    metrics.configure(policy.Metrics(max_circuits=max_circuits))
    return metrics


def families(metrics: Metrics) -> list[Metric]:
    """All families but those on the process, which never stand still, as Prometheus reads them."""
    content, _ = metrics.render(None)
    return own(parse_text(content.decode()))


def own(parsed: Iterable[Metric]) -> list[Metric]:
    """Those that are the product's own."""
    return [family for family in parsed if not family.name.startswith("process_")]


def samples(metrics: Metrics) -> Samples:
    """All samples by name, without the prefix, and labels: `calls_total{outcome=success}`."""
    return flat(families(metrics))


def flat(parsed: Iterable[Metric]) -> Samples:
    """All samples of families by name and labels."""
    found = {}
    for family in parsed:
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = sample.name.removeprefix("breaker_proxy_")
            found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found


def nonzero(found: Samples, prefix: str) -> Samples:
    """Those of the samples with this prefix that are not 0."""
    return {name: value for name, value in found.items() if name.startswith(prefix) and value}
