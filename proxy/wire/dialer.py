"""Connections to upstreams: resolve, vet the addresses, then race those that may be called (RFC 8305).

Nothing is connected to that has not been vetted, not even for a moment: the sockets get the very addresses
that the rules have seen.
"""

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import TypeVar
from weakref import WeakKeyDictionary

import aiohappyeyeballs

from proxy.core.acl import Acl
from proxy.core.budget import MAX_RACES
from proxy.core.errors import (
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    DestinationIpUnroutable,
    LocalLimit,
    ProxyError,
)
from proxy.core.exchange import Awaited, Exchange
from proxy.core.outcome import FailureKind, failed
from proxy.core.policies import UpstreamPolicy
from proxy.core.target import Target
from proxy.wire.resolver import AddressInfo, Resolver
from proxy.wire.tls import TlsTransport
from proxy.wire.tls_errors import of_upstream
from proxy.wire.unsent import keep_little
from proxy.wire.upstream_tls import UpstreamTls
from proxy.wire.vanished import notice

# RFC 8305 section 5: the recommended delay before the next address is tried as well.
_ATTEMPT_DELAY_S = 0.25
# Whoever answers for a name could have us open a socket for each of very many addresses.
_MOST_OF_A_FAMILY = 4

# What the kernel answers to connect(), and to socket() where the fault is ours.
_LOCAL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
# Of several answers the first of these counts: it says most of the upstream.
_TRANSLATED: dict[int, type[ProxyError]] = {
    errno.ECONNREFUSED: ConnectionRefused,
    errno.ETIMEDOUT: ConnectionTimeout,
    errno.ECONNRESET: ConnectionTerminated,
}
# Where addresses fail in different ways, aiohappyeyeballs says so in words only.
_ERRNO = re.compile(r"\[Errno ([0-9]+)\]")

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class Dialer:
    """Makes connections.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._upstream_tls: UpstreamTls
        # For exchanges that began under rules that have gone since; as long as one of them lasts.
        self._former_tls: WeakKeyDictionary[Acl, UpstreamTls] = WeakKeyDictionary()
        self._clock = clock
        self._racing = 0

    def configure(self, resolver: Resolver, upstream_tls: UpstreamTls, gone: Iterable[Acl] = ()) -> None:
        """Goes on with this resolver and this TLS.

        Args:
            resolver: names to addresses.
            upstream_tls: how TLS is spoken.
            gone: the rules that no new exchange gets: whoever has them goes on as before.
        """
        for acl in gone:
            self._former_tls[acl] = self._upstream_tls
        self._resolver, self._upstream_tls = resolver, upstream_tls

    async def connect(
        self, exchange: Exchange, target: Target, policy: UpstreamPolicy, factory: Callable[[], _P]
    ) -> _P:
        """Connects to the target; the exchange says meanwhile who owes, and keeps the times.

        Raises:
            DnsError, DnsTimeout, ConnectionRefused, DestinationIpUnroutable, ConnectionTimeout,
            ConnectionTerminated: 502 or 504.
            TlsCertificateError, TlsProtocolError, TlsAlertReceived: 502, where the target is over TLS.
            DestinationIpProhibited: 502, neutral: none of its addresses may be called.
            LocalLimit: 503, neutral: no descriptor or no port of ours was left.
        """
        is_tls = target.scheme == "https"
        if is_tls:
            upstream_tls = self._former_tls.get(policy.acl, self._upstream_tls)
            await upstream_tls.ready(policy.tls)
        began = self._clock()
        timeouts = policy.timeouts
        exchange.wait_for(Awaited.ADDRESS, timeouts.dns, began)
        infos = await self._resolver.resolve(target.host, target.port, exchange.deadline - began)
        resolved = self._clock()
        exchange.dns_s = resolved - began
        infos = _vetted(exchange, target, policy, infos)
        exchange.wait_for(Awaited.CONNECTION, timeouts.connect, resolved)
        try:
            sock = await self._race(infos)
            _refuse_itself(sock)
            notice(sock, max(timeouts.body_idle, timeouts.head))
            loop = asyncio.get_running_loop()
            if is_tls:
                tls = upstream_tls.transport(policy.tls, target.host)
                transport, _ = await loop.create_connection(lambda: tls, sock=sock)
            else:
                transport, protocol = await loop.create_connection(factory, sock=sock)
        except OSError as error:
            raise _translated(error) from error
        keep_little(transport)
        connected = self._clock()
        exchange.connect_s = connected - resolved
        if is_tls:
            exchange.wait_for(Awaited.TLS, timeouts.tls, connected)
            protocol = await _over(tls, factory)
            shaken = self._clock()
            exchange.tls_s = shaken - connected
            connected = shaken
        exchange.wait_over(connected)
        return protocol

    async def _race(self, infos: list[AddressInfo]) -> socket.socket:
        """The first connection that stands, to one of these addresses."""
        if len(infos) == 1:
            return await aiohappyeyeballs.start_connection(infos)
        delay_s = _ATTEMPT_DELAY_S if self._racing < MAX_RACES else None
        self._racing += 1
        try:
            return await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=delay_s)
        finally:
            self._racing -= 1


async def _over(tls: TlsTransport, factory: Callable[[], _P]) -> _P:
    """Shakes hands with the upstream, and has a protocol speak to it."""
    try:
        await tls.handshake()
    except ssl.SSLError as error:
        raise of_upstream(error) from error
    except ConnectionError as error:
        details = "the upstream closed the connection in the TLS handshake"
        raise ConnectionTerminated(details, outcome=failed(FailureKind.TLS)) from error
    protocol = factory()
    tls.carry(protocol)
    return protocol


def _vetted(
    exchange: Exchange, target: Target, policy: UpstreamPolicy, infos: list[AddressInfo]
) -> list[AddressInfo]:
    """The addresses that may be called, and of each family only so many."""
    vetted: dict[int, list[AddressInfo]] = {}
    refusal = None
    for info in infos:
        if len(vetted.get(info[0], ())) == _MOST_OF_A_FAMILY:
            continue
        denied = policy.acl.vet(info[4][0], target.port)
        if denied is None:
            vetted.setdefault(info[0], []).append(info)
        elif refusal is None:
            refusal = denied
    if not vetted and refusal is not None:
        # There is no connection whose address the log could tell.
        exchange.address = infos[0][4][0]
        raise refusal
    return [info for family in vetted.values() for info in family]


def _refuse_itself(sock: socket.socket) -> None:
    """Undoes a connection that has met itself: its own port was the one it was to connect to (RFC 9293, 3.5).

    That happens where nobody listens on a port of this machine that the kernel may choose for a client.

    Raises:
        OSError: nobody listens there.
    """
    try:
        peer = sock.getpeername()
    except OSError:
        # The peer has reset it already. Whoever reads from it will be told.
        return
    if sock.getsockname() == peer:
        sock.close()
        raise OSError(errno.ECONNREFUSED, "the connection has met itself")


def _translated(error: OSError) -> ProxyError:
    numbers = {error.errno} if error.errno is not None else {int(n) for n in _ERRNO.findall(str(error))}
    if not numbers.isdisjoint(_LOCAL):
        return LocalLimit("no descriptor or port is left")
    for number, known in _TRANSLATED.items():
        if number in numbers:
            return known(f"the upstream's address answered: {errno.errorcode[number]}")
    return DestinationIpUnroutable("no way leads to the address of the upstream")
