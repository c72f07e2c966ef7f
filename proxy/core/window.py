"""How many calls there were in the last while, how many failed, how many were slow, and how long they took.

Ten buckets, each a tenth of the window long. A bucket that has left the window is emptied by whoever looks
next, reader or writer, so that an idle window expires although nobody writes. The sums are taken anew each
time: running totals drift from their buckets with the first mistake, and ten numbers take 0.1 us to add.

Time only goes forward (monotonic seconds). Should it not, what comes counts into the newest bucket.
"""

from typing import NamedTuple

BUCKETS = 10


class Counts(NamedTuple):
    """What a window has seen, or one bucket of it; `failed` and `slow` may overlap.

    Attributes:
        upstream_s: for how long the upstream owed, all calls together.
    """

    calls: int
    failed: int
    slow: int
    upstream_s: float

    @property
    def mean_upstream_s(self) -> float | None:
        """For how long the upstream owed in a call, on average; None without calls."""
        return self.upstream_s / self.calls if self.calls else None


class Window:
    """The counts of one circuit.

    A call of t is in it at now if t // bucket > now // bucket - 10: it covers the last 9 to 10 buckets.

    Args:
        length_s: how far back it looks, in seconds, > 0.
    """

    __slots__ = ("_bucket_s", "_calls", "_failed", "_newest", "_slow", "_upstream_s", "length_s")

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self._bucket_s = length_s / BUCKETS
        self._newest = 0
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._calls = [0] * BUCKETS
        self._failed = [0] * BUCKETS
        self._slow = [0] * BUCKETS
        self._upstream_s = [0.0] * BUCKETS

    def add(self, now: float, *, failed: bool, slow: bool, upstream_s: float) -> None:
        """Counts one call, in which the upstream owed for `upstream_s` seconds."""
        slot = self._slot(now)
        self._calls[slot] += 1
        self._upstream_s[slot] += upstream_s
        if failed:
            self._failed[slot] += 1
        if slow:
            self._slow[slot] += 1

    def counts(self, now: float) -> Counts:
        """The sums over the window."""
        self._slot(now)
        return Counts(sum(self._calls), sum(self._failed), sum(self._slow), sum(self._upstream_s))

    def buckets(self, now: float) -> list[Counts]:
        """Its parts, oldest first; the last one is not over yet."""
        oldest = self._slot(now) + 1
        columns = (self._calls, self._failed, self._slow, self._upstream_s)
        turned = (column[oldest:] + column[:oldest] for column in columns)
        return list(map(Counts._make, zip(*turned, strict=True)))

    def failed_at_least(self, ratio: float, min_calls: int, now: float) -> bool:
        """Whether there were enough calls, and this share of them failed; ratio > 0, min_calls >= 1."""
        return self._at_least(self._failed, ratio, min_calls, now)

    def slow_at_least(self, ratio: float, min_calls: int, now: float) -> bool:
        """Whether there were enough calls, and this share of them was slow; ratio > 0, min_calls >= 1."""
        return self._at_least(self._slow, ratio, min_calls, now)

    def _at_least(self, counted: list[int], ratio: float, min_calls: int, now: float) -> bool:
        self._slot(now)
        # Mostly nothing has failed: then the calls need not be added up.
        if not (count := sum(counted)):
            return False
        calls = sum(self._calls)
        # A division, since 3 / 30 rounds to what 0.1 is written as; 0.1 * 30 need not be 3.
        return calls >= min_calls and count / calls >= ratio

    def _slot(self, now: float) -> int:
        """The place of the newest bucket, after emptying those that have left the window."""
        bucket = int(now // self._bucket_s)
        if bucket > self._newest:
            for passed in range(max(self._newest + 1, bucket - BUCKETS + 1), bucket + 1):
                slot = passed % BUCKETS
                self._calls[slot] = self._failed[slot] = self._slow[slot] = 0
                self._upstream_s[slot] = 0.0
            self._newest = bucket
        return self._newest % BUCKETS
