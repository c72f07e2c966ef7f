"""The figures of the isolation experiment, by hand; and docs/isolation.md says what its JSON says."""

import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isolation import page as pages
from isolation import report as reports
from isolation import verdicts as judges
from isolation.figures import ON_TIME_S, Figures, measure
from isolation.records import Arrival, Attempt, Opening
from isolation.report import Machine, Report, Run
from isolation.scenario import Scenario

DOCS = Path(__file__).parent.parent / "docs"
# The onset by the clock of the records: all below is told since then.
ONSET = 1000.0
SCENARIO = Scenario(lead_in_s=4, measured_s=20, workers=2, flap_s=5, recovery_s=8)
BACK_AT, ENDS = 8.0, 20.0
HEALTHY, BACK = "healthy-00", "silent-recovering"
TITLE = "{http://www.w3.org/2000/svg}title"


def call(event: int, endpoint: str, began: float, ended: float, status: int | None = 200) -> Attempt:
    return Attempt(
        event, endpoint, ONSET + began, ONSET + began, ONSET + ended, status, is_refused=status == 503
    )


def figures(
    due: Mapping[int, tuple[str, float]] | None = None,
    attempts: tuple[Attempt, ...] = (),
    arrivals: tuple[tuple[str, float], ...] = (),
    openings: tuple[tuple[str, float, float], ...] = (),
    **other: Any,
) -> Figures:
    return measure(
        SCENARIO,
        ONSET,
        {number: (name, ONSET + at) for number, (name, at) in (due or {}).items()},
        attempts=attempts,
        # What the endpoint says of itself does not count.
        arrivals=[Arrival(name, ONSET + at, is_sick=False) for name, at in arrivals],
        openings=[Opening(name, ONSET + at, open_s) for name, at, open_s in openings],
        **({"publisher_late_s": 0.5, "cpu_share": 0.25} | other),
    )


# The figures.


def test_a_run_without_a_record() -> None:
    assert figures() == Figures(
        healthy_per_s=0,
        healthy_on_time=None,
        healthy_delay_p99_s=None,
        healthy_delay_p99_is_at_least=False,
        calls_while_sick={"silent": 0, "silent-recovering": 0, "slow-error": 0, "flapping": 0},
        wasted_s=0,
        wasted_share=0,
        recovery_s=None,
        recovery_allowed_s=None,
        ailing_due=0,
        ailing_delivered=0,
        ailing_given_up=0,
        attempts=0,
        refused=0,
        publisher_late_s=0.5,
        cpu_share=0.25,
        timeline=(0,) * 12,
    )


def test_healthy_deliveries_are_counted_once_and_within_the_run() -> None:
    found = figures(
        attempts=(
            call(7, HEALTHY, -5, -4.5),
            call(0, HEALTHY, -1, -0.1),
            call(1, HEALTHY, -1, 0),
            call(2, "healthy-15", 5, 5.5),
            call(2, "healthy-15", 5, 7.5),  # delivered twice: the first time counts
            call(3, HEALTHY, 6, 6.1, status=500),
            call(4, "flapping", 6, 6.1),
            call(5, HEALTHY, 19, 19.9),
            call(6, HEALTHY, 19, 20),
        )
    )
    assert found.healthy_per_s == 3 / 20
    # Bins of two seconds, from four before the onset.
    assert found.timeline == (0, 0.5, 0.5, 0, 0.5, 0, 0, 0, 0, 0, 0, 0.5)


def test_the_timeline_of_a_short_run_has_as_many_bins() -> None:
    scenario = SCENARIO.scaled(0.5)
    found = measure(
        scenario,
        ONSET,
        {},
        attempts=[call(0, HEALTHY, -2, -2), call(1, HEALTHY, 9, 9.5)],
        arrivals=[],
        publisher_late_s=0,
        cpu_share=0,
    )
    assert found.timeline == (1, *(0,) * 10, 1)


def test_delays_run_from_when_an_event_was_due() -> None:
    due = {number: (HEALTHY, number / 100) for number in range(100)}
    attempts = tuple(call(number, HEALTHY, 3, number / 100 + (number + 1) / 10) for number in range(100))
    found = figures(due, attempts)
    assert found.healthy_delay_p99_s == pytest.approx(9.9)
    assert not found.healthy_delay_p99_is_at_least


