"""What the API tells of circuits, and in which shape.

The classes are the shape: they are encoded as they are, and the OpenAPI document is made of them. A circuit
is named by its key, as in metrics and log: of an endpoint's path only a hash is shown. Times are in UTC (ISO
8601), durations in seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from proxy.control.effective import written
from proxy.core.breaker import Circuit
from proxy.core.outcome import FailureKind
from proxy.core.overrides import FOREVER, Force, Override
from proxy.core.policy import CircuitPolicy, Mode, Settings
from proxy.core.scope import Scope
from proxy.core.states import Condition, State, Transition, Trigger
from proxy.core.tally import Tally

_DIGITS = 3
# The condition that an operator looks for comes first.
_SEVERITY = {
    condition: rank
    for rank, condition in enumerate(
        (
            Condition.OPEN,
            Condition.FORCED_OPEN,
            Condition.HALF_OPEN,
            Condition.FORCED_CLOSED,
            Condition.DISABLED,
            Condition.CLOSED,
        )
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionView:
    """One change of state.

    Attributes:
        open_s: for how long the circuit is to stay open; null if it does not open, or nobody knows.
        level: how many times the opening has escalated.
        note: of the operator who brought it about.
    """

    at: str
    from_state: State
    to_state: State
    reason: Trigger
    cause: str | None
    open_s: float | None
    level: int
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideView:
    """What an operator forces a circuit to be; without an end `ttl_left_s` is null."""

    force: Force
    note: str | None
    ttl_left_s: float | None


class BucketView(msgspec.Struct, frozen=True):
    """A tenth of the window; `failed` and `slow` may overlap."""

    calls: int
    failed: int
    slow: int


class KeptView(msgspec.Struct, frozen=True):
    """Requests that wait for delivery: how many, and for how long the one in front has."""

    waiting: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitView:
    """A circuit in a list.

    Attributes:
        reason: why it changed its state last; null if it never did.
        cause: the outcome that led to it.
        since: when that was.
        next_probe_in_s: how long nothing passes; null unless it is open, and where nobody knows.
        calls: in the window, as are `failed` and `slow`.
        failure_ratio: 0 to 1; null with fewer than `min_calls` calls.
        latency_s: for how long the upstream owed in a call of the window, up to the head of its answer, on
            average; null without calls.
        window: its ten parts, oldest first; the last one is not over yet.
        rejected: how many calls it has refused in all.
        spared_s: for how long their callers would have waited in all, an estimate: each as long as the failed
            calls of this circuit have kept theirs waiting on average by then. 0 where none had failed.
        deferred: what is kept for later of its calls; null if nothing is.
    """

    key: str
    scope: Scope
    state: Condition
    mode: Mode
    reason: Trigger | None
    cause: str | None
    since: str | None
    level: int
    next_probe_in_s: float | None
    in_flight: int
    calls: int
    failed: int
    slow: int
    failure_ratio: float | None
    latency_s: float | None
    window: list[BucketView]
    rejected: int
    spared_s: float
    deferred: KeptView | None
    override: OverrideView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureView:
    """Failed calls of one kind: how many in all, and when the last one was."""

    kind: FailureKind
    count: int
    last_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedView:
    """Refused calls; not enforced: that would have been refused, in the mode `observe`."""

    reason: str
    enforced: bool
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingView:
    """A setting in force, as the file writes it.

    Attributes:
        origin: `default` (also where the file says the same), `circuit`, `upstreams[N]`, or `timeouts` for a
            lease that is their sum.
    """

    value: str | int | float | bool | list[str] | None
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitDetail(CircuitView):
    """A circuit by itself.

    Attributes:
        host: the key of the host's circuit.
        window_s: how far back `calls`, `failed` and `slow` look.
        failures_in_a_row: since the last success.
        probes_in_flight: of a half-open circuit.
        open_s: for how long it has been open in all.
        outcomes: all calls that counted, by what they said of the upstream.
        last_failures: latest first.
        rejections: all refused calls.
        transitions: the latest, newest first.
        settings: by their names under `circuit` in the file.
    """

    host: str
    window_s: float
    failures_in_a_row: int
    probes_in_flight: int
    open_s: float
    outcomes: dict[str, int]
    last_failures: list[FailureView]
    rejections: list[RejectedView]
    transitions: list[TransitionView]
    settings: dict[str, SettingView]


def transition_view(transition: Transition, iso: Callable[[float], str]) -> dict[str, Any]:
    """The values of a `TransitionView`; `iso` tells a moment."""
    return {
        "at": iso(transition.at),
        "from_state": transition.from_state,
        "to_state": transition.to_state,
        "reason": transition.trigger,
        "cause": None if transition.cause is None else str(transition.cause),
        "open_s": rounded(transition.open_s) if transition.open_s else None,
        "level": transition.level,
        "note": transition.note or None,
    }


def circuit_view(
    circuit: Circuit,
    last: Transition | None,
    now: float,
    iso: Callable[[float], str],
    *,
    deferred: KeptView | None = None,
) -> dict[str, Any]:
    """The values of a `CircuitView`.

    Args:
        circuit: up to date.
        last: its latest transition.
        now: monotonic seconds.
        iso: tells a moment.
        deferred: what is kept for later of its calls.
    """
    counts = circuit.counts(now)
    is_open = circuit.state is State.OPEN and circuit.due < FOREVER
    return {
        "key": circuit.key,
        "scope": circuit.scope,
        "state": circuit.condition,
        "mode": circuit.policy.mode,
        "reason": None if last is None else last.trigger,
        "cause": None if last is None or last.cause is None else str(last.cause),
        "since": None if last is None else iso(last.at),
        "level": circuit.level,
        "next_probe_in_s": rounded(max(0.0, circuit.due - now)) if is_open else None,
        "in_flight": circuit.in_flight,
        "calls": counts.calls,
        "failed": counts.failed,
        "slow": counts.slow,
        "failure_ratio": failure_ratio(circuit, now),
        "latency_s": None if counts.mean_upstream_s is None else rounded(counts.mean_upstream_s),
        "window": [BucketView(calls, failed, slow) for calls, failed, slow, _ in circuit.buckets(now)],
        "rejected": rejected(circuit.tally),
        "spared_s": rounded(circuit.tally.spared_s),
        "deferred": deferred,
        "override": None if circuit.override is None else _override_view(circuit.override, now),
    }


def circuit_detail(
    circuit: Circuit,
    past: tuple[Transition, ...],
    settings: dict[str, SettingView],
    now: float,
    iso: Callable[[float], str],
    *,
    deferred: KeptView | None = None,
) -> CircuitDetail:
    """A circuit by itself.

    Args:
        circuit: up to date.
        past: its transitions, oldest first.
        settings: see `settings_view`.
        now: monotonic seconds.
        iso: tells a moment.
        deferred: as `circuit_view`.
    """
    tally = circuit.tally
    failures = sorted(circuit.last_failures.items(), key=lambda failure: failure[1], reverse=True)
    return CircuitDetail(
        **circuit_view(circuit, past[-1] if past else None, now, iso, deferred=deferred),
        host=circuit.host,
        window_s=float(circuit.policy.window),
        failures_in_a_row=circuit.run,
        probes_in_flight=circuit.probes,
        open_s=rounded(circuit.open_seconds(now)),
        outcomes={verdict.value: count for verdict, count in tally.calls.items()},
        last_failures=[
            FailureView(kind=kind, count=tally.failures[kind], last_at=iso(at)) for kind, at in failures
        ],
        rejections=[
            RejectedView(reason=reason, enforced=enforced, count=count)
            for (reason, enforced), count in tally.rejected.items()
        ],
        transitions=[TransitionView(**transition_view(each, iso)) for each in reversed(past)],
        settings=settings,
    )


def settings_view(policy: CircuitPolicy, settings: Settings, place: int | None) -> dict[str, SettingView]:
    """The settings of a circuit, each with where it comes from.

    Args:
        policy: what is in force.
        settings: the whole configuration.
        place: which entry of `upstreams` is the one for it, from 0; None if none is.
    """
    by_upstream = {} if place is None else settings.upstreams[place].circuit.values
    default = CircuitPolicy()
    views = {}
    for field in fields(policy):
        name = field.name
        value = getattr(policy, name)
        origin = "default"
        if name in by_upstream:
            origin = f"upstreams[{place}]"
        elif getattr(settings.circuit, name) != getattr(default, name):
            origin = "circuit"
        if name == "throttle_statuses":
            value = policy.throttled
        elif name == "probe_lease" and by_upstream.get(name, settings.circuit.probe_lease) is None:
            origin = "timeouts"
        views[name] = SettingView(value=written(value), origin=origin)
    return views


def failure_ratio(circuit: Circuit, now: float) -> float | None:
    """The share of the calls in the window that failed; None with too few calls to say, as in the metrics."""
    counts = circuit.counts(now)
    if counts.calls < max(1, circuit.policy.min_calls):
        return None
    return round(counts.failed / counts.calls, _DIGITS)


def rejected(tally: Tally) -> int:
    """How many calls were refused, those aside that would have been."""
    return sum(count for (_, enforced), count in tally.rejected.items() if enforced)


def severity(circuit: Circuit) -> int:
    """Its place in a list whose first is what an operator looks for."""
    return _SEVERITY[circuit.condition]


def _override_view(override: Override, now: float) -> OverrideView:
    left_s = None if override.until == FOREVER else rounded(max(0.0, override.until - now))
    return OverrideView(force=override.force, note=override.note or None, ttl_left_s=left_s)


def rounded(seconds: float) -> float:
    """Seconds to the millisecond, as all of them are told."""
    return round(seconds, _DIGITS)
