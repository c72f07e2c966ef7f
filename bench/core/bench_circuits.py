"""How long the circuits take to decide, in microseconds a call, and whether that depends on their number.

A call is all that the line asks of the circuits: admit, connected, head, settle, and leaving the permit. The
record of the exchange is made before, since the line needs one with or without circuits.

The target is 5 microseconds a call at most on CPython 3.11, whether there are 10 circuits or 10,000. The
calls of one row go to 10 of 10,000 circuits: that is what their number costs. Those of the next go round all
of them, which is the worst that can be done to the caches of the processor. The least value is the one to
compare: where others are at work as well, the mean tells of them.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from itertools import count, cycle, islice
from time import perf_counter

import pyperf

from proxy.core.errors import DestinationUnavailable
from proxy.core.exchange import Entry, Exchange
from proxy.core.overrides import Force
from proxy.core.policy import CircuitPolicy
from proxy.core.registry import Circuits
from proxy.core.scope import CircuitKey

FEW, MANY = 10, 10_000
TARGET_US = 5.0
# So many calls a second in the time that the circuits are told, which is about what they can take.
RATE = 100_000

# The seconds that so many loops took.
Timed = Callable[[int], float]


def table() -> Circuits:
    """An empty table with the default settings."""

    def on_fault(_: object, error: Exception) -> None:
        raise error

    return Circuits(draw=lambda: 0.5, on_fault=on_fault)


@cache
def good_calls(number: int, *, called: int | None = None, two_scopes: bool = False) -> Timed:
    """Whole calls that end well; their circuits are closed, and stand before the clock is started.

    Args:
        number: how many circuits there are; with two scopes half of them are those of endpoints.
        called: how many are called; None is all.
        two_scopes: whether a call asks its endpoint's circuit besides its host's.
    """
    circuits = table()
    policy = CircuitPolicy(key=CircuitKey.parse("path")) if two_scopes else CircuitPolicy()
    exchange = Exchange(Entry.FORWARD, "POST", 0.0)
    hosts = [f"host{index}.example:443" for index in range(number // (2 if two_scopes else 1))]
    keys = [(host, f"{host}#/hook" if two_scopes else None) for host in hosts]
    ticks = count()

    def timed(loops: int) -> float:
        began = perf_counter()
        for host, endpoint in islice(asked, loops):
            now = next(ticks) / RATE
            with circuits.admit(host, policy, exchange, now, endpoint) as permit:
                permit.connected(now)
                permit.settle(permit.head(200, None, now), now)
        return perf_counter() - began

    asked = iter(keys)
    timed(len(keys))
    if len(circuits) != number:
        raise SystemExit(f"expected {number} circuits: {circuits!r}")
    asked = cycle(keys[:called])
    return timed


@cache
def refusals() -> Timed:
    """Calls that an open circuit refuses."""
    circuits = table()
    policy = CircuitPolicy()
    exchange = Exchange(Entry.FORWARD, "POST", 0.0)
    # Until somebody clears it, so that no opening ends while it is measured.
    circuits.force("host.example:443", policy, Force.OPEN, 0.0)
    ticks = count()

    def timed(loops: int) -> float:
        refused = 0
        began = perf_counter()
        for _ in range(loops):
            try:
                circuits.admit("host.example:443", policy, exchange, next(ticks) / RATE)
            except DestinationUnavailable:
                refused += 1
        taken_s = perf_counter() - began
        if refused != loops:
            raise SystemExit(f"{loops - refused} of {loops} calls passed an open circuit")
        return taken_s

    return timed


CASES: dict[str, Callable[[], Timed]] = {
    f"{FEW} circuits": partial(good_calls, FEW),
    f"{FEW} of {MANY:,} circuits": partial(good_calls, MANY, called=FEW),
    f"{MANY:,} circuits": partial(good_calls, MANY),
    f"two scopes, {FEW} circuits": partial(good_calls, FEW, two_scopes=True),
    f"two scopes, {MANY:,} circuits": partial(good_calls, MANY, two_scopes=True),
    "refusal of an open circuit": refusals,
}


def measure(loops: int, case: Callable[[], Timed]) -> float:
    """The seconds that so many loops take; what they need is made once, by the process that measures."""
    return case()(loops)


def report(found: dict[str, pyperf.Benchmark]) -> str:
    """A table of all figures."""
    rows = ["", f"{'microseconds':30}{'least':>8}{'median':>8}{'mean':>8}"]
    least_us = {name: min(each.get_values()) * 1e6 for name, each in found.items()}
    for name, each in found.items():
        rows.append(f"{name:30}{least_us[name]:8.2f}{each.median() * 1e6:8.2f}{each.mean() * 1e6:8.2f}")
    few, few_of_many, many, few_of_two, many_of_two, _ = least_us.values()
    is_met = max(few, few_of_many, many) <= TARGET_US
    rows += [
        f"{MANY:,} circuits against {FEW}, all called: {many / few:.2f} times as long",
        f"the same, {FEW} called: {few_of_many / few:.2f}",
        f"two scopes, all called: {many_of_two / few_of_two:.2f}",
        f"target, at most {TARGET_US:g} with one scope: {'met' if is_met else 'missed'}",
        "",
    ]
    return "\n".join(rows)


def main() -> None:
    """Measures, and prints what it found."""
    runner = pyperf.Runner()
    found = {name: runner.bench_time_func(name, measure, case) for name, case in CASES.items()}
    # A process that measures one case for another process has nothing of the rest.
    if not runner.args.worker and all(found.values()):
        sys.stdout.write(report(found))


if __name__ == "__main__":
    main()
