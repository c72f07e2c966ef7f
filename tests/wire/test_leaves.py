"""Leaves are made once for many who wait, are kept for a while, bounded, and leave nothing behind."""

import asyncio
import gc
import resource
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread, active_count
from typing import Any

import pytest
from support.certificates import trusting
from support.handshakes import handshake, memory_files

from proxy.core.budget import MOST_SESSIONS
from proxy.wire.certificate_authority import Authority, load_or_make
from proxy.wire.leaves import SWEEP_AFTER, Leaves
from proxy.wire.mint import BACKDATED, LIFE, Leaf, LeafFault, Mint

HOST = "api.example.com"
START = datetime.now(UTC).replace(microsecond=0)


@dataclass
class World:
    """An authority that clients trust, its leaves, and a clock."""

    authority: Authority
    bundle: Path
    now: datetime = START
    kept: list[Leaves] = field(default_factory=list)

    def leaves(self, most: int = 8) -> Leaves:
        self.kept.append(Leaves(self.authority, lambda: self.now, most))
        return self.kept[-1]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Whose end leaves neither a thread nor a descriptor, and nothing for the loop to complain of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    threads, descriptors = active_count(), memory_files()
    opened = load_or_make(None, str(tmp_path), (), START)
    world = World(opened.authority, tmp_path / "ca-bundle.crt")
    yield world
    for each in world.kept:
        each.close()
        assert (len(each), each.minting) == (0, 0)
    await asyncio.sleep(0)
    gc.collect()
    assert active_count() == threads
    assert memory_files() == descriptors
    assert complaints == []


