"""How long failed calls have kept their callers waiting, and so how long a refusal spares one.

A refusal is answered at once. What it spares its caller nobody can know, since the call is not made. The
estimate: the call would have failed, after as long as the failed calls of its circuit on average. Failed is
what the table EFFECTS in `outcome.py` says, a silent endpoint in the run of its host included; as long is the
time that the upstream owed until the verdict, so without the client's own and without ours. It is too much
where an operator has forced a healthy circuit open, or calls are refused since many are under way; and too
little where an upstream that used to fail at once has fallen silent. Of a circuit without a failed call, such
as one that was restored or forced open before, nothing is known, and that is 0.
"""


class Waits:
    """Those of one circuit, in all its life."""

    __slots__ = ("_count", "_total_s")

    def __init__(self) -> None:
        self._count = 0
        self._total_s = 0.0

    def add(self, upstream_s: float) -> None:
        """Counts a failed call, in which the upstream owed for so many seconds."""
        self._count += 1
        self._total_s += upstream_s

    @property
    def mean_s(self) -> float:
        """The average in seconds; 0 if no call has failed."""
        return self._total_s / self._count if self._count else 0.0
