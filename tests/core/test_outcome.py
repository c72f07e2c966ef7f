"""What a call says of its upstream's health."""

import pytest

from proxy.core.outcome import (
    ALIVE,
    EFFECTS,
    NEUTRAL,
    SUCCESS,
    THROTTLED,
    FailureKind,
    Outcome,
    Verdict,
    failed,
    of_leaving,
    of_loss,
    of_status,
)
from proxy.core.policy import CircuitPolicy
from proxy.core.scope import CircuitKey
from proxy.core.statuses import Statuses

FAILED = failed(FailureKind.STATUS)
BY_PATH = CircuitKey.parse("path")


@pytest.mark.parametrize(
    ("status", "policy", "outcome"),
    [
        (200, CircuitPolicy(), SUCCESS),
        (301, CircuitPolicy(), SUCCESS),
        (304, CircuitPolicy(), SUCCESS),
        (400, CircuitPolicy(), ALIVE),
        (404, CircuitPolicy(), ALIVE),
        (429, CircuitPolicy(), ALIVE),
        (499, CircuitPolicy(), ALIVE),
        (500, CircuitPolicy(), FAILED),
        (501, CircuitPolicy(), ALIVE),
        (503, CircuitPolicy(), FAILED),
        (505, CircuitPolicy(), ALIVE),
        (599, CircuitPolicy(), FAILED),
        (600, CircuitPolicy(), SUCCESS),
        (429, CircuitPolicy(key=BY_PATH), THROTTLED),
        (404, CircuitPolicy(key=BY_PATH), ALIVE),
        # The order: what is configured as a failure is one, whatever else it is.
        (429, CircuitPolicy(key=BY_PATH, failure_statuses=Statuses({429})), FAILED),
        (501, CircuitPolicy(failure_statuses=Statuses({501})), FAILED),
        (302, CircuitPolicy(failure_statuses=Statuses({302})), FAILED),
        (503, CircuitPolicy(failure_statuses=Statuses(), throttle_statuses=Statuses({503})), THROTTLED),
        (503, CircuitPolicy(failure_statuses=Statuses()), SUCCESS),
    ],
)
def test_the_outcome_of_a_status(status: int, policy: CircuitPolicy, outcome: Outcome) -> None:
    assert of_status(status, policy) == outcome


@pytest.mark.parametrize(
    ("owed_s", "after_s", "outcome"),
    [
        (3.0, 3.0, failed(FailureKind.ABANDONED)),
        (2.9, 3.0, NEUTRAL),
        (0.0, 3.0, NEUTRAL),
        (100.0, 0.0, NEUTRAL),
        (0.0, 0.0, NEUTRAL),
    ],
)
def test_a_client_that_leaves(owed_s: float, after_s: float, outcome: Outcome) -> None:
    assert of_leaving(upstream_owed_s=owed_s, abandoned_after_s=after_s) == outcome


LOSSES = [FailureKind.RESET, FailureKind.TRUNCATED]


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(
    ("owed_s", "after_s", "is_excused"),
    [
        (3.0, 3.0, True),
        (2.9, 3.0, False),
        (0.0, 3.0, False),
        # At once, but not where another side owed.
        (0.1, 0.0, True),
        (0.0, 0.0, False),
    ],
)
def test_an_upstream_that_gives_up_a_client_that_kept_it_waiting(
    kind: FailureKind, owed_s: float, after_s: float, *, is_excused: bool
) -> None:
    outcome = of_loss(failed(kind), client_owed_s=owed_s, abandoned_after_s=after_s)
    assert outcome == (NEUTRAL if is_excused else failed(kind))


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind not in LOSSES])
def test_another_failure_than_a_loss_is_never_excused(kind: FailureKind) -> None:
    assert of_loss(failed(kind), client_owed_s=100.0, abandoned_after_s=3.0) == failed(kind)


@pytest.mark.parametrize("outcome", [SUCCESS, ALIVE, THROTTLED, NEUTRAL], ids=str)
def test_what_is_no_failure_is_no_loss(outcome: Outcome) -> None:
    assert of_loss(outcome, client_owed_s=100.0, abandoned_after_s=3.0) == outcome


def test_every_verdict_but_neutral_has_an_effect() -> None:
    assert set(Verdict) - set(EFFECTS) == {Verdict.NEUTRAL}


def test_an_outcome_shows_its_kind() -> None:
    assert [str(outcome) for outcome in (SUCCESS, failed(FailureKind.TLS))] == ["success", "failure(tls)"]
