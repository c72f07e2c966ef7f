"""What Prometheus reads of the requests that are kept for later; nothing without `defer.path`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import HistogramMetricFamily, Metric

from proxy.control.durations import Durations
from proxy.control.families import PREFIX, counter, counters, gauge
from proxy.core.deferred import CAUSES, NOT_STORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept as it stands, and what has become of all that was.

    Attributes:
        waiting: how many wait for delivery.
        dead_letters: how many are not tried again.
        stored_bytes: of content and fields of both.
        oldest_at: when the one in front was stored, in seconds since 1970; None if none waits.
        can_store: whether the disk takes more.
        max_requests, max_bytes: how many there may be, and of how many bytes, dead letters included.
        stored: how long each took until it was durable.
        delivered: how many have arrived.
        failed: how many attempts failed that are to be repeated.
        dead: how many became dead letters, by why.
        not_stored: how many were refused that were to be kept, by why.
        wall_now: the time of all this, in seconds since 1970.
    """

    waiting: int
    dead_letters: int
    stored_bytes: int
    oldest_at: float | None
    can_store: bool
    max_requests: int
    max_bytes: int
    stored: Durations
    delivered: int
    failed: int
    dead: Mapping[str, int]
    not_stored: Mapping[str, int]
    wall_now: float


def deferred_families(kept: Kept) -> Iterator[Metric]:
    """The metrics of what is kept."""
    yield gauge("deferred_depth", "Requests that wait for delivery.", kept.waiting)
    yield gauge("deferred_dead_letters", "Requests that are not tried again.", kept.dead_letters)
    yield gauge("deferred_limit", "Most requests that are kept, dead letters included.", kept.max_requests)
    yield gauge("deferred_bytes", "Bytes of what is kept, dead letters included.", kept.stored_bytes)
    yield gauge("deferred_limit_bytes", "Most bytes that are kept, dead letters included.", kept.max_bytes)
    oldest_age_s = 0.0 if kept.oldest_at is None else max(0.0, kept.wall_now - kept.oldest_at)
    yield gauge("deferred_oldest_age_seconds", "For how long the oldest of them has waited.", oldest_age_s)
    yield gauge("deferred_store_up", "Whether requests can be stored.", int(kept.can_store))
    yield counter("deferred_stored", "Requests that were stored, and answered 202.", kept.stored.count)
    yield counter("deferred_delivered", "Requests that have arrived.", kept.delivered)
    yield counter("deferred_failed_attempts", "Attempts that failed and are to be repeated.", kept.failed)
    dead = counters("deferred_dead", "Requests that became dead letters, by why.", "cause")
    for cause in CAUSES:
        dead.add_metric([cause], kept.dead.get(cause, 0))
    yield dead
    refused = counters(
        "deferred_not_stored", "Requests that were to be kept, and were refused after all, by why.", "reason"
    )
    for reason in NOT_STORED:
        refused.add_metric([reason], kept.not_stored.get(reason, 0))
    yield refused
    took = HistogramMetricFamily(
        f"{PREFIX}deferred_store_seconds", "Time until a request was durable.", unit="seconds"
    )
    kept.stored.add_to(took)
    yield took
