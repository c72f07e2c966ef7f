"""Sections held against nodes: lists, parts of sections, and every setting of an upstream there and back."""

import json
from dataclasses import dataclass, field
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.control import yaml_source
from proxy.control.convert import duration_text, shape_of
from proxy.control.sections import Walk, build
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, Dns, Endpoint, Mode, Settings, Timeouts, Upstream
from proxy.core.quantities import Range, Seconds
from proxy.core.scope import CircuitKey
from proxy.core.statuses import Statuses

DURATION = "expected a duration such as 250ms, 30s, 5m or 1h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    redirect: str
    after: Seconds = Seconds(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FutureUpstream:
    match: str
    fallback: Fallback | None = None
    head: Annotated[Seconds, Range(least=1)] | None = None
    ratio: Annotated[float, Range(most=1)] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Future:
    upstreams: tuple[FutureUpstream, ...] = ()
    statuses: frozenset[Annotated[int, Range(least=100, most=599)]] = frozenset({500})
    fallback: Fallback | None = None
    needed_in_part: Overlay[Fallback] = field(default_factory=Overlay[Fallback])
    lists: Overlay[Dns] | None = None


def walk_future(text: str) -> tuple[Any, list[str]]:
    walk = Walk("f")
    root = yaml_source.compose(text)
    assert root is not None
    values = walk.section(root, Future)
    return (None if walk.faults else build(Future, values)), [str(fault) for fault in walk.faults]


def test_lists_of_sections_sets_and_optional_sections() -> None:
    text = """
upstreams:
- match: a
  fallback: {redirect: 1.20}
- {match: b, fallback: null, head: 2s, ratio: 1}
statuses: [500, 503, 500]
fallback: {redirect: z, after: 2s}
"""
    assert walk_future(text) == (
        Future(
            upstreams=(
                FutureUpstream(match="a", fallback=Fallback(redirect="1.20")),
                FutureUpstream(match="b", head=Seconds(2), ratio=1.0),
            ),
            statuses=frozenset({500, 503}),
            fallback=Fallback(redirect="z", after=Seconds(2)),
        ),
        [],
    )


def test_an_empty_optional_section_is_null() -> None:
    assert walk_future("{fallback: , statuses: , upstreams: }") == (Future(), [])


def test_a_section_in_part() -> None:
    text = "{needed_in_part: {after: 2s}, lists: {servers: ['10.0.0.1:53']}}"
    assert walk_future(text) == (
        Future(
            needed_in_part=Overlay({"after": Seconds(2)}),
            lists=Overlay({"servers": (Endpoint("10.0.0.1", 53),)}),
        ),
        [],
    )
    assert walk_future("lists: null") == (Future(), [])
    assert walk_future("lists: {servers: }") == (Future(lists=Overlay()), [])


def test_faults_inside_lists_of_sections() -> None:
    text = """
upstreams:
- match: a
  mtch: b
- fallback:
    after: 1
- {match: ~, head: 1ms, ratio: 1.5}
-
statuses: [99, 600, x]
"""
    assert walk_future(text) == (
        None,
        [
            "f:4: upstreams[0].mtch: unknown key; did you mean match?",
            f"f:6: upstreams[1].fallback.after: {DURATION}, got 1; add a unit, such as 30s",
            "f:6: upstreams[1].fallback.redirect: this key is needed, it has no default",
            "f:5: upstreams[1].match: this key is needed, it has no default",
            "f:7: upstreams[2].match: expected one line of text, got ~",
            "f:7: upstreams[2].head: expected a duration >= 1s, got '1ms'",
            "f:7: upstreams[2].ratio: expected a number <= 1, got 1.5",
            "f:8: upstreams[3]: expected keys with values, got nothing",
            "f:9: statuses[0]: expected a whole number from 100 to 599, got 99",
            "f:9: statuses[1]: expected a whole number from 100 to 599, got 600",
            "f:9: statuses[2]: expected a whole number from 100 to 599, got 'x'",
        ],
    )


def test_a_setting_of_a_type_without_a_shape_is_a_fault_of_the_program() -> None:
    with pytest.raises(TypeError, match="complex"):
        shape_of(complex)


# There and back.


def values_of(hint: Any, bounds: Range | None = None) -> st.SearchStrategy[Any]:
    """Values that a setting may have, and that a file can hold exactly."""
    if get_origin(hint) is Annotated:
        return values_of(*get_args(hint))
    if NoneType in get_args(hint):
        return st.none() | values_of(get_args(hint)[0])
    least = bounds.least if bounds and bounds.least is not None else 0
    most = bounds.most if bounds and bounds.most is not None else 10_000
    strategies: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(int(least), int(most)),
        float: st.integers(int(least * 1000), int(most * 1000)).map(lambda number: number / 1000),
        Seconds: st.integers(int(least * 1000), 10_000).map(lambda ms: Seconds(ms / 1000)),
        Mode: st.sampled_from(Mode),
        Statuses: st.sets(st.integers(200, 999)).map(Statuses),
        CircuitKey: st.sampled_from(["host", "path", "path:99", "header:x!"]).map(CircuitKey.parse),
    }
    return strategies[hint]


def written(value: Any) -> Any:
    """What a file says for a value; JSON is YAML."""
    if isinstance(value, dict):
        return {name: written(inner) for name, inner in value.items()}
    if isinstance(value, Seconds):
        return duration_text(value)
    if isinstance(value, Mode):
        return value.value
    if isinstance(value, Statuses):
        return str(value).split(", ") if value else "none"
    return str(value) if isinstance(value, CircuitKey | HostPattern) else value


def section_values(section: type) -> st.SearchStrategy[dict[str, Any]]:
    hints = get_type_hints(section, include_extras=True)
    return st.fixed_dictionaries({}, optional={name: values_of(hint) for name, hint in hints.items()})


@given(circuit=section_values(CircuitPolicy), timeouts=section_values(Timeouts))
def test_what_differs_for_an_upstream_round_trips(circuit: dict[str, Any], timeouts: dict[str, Any]) -> None:
    match = HostPattern("*.example.com", 443)
    entry = {"match": match, "circuit": circuit, "timeouts": timeouts}
    root = yaml_source.compose(json.dumps({"upstreams": [written(entry)]}))
    assert root is not None
    walk = Walk("f")
    values = walk.section(root, Settings)
    assert walk.faults == []
    expected = Upstream(match=match, circuit=Overlay(circuit), timeouts=Overlay(timeouts))
    assert build(Settings, values) == Settings(upstreams=(expected,))
