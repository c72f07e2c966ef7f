"""A disk that does not take anything: told at once, and over by itself."""

import asyncio
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.deferred import Heard, deferred, ids, opened

from proxy.core.deferred import NotStoredError
from proxy.store.deferred_store import DeferredStore
from proxy.store.file import DeferredFile


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file of this process may become longer than so many bytes while this lasts."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_takes_nothing_and_loses_nothing_and_is_taken_note_of_when_it_has_room(
    tmp_path: Path,
) -> None:
    path, heard = tmp_path / "deferred.db", Heard()
    kept: list[int] = []
    async with opened(path, heard) as store:
        with full_disk(400_000):
            with pytest.raises(NotStoredError) as raised:
                await put_until_it_fails(store, kept)
            assert raised.value.reason == "unavailable"
            assert kept
            told = await heard.until_fault(is_over=False)
            assert told is not None
            assert str(path) in told
            with pytest.raises(NotStoredError):
                await store.put(deferred(1000, content=b"x" * 10_000))
        await heard.until_fault(is_over=True)
        assert await ids(store) == kept
        assert store.depth == len(kept)
        await store.put(deferred(1001))
        assert await ids(store) == [*kept, 1001]


async def test_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    path, heard = tmp_path / "later" / "deferred.db", Heard()
    async with opened(path, heard) as store:
        assert store.fault == f"{path}: No such file or directory"
        with pytest.raises(NotStoredError) as raised:
            await store.put(deferred(1))
        assert raised.value.reason == "unavailable"
        with pytest.raises(NotStoredError):
            await store.first("a")
        path.parent.mkdir()
        await heard.until_fault(is_over=True)
        await store.put(deferred(1))
        assert await ids(store) == [1]
    assert len(heard.faults) == 2


async def test_a_file_that_another_has_is_taken_once_that_one_is_gone(tmp_path: Path) -> None:
    path, heard = tmp_path / "deferred.db", Heard()
    other = await asyncio.to_thread(HeldFile, path)
    async with opened(path, heard) as store:
        assert store.fault == f"{path}: another process has it"
        await asyncio.to_thread(other.release)
        await heard.until_fault(is_over=True)
        await store.put(deferred(1))


async def test_what_is_asked_of_a_closed_one_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "deferred.db") as store:
        await store.put(deferred(1))
    with pytest.raises(NotStoredError):
        await store.put(deferred(2))


async def test_closing_does_what_was_asked_for_before(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    async with opened(path) as store:
        puts = [asyncio.ensure_future(store.put(deferred(number))) for number in range(100)]
        await asyncio.sleep(0)
    await asyncio.gather(*puts)
    async with opened(path) as store:
        assert len(await ids(store)) == 100


async def put_until_it_fails(store: DeferredStore, kept: list[int]) -> None:
    for number in range(200):
        await store.put(deferred(number, content=b"x" * 10_000))
        kept.append(number)


class HeldFile:
    """A file that somebody has open; SQLite's connections stay in the thread that made them."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._file = self._thread.submit(DeferredFile, path).result()

    def release(self) -> None:
        self._thread.submit(self._file.close).result()
        self._thread.shutdown()
