"""The composition root: builds the parts, listens, drains. It alone knows core, wire and control."""

import asyncio
import gc
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from proxy import files
from proxy.control import log
from proxy.control.access_log import AccessLog
from proxy.control.admin import application
from proxy.control.admin_token import MadeToken
from proxy.control.api import Api
from proxy.control.circuit_views import WallTime
from proxy.control.credentials_file import CredentialsFile
from proxy.control.events import Events
from proxy.control.history import History
from proxy.control.metrics import Metrics
from proxy.control.reload import Reloading, Sources
from proxy.control.state_file import StateFile
from proxy.control.trust import Trust
from proxy.core.acl import OwnListeners
from proxy.core.budget import Clamped, descriptors, fitted
from proxy.core.exchange import Entry, Exchange
from proxy.core.policies import Policies, ways_of
from proxy.core.policy import CircuitPolicy, Endpoint, Limits, Settings
from proxy.core.registry import Circuits
from proxy.core.routes import Routes
from proxy.wire.deadlines import Deadlines
from proxy.wire.descriptors import raise_limit
from proxy.wire.dialer import Dialer
from proxy.wire.drain import drained, ended
from proxy.wire.forward import Forwarding
from proxy.wire.handler import Handler, Intercept
from proxy.wire.heads import Heads
from proxy.wire.intercept import Interception
from proxy.wire.listener import Clients, Listener
from proxy.wire.local import is_local
from proxy.wire.naming import ByRequest, ByRoute, Naming
from proxy.wire.pool import Pool
from proxy.wire.resolver import Resolver
from proxy.wire.tunnels import Tunnels
from proxy.wire.vanished import notice

if TYPE_CHECKING:
    from proxy.wire.leaves import Leaves

# The signals that end the process.
ENDINGS = (signal.SIGTERM, signal.SIGINT)
# An exchange leaves no cyclic garbage behind, so there is little to find; by default it would be looked for
# with every tenth request, among all that 64 clients have under way.
_GC_THRESHOLDS = (10_000, 20, 50)
# How long what is still at work at the end has, at the admin server and in aiohttp; either takes it twice.
_LEFTOVERS_S = 0.5


class ListenError(Exception):
    """An address cannot be listened on."""


