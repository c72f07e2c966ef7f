"""Names to addresses: who waits for which query, and what is used of the answers of before.

The name servers are asked by `wire/name_servers.py`, and what they said is remembered in `core/answers.py`.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from math import inf

from aiodns.error import DNSError

from proxy.core.answers import Answer, Answers, Lookup
from proxy.core.errors import DnsError, DnsTimeout, LocalLimit, ProxyError
from proxy.core.host import literal
from proxy.core.outcome import FailureKind, failed
from proxy.core.policy import Dns
from proxy.core.slots import Slots
from proxy.wire.name_servers import NameServers, translated

# (family, type, protocol, canonical name, socket address), as socket.getaddrinfo gives them.
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

# How many queries may be under way at once, a pair of A and AAAA counting as one.
MOST_QUERIES = 1000
# How many of them nobody need wait for: their answers are worth remembering, but not worth much.
MOST_UNAWAITED = 100

# Where a stale answer is at hand, it is used after so long; RFC 8767 section 5 recommends 1.8 s. At most half
# of the time that whoever waits has.
_PATIENCE_S = 1.8


class _Query:
    """A query under way.

    Attributes:
        name: what is asked for.
        task: ends with the addresses, or how it went wrong.
        waiting: how many wait for it.
    """

    __slots__ = ("name", "task", "waiting")

    def __init__(self, name: str, task: asyncio.Task[tuple[str, ...] | Lookup]) -> None:
        self.name = name
        self.task = task
        self.waiting = 0


class Resolver:
    """The process's resolver; make it inside a running loop, and close it.

    It gives out whatever the name servers said, or said earlier. **Whoever connects to an address vets that
    very address first, each time**: what was harmless when it was remembered may be forbidden now.

    Args:
        settings: whom to ask, and for how long to remember.
        timeout_s: for the whole of a query, the longest that anyone waits.
        clock: monotonic seconds.
        former: the one whose place it takes; they count together, and together stay within the bound on
            queries. What that remembers came by other settings and is not used.

    Attributes:
        lookups: how many look-ups of names ended how. Addresses are not looked up and not counted.
    """

    def __init__(
        self, settings: Dns, timeout_s: float, clock: Callable[[], float], former: "Resolver | None" = None
    ) -> None:
        self._clock = clock
        self._answers = Answers(settings)
        self._slots: Slots = Slots(MOST_QUERIES) if former is None else former._slots  # noqa: SLF001 -- of the class
        self._servers = NameServers(settings, timeout_s, self._slots)
        # Those that may be joined, by name; of them those that nobody waits for, the longest so first.
        self._queries: dict[str, _Query] = {}
        self._unawaited: dict[_Query, None] = {}
        self._tasks: set[asyncio.Task[tuple[str, ...] | Lookup]] = set()
        self.lookups: dict[Lookup, int] = dict.fromkeys(Lookup, 0) if former is None else former.lookups
        # Those who ask, and what the last of them tells when another resolver has taken over.
        self._asking = 0
        self._unused: asyncio.Future[None] | None = None

    @property
    def under_way(self) -> int:
        """How many queries are under way, those included that nobody waits for any more."""
        return self._slots.taken

    async def resolve(self, host: str, port: int, time_s: float = inf) -> list[AddressInfo]:
        """The addresses of a host, at least one; an IP literal is its own.

        All who ask for a name at a time wait for one query, and who no longer waits does not end it, unless
        there are too many that nobody waits for.

        Args:
            host: in its normal form (`core/host.py`).
            port: 1-65535.
            time_s: after how long the caller will end the wait; where there is a stale answer, it is given
                out before.

        Raises:
            DnsError: 502; the name does not exist (a failure), or the resolver failed (neutral).
            DnsTimeout: 504, neutral.
            LocalLimit: 503, neutral; too many queries are under way, in all or of this domain.
        """
        if literal(host) is not None:
            return [_address_info(host, port)]
        self._asking += 1
        try:
            result, addresses = await self._look_up(host, min(_PATIENCE_S, time_s / 2))
        except asyncio.CancelledError:
            self.lookups[Lookup.CANCELLED] += 1
            raise
        finally:
            self._asking -= 1
            if self._unused is not None and not self._asking and not self._unused.done():
                self._unused.set_result(None)
        self.lookups[result] += 1
        if not addresses:
            raise _error(result)
        return [_address_info(address, port) for address in addresses]

    async def retire(self) -> None:
        """Closes once those who wait have their answers; nobody may ask it any more."""
        try:
            if self._asking:
                self._unused = asyncio.get_running_loop().create_future()
                await self._unused
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends all look-ups and closes the channels' sockets."""
        await self._servers.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _look_up(self, name: str, patience_s: float) -> tuple[Lookup, tuple[str, ...]]:
        """How the look-up ended, and with which addresses, if any.

        Args:
            name: of a host.
            patience_s: after how long a stale answer is used.
        """
        now = self._clock()
        known = self._answers.get(name, now)
        if known is not None:
            if known.is_fresh(now):
                return Lookup.CACHED if known.addresses else Lookup.NEGATIVE, known.addresses
            if known.is_failing(now):
                if known.may_be_asked(now) and (query := self._query(name)) is not None:
                    self._note_unawaited(query)
                return Lookup.STALE, known.addresses
        result = Lookup.JOINED if name in self._queries else Lookup.ANSWERED
        query = self._query(name)
        end = Lookup.LIMITED if query is None else await self._awaited(query, known, patience_s)
        if query is not None and end is Lookup.TIMED_OUT and result is Lookup.JOINED and query.task.done():
            # It began earlier than this caller, who has time left.
            return await self._look_up(name, patience_s)
        if isinstance(end, tuple):
            return result, end
        if end is not Lookup.NOT_FOUND:
            now = self._clock()
            known = self._answers.get(name, now)
            if known is not None:
                known.failed(now)
                return Lookup.STALE, known.addresses
        return end, ()

    async def _awaited(
        self, query: _Query, known: Answer | None, patience_s: float
    ) -> tuple[str, ...] | Lookup:
        """What a query has found, or that the time was up and an answer of before is to be used."""
        query.waiting += 1
        self._unawaited.pop(query, None)
        try:
            done, _ = await asyncio.wait({query.task}, timeout=None if known is None else patience_s)
            if not done and self._answers.get(query.name, self._clock()) is None:
                # That has become too old meanwhile.
                await asyncio.wait({query.task})
        finally:
            query.waiting -= 1
            self._note_unawaited(query)
        return query.task.result() if query.task.done() else Lookup.TIMED_OUT

    def _query(self, name: str) -> _Query | None:
        """The query for this name that is under way, or a new one; None if there are too many."""
        query = self._queries.get(name)
        if query is None and self._slots.has_room(name):
            task = asyncio.get_running_loop().create_task(self._ask(name), name="dns query")
            query = self._queries[name] = _Query(name, task)
            self._slots.take(name)
            self._tasks.add(task)
            # Runs before those who wait do, and also where the task is cancelled before it begins.
            task.add_done_callback(partial(self._ended, query))
        return query

    def _ended(self, query: _Query, task: asyncio.Task[tuple[str, ...] | Lookup]) -> None:
        self._tasks.discard(task)
        self._slots.give_back(query.name)
        self._unawaited.pop(query, None)
        if self._queries.get(query.name) is query:
            del self._queries[query.name]

    def _note_unawaited(self, query: _Query) -> None:
        """Ends the query that nobody has waited for the longest, if with this one there are too many."""
        if query.waiting or query.task.done():
            return
        self._unawaited[query] = None
        if len(self._unawaited) > MOST_UNAWAITED:
            oldest = next(iter(self._unawaited))
            # Before it is cancelled: who asks from here on must not join it.
            del self._unawaited[oldest], self._queries[oldest.name]
            oldest.task.cancel()
            now = self._clock()
            if (known := self._answers.get(oldest.name, now)) is not None:
                known.failed(now)

    async def _ask(self, name: str) -> tuple[str, ...] | Lookup:
        """Asks, and remembers the answer: the addresses, or how it went wrong."""
        try:
            found = await self._servers.ask(name)
        except DNSError as error:
            end = translated(error)
            now = self._clock()
            if end is Lookup.NOT_FOUND:
                self._answers.absent(name, now)
            elif (known := self._answers.get(name, now)) is not None:
                known.failed(now)
            return end
        ttl_s = min([*(node.ttl for node in found.nodes), *(cname.ttl for cname in found.cnames)])
        addresses = (node.addr[0].decode("ascii") for node in found.nodes)
        return self._answers.found(name, addresses, ttl_s, self._clock())


def _address_info(address: str, port: int) -> AddressInfo:
    sockaddr = (address, port, 0, 0) if ":" in address else (address, port)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)


def _error(result: Lookup) -> ProxyError:
    """The error for a look-up without addresses, made anew for each who waited."""
    if result in (Lookup.NOT_FOUND, Lookup.NEGATIVE):
        return DnsError("the name does not exist", outcome=failed(FailureKind.DNS))
    if result is Lookup.TIMED_OUT:
        return DnsTimeout("the resolver did not answer in time")
    if result is Lookup.LIMITED:
        return LocalLimit("too many names are being resolved")
    return DnsError("the resolver failed")
