"""Deliveries of what was kept for later: when each is made, and what comes of it.

Of each circuit one at a time, in the order in which they came, and only when that circuit would let it pass.
All together are spread over time, so that live calls find their turn in between, however many have come back
at once. Each walks the line as any call does (`private.py`), so that rules, circuits, deadlines, ramps and
limits are those of all others. What the circuit refuses after all was no attempt.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from proxy.core.budget import MOST_DELIVERIES
from proxy.core.defer import Defer
from proxy.core.deferred import FINAL_STATUS, TOO_MANY_ATTEMPTS, TOO_OLD, Deferred, NotStoredError, Queue
from proxy.core.errors import Draining
from proxy.core.exchange import Exchange, Source
from proxy.core.fallback import DeferOrder
from proxy.core.first_probe import FirstProbe
from proxy.core.pace import Pace
from proxy.core.policies import Policies
from proxy.core.registry import Circuits
from proxy.core.states import State, Transition, Trigger

# So many queues are looked at in a tick; there may be as many as there are requests.
_LOOKED_AT = 256
# How long a request rests after an attempt: doubled each time, up to the second of these.
_REST_S, _MOST_REST_S = 1.0, 60.0
# Between two deliveries, of whichever circuits: `make bench-backlog` measures what live calls notice of them.
_BETWEEN_S = 0.001
_OK = range(200, 300)
DELIVERED, FAILED = "delivered", "failed"


class Clocks(NamedTuple):
    """Monotonic seconds, and seconds since 1970."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class Store(Protocol):
    """What deliveries need of the store."""

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to be delivered."""

    def queues(self) -> Mapping[str, Queue]:
        """What waits, by the key of its circuit."""

    def waits(self, queue: str) -> bool:
        """Whether anything waits for a circuit."""

    async def first(self, queue: str) -> Deferred | None:
        """The one that has waited for longest."""

    async def delivered(self, request_id: str) -> None:
        """Removes one."""

    async def attempted(self, request_id: str, at: float, result: str) -> None:
        """Notes an attempt."""

    async def bury(self, request_id: str, at: float, cause: str, result: str | None = None) -> bool:
        """Makes one a dead letter."""


class Deliveries:
    """Delivers what is kept; `look` is called ten times a second.

    Args:
        store: what is kept.
        circuits: say when it may go.
        send: sends one, and tells how that ended.
        policies: the settings of each upstream.
        clocks: monotonic seconds, and seconds since 1970.

    Attributes:
        pace: spreads them over time.
        ended: how many were delivered so far, how many became dead letters by why (CAUSES), and how many
            attempts failed that are to be repeated.
    """

    def __init__(
        self,
        store: Store,
        circuits: Circuits,
        *,
        send: Callable[[Deferred], Awaitable[Exchange | None]],
        policies: Callable[[], Policies],
        clocks: Clocks,
    ) -> None:
        self._store = store
        self._circuits = circuits
        self._send = send
        self._policies = policies
        self._clock, self._wall_clock = clocks
        self._settings = Defer()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, float] = {}
        self._round: Iterator[tuple[str, Queue]] = iter(())
        self.pace = Pace(_BETWEEN_S)
        self._is_over = False
        self.ended = Counter[str]()

    def configure(self, settings: Defer) -> None:
        """Goes on with `max_age`, `max_attempts` and `final_statuses`."""
        self._settings = settings

    def end(self) -> None:
        """Begins no more."""
        self._is_over = True

    async def close(self) -> None:
        """Begins no more, and waits for those under way."""
        self.end()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def look(self, now: float) -> None:
        """Begins what may be delivered now."""
        if self._is_over or self._store.is_paused:
            return
        for _ in range(_LOOKED_AT):
            if len(self._under_way) >= MOST_DELIVERIES:
                return
            found = next(self._round, None)
            if found is None:
                self._begin_round()
                return
            key, queue = found
            if key in self._under_way or now < self._resting.get(key, now):
                continue
            self._claim(key, queue)
            if self._is_old(queue.oldest_at) or self._may_pass(key, queue.circuit, now):
                task = asyncio.get_running_loop().create_task(self._deliver(key), name=f"delivery {key}")
                self._under_way[key] = task

    def _begin_round(self) -> None:
        waiting = self._store.queues()
        self._round = iter(waiting.items())
        # Of those that somebody has emptied nothing stays.
        self._resting = {key: until for key, until in self._resting.items() if key in waiting}

    def circuit_changed(self, transition: Transition) -> None:
        """Hears of a circuit: whose turn the first probe of its next opening is."""
        if transition.trigger is not Trigger.PROBE_FAILED:
            return
        circuit = self._circuits.get(transition.key)
        if circuit is None or circuit.first_probe is FirstProbe.ANY:
            return
        is_strict = self._order_of(circuit.host) is DeferOrder.STRICT
        was_deferred = circuit.first_probe is FirstProbe.DEFERRED
        circuit.first_probe = FirstProbe.LIVE if was_deferred and not is_strict else FirstProbe.DEFERRED

    def _order_of(self, host: str) -> DeferOrder:
        return self._policies().of_circuit(host).fallback.order

    def _claim(self, key: str, queue: Queue) -> None:
        for circuit in (self._circuits.get(queue.circuit), self._circuits.get(key)):
            if (
                circuit is not None
                and circuit.first_probe is FirstProbe.ANY
                and circuit.state is not State.CLOSED
            ):
                circuit.first_probe = FirstProbe.DEFERRED

    def _disclaim(self, key: str) -> None:
        circuit = self._circuits.get(key)
        if circuit is not None:
            circuit.first_probe = FirstProbe.ANY

    def _may_pass(self, key: str, host: str, now: float) -> bool:
        for circuit in (self._circuits.get(host), self._circuits.get(key)):
            if circuit is not None:
                circuit.advance(now)
                if circuit.refusal(now, is_deferred=True) is not None:
                    return False
        return True

    def _is_old(self, stored_at: float) -> bool:
        return self._wall_clock() - stored_at > self._settings.max_age

    async def _deliver(self, key: str) -> None:
        """Delivers what waits for a circuit, one after the other, for as long as that goes well."""
        try:
            while await self._deliver_first(key):
                pass
        except (NotStoredError, OSError):
            # The store says what is wrong, and what was sent is sent again if that could not be noted; or no
            # descriptor is left for a connection.
            self._rest(key, _REST_S)
        finally:
            del self._under_way[key]

    async def _deliver_first(self, key: str) -> bool:
        await asyncio.sleep(self.pace.turn_in_s(self._clock()))
        request = await self._store.first(key)
        if request is None:
            self._resting.pop(key, None)
            self._disclaim(key)
            return False
        if self._is_old(request.stored_at):
            await self._bury(request, TOO_OLD)
            return not self._is_over
        if self._is_over or self._store.is_paused or not self._may_pass(key, request.circuit, self._clock()):
            return False
        exchange = await self._send(request)
        return await self._settle(key, request, exchange)

    async def _settle(self, key: str, request: Deferred, exchange: Exchange | None) -> bool:
        """Notes what came of an attempt; whether the next one may follow at once."""
        error = None if exchange is None else exchange.error
        if exchange is None or (error is not None and (error.refused or isinstance(error, Draining))):
            # It was not sent.
            return False
        status = exchange.status
        by_upstream = exchange.source is Source.UPSTREAM and error is None
        if by_upstream and status in _OK:
            await self._store.delivered(request.id)
            self.ended[DELIVERED] += 1
            self._resting.pop(key, None)
            if not self._store.waits(key):
                self._disclaim(key)
            return True
        result = str(status) if by_upstream else (error.error_type if error is not None else "no_answer")
        if by_upstream and status in self._settings.final_statuses:
            await self._bury(request, FINAL_STATUS, result)
            return True
        if request.attempts + 1 >= self._settings.max_attempts:
            await self._bury(request, TOO_MANY_ATTEMPTS, result)
            return True
        await self._store.attempted(request.id, self._wall_clock(), result)
        self.ended[FAILED] += 1
        self._rest(key, min(_REST_S * 2.0**request.attempts, _MOST_REST_S))
        return False

    async def _bury(self, request: Deferred, cause: str, result: str | None = None) -> None:
        # False: somebody has deleted it in the meantime.
        if await self._store.bury(request.id, self._wall_clock(), cause, result):
            self.ended[cause] += 1

    def _rest(self, key: str, rest_s: float) -> None:
        self._resting[key] = self._clock() + rest_s