class Slow:
    """Holds mintings up until they may go on, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hosts: list[str] = []
        self.go_on = Event()
        self.fault: Exception | None = None
        mint = Mint.leaf

        def slow(mints: Mint, host: str, now: datetime) -> Leaf:
            self.hosts.append(host)
            assert self.go_on.wait(10)
            if self.fault is not None:
                raise self.fault
            return mint(mints, host, now)

        monkeypatch.setattr(Mint, "leaf", slow)

    async def begun(self, count: int = 1) -> None:
        while len(self.hosts) < count:
            await asyncio.sleep(0)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow = Slow(monkeypatch)
    yield slow
    slow.go_on.set()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# How long it lasts.


async def test_it_is_replaced_at_half_its_life(world: World) -> None:
    leaves = world.leaves()
    first = await leaves.context(HOST)
    world.now = START + LIFE / 2 - timedelta(seconds=1)
    assert await leaves.context(HOST) is first
    world.now = START + LIFE / 2
    second = await leaves.context(HOST)
    assert second is not first
    assert await leaves.context(HOST) is second
    assert len(leaves) == 1


async def test_it_is_replaced_if_the_clock_was_put_back(world: World) -> None:
    leaves = world.leaves()
    first = await leaves.context(HOST)
    world.now = START - BACKDATED
    assert await leaves.context(HOST) is first
    world.now = START - BACKDATED - timedelta(seconds=1)
    assert await leaves.context(HOST) is not first


# How many there are.


async def test_the_least_recently_used_goes(world: World) -> None:
    leaves = world.leaves(most=2)
    first, second = [await leaves.context(host) for host in ("a", "b")]
    assert await leaves.context("a") is first
    await leaves.context("c")
    assert len(leaves) == 2
    assert await leaves.context("a") is first
    assert await leaves.context("b") is not second
    assert len(leaves) == 2


async def test_remembered_sessions_are_bounded(world: World) -> None:
    """A client of TLS 1.2 without tickets, as urllib3 is, makes OpenSSL remember it."""
    leaves = world.leaves()
    client = trusting(world.bundle)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.options |= ssl.OP_NO_TICKET
    many, few = await leaves.context(HOST), await leaves.context("few")
    for _ in range(MOST_SESSIONS + 1):
        await handshake(many, client, HOST)
    await handshake(few, client, "few")
    assert many.session_stats()["number"] == MOST_SESSIONS + 1
    for _ in range(SWEEP_AFTER - 2):
        assert await leaves.context("few") is few
    assert len(leaves) == 1
    assert await leaves.context(HOST) is not many


# Many at once.


async def test_many_wait_for_one_minting(world: World, slow: Slow) -> None:
    leaves = world.leaves()
    waiting = [asyncio.create_task(leaves.context(HOST)) for _ in range(20)]
    await slow.begun()
    assert leaves.minting == 1
    slow.go_on.set()
    assert len(set(await asyncio.gather(*waiting))) == 1
    assert slow.hosts == [HOST]


async def test_the_loop_goes_on_meanwhile(world: World, slow: Slow) -> None:
    leaves = world.leaves()
    slow.go_on.set()
    kept = await leaves.context("kept")
    slow.go_on.clear()
    waiting = asyncio.create_task(leaves.context(HOST))
    await slow.begun(2)
    assert await leaves.context("kept") is kept
    slow.go_on.set()
    await waiting


async def test_who_leaves_takes_nobody_along(world: World, slow: Slow) -> None:
    leaves = world.leaves()
    waiting = [asyncio.create_task(leaves.context(HOST)) for _ in range(3)]
    await slow.begun()
    waiting[0].cancel()
    await turns()
    assert waiting[0].cancelled()
    slow.go_on.set()
    assert await waiting[1] is await waiting[2]
    assert slow.hosts == [HOST]


async def test_what_nobody_waits_for_any_more_is_not_made(world: World, slow: Slow) -> None:
    leaves = world.leaves()
    first = asyncio.create_task(leaves.context("first"))
    await slow.begun()
    gone = [asyncio.create_task(leaves.context(f"gone{number}")) for number in range(20)]
    await turns()
    assert leaves.minting == 21
    for each in gone:
        each.cancel()
    await turns()
    assert leaves.minting == 1
    # Who comes now does not get what was called off.
    again = asyncio.create_task(leaves.context("gone7"))
    await turns()
    slow.go_on.set()
    await asyncio.gather(first, again)
    assert slow.hosts == ["first", "gone7"]


async def test_a_fault_is_told_to_all_and_forgotten(world: World, slow: Slow) -> None:
    leaves = world.leaves()
    slow.fault = LeafFault("no")
    slow.go_on.set()
    waiting = [asyncio.create_task(leaves.context(HOST)) for _ in range(3)]
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(each) for each in told] == ["no"] * 3
    assert slow.hosts == [HOST]
    assert (len(leaves), leaves.minting) == (0, 0)
    slow.fault = None
    await leaves.context(HOST)
    assert slow.hosts == [HOST] * 2


async def test_a_fault_that_nobody_waits_for_is_no_complaint(world: World, slow: Slow) -> None:
    """`world` looks at the complaints."""
    leaves = world.leaves()
    slow.fault = LeafFault("no")
    waiting = asyncio.create_task(leaves.context(HOST))
    await slow.begun()
    waiting.cancel()
    await turns()
    slow.go_on.set()
    slow.fault = None
    await leaves.context("other")


async def test_a_fault_whose_last_waiter_leaves_as_it_comes_is_no_complaint(world: World, slow: Slow) -> None:
    leaves = world.leaves()
    slow.fault = LeafFault("no")
    waiting = asyncio.create_task(leaves.context(HOST))
    await slow.begun()
    slow.go_on.set()
    while leaves.minting:
        await asyncio.sleep(0)
    assert waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()


async def test_who_waits_at_the_end_is_told(world: World, slow: Slow) -> None:
    leaves = world.leaves()
    made = asyncio.create_task(leaves.context("made"))
    await slow.begun()
    waiting = asyncio.create_task(leaves.context(HOST))
    await turns()
    # It waits for what is being made, so it cannot run here.
    closing = Thread(target=leaves.close)
    closing.start()
    with pytest.raises(LeafFault, match="the proxy is stopping"):
        await waiting
    slow.go_on.set()
    closing.join()
    assert isinstance(await made, ssl.SSLContext)
    with pytest.raises(LeafFault, match="the proxy is stopping"):
        await leaves.context(HOST)


async def test_want_of_descriptors_is_told_and_passes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a process that has not looked for a directory for temporary files.
    monkeypatch.setattr(tempfile, "tempdir", None)
    leaves = world.leaves()
    await leaves.context("a")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(LeafFault, match="Too many open files") as raised:
            await leaves.context(HOST)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(raised.value.__cause__, OSError)
    await leaves.context(HOST)
