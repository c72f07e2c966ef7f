"""The API for requests that are kept for later: look them up, put dead letters back, delete, export, pause.

Each handler has its description in `deferred_operations.py`. Without `defer.path` each answers 404
`not_deferring`. The disk is asked for everything but the overview, and is given some seconds.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from proxy.control import deferred_queries as asked
from proxy.control import queries, steering
from proxy.control.circuit_views import KeptView
from proxy.control.deferred_views import (
    DeferredPage,
    DeferredRequest,
    Standing,
    Standings,
    age,
    overview,
    request_view,
    whole_line,
)
from proxy.control.log import logger
from proxy.control.problems import Problem
from proxy.core.defer import Defer
from proxy.core.deferred import Deferred, NotStoredError, Queue

Result = TypeVar("Result")

# Each holds one content, and keeps the disk busy.
_MOST_EXPORTS = 2
# A disk that does not answer must not hold the connections of the admin port.
_DISK_PATIENCE_S = 10.0
# Who leaves an export unread for so long is cut.
_READER_PATIENCE_S = 30.0
_LARGE = 64 * 1024
_ID = re.compile("[0-9a-f]{32}")


class Store(Standings, Protocol):
    """Where requests are kept (`DeferredStore`)."""

    def queue(self, key: str) -> Queue | None:
        """What waits in one of them."""

    def queues(self) -> Mapping[str, Queue]:
        """What waits, by queue."""

    async def page(
        self, *, queue: str | None = None, is_dead: bool | None = None, after: int = 0, limit: int = 100
    ) -> list[Deferred]:
        """Requests in their order."""

    async def get(self, request_id: str, *, with_content: bool = False) -> Deferred | None:
        """One."""

    async def put_back(self, request_id: str, at: float) -> bool:
        """Has a dead letter wait again."""

    async def delete(self, request_id: str) -> bool:
        """Removes one."""

    async def pause(self, *, is_paused: bool) -> None:
        """Remembers whether anything is to be delivered."""

    def export(self, *, queue: str | None = None, is_dead: bool | None = None) -> AsyncIterator[Deferred]:
        """All of them with their contents."""


class Changed(msgspec.Struct, kw_only=True, frozen=True):
    """How many were changed, and whether there are more of that kind."""

    changed: int
    has_more: bool


class Paused(msgspec.Struct, kw_only=True, frozen=True):
    """Whether deliveries are paused now."""

    is_paused: bool


@dataclass(slots=True, kw_only=True)
class DeferredApi:
    """The handlers.

    Args:
        store: None without `defer.path`.
        limits: the settings in force.
        wall_clock: seconds since 1970.
    """

    store: Store | None
    limits: Callable[[], Defer]
    wall_clock: Callable[[], float]
    _exports: int = field(default=0, init=False)

    def of(self, key: str) -> KeptView | None:
        """What waits for a circuit; None if nothing does."""
        queue = None if self.store is None else self.store.queue(key)
        return None if queue is None else KeptView(queue.waiting, age(queue, self.wall_clock()))

    def of_all(self) -> KeptView | None:
        """What waits in all; None if nothing does."""
        if self.store is None or not self.store.depth:
            return None
        oldest = max(age(queue, self.wall_clock()) for queue in self.store.queues().values())
        return KeptView(self.store.depth, oldest)

    async def get_overview(self, request: web.Request) -> web.Response:
        """Answers with numbers."""
        store = self._kept()
        queries.none(request.query)
        return _answer(overview(store, store.queues().items(), self.limits(), self.wall_clock()))

    async def list_requests(self, request: web.Request) -> web.Response:
        """Answers with a page of requests.

        Raises:
            Problem: 400.
        """
        store, query = self._kept(), request.query
        queries.known(query, asked.PAGE)
        after, limit = asked.after(query), asked.limit(query)
        found = await _within(
            store.page(queue=asked.queue(query), is_dead=asked.is_dead(query), after=after, limit=limit)
        )
        next_after = found[-1].sequence if len(found) == limit else None
        return _answer(DeferredPage(requests=[request_view(each) for each in found], next_after=next_after))

    async def get_request(self, request: web.Request) -> web.Response:
        """Answers with one request.

        Raises:
            Problem: 404.
        """
        store = self._kept()
        queries.none(request.query)
        return _answer(await _one(store, _id(request)))

    async def delete_request(self, request: web.Request) -> web.Response:
        """Removes one.

        Raises:
            Problem: 404.
        """
        store = self._kept()
        queries.none(request.query)
        request_id = _id(request)
        if not await _within(store.delete(request_id)):
            raise _no_request()
        _tell(request, "deferred request deleted", id=request_id)
        return _answer(Changed(changed=1, has_more=False))

    async def put_back_request(self, request: web.Request) -> web.Response:
        """Has a dead letter wait again.

        Raises:
            Problem: 404, 409.
        """
        store = self._kept()
        queries.none(request.query)
        request_id = _id(request)
        wish = await steering.read(request, steering.Wish)
        if not await _within(store.put_back(request_id, self.wall_clock())):
            await _one(store, request_id)
            raise Problem(409, "not_dead", "this request is no dead letter: it waits already")
        _tell(request, "deferred request put back", id=request_id, note=wish.note or None)
        return _answer(await _one(store, request_id))

    async def put_back(self, request: web.Request) -> web.Response:
        """Has dead letters wait again."""
        store = self._kept()
        queries.none(request.query)
        wish = await steering.read(request, asked.PutBackWish)
        changed = await self._change(
            wish, Standing.DEAD, lambda one: store.put_back(one, self.wall_clock()), store
        )
        _tell(request, "deferred requests put back", count=changed.changed, note=wish.note or None)
        return _answer(changed)

    async def delete(self, request: web.Request) -> web.Response:
        """Removes many."""
        store = self._kept()
        queries.none(request.query)
        wish = await steering.read(request, asked.DeleteWish)
        changed = await self._change(wish, wish.state, store.delete, store)
        _tell(
            request,
            "deferred requests deleted",
            count=changed.changed,
            state=wish.state.value,
            note=wish.note or None,
        )
        return _answer(changed)

    async def _change(
        self, wish: asked.PutBackWish, state: Standing, change: Callable[[str], Awaitable[bool]], store: Store
    ) -> Changed:
        """Does something to the first ones of a kind, in as few transactions as there can be."""
        is_dead = state is Standing.DEAD
        found = await _within(store.page(queue=wish.queue, is_dead=is_dead, limit=asked.MOST_CHANGED + 1))
        wanted = found[: asked.MOST_CHANGED]
        done = await _within(asyncio.gather(*(change(each.id) for each in wanted)))
        return Changed(changed=sum(done), has_more=len(found) > len(wanted))

    async def pause(self, request: web.Request) -> web.Response:
        """Has nothing be delivered."""
        return await self._pause(request, "deliveries paused", is_paused=True)

    async def resume(self, request: web.Request) -> web.Response:
        """Has deliveries go on."""
        return await self._pause(request, "deliveries resumed", is_paused=False)

    async def _pause(self, request: web.Request, event: str, *, is_paused: bool) -> web.Response:
        store = self._kept()
        queries.none(request.query)
        wish = await steering.read(request, steering.Wish)
        await _within(store.pause(is_paused=is_paused))
        _tell(request, event, note=wish.note or None)
        return _answer(Paused(is_paused=is_paused))

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Writes everything, line by line.

        Raises:
            Problem: 400; 503 while two are written already.
        """
        store, query = self._kept(), request.query
        queries.known(query, asked.EXPORT)
        found = store.export(queue=asked.queue(query), is_dead=asked.is_dead(query))
        if self._exports >= _MOST_EXPORTS:
            raise Problem(503, "busy", f"{_MOST_EXPORTS} exports are under way", {"Retry-After": "5"})
        self._exports += 1
        try:
            # While no byte of the answer is written, a disk that does not answer is still told.
            first = await _within(anext(found, None))
            response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
            await response.prepare(request)
            if first is not None:
                await _write(response, first)
            async for each in found:
                await _write(response, each)
        except (NotStoredError, TimeoutError):
            # Half an export must not look like a whole one.
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._exports -= 1
        _tell(request, "deferred requests exported")
        return response

    def _kept(self) -> Store:
        if self.store is None:
            raise Problem(404, "not_deferring", "nothing is kept for later here: defer.path is not set")
        return self.store


