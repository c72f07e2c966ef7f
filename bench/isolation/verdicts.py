"""Whether what must hold does."""

from collections.abc import Iterator
from dataclasses import dataclass

from isolation.figures import RECOVERY_SLACK_S
from isolation.report import ALL_HEALTHY, DEFAULTS, DIRECT, OURS, TUNED, Report
from isolation.words import back, fewer, percent


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


def verdicts(report: Report) -> list[Verdict]:
    """What must hold, of those runs that were played."""
    return list(_verdicts(report))


def _verdicts(report: Report) -> Iterator[Verdict]:
    limits = _FULL if report.scenario.scale == 1 else _SHORT
    for slugs, least in ((TUNED, limits.tuned), (DEFAULTS, limits.defaults)):
        for slug in slugs:
            yield from _keeps(report, slug, least)
    if DIRECT in report.runs and (share := report.of_all_healthy(DIRECT)) is not None:
        yield Verdict(
            f"{report.runs[DIRECT].label}: healthy deliveries collapse",
            percent(share),
            f"below {percent(limits.direct)} of all healthy",
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
        limit = f"at least {percent(least)} of all healthy"
        yield Verdict(claim, percent(share), limit, share >= least)


def _spares(report: Report, slug: str, least: float) -> Iterator[Verdict]:
    if slug in report.runs and (share := report.fewer_calls(slug, ALL_HEALTHY)) is not None:
        claim = f"{report.runs[slug].label}: sick endpoints are left alone"
        limit = f"at least {percent(least)} fewer calls"
        yield Verdict(claim, fewer(share), limit, share >= least)


def _had_time(report: Report, limits: _Limits) -> Verdict:
    """Whether the delays are those of the ways, and not of a machine that was busy."""
    busy, late_s = report.cpu_share, report.publisher_late_s
    return Verdict(
        "machine: has time for all of it",
        f"{percent(busy)} busy, {late_s:.2f} s late",
        f"at most {percent(limits.busy)} busy, no event published more than {limits.late_s:g} s late",
        busy <= limits.busy and late_s <= limits.late_s,
    )


def _returns(report: Report, slug: str) -> Iterator[Verdict]:
    if slug not in report.runs:
        return
    figures = report.runs[slug].figures
    claim = f"{report.runs[slug].label}: a recovered endpoint gets traffic again"
    value = back(figures)
    if figures.recovery_allowed_s is None:
        # Then the run shows nothing of it, and must not pass for one that does.
        yield Verdict(claim, value, "its circuit must have opened", holds=False)
    else:
        limit = f"within {figures.recovery_allowed_s:.1f} s, its open time, and {RECOVERY_SLACK_S:g} s"
        yield Verdict(claim, value, limit, figures.is_back_in_time is True)
