"""Circuits as tables on a terminal.

A state is a word and a shape, and its colour says it once more. A key is folded and never cut, so that it can
be copied. What there is no room for is left out by columns, the least needed first; JSON has it all.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.commands.text import duration, latency, local, why, words
from proxy.commands.views import Circuit, Circuits, Detail, Event, Transition

# Each state with its shape and its colour.
_LOOKS = {
    "open": ("■", "bold red"),
    "forced_open": ("▣", "bold magenta"),
    "half_open": ("◧", "bold yellow"),
    "forced_closed": ("◇", "bold cyan"),
    "disabled": ("-", "dim"),
    "closed": ("□", "green"),
}
_NARROW = 50
_MEDIUM = 65
_USUAL = 80
# With less, the reason stands below the key.
_WIDE = 100
_WIDER = 120
_WIDEST = 140
# The summary, the heading, and the foot.
_AROUND = 3
_LEAST_SPARED_S = 0.1


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the list, shown from a width of the terminal on."""

    heading: str
    cell: Callable[[Circuit, datetime], Text]
    justify: Literal["left", "right"] = "left"
    width: int = 0


_COLUMNS = (
    _Column("state", lambda circuit, _now: state(circuit.state)),
    _Column(
        "since", lambda circuit, now: Text(local(circuit.since, now) if circuit.since else ""), width=_MEDIUM
    ),
    _Column("reason", lambda circuit, _now: Text(_reason(circuit)), width=_WIDE),
    _Column("failures", lambda circuit, _now: Text(_failures(circuit)), "right", _MEDIUM),
    _Column("in flight", lambda circuit, _now: Text(str(circuit.in_flight)), "right", _WIDER),
    _Column("latency", lambda circuit, _now: Text(_latency(circuit)), "right", _WIDER),
    _Column("refused", lambda circuit, _now: Text(str(circuit.rejected)), "right", _USUAL),
    _Column("spared", lambda circuit, _now: Text(_spared(circuit.spared_s)), "right", _WIDEST),
    _Column("next probe", lambda circuit, _now: Text(_next(circuit)), width=_NARROW),
)


def state(name: str) -> Text:
    """A state as a shape and a word."""
    shape, style = _LOOKS.get(name, ("?", ""))
    return Text(f"{shape} {words(name)}", style, no_wrap=True)


