"""How many deferred requests can be stored in a second, each durable before its sender is answered.

    python bench/store/bench_store.py [--directory DIR] [--seconds 5] [--writers 1,8,64]

Each request has 1 KiB of content. A writer stores one, waits until it is durable, and stores the next; the
process is pinned to one core. Beside it stands what the disk allows: how often a file of the same directory
can be appended to and synced in a second, one after the other. On a file system in memory a sync costs
nothing, and the figures say nothing of a disk.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from proxy.core.defer import Defer
from proxy.core.deferred import Deferred
from proxy.core.quantities import Bytes
from proxy.core.target import Target
from proxy.store.deferred_store import DeferredStore

CONTENT = b"x" * 1024
FIELDS = [(b"Content-Type", b"application/json"), (b"X-Signature", b"t=1,v1=" + b"0" * 64)]
TARGET = Target("https", "hooks.example.com", 443, "/hooks/7", "hooks.example.com")
_SYNCS_S = 1.0


def _request(number: int) -> Deferred:
    return Deferred(
        id=f"{number:032x}",
        queue=TARGET.host_port,
        circuit=TARGET.host_port,
        reason="circuit_open",
        stored_at=0.0,
        target=TARGET,
        method="POST",
        fields=FIELDS,
        content=CONTENT,
        content_bytes=len(CONTENT),
    )


def _ignore(_: object) -> None:
    """Hears what a store tells."""


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _syncs_per_s(directory: Path) -> float:
    count, began = 0, perf_counter()
    with tempfile.TemporaryFile(dir=directory) as file:
        while perf_counter() - began < _SYNCS_S:
            os.write(file.fileno(), CONTENT)
            os.fdatasync(file.fileno())
            count += 1
    return count / (perf_counter() - began)


async def _stored_per_s(path: Path, writers: int, seconds: float) -> tuple[float, float]:
    """How many were stored in a second, and the longest that one of them took, in seconds."""
    took_s: list[float] = []
    settings = Defer(path=str(path), max_events=10_000_000, max_bytes=Bytes(2**40))
    store = DeferredStore(settings, on_put=took_s.append, on_fault=_ignore, on_damage=_ignore)
    await store.open()
    if store.fault is not None:
        raise SystemExit(store.fault)
    began = perf_counter()

    async def write(first: int) -> None:
        number = first
        while perf_counter() - began < seconds:
            await store.put(_request(number))
            number += writers

    await asyncio.gather(*(write(first) for first in range(writers)))
    rate = len(took_s) / (perf_counter() - began)
    await store.close()
    return rate, max(took_s)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="on the disk to measure")
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long each line is measured")
    parser.add_argument("--writers", default="1,8,64", help="how many store at the same time")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _tell(f"syncs of the disk, one after the other: {_syncs_per_s(arguments.directory):.0f}/s")
    for writers in map(int, arguments.writers.split(",")):
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            path = Path(directory) / "deferred.db"
            rate, longest_s = asyncio.run(_stored_per_s(path, writers, arguments.seconds))
        _tell(f"{writers:4} at a time: {rate:8.0f} stored/s, the longest in {longest_s * 1000:.0f} ms")


if __name__ == "__main__":
    main()
