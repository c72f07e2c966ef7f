"""What a leaf certificate costs: the time to make one, the time to get one again, and the memory it takes.

    python bench/leaves/bench_leaves.py [--leaves 500]

The times are medians in microseconds. A minting is the certificate and the context that presents it; the key
is one for all, and its time is told to show what one for each would add. The memory is by how much the
resident memory of the process has grown (`Rss` in /proc/self/smaps_rollup) with as many contexts as are told,
divided by how many they are; and then with ten times as many asked for and no more than before kept.
"""

import argparse
import asyncio
import re
import statistics
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from cryptography.hazmat.primitives.asymmetric import ec

from proxy.wire.certificate_authority import load_or_make
from proxy.wire.leaves import Leaves

_WARM_UP = 50


def _resident_bytes() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    found = re.search(r"^Rss:\s+(\d+) kB$", rollup, re.MULTILINE)
    if found is None:
        raise RuntimeError("the kernel does not say")
    return int(found[1]) * 1024


def _now() -> datetime:
    return datetime.now(UTC)


def _median_us(each: Callable[[], object], times: int) -> float:
    spent = []
    for _ in range(times):
        before = perf_counter()
        each()
        spent.append(perf_counter() - before)
    return statistics.median(spent) * 1e6


async def _asked_us(leaves: Leaves, prefix: str, count: int) -> float:
    spent = []
    for number in range(count):
        before = perf_counter()
        await leaves.context(f"{prefix}{number}.example.com")
        spent.append(perf_counter() - before)
    return statistics.median(spent) * 1e6


async def _measure(count: int) -> None:
    opened = load_or_make(None, None, (), _now())
    warm = Leaves(opened.authority, _now)
    await _asked_us(warm, "warm", _WARM_UP)
    warm.close()
    key = _median_us(lambda: ec.generate_private_key(ec.SECP256R1()), count)
    leaves = Leaves(opened.authority, _now, count)
    before = _resident_bytes()
    made = await _asked_us(leaves, "a", count)
    each = (_resident_bytes() - before) / count
    again = await _asked_us(leaves, "a", count)
    churned = await _asked_us(leaves, "b", 10 * count)
    after = (_resident_bytes() - before) / count
    leaves.close()
    sys.stdout.write(
        f"a key of P-256     {key:7.1f} us\n"
        f"a host's first     {made:7.1f} us (and {churned:.1f} us with another let go for each)\n"
        f"the same once more {again:7.1f} us\n"
        f"each of {count} kept   {each / 1024:7.1f} KiB ({after / 1024:.1f} KiB after ten times as many)\n"
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=500)
    asyncio.run(_measure(parser.parse_args().leaves))


if __name__ == "__main__":
    main()
