"""Transitions as they happen, for those who read on: server-sent events (HTML Living Standard, section 9.2).

The last `MOST_KEPT` are kept once, for everybody. A reader is a place in them: one that falls behind further
than that is told how many it missed, and has nothing kept for it. One that does not read at all is dropped,
and one that comes back says what it heard last (`Last-Event-ID`).
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from itertools import islice

import msgspec
from aiohttp import web

from proxy.control.circuit_views import TransitionView, transition_view
from proxy.control.problems import Problem
from proxy.core.scope import Scope
from proxy.core.states import Transition

MOST_KEPT = 1000
MOST_READERS = 16
# Proxies between close what is silent for a minute.
KEEP_ALIVE_S = 15.0
# How long a reader may leave unread what the socket no longer takes.
_STALLED_S = 30.0
# A reader that is behind gets them in such portions.
_AT_ONCE = 100
# How soon a browser comes back, in milliseconds.
_RETRY_MS = 2000
_KEEP_ALIVE = b": keep-alive\n\n"


class EventView(msgspec.Struct, kw_only=True, frozen=True):
    """The `data` of an event `transition`: which circuit, and what has become of it."""

    id: str
    key: str
    scope: Scope
    transition: TransitionView


class Events:
    """The latest transitions, and who reads them; `add` listens to the table of circuits.

    Args:
        iso: tells a moment of the monotonic clock.
        may_read_on: whether whoever has made a request may still read what it has asked for.
    """

    def __init__(
        self,
        iso: Callable[[float], str],
        may_read_on: Callable[[web.BaseRequest], bool] = lambda _: True,
    ) -> None:
        self._iso = iso
        self._may_read_on = may_read_on
        # Numbers begin anew with each process: this tells those of another one.
        self._process = secrets.token_hex(4)
        self._kept: deque[Transition] = deque(maxlen=MOST_KEPT)
        self._newest = 0
        self._changed = asyncio.Event()
        self._is_closed = False
        self._readers: list[web.Request] = []

    @property
    def newest_id(self) -> str:
        """The id of the latest event; one who shows it gets what comes after."""
        return f"{self._process}-{self._newest}"

    @property
    def readers(self) -> int:
        """How many read on."""
        return len(self._readers)

    def add(self, transition: Transition) -> None:
        """Keeps one more, and wakes those who wait for it."""
        self._kept.append(transition)
        self._newest += 1
        self._wake()

    def close(self) -> None:
        """Ends all streams; later ones end as they begin."""
        self._is_closed = True
        self._wake()

    def review(self) -> None:
        """Ends the streams of those who may not read on; that is looked at before each event in any case."""
        self._wake()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers with what comes, until the reader leaves, may not read on, or all ends.

        Raises:
            Problem: 503, there are `MOST_READERS` already.
        """
        headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        place, before = self._begun(request.headers.get("Last-Event-ID"))
        self._enter(request)
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(request)
            await self._write(response, before)
            while not self._is_closed and self._may_read_on(request):
                changed = self._changed
                content, place = self._portion(place)
                await self._write(response, content or await _heard(changed))
        except ConnectionError:
            pass  # it has left
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._readers = [reader for reader in self._readers if reader is not request]
        return response

    def _enter(self, request: web.Request) -> None:
        if len(self._readers) >= MOST_READERS:
            # aiohttp tells a handler of a client that has left only when it writes.
            self._readers = [reader for reader in self._readers if not _is_gone(reader)]
        if len(self._readers) >= MOST_READERS:
            detail = f"{MOST_READERS} readers of events are connected, which is all there may be"
            raise Problem(503, "too_many_readers", detail, {"Retry-After": "10"})
        self._readers.append(request)

    def _begun(self, last_id: str | None) -> tuple[int, bytes]:
        """After which number a reader begins, and what it is told before."""
        place, head = self._newest, f"retry: {_RETRY_MS}\n".encode()
        if last_id is not None:
            process, _, number = last_id.partition("-")
            is_known = process == self._process and number.isdecimal() and len(number) < 20  # noqa: PLR2004 -- 64 bits
            if is_known and int(number) <= self._newest:
                return int(number), head + b"\n"
            # Of another process, or made up: all there is is new to this reader.
            place = self._newest - len(self._kept)
            head += b'event: missed\ndata: {"missed":null}\n'
        return place, head + f"id: {self._process}-{place}\n\n".encode()

    def _portion(self, place: int) -> tuple[bytes, int]:
        """What comes after a number, and the number of the last of that; nothing if nothing does."""
        oldest = self._newest - len(self._kept) + 1
        parts = []
        if place < oldest - 1:
            missed = oldest - 1 - place
            place = oldest - 1
            parts.append(
                f'event: missed\nid: {self._process}-{place}\ndata: {{"missed":{missed}}}\n\n'.encode()
            )
        begin = place - oldest + 1
        for transition in islice(self._kept, begin, begin + _AT_ONCE):
            place += 1
            parts.append(self._rendered(place, transition))
        return b"".join(parts), place

    def _rendered(self, number: int, transition: Transition) -> bytes:
        id_ = f"{self._process}-{number}"
        view = EventView(
            id=id_,
            key=transition.key,
            scope=transition.scope,
            transition=TransitionView(**transition_view(transition, self._iso)),
        )
        # JSON has no line ends, so it is one line of data.
        return f"id: {id_}\nevent: transition\ndata: ".encode() + msgspec.json.encode(view) + b"\n\n"

    async def _write(self, response: web.StreamResponse, content: bytes) -> None:
        if content:
            async with asyncio.timeout(_STALLED_S):
                await response.write(content)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _heard(changed: asyncio.Event) -> bytes:
    """Waits for something new; what is to be written if nothing comes for a while."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_S):
            await changed.wait()
    except TimeoutError:
        return _KEEP_ALIVE
    return b""


def _is_gone(reader: web.Request) -> bool:
    return reader.transport is None or reader.transport.is_closing()
