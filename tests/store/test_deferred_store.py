"""What is kept, in which order, within which bounds, and over a restart."""

import asyncio
import signal
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deferred import Heard, deferred, ids, opened

from proxy.core.defer import Defer
from proxy.core.deferred import NotStoredError, Queue
from proxy.store.deferred_store import DeferredStore

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deferred.db"


async def test_a_request_comes_back_as_it_was_after_a_restart(path: Path) -> None:
    kept = deferred(7, content=bytes(range(256)), reason="circuit_ramping", circuit="other:1")
    async with opened(path) as store:
        await store.put(kept)
    async with opened(path) as store:
        found = await store.get(kept.id, with_content=True)
        assert found is not None
        assert (found.sequence, found.attempts, found.died_at) == (1, 0, None)
        for name in (
            "id",
            "queue",
            "circuit",
            "reason",
            "stored_at",
            "target",
            "method",
            "fields",
            "content",
        ):
            assert getattr(found, name) == getattr(kept, name), name
        without = await store.get(kept.id)
        assert without is not None
        assert (without.content, without.content_bytes) == (b"", 256)


async def test_only_its_owner_can_read_the_file(path: Path) -> None:
    async with opened(path) as store:
        await store.put(deferred(1))
        beside = list(path.parent.iterdir())
        assert path in beside
        assert {entry.stat().st_mode & 0o777 for entry in beside} == {0o600}


async def test_each_queue_gives_out_its_oldest(path: Path) -> None:
    async with opened(path) as store:
        for number, queue in enumerate(("a", "b", "a", "b")):
            await store.put(deferred(number, queue=queue))
        for queue, numbers in (("a", (0, 2)), ("b", (1, 3))):
            for number in numbers:
                first = await store.first(queue)
                assert first is not None
                assert (first.id, first.content) == (deferred(number).id, b"event %d" % number)
                await store.delivered(first.id)
            assert await store.first(queue) is None
        assert (store.depth, store.stored_bytes, store.queues()) == (0, 0, {})


async def test_what_waits_is_known_without_asking_the_disk(path: Path) -> None:
    async with opened(path) as store:
        for number, queue in enumerate(("a", "b", "a")):
            await store.put(deferred(number, queue=queue, circuit=f"host of {queue}"))
        assert store.queues() == {"a": Queue("host of a", 2, 1000.0), "b": Queue("host of b", 1, 1001.0)}
        assert store.waits("a")
        assert not store.waits("c")
        await store.delivered(deferred(0).id)
        assert store.queues()["a"] == Queue("host of a", 1, 1002.0)
    async with opened(path) as store:
        assert store.queues()["b"] == Queue("host of b", 1, 1001.0)
        assert store.depth == 2


async def test_attempts_are_remembered(path: Path) -> None:
    async with opened(path) as store:
        await store.put(deferred(1))
        await store.attempted(deferred(1).id, 1500.0, "503")
        await store.attempted(deferred(1).id, 1600.0, "connection_refused")
        await store.attempted("unknown", 1600.0, "503")
    async with opened(path) as store:
        found = await store.first(deferred(1).queue)
        assert found is not None
        assert (found.attempts, found.tried_at, found.result) == (2, 1600.0, "connection_refused")


async def test_a_dead_letter_waits_no_more_until_it_is_put_back(path: Path) -> None:
    async with opened(path) as store:
        for number in (1, 2):
            await store.put(deferred(number))
        assert await store.bury(deferred(1).id, 2000.0, "final_status", "410")
        assert not await store.bury(deferred(1).id, 2000.0, "final_status", "410")
        assert not await store.bury("unknown", 2000.0, "too_old")
        assert not await store.put_back(deferred(2).id, 2000.0)
        assert not await store.put_back("unknown", 2000.0)
        assert (store.depth, store.dead) == (1, 1)
        assert (await ids(store, is_dead=True), await ids(store, is_dead=False)) == ([1], [2])
        dead = await store.get(deferred(1).id)
        assert dead is not None
        assert (dead.died_at, dead.died_of, dead.attempts, dead.result) == (2000.0, "final_status", 1, "410")
        assert await store.put_back(deferred(1).id, 3000.0)
        assert (store.depth, store.dead) == (2, 0)
        assert await ids(store) == [2, 1]
        back = await store.get(deferred(1).id)
        assert back is not None
        assert (back.stored_at, back.attempts, back.result, back.died_at, back.died_of) == (
            3000.0, 0, None, None, None,
        )  # fmt: skip


async def test_deleting_takes_what_waits_and_what_is_dead(path: Path) -> None:
    async with opened(path) as store:
        for number in (1, 2):
            await store.put(deferred(number))
        await store.bury(deferred(1).id, 2000.0, "too_old")
        assert await store.delete(deferred(1).id)
        assert await store.delete(deferred(2).id)
        assert not await store.delete(deferred(2).id)
        assert (store.depth, store.dead, store.stored_bytes) == (0, 0, 0)


async def test_pages_go_on_where_the_last_one_ended(path: Path) -> None:
    async with opened(path) as store:
        for number in range(5):
            await store.put(deferred(number, queue="odd" if number % 2 else "even"))
        page = await store.page(limit=2)
        assert [int(request.id, 16) for request in page] == [0, 1]
        page = await store.page(after=page[-1].sequence, limit=9)
        assert [int(request.id, 16) for request in page] == [2, 3, 4]
        page = await store.page(queue="odd")
        assert [int(request.id, 16) for request in page] == [1, 3]
        assert [request.content for request in page] == [b"", b""]