def test_on_time_is_within_a_second_of_when_it_was_due() -> None:
    due = {
        0: (HEALTHY, -0.5),
        1: (HEALTHY, 0),
        2: (HEALTHY, 5),
        3: (HEALTHY, 6),
        4: (HEALTHY, 18.9),
        5: (HEALTHY, 19),
        6: ("silent", 5),
    }
    attempts = (
        call(0, HEALTHY, -0.5, 9),  # due before the onset
        call(1, HEALTHY, 0, 1.0),
        call(2, HEALTHY, 5, 6.1),
        call(3, HEALTHY, 6, 6.1, status=500),
        call(4, HEALTHY, 19, 19.8),
        # 5 had no whole second, and 6 is for a sick one.
    )
    assert figures(due, attempts).healthy_on_time == 2 / 4
    assert figures({5: due[5]}).healthy_on_time is None


def test_an_event_that_is_not_delivered_counts_with_its_age_at_the_end() -> None:
    due = {0: (HEALTHY, 4), 1: (HEALTHY, 5), 2: (HEALTHY, 6), 3: (HEALTHY, -1), 4: ("silent", 1)}
    # Only 2 is delivered in the run; nobody has tried 0, and 1 comes too late.
    found = figures(due, (call(2, HEALTHY, 6, 6.5), call(1, HEALTHY, 19, 21)))
    assert (found.healthy_delay_p99_s, found.healthy_delay_p99_is_at_least) == (16, True)


def test_a_few_that_are_under_way_at_the_end_do_not_make_a_percentile_uncertain() -> None:
    due = {number: (HEALTHY, number / 100) for number in range(200)} | {200: (HEALTHY, 19.95)}
    found = figures(due, tuple(call(n, HEALTHY, 3, n / 100 + 0.1 + n / 10_000) for n in range(200)))
    assert not found.healthy_delay_p99_is_at_least


def test_calls_to_the_sick_are_those_that_reach_them_while_the_scenario_has_them_sick() -> None:
    found = figures(
        arrivals=(
            (HEALTHY, 1),
            ("silent", -0.1),
            ("silent", 0),
            ("silent", 19.9),
            ("silent", 20),
            (BACK, 7.9),
            (BACK, 8),
            ("slow-error", 3),
            ("flapping", 4),
            ("flapping", 6),  # well
            ("flapping", 11),
        ),
        nobody_is_sick=True,
    )
    assert found.calls_while_sick == {"silent": 2, BACK: 1, "slow-error": 1, "flapping": 2}
    assert found.calls_to_sick == 6


def test_wasted_time_is_that_of_calls_that_delivered_nothing_within_the_run() -> None:
    found = figures(
        attempts=(
            call(0, "silent", -3, -1, status=None),
            call(1, "silent", -3, 2, status=None),  # 2 s of it
            call(2, HEALTHY, 3, 4),
            call(3, "slow-error", 3, 5, status=500),
            call(4, HEALTHY, 5, 5.5, status=302),
            call(5, "silent", 18, 28, status=None),  # 2 s of it
            call(6, "silent", 20, 21, status=None),
        )
    )
    assert found.wasted_s == 6.5
    assert found.wasted_share == 6.5 / (2 * 20)


def test_attempts_and_refusals_are_those_that_began_in_the_run() -> None:
    calls = (call(0, "silent", -1, 0, 503), call(1, "silent", 1, 1, 503), call(2, HEALTHY, 19, 21))
    found = figures(attempts=(*calls, call(3, "silent", 20, 20, 503)))
    assert (found.attempts, found.refused) == (2, 1)


def test_events_for_those_that_are_ever_sick() -> None:
    due = {0: ("silent", 1), 1: ("flapping", 2), 2: ("flapping", -1), 3: (HEALTHY, 3), 4: ("flapping", 4)}
    attempts = (call(0, "silent", 1, 3, status=None), call(1, "flapping", 6, 7), call(4, "flapping", 19, 20))
    found = figures(due, attempts)
    assert (found.ailing_due, found.ailing_delivered) == (3, 1)


def test_an_event_is_given_up_when_all_its_tries_have_failed_by_the_end() -> None:
    due = {
        number: (name, 1) for number, name in enumerate(("silent", "silent", "flapping", "silent", HEALTHY))
    }

    def failed(event: int, *ends: float) -> list[Attempt]:
        return [call(event, due[event][0], end - 0.5, end, status=503) for end in ends]

    attempts = [
        *failed(0, 2, 3, 4, 5),
        *failed(1, 2, 3, 4, 20),  # the last one after the run
        *failed(2, 2, 3, 4),
        call(2, "flapping", 5, 5.1),
        *failed(3, 2, 3, 4),
        *failed(4, 2, 3, 4, 5),  # for one in health
    ]
    assert SCENARIO.retries == 3
    assert figures(due, tuple(attempts)).ailing_given_up == 1


