"""After closing, calls come back in growing shares, so that a cold upstream is not run over.

The share grows linearly from a tenth to all. Which calls pass is no draw: each call adds its share to an
account, and passes when the account has a whole call. Of every ten at a share of 0.1 exactly one does.
"""

FIRST_SHARE = 0.1
# Ten times 0.1 is a little less than 1 in binary.
_WHOLE = 1 - 1e-9


class Ramp:
    """The ramp of one closing.

    Args:
        began: when the circuit closed, in monotonic seconds.
        length_s: > 0.
    """

    __slots__ = ("_account", "_began", "_length_s")

    def __init__(self, began: float, length_s: float) -> None:
        self._began = began
        self._length_s = length_s
        # The first call passes: on an upstream that is called once a minute it is the only one.
        self._account = 1 - FIRST_SHARE

    def is_over(self, now: float) -> bool:
        """Whether all calls pass."""
        return now >= self._began + self._length_s

    def passes(self, now: float) -> bool:
        """Whether the next call passes; asking changes nothing."""
        return self._account + self._share(now) >= _WHOLE

    def count(self, now: float, *, passed: bool) -> None:
        """Books a call that was asked for."""
        self._account += self._share(now) - passed

    def _share(self, now: float) -> float:
        return FIRST_SHARE + (1 - FIRST_SHARE) * (now - self._began) / self._length_s
