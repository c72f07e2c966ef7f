"""Draws the pictures of docs/circuits.md from the engine itself, so that they show what it does.

`circuit-states.svg` is the table TRANSITIONS: where a state stands is set by hand here, every label of an
arrow comes from the table. `circuit-trace.svg` is one outage as the real circuits see it, in literal time and
without chance. `make pictures` writes both beside this file; tests/test_pictures.py compares.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from paper import label, picture

from proxy.core import escalation
from proxy.core.errors import ProxyError
from proxy.core.exchange import Awaited, Entry, Exchange
from proxy.core.listeners import Listener
from proxy.core.outcome import Verdict
from proxy.core.permit import Permit
from proxy.core.policy import CircuitPolicy
from proxy.core.quantities import Seconds
from proxy.core.registry import Circuits
from proxy.core.retry_after import retry_after_at
from proxy.core.states import TRANSITIONS, State, Transition, Trigger

# The states.

_NODE_WIDTH, _NODE_HEIGHT = 190, 64
_LINE_HEIGHT = 18
# The middle of each, and what becomes of calls.
_NODES = {
    State.CLOSED: (150, 142, "calls pass"),
    State.OPEN: (830, 142, "calls are refused"),
    State.HALF_OPEN: (490, 402, "a few calls pass, as probes"),
}
_BY_OPERATOR = {Trigger.FORCED_OPEN, Trigger.FORCED_CLOSED, Trigger.OVERRIDE_ENDED, Trigger.RESET}


@dataclass(frozen=True)
class _Arrow:
    """Where an arrow runs, and where its labels begin, or end if they stand `above` it."""

    path: str
    x: int
    y: int
    kind: str = ""
    above: bool = False


_ARROWS = {
    (State.CLOSED, State.OPEN): _Arrow("M 245,128 L 735,128", 490, 116, "m", above=True),
    (State.OPEN, State.CLOSED): _Arrow("M 735,156 L 245,156", 490, 178, "m"),
    (State.OPEN, State.HALF_OPEN): _Arrow("M 860,174 C 860,290 760,396 585,402", 836, 310),
    (State.HALF_OPEN, State.OPEN): _Arrow("M 540,370 C 580,290 690,230 780,174", 608, 248, "e"),
    (State.HALF_OPEN, State.CLOSED): _Arrow("M 395,402 C 220,396 130,290 130,174", 144, 310, "e"),
    (State.CLOSED, State.CLOSED): _Arrow("M 90,110 C 70,40 150,40 130,110", 152, 32),
    (State.OPEN, State.OPEN): _Arrow("M 850,110 C 830,40 910,40 890,110", 828, 68, "e"),
}


def states() -> str:
    """The picture of TRANSITIONS."""
    return picture(476, "The states of a circuit and what leads from one to another", _states())


def _states() -> Iterator[str]:
    for state, (x, y, calls) in _NODES.items():
        left, top = x - _NODE_WIDTH / 2, y - _NODE_HEIGHT / 2
        box = f'x="{left:g}" y="{top:g}" width="{_NODE_WIDTH}" height="{_NODE_HEIGHT}" rx="10"'
        yield f'<rect class="state {state.value}" {box}/>'
        yield label(x, y - 4, state.value, "m h")
        yield label(x, y + 17, calls, "m s")
    for state, triggers in TRANSITIONS.items():
        for to_state in State:
            leading = [trigger for trigger, reached in triggers.items() if reached is to_state]
            if leading:
                # A KeyError here: the table has a new arrow, which wants a place in _ARROWS.
                yield from _arrow(_ARROWS[state, to_state], leading)
    yield label(18, 430, "upright: the circuit by itself", "s")
    yield label(18, 447, "italic, and dashed if nothing else leads there: an operator", "s o")
    yield label(18, 464, "each arrow begins a new generation: results of earlier calls no longer count", "s")


def _arrow(arrow: _Arrow, triggers: list[Trigger]) -> Iterator[str]:
    dashed = " d" if _BY_OPERATOR.issuperset(triggers) else ""
    yield f'<path class="line arrow{dashed}" d="{arrow.path}"/>'
    top = arrow.y - _LINE_HEIGHT * (len(triggers) - 1) if arrow.above else arrow.y
    for line, trigger in enumerate(triggers):
        kind = f"t {arrow.kind}{' o' if trigger in _BY_OPERATOR else ''}"
        yield label(arrow.x, top + _LINE_HEIGHT * line, trigger.value, kind)


# The trace.

POLICY = CircuitPolicy(open=Seconds(10), ramp=Seconds(20))
_HOST = "api.example.com:80"
_CALLS = 121  # one each second


@dataclass(frozen=True)
class _Phase:
    """What the upstream answers to calls that begin from a time on, in seconds."""

    since: float
    status: int
    told: str
    took_s: float = 0.4
    retry_after: bytes | None = None


_PHASES = (
    _Phase(0, 200, "200"),
    _Phase(8, 500, "500"),
    _Phase(30, 503, "503, Retry-After: 45", retry_after=b"45"),
    _Phase(60, 200, "200, slowly", took_s=1.4),
    _Phase(91.5, 200, "200"),
)


class Fate(Enum):
    """What became of a call."""

    GOOD = "passed, answered well"
    BAD = "passed, failed"
    PROBE_GOOD = "probe, answered well"
    PROBE_BAD = "probe, failed"
    REFUSED = "refused with 503 at once"


@dataclass(frozen=True)
class _UnderWay:
    """A call that waits for its answer."""

    began: float
    ends: float
    phase: _Phase
    permit: Permit
    ends_with: ExitStack

    def end(self) -> Fate:
        """Takes the answer, as the line of the proxy does."""
        wish = self.phase.retry_after
        at = None if wish is None else retry_after_at(wish, None, self.ends)
        is_probe = self.permit.is_probe
        with self.ends_with:
            outcome = self.permit.head(self.phase.status, at, self.ends)
            self.permit.settle(outcome, self.ends)
        if outcome.verdict is Verdict.SUCCESS:
            return Fate.PROBE_GOOD if is_probe else Fate.GOOD
        return Fate.PROBE_BAD if is_probe else Fate.BAD


def trace() -> tuple[list[tuple[float, Fate]], list[Transition]]:
    """Plays the outage: when each call began and what became of it, and what the circuit did."""
    changes: list[Transition] = []
    circuits = Circuits(draw=lambda: 0.5, listeners=(changes.append,), on_fault=_raise)
    fates: list[tuple[float, Fate]] = []
    under_way: list[_UnderWay] = []
    for began in map(float, range(_CALLS)):
        while under_way and under_way[0].ends <= began:
            call = under_way.pop(0)
            fates.append((call.began, call.end()))
        phase = [phase for phase in _PHASES if phase.since <= began][-1]
        exchange = Exchange(Entry.FORWARD, "POST", began)
        ends_with = ExitStack()
        try:
            permit = ends_with.enter_context(circuits.admit(_HOST, POLICY, exchange, began))
        except ProxyError:
            fates.append((began, Fate.REFUSED))
            continue
        permit.connected(began)
        exchange.wait_for(Awaited.RESPONSE_HEAD, 30.0, began)
        under_way.append(_UnderWay(began, began + phase.took_s, phase, permit, ends_with))
    fates.extend((call.began, call.end()) for call in under_way)
    return sorted(fates, key=lambda fate: fate[0]), changes


def _raise(_: Listener, error: Exception) -> None:
    raise error


_LEFT, _RIGHT = 96, 962
_PHASE_Y, _AXIS_Y = 30, 266
_FATE_Y = {Fate.GOOD: 78, Fate.PROBE_GOOD: 78, Fate.BAD: 106, Fate.PROBE_BAD: 106, Fate.REFUSED: 134}
_STATE_Y = {State.OPEN: 164, State.HALF_OPEN: 196, State.CLOSED: 228}
_BAND_HEIGHT = 24
_NOTE_Y, _LEGEND_Y = 330, 466


def circuit_trace() -> str:
    """The picture of one outage."""
    fates, changes = trace()
    return picture(506, "One outage, as the circuit of its host sees it", _trace(fates, changes))


def _x(seconds: float) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * seconds / (_CALLS - 1), 1)


def _trace(fates: list[tuple[float, Fate]], changes: list[Transition]) -> Iterator[str]:
    yield from _scale()
    yield from _phases()
    for name, y in (("good", 78), ("failed", 106), ("refused", 134)):
        yield label(_LEFT - 12, y + 5, name, "e")
    for began, fate in fates:
        yield from _call(_x(began), _FATE_Y[fate], fate)
    yield from _bands(changes)
    yield from _notes(changes)
    for column, fate in enumerate(Fate):
        x = 30 + 190 * column
        yield from _call(x, _LEGEND_Y, fate)
        yield label(x + 14, _LEGEND_Y + 4, fate.value, "s")
    settings = (
        f"open: {POLICY.open:g}s, ramp: {POLICY.ramp:g}s, all else by default; jitter drawn in its middle"
    )
    yield label(24, _LEGEND_Y + 26, f"One call a second to {_HOST}; {settings}.", "s")


def _scale() -> Iterator[str]:
    for seconds in range(0, _CALLS, 10):
        x = _x(seconds)
        yield f'<path class="grid" d="M {x:g},60 V {_AXIS_Y - 12}"/>'
        yield label(x, _AXIS_Y, f"{seconds} s", "m s")


def _phases() -> Iterator[str]:
    yield label(_LEFT - 12, _PHASE_Y + 5, "answers", "e")
    ends = [*(phase.since for phase in _PHASES[1:]), float(_CALLS - 1)]
    for phase, end in zip(_PHASES, ends, strict=True):
        kind = "closed" if phase.status == _PHASES[0].status else "open"
        x, width = _x(phase.since), _x(end) - _x(phase.since)
        place = f'x="{x:g}" y="{_PHASE_Y - 12}" width="{width:g}"'
        yield f'<rect class="{kind}" {place} height="{_BAND_HEIGHT}"/>'
        yield label(x + width / 2, _PHASE_Y + 5, phase.told, "m s")


def _call(x: float, y: float, fate: Fate) -> Iterator[str]:
    """A call by shape and colour: a disc, a cross or a stroke, in a diamond if it is a probe."""
    if fate in {Fate.PROBE_GOOD, Fate.PROBE_BAD}:
        yield f'<path class="probe" d="M {x:g},{y - 11} l 3.4,11 -3.4,11 -3.4,-11 z"/>'
    if fate in {Fate.GOOD, Fate.PROBE_GOOD}:
        yield f'<circle class="good" cx="{x:g}" cy="{y}" r="2.4"/>'
    elif fate is Fate.REFUSED:
        yield f'<path class="refused" d="M {x:g},{y - 6} v 12"/>'
    else:
        yield f'<path class="bad" d="M {x - 3:g},{y - 3} l 6,6 m 0,-6 l -6,6"/>'


def _bands(changes: list[Transition]) -> Iterator[str]:
    """For each state a row, with a bar where the circuit was in it."""
    for state, y in _STATE_Y.items():
        yield label(_LEFT - 12, y + 17, state.value, "e")
    state, since = State.CLOSED, 0.0
    for change in changes:
        yield _band(state, since, change.at)
        state, since = change.to_state, change.at
    yield _band(state, since, _CALLS - 1)
    for change in changes:
        if change.open_s:
            yield label(
                _x(change.at + change.open_s / 2), _STATE_Y[State.OPEN] + 17, f"{change.open_s:g} s", "m"
            )
    ramp_from, ramp_to, y = _x(since), _x(since + POLICY.ramp), _STATE_Y[state]
    # From a tenth to all.
    wedge = (
        f"M {ramp_from:g},{y + 0.9 * _BAND_HEIGHT:g} L {ramp_to:g},{y} V {y + _BAND_HEIGHT} H {ramp_from:g} z"
    )
    yield f'<path class="line" d="{wedge}"/>'
    yield label(ramp_to - 40, y + 19, "ramp", "s")


def _band(state: State, since: float, until: float) -> str:
    place = f'x="{_x(since):g}" y="{_STATE_Y[state]}" width="{_x(until) - _x(since):g}"'
    return f'<rect class="state {state.value}" {place} height="{_BAND_HEIGHT}"/>'


def _notes(changes: list[Transition]) -> Iterator[str]:
    """Says of each transition but the ends of openings why it came, and what then."""
    told = [(change.at, _told(change)) for change in changes if change.trigger is not Trigger.OPEN_ELAPSED]
    told.append((changes[-1].at + POLICY.ramp, "the ramp is over: all calls pass"))
    for number, (at, text) in enumerate(told, start=1):
        y = _NOTE_Y + 24 * (number - 1)
        yield from _mark(_x(at), _AXIS_Y + 22, number)
        yield from _mark(34, y, number)
        yield label(52, y + 5, f"{at:.1f} s: {text}")


def _told(change: Transition) -> str:
    text = f"{change.trigger.value}, so it is {change.to_state.value}"
    if change.to_state is not State.OPEN:
        return f"{text}; calls come back in growing shares for {POLICY.ramp:g} s"
    text += f" for {change.open_s:.3g} s"
    base_s = escalation.base_s(POLICY, change.level)
    # The time between two times may be a little more than what was added to the first.
    if change.open_s < base_s + 0.001:
        return f"{text} (level {change.level})"
    return f"{text}: level {change.level} would be {base_s:g} s, but the upstream asks for more"


def _mark(x: float, y: float, number: int) -> Iterator[str]:
    yield f'<circle class="mark" cx="{x:g}" cy="{y:g}" r="9"/>'
    yield label(x, y + 4, str(number), "m mark-text")


PICTURES = {"circuit-states.svg": states, "circuit-trace.svg": circuit_trace}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        Path(__file__).with_name(name).write_text(draw(), encoding="utf-8")