# The recovery.

FAILED = call(0, BACK, 1, 6, status=None)
HANGING = call(1, BACK, 5, 10, status=None)
DELIVERED = call(2, BACK, 11, 11.25)


@pytest.mark.parametrize(
    ("attempts", "openings", "recovery_s", "allowed_s", "is_in_time"),
    [
        pytest.param((), (), None, None, None, id="nothing"),
        pytest.param((DELIVERED,), (), 3.25, None, None, id="no-circuit"),
        pytest.param((DELIVERED, call(3, BACK, 9, 14)), (), 3.25, None, None, id="first-to-end"),
        pytest.param((call(3, BACK, 7.5, 8.5),), (), None, None, None, id="began-before-it"),
        pytest.param((call(3, BACK, 19, 20),), (), None, None, None, id="after-the-run"),
        pytest.param((call(3, "silent", 9, 10),), (("silent", 7, 9),), None, None, None, id="somebody-else"),
        pytest.param((FAILED, DELIVERED), ((BACK, 6, 1), (BACK, 7, 2)), 3.25, 2, True, id="open"),
        pytest.param((FAILED, DELIVERED), ((BACK, 7, 1.25),), 3.25, 1.25, True, id="just-in-time"),
        pytest.param((FAILED, DELIVERED), ((BACK, 7, 1.2),), 3.25, 1.2, False, id="too-late"),
        pytest.param((FAILED,), ((BACK, 7, 4),), None, 4, False, id="never-back"),
        # A call that was under way when the circuit opened says nothing: it stays open as long as it said.
        pytest.param(
            (HANGING, DELIVERED), ((BACK, 7, 3), (BACK, 10.5, 0.25)), 3.25, 3, True, id="open-and-called"
        ),
        # The open time was over, a probe hung, and the circuit opened once more when that failed.
        pytest.param(
            (HANGING, call(3, BACK, 15, 15.5)), ((BACK, 1, 4), (BACK, 10, 5)), 7.5, 7, True, id="probe-hangs"
        ),
        pytest.param((HANGING,), ((BACK, 10, 5), (BACK, 1, 4)), None, 7, False, id="probe-hangs-never-back"),
        pytest.param((HANGING, call(3, BACK, 15, 15.5)), ((BACK, 10, 5),), 7.5, 7, True, id="first-opening"),
        # Opened by somebody who was well, or after it was back: that allows nothing.
        pytest.param(
            (FAILED, call(3, BACK, 15, 15.5)),
            ((BACK, 1, 4), (BACK, 10, 5)),
            7.5,
            4,
            False,
            id="no-probe-hangs",
        ),
        pytest.param(
            (replace(HANGING, is_refused=True), call(3, BACK, 15, 15.5)),
            ((BACK, 1, 4), (BACK, 10, 5)),
            7.5,
            4,
            False,
            id="refused",
        ),
        pytest.param((HANGING, DELIVERED), ((BACK, 1, 4), (BACK, 12, 5)), 3.25, 4, True, id="later"),
        pytest.param((HANGING, DELIVERED), ((BACK, 12, 5),), 3.25, None, None, id="only-later"),
    ],
)
def test_the_recovery(
    attempts: tuple[Attempt, ...],
    openings: tuple[tuple[str, float, float], ...],
    recovery_s: float | None,
    allowed_s: float | None,
    is_in_time: bool | None,  # noqa: FBT001 -- a column of the table
) -> None:
    found = figures(attempts=attempts, openings=openings)
    assert (found.recovery_s, found.recovery_allowed_s) == (recovery_s, allowed_s)
    assert found.is_back_in_time is is_in_time


def test_nobody_recovers_where_nobody_was_sick() -> None:
    found = figures(attempts=(DELIVERED,), openings=((BACK, 7, 2),), nobody_is_sick=True)
    assert (found.recovery_s, found.recovery_allowed_s) == (None, None)


# Any run.

