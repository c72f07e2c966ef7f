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
from proxy.control.state_file import StateFile
from proxy.control.trust import Trust
from proxy.core.acl import OwnListeners
from proxy.core.budget import descriptors, fitted
from proxy.core.exchange import Entry, Exchange
from proxy.core.policies import Policies
from proxy.core.policy import CircuitPolicy, Endpoint, Settings
from proxy.core.registry import Circuits
from proxy.core.routes import Routes
from proxy.wire.deadlines import Deadlines
from proxy.wire.descriptors import raise_limit
from proxy.wire.dialer import Dialer
from proxy.wire.drain import drained, ended
from proxy.wire.forward import Forwarding
from proxy.wire.handler import Handler
from proxy.wire.heads import Heads
from proxy.wire.intercept import Interception
from proxy.wire.listener import Clients, Listener
from proxy.wire.local import is_local
from proxy.wire.naming import ByRequest, ByRoute, Naming
from proxy.wire.pool import Pool
from proxy.wire.resolver import Resolver
from proxy.wire.tunnels import Tunnels
from proxy.wire.vanished import notice

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
    ) -> None:
        self.settings = settings
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
        dialer = Dialer(self._resolver, clock, files.upstream_tls(self._policies.tls))
        self.pool = Pool(dialer, clock, settings.limits, settings.timeouts.upstream_idle)
        heads = Heads(self.name, via=settings.via)
        self.tunnels = Tunnels(dialer, self.pool, clock, settings.limits)
        forwarding = Forwarding(self.pool, self.tunnels, clock, settings.limits, heads)
        self.deadlines = Deadlines(clock, self._tick)
        self._leaves = files.leaves(settings)
        intercept = None
        if self._leaves is not None:
            intercept = Interception(self._leaves, settings.limits, clock).open
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
            intercept=intercept,
            report=self._report,
            clock=clock,
        )
        self.clients = Clients(self.handler, settings.limits, settings.timeouts, clock())
        self.listeners = {"listen.proxy": self._listener(None)}
        if settings.listen.reverse is not None:
            self.listeners["listen.reverse"] = self._listener(Routes(settings.routes))
        self._access = AccessLog(settings.log, settings.intercept.directory)
        self.metrics = Metrics(
            self.circuits,
            clock=clock,
            max_circuits=settings.metrics.max_circuits,
            in_flight=lambda: self.handler.in_flight,
            tunnels=lambda: self.tunnels.open,
            idle_connections=lambda: self.pool.idle,
            dns_lookups=lambda: self._resolver.lookups,
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
            application(self.metrics, self._readiness, api, Trust(self._token, settings.admin.hosts)),
            handle_signals=False,
            access_log=None,
            shutdown_timeout=_LEFTOVERS_S,
        )

    def _listener(self, routes: Routes | None) -> Listener:
        # Routes lead only where the configuration says, so whoever may call them need not be asked.
        authenticate = None if routes is not None or self._credentials is None else self._credentials.check
        names = ByRequest() if routes is None else ByRoute(routes)
        naming = Naming(self.name, self.settings.limits.max_head, names, authenticate)
        return Listener(self.handler.handle, self.handler, self.clients, self.settings.limits, naming)

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

    async def drain(self) -> None:
        """Waits until nothing is under way, or for `drain.timeout`.

        New requests are still taken: whoever sends them has not yet noticed that we are going.
        """
        self._draining = True
        await drained(self.handler, self.clients, self.settings.drain, self._clock)

    async def stop(self) -> None:
        """Ends everything: what has no answer yet gets 503 `draining`, what has begun is cut."""
        self._draining = True
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

    def _tick(self, now: float) -> None:
        self.clients.sweep(now)
        self.pool.sweep(now)
        self.circuits.advance(now)
        if self._credentials is not None:
            self._credentials.look(now)
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


async def run(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT; a second one ends it at once.

    Raises:
        ConfigError: a file that the settings name cannot be used.
        ListenError: an address is in use or is not ours.
    """
    log.configure(settings.log)
    stopping = asyncio.Event()
    at_once = asyncio.Event()

    def stop() -> None:
        (at_once if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    for number in ENDINGS:
        loop.add_signal_handler(number, stop)
    available = raise_limit()
    limits, clamped = fitted(settings.limits, available)
    if clamped:
        log.limits_clamped(clamped, available, descriptors(settings.limits))
    settings = replace(settings, limits=limits)
    sidecar = Sidecar(settings)
    await sidecar.start()
    # What has been built so far stays for ever: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    log.started(sidecar.name, sidecar.addresses)
    log.egress(settings)
    log.https(settings)
    await stopping.wait()
    log.draining(settings.drain.timeout)
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
