"""Plays the scenario through some ways side by side: starts all that takes part, keeps time, ends it."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event
from time import monotonic

import trustme
from isolation import dispatcher, endpoints, records
from isolation.figures import Figures, measure
from isolation.scenario import Scenario
from isolation.schedule import events
from isolation.ways import Way

# From the moment when everyone is ready to the first event: the publishers start meanwhile.
_HEAD_START_S = 2.0
_TOLD_EVERY_S = 1.0
# How long behind the end the last event may be published; it is due before that.
_LAST_EVENT_S = 20.0
# Of the first line of /proc/stat: idle and iowait.
_IDLE = slice(3, 5)


@dataclass(frozen=True)
class Played:
    """What came of a run.

    Attributes:
        figures: in numbers.
        program: what the way led through, with its version; None: nothing.
    """

    figures: Figures
    program: str | None


class _Stopped(Exception):
    """The round was ended early, because of another of its runs."""


class _Clock:
    """The time of a round, the same for all its runs.

    Args:
        scenario: what is played.
        runs: how many.

    Attributes:
        onset_s: on the monotonic clock, once it has begun.
        cpu_share: of all cores, how much was busy from the onset to the end; once that is over.
    """

    def __init__(self, scenario: Scenario, runs: int) -> None:
        self.onset_s = inf
        self.cpu_share = 0.0
        self._scenario = scenario
        self._ready = Barrier(runs + 1, action=self._begin)
        self._measured = Event()
        self._stopped = Event()

    @property
    def end_s(self) -> float:
        """When the runs end."""
        return self.onset_s + self._scenario.measured_s

    def begin(self) -> None:
        """Waits until all runs and the one who keeps time are ready.

        Raises:
            _Stopped: one of them will not be.
        """
        try:
            self._ready.wait()
        except BrokenBarrierError:
            raise _Stopped from None

    def keep(self, tell: Callable[[float], None]) -> None:
        """Keeps time from the beginning to the end.

        Args:
            tell: is called about once a second, with the seconds since the onset.
        """
        self.begin()
        self._wait_until(self.onset_s - self._scenario.lead_in_s, tell)
        self._wait_until(self.onset_s, tell)
        busy, all_ = _cpu()
        self._wait_until(self.end_s, tell)
        busy_since, all_since = _cpu()
        self.cpu_share = (busy_since - busy) / (all_since - all_)
        self._measured.set()

    def wait_for_end(self, check: Callable[[], None]) -> None:
        """Waits until the runs have ended.

        Args:
            check: is called about once a second, and once at the end.

        Raises:
            _Stopped: one of them ended early.
            Exception: what `check` has raised.
        """
        while not self._measured.wait(_TOLD_EVERY_S):
            check()
        if self._stopped.is_set():
            raise _Stopped
        check()

    def stop(self) -> None:
        """Ends all runs early."""
        self._stopped.set()
        self._measured.set()
        self._ready.abort()

    def _begin(self) -> None:
        self.onset_s = monotonic() + _HEAD_START_S + self._scenario.lead_in_s

    def _wait_until(self, at_s: float, tell: Callable[[float], None]) -> None:
        while (ahead_s := at_s - monotonic()) > 0:
            if self._stopped.wait(min(ahead_s, _TOLD_EVERY_S)):
                raise _Stopped
            tell(monotonic() - self.onset_s)


@dataclass(frozen=True)
class Round:
    """Runs that are played at the same time: each waits most of the time, so they do not need a machine each.

    Attributes:
        ways: of the runs, each with endpoints, broker and dispatcher of its own.
        scenario: the same for all.
        folder: for one of each, by its slug, and for certificates.
    """

    ways: Sequence[Way]
    scenario: Scenario
    folder: Path

    def play(self, tell: Callable[[float], None]) -> dict[str, Played]:
        """Plays them once.

        Args:
            tell: is called about once a second, with the seconds since the onset.

        Returns:
            What came of each, by the slug of its way.

        Raises:
            Exception: what the first that failed has raised.
        """
        clock = _Clock(self.scenario, len(self.ways))
        with ThreadPoolExecutor(len(self.ways)) as threads:
            runs = {}
            try:
                for way in self.ways:
                    runs[way.slug] = threads.submit(self._play, way, clock)
                with suppress(_Stopped):
                    clock.keep(tell)
            except BaseException:
                clock.stop()
                raise
        for run in runs.values():
            if not isinstance(run.exception(), _Stopped):
                run.result()
        return {slug: run.result() for slug, run in runs.items()}

    def _play(self, way: Way, clock: _Clock) -> Played:
        try:
            return self._run(way, clock)
        except BaseException:
            clock.stop()
            raise

    def _run(self, way: Way, clock: _Clock) -> Played:
        folder = self.folder / way.slug
        between = folder / "way"
        between.mkdir(parents=True)
        scale = self.scenario.scale
        ca, pem = self._certificates if way.is_https else (None, None)
        scheme = "https" if way.is_https else "http"
        with (
            endpoints.running(folder, scale, pem) as served,
            way.start(between, self.scenario, served.ports, ca) as running,
            dispatcher.running(folder, self.scenario, running.environ) as sender,
        ):

            def check() -> None:
                served.check()
                sender.check()

            clock.begin()
            if not way.is_all_healthy:
                served.fall_sick(clock.onset_s)
            urls = {name: f"{scheme}://127.0.0.1:{port}/hook" for name, port in served.ports.items()}
            with sender.publishing(clock.onset_s, urls) as publisher:
                clock.wait_for_end(check)
                published = json.loads(publisher.communicate(timeout=_LAST_EVENT_S)[0])
        due = {event.number: (event.endpoint, clock.onset_s + event.due_s) for event in events(self.scenario)}
        figures = measure(
            self.scenario,
            clock.onset_s,
            due,
            attempts=records.attempts(folder),
            arrivals=records.arrivals(folder),
            openings=running.openings(),
            nobody_is_sick=way.is_all_healthy,
            publisher_late_s=published["late_s"],
            cpu_share=clock.cpu_share,
        )
        return Played(figures, running.program)

    @cached_property
    def _certificates(self) -> tuple[Path, Path]:
        """The files of a CA's certificate, and of the endpoints' key and chain by it."""
        authority, pem = self.folder / "authority.pem", self.folder / "endpoints.pem"
        issuer = trustme.CA()
        issuer.cert_pem.write_to_path(str(authority))
        issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
        return authority, pem


def _cpu() -> tuple[int, int]:
    """The time that all cores were busy since the machine started, and all there was, in ticks."""
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    ticks = [int(count) for count in line.split()[1:9]]
    return sum(ticks) - sum(ticks[_IDLE]), sum(ticks)