class Sidecar:
    """One proxy with its admin server; make and use it inside a running loop.

    Args:
        settings: the configuration.
        clock: monotonic seconds.
        wall_clock: seconds since 1970, for what is kept over a restart.
        draw: a number from 0 to 1 at random, for the jitter of openings.
        on_exchange: told of each exchange at its end, beside metrics and log; must not raise.
        reloading: reads the configuration again; without one that never happens.
        available: how many descriptors there are, to which limits are lowered.

    Raises:
        ConfigError: a file that the settings name cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
        on_exchange: Callable[[Exchange], None] | None = None,
        reloading: Reloading | None = None,
        available: int | None = None,
    ) -> None:
        self._available = available
        self._clamped: tuple[Clamped, ...] = ()
        self.settings = settings = self._fitted(settings)
        self.reloading = reloading or Reloading()
        self.name = settings.name or f"breaker-proxy-{secrets.token_hex(4)}"
        path = settings.listen.credentials_file
        self._credentials = None if path is None else CredentialsFile(path)
        self._clock = clock
        self._on_exchange = on_exchange
        self._draining = False
        self._servers: dict[str, asyncio.Server] = {}

        iso = WallTime(clock, time.time)
        self._events = Events(iso)
        history = History(lambda key: self.circuits.get(key))  # noqa: PLW0108 -- made below
        self.circuits = Circuits(
            settings.limits,
            draw=draw,
            # The past before the events: who hears of one finds it there.
            listeners=(log.circuit_changed, history.add, self._events.add),
            on_fault=log.listener_failed,
        )
        self._own = OwnListeners(is_local)
        self._policies = Policies(settings, self._own)
        self._state = None
        if settings.state_file is not None:
            self._state = StateFile(settings.state_file, self.circuits, self._circuit_policy, wall_clock)
        self._resolver = Resolver(settings.dns, self._policies.longest_dns_s, clock)
        self._retiring: set[asyncio.Task[None]] = set()
        self._upstream_tls = files.upstream_tls(ways_of(settings))
        self._dialer = Dialer(self._resolver, clock, self._upstream_tls)
        self.pool = Pool(self._dialer, clock, settings.limits, settings.timeouts.upstream_idle)
        heads = Heads(self.name, via=settings.via)
        self.tunnels = Tunnels(self._dialer, self.pool, clock, settings.limits)
        self._forwarding = forwarding = Forwarding(self.pool, self.tunnels, clock, settings.limits, heads)
        self.deadlines = Deadlines(clock, self._tick)
        self._leaves = files.leaves(settings)
        self._interception: Interception | None = None
        self.handler = Handler(
            name=self.name,
            circuits=self.circuits,
            policies=self._policies,
            deadlines=self.deadlines,
            carries={
                Entry.FORWARD: forwarding.carry,
                Entry.REVERSE: forwarding.carry,
                Entry.INTERCEPTED: forwarding.carry,
                Entry.TUNNEL: self.tunnels.carry,
            },
            intercept=self._intercept(settings.limits),
            report=self._report,
            clock=clock,
        )
        self.clients = Clients(self.handler, settings.limits, settings.timeouts, clock())
        self._by_route = ByRoute(Routes(settings.routes))
        self.listeners = {"listen.proxy": self._listener("listen.proxy")}
        if settings.listen.reverse is not None:
            self.listeners["listen.reverse"] = self._listener("listen.reverse")
        self._access = AccessLog(settings.log, settings.intercept.directory)
        self.metrics = Metrics(
            self.circuits,
            clock=clock,
            max_circuits=settings.metrics.max_circuits,
            in_flight=lambda: self.handler.in_flight,
            tunnels=lambda: self.tunnels.open,
            idle_connections=lambda: self.pool.idle,
            dns_lookups=lambda: self._resolver.lookups,
            reload_succeeded=lambda: self.reloading.succeeded,
        )
        api = Api(
            name=self.name,
            circuits=self.circuits,
            history=history,
            events=self._events,
            settings=lambda: self.settings,
            policies=lambda: self._policies,
            clock=clock,
            iso=iso,
            started=clock(),
        )
        self._token = files.token(settings, clock)
        self._admin = web.AppRunner(
            application(
                self.metrics,
                self._readiness,
                api,
                Trust(self._token, settings.admin.hosts),
                remark=self._remark,
            ),
            handle_signals=False,
            access_log=None,
            shutdown_timeout=_LEFTOVERS_S,
        )

    def _fitted(self, settings: Settings) -> Settings:
        """The settings with limits that the descriptors suffice for; where that lowers any, it is told."""
        if self._available is None:
            return settings
        limits, clamped = fitted(settings.limits, self._available)
        if clamped and clamped != self._clamped:
            log.limits_clamped(clamped, self._available, descriptors(settings.limits))
        self._clamped = clamped
        return replace(settings, limits=limits)

    def _intercept(self, limits: Limits) -> Intercept | None:
        """How a CONNECT is opened whose content is to be seen, once there is a CA."""
        if self._leaves is None:
            return None
        if self._interception is None:
            self._interception = Interception(self._leaves, limits, self._clock)
        self._interception.reload(limits)
        return self._interception.open

    def _listener(self, key: str) -> Listener:
        limits = self.settings.limits
        return Listener(self.handler.handle, self.handler, self.clients, limits, self._naming(key))

    def _naming(self, key: str) -> Naming:
        max_head = self.settings.limits.max_head
        if key == "listen.reverse":
            # Routes lead only where the configuration says, so whoever may call them need not be asked.
            return Naming(self.name, max_head, self._by_route)
        authenticate = None if self._credentials is None else self._credentials.check
        return Naming(self.name, max_head, ByRequest(), authenticate)

    @property
    def proxy_port(self) -> int:
        """The port that clients connect to, once started."""
        return _port(self._servers.get("listen.proxy"))

    @property
    def reverse_port(self) -> int:
        """The port that clients of routes connect to, once started; 0 without one."""
        return _port(self._servers.get("listen.reverse"))

    @property
    def addresses(self) -> dict[str, Endpoint]:
        """Where it listens, by the keys under `listen`, once started; with the ports that were left open."""
        listen = self.settings.listen
        addresses = {
            "proxy": Endpoint(listen.proxy.host, self.proxy_port),
            "admin": Endpoint(listen.admin.host, self.admin_port),
        }
        if listen.reverse is not None:
            addresses["reverse"] = Endpoint(listen.reverse.host, self.reverse_port)
        return addresses

    @property
    def admin_port(self) -> int:
        """The port of the admin server, once started."""
        return int(self._admin.addresses[0][1])

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            ListenError: an address is in use or is not ours.
        """
        listen = self.settings.listen
        endpoints = {"listen.proxy": listen.proxy}
        if listen.reverse is not None:
            endpoints["listen.reverse"] = listen.reverse
        loop = asyncio.get_running_loop()
        await self._admin.setup()
        try:
            with _listening("listen.admin", listen.admin):
                await web.TCPSite(self._admin, listen.admin.host, listen.admin.port).start()
            if isinstance(self._token, MadeToken):
                self._token.write(self.admin_port, os.environ)
            bound = list(self._admin.addresses)
            for key, listener in self.listeners.items():
                endpoint = endpoints[key]
                with _listening(key, endpoint):
                    server = self._servers[key] = await loop.create_server(
                        listener, endpoint.host, endpoint.port, backlog=1024, start_serving=False
                    )
                for listening in server.sockets:
                    notice(listening, self._policies.longest_body_idle_s)
                    bound.append(listening.getsockname())
            # Before the first client comes: that one may not call us either.
            self._own.ports = frozenset(int(address[1]) for address in bound)
            # Nor what was dead before. And not sooner: where the addresses are taken, the file is another's.
            if self._state is not None:
                self._state.restore(self._clock())
            for key, server in self._servers.items():
                with _listening(key, endpoints[key]):
                    await server.start_serving()
        except ListenError:
            await self.stop()
            raise
        self.deadlines.start()
        self.reloading.start(self.adopt)

    async def adopt(self, settings: Settings) -> None:
        """Goes on with other settings, wholly or not at all; what needs a restart must be as it was.

        What can fail comes first, and waits where it takes long; then nothing waits and nothing can fail. An
        exchange under way keeps the settings that it has found.

        Raises:
            ConfigError: nothing has changed.
        """
        named = await asyncio.to_thread(files.check, settings, self._upstream_tls)
        policies = await asyncio.to_thread(
            Policies, settings, self._own, former=self._policies, reread=named.upstream_tls.reread
        )
        resolver = self._resolver
        if (settings.dns, policies.longest_dns_s) != (self.settings.dns, self._policies.longest_dns_s):
            resolver = Resolver(settings.dns, policies.longest_dns_s, self._clock, self._resolver)
        try:
            # Last, since it writes files.
            leaves = await asyncio.to_thread(files.leaves_after, settings, self._leaves)
        except BaseException:
            if resolver is not self._resolver:
                await resolver.close()
            raise
        self._go_on(self._fitted(settings), policies, resolver, named, leaves)

    def _go_on(
        self,
        settings: Settings,
        policies: Policies,
        resolver: Resolver,
        named: files.Named,
        leaves: "Leaves | None",
    ) -> None:
        """Hands other settings to every part that keeps any, in one go."""
        limits, timeouts, now = settings.limits, settings.timeouts, self._clock()
        if settings.log.level is not self.settings.log.level:
            log.set_level(settings.log.level)
        former, self._policies = self._policies, policies
        self.settings, self._upstream_tls, self._leaves = settings, named.upstream_tls, leaves
        if resolver is not self._resolver:
            loop = asyncio.get_running_loop()
            retiring = loop.create_task(self._resolver.retire(), name="resolver retires")
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            self._resolver = resolver
        if self._credentials is not None and named.credentials is not None:
            self._credentials.reload(named.credentials)
        self.handler.reload(policies, self._intercept(limits))
        self.circuits.reload(limits, self._circuit_policy, now)
        self._dialer.reload(resolver, named.upstream_tls, former.acls - policies.acls)
        self.pool.reload(limits, timeouts.upstream_idle, policies)
        self.tunnels.reload(limits)
        self._forwarding.limits, self._forwarding.heads = limits, Heads(self.name, via=settings.via)
        self.clients.reload(limits, timeouts)
        self._by_route.routes = Routes(settings.routes)
        for key, listener in self.listeners.items():
            listener.reload(limits, self._naming(key))
        for server in self._servers.values():
            for listening in server.sockets:
                notice(listening, policies.longest_body_idle_s)
        self._access.reload(settings.log)
        self.metrics.reload(settings.metrics.max_circuits)

    async def drain(self) -> None:
        """Waits until nothing is under way, or for `drain.timeout`.

        New requests are still taken: whoever sends them has not yet noticed that we are going.
        """
        self._draining = True
        await self.reloading.close()
        await drained(self.handler, self.clients, self.settings.drain, self._clock)

    async def stop(self) -> None:
        """Ends everything: what has no answer yet gets 503 `draining`, what has begun is cut."""
        self._draining = True
        await self.reloading.close()
        servers = self._servers.values()
        # At the same time, since either may take a second.
        await asyncio.gather(
            self._admin.cleanup(), ended(servers, self.handler, self.clients, self.deadlines)
        )
        for listener in self.listeners.values():
            await listener.shutdown(_LEFTOVERS_S)
        self.deadlines.stop()
        self.pool.close()
        if self._leaves is not None:
            self._leaves.close()
        if isinstance(self._token, MadeToken):
            self._token.remove()
        await self._resolver.close()
        if self._state is not None:
            await self._state.close(self._clock())
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _tick(self, now: float) -> None:
        self.clients.sweep(now)
        self.pool.sweep(now)
        self.circuits.advance(now)
        if self._credentials is not None:
            self._credentials.look(now)
        self.reloading.look(now)
        if self._state is not None:
            self._state.look(now)

    def _circuit_policy(self, key: str) -> CircuitPolicy:
        return self._policies.of_circuit(key).circuit

    def _report(self, exchange: Exchange, now: float) -> None:
        self.metrics.observe(exchange, now)
        self._access.exchange_ended(exchange, now)
        if self._on_exchange is not None:
            self._on_exchange(exchange)

    def _readiness(self) -> str | None:
        """Why no new traffic should come, or None."""
        if self._draining:
            return "draining"
        return None if len(self._servers) == len(self.listeners) else "starting"

    def _remark(self) -> str | None:
        """What is wrong though it is ready; who reads it need not be trusted, so no more than that."""
        return None if self.reloading.succeeded else "the configuration could not be reloaded: see the log"


