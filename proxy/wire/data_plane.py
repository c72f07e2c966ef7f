"""What carries the traffic, as a whole: who works with whom, and which of them gets which settings.

What needs a restart comes to `DataPlane` when it is made, everything else by `configure`, at the start and at
each reload alike. No part has any other way to its settings. So one that a reload forgets does not even work
at the start, where everybody sees it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from proxy.core.acl import OwnListeners
from proxy.core.deferred import Deferred
from proxy.core.exchange import Entry, Exchange
from proxy.core.policies import Policies
from proxy.core.policy import Endpoint, Limits, Listen, Settings
from proxy.core.registry import Circuits
from proxy.core.routes import Routes
from proxy.wire import private
from proxy.wire.deadlines import Deadlines
from proxy.wire.dialer import Dialer
from proxy.wire.drain import drained, ended
from proxy.wire.fallbacks import Fallbacks
from proxy.wire.forward import Forwarding
from proxy.wire.handler import Handler, Intercept, Report
from proxy.wire.heads import Heads
from proxy.wire.intercept import Interception
from proxy.wire.listener import Clients, Listener
from proxy.wire.local import is_local
from proxy.wire.naming import Authenticate, ByRequest, ByRoute, Naming
from proxy.wire.pool import Pool
from proxy.wire.resolver import Resolver
from proxy.wire.tunnels import Tunnels
from proxy.wire.upstream_tls import UpstreamTls
from proxy.wire.vanished import notice

if TYPE_CHECKING:
    from proxy.wire.leaves import Leaves

# How long what is still at work at the end has; aiohttp takes it twice.
_LEFTOVERS_S = 0.5


@dataclass(frozen=True, slots=True)
class Provisions:
    """Settings, and what is made of them beforehand, since making it can fail or takes long.

    Attributes:
        settings: they themselves.
        policies: the same by upstream.
        resolver: asks the name servers that they name.
        upstream_tls: what upstreams are trusted by, and shown.
        leaves: certificates for what is to be intercepted; None where nothing is.
    """

    settings: Settings
    policies: Policies
    resolver: Resolver
    upstream_tls: UpstreamTls
    leaves: "Leaves | None"


class DataPlane:
    """Everything that carries traffic; make it inside a running loop, configure it, then have it listen.

    Args:
        name: of this proxy.
        listen: where clients connect.
        circuits: admit calls.
        clock: monotonic seconds.
        report: told once of each exchange at its end.
        tick: called ten times a second, with monotonic seconds.
        authenticate: tells whose token a client shows; None asks nobody.

    Attributes:
        own: our own listeners, which nobody may call.
        fallbacks: where what a circuit refuses may go instead.
        endpoints: where clients are to connect, by the keys under `listen`.
        listeners: make a client's connection, by the keys under `listen`.
    """

    def __init__(
        self,
        *,
        name: str,
        listen: Listen,
        circuits: Circuits,
        clock: Callable[[], float],
        report: Report,
        tick: Callable[[float], None],
        authenticate: Authenticate | None = None,
    ) -> None:
        self.own = OwnListeners(is_local)
        self._name = name
        self._circuits = circuits
        self._clock = clock
        self._tick = tick
        self._authenticate = authenticate
        self._provisions: Provisions | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._dialer = Dialer(clock)
        self.pool = Pool(self._dialer, clock)
        self.tunnels = Tunnels(self._dialer, self.pool, clock)
        self.fallbacks = Fallbacks()
        self._forwarding = Forwarding(self.pool, self.tunnels, self.fallbacks, clock)
        self._interception: Interception | None = None
        self.deadlines = Deadlines(clock, self._sweep)
        self.handler = Handler(
            name=name,
            circuits=circuits,
            deadlines=self.deadlines,
            carries={
                Entry.FORWARD: self._forwarding.carry,
                Entry.REVERSE: self._forwarding.carry,
                Entry.INTERCEPTED: self._forwarding.carry,
                Entry.DEFERRED: self._forwarding.carry,
                Entry.TUNNEL: self.tunnels.carry,
            },
            report=report,
            fallbacks=self.fallbacks,
            clock=clock,
        )
        self.clients = Clients(self.handler, clock())
        self._by_route = ByRoute()
        self.endpoints = {"proxy": listen.proxy}
        if listen.reverse is not None:
            self.endpoints["reverse"] = listen.reverse
        self.listeners = {
            key: Listener(self.handler.handle, self.handler, self.clients) for key in self.endpoints
        }
        self._servers: dict[str, asyncio.Server] = {}

    def configure(self, provisions: Provisions) -> None:
        """Has every part go on with these settings, in one go: nothing here waits, and nothing fails."""
        settings, policies = provisions.settings, provisions.policies
        limits, timeouts = settings.limits, settings.timeouts
        former, self._provisions = self._provisions, provisions
        gone = set() if former is None else former.policies.acls - policies.acls
        self._circuits.configure(limits, lambda key: policies.of_circuit(key).circuit, self._clock())
        self._dialer.configure(provisions.resolver, provisions.upstream_tls, gone)
        self.pool.configure(limits, timeouts.upstream_idle, policies)
        self.tunnels.configure(limits)
        self._forwarding.configure(limits, Heads(self._name, via=settings.via))
        self.handler.configure(policies, self._intercept(provisions.leaves, limits))
        self.clients.configure(limits, timeouts)
        self._by_route.routes = Routes(settings.routes)
        self._drain = settings.drain
        for key, listener in self.listeners.items():
            listener.configure(limits, self._naming(key, limits))
        for server in self._servers.values():
            self._notice(server, policies)
        if former is not None and former.resolver is not provisions.resolver:
            self._retire(former.resolver)

    def _intercept(self, leaves: "Leaves | None", limits: Limits) -> Intercept | None:
        """How a CONNECT is opened whose content is to be seen, once there is a CA."""
        if leaves is None:
            return None
        if self._interception is None:
            self._interception = Interception(leaves, self._clock)
        self._interception.configure(limits)
        return self._interception.open

    def _naming(self, key: str, limits: Limits) -> Naming:
        if key == "reverse":
            # Routes lead only where the configuration says, so whoever may call them need not be asked.
            return Naming(self._name, limits.max_head, self._by_route)
        return Naming(self._name, limits.max_head, ByRequest(), self._authenticate)

    def _notice(self, server: asyncio.Server, policies: Policies) -> None:
        for listening in server.sockets:
            notice(listening, policies.longest_body_idle_s)

    def _retire(self, resolver: Resolver) -> None:
        """Has a resolver end when nobody waits for it any more."""
        retiring = asyncio.get_running_loop().create_task(resolver.retire(), name="resolver retires")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    @property
    def provisions(self) -> Provisions:
        """What is in force, once configured."""
        if self._provisions is None:
            raise RuntimeError("not configured yet")
        return self._provisions

    @property
    def addresses(self) -> dict[str, Endpoint]:
        """Where clients connect, by the keys under `listen`, once bound; with the ports left open."""
        return {
            key: Endpoint(self.endpoints[key].host, int(server.sockets[0].getsockname()[1]))
            for key, server in self._servers.items()
        }

    @property
    def ports(self) -> set[int]:
        """All that are bound: a name such as localhost may have several addresses."""
        sockets = (listening for server in self._servers.values() for listening in server.sockets)
        return {int(listening.getsockname()[1]) for listening in sockets}

    async def bind(self, key: str) -> None:
        """Takes an address, but no client yet.

        Args:
            key: under `listen`.

        Raises:
            OSError: it is in use or is not ours.
        """
        endpoint = self.endpoints[key]
        server = await asyncio.get_running_loop().create_server(
            self.listeners[key], endpoint.host, endpoint.port, backlog=1024, start_serving=False
        )
        self._servers[key] = server
        self._notice(server, self.provisions.policies)

    async def serve(self, key: str) -> None:
        """Takes clients.

        Raises:
            OSError: another process listens there since it was bound.
        """
        await self._servers[key].start_serving()

    async def send(self, request: Deferred) -> Exchange | None:
        """Sends a request that was kept for later on the line; see `private.py`."""
        limits = self.provisions.settings.limits
        naming = partial(Naming, self._name, limits.max_head)
        return await private.send(request, self.listeners["proxy"].connection, naming)

    async def drain(self) -> None:
        """Waits until nothing is under way, or for `drain.timeout`; see `drain.py`."""
        await drained(self.handler, self.clients, self._drain, self._clock)

    async def stop(self) -> int:
        """Ends everything; see `drain.ended`, also on what is returned."""
        servers, now = self._servers.values(), self._clock()
        idle_tunnels = await ended(servers, self.handler, self.clients, self.deadlines, now)
        for listener in self.listeners.values():
            await listener.shutdown(_LEFTOVERS_S)
        self.deadlines.stop()
        self.pool.close()
        if self._provisions is not None:
            if self._provisions.leaves is not None:
                self._provisions.leaves.close()
            await self._provisions.resolver.close()
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        return idle_tunnels

    def _sweep(self, now: float) -> None:
        self.clients.sweep(now)
        self.pool.sweep(now)
        self._circuits.advance(now)
        self._tick(now)
