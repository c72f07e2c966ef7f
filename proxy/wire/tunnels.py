"""The account of tunnels: how many there are, how many of them one host has, and how they come about.

A tunnel may stand for `tunnel_idle` and do nothing. One host whose upstream falls silent would so take all
places, and cut off every other host; a quarter of them is therefore kept for the others.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from proxy.core.errors import ConnectionTerminated, LocalLimit
from proxy.core.exchange import Source
from proxy.core.opening import Opening
from proxy.core.policy import Limits
from proxy.wire.beginning import Beginning
from proxy.wire.call import Call
from proxy.wire.dialer import Dialer
from proxy.wire.pool import Pool
from proxy.wire.responses import CONNECT_ESTABLISHED
from proxy.wire.succession import Succession
from proxy.wire.tunnel import Tunnel
from proxy.wire.vanished import allow_stalling
from proxy.wire.written import CLOSE

# The share of `limits.max_tunnels` that no host gets alone: one in so many.
KEPT_FOR_OTHERS = 4


class Tunnels:
    """Carries tunnels; knows how many there are.

    Args:
        dialer: connects to their targets.
        pool: gets the connections on which HTTP is to be spoken.
        clock: monotonic seconds.

    Attributes:
        open: all of them, those that are still being connected included.
        of_host: how many each host has, by the key of its circuit; none has 0.
    """

    def __init__(self, dialer: Dialer, pool: Pool, clock: Callable[[], float]) -> None:
        self._dialer = dialer
        self._pool = pool
        self._clock = clock
        self.open = 0
        self.of_host: dict[str, int] = {}

    def configure(self, limits: Limits) -> None:
        """Goes on with `max_tunnels` and `max_head`; tunnels that stand stay, even if there are too many."""
        self._max_head = limits.max_head
        self._most = limits.max_tunnels
        self._most_of_host = limits.max_tunnels - limits.max_tunnels // KEPT_FOR_OTHERS

    def __repr__(self) -> str:
        return f"<Tunnels {self.open} of {self._most}, to {len(self.of_host)} hosts>"

    async def carry(self, call: Call) -> web.StreamResponse:
        """Connects to the target of a CONNECT and relays until the end.

        Raises:
            LocalLimit: 503, there are `limits.max_tunnels`, or the host has its share of them.
            ProxyError: from the dialer, before anything was answered; afterwards the tunnel just closes.
        """
        host = call.target.circuit
        self._take(host)
        try:
            tunnel = await self._dialer.connect(
                call.exchange,
                call.target,
                call.policy,
                lambda: Tunnel(call, self._clock, self._beginning(call)),
            )
            call.permit.connected(self._clock())
            # For up to an hour nobody asks for the fields of the request any more.
            del call.head
            call.exchange.status = 200
            call.exchange.source = Source.PROXY
            with tunnel:
                await tunnel.run(CONNECT_ESTABLISHED if call.opening is None else b"")
                if tunnel.is_http:
                    return self._succeeded(call, tunnel)
        finally:
            self._give_back(host)
        return CLOSE

    def _beginning(self, call: Call) -> Beginning:
        opening = call.opening or Opening(self._max_head)
        return Beginning(call.exchange, call.target, call.policy.acl, opening)

    def _succeeded(self, call: Call, tunnel: Tunnel) -> web.StreamResponse:
        """Hands both connections of a tunnel on to those who see HTTP."""
        client = call.client
        upstream, received = tunnel.release()
        if upstream is not None:
            target = call.target._replace(scheme="http")
            self._pool.adopt(upstream, target, call.policy)
        if client.transport is None:
            return CLOSE
        return Succession(client, client.naming.inside(call, "http"), client.transport, received)

    async def carry_on(
        self,
        call: Call,
        hand_over: Callable[[asyncio.BaseProtocol], asyncio.Transport | None],
        answer: bytes,
        tail: bytes,
    ) -> None:
        """Relays what was an exchange over HTTP and is one of bytes now (101), until the end.

        Args:
            call: its permit has settled.
            hand_over: gives the tunnel the upstream's connection.
            answer: the head of the 101.
            tail: what the upstream has sent behind it.

        Raises:
            LocalLimit: 503, there are `limits.max_tunnels`, or the host has its share of them.
            ProxyError: the upstream has gone, or broke the connection.
        """
        host = call.target.circuit
        self._take(host)
        try:
            with Tunnel(call, self._clock) as tunnel:
                transport = hand_over(tunnel)
                if transport is None:
                    raise ConnectionTerminated("the upstream closed the connection at once")
                tunnel.connection_made(transport)
                for side in (call.client.transport, transport):
                    allow_stalling(side)
                if tail:
                    tunnel.data_received(tail)
                await tunnel.run(answer)
        finally:
            self._give_back(host)

    def _take(self, host: str) -> None:
        if self.open >= self._most:
            raise LocalLimit("limits.max_tunnels tunnels are open")
        of_host = self.of_host.get(host, 0)
        if of_host >= self._most_of_host:
            raise LocalLimit(
                f"the upstream has {of_host} tunnels, and a quarter of limits.max_tunnels is kept for others"
            )
        self.open += 1
        self.of_host[host] = of_host + 1

    def _give_back(self, host: str) -> None:
        self.open -= 1
        left = self.of_host[host] - 1
        if left:
            self.of_host[host] = left
        else:
            del self.of_host[host]