WHOSE = (HEALTHY, "healthy-07", BACK, "silent", "flapping")
times = st.floats(-5, 25).map(lambda since: round(since, 2))
calls = st.builds(
    lambda event, began, took, status: call(event, WHOSE[event % 5], began, began + took, status),
    event=st.integers(0, 9),
    began=times,
    took=st.floats(0, 10),
    status=st.sampled_from([200, 204, 500, 503, None]),
)
a_due = st.dictionaries(st.integers(0, 9), times).map(
    lambda due: {event: (WHOSE[event % 5], at) for event, at in due.items()}
)
some_openings = st.lists(
    st.tuples(st.sampled_from([BACK, "silent"]), times, st.floats(0.5, 9)),
    unique_by=lambda opening: opening[1],
)


@settings(deadline=None)
@given(
    a_due,
    st.lists(calls),
    st.lists(st.tuples(st.sampled_from([HEALTHY, BACK]), times)),
    some_openings,
    st.randoms(),
)
def test_any_run(
    due: dict[int, tuple[str, float]],
    attempts: list[Attempt],
    arrivals: list[tuple[str, float]],
    openings: list[tuple[str, float, float]],
    chance: random.Random,
) -> None:
    found = figures(due, tuple(attempts), tuple(arrivals), tuple(openings))
    # In whatever order it was written down.
    for records in (attempts, arrivals, openings):
        chance.shuffle(records)
    assert figures(due, tuple(attempts), tuple(arrivals), tuple(openings)) == found
    lead_in = sum(found.timeline[:2]) * 2
    assert sum(found.timeline) * 2 - lead_in == pytest.approx(found.healthy_per_s * 20)
    assert 0 <= found.wasted_s <= sum(each.ended_s - each.began_s for each in attempts) + 1e-9
    assert found.refused <= found.attempts <= len(attempts)
    assert found.ailing_delivered <= found.ailing_due <= len(due)
    if found.healthy_on_time == 1 and found.healthy_delay_p99_s is not None:
        assert found.healthy_delay_p99_s <= ON_TIME_S
    assert found.recovery_s is None or 0 <= found.recovery_s < ENDS - BACK_AT


# The report.


def run_of(**other: Any) -> Figures:
    base = Figures(
        healthy_per_s=64.0,
        healthy_on_time=0.995,
        healthy_delay_p99_s=0.25,
        healthy_delay_p99_is_at_least=False,
        calls_while_sick={"silent": 900, "flapping": 100},
        wasted_s=12.5,
        wasted_share=0.004,
        recovery_s=None,
        recovery_allowed_s=None,
        ailing_due=1000,
        ailing_delivered=900,
        ailing_given_up=12,
        attempts=15_000,
        refused=0,
        publisher_late_s=0.02,
        cpu_share=0.5,
        timeline=(64.0, 63.5),
    )
    return replace(base, **other)


def ours(**other: Any) -> Figures:
    fitting: dict[str, Any] = {
        "recovery_s": 9.5,
        "recovery_allowed_s": 8.0,
        "calls_while_sick": {"silent": 50},
    }
    return run_of(**(fitting | other))


def report_of(**runs: Figures) -> Report:
    machine = Machine(2, "3.11.2", {"redis": "7.0.15", "celery": "5.7.0"})
    named = {slug.replace("_", "-"): Run(slug.upper(), each) for slug, each in runs.items()}
    return Report("2026-01-31", Scenario(), machine, named)


ALL = report_of(
    tuned_https=ours(healthy_per_s=60.8),
    tuned=ours(healthy_per_s=60.8),
    defaults_https=ours(healthy_per_s=54.4),
    defaults=ours(healthy_per_s=54.4),
    squid=run_of(healthy_per_s=5.0, recovery_s=40.0),
    direct=run_of(
        healthy_per_s=6.4,
        calls_while_sick={"silent": 40},
        healthy_delay_p99_s=170.0,
        healthy_delay_p99_is_at_least=True,
        cpu_share=0.625,
        publisher_late_s=0.125,
    ),
    all_healthy=run_of(),
)


def test_json_comes_back_the_same() -> None:
    text = reports.to_json(ALL)
    again = reports.from_json(text)
    assert again == replace(ALL, runs=ALL.ordered())
    assert reports.to_json(again) == text
    assert list(again.runs)[:3] == ["all-healthy", "direct", "squid"]
    assert '"timeline": [ 64.0, 63.5 ]' in text
    assert text.index('"celery"') < text.index('"redis"')


