"""docs/circuits.md: its pictures are what docs/draw.py draws now, and its tables and examples are true."""

import re
from dataclasses import fields
from enum import Enum
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from support.circuits import Rig

from proxy.control.config import load
from proxy.control.convert import duration_text
from proxy.core.escalation import base_s, open_s, raised
from proxy.core.outcome import FailureKind
from proxy.core.policy import CircuitPolicy
from proxy.core.quantities import Seconds
from proxy.core.refusals import REJECTION_REASONS
from proxy.core.states import TRANSITIONS, State, Trigger

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "circuits.md").read_text(encoding="utf-8")
PICTURES = ("circuit-states.svg", "circuit-trace.svg")
NO_WISH = float("-inf")
# Default, meaning and example.
SETTINGS_CELLS = 3


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    """docs/draw.py."""
    spec = spec_from_file_location("draw", DOCS / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(svg: str) -> list[str]:
    return [text for text in ET.fromstring(svg).itertext() if text.strip()]  # noqa: S314 -- our own file


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_what_the_script_draws(draw: ModuleType, name: str) -> None:
    assert set(draw.PICTURES) == set(PICTURES)
    drawn = draw.PICTURES[name]()
    assert (DOCS / name).read_text(encoding="utf-8") == drawn, "run make pictures, and look at it"
    assert f"({name})" in PAGE


def test_every_trigger_is_a_label(draw: ModuleType) -> None:
    drawn = texts(draw.states())
    for trigger in Trigger:
        arrows = {(a, b) for a, row in TRANSITIONS.items() for b in State if row.get(trigger) is b}
        assert drawn.count(trigger.value) == len(arrows), trigger


def test_a_new_trigger_appears(draw: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class New(Enum):
        TOO_HOT = "too_hot"

    table: dict[State, Any] = {**TRANSITIONS}
    monkeypatch.setitem(table[State.CLOSED], New.TOO_HOT, State.OPEN)
    assert "too_hot" in texts(draw.states())
    # An arrow that is new as well has no place yet, and is not left out in silence.
    monkeypatch.setitem(table[State.HALF_OPEN], New.TOO_HOT, State.HALF_OPEN)
    with pytest.raises(KeyError):
        draw.states()


def test_the_trace_shows_what_it_is_for(draw: ModuleType) -> None:
    fates, changes = draw.trace()
    assert {fate for _, fate in fates} == set(draw.Fate)
    opened = [change for change in changes if change.to_state is State.OPEN]
    assert [change.level for change in opened] == [1, 2, 3]
    assert [change.open_s for change in opened] == pytest.approx([10, 20, 45])
    assert changes[-1].trigger is Trigger.RECOVERED


# The page.


def rows() -> dict[str, list[list[str]]]:
    """The rows of all tables, without their first cell, by the words in code in that."""
    found: dict[str, list[list[str]]] = {}
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            first, *rest = line.strip("| ").split(" | ")
            for word in re.findall(r"`([^`]+)`", first):
                found.setdefault(word, []).append(rest)
    return found


def written(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Seconds):
        return duration_text(value)
    return f"{value:g}" if isinstance(value, float) else "null" if value is None else str(value)


@pytest.mark.parametrize("name", [field.name for field in fields(CircuitPolicy)])
def test_every_setting_has_a_row_with_its_default_and_an_example(name: str, tmp_path: Path) -> None:
    (row,) = [row for row in rows()[name] if len(row) == SETTINGS_CELLS]
    default, _, sample = row
    expected = f"`{written(getattr(CircuitPolicy(), name))}`"
    assert default == ("500-599 except 501, 505" if name == "failure_statuses" else expected)
    assert sample.startswith(f"`{name}: ")
    sample_file = tmp_path / "config.yaml"
    sample_file.write_text(f"circuit: {{{sample.strip('`')}}}", encoding="utf-8")
    assert getattr(load(sample_file, {}, {}).circuit, name) != getattr(CircuitPolicy(), name)


@pytest.mark.parametrize("word", [*(t.value for t in Trigger), *REJECTION_REASONS])
def test_every_reason_has_a_row(word: str) -> None:
    assert word in rows()


@pytest.mark.parametrize("kind", list(FailureKind))
def test_every_kind_of_failure_is_named(kind: FailureKind) -> None:
    assert f"`{kind.value}`" in PAGE


def test_the_table_of_openings_is_what_the_engine_computes() -> None:
    policy, level, computed = CircuitPolicy(), 0, []
    while (above := raised(policy, level)) != level:
        level = above
        least, most = open_s(policy, level, 0.0, NO_WISH), open_s(policy, level, 1.0, NO_WISH)
        computed.append(f"| {level} | {base_s(policy, level):g} s | {least:g} to {most:g} s |")
    assert "\n".join(computed) in PAGE


def test_the_row_of_times_that_refused_calls_are_told_is_what_the_engine_tells() -> None:
    rig = Rig(CircuitPolicy(open_jitter=0.0))
    rig.fail(5, 0.0)
    told = [refusal[1] for _ in range(8) if (refusal := rig.refusal(0.0)) is not None]
    assert f"| `Retry-After` | {' | '.join(map(str, told))} |" in PAGE
    with rig.admit(30.0):
        told = [refusal[1] for _ in range(3) if (refusal := rig.refusal(30.0)) is not None]
    assert "told {} seconds, a 10th {}, an 11th {}.".format(*told) in PAGE
