"""Metric families of prometheus_client, with our prefix before each name."""

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

PREFIX = "breaker_proxy_"


def gauge(name: str, meaning: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(PREFIX + name, meaning, value)


def gauges(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    """A gauge for each set of label values."""
    return GaugeMetricFamily(PREFIX + name, meaning, labels=labels)


def counter(name: str, meaning: str, value: float) -> Metric:
    """A counter without labels; `_total` is added to its name."""
    return CounterMetricFamily(PREFIX + name, meaning, value)


def counters(name: str, meaning: str, *labels: str, unit: str = "") -> CounterMetricFamily:
    """A counter for each set of label values; `_total` is added to its name."""
    return CounterMetricFamily(PREFIX + name, meaning, labels=labels, unit=unit)
