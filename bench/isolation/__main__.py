"""What a dispatcher gains: plays the same twenty endpoints, some of them sick, on one way after another.

    PYTHONPATH=bench:tests:docs python -m isolation [--short] [--ways all-healthy,tuned] [--tuned FILE]

All ways take about 15 minutes. What comes of them is written to docs/isolation.json, .svg and .md; a short
form, or one of some ways or with another file, is told and not written. It ends with 1 if something that must
hold does not. What is played, and how the figures are made, is in docs/isolation.md.
"""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NoReturn

from isolation import ours, page, report
from isolation.run import Played, Round
from isolation.scenario import Scenario
from isolation.verdicts import verdicts
from isolation.ways import Way, ways

from proxy.control import config

_DOCS = Path(__file__).parents[2] / "docs"
_SHORT_SCALE = 1 / 6
_SHORT_WAYS = ("all-healthy", "direct", "tuned", "tuned-https")
# What passes by before and after the events of a round.
_AROUND_S = 12.0
# Where there is no terminal to write over.
_LINE_EVERY_S = 30.0


class _Progress:
    """Tells on standard error how far it is; on a terminal in one line that is written over."""

    def __init__(self, rounds: Sequence[Sequence[Way]], scenario: Scenario) -> None:
        self._rounds = rounds
        self._scenario = scenario
        self._told_s = float("-inf")
        self._is_terminal = sys.stderr.isatty()

    def begin(self, number: int) -> None:
        """A round begins, numbered from 0."""
        round_s = _AROUND_S + self._scenario.lead_in_s + self._scenario.measured_s
        left_min = (len(self._rounds) - number) * round_s / 60
        names = " and ".join(way.label for way in self._rounds[number])
        self._write(f"{number + 1} of {len(self._rounds)}: {names} (about {left_min:.1f} minutes left)\n")
        self._told_s = float("-inf")

    def at(self, since_onset_s: float) -> None:
        """So many seconds since the onset."""
        now = monotonic()
        if self._is_terminal:
            self._write(f"\r  {self._when(since_onset_s)}\033[K")
        elif now - self._told_s >= _LINE_EVERY_S:
            self._write(f"  {self._when(since_onset_s)}\n")
            self._told_s = now

    def end(self) -> None:
        """The round is over."""
        if self._is_terminal:
            self._write("\r\033[K")

    def _when(self, since_onset_s: float) -> str:
        if since_onset_s < 0:
            return f"everyone is well; {-since_onset_s:.0f} s to the onset"
        return f"{since_onset_s:.0f} of {self._scenario.measured_s:.0f} s"

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _arguments() -> argparse.Namespace:
    slugs = [way.slug for way in ways()]
    parser = argparse.ArgumentParser("isolation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="some ways, all times a sixth; for tests")
    parser.add_argument("--ways", help=f"only these, with commas: {','.join(slugs)}")
    parser.add_argument("--at-once", type=int, default=2, help="how many ways are played at a time (2)")
    parser.add_argument("--tuned", type=Path, help="a configuration in place of bench/isolation/tuned.yaml")
    parser.add_argument("--records", type=Path, help="a new folder in which all records are kept")
    wanted = parser.parse_args()
    if wanted.records is not None and (
        wanted.records.exists() or not wanted.records.absolute().parent.is_dir()
    ):
        parser.error("--records: not a new folder in one that is there")
    if wanted.tuned is not None:
        try:
            config.load(wanted.tuned, {}, {})
        except config.ConfigError as error:
            parser.error(f"--tuned: {error}")
    named = wanted.ways.split(",") if wanted.ways else _SHORT_WAYS if wanted.short else slugs
    if unknown := sorted(set(named) - set(slugs)):
        parser.error(f"no such ways: {', '.join(unknown)}")
    if wanted.at_once < 1:
        parser.error("--at-once is at least 1")
    wanted.is_whole = named == slugs and not wanted.short and wanted.tuned is None
    wanted.ways = [way for way in ways(wanted.tuned or ours.TUNED) if way.slug in named]
    return wanted


def _report(scenario: Scenario, chosen: Sequence[Way], played: dict[str, Played]) -> report.Report:
    programs = {run.program for run in played.values() if run.program is not None}
    return report.Report(
        date=datetime.now(UTC).date().isoformat(),
        scenario=scenario,
        machine=report.Machine(
            cores=len(os.sched_getaffinity(0)),
            python=platform.python_version(),
            programs=dict(program.rsplit(" ", 1) for program in programs),
        ),
        runs={
            way.slug: report.Run(way.label, played[way.slug].figures) for way in chosen if way.slug in played
        },
    )


def main() -> int:
    """Plays, tells, and writes."""
    wanted = _arguments()
    chosen: Sequence[Way] = wanted.ways
    scenario = Scenario().scaled(_SHORT_SCALE) if wanted.short else Scenario()
    rounds = [chosen[begin : begin + wanted.at_once] for begin in range(0, len(chosen), wanted.at_once)]
    progress = _Progress(rounds, scenario)
    played: dict[str, Played] = {}
    with ExitStack() as held:
        if wanted.records is None:
            folder = Path(held.enter_context(TemporaryDirectory(prefix="isolation-")))
        else:
            folder = wanted.records.absolute()
            folder.mkdir()
        try:
            for number, each in enumerate(rounds):
                progress.begin(number)
                (folder / str(number)).mkdir()
                played |= Round(each, scenario, folder / str(number)).play(progress.at)
                progress.end()
        finally:
            # As it is read back, so that nothing told here differs from what is written; and told even if the
            # rest cannot be played.
            found = report.from_json(report.to_json(_report(scenario, chosen, played)))
            sys.stdout.write(page.results(found))
    if wanted.is_whole:
        page.write(found, _DOCS)
        sys.stdout.write("Written: docs/isolation.json, docs/isolation.svg and docs/isolation.md\n")
    return 0 if all(verdict.holds for verdict in verdicts(found)) else 1


def _end(number: int, _frame: object) -> NoReturn:
    """Ends as by Ctrl-C, so that nothing is left behind."""
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    sys.exit(main())
