"""The name servers, asked through aiodns: what c-ares does, and what has to be done about it.

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
from contextlib import suppress

import aiodns
import pycares
from aiodns.error import ARES_ECANCELLED, ARES_ENODATA, ARES_ENOTFOUND, ARES_ETIMEOUT, DNSError

from proxy.core.answers import Lookup
from proxy.core.policy import Dns, Search
from proxy.core.slots import Slots

# Of the servers, each is asked so often in one query, and has this share of the time at first.
_TRIES = 3
_FIRST_TRY = 0.125
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


class _Channel(aiodns.DNSResolver):
    """A channel to the resolvers whose own cache can be emptied."""

    def forget(self) -> None:
        """Makes c-ares forget its answers, and read /etc/resolv.conf anew; soon, in a thread of its own."""
        if not self._closed:
            # If there is no thread to be had, the answers stay; c-ares bounds them by their own time.
            with suppress(pycares.AresError):
                self._channel.reinit()


class NameServers:
    """The channels to the name servers; make them inside a running loop, and close them.

    Args:
        settings: whom to ask, and for which names with the search domains.
        timeout_s: for the whole of a query, the longest that anyone waits.
        slots: where those count that were given up, for as long as c-ares has not ended them.
    """

    def __init__(self, settings: Dns, timeout_s: float, slots: Slots) -> None:
        self._timeout_s = timeout_s
        self._slots = slots
        self._closed = False
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

    async def close(self) -> None:
        """Ends all queries and closes the channels' sockets."""
        self._closed = True
        for channel in self._channels:
            await channel.close()

    async def ask(self, name: str) -> pycares.AddrInfoResult:
        """Asks for the addresses of a name; the answer has at least one.

        Raises:
            DNSError: there is none, or the servers failed; see `translated`.
        """
        channel = self._channels["." in name]
        try:
            return await self._answer(channel, name)
        finally:
            channel.forget()

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
                if translated(error) is not Lookup.NOT_FOUND:
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
            try:
                done, _ = await asyncio.wait({answer}, timeout=max(0.0, ends_at - began))
            except asyncio.CancelledError:
                self._give_up(channel, name, answer)
                raise
            if not done:
                self._give_up(channel, name, answer)
                break
            error = answer.exception()
            if error is None:
                return answer.result()
            now = loop.time()
            if not _is_silence(error) or now >= ends_at or now - began < _LEAST_TRY_S:
                raise error
        raise DNSError(ARES_ECANCELLED if self._closed else ARES_ETIMEOUT)

    def _give_up(self, channel: _Channel, name: str, answer: "asyncio.Future[_Found]") -> None:
        # c-ares cannot end a single query. Until it has, that takes memory; then it remembers the answer.
        def ended(answer: "asyncio.Future[_Found]") -> None:
            answer.exception()
            self._slots.give_back(name)
            channel.forget()

        self._slots.take(name)
        answer.add_done_callback(ended)


def _with_address(found: _Found) -> _Found:
    if not found.nodes:
        raise DNSError(ARES_ENODATA)
    return found


def _is_silence(error: BaseException) -> bool:
    return isinstance(error, DNSError) and error.args[0] == ARES_ETIMEOUT


def translated(error: DNSError) -> Lookup:
    """How a look-up has ended with this error."""
    code = error.args[0]
    if code in (ARES_ENOTFOUND, ARES_ENODATA):
        return Lookup.NOT_FOUND
    return Lookup.TIMED_OUT if code == ARES_ETIMEOUT else Lookup.FAILED
