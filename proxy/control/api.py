"""The API under /api/v1: circuits, what an operator may do to them, events, the configuration.

Who may call it is decided before, in `trust.py`. A handler reads what came, asks the table, and encodes what
`circuit_views.py` makes of it. Nothing here keeps the event loop for long, however large the table is.
"""

import asyncio
import platform
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgspec
from aiohttp import web

from proxy import __version__
from proxy.control import deferred_operations, queries, steering
from proxy.control.circuit_views import (
    CircuitDetail,
    CircuitView,
    KeptView,
    circuit_detail,
    circuit_view,
    rejected,
    rounded,
    settings_view,
)
from proxy.control.deferred_api import DeferredApi
from proxy.control.effective import effective
from proxy.control.events import Events
from proxy.control.history import History
from proxy.control.log import logger
from proxy.control.openapi import Operation, Parameter, document
from proxy.control.problems import Problem
from proxy.control.steering import Action, Wish
from proxy.core.breaker import Circuit
from proxy.core.circuit_name import CircuitName
from proxy.core.outcome import EFFECTS
from proxy.core.overrides import Force
from proxy.core.policies import Policies
from proxy.core.policy import Mode, Settings
from proxy.core.registry import Circuits
from proxy.core.scope import Scope
from proxy.core.states import Condition

ROOT = "/api/v1"
# After so many circuits the loop is given back: 2 ms at most (10,000 of them take 40 to 100 ms in all).
_AT_ONCE = 100


class CircuitsView(msgspec.Struct, kw_only=True, frozen=True):
    """A page of circuits.

    Attributes:
        at: when this was so; what has grown between two answers, by the time between them, is a rate.
        circuits: those of this page.
        total: how many fit the filter.
        states: how many of the whole table are in each state.
        in_flight: calls and tunnels under way that circuits of hosts have let through.
        calls: since the start, also of circuits that have left the table; as are `failed`, `rejected` and
            `spared_s`.
        spared_s: the sum of what circuits tell under this name; an estimate.
        deferred: what is kept for later in all; null if nothing is.
        limit_of_table: how many circuits there may be.
        last_event_id: what follows in the events is not yet in this answer, or is again in the events.
    """

    at: str
    circuits: list[CircuitView]
    total: int
    states: dict[str, int]
    in_flight: int
    calls: int
    failed: int
    rejected: int
    spared_s: float
    deferred: KeptView | None
    limit_of_table: int
    last_event_id: str


class VersionView(msgspec.Struct, kw_only=True, frozen=True):
    """Which program runs, under which name, and since when."""

    version: str
    name: str
    started_at: str
    python: str


