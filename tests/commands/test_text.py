"""What is shown of other people's texts, and figures as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from proxy.commands.text import clean, cleaned, duration, latency, local, why


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("they move, é and 東京", "they move, é and 東京"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("\x1b[2Jx", "�[2Jx"),
        ("\x9b2Jx", "�2Jx"),
        ("a\r\nb\tc\0", "a��b�c�"),
        ("a\u202eb\u2066c\u200b", "a�b�c�"),
        ("\ud800", "�"),
        ("x" * 5000, "x" * 1000),
    ],
)
def test_nothing_that_a_terminal_would_obey(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert cleaned({text: [text, 1, None, {"a": text}]}) == {shown: [shown, 1, None, {"a": shown}]}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0s"),
        (0.44, "0.4s"),
        (9.94, "9.9s"),
        (27.4, "27s"),
        (59.6, "1m"),
        (60, "1m"),
        (252, "4m12s"),
        (3600, "1h"),
        (7500, "2h05m"),
        (86400, "1d"),
        (273600, "3d04h"),
        (4e9, "46296d07h"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_latencies() -> None:
    assert [latency(0.0124), latency(0.9994), latency(1.239)] == ["12 ms", "999 ms", "1.24 s"]


NOW = datetime(2026, 11, 23, 3, 30, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        ("2026-11-23T02:12:45.123+00:00", "03:12:45"),
        ("2026-11-22T23:30:00+00:00", "00:30:00"),
        ("2026-11-22T22:30:00+00:00", "22 Nov 23:30"),
        ("yesterday", "yesterday"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_moments_are_those_of_whoever_looks(at: str, shown: str) -> None:
    assert local(at, NOW) == shown


def test_moments_by_default() -> None:
    assert local("2026-11-23T02:12:45+00:00", datetime(2026, 11, 23, 2, 13, tzinfo=UTC)) == "02:12:45"


@pytest.mark.parametrize(
    ("reason", "cause", "shown"),
    [
        ("consecutive_failures", "failure(connect_timeout)", "consecutive failures: connect timeout"),
        ("failure_ratio", "throttled", "failure ratio: throttled"),
        ("recovered", "success", "recovered"),
        ("open_elapsed", None, "open elapsed"),
        (None, None, ""),
    ],
)
def test_reasons(reason: str | None, cause: str | None, shown: str) -> None:
    assert why(reason, cause) == shown
