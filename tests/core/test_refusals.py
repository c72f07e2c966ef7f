"""What the client of a call without a seat is told."""

from typing import NamedTuple

import pytest

from proxy.core.outcome import NEUTRAL
from proxy.core.refusals import REJECTION_REASONS, refused


class Row(NamedTuple):
    """A reason, and the answer to it."""

    reason: str
    token: str
    phrase: str
    details: str


UNAVAILABLE, LIMIT = "destination_unavailable", "connection_limit_reached"
ROWS = [
    Row("circuit_open", UNAVAILABLE, "Circuit open for a:443", "the upstream failed"),
    Row(
        "circuit_forced_open", UNAVAILABLE, "Circuit forced open for a:443", "an operator opened the circuit"
    ),
    Row("circuit_half_open", UNAVAILABLE, "Circuit half-open for a:443", "probes are under way"),
    Row("circuit_ramping", UNAVAILABLE, "Circuit ramping for a:443", "calls come back in growing shares"),
    Row("too_many_in_flight", LIMIT, "Too many in flight for a:443", "too many calls are under way"),
]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.reason)


def test_the_table_is_complete() -> None:
    assert [row.reason for row in ROWS] == list(REJECTION_REASONS)


@each_row
def test_the_answer(row: Row) -> None:
    error = refused(row.reason, "a:443", 7.0)
    assert Row(error.reason, error.error_type, error.phrase, error.details) == row
    assert (error.status, error.connect_status, error.retry_after_s) == (503, 503, 7)
    # It cost nothing, and says nothing of the upstream.
    assert (error.refused, error.outcome) == (True, NEUTRAL)


@pytest.mark.parametrize(
    ("wait_s", "told"),
    [(-1.0, 1), (0.0, 1), (0.001, 1), (1.0, 1), (1.001, 2), (29.5, 30), (60.0, 60), (300.0, 300)],
)
@each_row
def test_the_wait_is_told_in_whole_seconds_and_never_too_short(row: Row, wait_s: float, told: int) -> None:
    error = refused(row.reason, "a:443", wait_s)
    assert (type(error.retry_after_s), error.retry_after_s) == (int, told)


def test_a_reason_that_nobody_knows_is_a_bug() -> None:
    with pytest.raises(KeyError):
        refused("circuit_closed", "a:443", 1.0)
