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


def test_every_verdict_but_neutral_has_an_effect() -> None:
    assert set(Verdict) - set(EFFECTS) == {Verdict.NEUTRAL}


def test_an_outcome_shows_its_kind() -> None:
    assert [str(outcome) for outcome in (SUCCESS, failed(FailureKind.TLS))] == ["success", "failure(tls)"]
