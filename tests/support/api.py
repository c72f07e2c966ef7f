"""The admin port with a table of circuits behind it, its clock in hand, and a real client before it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from aiohttp import web

from proxy.control.admin import application
from proxy.control.api import Api
from proxy.control.deferred_api import DeferredApi, Store
from proxy.control.events import Events
from proxy.control.history import History
from proxy.control.metrics import Metrics
from proxy.control.trust import Token, Trust
from proxy.control.wall_time import WallTime
from proxy.core.host_pattern import HostPattern
from proxy.core.policies import Policies
from proxy.core.policy import Limits, Settings
from support.circuits import Rig
from support.metrics import metrics_of
from support.sidecar import Clock

# 2001-09-09T01:46:40 when the clock says 0.
EPOCH_S = 1_000_000_000.0
CIRCUITS = "/api/v1/circuits"


@dataclass
class AdminPort:
    """What is behind the admin port, and its application.

    Attributes:
        rig: the circuits.
        kept: a store of deferred requests.
    """

    settings: Settings = field(default_factory=Settings)
    token: Token | None = None
    hosts: tuple[HostPattern, ...] = ()
    clock: Clock = field(default_factory=lambda: Clock(0.0))
    metrics: Metrics | None = None
    readiness: Callable[[], str | None] = lambda: None
    remark: Callable[[], str | None] = lambda: None
    limits: Limits = field(default_factory=Limits)
    kept: Store | None = None

    def __post_init__(self) -> None:
        iso = WallTime(self.clock, lambda: EPOCH_S + self.clock())
        self.trust = Trust()
        self.events = Events(iso, self.trust.is_lasting)
        self.history = History(lambda key: self.rig.circuits.get(key))  # noqa: PLW0108 -- made below
        self.rig = Rig(limits=self.limits, listeners=(self.history.add, self.events.add))
        policies = Policies(self.settings)
        self.api = Api(
            name="testproxy",
            circuits=self.rig.circuits,
            history=self.history,
            events=self.events,
            deferred=DeferredApi(
                store=self.kept, limits=lambda: self.settings.defer, wall_clock=lambda: EPOCH_S + self.clock()
            ),
            settings=lambda: self.settings,
            policies=lambda: policies,
            clock=self.clock,
            iso=iso,
            started=0.0,
        )

    def application(self) -> web.Application:
        """All of it."""
        self.trust.configure(self.token, self.hosts)
        metrics = self.metrics or metrics_of()
        return application(metrics, self.readiness, self.api, self.trust, remark=self.remark)


@asynccontextmanager
async def serving(served: web.Application) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that listens on loopback."""
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
            yield client
    finally:
        await runner.cleanup()


async def get(client: httpx.AsyncClient, path: str) -> Any:
    """What a path answers, which is JSON and 200."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and reason of a problem document, which has its one shape."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert list(problem) == ["title", "status", "detail", "reason"]
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["reason"]
