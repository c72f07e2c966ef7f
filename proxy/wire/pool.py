"""Kept-alive connections to upstreams.

Only idle connections are bounded (`idle_per_host`, `idle_total`; the longest idle is closed first): how many
are in use is bounded by who may begin an exchange. There is no queue to wait in.
"""

from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType

from proxy.core.exchange import Exchange
from proxy.core.policy import Limits, Timeouts
from proxy.core.target import Target
from proxy.wire.dialer import Dialer
from proxy.wire.upstream import UpstreamConnection

Key = tuple[str, str, int]


class Pool:
    """The idle connections of the process, and the way to a new one.

    Args:
        dialer: makes new connections.
        clock: monotonic seconds.
        limits: `idle_per_host` and `idle_total`.
        upstream_idle_s: for how long a connection may rest.
    """

    def __init__(
        self, dialer: Dialer, clock: Callable[[], float], limits: Limits, upstream_idle_s: float
    ) -> None:
        self._dialer = dialer
        self._clock = clock
        self._limits = limits
        self._idle_s = upstream_idle_s
        # Longest idle first, with the time since when; the same connections by key, the latest last.
        self._idle: OrderedDict[UpstreamConnection, tuple[Key, float]] = OrderedDict()
        self._by_key: dict[Key, list[UpstreamConnection]] = {}

    def __repr__(self) -> str:
        return f"<Pool idle={len(self._idle)} hosts={len(self._by_key)}>"

    @property
    def idle(self) -> int:
        """How many connections rest."""
        return len(self._idle)

    async def connect(self, exchange: Exchange, target: Target, timeouts: Timeouts) -> "Loan":
        """Lends a connection for one exchange, a kept-alive one if there is one; see `Dialer.connect`."""
        key = (target.scheme, target.host, target.port)
        connection = self._take(key)
        if connection is None:
            connection = await self._dialer.connect(exchange, target, timeouts, UpstreamConnection)
        exchange.reused = connection.reused
        exchange.address = connection.address
        return Loan(self, key, connection)

    def take_back(self, key: Key, connection: UpstreamConnection) -> None:
        """Ends a loan: the connection rests if it is fit for another exchange, else it ends."""
        if not connection.reusable:
            connection.abort()
            return
        connection.rest()
        connection.on_idle_end = self._forget
        self._idle[connection] = (key, self._clock())
        resting = self._by_key.setdefault(key, [])
        resting.append(connection)
        if len(resting) > self._limits.idle_per_host:
            self._drop(resting[0])
        if len(self._idle) > self._limits.idle_total:
            self._drop(next(iter(self._idle)))

    def sweep(self, now: float) -> None:
        """Closes the connections that have been idle for longer than `upstream_idle`."""
        while self._idle:
            connection, (_, since) = next(iter(self._idle.items()))
            if now - since < self._idle_s:
                return
            self._drop(connection)

    def close(self) -> None:
        """Closes all idle connections."""
        while self._idle:
            self._drop(next(iter(self._idle)))

    def _take(self, key: Key) -> UpstreamConnection | None:
        resting = self._by_key.get(key)
        if not resting:
            return None
        connection = resting[-1]
        _, since = self._idle[connection]
        if self._clock() - since >= self._idle_s:
            # The sweep has not come round yet; the others of this key are older still.
            for old in tuple(resting):
                self._drop(old)
            return None
        self._forget(connection)
        return connection

    def _drop(self, connection: UpstreamConnection) -> None:
        self._forget(connection)
        connection.abort()

    def _forget(self, connection: UpstreamConnection) -> None:
        connection.on_idle_end = None
        key, _ = self._idle.pop(connection)
        resting = self._by_key[key]
        resting.remove(connection)
        if not resting:
            del self._by_key[key]


class Loan:
    """A connection in use by one exchange; leaving the `with` gives it back."""

    __slots__ = ("_connection", "_key", "_pool")

    def __init__(self, pool: Pool, key: Key, connection: UpstreamConnection) -> None:
        self._pool = pool
        self._key = key
        self._connection = connection

    def __enter__(self) -> UpstreamConnection:
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.take_back(self._key, self._connection)
