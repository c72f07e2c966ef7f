"""One sweep for all deadlines, since a timer for each wait costs more than the wait.

An exchange says what it waits for and until when (`Exchange.wait_for`). The sweep looks at all watched
exchanges a few times a second and cancels the task of one that is overdue; leaving `watch` turns that
cancellation into the error that belongs to what was awaited. Any other cancellation passes.
"""

import asyncio
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from proxy.core.errors import ProxyError
from proxy.core.exchange import Exchange

TICK_S = 0.1


class Deadlines:
    """The watched exchanges of the process.

    Args:
        clock: monotonic seconds.
        on_tick: called with the time at each sweep, for what else is due now and then.
    """

    def __init__(self, clock: Callable[[], float], on_tick: Callable[[float], None]) -> None:
        self._clock = clock
        self._on_tick = on_tick
        self._watched: set[Watch] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def start(self) -> None:
        """Begins to sweep, on the running loop."""
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def stop(self) -> None:
        """Sweeps no more."""
        if self._timer is not None:
            self._timer.cancel()

    def watch(self, exchange: Exchange) -> "Watch":
        """A context in which the exchange's deadline holds for the current task."""
        return Watch(exchange, self._watched)

    def _tick(self) -> None:
        self.start()
        now = self._clock()
        for watch in tuple(self._watched):
            if watch.exchange.deadline <= now:
                watch.fail(watch.exchange.timed_out())
        self._on_tick(now)

    def fail(self, exchanges: Collection[Exchange], error: ProxyError) -> None:
        """Ends those of these that are watched with this error."""
        for watch in tuple(self._watched):
            if watch.exchange in exchanges:
                watch.fail(error)

    def fail_all(self, error: ProxyError) -> None:
        """Ends all watched exchanges with this error."""
        for watch in tuple(self._watched):
            watch.fail(error)


class Watch:
    """One exchange under watch, in the task that entered the context."""

    __slots__ = ("_cancelling", "_error", "_task", "_watched", "exchange")

    def __init__(self, exchange: Exchange, watched: "set[Watch]") -> None:
        self.exchange = exchange
        self._watched = watched
        self._error: ProxyError | None = None
        self._cancelling = 0
        self._task: asyncio.Task[object] | None = None

    def fail(self, error: ProxyError) -> None:
        """Cancels what the exchange waits for, to end it with this error; the first one counts."""
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a deadline needs a task")
        self._cancelling = self._task.cancelling()
        self._watched.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watched.discard(self)
        if self._error is not None and self._task is not None:
            # As asyncio.timeout does: our own cancellation is taken back, and it is an error of ours only
            # if nobody else has cancelled the task as well.
            alone = self._task.uncancel() <= self._cancelling
            if alone and isinstance(error, asyncio.CancelledError):
                raise self._error from error