async def _within(answer: Awaitable[Result]) -> Result:
    """What the disk says.

    Raises:
        Problem: 503, it says nothing, or that it cannot.
    """
    try:
        async with asyncio.timeout(_DISK_PATIENCE_S):
            return await answer
    except NotStoredError as error:
        raise Problem(503, "store_unavailable", f"the store does not work: {error}") from None
    except TimeoutError:
        raise Problem(503, "store_slow", f"the disk has not answered within {_DISK_PATIENCE_S:g} s") from None


async def _one(store: Store, request_id: str) -> DeferredRequest:
    found = await _within(store.get(request_id))
    if found is None:
        raise _no_request()
    return request_view(found)


async def _write(response: web.StreamResponse, request: Deferred) -> None:
    is_large = request.content_bytes > _LARGE
    line = await asyncio.to_thread(whole_line, request) if is_large else whole_line(request)
    async with asyncio.timeout(_READER_PATIENCE_S):
        await response.write(line)


def _id(request: web.Request) -> str:
    request_id = request.match_info["id"]
    if not _ID.fullmatch(request_id):
        raise _no_request()
    return request_id


def _no_request() -> Problem:
    return Problem(404, "no_such_request", "no request with this id is kept: it is delivered, or never was")


def _answer(view: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(view), content_type="application/json")


def _tell(request: web.Request, event: str, **facts: object) -> None:
    logger().info(event, **facts, caller=request.remote)
