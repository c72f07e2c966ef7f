"""Plants bugs in the circuit engine, one at a time, and sees each of them caught.

A bug is a row of MUTANTS: the trap it is, the file, the code, and the code with the bug. The tests of the
core must fail with it: the quick ones, or else the state machines.

`make mutants ARGS=--short` plants only the bugs whose row names the test that is there for them, and runs
that test alone. `--machine` has only the state machines look, which shows what they see by themselves. Words
choose the rows that have them all.

The tree is copied, never changed. A row whose code is no longer in the tree is an error, chosen or not; so
is a test that fails without any bug.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = Path("tests/core")
# At once; how long it all takes is told for two.
PROCESSES = 2
# Too slow to be asked about each bug.
MACHINES = [f"{CORE}/test_registry_machine.py", f"{CORE}/test_breaker_machine.py"]
# The same tests in the same order with the same examples each time, up to the first that fails; what hangs
# has failed as well.
PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "--timeout=60", "-p", "no:cacheprovider"]
PYTEST += ["-p", "no:randomly", "-p", "no_shrinking", "--hypothesis-seed=0"]
PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Mutant:
    """One bug.

    `by` names the test that is there for this trap: its file, and a part of its name.
    """

    trap: str
    path: str
    code: str
    bug: str
    by: str = ""

    @property
    def alone(self) -> list[str]:
        """What has pytest run that test alone."""
        file, _, part = self.by.partition("::")
        return [f"{CORE}/{file}", "-k", part]


BREAKER, PERMIT, REGISTRY = "breaker.py", "permit.py", "registry.py"
MUTANTS = [
    Mutant(
        "leaving after the upstream owed is neutral",
        "outcome.py",
        "return _FAILED[FailureKind.ABANDONED]",
        "return NEUTRAL",
        "test_traps.py::a_client_that_always_leaves",
    ),
    Mutant(
        "early leaving counts",
        "outcome.py",
        "upstream_owed_s >= abandoned_after_s",
        "upstream_owed_s >= 0",
        "test_traps.py::a_clients_early_leaving",
    ),
    Mutant(
        "a client that owes fails the lease",
        "exchange.py",
        "        return self.awaited.outcome\n",
        "        return failed(FailureKind.RESPONSE_TIMEOUT)\n",
        "test_traps.py::never_given_back",
    ),
    Mutant(
        "taking content does not help the lease",
        "exchange.py",
        "if self.upstream_took_at >= self.lease_at - TOOK_LATELY_S:",
        "if False:",
        "test_lease.py::takes_content_is_at_work",
    ),
    Mutant(
        "the lease is judged when noticed",
        "exchange.py",
        "        self.at_lease = self.verdict_at_lease()\n        self.lease_at = FOREVER",
        "        pass",
    ),
    Mutant(
        "a probe is judged at completion",
        PERMIT,
        "elif host is not None and host.is_probe:",
        "elif host is not None and False:",
        "test_traps.py::a_long_download_as_a_probe_reopens",
    ),
    Mutant(
        "late results count",
        BREAKER,
        "if seat.settled or seat.generation != self.generation:",
        "if seat.settled:",
        "test_traps.py::a_late_success",
    ),
    Mutant(
        "late results mint permits",
        BREAKER,
        "if seat.is_probe and seat.generation == self.generation:\n                self._end_probe(seat, ",
        "if len(self._probes):\n                self._end_probe(self._probes.first(), ",
        "test_traps.py::frees_a_slot",
    ),
    Mutant(
        "a cancelled probe leaks its permit",
        BREAKER,
        "                self._end_probe(seat, NEUTRAL)\n        self.in_flight -= 1",
        "                pass\n        self.in_flight -= 1",
        "test_traps.py::a_cancelled_probe",
    ),
    Mutant(
        "a cancelled probe reopens",
        BREAKER,
        "                self._end_probe(seat, NEUTRAL)\n        self.in_flight",
        "                self._change(Trigger.PROBE_FAILED, NEUTRAL, self.touched)\n        self.in_flight",
        "test_traps.py::a_cancelled_probe",
    ),
    Mutant(
        "min_calls wedges half-open",
        BREAKER,
        "if self._probes.succeeded >= self.policy.recovery_threshold:",
        "if self._probes.succeeded >= max(self.policy.recovery_threshold, self.policy.min_calls):",
        "test_traps.py::min_calls",
    ),
    Mutant(
        "an idle window does not expire for readers",
        "window.py",
        "        self._slot(now)\n        return Counts(",
        "        return Counts(",
        "test_traps.py::an_idle_circuits_window",
    ),
    Mutant(
        "the buckets are told in the order of their places",
        "window.py",
        "column[oldest:] + column[:oldest]",
        "column[:]",
        "test_window.py::oldest_first",
    ),
    Mutant(
        "what was not refused has been spared as well",
        "tally.py",
        "        if enforced:\n            self.spared_s",
        "        if True:\n            self.spared_s",
        "test_waits.py::not_enforced",
    ),
    Mutant(
        "the wait of a lease goes on until it is noticed",
        "exchange.py",
        "        self.owed_by_lease_s = self.upstream_s_at_lease()\n",
        "",
        "test_waits.py::outlives_its_lease",
    ),
    Mutant(
        "a failure behind the head has waited to the head only",
        BREAKER,
        "self._waits.add(seat.exchange.total_upstream_s(now))",
        "self._waits.add(upstream_s)",
        "test_waits.py::behind_the_head",
    ),
    Mutant(
        "a download is latency",
        PERMIT,
        "        upstream_s = self._upstream_s\n        if upstream_s is None:",
        "        if True:",
        "test_breaker.py::up_to_the_head",
    ),
    Mutant(
        "a step back corrupts the window",
        "window.py",
        "if bucket > self._newest:",
        "if bucket != self._newest:",
        "test_traps.py::a_wall_clock_step",
    ),
    Mutant(
        "a success in half-open resets the escalation",
        BREAKER,
        "        self._probes.succeeded += 1",
        "        self._probes.succeeded += 1\n        self.level = 0",
        "test_traps.py::never_escalates",
    ),
    Mutant(
        "the escalation overflows",
        "escalation.py",
        "    return bounded(policy, level + 1)",
        "    return level + 1",
        "test_traps.py::the_escalation_overflows",
    ),
    Mutant(
        "4xx clears the run",
        "outcome.py",
        "Verdict.ALIVE: Effect(run=0,",
        "Verdict.ALIVE: Effect(run=None,",
        "test_traps.py::4xx_mixed",
    ),
    Mutant(
        "our own faults count",
        "errors.py",
        "    outcome: Outcome = NEUTRAL\n",
        "    outcome: Outcome = failed(FailureKind.RESET)\n",
        "test_traps.py::a_pool_or_resolver_fault",
    ),
    Mutant(
        "one endpoint cuts off the others",
        "evidence.py",
        "if policy.consecutive_failures and endpoint not in self._silent_endpoints:",
        "if policy.consecutive_failures:",
        "test_permit.py::silent_endpoints_count_in_the_run",
    ),
    Mutant(
        "a silent host never trips",
        PERMIT,
        "            return outcome, outcome\n",
        "            return NEUTRAL, outcome\n",
        "test_traps.py::a_silent_host",
    ),
    Mutant(
        "abandoned half-open circuits fill the table",
        "eviction.py",
        "            if since == earliest:\n                return circuit",
        "            if since == earliest:\n                return None",
        "test_traps.py::fill_the_table",
    ),
    Mutant(
        "an unswept opening never makes room",
        BREAKER,
        "return max(self.touched, self.due) if now >= self.due else None",
        "return None",
    ),
    Mutant(
        "spraying pushes out an open circuit",
        REGISTRY,
        "            if self._at_rest:\n                evicted = next(iter(self._at_rest.values()))",
        "            if self._table:\n                evicted = next(iter(self._table.values()))",
        "test_traps.py::pushes_out_an_open",
    ),
    Mutant(
        "the table grows",
        REGISTRY,
        "while len(self._table) >= self.limits.max_circuits:",
        "while False:",
        "test_traps.py::pushes_out_an_open",
    ),
    Mutant(
        "a listener that raises breaks it",
        "listeners.py",
        "except Exception as error:",
        "except KeyError as error:",
        "test_traps.py::a_listener_that_raises",
    ),
    Mutant(
        "a listener that calls back is told out of order",
        "listeners.py",
        "        if self._is_telling:\n            return\n",
        "",
    ),
    Mutant(
        "a past Retry-After shortens",
        "escalation.py",
        "return max(drawn_s, min(",
        "return (min(",
        "test_escalation.py::the_wish_of_the_upstream",
    ),
    Mutant(
        "a huge Retry-After has no bound",
        "escalation.py",
        "min(retry_after_s, policy.retry_after_max)",
        "retry_after_s",
        "test_traps.py::a_date_in_the_past_a_huge",
    ),
    Mutant(
        "half-open tells all to come back at once",
        BREAKER,
        "        elif self.state is _CLOSED:\n            self.spread = None",
        "        else:\n            self.spread = None",
        "test_breaker.py::a_probe_that_hangs",
    ),
    Mutant(
        "all are told the same end",
        "spread.py",
        "        self._told += 1\n",
        "",
        "test_breaker.py::not_all_told_the_end",
    ),
    Mutant(
        "the spread begins before the end",
        "spread.py",
        "(self._told * _GOLDEN % 1.0)",
        "(self._told * _GOLDEN % 1.0 - 0.5)",
        "test_breaker.py::nobody_is_told_a_time_before",
    ),
    Mutant(
        "an override of a day is spread over half a day",
        BREAKER,
        "min(self.due - at, self.policy.open_max)",
        "self.due - at",
        "test_breaker.py::no_more_than_the_longest_opening",
    ),
    Mutant(
        "an opening begins when it is noticed",
        BREAKER,
        "self._judge_probe(EFFECTS[outcome.verdict], outcome, seat.lease_at)",
        "self._judge_probe(EFFECTS[outcome.verdict], outcome, seat.lease_at + 1.0)",
    ),
    Mutant(
        "half-open lets one more through",
        BREAKER,
        "if len(self._probes) >= self.policy",
        "if len(self._probes) > self.policy",
        "test_traps.py::a_late_result_mints",
    ),
    Mutant(
        "open lets through a little early",
        BREAKER,
        "while now >= self.due:",
        "while now >= self.due - 0.001:",
    ),
    Mutant(
        "in-flight is not counted back",
        BREAKER,
        "        self.in_flight -= 1\n",
        "",
    ),
    Mutant(
        "an override is booked upon",
        BREAKER,
        "if outcome.verdict is _NEUTRAL or self.override is not None:",
        "if outcome.verdict is _NEUTRAL:",
    ),
    Mutant(
        "clearing an override keeps the generation",
        BREAKER,
        "        self.generation += 1\n",
        "        self.generation += self.override is not None\n",
    ),
    Mutant(
        "the level never falls",
        "escalation.py",
        "return max(0, level - floor(closed_s / policy.level_decay))",
        "return level",
    ),
    Mutant(
        "throttled is forgiven",
        "outcome.py",
        "Verdict.THROTTLED: Effect(run=0, failed=True)",
        "Verdict.THROTTLED: Effect(run=0, failed=False)",
    ),
    Mutant(
        "what is gone is remembered unless swept",
        REGISTRY,
        " >= self.limits.circuit_idle and key in self._at_rest:",
        " >= self.limits.circuit_idle and False:",
    ),
    Mutant(
        "the sweeper is a touch",
        REGISTRY,
        "        self._end_overrides(now)\n        # A copy",
        "        self._hear(now)\n        # A copy",
    ),
    Mutant(
        "the window is not emptied on closing",
        BREAKER,
        "        self._evidence.clear()\n",
        "",
    ),
    Mutant(
        "a refusal of the endpoint takes the probe of its host",
        REGISTRY,
        "            if (reason := circuit.refusal(",
        "            if circuit is at_endpoint and at_host:\n                at_host.seat(exchange, now)\n"
        "            if (reason := circuit.refusal(",
    ),
    Mutant(
        "a restart gives an opening all its time again",
        "record.py",
        "left_s = self.left_s - elapsed_s",
        "left_s = self.left_s",
        "test_snapshot.py::a_dead_upstream_is_not_forgotten",
    ),
    Mutant(
        "a clock that is set back lengthens an opening",
        "snapshot.py",
        "max(0.0, elapsed_s)",
        "elapsed_s",
        "test_snapshot.py::set_back",
    ),
    Mutant(
        "a restart forgets what is half-open",
        "record.py",
        "is_stale = not self.is_forced and elapsed_s > policy.open_max",
        "is_stale = not self.is_forced",
        "test_snapshot.py::half_open_lets_a_probe_through",
    ),
    Mutant(
        "the table does not know when a restored override ends",
        REGISTRY,
        "        circuit.resume(record, now)\n        self._file(circuit)",
        "        circuit.resume(record, now)",
        "test_snapshot.py::overrides_stand_until_they_end",
    ),
]
# One run of pytest for each; the next is tried if all tests of one have passed.
Stages = Sequence[list[str]]


def quick_tests() -> list[str]:
    """All tests of the core but the slow ones; those of the traps first, since they find the most."""
    tests = {str(path.relative_to(ROOT)) for path in (ROOT / CORE).glob("test_*.py")} - set(MACHINES)
    return sorted(tests, key=lambda path: ("traps" not in path, path))


def planted(mutant: Mutant, tree: Path) -> str:
    """The text of the mutant's file with its bug in it."""
    text = (tree / "proxy" / "core" / mutant.path).read_text()
    if (times := text.count(mutant.code)) != 1:
        raise SystemExit(f"{mutant.trap}: its code is {times} times in {mutant.path}, not once; mend its row")
    return text.replace(mutant.code, mutant.bug)


