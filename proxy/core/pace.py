"""How fast one thing may follow another, where many are due at once."""


class Pace:
    """Gives out turns, one after the other, with a pause between each two.

    What is due at once would otherwise hold up whatever comes in between for as long as all of it takes.

    Args:
        between_s: how long after one turn the next one is, in seconds.
    """

    __slots__ = ("_between_s", "_next_at")

    def __init__(self, between_s: float) -> None:
        self._between_s = between_s
        self._next_at = float("-inf")

    def turn_in_s(self, now: float) -> float:
        """Takes the next turn that is free.

        Args:
            now: monotonic seconds.

        Returns:
            For how many seconds to wait for it; 0 where nobody is before.
        """
        at = max(now, self._next_at)
        self._next_at = at + self._between_s
        return at - now
