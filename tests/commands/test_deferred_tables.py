"""The table of deferred requests: an id can always be copied, and what there is no room for is left out."""

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from proxy.commands.deferred import told
from proxy.commands.deferred_tables import requests
from proxy.commands.views import Deferred, DeferredRequest, Queue

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ONE = DeferredRequest(
    id="0123456789abcdef0123456789abcdef",
    state="dead",
    queue="hooks.example.com:443#0123456789abcdef",
    method="POST",
    stored_at="2026-11-24T11:59:00+00:00",
    attempts=3,
    result="410",
    died_of="final_status",
    content_bytes=1024,
)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_nothing_of_an_id_is_lost(width: int) -> None:
    console = Console(file=StringIO(), width=width, markup=False)
    console.print(requests([ONE], width, NOW))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in drawn.splitlines())
    ids = "".join(line.split("  ")[0].strip() for line in drawn.splitlines()[1:])
    assert ids == ONE.id
    assert "final status" in drawn
    assert ("410" in drawn) is (width >= 140)


def test_what_is_wrong_is_said() -> None:
    kept = Deferred(
        waiting=3, dead_letters=1, stored_bytes=9, oldest_age_s=90.0, is_paused=True, fault="disk full",
        max_events=10, max_bytes=100, queues=[Queue("a.test:80", 2, 90.0)], queues_total=4,
    )  # fmt: skip
    assert told(kept) == [
        "3 waiting, the oldest for 1m30s; 1 dead letters",
        "4 of 10 requests, 9 of 100 bytes",
        "paused: nothing is delivered until `breaker-proxy deferred resume`",
        "nothing can be stored: disk full",
        "  a.test:80  2, the oldest for 1m30s",
        "  and 3 more",
    ]
