"""Makes the figures of a run from what was written down in it. No I/O, no clock.

All figures but the timeline are of the window, from the onset to the end of the run; what was written down
before or after it is cut off. Who is sick when is asked of the scenario and never of the records, so that the
run in which nobody is sick is measured at the same endpoints and times as the others.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from isolation.records import Arrival, Attempt, Opening
from isolation.scenario import Endpoint, Scenario

RECOVERY_SLACK_S = 2.0
"""How long after its open time a recovered endpoint may need: the next call has to come and be answered."""
ON_TIME_S = 1.0
"""A delivery that takes longer than this, counted from when it was due, is late; at any scale."""
_BIN_S = 2.0
# By how much an unknown tail may raise a percentile that is still told as if it were known.
_KNOWN_TO = 1.05
_NEVER = ("", math.inf)


@dataclass(frozen=True)
class Figures:
    """One run in numbers.

    Attributes:
        healthy_per_s: events delivered to endpoints that are never sick.
        healthy_on_time: the share of such events that were delivered within ON_TIME_S of when they were due,
            of those whose time was up by the end. None: there were none.
        healthy_delay_p99_s: from when such an event was due to its delivery, over all that were due: the 99th
            percentile. One that was not delivered counts with its age at the end. None: none was due.
        healthy_delay_p99_is_at_least: whether so many were not delivered that
            the true figure could be more than 5 % higher.
        calls_while_sick: requests that reached each endpoint that is ever sick, while it was, by its name.
        wasted_s: what workers spent in calls that delivered nothing, over all workers.
        wasted_share: the same as a share of all their time.
        recovery_s: from the recovery of the one that recovers to the end of the first delivery that began
            after it. None: there was none in the run, or nobody was sick.
        recovery_allowed_s: the open time that held at the recovery, see `_allowed_s`. None: its circuit never
            opened, or there is none.
        ailing_due, ailing_delivered, ailing_given_up: events for endpoints that are ever sick, how many of
            those arrived, and how many were given up: all their tries had failed by the end.
        attempts, refused: calls that began, and how many of them breaker-proxy refused.
        publisher_late_s: the longest time by which an event was published too late.
        cpu_share: cores busy on average, of all that the machine has.
        timeline: healthy deliveries a second, in bins of `bin_s(scenario)` from the beginning of the lead-in.
    """

    healthy_per_s: float
    healthy_on_time: float | None
    healthy_delay_p99_s: float | None
    healthy_delay_p99_is_at_least: bool
    calls_while_sick: Mapping[str, int]
    wasted_s: float
    wasted_share: float
    recovery_s: float | None
    recovery_allowed_s: float | None
    ailing_due: int
    ailing_delivered: int
    ailing_given_up: int
    attempts: int
    refused: int
    publisher_late_s: float
    cpu_share: float
    timeline: tuple[float, ...]

    @property
    def calls_to_sick(self) -> int:
        """Requests that reached sick endpoints."""
        return sum(self.calls_while_sick.values())

    @property
    def is_back_in_time(self) -> bool | None:
        """Whether the recovered endpoint was back within its open time and 2 s; None: it has none."""
        if self.recovery_allowed_s is None:
            return None
        return self.recovery_s is not None and self.recovery_s <= self.recovery_allowed_s + RECOVERY_SLACK_S


def bin_s(scenario: Scenario) -> float:
    """How wide a bin of the timeline is, in seconds."""
    return _BIN_S * scenario.scale


def measure(
    scenario: Scenario,
    onset_s: float,
    due: Mapping[int, tuple[str, float]],
    *,
    attempts: Iterable[Attempt],
    arrivals: Iterable[Arrival],
    openings: Iterable[Opening] = (),
    nobody_is_sick: bool = False,
    publisher_late_s: float,
    cpu_share: float,
) -> Figures:
    """Makes the figures of a run.

    Args:
        scenario: what was played.
        onset_s: when the sick fell sick, by the clock of the records.
        due: of each event, by its number, the endpoint and when it was to be published, by that clock.
        attempts: of all workers, in any order.
        arrivals: at the endpoints, in any order.
        openings: of circuits, in any order.
        nobody_is_sick: whether it was the run to compare with, in which all are well.
        publisher_late_s: see `Figures`.
        cpu_share: see `Figures`.
    """
    window = _Window(onset_s, onset_s + scenario.measured_s)
    endpoints = scenario.endpoints()
    healthy = {endpoint.name for endpoint in endpoints if endpoint.ailment is None}
    calls = list(attempts)
    delivered_s = _delivered_s(calls)
    healthy_s = [at_s for (name, at_s) in delivered_s.values() if name in healthy]
    due_s = {
        number: made_s for number, (name, made_s) in due.items() if name in healthy and window.has(made_s)
    }
    p99_s, is_at_least = _p99(window, due_s, delivered_s)
    ailing = [number for number, (name, made_s) in due.items() if name not in healthy and window.has(made_s)]
    wasted_s = math.fsum(
        window.overlap_s(call.began_s, call.ended_s) for call in calls if not call.is_delivered
    )
    tries = Counter(call.event for call in calls if call.ended_s < window.end_s)
    began = [call for call in calls if window.has(call.began_s)]
    recovery_s, allowed_s = (
        (None, None) if nobody_is_sick else _recovery(endpoints, window, calls, list(openings))
    )
    return Figures(
        healthy_per_s=sum(map(window.has, healthy_s)) / scenario.measured_s,
        healthy_on_time=_on_time(window, due_s, delivered_s),
        healthy_delay_p99_s=p99_s,
        healthy_delay_p99_is_at_least=is_at_least,
        calls_while_sick=_calls_while_sick(endpoints, window, arrivals),
        wasted_s=wasted_s,
        wasted_share=wasted_s / (scenario.workers * scenario.measured_s),
        recovery_s=recovery_s,
        recovery_allowed_s=allowed_s,
        ailing_due=len(ailing),
        ailing_delivered=sum(delivered_s.get(number, _NEVER)[1] < window.end_s for number in ailing),
        ailing_given_up=sum(
            tries[number] > scenario.retries for number in ailing if number not in delivered_s
        ),
        attempts=len(began),
        refused=sum(call.is_refused for call in began),
        publisher_late_s=publisher_late_s,
        cpu_share=cpu_share,
        timeline=_timeline(scenario, onset_s, healthy_s),
    )


@dataclass(frozen=True)
class _Window:
    """From the onset to the end of a run, by the clock of the records; open at its end."""

    begin_s: float
    end_s: float

    def has(self, at_s: float) -> bool:
        return self.begin_s <= at_s < self.end_s

    def overlap_s(self, from_s: float, to_s: float) -> float:
        """How much of that time is within it."""
        return max(0.0, min(to_s, self.end_s) - max(from_s, self.begin_s))


def _delivered_s(calls: Iterable[Attempt]) -> dict[int, tuple[str, float]]:
    """The endpoint of each event that was delivered, and when: the first time, should it be more than one."""
    found: dict[int, tuple[str, float]] = {}
    for call in calls:
        if call.is_delivered and (call.event not in found or call.ended_s < found[call.event][1]):
            found[call.event] = (call.endpoint, call.ended_s)
    return found


def _on_time(
    window: _Window, due_s: Mapping[int, float], delivered_s: Mapping[int, tuple[str, float]]
) -> float | None:
    """The share that was delivered in time, of those whose time was up by the end."""
    judged = {number: made_s for number, made_s in due_s.items() if window.has(made_s + ON_TIME_S)}
    if not judged:
        return None
    on_time = sum(
        delivered_s.get(number, _NEVER)[1] - made_s <= ON_TIME_S for number, made_s in judged.items()
    )
    return on_time / len(judged)


def _p99(
    window: _Window, due_s: Mapping[int, float], delivered_s: Mapping[int, tuple[str, float]]
) -> tuple[float | None, bool]:
    """The 99th percentile of the delays by its nearest rank, and whether the truth may be well above it."""
    if not due_s:
        return None, False
    # What is not delivered is known only to take at least until the end.
    at_least = sorted(
        min(delivered_s.get(number, _NEVER)[1], window.end_s) - made_s for number, made_s in due_s.items()
    )
    at_most = sorted(delivered_s.get(number, _NEVER)[1] - made_s for number, made_s in due_s.items())
    rank = math.ceil(0.99 * len(at_least)) - 1
    return at_least[rank], at_most[rank] > at_least[rank] * _KNOWN_TO


def _calls_while_sick(
    endpoints: Iterable[Endpoint], window: _Window, arrivals: Iterable[Arrival]
) -> dict[str, int]:
    ailing = {endpoint.name: endpoint for endpoint in endpoints if endpoint.ailment is not None}
    calls = dict.fromkeys(ailing, 0)
    for arrival in arrivals:
        endpoint = ailing.get(arrival.endpoint)
        if endpoint and window.has(arrival.at_s) and endpoint.ailment_at(arrival.at_s - window.begin_s):
            calls[endpoint.name] += 1
    return calls


def _recovery(
    endpoints: Iterable[Endpoint], window: _Window, calls: Iterable[Attempt], openings: Iterable[Opening]
) -> tuple[float | None, float | None]:
    """After how long the recovered endpoint was back, and how long its circuit allowed for that."""
    endpoint = next(endpoint for endpoint in endpoints if endpoint.is_recovering)
    well_s = window.begin_s + endpoint.sick[-1][1]
    its_calls = [call for call in calls if call.endpoint == endpoint.name]
    back_s = min(
        (
            call.ended_s
            for call in its_calls
            if call.is_delivered and call.began_s >= well_s and call.ended_s < window.end_s
        ),
        default=None,
    )
    is_probed = any(call.began_s < well_s < call.ended_s and not call.is_refused for call in its_calls)
    before_back = [
        opening
        for opening in sorted(openings, key=lambda opening: opening.at_s)
        if opening.endpoint == endpoint.name and opening.at_s < (window.end_s if back_s is None else back_s)
    ]
    return None if back_s is None else back_s - well_s, _allowed_s(well_s, before_back, is_probed=is_probed)


def _allowed_s(well_s: float, openings: Sequence[Opening], *, is_probed: bool) -> float | None:
    """How long after its recovery an endpoint may be without traffic, because of its circuit.

    That is the open time that holds at the recovery. But if that is over by then and a call hangs in the
    endpoint, the circuit cannot know better than to open once more when that call fails; then it is until
    this next open time is over.

    Args:
        well_s: when it recovered.
        openings: of its circuit until it was back, in order.
        is_probed: whether a call was under way to it when it recovered.
    """
    before = list(takewhile(lambda opening: opening.at_s <= well_s, openings))
    after = openings[len(before) :]
    is_open = bool(before) and well_s < before[-1].at_s + before[-1].open_s
    if after and is_probed and not is_open:
        return after[0].at_s + after[0].open_s - well_s
    return before[-1].open_s if before else None


def _timeline(scenario: Scenario, onset_s: float, delivered_s: Iterable[float]) -> tuple[float, ...]:
    width_s = bin_s(scenario)
    counts = [0] * round((scenario.lead_in_s + scenario.measured_s) / width_s)
    for at_s in delivered_s:
        number = math.floor((at_s - onset_s + scenario.lead_in_s) / width_s)
        if 0 <= number < len(counts):
            counts[number] += 1
    return tuple(count / width_s for count in counts)