def test_json_is_rounded_so_that_little_changes() -> None:
    text = reports.to_json(report_of(direct=run_of(wasted_s=1 / 3, timeline=(2 / 3,))))
    assert '"wasted_s": 0.333' in text
    assert '"timeline": [ 0.667 ]' in text


def test_json_of_something_else() -> None:
    with pytest.raises(msgspec.ValidationError):
        reports.from_json('{"date": 1}')


def test_a_way_that_is_not_known_comes_last() -> None:
    found = report_of(
        f=run_of(), e=run_of(), d=run_of(), c=run_of(), b=run_of(), tuned=ours(), squid=run_of()
    ).ordered()
    assert list(found) == ["squid", "tuned", *"bcdef"]


def test_the_tables() -> None:
    healthy, ailing = (table.splitlines() for table in pages.tables(ALL).split("\n\n"))
    assert {line.count("|") for line in healthy} == {7}
    assert healthy[2:5] == [
        "| ALL_HEALTHY | 64.0 | 100.0 % | 99.5 % | 0.25 s | 12 s, 0.4 % |",
        "| DIRECT | 6.4 | 10.0 % | 99.5 % | over 170.00 s | 12 s, 0.4 % |",
        "| SQUID | 5.0 | 7.8 % | 99.5 % | 0.25 s | 12 s, 0.4 % |",
    ]
    assert {line.count("|") for line in ailing} == {8}
    assert ailing[2:6] == [
        "| ALL_HEALTHY | 1000 | - | - | - | 900 of 1000 | 12 |",
        "| DIRECT | 40 | 96.0 % | - | not in the run | 900 of 1000 | 12 |",
        "| SQUID | 1000 | 0.0 % | 2400.0 % more | 40.0 s | 900 of 1000 | 12 |",
        "| DEFAULTS | 50 | 95.0 % | 25.0 % more | 9.5 s | 900 of 1000 | 12 |",
    ]


def test_the_tables_of_a_few_ways() -> None:
    lines = pages.tables(report_of(tuned=ours(healthy_on_time=None))).splitlines()
    assert lines[2] == "| TUNED | 64.0 | - | - | 0.25 s | 12 s, 0.4 % |"
    assert lines[-1] == "| TUNED | 50 | - | - | 9.5 s | 900 of 1000 | 12 |"


def test_a_comparison_with_nothing() -> None:
    report = report_of(all_healthy=run_of(healthy_per_s=0.0, calls_while_sick={}), tuned=ours())
    assert pages.tables(report).splitlines()[3].startswith("| TUNED | 64.0 | - |")
    assert len(judges.verdicts(report)) == 2


def test_all_that_must_hold_does() -> None:
    found = judges.verdicts(ALL)
    assert [(each.claim.split(":")[0], each.holds) for each in found] == [
        (slug, True)
        for slug in (
            *("TUNED", "TUNED_HTTPS", "DEFAULTS", "DEFAULTS_HTTPS", "DIRECT"),
            *("DEFAULTS", "TUNED", "DEFAULTS_HTTPS", "TUNED_HTTPS"),
            *("DEFAULTS", "TUNED", "DEFAULTS_HTTPS", "TUNED_HTTPS"),
            "machine",
        )
    ]
    assert (found[0].value, found[0].limit) == ("95.0 %", "at least 95.0 % of all healthy")


@pytest.mark.parametrize(
    ("slug", "broken", "words"),
    [
        ("tuned", ours(healthy_per_s=60.7), "go on"),
        ("tuned-https", ours(healthy_per_s=60.7), "go on"),
        ("defaults", ours(healthy_per_s=54.3), "go on"),
        ("defaults-https", ours(healthy_per_s=54.3), "go on"),
        ("direct", run_of(healthy_per_s=32.0), "collapse"),
        ("tuned", ours(calls_while_sick={"silent": 50, "flapping": 1}), "left alone"),
        ("defaults-https", ours(recovery_s=10.1), "traffic again"),
        ("defaults-https", ours(recovery_s=None), "traffic again"),
        # A run in which its circuit never opened shows nothing.
        ("tuned", ours(recovery_allowed_s=None), "traffic again"),
    ],
)
def test_one_thing_that_must_hold_does_not(slug: str, broken: Figures, words: str) -> None:
    run = ALL.runs[slug]
    # Where the throughput is not what is broken, it is that of all healthy.
    found = judges.verdicts(replace(ALL, runs={**ALL.runs, slug: replace(run, figures=broken)}))
    (verdict,) = [each for each in found if not each.holds]
    assert verdict.claim.startswith(f"{run.label}: ")
    assert words in verdict.claim


