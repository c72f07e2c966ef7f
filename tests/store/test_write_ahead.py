"""A log that was damaged is told of and kept; one that a crash has left is not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.deferred import Heard, deferred, ids, opened

from proxy.store.write_ahead import commits, keep

HEAD, FRAME = 32, 24 + 4096


async def left_by_a_crash(folder: Path, count: int = 20) -> Path:
    """A file with its log, as a process leaves them that is killed; each request is a transaction."""
    path, copy = folder / "deferred.db", folder / "copy.db"
    async with opened(path) as store:
        for number in range(count):
            await store.put(deferred(number, content=b"x" * 500))
        for suffix in ("", "-wal"):
            copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    return copy


def flipped(at: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    def harm(log: bytes) -> bytes:
        place = at(log)
        return log[:place] + bytes([log[place] ^ 4]) + log[place + 1 :]

    return harm


@pytest.mark.parametrize(
    ("harm", "least", "most"),
    [
        (flipped(lambda log: len(log) // 2), 5, 15),
        # In the first frame, in the last, in the head: its salt, its page size.
        (flipped(lambda _: HEAD + 100), 0, 0),
        (flipped(lambda log: len(log) - 100), 19, 19),
        (flipped(lambda _: 16), 0, 0),
        (flipped(lambda _: 10), 0, 0),
    ],
)
async def test_transactions_that_cannot_be_read_are_told_and_kept(
    tmp_path: Path, harm: Callable[[bytes], bytes], least: int, most: int
) -> None:
    copy, heard = await left_by_a_crash(tmp_path), Heard()
    log = tmp_path / "copy.db-wal"
    harmed = harm(log.read_bytes())
    log.write_bytes(harmed)
    async with opened(copy, heard) as store:
        assert store.fault is None
        assert least <= len(await ids(store)) <= most
        await store.put(deferred(1000))
    (told,) = heard.damage
    assert "copy.db-wal.damaged-1" in told
    assert (tmp_path / "copy.db-wal.damaged-1").read_bytes() == harmed


@pytest.mark.parametrize("cut", [0, 1, 3000, FRAME, FRAME + 1])
async def test_what_a_crash_leaves_is_no_damage(tmp_path: Path, cut: int) -> None:
    copy, heard = await left_by_a_crash(tmp_path), Heard()
    log = tmp_path / "copy.db-wal"
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) - cut])
    async with opened(copy, heard) as store:
        assert len(await ids(store)) == (20 if cut == 0 else 19)
    assert heard.damage == []


async def test_what_is_left_of_an_earlier_generation_is_no_damage(tmp_path: Path) -> None:
    path, heard = tmp_path / "deferred.db", Heard()
    copy = tmp_path / "copy.db"
    async with opened(path) as store:
        # So much that the log begins anew, with old frames behind the new ones.
        for number in range(60):
            await store.put(deferred(number, content=b"x" * 200_000))
        await store.put(deferred(100))
        for suffix in ("", "-wal"):
            copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
        frames = (len((tmp_path / "copy.db-wal").read_bytes()) - HEAD) // FRAME
        assert commits(tmp_path / "copy.db-wal")[-1] < frames
    async with opened(copy, heard) as store:
        assert store.depth == 61
    assert heard.damage == []


def test_no_log_and_a_short_one(tmp_path: Path) -> None:
    log = tmp_path / "x-wal"
    assert commits(log) == []
    log.write_bytes(b"short")
    assert commits(log) == []
    assert [keep(log).name for _ in range(2)] == ["x-wal.damaged-1", "x-wal.damaged-2"]
