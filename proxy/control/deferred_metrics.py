"""What Prometheus reads of the requests that are kept for later; nothing without `defer.path`."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from proxy.control.families import gauge
from proxy.core.deferred import Kept


def deferred_families(kept: Kept, wall_now: float) -> Iterator[Metric]:
    """The metrics of what is kept.

    Args:
        kept: as it stands.
        wall_now: seconds since 1970.
    """
    yield gauge("deferred_depth", "Requests that wait for delivery.", kept.waiting)
    yield gauge("deferred_dead_letters", "Requests that are not tried again.", kept.dead_letters)
    yield gauge("deferred_bytes", "Bytes of what is kept, dead letters included.", kept.stored_bytes)
    oldest_age_s = 0.0 if kept.oldest_at is None else max(0.0, wall_now - kept.oldest_at)
    yield gauge("deferred_oldest_age_seconds", "For how long the oldest of them has waited.", oldest_age_s)
    yield gauge("deferred_store_up", "Whether requests can be stored.", int(kept.can_store))