def test_verdicts_are_only_of_what_was_played() -> None:
    assert judges.verdicts(report_of()) == []
    assert [each.claim for each in judges.verdicts(report_of(tuned=ours(), direct=run_of()))] == [
        "TUNED: a recovered endpoint gets traffic again",
        "machine: has time for all of it",
    ]
    found = judges.verdicts(report_of(tuned=ours(), all_healthy=run_of()))
    assert [each.claim.split(": ")[1] for each in found] == [
        "healthy deliveries go on",
        "sick endpoints are left alone",
        "a recovered endpoint gets traffic again",
        "has time for all of it",
    ]


@pytest.mark.parametrize(
    ("busy", "late_s", "holds"), [(0.8, 0.5, True), (0.81, 0.5, False), (0.8, 0.51, False)]
)
def test_a_busy_machine_spoils_what_is_measured(busy: float, late_s: float, *, holds: bool) -> None:
    run = run_of(cpu_share=busy, publisher_late_s=late_s)
    *_, verdict = judges.verdicts(report_of(direct=run_of(), squid=run))
    assert verdict.claim == "machine: has time for all of it"
    assert verdict.value == f"{100 * busy:.1f} % busy, {late_s:.2f} s late"
    assert verdict.holds == holds


def test_a_short_form_has_limits_of_its_own() -> None:
    short = replace(ALL, scenario=ALL.scenario.scaled(1 / 6))
    full, shorter = ({each.claim: each.limit for each in judges.verdicts(each)} for each in (ALL, short))
    assert full["DIRECT: healthy deliveries collapse"] == "below 50.0 % of all healthy"
    assert shorter["DIRECT: healthy deliveries collapse"] == "below 75.0 % of all healthy"
    assert shorter["TUNED: sick endpoints are left alone"] == "at least 75.0 % fewer calls"


def test_the_results_are_written_between_their_marks() -> None:
    before = "head\n<!-- results -->\nstale\n<!-- end of results -->\nfoot\n"
    after = pages.page(ALL, before)
    assert after.startswith(
        "head\n<!-- results -->\n\nPlayed on 2026-01-31 with 2 cores, Python 3.11.2, celery"
    )
    assert "| 62.5 % busy, 0.12 s late | yes |" in after
    assert pages.tables(ALL) in after
    assert after.count("| yes |\n") == 14
    assert after.endswith("\n<!-- end of results -->\nfoot\n")
    assert "stale" not in after
    assert pages.page(ALL, after) == after
    assert "| **no** |\n" in pages.page(report_of(tuned=ours(recovery_s=None)), before)


@pytest.mark.parametrize("marks", [0, 2])
def test_a_page_with_no_one_place_for_the_results(marks: int) -> None:
    with pytest.raises(ValueError, match=f"{marks} places"):
        pages.page(ALL, "<!-- results -->\n<!-- end of results -->\n" * marks)


def test_all_is_written_into_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    pages.write(ALL, folder)
    text = (folder / "isolation.json").read_text(encoding="utf-8")
    assert text == reports.to_json(ALL)
    assert (folder / "isolation.svg").read_text(encoding="utf-8") == pages.draw(ALL)
    written = (folder / "isolation.md").read_text(encoding="utf-8")
    assert pages.tables(ALL) in written
    (folder / "isolation.md").write_text(f"# By hand\n\n{written}", encoding="utf-8")
    pages.write(report_of(), folder)
    renewed = (folder / "isolation.md").read_text(encoding="utf-8")
    assert renewed.startswith("# By hand\n\n<!-- results -->\n")
    assert pages.tables(ALL) not in renewed


# The chart.


def texts(svg: str) -> list[str]:
    return [text for text in ET.fromstring(svg).itertext() if text.strip()]  # noqa: S314 -- our own


def kinds(svg: str) -> list[str]:
    return [each.get("class", "") for each in ET.fromstring(svg).iter()]  # noqa: S314 -- our own