async def test_an_export_has_all_of_them_with_their_contents(path: Path) -> None:
    async with opened(path) as store:
        await asyncio.gather(*(store.put(deferred(number)) for number in range(30)))
        found = [request.content async for request in store.export()]
    assert found == [b"event %d" % number for number in range(30)]


async def test_a_pause_outlives_the_process(path: Path) -> None:
    async with opened(path) as store:
        assert not store.is_paused
        await store.pause(is_paused=True)
    async with opened(path) as store:
        assert store.is_paused
        await store.pause(is_paused=False)
        assert not store.is_paused


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"max_content": 3}, "content_too_large"),
        ({"max_events": 2}, "full"),
        ({"max_bytes": 1024, "max_content": 2000}, "full"),
    ],
)
async def test_what_there_is_no_room_for_is_not_kept(path: Path, bounds: dict[str, Any], reason: str) -> None:
    async with opened(path, **bounds) as store:
        for number in (1, 2):
            await store.put(deferred(number, content=b"abc"))
        with pytest.raises(NotStoredError) as raised:
            await store.put(deferred(3, content=b"x" * 1000))
        assert raised.value.reason == reason
        assert await ids(store) == [1, 2]


async def test_dead_letters_take_room_too_and_give_it_back(path: Path) -> None:
    async with opened(path, max_events=1) as store:
        await store.put(deferred(1))
        await store.bury(deferred(1).id, 2000.0, "too_old")
        with pytest.raises(NotStoredError):
            await store.put(deferred(2))
        await store.delete(deferred(1).id)
        await store.put(deferred(2))
        store.configure(Defer(path=str(path), max_events=2))
        await store.put(deferred(3))
        assert await ids(store) == [2, 3]


async def test_what_comes_at_once_stays_within_the_bounds(path: Path) -> None:
    async with opened(path, max_events=10) as store:
        puts = [store.put(deferred(number)) for number in range(30)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert sum(result is None for result in results) == 10
        assert (store.depth, len(await ids(store))) == (10, 10)


async def test_who_does_not_wait_any_more_leaves_nothing_by_halves(path: Path) -> None:
    async with opened(path) as store:
        putting = asyncio.ensure_future(store.put(deferred(1)))
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await store.put(deferred(2))
        assert await ids(store) == [1, 2]
        assert store.depth == 2


async def test_how_long_each_took_is_told(path: Path) -> None:
    heard = Heard()
    async with opened(path, heard) as store:
        await asyncio.gather(*(store.put(deferred(number)) for number in range(3)))
    assert len(heard.puts_s) == 3
    assert min(heard.puts_s) > 0


async def test_without_a_path_there_is_no_store() -> None:
    with pytest.raises(ValueError, match=r"defer\.path"):
        DeferredStore(Defer(), on_put=print, on_fault=print, on_damage=print)


WRITE = """
import asyncio, sys
from pathlib import Path
from support.deferred import deferred, opened

async def main():
    async with opened(Path(sys.argv[1])) as store:
        async def keep(first):
            for number in range(first, 10**9, 8):
                await store.put(deferred(number))
                sys.stdout.write(f"{number}\\n")
                sys.stdout.flush()
        await asyncio.gather(*(keep(first) for first in range(8)))

asyncio.run(main())
"""


async def test_what_was_kept_outlives_kill_9_at_any_moment(tmp_path: Path) -> None:
    for lines in (1, 17, 120):
        promised: set[int] = set()
        path = tmp_path / f"{lines}.db"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITE, str(path), stdout=PIPE,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(lines):
            promised.add(int(await process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        rest = (await process.stdout.read()).split(b"\n")
        # The last line may be torn; what is torn nobody has been promised.
        promised |= {int(line) for line in rest[:-1]}
        await process.wait()
        heard = Heard()
        async with opened(path, heard) as store:
            assert promised <= set(await ids(store))
        assert not heard.damage


NUMBERS = st.integers(0, 5)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "delivered", "bury", "put_back", "attempted", "reopen"]), NUMBERS),
    max_size=25,
)


@given(operations=OPERATIONS)
@settings(max_examples=40)
def test_it_does_what_a_plain_list_does(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "deferred.db"
    asyncio.run(play(path, operations))


async def play(path: Path, operations: list[tuple[str, int]]) -> None:
    waiting: list[int] = []
    dead: set[int] = set()
    begun = 0
    while begun is not None:
        async with opened(path) as store:
            begun = await run(store, operations, begun, waiting, dead)
            assert await ids(store, is_dead=False) == waiting
            assert set(await ids(store, is_dead=True)) == dead
            assert (store.depth, store.dead) == (len(waiting), len(dead))
            sizes = [len(b"event 0") + 46 for _ in (*waiting, *dead)]
            assert (store.stored_bytes == 0) is (not sizes)


async def run(
    store: DeferredStore, operations: list[tuple[str, int]], begun: int, waiting: list[int], dead: set[int]
) -> Any:
    """Does what comes from there on, up to the next time that the store is opened anew."""
    for place in range(begun, len(operations)):
        operation, number = operations[place]
        one = deferred(number)
        if operation == "reopen":
            return place + 1
        if operation == "put" and number not in waiting and number not in dead:
            await store.put(one)
            waiting.append(number)
        elif operation == "delivered" and number in waiting:
            await store.delivered(one.id)
            waiting.remove(number)
        elif operation == "bury":
            assert await store.bury(one.id, 2000.0, "too_old") is (number in waiting)
            if number in waiting:
                waiting.remove(number)
                dead.add(number)
        elif operation == "put_back":
            assert await store.put_back(one.id, 3000.0) is (number in dead)
            if number in dead:
                dead.remove(number)
                waiting.append(number)
        elif operation == "attempted":
            await store.attempted(one.id, 2000.0, "503")
    return None
