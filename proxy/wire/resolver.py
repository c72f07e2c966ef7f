"""Names to addresses, through aiodns, with what is remembered of them in `core/answers.py`.

aiodns is called directly since aiohttp's adapter flattens all of its errors into one: that a name does not
exist says something of the upstream, that a resolver is down or slow does not.

There are two channels to the resolvers. Names with a dot go through one that knows no search domains: with
the `ndots:5` of Kubernetes each would cost up to five queries, and a search domain can lead an outside name
inside. A dot behind the name would do the same, but would also bypass /etc/hosts. Single labels go through
the other one.

What is known of c-ares 1.34, which does the asking (the tests hold most of it):

- It has a cache of its own that cannot be switched off from Python. Whatever our settings say, that keeps an
  answer for up to an hour, an empty one even if it does not say for how long. `reinit` empties it, so that is
  called after each query. It also reads /etc/resolv.conf anew, for which c-ares by itself watches only the
  directory /etc. /etc/hosts is read again when its time of change says so, and comes first unless
  /etc/nsswitch.conf has another order.
- How long it waits before it asks a silent server again depends on how fast that was so far, so that all
  tries may be over early, or late. The bound on a query is therefore kept here: asked again while there is
  time, and given up then. It goes to the next server on silence, SERVFAIL and REFUSED, prefers those that
  work, and tries the others again now and then.
- With IPv4 addresses at hand it does not try again for IPv6. Without any address it tells what the later of
  the two answers said. So that there is no address is believed only where both say so.
- A truncated answer is asked for again over TCP. EDNS is on.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf

import aiodns
import pycares
from aiodns.error import ARES_ECANCELLED, ARES_ENODATA, ARES_ENOTFOUND, ARES_ETIMEOUT, DNSError

from proxy.core.answers import Answer, Answers, Lookup
from proxy.core.errors import ConnectionLimitReached, DnsError, DnsTimeout, ProxyError
from proxy.core.host import literal
from proxy.core.outcome import FailureKind, failed
from proxy.core.policy import Dns, Search

# (family, type, protocol, canonical name, socket address), as socket.getaddrinfo gives them.
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

# How many queries may be under way at once, a pair of A and AAAA counting as one.
MOST_QUERIES = 1000

# Of the servers, each is asked so often in one query, and has this share of the time at first.
_TRIES = 3
_FIRST_TRY = 0.125
# Where a stale answer is at hand, it is used after so long; RFC 8767 section 5 recommends 1.8 s. At most half
# of the time that whoever waits has.
_PATIENCE_S = 1.8
# c-ares waits for no less than a quarter of a second. If it did, asking again could be a busy loop.
_LEAST_TRY_S = 0.1

# By `dns.search`: of the channel for single labels, and of the one for names with a dot.
_SEARCHING = pycares.ARES_FLAG_EDNS
_EXACT = pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_NOSEARCH
_FLAGS = {
    Search.AUTO: (_SEARCHING, _EXACT),
    Search.ON: (_SEARCHING, _SEARCHING),
    Search.OFF: (_EXACT, _EXACT),
}

_ANY, _BOTH = socket.AF_UNSPEC, (socket.AF_INET, socket.AF_INET6)

_Found = pycares.AddrInfoResult
_Query = asyncio.Task[tuple[str, ...] | Lookup]


class _Channel(aiodns.DNSResolver):
    """A channel to the resolvers whose own cache can be emptied."""

    def forget(self) -> None:
        """Makes c-ares forget its answers, and read /etc/resolv.conf anew; soon, in a thread of its own."""
        if not self._closed:
            # If there is no thread to be had, the answers stay; c-ares bounds them by their own time.
            with suppress(pycares.AresError):
                self._channel.reinit()


class Resolver:
    """The process's resolver; make it inside a running loop, and close it.

    It gives out whatever the name servers said, or said earlier. **Whoever connects to an address vets that
    very address first, each time**: what was harmless when it was remembered may be forbidden now.

    Args:
        settings: whom to ask, and for how long to remember.
        timeout_s: for the whole of a query, the longest that anyone waits.
        clock: monotonic seconds.

    Attributes:
        lookups: how many look-ups of names ended how. Addresses are not looked up and not counted.
    """

    def __init__(self, settings: Dns, timeout_s: float, clock: Callable[[], float]) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._answers = Answers(settings)
        self._queries: dict[str, _Query] = {}
        self._given_up = 0
        self._closed = False
        self.lookups = dict.fromkeys(Lookup, 0)
        # Not `lookups` nor `resolvconf_path`: pycares 5.2 frees these before c-ares has read them.
        self._channels = tuple(
            _Channel(
                [str(server) for server in settings.servers],
                flags=flags,
                timeout=timeout_s * _FIRST_TRY,
                tries=_TRIES,
            )
            for flags in _FLAGS[settings.search]
        )

    @property
    def under_way(self) -> int:
        """How many queries are under way, those included that nobody waits for any more."""
        return len(self._queries) + self._given_up

    async def resolve(self, host: str, port: int, time_s: float = inf) -> list[AddressInfo]:
        """The addresses of a host, at least one; an IP literal is its own.

        All who ask for a name at a time wait for one query, and who no longer waits does not end it.

        Args:
            host: in its normal form (`core/host.py`).
            port: 1-65535.
            time_s: after how long the caller will end the wait; where there is a stale answer, it is given
                out before.

        Raises:
            DnsError: 502; the name does not exist (a failure), or the resolver failed (neutral).
            DnsTimeout: 504, neutral.
            ConnectionLimitReached: 503, neutral; too many queries are under way.
        """
        if literal(host) is not None:
            return [_address_info(host, port)]
        try:
            result, addresses = await self._look_up(host, min(_PATIENCE_S, time_s / 2))
        except asyncio.CancelledError:
            self.lookups[Lookup.CANCELLED] += 1
            raise
        self.lookups[result] += 1
        if not addresses:
            raise _error(result)
        return [_address_info(address, port) for address in addresses]

    async def close(self) -> None:
        """Ends all look-ups and closes the channels' sockets."""
        self._closed = True
        for channel in self._channels:
            await channel.close()
        if self._queries:
            await asyncio.wait(self._queries.values())

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
                if known.may_be_asked(now):
                    self._query(name)
                return Lookup.STALE, known.addresses
        result = Lookup.JOINED if name in self._queries else Lookup.ANSWERED
        query = self._query(name)
        end = Lookup.LIMITED if query is None else await self._awaited(query, name, known, patience_s)
        if end is Lookup.TIMED_OUT and result is Lookup.JOINED and name not in self._queries:
            # Whoever asked first had less time left.
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
        self, query: _Query, name: str, known: Answer | None, patience_s: float
    ) -> tuple[str, ...] | Lookup:
        """What a query has found, or that the time was up and an answer of before is to be used."""
        done, _ = await asyncio.wait({query}, timeout=None if known is None else patience_s)
        if not done and self._answers.get(name, self._clock()) is None:
            # That has become too old meanwhile.
            await asyncio.wait({query})
        return query.result() if query.done() else Lookup.TIMED_OUT

    def _query(self, name: str) -> _Query | None:
        """The query for this name that is under way, or a new one; None if there are too many."""
        query = self._queries.get(name)
        if query is None and self.under_way < MOST_QUERIES:
            query = asyncio.get_running_loop().create_task(self._ask(name), name="dns query")
            self._queries[name] = query
        return query

    async def _ask(self, name: str) -> tuple[str, ...] | Lookup:
        """Asks, and remembers the answer: the addresses, or how it went wrong."""
        channel = self._channels["." in name]
        try:
            found = await self._answer(channel, name)
        except DNSError as error:
            end = _translated(error)
            now = self._clock()
            if end is Lookup.NOT_FOUND:
                self._answers.absent(name, now)
            elif (known := self._answers.get(name, now)) is not None:
                known.failed(now)
            return end
        finally:
            del self._queries[name]
            channel.forget()
        ttl_s = min([*(node.ttl for node in found.nodes), *(cname.ttl for cname in found.cnames)])
        addresses = (node.addr[0].decode("ascii") for node in found.nodes)
        return self._answers.found(name, addresses, ttl_s, self._clock())

    async def _answer(self, channel: _Channel, name: str) -> _Found:
        """Asks for addresses of both families, at least one.

        Raises:
            DNSError: there is none, or the servers failed.
        """
        ends_at = asyncio.get_running_loop().time() + self._timeout_s
        try:
            return _with_address(await self._asked(channel, name, _ANY, ends_at))
        except DNSError as error:
            if error.args[0] != ARES_ENODATA:
                raise
            nothing = error
        # This is the later of two answers; the other may have been an error. Mostly c-ares still has in its
        # cache what has been answered, so that only what went wrong is really asked again.
        for family in _BOTH:
            try:
                return _with_address(await self._asked(channel, name, family, ends_at))
            except DNSError as error:
                if _translated(error) is not Lookup.NOT_FOUND:
                    raise
        raise nothing

    async def _asked(self, channel: _Channel, name: str, family: int, ends_at: float) -> _Found:
        """Asks, again and again while nobody answers and there is time.

        Raises:
            DNSError: what c-ares says, or that time is up.
        """
        loop = asyncio.get_running_loop()
        while not self._closed:
            began = loop.time()
            answer = channel.getaddrinfo(name, family=socket.AddressFamily(family), type=socket.SOCK_STREAM)
            done, _ = await asyncio.wait({answer}, timeout=max(0.0, ends_at - began))
            if not done:
                self._give_up(channel, answer)
                break
            error = answer.exception()
            if error is None:
                return answer.result()
            now = loop.time()
            if not _is_silence(error) or now >= ends_at or now - began < _LEAST_TRY_S:
                raise error
        raise DNSError(ARES_ECANCELLED if self._closed else ARES_ETIMEOUT)

    def _give_up(self, channel: _Channel, answer: "asyncio.Future[_Found]") -> None:
        # c-ares cannot end a single query. Until it has, that takes memory; then it remembers the answer.
        def ended(answer: "asyncio.Future[_Found]") -> None:
            answer.exception()
            self._given_up -= 1
            channel.forget()

        self._given_up += 1
        answer.add_done_callback(ended)


def _address_info(address: str, port: int) -> AddressInfo:
    sockaddr = (address, port, 0, 0) if ":" in address else (address, port)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)


def _with_address(found: _Found) -> _Found:
    if not found.nodes:
        raise DNSError(ARES_ENODATA)
    return found


def _is_silence(error: BaseException) -> bool:
    return isinstance(error, DNSError) and error.args[0] == ARES_ETIMEOUT


def _translated(error: DNSError) -> Lookup:
    code = error.args[0]
    if code in (ARES_ENOTFOUND, ARES_ENODATA):
        return Lookup.NOT_FOUND
    return Lookup.TIMED_OUT if code == ARES_ETIMEOUT else Lookup.FAILED


def _error(result: Lookup) -> ProxyError:
    """The error for a look-up without addresses, made anew for each who waited."""
    if result in (Lookup.NOT_FOUND, Lookup.NEGATIVE):
        return DnsError("the name does not exist", outcome=failed(FailureKind.DNS))
    if result is Lookup.TIMED_OUT:
        return DnsTimeout("the resolver did not answer in time")
    if result is Lookup.LIMITED:
        return ConnectionLimitReached("too many names are being resolved", reason="local_limit")
    return DnsError("the resolver failed")
