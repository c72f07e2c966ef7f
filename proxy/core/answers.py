"""What is remembered of names: their addresses, that they do not exist, and that asking has failed lately.

An answer is fresh for as long as it says, within the settings. Behind that it is stale: it may be used, for
as long as `dns.stale` says, while the resolvers fail (RFC 8767). That a name does not exist is remembered for
`dns.negative` and is never stale, and trouble with the resolvers is no answer at all.

Peers choose the names, and whoever serves a name chooses its addresses, so both are bounded.
"""

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum

from proxy.core.policy import Dns

# An address is some 70 bytes, and what is kept of a name some 1.7 kB: together 20 MB at the very most.
# Whoever wants the names of others forgotten needs thousands of names for it.
MOST_NAMES = 10_000
MOST_ADDRESSES = 50_000
# Of one name and one family. The dialer tries four of those that may be called; more would only take the room
# of other names.
MOST_PER_FAMILY = 8

# For so long after a failure a stale answer is used without waiting (RFC 8767 section 5 asks for no more than
# one attempt in 30 s; ours go on beside it, so that a resolver that is back is noticed).
FAILING_S = 30.0
# So long after a failure the next attempt may begin.
RETRY_S = 1.0

_NEVER = float("-inf")


class Lookup(Enum):
    """How a look-up of a name ended; each look-up ended in exactly one of these ways.

    Attributes:
        ANSWERED: the resolvers were asked for it, and there are addresses.
        JOINED: the same, but another look-up had asked already.
        CACHED: the addresses were remembered and fresh.
        STALE: the resolvers failed, or have failed lately, and older addresses were used.
        NOT_FOUND: the name does not exist, or has no address.
        NEGATIVE: the same, and that was remembered.
        FAILED: the resolvers answered that they cannot say, or nobody listened there.
        TIMED_OUT: the resolvers did not answer in time.
        LIMITED: too many queries were under way, in all or of the name's domain.
        CANCELLED: whoever asked did not wait for the end.
    """

    ANSWERED = "answered"
    JOINED = "joined"
    CACHED = "cached"
    STALE = "stale"
    NOT_FOUND = "not_found"
    NEGATIVE = "negative"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LIMITED = "limited"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__


class Answer:
    """What is remembered of one name.

    Attributes:
        addresses: IPv4 and IPv6, the preferred ones first; none if the name does not exist.
        usable_until: monotonic seconds, when the answer is too old even as a stale one.
    """

    __slots__ = ("_failed_at", "_fresh_until", "addresses", "usable_until")

    def __init__(self, addresses: tuple[str, ...], fresh_until: float, usable_until: float) -> None:
        self.addresses = addresses
        self.usable_until = usable_until
        self._fresh_until = fresh_until
        self._failed_at = _NEVER

    def is_fresh(self, now: float) -> bool:
        """Whether it may be used as it is, without asking."""
        return now < self._fresh_until

    def is_failing(self, now: float) -> bool:
        """Whether asking again has failed lately, so that nobody need wait for it to fail once more."""
        return now - self._failed_at < FAILING_S

    def may_be_asked(self, now: float) -> bool:
        """Whether it is time to ask again beside using it."""
        return now - self._failed_at >= RETRY_S

    def failed(self, now: float) -> None:
        """Notes that asking again has failed, or takes too long."""
        self._failed_at = now


class Answers:
    """The names that are remembered; the least recently used one goes first.

    Args:
        settings: for how long.
    """

    def __init__(self, settings: Dns) -> None:
        self._settings = settings
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._addresses = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, name: str, now: float) -> Answer | None:
        """What is remembered of a name; None if that is nothing, or too old to be used.

        Args:
            name: in one spelling, always the same.
            now: monotonic seconds, as everywhere here.
        """
        answer = self._answers.get(name)
        if answer is None:
            return None
        if now >= answer.usable_until:
            self._forget(name)
            return None
        self._answers.move_to_end(name)
        return answer

    def found(self, name: str, addresses: Iterable[str], ttl_s: float, now: float) -> tuple[str, ...]:
        """Remembers the addresses of a name.

        Args:
            name: as in `get`.
            addresses: at least one; the preferred ones first.
            ttl_s: for how long the answer says that it holds, >= 0.
            now: when it came.

        Returns:
            The addresses to use: no more than are remembered, and each once.
        """
        kept = _bounded(addresses)
        settings = self._settings
        fresh_until = now + min(max(ttl_s, settings.ttl_min), settings.ttl_max)
        self._remember(name, Answer(kept, fresh_until, fresh_until + settings.stale), now)
        return kept

    def absent(self, name: str, now: float) -> None:
        """Remembers that a name does not exist, or has no address; older addresses are no longer used."""
        until = now + self._settings.negative
        self._remember(name, Answer((), until, until), now)

    def _remember(self, name: str, answer: Answer, now: float) -> None:
        if name in self._answers:
            self._forget(name)
        if now >= answer.usable_until:
            return
        self._answers[name] = answer
        self._addresses += len(answer.addresses)
        while len(self._answers) > MOST_NAMES or self._addresses > MOST_ADDRESSES:
            self._forget(next(iter(self._answers)))

    def _forget(self, name: str) -> None:
        self._addresses -= len(self._answers.pop(name).addresses)


def _bounded(addresses: Iterable[str]) -> tuple[str, ...]:
    # By family, so that many addresses of one do not push out all of the other.
    kept: dict[str, None] = {}
    room = {True: MOST_PER_FAMILY, False: MOST_PER_FAMILY}
    for address in addresses:
        is_ipv6 = ":" in address
        if address not in kept and room[is_ipv6]:
            room[is_ipv6] -= 1
            kept[address] = None
    return tuple(kept)