def test_the_chart_has_a_lane_for_each_way() -> None:
    svg = pages.draw(ALL)
    for run in ALL.runs.values():
        assert texts(svg).count(run.label) == 1
    assert "10 %, 100 % within 1 s" in texts(svg)
    assert "64.0 a second, 100 % within 1 s" in texts(svg)
    found = kinds(svg)
    assert found.count("ours") == found.count("ours-top") == 4
    assert found.count("others") == found.count("others-top") == 2
    # Behind every lane.
    assert found.count("all") == 7
    assert found.count("moment") == found.count("well") == 7
    title = ET.fromstring(svg).findtext(TITLE)  # noqa: S314 -- our own
    assert title is not None
    assert "DIRECT 10 %" in title


def test_the_chart_shows_who_is_sick() -> None:
    svg = pages.draw(ALL)
    # One for each of three, and the five times of the flapping one.
    assert kinds(svg).count("sick") == 8
    assert texts(svg).count("well") == 4
    assert {"4 of 20 endpoints fall sick", "well again", "500 after 2 s", "180 s"} <= set(texts(svg))


def test_nobody_is_shown_sick_or_well_beyond_the_end() -> None:
    # The flapping one would fall sick a third time in the moment of the end.
    assert kinds(pages.draw(replace(ALL, scenario=SCENARIO))).count("sick") == 5
    # And here it is well again a hair before it, as a sixth of three minutes is no round number.
    scenario = Scenario().scaled(1 / 6)
    assert texts(pages.draw(replace(ALL, scenario=scenario))).count("well") == 4


def tops(svg: str, kind: str) -> list[float]:
    """How far down on the page the tops of the bins are."""
    (path,) = [each.get("d", "") for each in ET.fromstring(svg).iter() if each.get("class") == kind]  # noqa: S314 -- our own
    words = path.split()
    return [float(word) for before, word in pairwise(words) if before == "V"]


@pytest.mark.parametrize("scale", [0.1, 1, 100])
def test_the_height_of_a_lane_is_its_throughput(scale: float) -> None:
    svg = pages.draw(
        report_of(
            all_healthy=run_of(timeline=(50.0 * scale, 100.0 * scale)),
            direct=run_of(timeline=(0.0, 25.0 * scale)),
        )
    )
    half, whole = tops(svg, "all-top")
    ground, quarter = tops(svg, "others-top")
    # The highest of all fills its lane nearly.
    assert half - whole == pytest.approx(40, abs=1)
    assert ground - quarter == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize(
    "found",
    [
        report_of(),
        report_of(tuned=ours(timeline=())),
        report_of(direct=run_of(timeline=(0.0,) * 95)),
        replace(ALL, scenario=Scenario().scaled(1 / 6)),
    ],
    ids=["nothing", "no-timeline", "no-delivery", "short"],
)
def test_the_chart_of_little(found: Report) -> None:
    assert set(kinds(pages.draw(found))) >= {"sick"}
    assert "grey: while all are healthy" not in texts(pages.draw(report_of(tuned=ours())))


def test_words_in_labels_are_escaped() -> None:
    report = report_of(tuned=ours())
    report = replace(report, runs={"tuned": replace(report.runs["tuned"], label="a < b & c")})
    assert "a < b & c" in texts(pages.draw(report))


# The page.


def test_the_page_and_its_picture_say_what_the_json_says() -> None:
    report = reports.from_json((DOCS / "isolation.json").read_text(encoding="utf-8"))
    text = (DOCS / "isolation.md").read_text(encoding="utf-8")
    assert text == pages.page(report, text), "write the report of a run into docs, and look at it"
    assert (DOCS / "isolation.svg").read_text(encoding="utf-8") == pages.draw(report)
    assert "(isolation.svg)" in text


def test_the_page_tells_the_numbers_of_the_scenario() -> None:
    text = (DOCS / "isolation.md").read_text(encoding="utf-8")
    scenario = Scenario()
    for told in (
        f"{scenario.workers} prefork workers",
        f"{scenario.events_per_s:g} events a second",
        f"gives up after {scenario.client_timeout_s:g} s",
        f"{scenario.answer_s[0] * 1000:g} to {scenario.answer_s[1] * 1000:g} ms",
        f"again after {scenario.retry_s:g} s",
        f"{scenario.retries} times",
        f"`500` after {scenario.slow_error_s:g} s",
        f"sick for {scenario.flap_s:g} s, well for {scenario.flap_s:g} s",
        f"until {scenario.recovery_s:g} s",
        f"connect: {scenario.connect_s:g}s, head: {scenario.head_s:g}s",
        f"{scenario.lead_in_s:g} s in which all are well, then {scenario.measured_s:g} s",
    ):
        assert told in text, told
