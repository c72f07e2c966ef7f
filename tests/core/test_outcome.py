import pytest

from proxy.core.outcome import (
    ALIVE,
    EFFECTS,
    NEUTRAL,
    SUCCESS,
    THROTTLED,
    Effect,
    FailureKind,
    Outcome,
    Verdict,
    failed,
    of_leaving,
    of_status,
)

FAILURE = failed(FailureKind.STATUS)


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        pytest.param(range(100, 400), SUCCESS, id="1xx-2xx-3xx"),
        pytest.param(range(400, 500), ALIVE, id="4xx"),
        pytest.param([500, 502, 503, 504, 506, 507, 508, 510, 511, 599], FAILURE, id="5xx"),
        pytest.param(range(506, 600), FAILURE, id="5xx-that-nobody-registered"),
        pytest.param([501, 505], ALIVE, id="method-or-version-unknown-to-a-working-upstream"),
        pytest.param([600, 999], SUCCESS, id="beyond-5xx"),
    ],
)
def test_status(statuses: range | list[int], outcome: Outcome) -> None:
    assert {of_status(status) for status in statuses} == {outcome}


@pytest.mark.parametrize("kind", FailureKind, ids=lambda kind: kind.value)
def test_failures_are_told_apart_by_their_kind(kind: FailureKind) -> None:
    assert failed(kind) == Outcome(Verdict.FAILURE, kind)


@pytest.mark.parametrize(
    ("verdict", "effect"),
    [
        pytest.param(Verdict.SUCCESS, Effect(run=None, probe_succeeded=True), id="success"),
        pytest.param(Verdict.ALIVE, Effect(run=0, probe_succeeded=True), id="alive"),
        pytest.param(Verdict.THROTTLED, Effect(run=0, probe_succeeded=False), id="throttled"),
        pytest.param(Verdict.FAILURE, Effect(run=1, probe_succeeded=False), id="failure"),
    ],
)
def test_effects(verdict: Verdict, effect: Effect) -> None:
    assert EFFECTS[verdict] == effect


def test_every_verdict_but_neutral_has_an_effect() -> None:
    assert set(EFFECTS) == set(Verdict) - {Verdict.NEUTRAL}


ABANDONED = failed(FailureKind.ABANDONED)


@pytest.mark.parametrize(
    ("upstream_owed_s", "abandoned_after_s", "outcome"),
    [
        pytest.param(0.0, 3.0, NEUTRAL, id="another-side-owed"),
        pytest.param(2.999, 3.0, NEUTRAL, id="left-early"),
        pytest.param(3.0, 3.0, ABANDONED, id="left-at-the-boundary"),
        pytest.param(60.0, 3.0, ABANDONED, id="left-late"),
        pytest.param(60.0, 0.0, NEUTRAL, id="off"),
        pytest.param(0.0, 0.0, NEUTRAL, id="off-and-another-side-owed"),
    ],
)
def test_leaving(upstream_owed_s: float, abandoned_after_s: float, outcome: Outcome) -> None:
    assert of_leaving(upstream_owed_s=upstream_owed_s, abandoned_after_s=abandoned_after_s) == outcome


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (SUCCESS, "success"),
        (ALIVE, "alive"),
        (THROTTLED, "throttled"),
        (NEUTRAL, "neutral"),
        (failed(FailureKind.CONNECT_TIMEOUT), "failure(connect_timeout)"),
    ],
    ids=["success", "alive", "throttled", "neutral", "failure"],
)
def test_text_for_the_log(outcome: Outcome, text: str) -> None:
    assert str(outcome) == text