async def run(sources: Sources) -> None:
    """Runs until SIGTERM or SIGINT; a second one ends it at once. SIGHUP reloads the configuration.

    Raises:
        ConfigError: the configuration cannot be used, or a file that it names.
        ListenError: an address is in use or is not ours.
    """
    reloading = Reloading(sources)
    stopping = asyncio.Event()
    at_once = asyncio.Event()

    def stop() -> None:
        (at_once if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    for number in ENDINGS:
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reloading.ask)
    settings = reloading.load()
    log.configure(settings.log)
    sidecar = Sidecar(settings, reloading=reloading, available=raise_limit())
    await sidecar.start()
    # What has been built so far stays for ever: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    log.started(sidecar.name, sidecar.addresses)
    log.egress(settings)
    log.https(settings)
    await stopping.wait()
    log.draining(sidecar.settings.drain.timeout)
    draining = asyncio.create_task(sidecar.drain())
    forced = asyncio.create_task(at_once.wait())
    await asyncio.wait((draining, forced), return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, forced):
        task.cancel()
    await sidecar.stop()
    for number in ENDINGS:
        # It has ended: one more must not make its exit code that of a process which was killed.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    log.stopped()


def _port(server: asyncio.Server | None) -> int:
    return int(server.sockets[0].getsockname()[1]) if server is not None else 0


@contextmanager
def _listening(what: str, endpoint: Endpoint) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ListenError(f"cannot listen on {endpoint} ({what}): {why}") from error
