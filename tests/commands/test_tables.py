"""What is drawn on a terminal: what must be readable at any width, without colour, whatever its texts are."""

import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from proxy.commands import tables, views
from proxy.commands.failure import Failed
from proxy.commands.vocabulary import STATES

NOW = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)
LONG = "a-very-long-name-of-a-service.in-some-namespace.svc.cluster.example.internal:8443#0123456789abcdef"


def drawn(what: RenderableType, width: int = 80, *, color: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        height=24,
        force_terminal=True,
        color_system="truecolor" if color else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.print(what)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def circuit(key: str = "a.test:80", state: str = "open", **values: Any) -> dict[str, Any]:
    return {
        "key": key,
        "state": state,
        "reason": "consecutive_failures",
        "cause": "failure(refused)",
        "since": (NOW - timedelta(minutes=5)).isoformat(),
        "next_probe_in_s": 27.3,
        "in_flight": 3,
        "calls": 20,
        "failed": 12,
        "rejected": 41,
        "override": None,
        **values,
    }


def table(*circuits: dict[str, Any], width: int = 80) -> str:
    return drawn(tables.circuits(views.read(list(circuits), list[views.Circuit]), width, NOW), width)


def page(*circuits: dict[str, Any], total: int | None = None, **states: int) -> views.Circuits:
    told = {"circuits": list(circuits), "total": total or len(circuits), "states": states}
    return views.read({**told, "calls": 9, "failed": 5, "rejected": 4}, views.Circuits)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140, 200])
def test_no_line_is_wider_than_the_terminal_and_no_key_loses_a_character(width: int) -> None:
    lines = table(circuit(LONG), circuit("b.test:80", "closed"), width=width).splitlines()
    assert max(map(len, lines)) <= width
    first = lines[0].index("state") if width >= 60 else lines[0].index(" ") + 1
    cells = [line[:first].strip() for line in lines[1:]]
    if width >= 60:
        assert "".join(cells).startswith(LONG)


def test_a_state_is_a_word_and_a_shape_of_its_own() -> None:
    shown = [tables.state(name).plain for name in STATES]
    assert [text[2:] for text in shown] == [
        "open",
        "forced open",
        "half-open",
        "forced closed",
        "disabled",
        "closed",
    ]
    assert len({text[0] for text in shown}) == len(STATES)
    assert tables.state("of-tomorrow").plain == "? of-tomorrow"


def test_columns_come_with_the_width() -> None:
    figures = circuit(latency_s=0.0123, spared_s=754.0)
    headings = {
        80: {"circuit", "state", "since", "failures", "refused", "next probe"},
        100: {"reason"},
        120: {"in flight", "latency"},
        140: {"spared"},
    }
    expected: set[str] = set()
    for width, more in headings.items():
        expected |= more
        head, *rows = table(figures, width=width).splitlines()
        assert set(re.split(r" {2,}", head.strip())) == expected
        text = " ".join(" ".join(rows).split())
        for value in ("■ open", "03:25:00", "12/20", "60%", "41", "in 27s", "consecutive failures: refused"):
            assert value in text
    assert "12 ms" in text
    assert "12m34s" in text


def test_nothing_of_the_proxys_texts_is_obeyed() -> None:
    note = "[bold red]x[/bold red] :smile: \x1b[31mred\x1b]8;;http://evil.test\x07"
    forced = circuit("a\x1b[2J.test:80", "forced_open", override={"force": "open", "note": note})
    for text in (table(forced, width=240), drawn(tables.circuit(detail(note), NOW))):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[bold red]x[/bold red] :smile: �[31mred�]8" in " ".join(text.split())


def test_without_colour_there_is_none_and_with_it_the_words_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = views.read([circuit()], list[views.Circuit])
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = drawn(tables.circuits(found, 80, NOW), color=True)
    assert "\x1b[1;31m■ open" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = drawn(tables.circuits(found, 80, NOW), color=True)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    assert re.sub(r"\x1b\[[0-9;]*m", "", plain) == re.sub(r"\x1b\[[0-9;]*m", "", coloured)


def test_the_summary_counts_the_whole_table() -> None:
    text = drawn(
        tables.summary(page(circuit(), total=700, open=3, closed=697, half_open=0), "127.0.0.1:3129")
    )
    assert " ".join(text.split()) == ("127.0.0.1:3129 3 ■ open 697 □ closed 9 calls, 5 failed, 4 refused")
    assert "no circuits so far" in drawn(tables.summary(page(), "x"))
    assert "none of them fits" in drawn(tables.summary(page(closed=1), "x"))


