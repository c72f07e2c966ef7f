"""An operator's word is a value; what it does to a circuit is in test_breaker.py."""

from dataclasses import FrozenInstanceError

import pytest

from proxy.core.overrides import FOREVER, Force, Override


def test_it_holds_for_ever_and_without_a_note_unless_said() -> None:
    assert Override(Force.OPEN) == Override(Force.OPEN, until=float("inf"), note="")
    assert FOREVER > 1e300


@pytest.mark.parametrize(("word", "force"), [("open", Force.OPEN), ("closed", Force.CLOSED)])
def test_the_words(word: str, force: Force) -> None:
    assert Force(word) is force


def test_there_are_no_other_words() -> None:
    assert [force.value for force in Force] == ["open", "closed"]


@pytest.mark.parametrize(
    "other",
    [Override(Force.CLOSED, 90.0, "why"), Override(Force.OPEN, 91.0, "why"), Override(Force.OPEN, 90.0)],
)
def test_each_part_tells_it_apart(other: Override) -> None:
    assert Override(Force.OPEN, 90.0, "why") == Override(Force.OPEN, 90.0, "why") != other


def test_it_is_replaced_and_never_changed() -> None:
    override = Override(Force.OPEN, until=90.0)
    with pytest.raises(FrozenInstanceError):
        override.until = 91.0  # type: ignore[misc]  # that it cannot is the point