def circuits(found: list[Circuit], width: int, now: datetime) -> Table:
    """A list of circuits.

    Args:
        found: in their order.
        width: of the terminal, in characters.
        now: with the time zone of whoever looks.
    """
    columns = [column for column in _COLUMNS if column.width <= width]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold underline")
    longest = max((len(circuit.key) for circuit in found), default=0)
    # Rather the reason is folded than a key of usual length.
    table.add_column("circuit", overflow="fold", min_width=min(longest, width // 4))
    for column in columns:
        table.add_column(
            column.heading,
            justify=column.justify,
            overflow="fold",
            no_wrap=column.heading != "reason",
        )
    for circuit in found:
        key = Text(circuit.key)
        if width < _WIDE and _has_reason_below(circuit):
            key.append(f"\n  {_reason(circuit)}", "dim")
        table.add_row(key, *(column.cell(circuit, now) for column in columns))
    return table


def summary(page: Circuits, place: str) -> Text:
    """What there is to say of all circuits together, in a line."""
    text = Text(place, "bold", overflow="fold")
    for name in _LOOKS:
        if count := page.states.get(name, 0):
            text.append("  ", "not bold").append_text(Text(f"{count} ", "not bold")).append_text(state(name))
    if not any(page.states.values()):
        text.append("  no circuits so far: they come with the first calls", "not bold")
    elif not page.circuits:
        text.append("  none of them fits", "not bold")
    counts = f"   {page.calls} calls, {page.failed} failed, {page.rejected} refused"
    if spared := _spared(page.spared_s):
        counts += f", {spared} spared"
    return text.append(counts, "not bold dim")


def rows(height: int) -> int:
    """How many circuits a screen of so many lines has at most."""
    return max(1, height - _AROUND)


def screen(
    page: Circuits, most: int, console: Console, *, place: str, now: datetime, trouble: str
) -> RenderableType:
    """The list as one screen.

    Args:
        page: what was asked for last.
        most: how many circuits are shown at most.
        console: whose screen it is.
        place: where the proxy is.
        now: with the time zone of whoever looks.
        trouble: why it is not up to date; empty if it is.
    """
    above: list[RenderableType] = [summary(page, place)]
    if trouble:
        above.append(Text(trouble, "bold red", overflow="fold"))

    def made(count: int) -> Group:
        left = page.total - count
        foot = f"{now:%H:%M:%S}  Ctrl-C ends it" + (f"  {left} more" if left > 0 else "")
        listed = [circuits(page.circuits[:count], console.width, now)] if count else []
        return Group(*above, *listed, Text(foot, "dim"))

    def is_too_high(count: int) -> bool:
        # How many lines a circuit takes, only the table itself knows.
        return len(console.render_lines(made(count), pad=False)) > console.height

    counts = range(1, min(most, len(page.circuits)) + 1)
    return made(bisect_left(counts, x=True, key=is_too_high))


def circuit(detail: Detail, now: datetime) -> RenderableType:
    """All that is worth knowing of one circuit.

    Args:
        detail: the circuit.
        now: with the time zone of whoever looks.
    """
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(detail, now):
        if value:
            facts.add_row(f"  {name}", Text(value))
    head = Text(detail.key, "bold", overflow="fold").append("  ", "not bold").append_text(state(detail.state))
    parts: list[RenderableType] = [head, facts]
    if detail.transitions:
        parts += [Text("  transitions, latest first", "dim"), _transitions(detail.transitions, now)]
    return Group(*parts)


def event(told: Event, now: datetime) -> Text:
    """A transition in one line, as far as the terminal is wide."""
    line = Text(overflow="fold")
    line.append(f"{local(told.transition.at, now)}  ", "dim").append(told.key, "bold").append("  ")
    line.append_text(_change(told.transition))
    if told_why := _told_why(told.transition):
        line.append(f"  {told_why}")
    return line


def _facts(detail: Detail, now: datetime) -> list[tuple[str, str]]:
    window = f"{detail.calls} in the last {duration(detail.window_s)}: "
    failures = [
        f"{each.count} {each.kind.replace('_', ' ')} (last {local(each.last_at, now)})"
        for each in detail.last_failures
    ]
    refused = [
        f"{each.count} {each.reason.replace('_', ' ')}" + ("" if each.enforced else " (only counted)")
        for each in detail.rejections
    ]
    set_ = [
        f"{name}: {_setting(each.value)} ({each.origin})"
        for name, each in detail.settings.items()
        if each.origin not in {"default", "timeouts"}
    ]
    return [
        ("since", local(detail.since, now) if detail.since else ""),
        ("why", why(detail.reason, detail.cause)),
        ("forced", _forced(detail)),
        (
            "next probe",
            f"in {duration(detail.next_probe_in_s)}" if detail.next_probe_in_s is not None else "",
        ),
        ("level", str(detail.level) if detail.level else ""),
        ("calls", f"{window}{detail.failed} failed, {detail.slow} slow"),
        ("in a row", f"{detail.failures_in_a_row} failed" if detail.failures_in_a_row else ""),
        ("in flight", str(detail.in_flight)),
        ("latency", _latency(detail)),
        ("failures", ", ".join(failures)),
        ("refused", ", ".join(refused)),
        ("spared", _spared(detail.spared_s)),
        ("open", f"{duration(detail.open_s)} in all" if detail.open_s else ""),
        ("mode", detail.mode if detail.mode != "enforce" else ""),
        ("settings", ", ".join(set_) or "all as by default (--json has them)"),
    ]


def _transitions(transitions: list[Transition], now: datetime) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in transitions:
        table.add_row(f"  {local(each.at, now)}", _change(each), Text(_told_why(each)))
    return table


def _change(transition: Transition) -> Text:
    return (
        state(transition.from_state).append(" → ", "not bold default").append_text(state(transition.to_state))
    )


def _told_why(transition: Transition) -> str:
    told = why(transition.reason, transition.cause)
    if transition.open_s:
        told += f", for {duration(transition.open_s)}"
    if transition.level > 1:
        told += f", level {transition.level}"
    return f"{told}, “{transition.note}”" if transition.note else told


def _reason(circuit: Circuit) -> str:
    note = circuit.override.note if circuit.override else None
    return f"{why(circuit.reason, circuit.cause)}, “{note}”" if note else why(circuit.reason, circuit.cause)


def _has_reason_below(circuit: Circuit) -> bool:
    return bool(circuit.state != "closed" and _reason(circuit))


def _failures(circuit: Circuit) -> str:
    if not circuit.calls:
        return ""
    return f"{circuit.failed}/{circuit.calls} {circuit.failed / circuit.calls:>4.0%}"


def _latency(circuit: Circuit) -> str:
    return "" if circuit.latency_s is None else latency(circuit.latency_s)


def _spared(seconds: float | None) -> str:
    # Less is shown as nothing by its one digit.
    return duration(seconds) if seconds is not None and seconds >= _LEAST_SPARED_S else ""


def _next(circuit: Circuit) -> str:
    if circuit.override is not None and circuit.override.ttl_left_s is not None:
        return f"in {duration(circuit.override.ttl_left_s)}"
    return "" if circuit.next_probe_in_s is None else f"in {duration(circuit.next_probe_in_s)}"


def _forced(circuit: Circuit) -> str:
    override = circuit.override
    if override is None:
        return ""
    left = "until given back" if override.ttl_left_s is None else f"for {duration(override.ttl_left_s)} more"
    return f"{override.force.replace('_', ' ')} {left}" + (f", “{override.note}”" if override.note else "")


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else str(value)
