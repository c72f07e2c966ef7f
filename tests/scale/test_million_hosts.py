"""A million distinct hosts, thrown at the table of the default size.

They are called in a process of its own: nobody else's memory is measured, and the line tracer of the coverage
does not see a million calls.
"""

import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.circuits import FAILED, REFUSED, Rig

from proxy.core.outcome import SUCCESS
from proxy.core.policy import Limits
from proxy.core.states import State

HOSTS = 1_000_000
# The table is filled many times over by then.
WARM_UP = 100_000
# So that every opening is still under way at the end: the shortest is 30 s.
CALLS_PER_S = 50_000
# Each such host fails until its circuit opens; in the end these fill a good half of the table.
OPENS_EVERY = 200
FLAT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Seen:
    """What was seen while a million hosts were called."""

    most_circuits: int
    opened: int
    lost: tuple[str, ...]
    unprotected: int
    evictions: int
    grown_bytes: int


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def call_a_million() -> Seen:
    rig = Rig()
    circuits = rig.circuits
    most = warm_bytes = 0
    for number in range(HOSTS):
        if number == WARM_UP:
            warm_bytes = resident_bytes()
        now, host = number / CALLS_PER_S, f"host{number}.example:443"
        if number % OPENS_EVERY == 0:
            rig.fail(rig.policy.consecutive_failures, now, host)
        else:
            rig.call((SUCCESS, FAILED, REFUSED)[number % 3], now, host)
        most = max(most, len(circuits))
        if most > circuits.limits.max_circuits:
            break  # before it takes all memory there is
    grown_bytes = resident_bytes() - warm_bytes
    now = HOSTS / CALLS_PER_S
    opened = [change.key for change in rig.heard if change.to_state is State.OPEN]
    lost = [key for key in opened if rig.refusal(now, key) is None]
    return Seen(most, len(opened), tuple(lost[:3]), circuits.unprotected, circuits.evictions, grown_bytes)


@pytest.mark.timeout(120)  # some 10 s if nobody else is at work
def test_a_million_hosts_stay_within_the_bound_lose_no_open_circuit_and_take_no_memory() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        seen = processes.submit(call_a_million).result()
    bound = Limits().max_circuits
    assert seen.most_circuits == bound
    assert seen.opened == HOSTS // OPENS_EVERY
    assert seen.lost == ()
    # Every host had a circuit of its own, and each that was new to a full table pushed one out.
    assert seen.unprotected == 0
    assert seen.evictions == HOSTS - bound
    assert seen.grown_bytes < FLAT_BYTES
