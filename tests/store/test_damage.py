"""Damaged files: the process goes on, what can be read is kept, and the rest is put aside."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.deferred import Heard, deferred, ids, opened

from proxy.store.damage import put_aside, rescue
from proxy.store.file import DeferredFile


async def fill(path: Path, count: int = 200) -> None:
    """Makes a file with so many requests."""
    async with opened(path) as store:
        for number in range(count):
            await store.put(deferred(number, content=b"x" * 500))


def copied(path: Path, copy: Path) -> None:
    """Copies a file that is open, with the log that is written ahead, as a crash would leave it."""
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())


def there(directory: Path) -> list[Path]:
    """What is in a directory."""
    return list(directory.iterdir())


def harm(path: Path, chance: random.Random) -> None:
    """Cuts a file short, or flips some of its bits."""
    harmed = bytearray(path.read_bytes())
    if chance.random() < 0.5:
        del harmed[chance.randrange(len(harmed)) :]
    else:
        for _ in range(8):
            harmed[chance.randrange(len(harmed))] ^= 1 << chance.randrange(8)
    path.write_bytes(harmed)


def make_hole(path: Path) -> None:
    """Writes zeros over two pages in the middle."""
    whole = path.read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    path.write_bytes(whole[:middle] + b"\x00" * 8192 + whole[middle + 8192 :])


async def test_what_is_no_database_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    path.write_bytes(b"this is no database at all" * 100)
    heard = Heard()
    async with opened(path, heard) as store:
        assert store.fault is None
        await store.put(deferred(1))
        assert await ids(store) == [1]
    assert {entry.name for entry in there(tmp_path)} == {"deferred.db", "deferred.db.damaged-1"}
    (told,) = heard.damage
    assert "deferred.db.damaged-1" in told
    assert "0 rescued" in told


async def test_of_a_file_with_a_hole_the_rest_is_rescued(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    await fill(path)
    make_hole(path)
    heard = Heard()
    async with opened(path, heard) as store:
        assert store.fault is None
        found = await ids(store)
        assert len(found) >= 150
        assert found == sorted(found)
        first = await store.first(deferred(0).queue)
        assert first is not None
        assert first.content == b"x" * 500
        await store.put(deferred(1000))
    assert len(heard.damage) == 1


async def test_each_damaged_file_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    for _ in range(2):
        path.write_bytes(b"broken" * 1000)
        async with opened(path) as store:
            assert store.fault is None
    assert {entry.name for entry in there(tmp_path)} >= {"deferred.db.damaged-1", "deferred.db.damaged-2"}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("part", ["database", "log"])
async def test_a_torn_or_flipped_file_never_stops_it(tmp_path: Path, part: str, seed: int) -> None:
    """Whatever the disk gives back: it opens, what it gives out is what was put in, and it takes more."""
    chance = random.Random(f"{part} {seed}")  # noqa: S311 -- it makes no secret
    path, copy = tmp_path / "deferred.db", tmp_path / "copy.db"
    async with opened(path) as store:
        for number in range(60):
            await store.put(deferred(number, content=b"%d" % number * 50))
        copied(path, copy)
    harm(copy if part == "database" else tmp_path / "copy.db-wal", chance)
    async with opened(copy) as store:
        assert store.fault is None
        async for request in store.export():
            number = int(request.id, 16)
            assert request.content == b"%d" % number * 50
        await store.put(deferred(1000))
        assert (await ids(store))[-1] == 1000


async def test_a_request_without_all_of_its_content_is_not_rescued(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    await fill(path, 3)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE content SET content = x'78' WHERE key = 1")
        database.execute("DELETE FROM content WHERE key = 2")
        database.commit()
    aside = put_aside(path)
    file = DeferredFile(path)
    assert rescue(aside, file) == 1
    assert [int(request.id, 16) for request in file.page(queue=None, is_dead=None, after=0, limit=9)] == [2]
    file.close()
