"""What the experiment says when it is over: JSON, a Markdown table, a chart, and whether what must hold does.

JSON is the source: table and chart of docs/isolation.md are made from docs/isolation.json, see
tests/test_isolation_figures.py. Nothing here measures; figures.py does.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
from isolation import chart
from isolation.figures import ON_TIME_S, RECOVERY_SLACK_S, Figures
from isolation.scenario import Scenario

ALL_HEALTHY, DIRECT = "all-healthy", "direct"
DEFAULTS, TUNED = ("defaults", "defaults-https"), ("tuned", "tuned-https")
# As they are told: plain first, then https.
OURS = tuple(slug for pair in zip(DEFAULTS, TUNED, strict=True) for slug in pair)
_ORDER = (ALL_HEALTHY, DIRECT, "squid", "envoy", *OURS)


@dataclass(frozen=True)
class _Limits:
    """What must hold: of the healthy throughput while all are well, and of the calls that the sick had then.

    Attributes:
        tuned, defaults: that share at least.
        direct: less than that share.
        fewer: calls by this share at least.
        busy: the share of all cores that was busy at most.
        late_s: by how much any event was published late, at most.
    """

    tuned: float = 0.95
    defaults: float = 0.85
    direct: float = 0.5
    fewer: float = 0.95
    busy: float = 0.8
    late_s: float = 0.5


_FULL = _Limits()
# With all times a sixth, a sixth of the events come, but a circuit still needs as many failures to open; and
# a call that hangs for a sixth of the time holds its worker for no more.
_SHORT = _Limits(direct=0.75, fewer=0.75, busy=1.0, late_s=2.0)

_MARKS = ("<!-- results -->\n", "<!-- end of results -->\n")
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

    def _per_s(self, slug: str) -> float | None:
        run = self.runs.get(slug)
        return None if run is None else run.figures.healthy_per_s


@dataclass(frozen=True)
class Verdict:
    """Whether one thing that must hold did.

    Attributes:
        claim: what must hold, of which run.
        value: what was found.
        limit: what it must be.
        holds: whether it is.
    """

    claim: str
    value: str
    limit: str
    holds: bool


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


def verdicts(report: Report) -> list[Verdict]:
    """What must hold, of those runs that were played."""
    return list(_verdicts(report))


def tables(report: Report) -> str:
    """The figures of all runs as tables in Markdown: of the healthy endpoints, and of the others."""
    return "\n".join(
        _table([head, *(cells(report, slug) for slug in report.ordered())])
        for head, cells in ((_HEALTHY, _of_healthy), (_AILING, _of_ailing))
    )


def draw(report: Report) -> str:
    """The chart of the report, as SVG."""
    lanes = [
        chart.Lane(
            label=run.label,
            per_s=run.figures.healthy_per_s,
            share=None if slug == ALL_HEALTHY else report.of_all_healthy(slug),
            on_time=run.figures.healthy_on_time,
            timeline=run.figures.timeline,
            is_reference=slug == ALL_HEALTHY,
            is_ours=slug in OURS,
        )
        for slug, run in report.ordered().items()
    ]
    return chart.draw(report.scenario, lanes)


def results(report: Report) -> str:
    """All results in Markdown: what was played on what, the table, and what must hold."""
    return "\n".join([_played(report), tables(report), _told(verdicts(report))])


def page(report: Report, text: str) -> str:
    """A page with its results made anew.

    Args:
        report: whose results.
        text: the page as it was.

    Raises:
        ValueError: it has not exactly one place for them.
    """
    begin, end = _MARKS
    marks = re.compile(f"({begin}).*?({end})", re.DOTALL)
    text, count = marks.subn(lambda found: f"{found[1]}\n{results(report)}\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"{count} places for the results")
    return text


def write(report: Report, folder: Path) -> None:
    """Writes isolation.json and isolation.svg into a folder, and the results into its isolation.md.

    Raises:
        ValueError: there is an isolation.md without a place for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "isolation.json").write_text(to_json(report), encoding="utf-8")
    (folder / "isolation.svg").write_text(draw(report), encoding="utf-8")
    path = folder / "isolation.md"
    before = path.read_text(encoding="utf-8") if path.exists() else "".join(_MARKS)
    path.write_text(page(report, before), encoding="utf-8")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *lines = (f"| {' | '.join(row)} |\n" for row in rows)
    return "".join([head, "|---" + "|---:" * (len(rows[0]) - 1) + "|\n", *lines])


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _quotient(value: float, of: float | None) -> float | None:
    return value / of if of else None


# What must hold.


def _verdicts(report: Report) -> Iterator[Verdict]:
    limits = _FULL if report.scenario.scale == 1 else _SHORT
    for slugs, least in ((TUNED, limits.tuned), (DEFAULTS, limits.defaults)):
        for slug in slugs:
            yield from _keeps(report, slug, least)
    if DIRECT in report.runs and (share := report.of_all_healthy(DIRECT)) is not None:
        yield Verdict(
            f"{report.runs[DIRECT].label}: healthy deliveries collapse",
            _percent(share),
            f"below {_percent(limits.direct)} of all healthy",
            share < limits.direct,
        )
    for slug in OURS:
        yield from _spares(report, slug, limits.fewer)
    for slug in OURS:
        yield from _returns(report, slug)
    if report.runs:
        yield _had_time(report, limits)


