"""What is told of deferred requests, and what is not."""

import json
from base64 import b64decode

from support.deferred import deferred

from proxy.control.deferred_views import MOST_QUEUES, Standing, overview, request_view, whole_line
from proxy.core.defer import Defer
from proxy.core.deferred import TOO_OLD, Queue


class Numbers:
    fault: str | None = None
    depth, dead, stored_bytes, is_paused = 3, 1, 77, True


def test_a_request_is_told_without_its_path_fields_and_content() -> None:
    view = request_view(deferred(7, sequence=4, attempts=2, tried_at=2000.0, result="503"))
    assert (view.id, view.cursor, view.state) == (f"{7:032x}", 4, Standing.WAITING)
    assert (view.stored_at, view.tried_at) == (
        "1970-01-01T00:16:47.000+00:00",
        "1970-01-01T00:33:20.000+00:00",
    )
    assert (view.attempts, view.result, view.content_bytes, view.scheme) == (2, "503", 7, "https")
    for secret in ("sig", "/hooks", "X-Odd", "event 7"):
        assert secret not in repr(view)


def test_a_dead_letter_says_since_when_and_why() -> None:
    view = request_view(deferred(7, died_at=3000.0, died_of=TOO_OLD))
    assert (view.state, view.died_at, view.died_of) == (
        Standing.DEAD,
        "1970-01-01T00:50:00.000+00:00",
        "too_old",
    )


def test_the_queues_with_most_come_first_and_the_oldest_of_all_is_told() -> None:
    queues = {f"h{number}.test:80": Queue("h", number, 1000.0 - number) for number in range(1, 151)}
    seen = overview(Numbers(), queues.items(), Defer(max_events=9), 1010.0)
    assert (seen.waiting, seen.dead_letters, seen.stored_bytes, seen.is_paused) == (3, 1, 77, True)
    assert (seen.oldest_age_s, seen.queues_total, len(seen.queues)) == (160.0, 150, MOST_QUEUES)
    assert (seen.queues[0].queue, seen.queues[0].waiting, seen.queues[0].oldest_age_s) == (
        "h150.test:80",
        150,
        160.0,
    )
    assert seen.max_events == 9
    # A clock that was set back makes no age negative.
    seen = overview(Numbers(), {"a": Queue("a", 1, 1000.0)}.items(), Defer(), 0.0)
    assert seen.oldest_age_s == 0.0
    assert overview(Numbers(), (), Defer(), 0.0).oldest_age_s is None


def test_a_line_of_the_export_has_every_byte() -> None:
    content = bytes(range(256))
    line = whole_line(deferred(7, content=content))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    told = json.loads(line)
    assert b64decode(told["content"]) == content
    assert told["url"] == "https://hooks.test:8443/hooks/7?sig=abc"
    assert told["fields"] == [["Content-Type", "application/json"], ["X-Odd", "a:b\xff "]]
    assert told["state"] == "waiting"
