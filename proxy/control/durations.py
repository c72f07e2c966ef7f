"""How long things took, as histograms of plain numbers: they are counted often and read seldom."""

from bisect import bisect_left
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily

# Upper bounds in seconds: from an upstream next door to twice the default `timeouts.head`.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Durations:
    """How long something took each time.

    Args:
        bounds_s: the upper ones of all buckets but the last, in seconds.
    """

    __slots__ = ("_bounds_s", "_in_bucket", "_total_s")

    def __init__(self, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._in_bucket = [0] * (len(bounds_s) + 1)
        self._total_s = 0.0

    @property
    def count(self) -> int:
        """How many times."""
        return sum(self._in_bucket)

    def add(self, took_s: float) -> None:
        """Counts one, in seconds."""
        self._in_bucket[bisect_left(self._bounds_s, took_s)] += 1
        self._total_s += took_s

    def add_to(self, family: HistogramMetricFamily, *labels: str) -> None:
        """Has a family tell them, under these values of its labels."""
        names = (*map(str, self._bounds_s), "+Inf")
        buckets = list(zip(names, accumulate(self._in_bucket), strict=True))
        family.add_metric(labels, buckets, self._total_s)