def _keeps(report: Report, slug: str, least: float) -> Iterator[Verdict]:
    if slug in report.runs and (share := report.of_all_healthy(slug)) is not None:
        claim = f"{report.runs[slug].label}: healthy deliveries go on"
        limit = f"at least {_percent(least)} of all healthy"
        yield Verdict(claim, _percent(share), limit, share >= least)


def _spares(report: Report, slug: str, least: float) -> Iterator[Verdict]:
    if slug in report.runs and (fewer := report.fewer_calls(slug, ALL_HEALTHY)) is not None:
        claim = f"{report.runs[slug].label}: sick endpoints are left alone"
        limit = f"at least {_percent(least)} fewer calls"
        yield Verdict(claim, _fewer(fewer), limit, fewer >= least)


def _had_time(report: Report, limits: _Limits) -> Verdict:
    """Whether the delays are those of the ways, and not of a machine that was busy."""
    busy, late_s = _busy(report), _late_s(report)
    return Verdict(
        "machine: has time for all of it",
        f"{_percent(busy)} busy, {late_s:.2f} s late",
        f"at most {_percent(limits.busy)} busy, no event published more than {limits.late_s:g} s late",
        busy <= limits.busy and late_s <= limits.late_s,
    )


def _returns(report: Report, slug: str) -> Iterator[Verdict]:
    if slug not in report.runs:
        return
    figures = report.runs[slug].figures
    claim = f"{report.runs[slug].label}: a recovered endpoint gets traffic again"
    value = _back(figures)
    if figures.recovery_allowed_s is None:
        # Then the run shows nothing of it, and must not pass for one that does.
        yield Verdict(claim, value, "its circuit must have opened", holds=False)
    else:
        limit = f"within {figures.recovery_allowed_s:.1f} s, its open time, and {RECOVERY_SLACK_S:g} s"
        yield Verdict(claim, value, limit, figures.is_back_in_time is True)


# Words.

_HEALTHY = (
    "the sixteen",
    "deliveries a second",
    "of all healthy",
    f"within {ON_TIME_S:g} s",
    "p99 delay",
    "worker time wasted",
)
_AILING = (
    "the four",
    "calls while sick",
    "fewer than all healthy",
    "fewer than direct",
    "back after",
    "events delivered",
    "given up",
)
_NOTHING = "-"


def _of_healthy(report: Report, slug: str) -> tuple[str, ...]:
    run = report.runs[slug]
    figures = run.figures
    share = report.of_all_healthy(slug)
    return (
        run.label,
        f"{figures.healthy_per_s:.1f}",
        _NOTHING if share is None else _percent(share),
        _NOTHING if figures.healthy_on_time is None else _percent(figures.healthy_on_time),
        _delay(figures.healthy_delay_p99_s, is_at_least=figures.healthy_delay_p99_is_at_least),
        f"{figures.wasted_s:.0f} s, {_percent(figures.wasted_share)}",
    )


def _of_ailing(report: Report, slug: str) -> tuple[str, ...]:
    run = report.runs[slug]
    figures = run.figures
    is_compared = slug != ALL_HEALTHY
    than_healthy, than_direct = (
        report.fewer_calls(slug, than) if is_compared and slug != than else None
        for than in (ALL_HEALTHY, DIRECT)
    )
    return (
        run.label,
        f"{figures.calls_to_sick}",
        _NOTHING if than_healthy is None else _fewer(than_healthy),
        _NOTHING if than_direct is None else _fewer(than_direct),
        _back(figures) if is_compared else _NOTHING,
        f"{figures.ailing_delivered} of {figures.ailing_due}",
        f"{figures.ailing_given_up}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _fewer(share: float) -> str:
    return _percent(share) if share >= 0 else f"{_percent(-share)} more"


def _delay(delay_s: float | None, *, is_at_least: bool) -> str:
    if delay_s is None:
        return _NOTHING
    return f"{'over ' if is_at_least else ''}{delay_s:.2f} s"


def _back(figures: Figures) -> str:
    return "not in the run" if figures.recovery_s is None else f"{figures.recovery_s:.1f} s"


def _played(report: Report) -> str:
    scenario, machine = report.scenario, report.machine
    programs = ", ".join(f"{name} {version}" for name, version in sorted(machine.programs.items()))
    return (
        f"Played on {report.date} with {machine.cores} cores, Python {machine.python}, {programs}; "
        f"{scenario.measured_s:g} s each.\n"
    )


def _busy(report: Report) -> float:
    return max(run.figures.cpu_share for run in report.runs.values())


def _late_s(report: Report) -> float:
    return max(run.figures.publisher_late_s for run in report.runs.values())


def _told(found: list[Verdict]) -> str:
    lines = [
        f"| {each.claim} | {each.limit} | {each.value} | {'yes' if each.holds else '**no**'} |\n"
        for each in found
    ]
    return "".join(["| what must hold | limit | found | holds |\n", "|---|---|---|---|\n", *lines])
