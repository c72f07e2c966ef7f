"""What is said of an action, in one line."""

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.commands import views
from proxy.commands.steer import outcome

NOW = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)


def told(state: str, action: str, **values: Any) -> str:
    known = {"outcomes": {"failure": 1}}
    detail = views.read({"key": "a.test:80", "state": state, **known, **values}, views.Detail)
    return outcome(detail, action, NOW)


def forced(force: str, ttl_left_s: float | None) -> dict[str, Any]:
    return {"override": {"force": force, "note": "n", "ttl_left_s": ttl_left_s}}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            told("forced_open", "open", **forced("open", 599.9)),
            "a.test:80 is forced open until 23:39:59 (10m)",
        ),
        (
            told("forced_open", "open", **forced("open", 7200)),
            "a.test:80 is forced open until 24 Nov 01:30:00 (2h)",
        ),
        (
            told("forced_closed", "close", **forced("closed", None)),
            "a.test:80 is forced closed until `breaker-proxy circuit auto a.test:80`",
        ),
        (told("half_open", "auto"), "a.test:80 is half-open, not forced"),
        (told("closed", "reset"), "a.test:80 is closed, beginning anew"),
        (
            told("forced_open", "open", outcomes={"failure": 0}, **forced("open", 60)),
            "a.test:80 is forced open until 23:31:00 (1m); no call has come to it so far",
        ),
    ],
)
def test_what_was_done(line: str, said: str) -> None:
    assert line == said