def failure(tree: Path, stages: Stages) -> str | None:
    """The first test that fails in a tree; None if all pass."""
    for tests in stages:
        done = subprocess.run(
            [*PYTEST, *tests],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": f"{tree}{os.pathsep}{tree / 'tests' / 'mutants'}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in {PASSED, FAILED}:
            raise SystemExit(f"no test was run: {' '.join(tests)}\n{done.stdout}{done.stderr}")
        if done.returncode == FAILED:
            found = re.search(rf"^FAILED {CORE}/(\S+)", done.stdout, re.MULTILINE)
            return found[1] if found else "a test that hangs"
    return None


def caught_by(mutant: Mutant, snapshot: Path, stages: Stages) -> tuple[str | None, float]:
    """The test that fails with this bug, and how long that took in seconds."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        # With what Python has compiled there, but for the file with the bug.
        shutil.copytree(snapshot, tree)
        source = tree / "proxy" / "core" / mutant.path
        source.write_text(planted(mutant, tree))
        for compiled in (source.parent / "__pycache__").glob(f"{source.stem}.*"):
            compiled.unlink()
        return failure(tree, stages), time.monotonic() - began


def take_snapshot(snapshot: Path) -> None:
    """Copies the tree as it is now, so that all bugs meet the same."""
    for name in ("proxy", "tests"):
        ignore = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(ROOT / name, snapshot / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", snapshot)


def run(mutants: list[Mutant], stages_of: list[Stages], snapshot: Path) -> int:
    """Plants each bug and writes a line about it; returns how many were missed."""
    missed = 0
    out = sys.stdout
    with ThreadPoolExecutor(PROCESSES) as pool:
        answers = pool.map(caught_by, mutants, repeat(snapshot), stages_of)
        for mutant, (test, taken_s) in zip(mutants, answers, strict=True):
            missed += test is None
            out.write(f"{'MISSED' if test is None else 'caught'} {taken_s:5.1f} s  {mutant.trap}: {test}\n")
            out.flush()
    return missed


def check_without_bugs(snapshot: Path, tests: Stages) -> None:
    """Sees all tests pass, or their failing would say nothing."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        for test in pool.map(failure, repeat(snapshot), ([each] for each in tests)):
            if test is not None:
                raise SystemExit(f"{test} fails without any bug")


def main() -> int:
    """Does what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description="plant bugs in the circuit engine and see them caught")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--short", action="store_true", help="only bugs with a test of their own, and that")
    which.add_argument("--machine", action="store_true", help="only the state machines look")
    parser.add_argument("words", nargs="*", metavar="WORD", help="of the traps to plant")
    options = parser.parse_args()
    began = time.monotonic()
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.trap for word in options.words)]
    machines = [[machine] for machine in MACHINES]
    tests = machines if options.machine else [quick_tests(), *machines]
    stages_of: list[Stages] = [tests for _ in chosen]
    if options.short:
        chosen = [mutant for mutant in chosen if mutant.by]
        stages_of = [[mutant.alone] for mutant in chosen]
        tests = [sorted({mutant.alone[0] for mutant in chosen})]
    with tempfile.TemporaryDirectory() as folder:
        snapshot = Path(folder)
        take_snapshot(snapshot)
        for mutant in MUTANTS:
            planted(mutant, snapshot)
        check_without_bugs(snapshot, tests)
        missed = run(chosen, stages_of, snapshot)
    sys.stdout.write(f"{len(chosen) - missed} of {len(chosen)} caught in {time.monotonic() - began:.0f} s\n")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
