"""The deferred requests: what is on disk, and what of it is known without asking the disk.

A request is kept once `put` returns, and not before: its transaction is on disk then. How many wait, and of
whom, is known at any time from memory; contents are read only when they are needed. Everything is bounded by
`defer:`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from proxy.core.defer import Defer
from proxy.core.deferred import CONTENT_TOO_LARGE, FULL, UNAVAILABLE, Deferred, NotStoredError, Queue
from proxy.store.file import DeferredFile, bytes_of
from proxy.store.writer import Writer

Result = TypeVar("Result")

_CLOSING_S = 5.0
# How many descriptions are read at a time where all are wanted.
_BATCH = 100
_PAUSED = "paused"


class _Waiting:
    """What waits in one queue: when each was stored, by place."""

    __slots__ = ("circuit", "stored_at")

    def __init__(self, circuit: str) -> None:
        self.circuit = circuit
        self.stored_at: dict[int, float] = {}

    def told(self) -> Queue:
        """In numbers."""
        return Queue(self.circuit, len(self.stored_at), next(iter(self.stored_at.values())))


class _Contents:
    """What a file holds, without the requests themselves."""

    def __init__(self) -> None:
        self.queues: dict[str, _Waiting] = {}
        self.depth = self.dead = self.stored_bytes = 0
        self.is_paused = False

    @classmethod
    def of(cls, file: DeferredFile) -> "_Contents":
        found = cls()
        for place, queue, circuit, stored_at, is_dead, size in file.overview():
            found.add(place, queue, circuit, stored_at, size, is_dead=bool(is_dead))
        found.is_paused = bool(file.fact(_PAUSED))
        return found

    def add(
        self, place: int, queue: str, circuit: str, stored_at: float, size: int, *, is_dead: bool
    ) -> None:
        self.stored_bytes += size
        if is_dead:
            self.dead += 1
            return
        self.depth += 1
        self.queues.setdefault(queue, _Waiting(circuit)).stored_at[place] = stored_at

    def remove(self, request: Deferred) -> None:
        self.stored_bytes -= bytes_of(request)
        if request.died_at is not None:
            self.dead -= 1
            return
        self.depth -= 1
        waiting = self.queues[request.queue].stored_at
        del waiting[request.sequence]
        if not waiting:
            del self.queues[request.queue]


class DeferredStore:
    """Keeps requests; make it inside a running loop.

    Args:
        settings: with a path.
        on_put: told how long each request took until it was durable, in seconds.
        on_fault: told why nothing can be stored, for people; None when that is over.
        on_damage: told what has become of a damaged file, for people.

    Attributes:
        fault: why nothing can be stored now, for people; None while all is well.
    """

    def __init__(
        self,
        settings: Defer,
        *,
        on_put: Callable[[float], None],
        on_fault: Callable[[str | None], None],
        on_damage: Callable[[str], None],
    ) -> None:
        if settings.path is None:
            raise ValueError("defer.path says where")
        self.fault: str | None = "it is not open yet"
        self._settings = settings
        self._on_put = on_put
        self._on_fault = on_fault
        self._on_damage = on_damage
        self._contents = _Contents()
        # What is on its way to the disk counts as if it were there.
        self._coming = self._coming_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(
            Path(settings.path), look=_Contents.of, opened=self._opened, failed=self._failed
        )

    def configure(self, settings: Defer) -> None:
        """Goes on with these bounds; what is there stays, and `path` needs a restart."""
        self._settings = settings

    async def open(self) -> None:
        """Opens the file, or finds that it cannot be (see `fault`), and goes on trying then."""
        await self._writer.start()

    async def close(self) -> None:
        """Writes what is on its way, and closes the file."""
        await self._writer.stop(_CLOSING_S)

    # What is known without asking the disk.

    @property
    def depth(self) -> int:
        """How many wait."""
        return self._contents.depth

    @property
    def dead(self) -> int:
        """How many dead letters there are."""
        return self._contents.dead

    @property
    def stored_bytes(self) -> int:
        """How many bytes of content and fields there are, dead letters included."""
        return self._contents.stored_bytes

    @property
    def is_paused(self) -> bool:
        """Whether an operator has asked to deliver nothing."""
        return self._contents.is_paused

    def queues(self) -> Mapping[str, Queue]:
        """What waits, by queue."""
        return {key: waiting.told() for key, waiting in self._contents.queues.items()}

    def queue(self, key: str) -> Queue | None:
        """What waits in one of them; None if nothing does."""
        waiting = self._contents.queues.get(key)
        return None if waiting is None else waiting.told()

    def waits(self, queue: str) -> bool:
        """Whether anything waits in a queue."""
        return queue in self._contents.queues

    # One request.

    async def put(self, request: Deferred) -> None:
        """Keeps a request; it is durable on return.

        Raises:
            NotStoredError: it is not kept: it is too large, there is no room, or the disk does not take it.
        """
        settings, size = self._settings, bytes_of(request)
        if request.content_bytes > settings.max_content:
            raise NotStoredError(CONTENT_TOO_LARGE)
        if self.fault is not None:
            raise NotStoredError(UNAVAILABLE, self.fault)
        count = self._contents.depth + self._contents.dead + self._coming
        if count >= settings.max_events or self.stored_bytes + self._coming_bytes + size > settings.max_bytes:
            raise NotStoredError(FULL)
        began = self._loop.time()
        stored = self._writer.ask(lambda file: file.add(request))
        self._coming += 1
        self._coming_bytes += size
        stored.add_done_callback(partial(self._arrived, request, size, began))
        # Who waits may leave; what is on its way arrives all the same, and must be counted.
        await asyncio.shield(stored)

    def _arrived(self, request: Deferred, size: int, began: float, stored: "asyncio.Future[int]") -> None:
        self._coming -= 1
        self._coming_bytes -= size
        if stored.cancelled() or stored.exception() is not None:
            return
        self._contents.add(
            stored.result(), request.queue, request.circuit, request.stored_at, size, is_dead=False
        )
        self._on_put(self._loop.time() - began)

    async def first(self, queue: str) -> Deferred | None:
        """The one that has waited for longest in a queue, with its content; None if none waits."""
        return await self._ask(lambda file: file.first(queue))

    async def get(self, request_id: str, *, with_content: bool = False) -> Deferred | None:
        """The request with this id, if there is one."""
        return await self._ask(lambda file: file.get(request_id, with_content=with_content))

    async def attempted(self, request_id: str, at: float, result: str) -> None:
        """Writes down that it was sent, and what came of it; of one that is gone nothing."""
        await self._ask(lambda file: file.note_attempt(request_id, at, result))

    async def delivered(self, request_id: str) -> None:
        """Removes one that has arrived."""
        await self.delete(request_id)

    async def bury(self, request_id: str, at: float, cause: str, result: str | None = None) -> bool:
        """Makes one that waits a dead letter.

        Args:
            request_id: whose.
            at: seconds since 1970.
            cause: one of `CAUSES`.
            result: what came of a last attempt, if there was one.

        Returns:
            Whether there is one that has waited.
        """

        def work(file: DeferredFile) -> tuple[Deferred | None, Deferred | None]:
            before = file.get(request_id)
            if before is None or before.died_at is not None:
                return None, None
            if result is not None:
                file.note_attempt(request_id, at, result)
            file.bury(request_id, at, cause)
            return before, file.get(request_id)

        return await self._change(work)

    async def put_back(self, request_id: str, at: float) -> bool:
        """Has a dead letter wait again, behind all others; whether there is such a dead letter."""

        def work(file: DeferredFile) -> tuple[Deferred | None, Deferred | None]:
            before = file.get(request_id)
            if before is None or before.died_at is None:
                return None, None
            file.put_back(request_id, at)
            return before, file.get(request_id)

        return await self._change(work)

    async def delete(self, request_id: str) -> bool:
        """Removes one, waiting or dead; whether there was one."""

        def work(file: DeferredFile) -> tuple[Deferred | None, Deferred | None]:
            before = file.get(request_id)
            if before is not None:
                file.delete(request_id)
            return before, None

        return await self._change(work)

    # Many.

    async def page(
        self, *, queue: str | None = None, is_dead: bool | None = None, after: int = 0, limit: int = 100
    ) -> list[Deferred]:
        """Requests in their order, without their contents; see `DeferredFile.page`."""
        return await self._ask(lambda file: file.page(queue=queue, is_dead=is_dead, after=after, limit=limit))

    async def export(
        self, *, queue: str | None = None, is_dead: bool | None = None
    ) -> AsyncIterator[Deferred]:
        """Those that there are as it is asked for, with their contents, in their order, read one by one.

        One that is put back meanwhile is one of those that have come later, and may be left out.
        """
        after, last = 0, await self._ask(lambda file: file.last_place)
        while found := await self.page(queue=queue, is_dead=is_dead, after=after, limit=_BATCH):
            for described in found:
                after = described.sequence
                if after > last:
                    return
                request = await self.get(described.id, with_content=True)
                if request is not None:
                    yield request

    async def pause(self, *, is_paused: bool) -> None:
        """Remembers whether anything is to be delivered, over a restart as well."""
        await self._ask(lambda file: file.set_fact(_PAUSED, int(is_paused)))
        self._contents.is_paused = is_paused

    # The writer's.

    async def _ask(self, work: Callable[[DeferredFile], Result]) -> Result:
        return await asyncio.shield(self._writer.ask(work))

    async def _change(self, work: Callable[[DeferredFile], tuple[Deferred | None, Deferred | None]]) -> bool:
        """Does what replaces one request by another, or by none, on disk and in memory; whether it did."""
        done = self._writer.ask(work)
        done.add_done_callback(self._changed)
        before, _ = await asyncio.shield(done)
        return before is not None

    def _changed(self, done: "asyncio.Future[tuple[Deferred | None, Deferred | None]]") -> None:
        if done.cancelled() or done.exception() is not None:
            return
        before, after = done.result()
        if before is not None:
            self._contents.remove(before)
        if after is not None:
            is_dead = after.died_at is not None
            self._contents.add(
                after.sequence, after.queue, after.circuit, after.stored_at, bytes_of(after), is_dead=is_dead
            )

    def _opened(self, found: _Contents, told: str | None) -> None:
        self._contents = found
        self.fault = None
        if told is not None:
            self._on_damage(told)
        self._on_fault(None)

    def _failed(self, fault: str) -> None:
        self.fault = fault
        self._on_fault(fault)
