"""What opens a closed circuit, as scripts of calls.

A call is a letter: S(uccess), A(live), T(hrottled), F(ailed); a small one is slow as well.
"""

from typing import Any

import pytest
from support.circuits import policy

from proxy.core.evidence import NEVER, Evidence
from proxy.core.outcome import EFFECTS, Verdict
from proxy.core.policy import CircuitPolicy
from proxy.core.states import Trigger
from proxy.core.window import Counts

UPSTREAM_S = {False: 1.0, True: 10.0}
VERDICTS = {"S": Verdict.SUCCESS, "A": Verdict.ALIVE, "T": Verdict.THROTTLED, "F": Verdict.FAILURE}
RUN, FAILED, SLOW = Trigger.CONSECUTIVE_FAILURES, Trigger.FAILURE_RATIO, Trigger.SLOW_RATIO
RUN_OF_3 = {"consecutive_failures": 3, "min_calls": 0}
HALF_OF_4 = {"consecutive_failures": 0, "min_calls": 4, "failure_ratio": 0.5, "slow_ratio": 0.0}
HALF_SLOW_OF_4 = {**HALF_OF_4, "failure_ratio": 0.0, "slow_ratio": 0.5}
ALL = {"consecutive_failures": 4, "min_calls": 4, "failure_ratio": 0.5, "slow_ratio": 0.5}


def add(evidence: Evidence, script: str, settings: CircuitPolicy, now: float = 1.0) -> list[Trigger | None]:
    return [
        evidence.add(
            EFFECTS[VERDICTS[letter.upper()]],
            settings,
            now,
            slow=letter.islower(),
            upstream_s=UPSTREAM_S[letter.islower()],
        )
        for letter in script
    ]


@pytest.mark.parametrize(
    ("settings", "script", "trigger"),
    [
        # In a row.
        (RUN_OF_3, "FF", None),
        (RUN_OF_3, "FFF", RUN),
        (RUN_OF_3, "FFSFF", None),
        (RUN_OF_3, "FFSFFF", RUN),
        (RUN_OF_3, "FFAF", RUN),
        (RUN_OF_3, "FFTF", RUN),
        (RUN_OF_3, "FFTTTA", None),
        (RUN_OF_3, "TTTTTTTTTT", None),
        (RUN_OF_3 | {"consecutive_failures": 1}, "F", RUN),
        (RUN_OF_3 | {"consecutive_failures": 0}, "FFFFFFFFFF", None),
        # A share of the window.
        (HALF_OF_4, "FFF", None),
        (HALF_OF_4, "FFFF", FAILED),
        (HALF_OF_4, "SSFF", FAILED),
        (HALF_OF_4, "SAFF", FAILED),
        (HALF_OF_4, "SSTT", FAILED),
        (HALF_OF_4, "SSFAAA", None),
        (HALF_OF_4, "FSFS", FAILED),
        (HALF_OF_4, "ssss", None),
        (HALF_OF_4 | {"min_calls": 1}, "F", FAILED),
        (HALF_OF_4 | {"min_calls": 0}, "FFFF", None),
        (HALF_OF_4 | {"failure_ratio": 0.0}, "FFFF", None),
        (HALF_OF_4 | {"failure_ratio": 1.0}, "SFFFFFFF", None),
        # A share of slow calls, whatever they said.
        (HALF_SLOW_OF_4, "sss", None),
        (HALF_SLOW_OF_4, "SSSs", None),
        (HALF_SLOW_OF_4, "SSss", SLOW),
        (HALF_SLOW_OF_4, "SSaf", SLOW),
        (HALF_SLOW_OF_4, "FFFF", None),
        (HALF_SLOW_OF_4 | {"min_calls": 0}, "ssss", None),
        # Several at once: the first rule is told.
        (ALL, "ffff", RUN),
        (ALL, "fftt", FAILED),
        (ALL, "ssst", SLOW),
    ],
)
def test_which_rule_opens_it_at_the_last_call(
    settings: dict[str, Any], script: str, trigger: Trigger | None
) -> None:
    told = add(Evidence(60.0), script, policy(**settings))
    assert told == [None] * (len(script) - 1) + [trigger]