_KEY = Parameter(
    name="key",
    place="path",
    description="host:port, with +internal or #hash behind it as in lists, percent-encoded",
    schema={"type": "string", "minLength": 1, "maxLength": 300},
)
_SUMMARIES = {
    Action.OPEN: "Force a circuit open: no call passes",
    Action.CLOSE: "Force a circuit closed: all calls pass, whatever comes of them",
    Action.RESET: "Have a circuit start anew: closed, on level 0, not forced",
    Action.AUTO: "Give a circuit that is forced back to itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The handlers.

    Args:
        name: of this proxy.
        circuits: the table.
        history: of its transitions.
        events: as they happen.
        deferred: what is kept for later.
        settings: the configuration in force.
        policies: the same, by upstream.
        clock: monotonic seconds.
        iso: tells a moment of that clock.
        started: when the process began, by that clock.
    """

    name: str
    circuits: Circuits
    history: History
    events: Events
    deferred: DeferredApi
    settings: Callable[[], Settings]
    policies: Callable[[], Policies]
    clock: Callable[[], float]
    iso: Callable[[float], str]
    started: float

    def operations(self) -> tuple[Operation, ...]:
        """Everything it does, for the router and for the document."""
        one = f"{ROOT}/circuits/{{key}}"
        return (
            Operation(
                method="GET",
                path=f"{ROOT}/circuits",
                name="list_circuits",
                summary="A page of circuits, the open ones first",
                handler=self.list_circuits,
                answers=CircuitsView,
                parameters=queries.PARAMETERS,
            ),
            Operation(
                method="GET",
                path=one,
                name="get_circuit",
                summary="One circuit, with its past and its settings",
                handler=self.get_circuit,
                answers=CircuitDetail,
                parameters=(_KEY,),
                refusals=(404,),
            ),
            *(self._steering(action) for action in Action),
            Operation(
                method="GET",
                path=f"{ROOT}/events",
                name="stream_events",
                summary="Transitions as they happen, as server-sent events without end",
                handler=self.events.serve,
                media_type="text/event-stream",
                refusals=(503,),
            ),
            Operation(
                method="GET",
                path=f"{ROOT}/config",
                name="get_config",
                summary="The configuration in force; paths of routes as in the log",
                handler=self.get_config,
                answers=dict[str, Any],
            ),
            Operation(
                method="GET",
                path=f"{ROOT}/version",
                name="get_version",
                summary="The running program",
                handler=self.get_version,
                answers=VersionView,
            ),
            *deferred_operations.operations(self.deferred),
        )

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Has a router lead here, and to the document."""
        operations = self.operations()
        for operation in operations:
            operation.add_to(router)
        described = document(operations)

        async def openapi(_request: web.Request) -> web.Response:
            return web.Response(body=described, content_type="application/json")

        router.add_get(f"{ROOT}/openapi.json", openapi)

    async def list_circuits(self, request: web.Request) -> web.Response:
        """Answers with a page of the circuits that are asked for.

        Raises:
            Problem: 400.
        """
        query = queries.read(request.query)
        # First: what happens from here on, the events tell.
        last_event_id = self.events.newest_id
        self.circuits.advance(self.clock())
        states = dict.fromkeys((condition.value for condition in Condition), 0)
        in_flight = 0
        found: list[tuple[Any, Circuit]] = []
        for index, circuit in enumerate(list(self.circuits), start=1):
            states[circuit.condition.value] += 1
            if circuit.scope is Scope.HOST:
                # A call of an endpoint is its host's as well.
                in_flight += circuit.in_flight
            if query.fits(circuit):
                found.append((query.rank(circuit, self.history.last(circuit), self.clock()), circuit))
            await _breathe(index)
        # Those that are alike stay in the order of the table; by their keys it would take ten times as long.
        found.sort(key=itemgetter(0), reverse=query.is_descending)
        views = []
        for index, (_, circuit) in enumerate(found[query.offset : query.offset + query.limit], start=1):
            kept = self.deferred.of(circuit.key)
            values = circuit_view(circuit, self.history.last(circuit), self.clock(), self.iso, deferred=kept)
            views.append(CircuitView(**values))
            await _breathe(index)
        totals = self.circuits.totals
        return _answer(
            CircuitsView(
                # No later and no earlier than the totals are read.
                at=self.iso(self.clock()),
                circuits=views,
                total=len(found),
                states=states,
                in_flight=in_flight,
                calls=sum(totals.calls.values()),
                failed=sum(count for verdict, count in totals.calls.items() if EFFECTS[verdict].failed),
                rejected=rejected(totals),
                spared_s=rounded(totals.spared_s),
                deferred=self.deferred.of_all(),
                limit_of_table=self.circuits.limits.max_circuits,
                last_event_id=last_event_id,
            )
        )

    async def get_circuit(self, request: web.Request) -> web.Response:
        """Answers with one circuit.

        Raises:
            Problem: 404.
        """
        queries.none(request.query)
        key = str(_name(request))
        self.circuits.advance(self.clock())
        circuit = self.circuits.get(key)
        if circuit is None:
            raise _no_circuit()
        return _answer(self._detail(circuit))

    async def get_config(self, request: web.Request) -> web.Response:
        """Answers with the configuration in force."""
        queries.none(request.query)
        return _answer(effective(self.settings()))

    async def get_version(self, request: web.Request) -> web.Response:
        """Answers with the running program."""
        queries.none(request.query)
        return _answer(
            VersionView(
                version=__version__,
                name=self.name,
                started_at=self.iso(self.started),
                python=platform.python_version(),
            )
        )

    def _steering(self, action: Action) -> Operation:
        async def steer(request: web.Request) -> web.Response:
            queries.none(request.query)
            name = _name(request)
            wish = await steering.read(request, action.kind)
            circuit = self._steer(name, action, wish)
            logger().info(
                "circuit steered",
                circuit=circuit.key,
                action=action.value,
                ttl_s=wish.ttl_s,
                note=wish.note or None,
                caller=request.remote,
            )
            return _answer(self._detail(circuit))

        return Operation(
            method="POST",
            path=f"{ROOT}/circuits/{{key}}/{action.value}",
            name=f"{action.value}_circuit",
            summary=_SUMMARIES[action],
            handler=steer,
            answers=CircuitDetail,
            takes=action.kind,
            parameters=(_KEY,),
            refusals=(404, 409, 413, 415, 503),
        )

    def _steer(self, name: CircuitName, action: Action, wish: Wish) -> Circuit:
        key, now = str(name), self.clock()
        if action is Action.AUTO:
            circuit = self.circuits.clear_override(key, now, note=wish.note)
        elif action is Action.RESET:
            circuit = self.circuits.reset(key, now, note=wish.note)
        else:
            policy = self.policies().of(name.host, name.port, is_internal=name.is_internal).circuit
            if policy.mode is Mode.DISABLED:
                raise Problem(409, "circuit_disabled", "circuit.mode is disabled for this upstream")
            force = Force.OPEN if action is Action.OPEN else Force.CLOSED
            circuit = self.circuits.force(key, policy, force, now, ttl_s=wish.ttl_s, note=wish.note)
            if circuit is None and not name.endpoint:
                raise Problem(503, "no_room", "the table of circuits is full (limits.max_circuits)")
        if circuit is None:
            raise _no_circuit()
        return circuit

    def _detail(self, circuit: Circuit) -> CircuitDetail:
        name = CircuitName.parse(circuit.key)
        place = self.policies().place(name.host, name.port)
        settings = settings_view(circuit.policy, self.settings(), place)
        kept = self.deferred.of(circuit.key)
        return circuit_detail(
            circuit, self.history.of(circuit), settings, self.clock(), self.iso, deferred=kept
        )


def _answer(view: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(view), content_type="application/json")


def _name(request: web.Request) -> CircuitName:
    try:
        return CircuitName.parse(request.match_info["key"])
    except ValueError as error:
        raise Problem(404, "no_such_circuit", f"this names no circuit: {error}") from None


def _no_circuit() -> Problem:
    return Problem(404, "no_such_circuit", "there is no circuit by this name")


async def _breathe(count: int) -> None:
    if count % _AT_ONCE == 0:
        await asyncio.sleep(0)