def screen(found: views.Circuits, width: int, height: int, trouble: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    made = tables.screen(found, tables.rows(height), console, place="p:1", now=NOW, trouble=trouble)
    with console.capture() as capture:
        console.print(made)
    return capture.get().splitlines()


@pytest.mark.parametrize("height", [3, 4, 10, 24, 50])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_screen_is_never_higher_than_the_terminal(width: int, height: int) -> None:
    found = page(*(circuit(f"{LONG}{number}") for number in range(60)), open=60)
    lines = screen(found, width, height)
    assert len(lines) <= max(height, 3)
    assert "Ctrl-C ends it" in lines[-1]
    if height >= 10:
        shown = sum("■ open" in line for line in lines[1:])
        assert shown >= 1
        assert f"{60 - shown} more" in lines[-1]


def test_a_screen_fills_the_terminal() -> None:
    found = page(*(circuit(f"h{number:02}:1", "closed") for number in range(60)), closed=60)
    lines = screen(found, 80, 24)
    assert len(lines) == 24
    assert "h20:1" in lines[-2]
    assert "39 more" in lines[-1]


def test_trouble_is_told_above_what_was_known() -> None:
    lines = screen(page(circuit(), open=1), 80, 24, "as of 03:29:00: nothing listens")
    assert lines[1] == "as of 03:29:00: nothing listens"
    assert any("a.test:80" in line for line in lines)


def detail(note: str | None = None, **values: Any) -> views.Detail:
    at = (NOW - timedelta(days=2)).isoformat()
    told = {
        **circuit(
            state="forced_open", override={"force": "open", "note": note, "ttl_left_s": 540}, mode="observe"
        ),
        "window_s": 60,
        "failures_in_a_row": 4,
        "open_s": 4000.0,
        "outcomes": {"failure": 12},
        "last_failures": [{"kind": "connect_timeout", "count": 12, "last_at": at}],
        "rejections": [
            {"reason": "circuit_open", "enforced": True, "count": 40},
            {"reason": "circuit_open", "enforced": False, "count": 1},
        ],
        "transitions": [
            {
                "at": at,
                "from_state": "half_open",
                "to_state": "open",
                "reason": "probe_failed",
                "cause": "failure(connect_timeout)",
                "open_s": 60,
                "level": 2,
                "note": note,
            }
        ],
        "settings": {
            "open": {"value": "10s", "origin": "upstreams[0]"},
            "retry_after": {"value": False, "origin": "circuit"},
            "failure_statuses": {"value": ["500", "502-599"], "origin": "circuit"},
            "window": {"value": "1m", "origin": "default"},
            "probe_lease": {"value": "50s", "origin": "timeouts"},
        },
    }
    return views.read({**told, **values}, views.Detail)


def test_one_circuit_with_all_that_is_worth_knowing() -> None:
    text = " ".join(
        drawn(tables.circuit(detail("they move", spared_s=754.0, latency_s=1.5), NOW), 120).split()
    )
    for told in (
        "a.test:80 ▣ forced open",
        "why consecutive failures: refused",
        "forced open for 9m more, “they move”",
        "calls 20 in the last 1m: 12 failed, 0 slow",
        "in a row 4 failed",
        "latency 1.50 s",
        "failures 12 connect timeout (last 21 Nov 03:30)",
        "refused 40 circuit open, 1 circuit open (only counted)",
        "spared 12m34s",
        "open 1h06m in all",
        "mode observe",
        "settings open: 10s (upstreams[0]), retry_after: false (circuit), failure_statuses: 500, 502-599",
        "21 Nov 03:30 ◧ half-open → ■ open probe failed: connect timeout, for 1m, level 2, “they move”",
    ):
        assert told in text
    assert "probe_lease" not in text


def test_a_transition_is_a_line() -> None:
    told = {
        "key": "a.test:80",
        "transition": {**detail_transition(), "reason": "recovered", "cause": "success"},
    }
    line = drawn(tables.event(views.read(told, views.Event), NOW), 120)
    assert line == "03:30:00  a.test:80  ◧ half-open → □ closed  recovered\n"


def detail_transition() -> dict[str, Any]:
    return {
        "at": NOW.isoformat(),
        "from_state": "half_open",
        "to_state": "closed",
        "open_s": None,
        "level": 0,
    }


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"circuits": 5, "total": 1, "states": {}},
        {"circuits": [{}], "total": 1, "states": {}},
        {"circuits": [{"key": 1, "state": "open"}], "total": 1, "states": {}},
        {"circuits": [circuit(next_probe_in_s=1e400)], "total": 1, "states": {}},
        {"circuits": [circuit(next_probe_in_s=-1)], "total": 1, "states": {}},
        {"circuits": [circuit(calls=10**400)], "total": 1, "states": {}},
        {"circuits": [], "total": -1, "states": {}},
        {"circuits": [], "total": 1, "states": {"open": "many"}},
    ],
)
def test_what_is_something_else_is_told(answer: Any) -> None:
    with pytest.raises(Failed, match="not what this version"):
        views.read(answer, views.Circuits)