@pytest.mark.parametrize(
    ("script", "run", "counts"),
    [
        ("", 0, Counts(0, 0, 0, 0.0)),
        ("FfF", 3, Counts(3, 3, 1, 12.0)),
        ("FATF", 2, Counts(4, 3, 0, 4.0)),
        ("FFs", 0, Counts(3, 2, 1, 12.0)),
        ("FSAT", 0, Counts(4, 2, 0, 4.0)),
    ],
)
def test_what_is_booked(script: str, run: int, counts: Counts) -> None:
    evidence = Evidence(60.0)
    add(evidence, script, policy())
    assert (evidence.run, evidence.window.counts(1.0)) == (run, counts)
    assert evidence.retry_after_at == NEVER


def test_a_run_has_no_age_and_the_window_has() -> None:
    evidence, settings = Evidence(60.0), policy(**ALL)
    add(evidence, "FFF", settings, 0.0)
    assert add(evidence, "S", settings, 60.0) == [None]
    add(evidence, "FF", policy(**RUN_OF_3), 60.0)
    assert add(evidence, "F", policy(**RUN_OF_3), 1e6) == [RUN]


def test_a_run_that_is_beyond_a_new_limit_opens_it_at_the_next_failure() -> None:
    evidence = Evidence(60.0)
    add(evidence, "FFFF", policy(consecutive_failures=9))
    assert add(evidence, "ATF", policy(**RUN_OF_3)) == [None, None, RUN]


@pytest.mark.parametrize(
    ("limit", "script", "run", "trigger"),
    [
        # An endpoint (a small letter) that falls silent; a call of the host (a large one).
        (3, "a", 1, None),
        (3, "aaaaa", 1, None),
        (3, "ababab", 2, None),
        (3, "abc", 3, RUN),
        (3, "aFb", 3, RUN),
        (3, "FFa", 3, RUN),
        (3, "abAb", 2, None),
        (3, "abTc", 3, RUN),
        (3, "abSa", 1, None),
        (3, "abSabc", 3, RUN),
        (1, "a", 1, RUN),
        (0, "abcabc", 0, None),
    ],
)
def test_silence_counts_once_an_endpoint_and_run(
    limit: int, script: str, run: int, trigger: Trigger | None
) -> None:
    evidence, settings = Evidence(60.0), policy(consecutive_failures=limit, min_calls=0)
    told = [
        add(evidence, letter, settings)[0] if letter.isupper() else evidence.add_silence(letter, settings)
        for letter in script
    ]
    assert told == [None] * (len(script) - 1) + [trigger]
    assert evidence.run == run
    assert evidence.window.counts(1.0).calls == sum(letter.isupper() for letter in script)


def test_without_the_rule_no_endpoint_is_remembered() -> None:
    evidence = Evidence(60.0)
    evidence.add_silence("a", policy(consecutive_failures=0))
    assert evidence.add_silence("a", policy(consecutive_failures=1)) is RUN


def test_clearing_forgets_everything() -> None:
    evidence, settings = Evidence(60.0), policy(consecutive_failures=9, min_calls=0)
    add(evidence, "Ff", settings)
    evidence.add_silence("a", settings)
    evidence.retry_after_at = 90.0
    evidence.clear()
    assert (evidence.run, evidence.retry_after_at) == (0, float("-inf"))
    assert evidence.window.counts(1.0) == Counts(0, 0, 0, 0.0)
    evidence.add_silence("a", settings)
    assert evidence.run == 1


def test_clearing_nothing_is_no_fault() -> None:
    evidence = Evidence(60.0)
    evidence.clear()
    assert (evidence.run, evidence.window.length_s) == (0, 60.0)
