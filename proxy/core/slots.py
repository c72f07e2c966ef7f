"""How many queries for names may be under way at once, and how few of one domain while many are.

Whoever sends requests chooses the names, and a name server that keeps silent holds each of its names for the
whole of a query's time. Without a share for each domain the names of one such server would take all slots,
and nobody could resolve anything new.
"""

# A domain is the last two labels of a name. Below a public suffix of two (co.uk), and in a cluster, strangers
# share one; that costs them something only while more than half of all slots are taken.
_LABELS = 2
# While more than half of all slots are taken, a domain that holds this part of them gets no more.
_PART = 8


class Slots:
    """The slots that are taken, in all and by domain.

    Args:
        most: how many there are.

    Attributes:
        taken: how many of them are taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, int] = {}
        self.taken = 0

    def __len__(self) -> int:
        """How many domains hold any: never more than there are slots taken."""
        return len(self._held)

    def has_room(self, name: str) -> bool:
        """Whether a query for this name may begin."""
        if self.taken * 2 <= self._most:
            return True
        return self.taken < self._most and self._held.get(_domain(name), 0) * _PART < self._most

    def take(self, name: str) -> None:
        """Takes a slot for a query, whether there is room or not: some begin without asking for it."""
        domain = _domain(name)
        self._held[domain] = self._held.get(domain, 0) + 1
        self.taken += 1

    def give_back(self, name: str) -> None:
        """Gives one slot of this name back; it must have been taken."""
        domain = _domain(name)
        held = self._held.pop(domain)
        if held > 1:
            self._held[domain] = held - 1
        self.taken -= 1


def _domain(name: str) -> str:
    return ".".join(name.rsplit(".", _LABELS)[-_LABELS:])
