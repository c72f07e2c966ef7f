"""The composition root: puts traffic, control and the settings together, and owns the clock.

A newcomer with a new setting: what reads it is a part, and each part gets its settings in one place, at the
start and at each reload alike. For what carries traffic that is `DataPlane.configure`, for everything else
`Sidecar._go_on`. Only what needs a restart (`reload.NEEDS_RESTART`) comes to a part when it is made.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from proxy import files
from proxy.control import log
from proxy.control.access_log import AccessLog
from proxy.control.admin import application
from proxy.control.admin_server import AdminServer
from proxy.control.api import Api
from proxy.control.credentials_file import CredentialsFile
from proxy.control.deferred_api import DeferredApi
from proxy.control.events import Events
from proxy.control.history import History
from proxy.control.metrics import Metrics
from proxy.control.reload import Reloading
from proxy.control.state_file import StateFile
from proxy.control.trust import Trust
from proxy.control.wall_time import WallTime
from proxy.core.budget import Clamped, descriptors, fitted
from proxy.core.exchange import Exchange
from proxy.core.policy import CircuitPolicy, Endpoint, Settings
from proxy.core.registry import Circuits
from proxy.core.states import Transition
from proxy.deferral import Deferral
from proxy.provisions import provided
from proxy.wire.data_plane import DataPlane, Provisions
from proxy.wire.delivering import Clocks


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
        self.settings = settings
        self.reloading = reloading or Reloading()
        self.name = settings.name or f"breaker-proxy-{secrets.token_hex(4)}"
        self._clock = clock
        self._on_exchange = on_exchange
        self._provisions: Provisions | None = None
        self._is_started = self._is_draining = False

        iso = WallTime(clock, time.time)
        trust = Trust()
        events = Events(iso, trust.is_lasting)
        history = History(lambda key: self.circuits.get(key))  # noqa: PLW0108 -- made below
        self.circuits = Circuits(
            draw=draw,
            # The past before the events: who hears of one finds it there.
            listeners=(log.circuit_changed, history.add, events.add, self._circuit_changed),
            on_fault=log.listener_failed,
        )
        listen = settings.listen
        self._credentials = None
        if listen.credentials_file is not None:
            self._credentials = CredentialsFile(listen.credentials_file)
        self._state = None
        if settings.state_file is not None:
            self._state = StateFile(settings.state_file, self.circuits, self._circuit_policy, wall_clock)
        self._access = AccessLog(settings.intercept.directory)
        self.data_plane = DataPlane(
            name=self.name,
            listen=listen,
            circuits=self.circuits,
            clock=clock,
            report=self._report,
            tick=self._tick,
            authenticate=None if self._credentials is None else self._credentials.check,
        )
        self.deferral = None
        if settings.defer.path is not None:
            clocks = Clocks(clock, wall_clock)
            self.deferral = Deferral(settings.defer, self.name, self.data_plane, self.circuits, clocks=clocks)
        self.metrics = Metrics(
            self.circuits,
            clock=clock,
            in_flight=lambda: self.data_plane.handler.in_flight,
            tunnels=lambda: self.data_plane.tunnels.open,
            idle_connections=lambda: self.data_plane.pool.idle,
            dns_lookups=lambda: self.data_plane.provisions.resolver.lookups,
            reload_succeeded=lambda: self.reloading.succeeded,
            kept=None if self.deferral is None else self.deferral.kept,
        )
        api = Api(
            name=self.name,
            circuits=self.circuits,
            history=history,
            events=events,
            deferred=DeferredApi(
                store=None if self.deferral is None else self.deferral.store,
                limits=lambda: self.settings.defer,
                wall_clock=wall_clock,
            ),
            settings=lambda: self.settings,
            policies=lambda: self.data_plane.provisions.policies,
            clock=clock,
            iso=iso,
            started=clock(),
        )
        self._admin = AdminServer(
            listen.admin,
            application(self.metrics, self._readiness, api, trust, remark=self._remark),
            trust,
            on_trust=events.review,
            clock=clock,
            environ=os.environ,
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

    @property
    def proxy_port(self) -> int:
        """The port that clients connect to, once started."""
        return self.addresses["proxy"].port

    @property
    def reverse_port(self) -> int:
        """The port that clients of routes connect to, once started; 0 without one."""
        reverse = self.addresses.get("reverse")
        return 0 if reverse is None else reverse.port

    @property
    def admin_port(self) -> int:
        """The port of the admin server, once started."""
        return self._admin.port

    @property
    def addresses(self) -> dict[str, Endpoint]:
        """Where it listens, by the keys under `listen`, once started; with the ports that were left open."""
        admin = Endpoint(self.settings.listen.admin.host, self.admin_port)
        return {"admin": admin, **self.data_plane.addresses}

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            ConfigError: a file that the settings name cannot be used.
            ListenError: an address is in use or is not ours.
        """
        await self.adopt(self.settings)
        admin, plane = self.settings.listen.admin, self.data_plane
        try:
            with _listening("admin", admin):
                await self._admin.listen()
            for key, endpoint in plane.endpoints.items():
                with _listening(key, endpoint):
                    await plane.bind(key)
            # Before the first client comes: that one may not call us either.
            plane.own.ports = frozenset(plane.ports | self._admin.ports)
            # Nor what was dead before. And not sooner: where the addresses are taken, the file is another's.
            if self._state is not None:
                self._state.restore(self._clock())
            if self.deferral is not None:
                await self.deferral.start()
            for key, endpoint in plane.endpoints.items():
                with _listening(key, endpoint):
                    await plane.serve(key)
        except ListenError:
            await self.stop()
            raise
        plane.deadlines.start()
        self._is_started = True
        self.reloading.start(self.adopt)

    async def adopt(self, settings: Settings) -> None:
        """Goes on with these settings, wholly or not at all; what needs a restart must be as it was.

        What can fail comes first, and waits where it takes long; then nothing waits and nothing can fail. An
        exchange under way keeps the settings that it has found.

        Raises:
            ConfigError: nothing has changed.
        """
        provisions, named = await provided(settings, self.data_plane.own, self._clock, self._provisions)
        fitting = replace(provisions, settings=self._fitted(settings))
        self._go_on(fitting, named)

    def _go_on(self, provisions: Provisions, named: files.Named) -> None:
        """Hands these settings to every part that keeps any, in one go."""
        settings = provisions.settings
        if settings.log.level is not self.settings.log.level:
            log.set_level(settings.log.level)
        self.settings, self._provisions = settings, provisions
        if self._credentials is not None and named.credentials is not None:
            self._credentials.configure(named.credentials)
        self.data_plane.configure(provisions)
        if self.deferral is not None:
            self.deferral.configure(settings.defer)
        self._access.configure(settings.log)
        self.metrics.configure(settings.metrics)
        self._admin.configure(settings.admin, named.admin_token)

    async def drain(self) -> None:
        """Waits until nothing is under way, or for `drain.timeout`.

        New requests are still taken: whoever sends them has not yet noticed that we are going.
        """
        self._is_draining = True
        await self.reloading.close()
        if self.deferral is not None:
            self.deferral.drain()
        await self.data_plane.drain()

    async def stop(self) -> None:
        """Ends everything: what has no answer yet gets 503 `draining`, what has begun is cut."""
        self._is_draining = True
        await self.reloading.close()
        # At the same time, since either may take a second.
        _, idle_tunnels = await asyncio.gather(self._admin.close(), self.data_plane.stop())
        if idle_tunnels:
            log.logger().info("idle tunnels cut", tunnels=idle_tunnels)
        if self.deferral is not None:
            await self.deferral.close()
        if self._state is not None:
            await self._state.close(self._clock())

    def _tick(self, now: float) -> None:
        if self._credentials is not None:
            self._credentials.look(now)
        self.reloading.look(now)
        if self._state is not None:
            self._state.look(now)
        if self.deferral is not None and self._is_started:
            self.deferral.look(now)

    def _circuit_changed(self, transition: Transition) -> None:
        if self.deferral is not None:
            self.deferral.circuit_changed(transition)

    def _circuit_policy(self, key: str) -> CircuitPolicy:
        return self.data_plane.provisions.policies.of_circuit(key).circuit

    def _report(self, exchange: Exchange, now: float) -> None:
        self.metrics.observe(exchange, now)
        self._access.exchange_ended(exchange, now)
        if self._on_exchange is not None:
            self._on_exchange(exchange)

    def _readiness(self) -> str | None:
        """Why no new traffic should come, or None."""
        if self._is_draining:
            return "draining"
        return None if self._is_started else "starting"

    def _remark(self) -> str | None:
        """What is wrong though it is ready; who reads it need not be trusted, so no more than that."""
        return None if self.reloading.succeeded else "the configuration could not be reloaded: see the log"


@contextmanager
def _listening(key: str, endpoint: Endpoint) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ListenError(f"cannot listen on {endpoint} (listen.{key}): {why}") from error
