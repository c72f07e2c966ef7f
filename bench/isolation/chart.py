"""Draws healthy throughput over time, a lane for each way, all on the same scale.

Above the lanes stands who is sick when. Behind each lane lies what came through while all were well. Words
and lines are large, since the picture is as wide as a page and is read on phones too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isolation.figures import ON_TIME_S, bin_s
from isolation.scenario import Ailment, Endpoint, Scenario
from paper import WIDTH, label, picture

_STYLE = """<style>
    .big { font-size: 23px } .axis { font-size: 20px; fill: #57606e }
    .way { font-size: 25px; font-weight: 600 }
    .ours { fill: #b9cfee } .ours-top { fill: none; stroke: #24579d; stroke-width: 2.2 }
    .others { fill: #f3d6ae } .others-top { fill: none; stroke: #99590b; stroke-width: 2.2 }
    .all { fill: #dde1e6 } .all-top { fill: none; stroke: #57606e; stroke-width: 2.2 }
    .sick { fill: #f9dcd8; stroke: #b03a2e; stroke-width: 1.5 }
    .ground { stroke: #57606e; stroke-width: 1.4 }
    .moment { stroke: #b03a2e; stroke-width: 2; stroke-dasharray: 3 5 }
    .well { stroke: #3f7d3f; stroke-width: 2; stroke-dasharray: 9 5 }
  </style>"""

_LEFT, _RIGHT = 20, WIDTH - 20
_TITLE_Y = 38
_SICK_Y, _SICK_HEIGHT, _SICK_STEP = 56, 30, 36
_LANES_TITLE, _LANES_GAP = 44, 92
_LANE_GAP, _LANE_HEAD, _LANE_HEIGHT = 12, 34, 84
_LANE_STEP = _LANE_GAP + _LANE_HEAD + _LANE_HEIGHT
_AXIS_HEIGHT = 44
# So that the highest of all is not cut by what stands above.
_HEADROOM = 1.04
_TICKS_S = (1, 2, 5, 10, 20, 30, 60, 120)
_MOST_TICKS = 10
# Of their words.
_TICK_WIDTH, _WELL_WIDTH = 60, 60


@dataclass(frozen=True)
class Lane:
    """One way.

    Attributes:
        label: what people call it.
        per_s: its healthy deliveries a second.
        share: the same as a share of those while all were well; None: that is not known, or this is that run.
        on_time: as `Figures.healthy_on_time`.
        timeline: as in `Figures`.
        is_reference: whether this is the run in which all were well.
        is_ours: whether it leads through breaker-proxy.
    """

    label: str
    per_s: float
    share: float | None
    on_time: float | None
    timeline: Sequence[float]
    is_reference: bool = False
    is_ours: bool = False


def draw(scenario: Scenario, lanes: Sequence[Lane]) -> str:
    """The picture, as SVG."""
    return _Chart(scenario, lanes).picture()


class _Chart:
    def __init__(self, scenario: Scenario, lanes: Sequence[Lane]) -> None:
        self._scenario = scenario
        self._lanes = lanes
        self._ailing = [endpoint for endpoint in scenario.endpoints() if endpoint.ailment is not None]
        self._reference = next((lane.timeline for lane in lanes if lane.is_reference), ())
        self._most = max((per_s for lane in lanes for per_s in lane.timeline), default=0.0) * _HEADROOM or 1.0
        self._lanes_y = _SICK_Y + len(self._ailing) * _SICK_STEP + _LANES_GAP
        self._ground_y = self._lanes_y + len(lanes) * _LANE_STEP

    def picture(self) -> str:
        told = "; ".join(f"{lane.label} {_told(lane)}" for lane in self._lanes)
        title = f"Healthy deliveries a second, from before some endpoints fall sick to the end. {told}."
        return picture(self._ground_y + _AXIS_HEIGHT, title, self._parts())

    def _parts(self) -> Iterator[str]:
        yield _STYLE
        everyone = self._scenario.endpoints()
        yield label(_LEFT, _TITLE_Y, f"{len(self._ailing)} of {len(everyone)} endpoints fall sick", "way")
        for row, endpoint in enumerate(self._ailing):
            yield from self._sick(endpoint, _SICK_Y + row * _SICK_STEP)
        y = _SICK_Y + len(self._ailing) * _SICK_STEP + _LANES_TITLE
        yield label(_LEFT, y, f"Deliveries to the {len(everyone) - len(self._ailing)} healthy ones", "way")
        if self._reference:
            yield label(_LEFT, y + 30, "grey: while all are healthy", "axis")
        for number, lane in enumerate(self._lanes):
            yield from self._lane(lane, self._lanes_y + (number + 1) * _LANE_STEP)
        for since_s, words, kind in self._ticks():
            yield label(self._x(since_s), self._ground_y + 28, words, kind)

    def _x(self, since_onset_s: float) -> float:
        lead_in_s = self._scenario.lead_in_s
        share = (since_onset_s + lead_in_s) / (lead_in_s + self._scenario.measured_s)
        return round(_LEFT + (_RIGHT - _LEFT) * share, 1)

    def _ticks(self) -> Iterator[tuple[float, str, str]]:
        """Where the axis has a number, and how that is placed."""
        measured_s = self._scenario.measured_s
        step_s = next((step for step in _TICKS_S if measured_s / step < _MOST_TICKS), _TICKS_S[-1])
        for since_s in range(0, int(measured_s) + 1, step_s):
            # The last would stand half outside.
            kind = "axis e" if self._x(since_s) > _RIGHT - _TICK_WIDTH / 2 else "axis m"
            yield since_s, f"{since_s} s", kind

    def _sick(self, endpoint: Endpoint, y: int) -> Iterator[str]:
        """When it is sick, and what it does then."""
        for begin_s, end_s in endpoint.sick:
            left, right = self._x(begin_s), self._x(min(end_s, self._scenario.measured_s))
            if right > left:
                place = f'x="{left:g}" y="{y}" width="{right - left:g}" height="{_SICK_HEIGHT}" rx="4"'
                yield f'<rect class="sick" {place}/>'
                yield label(left + 10, y + 23, self._ails(endpoint), "big")
            if right < _RIGHT - _WELL_WIDTH:
                yield label(right + 10, y + 23, "well again" if endpoint.is_recovering else "well", "big")

    def _ails(self, endpoint: Endpoint) -> str:
        if endpoint.ailment is Ailment.SILENT:
            return "black hole"
        if endpoint.ailment is Ailment.SLOW_ERROR:
            return f"500 after {self._scenario.slow_error_s:.2g} s"
        return "500"

    def _lane(self, lane: Lane, ground_y: int) -> Iterator[str]:
        """One way, above its ground line."""
        top_y = ground_y - _LANE_HEIGHT
        for since_s, _, _ in self._ticks():
            yield f'<path class="grid" d="M {self._x(since_s):g},{top_y} V {ground_y}"/>'
        if self._reference:
            yield self._area(self._reference, ground_y, "all")
        kind = "all" if lane.is_reference else "ours" if lane.is_ours else "others"
        tops = self._tops(lane.timeline, ground_y)
        if not lane.is_reference:
            yield self._area(lane.timeline, ground_y, kind)
        yield f'<path class="{kind}-top" d="M {tops}"/>'
        yield f'<path class="ground" d="M {_LEFT},{ground_y} H {_RIGHT}"/>'
        yield f'<path class="moment" d="M {self._x(0):g},{top_y} V {ground_y}"/>'
        for endpoint in self._ailing:
            if endpoint.is_recovering:
                well = self._x(endpoint.sick[-1][1])
                yield f'<path class="well" d="M {well:g},{top_y} V {ground_y}"/>'
        yield label(_LEFT, top_y - 8, lane.label, "way")
        yield label(_RIGHT, top_y - 8, _told(lane), "way e")

    def _area(self, timeline: Sequence[float], ground_y: int, kind: str) -> str:
        tops = self._tops(timeline, ground_y)
        return f'<path class="{kind}" d="M {_LEFT},{ground_y} L {tops} V {ground_y} z"/>'

    def _tops(self, timeline: Sequence[float], ground_y: int) -> str:
        """Along the tops of the bins, from the left."""
        width_s, lead_in_s = bin_s(self._scenario), self._scenario.lead_in_s
        tops = [ground_y - _LANE_HEIGHT * per_s / self._most for per_s in timeline or (0.0,)]
        steps = [f"V {top:.1f} H {self._x((n + 1) * width_s - lead_in_s):g}" for n, top in enumerate(tops)]
        return " ".join([f"{_LEFT},{tops[0]:.1f}", *steps])


def _told(lane: Lane) -> str:
    """Its figures, as it bears them."""
    throughput = f"{lane.per_s:.1f} a second" if lane.share is None else f"{100 * lane.share:.0f} %"
    on_time = "" if lane.on_time is None else f", {100 * lane.on_time:.0f} % within {ON_TIME_S:g} s"
    return throughput + on_time
