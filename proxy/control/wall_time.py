"""Moments for people: circuits run on monotonic time, and are told of in UTC (ISO 8601)."""

from collections.abc import Callable
from datetime import UTC, datetime

# By how much the two clocks may drift apart before what happened earlier is told anew.
_MOST_DRIFT_S = 0.5


class WallTime:
    """Tells moments of the monotonic clock in UTC, the same moment always the same.

    Args:
        clock: monotonic seconds.
        wall: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall
        self._ahead_s = wall() - clock()

    def __call__(self, at: float) -> str:
        """A moment in monotonic seconds as text, to the millisecond."""
        ahead_s = self._wall() - self._clock()
        if abs(ahead_s - self._ahead_s) > _MOST_DRIFT_S:
            # Somebody has set the clock on the wall.
            self._ahead_s = ahead_s
        return datetime.fromtimestamp(at + self._ahead_s, UTC).isoformat(timespec="milliseconds")
