"""Deadlines: who is overdue gets the error of what was awaited, whoever else is cancelled stays cancelled."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.sidecar import Clock

from proxy.core.errors import (
    ClientTimeout,
    ConnectionTimeout,
    DnsError,
    HttpResponseTimeout,
    ProxyError,
    ProxyInternalResponse,
)
from proxy.core.exchange import Awaited, Entry, Exchange
from proxy.wire.deadlines import Deadlines

DRAINING = ProxyInternalResponse("the proxy is shutting down", reason="draining")


class Watching:
    """The deadlines under test, with their clock in hand and the times of their sweeps."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.swept: list[float] = []
        self.deadlines = Deadlines(self.clock, self._on_tick)
        self._ticked = asyncio.Event()

    def _on_tick(self, now: float) -> None:
        self.swept.append(now)
        self._ticked.set()

    async def sweep(self) -> None:
        """Waits for a sweep that begins after this call."""
        self._ticked.clear()
        await self._ticked.wait()

    def exchange(self, awaited: Awaited = Awaited.RESPONSE_HEAD, timeout_s: float = 30) -> Exchange:
        exchange = Exchange(Entry.FORWARD, "GET", self.clock.now)
        exchange.wait_for(awaited, timeout_s, self.clock.now)
        return exchange

    async def wait(self, exchange: Exchange, entered: asyncio.Event) -> None:
        """Waits for ever under watch."""
        with self.deadlines.watch(exchange):
            entered.set()
            await asyncio.Event().wait()

    async def waiting(self, exchange: Exchange) -> asyncio.Task[None]:
        """A task that waits for ever under watch, once it does."""
        entered = asyncio.Event()
        task = asyncio.create_task(self.wait(exchange, entered))
        await entered.wait()
        return task


@pytest.fixture
async def watching() -> AsyncIterator[Watching]:
    watching = Watching()
    watching.deadlines.start()
    yield watching
    watching.deadlines.stop()
    assert len(watching.deadlines) == 0, "nothing is watched afterwards"


@pytest.mark.parametrize(
    ("awaited", "error"),
    [
        (Awaited.CONNECTION, ConnectionTimeout),
        (Awaited.REQUEST_CONTENT, ClientTimeout),
        (Awaited.RESPONSE_HEAD, HttpResponseTimeout),
    ],
)
async def test_who_is_overdue_gets_the_error_of_what_was_awaited(
    watching: Watching, awaited: Awaited, error: type[ProxyError]
) -> None:
    task = await watching.waiting(watching.exchange(awaited, 30))
    assert len(watching.deadlines) == 1
    watching.clock.now += 29.9
    await watching.sweep()
    assert not task.done()
    watching.clock.now += 0.1
    with pytest.raises(error):
        await task
    assert not task.cancelled()


async def test_the_deadline_is_that_of_the_latest_wait(watching: Watching) -> None:
    exchange = watching.exchange(Awaited.CONNECTION, 5)
    task = await watching.waiting(exchange)
    exchange.wait_for(Awaited.RESPONSE_HEAD, 30, watching.clock.now)
    watching.clock.now += 6
    await watching.sweep()
    assert not task.done()
    exchange.wait_over(watching.clock.now)
    watching.clock.now += 10_000
    await watching.sweep()
    assert not task.done()
    exchange.wait_for(Awaited.REQUEST_CONTENT, 0, watching.clock.now)
    with pytest.raises(ClientTimeout):
        await task


async def test_only_who_is_overdue_ends(watching: Watching) -> None:
    late = await watching.waiting(watching.exchange(timeout_s=1))
    in_time = await watching.waiting(watching.exchange(timeout_s=2))
    watching.clock.now += 1
    with pytest.raises(HttpResponseTimeout):
        await late
    await watching.sweep()
    assert not in_time.done()
    assert len(watching.deadlines) == 1
    watching.clock.now += 1
    with pytest.raises(HttpResponseTimeout):
        await in_time


async def test_what_is_done_in_time_is_left_alone(watching: Watching) -> None:
    with watching.deadlines.watch(watching.exchange()):
        await asyncio.sleep(0)
    watching.clock.now += 30
    await watching.sweep()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_by_others_passes(watching: Watching) -> None:
    task = await watching.waiting(watching.exchange())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("ours_first", [True, False])
async def test_overdue_and_cancelled_at_once_is_cancelled(watching: Watching, *, ours_first: bool) -> None:
    task = await watching.waiting(watching.exchange())
    if ours_first:
        watching.deadlines.fail_all(DRAINING)
        task.cancel()
    else:
        task.cancel()
        watching.deadlines.fail_all(DRAINING)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_all_can_be_ended_with_one_error(watching: Watching) -> None:
    tasks = [await watching.waiting(watching.exchange()) for _ in range(3)]
    watching.deadlines.fail_all(DRAINING)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert ends == [DRAINING] * 3


async def test_the_first_error_counts(watching: Watching) -> None:
    task = await watching.waiting(watching.exchange())
    watching.deadlines.fail_all(DRAINING)
    watching.deadlines.fail_all(DnsError("too late"))
    with pytest.raises(ProxyInternalResponse):
        await task


async def test_tasks_below_end_with_who_is_overdue(watching: Watching) -> None:
    below: list[asyncio.Task[bool]] = []

    async def work() -> None:
        with watching.deadlines.watch(watching.exchange()):
            async with asyncio.TaskGroup() as group:
                below.append(group.create_task(asyncio.Event().wait()))
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    watching.clock.now += 30
    with pytest.raises(HttpResponseTimeout):
        await task
    assert below[0].cancelled()


async def test_a_task_below_that_fails_meanwhile_is_heard(watching: Watching) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise DnsError("below")

    async def work() -> None:
        with watching.deadlines.watch(watching.exchange()):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail_when_cancelled())
                await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    watching.deadlines.fail_all(DRAINING)
    with pytest.raises(ExceptionGroup) as caught:
        await task
    assert [str(error) for error in caught.value.exceptions] == ["below"]


async def test_an_error_of_its_own_at_the_last_moment_passes_and_the_task_can_go_on(
    watching: Watching,
) -> None:
    async def work() -> int:
        try:
            with watching.deadlines.watch(watching.exchange()):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    raise DnsError("its own") from None
        except DnsError:
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    watching.deadlines.fail_all(DRAINING)
    assert await task == 0


async def test_a_task_that_is_being_cancelled_can_still_be_overdue(watching: Watching) -> None:
    last_words = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await watching.wait(watching.exchange(), last_words)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await last_words.wait()
    watching.clock.now += 30
    with pytest.raises(HttpResponseTimeout):
        await task


async def test_each_sweep_tells_its_time_until_they_stop(watching: Watching) -> None:
    await watching.sweep()
    watching.clock.now += 1
    await watching.sweep()
    assert watching.swept == [1000, 1001]
    watching.deadlines.stop()
    task = await watching.waiting(watching.exchange())
    watching.clock.now += 30
    # Two sweeps of others later there would have been one more of these.
    others = Watching()
    others.deadlines.start()
    await others.sweep()
    await others.sweep()
    others.deadlines.stop()
    assert watching.swept == [1000, 1001]
    assert not task.done()
    watching.deadlines.fail_all(DRAINING)
    with pytest.raises(ProxyInternalResponse):
        await task


async def test_a_deadline_needs_a_task(watching: Watching) -> None:
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def outside() -> None:
        try:
            with watching.deadlines.watch(watching.exchange()):
                refused.set_result("entered")
        except RuntimeError as error:
            refused.set_result(str(error))

    asyncio.get_running_loop().call_soon(outside)
    assert await refused == "a deadline needs a task"
