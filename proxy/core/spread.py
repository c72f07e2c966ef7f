"""When refused calls are told to come back: not all at the end of the opening, but one behind the other.

Clients that obey our Retry-After would else return at the same instant, in a herd: one of them becomes the
probe, all others are refused again, and an upstream that has just recovered is run over. In half-open it is
worse: while a probe hangs, a client that is told a second burns all its retries a second apart.

Which time is no draw: the n-th call gets the fractional part of n times the golden ratio. The first is told
the end itself, and each further one falls into one of the widest gaps that those before it have left. So the
times are even, however many calls there are.
"""

# (sqrt(5) - 1) / 2: of all numbers the one worst told by fractions, so that no stretch of calls clusters.
_GOLDEN = 0.6180339887498949


class Spread:
    """The times that are told in one opening, and in the half-open state behind it.

    Args:
        width_s: by how much later than its end a call is told to come back at most; >= 0.

    Attributes:
        width_s: the same.
    """

    __slots__ = ("_told", "width_s")

    def __init__(self, width_s: float) -> None:
        self.width_s = width_s
        self._told = 0

    def next_s(self) -> float:
        """By how much later than the end the next call is told to come back, from 0 to below the width."""
        later_s = self.width_s * (self._told * _GOLDEN % 1.0)
        self._told += 1
        return later_s
