"""Kept-alive connections to upstreams.

Only idle connections are bounded (`idle_per_host`, `idle_total`; the longest idle is closed first): how many
are in use is bounded by who may begin an exchange. There is no queue to wait in.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from proxy.core.acl import Acl
from proxy.core.exchange import Exchange
from proxy.core.policies import Policies, UpstreamPolicy
from proxy.core.policy import Limits
from proxy.core.target import Target
from proxy.wire.dialer import Dialer
from proxy.wire.upstream import UpstreamConnection

# Scheme, host, port and rules.
_Key = tuple[str, str, int, Acl]


class Pool:
    """The idle connections of the process, and the way to a new one.

    Args:
        dialer: makes new connections.
        clock: monotonic seconds.
    """

    def __init__(self, dialer: Dialer, clock: Callable[[], float]) -> None:
        self._dialer = dialer
        self.clock = clock
        # Longest idle first; the same connections by key, the latest last.
        self._idle: OrderedDict[UpstreamConnection, None] = OrderedDict()
        self._by_key: dict[_Key, list[UpstreamConnection]] = {}

    def __repr__(self) -> str:
        return f"<Pool idle={len(self._idle)} hosts={len(self._by_key)}>"

    @property
    def idle(self) -> int:
        """How many connections rest."""
        return len(self._idle)

    def take(
        self, exchange: Exchange, target: Target, policy: UpstreamPolicy, now: float
    ) -> UpstreamConnection | None:
        """Lends a kept-alive connection for one exchange, if there is one that may still be used."""
        resting = self._by_key.get(_key(target, policy))
        while resting:
            connection = resting[-1]
            self.forget(connection)
            if (
                connection.idle_until > now
                and not connection.is_closing
                and _may_be_called(connection, target, policy)
            ):
                exchange.reused = connection.reused
                exchange.address = connection.address
                return connection
            # The sweep has not come round yet, or it is ending, or leads where nobody may go any more.
            connection.abort()
        return None

    async def dial(self, exchange: Exchange, target: Target, policy: UpstreamPolicy) -> UpstreamConnection:
        """Lends a new connection for one exchange; see `Dialer.connect`."""
        key = _key(target, policy)
        # Of the kept-alive connection that has failed before this one.
        exchange.reused, exchange.address = False, None
        connection = await self._dialer.connect(
            exchange, target, policy, lambda: UpstreamConnection(self, key)
        )
        exchange.address = connection.address
        return connection

    def take_back(self, connection: UpstreamConnection) -> None:
        """Ends a loan: the connection rests if it is fit for another exchange, else it ends."""
        if not connection.reusable or not self._may_be_lent(_key_of(connection)):
            connection.abort()
            return
        connection.idle_until = self.clock() + connection.may_rest_s(self._idle_s)
        connection.rest()
        self._keep(connection)

    def configure(self, limits: Limits, upstream_idle_s: float, policies: Policies) -> None:
        """Goes on with these settings: closes what may not be lent by them, or is too much.

        Args:
            limits: `idle_per_host` and `idle_total`.
            upstream_idle_s: for how long a connection may rest, at most.
            policies: the rules of each upstream.
        """
        self._limits, self._idle_s = limits, upstream_idle_s
        # None while all connections were made by those that are in force.
        self._policies: Policies | None = None if policies.are_the_first else policies
        idle_until = self.clock() + upstream_idle_s
        for connection in self._idle:
            connection.idle_until = min(connection.idle_until, idle_until)
        for key in [key for key in self._by_key if not self._may_be_lent(key)]:
            for connection in tuple(self._by_key[key]):
                self._drop(connection)
        for resting in tuple(self._by_key.values()):
            for connection in resting[: max(0, len(resting) - limits.idle_per_host)]:
                self._drop(connection)
        while len(self._idle) > limits.idle_total:
            self._drop(next(iter(self._idle)))

    def _may_be_lent(self, key: _Key) -> bool:
        """Whether the rules by which a connection was made are still those of its upstream."""
        _, host, port, acl = key
        return self._policies is None or self._policies.is_under(acl, host, port)

    def adopt(self, transport: asyncio.Transport, target: Target, policy: UpstreamPolicy) -> None:
        """Keeps a connection that a tunnel has made, and that has carried nothing yet."""
        connection = UpstreamConnection(self, _key(target, policy))
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.idle_until = self.clock() + self._idle_s
        transport.resume_reading()
        self._keep(connection)

    def _keep(self, connection: UpstreamConnection) -> None:
        self._idle[connection] = None
        resting = self._by_key.setdefault(_key_of(connection), [])
        resting.append(connection)
        if len(resting) > self._limits.idle_per_host:
            self._drop(resting[0])
        if len(self._idle) > self._limits.idle_total:
            self._drop(next(iter(self._idle)))

    def sweep(self, now: float) -> None:
        """Closes the connections that have rested for as long as they may."""
        # Not all may rest equally long, so the order of resting says nothing of that.
        for connection in [resting for resting in self._idle if resting.idle_until <= now]:
            self._drop(connection)

    def close(self) -> None:
        """Closes all idle connections."""
        while self._idle:
            self._drop(next(iter(self._idle)))

    def forget(self, connection: UpstreamConnection) -> None:
        """Lets go of a connection that has ended, or is lent; one that does not rest is unknown."""
        if connection in self._idle:
            del self._idle[connection]
            key = _key_of(connection)
            resting = self._by_key[key]
            resting.remove(connection)
            if not resting:
                del self._by_key[key]

    def _drop(self, connection: UpstreamConnection) -> None:
        self.forget(connection)
        connection.abort()


def _may_be_called(connection: UpstreamConnection, target: Target, policy: UpstreamPolicy) -> bool:
    return connection.address is not None and policy.acl.vet(connection.address, target.port) is None


def _key_of(connection: UpstreamConnection) -> _Key:
    return cast("_Key", connection.key)  # of whatever kind its owner likes


def _key(target: Target, policy: UpstreamPolicy) -> _Key:
    """Whose connections are alike: what may be called under one set of rules may not under another.

    Each set of rules belongs to one entry of the settings, and so to one way to speak TLS.
    """
    return target.scheme, target.host, target.port, policy.acl
