"""All that the experiment has found, as JSON: what tables, chart and verdicts are made from.

Nothing here measures; figures.py does.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import msgspec
from isolation.figures import Figures
from isolation.scenario import Scenario

ALL_HEALTHY, DIRECT = "all-healthy", "direct"
DEFAULTS, TUNED = ("defaults", "defaults-https"), ("tuned", "tuned-https")
# As they are told: plain first, then https.
OURS = tuple(slug for pair in zip(DEFAULTS, TUNED, strict=True) for slug in pair)
_ORDER = (ALL_HEALTHY, DIRECT, "squid", "envoy", *OURS)

# Milliseconds, and tenths of a percent.
_DIGITS = 3
_NUMBERS = re.compile(r"\[[-+.eE\d,\s]*\]")


@dataclass(frozen=True)
class Machine:
    """What it was played on, and with.

    Attributes:
        cores: that the processes could use.
        python: version.
        programs: version of each by its name.
    """

    cores: int
    python: str
    programs: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """One way from the dispatcher to the endpoints, played.

    Attributes:
        label: what people call it.
        figures: what came of it.
    """

    label: str
    figures: Figures


@dataclass(frozen=True)
class Report:
    """All that was found.

    Attributes:
        date: of the day it was played, as in ISO 8601.
        scenario: what was played.
        machine: on what.
        runs: by slug; those known here are told in the order in which they compare best, others after them.
    """

    date: str
    scenario: Scenario
    machine: Machine
    runs: Mapping[str, Run]

    def ordered(self) -> dict[str, Run]:
        """The runs in the order in which they are told."""
        known = [slug for slug in _ORDER if slug in self.runs]
        return {slug: self.runs[slug] for slug in (*known, *sorted(self.runs.keys() - set(known)))}

    def of_all_healthy(self, slug: str) -> float | None:
        """The healthy throughput of a run as a share of that while all were well; None: that is missing."""
        return _quotient(self.runs[slug].figures.healthy_per_s, self._per_s(ALL_HEALTHY))

    def fewer_calls(self, slug: str, than: str) -> float | None:
        """By which share fewer calls reached sick endpoints than in another run; None: that is missing."""
        other = self.runs.get(than)
        quotient = _quotient(
            self.runs[slug].figures.calls_to_sick, None if other is None else other.figures.calls_to_sick
        )
        return None if quotient is None else 1 - quotient

    @property
    def cpu_share(self) -> float:
        """The largest of all runs."""
        return max(run.figures.cpu_share for run in self.runs.values())

    @property
    def publisher_late_s(self) -> float:
        """The largest of all runs."""
        return max(run.figures.publisher_late_s for run in self.runs.values())

    def _per_s(self, slug: str) -> float | None:
        run = self.runs.get(slug)
        return None if run is None else run.figures.healthy_per_s


def to_json(report: Report) -> str:
    """The report as JSON; equal reports give equal text, and a list of numbers is one line."""
    value = asdict(replace(report, runs=report.ordered()))
    value["machine"]["programs"] = dict(sorted(report.machine.programs.items()))
    text = json.dumps(_rounded(value), indent=1, ensure_ascii=False)
    return _NUMBERS.sub(lambda numbers: " ".join(numbers[0].split()), text) + "\n"


def from_json(text: str) -> Report:
    """Reads what `to_json` wrote.

    Raises:
        msgspec.ValidationError: it is something else.
    """
    return msgspec.json.decode(text, type=Report)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _quotient(value: float, of: float | None) -> float | None:
    return value / of if of else None
