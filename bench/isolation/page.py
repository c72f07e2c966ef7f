"""What people read of a report: tables in Markdown, a chart, and the page that has both.

Tables and chart of docs/isolation.md are made from docs/isolation.json, see tests/test_isolation_figures.py.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from isolation import chart
from isolation.figures import ON_TIME_S
from isolation.report import ALL_HEALTHY, DIRECT, OURS, Report, to_json
from isolation.verdicts import Verdict, verdicts
from isolation.words import back, fewer, percent

_MARKS = ("<!-- results -->\n", "<!-- end of results -->\n")

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


def _of_healthy(report: Report, slug: str) -> tuple[str, ...]:
    run = report.runs[slug]
    figures = run.figures
    share = report.of_all_healthy(slug)
    return (
        run.label,
        f"{figures.healthy_per_s:.1f}",
        _NOTHING if share is None else percent(share),
        _NOTHING if figures.healthy_on_time is None else percent(figures.healthy_on_time),
        _delay(figures.healthy_delay_p99_s, is_at_least=figures.healthy_delay_p99_is_at_least),
        f"{figures.wasted_s:.0f} s, {percent(figures.wasted_share)}",
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
        _NOTHING if than_healthy is None else fewer(than_healthy),
        _NOTHING if than_direct is None else fewer(than_direct),
        back(figures) if is_compared else _NOTHING,
        f"{figures.ailing_delivered} of {figures.ailing_due}",
        f"{figures.ailing_given_up}",
    )


def _delay(delay_s: float | None, *, is_at_least: bool) -> str:
    if delay_s is None:
        return _NOTHING
    return f"{'over ' if is_at_least else ''}{delay_s:.2f} s"


def _played(report: Report) -> str:
    scenario, machine = report.scenario, report.machine
    programs = ", ".join(f"{name} {version}" for name, version in sorted(machine.programs.items()))
    return (
        f"Played on {report.date} with {machine.cores} cores, Python {machine.python}, {programs}; "
        f"{scenario.measured_s:g} s each.\n"
    )


def _told(found: list[Verdict]) -> str:
    lines = [
        f"| {each.claim} | {each.limit} | {each.value} | {'yes' if each.holds else '**no**'} |\n"
        for each in found
    ]
    return "".join(["| what must hold | limit | found | holds |\n", "|---|---|---|---|\n", *lines])
