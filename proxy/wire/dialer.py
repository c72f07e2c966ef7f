"""Connections to upstreams: resolve, then race the addresses (RFC 8305)."""

import asyncio
import errno
from collections.abc import Callable
from typing import TypeVar

import aiohappyeyeballs

from proxy.core.budget import MAX_RACES
from proxy.core.errors import (
    ConnectionLimitReached,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    DestinationIpUnroutable,
    ProxyError,
)
from proxy.core.exchange import Awaited, Exchange
from proxy.core.policy import Timeouts
from proxy.core.target import Target
from proxy.wire.resolver import Resolver
from proxy.wire.vanished import notice

# RFC 8305 section 5: the recommended delay before the next address is tried as well.
_ATTEMPT_DELAY_S = 0.25

# What the kernel answers to connect(), and to socket() where the fault is ours.
_LOCAL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
_TRANSLATED: dict[int | None, type[ProxyError]] = {
    errno.ECONNREFUSED: ConnectionRefused,
    errno.ETIMEDOUT: ConnectionTimeout,
    errno.ECONNRESET: ConnectionTerminated,
}

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class Dialer:
    """Makes connections.

    Args:
        resolver: names to addresses.
        clock: monotonic seconds.
    """

    def __init__(self, resolver: Resolver, clock: Callable[[], float]) -> None:
        self._resolver = resolver
        self._clock = clock
        self._racing = 0

    async def connect(
        self, exchange: Exchange, target: Target, timeouts: Timeouts, factory: Callable[[], _P]
    ) -> _P:
        """Connects to the target; the exchange says meanwhile who owes, and keeps the times.

        Raises:
            DnsError, DnsTimeout, ConnectionRefused, DestinationIpUnroutable, ConnectionTimeout,
            ConnectionTerminated: 502 or 504.
            ConnectionLimitReached: 503, neutral: no descriptor or no port of ours was left.
        """
        began = self._clock()
        exchange.wait_for(Awaited.ADDRESS, timeouts.dns, began)
        infos = await self._resolver.resolve(target.host, target.port)
        resolved = self._clock()
        exchange.dns_s = resolved - began
        exchange.wait_for(Awaited.CONNECTION, timeouts.connect, resolved)
        try:
            self._racing += 1
            delay_s = _ATTEMPT_DELAY_S if self._racing <= MAX_RACES else None
            try:
                sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=delay_s)
            finally:
                self._racing -= 1
            notice(sock, max(timeouts.body_idle, timeouts.head))
            _, protocol = await asyncio.get_running_loop().create_connection(factory, sock=sock)
        except OSError as error:
            raise _translated(error) from error
        connected = self._clock()
        exchange.connect_s = connected - resolved
        exchange.wait_over(connected)
        return protocol


def _translated(error: OSError) -> ProxyError:
    if error.errno in _LOCAL:
        return ConnectionLimitReached("no descriptor or port is left", reason="local_limit")
    known = _TRANSLATED.get(error.errno)
    if known is None:
        return DestinationIpUnroutable("no way leads to the address of the upstream")
    return known(f"the upstream's address answered: {errno.errorcode[error.errno or 0]}")
