"""What the command line knows of the API is what the API says of itself."""

import json
import re
from typing import Any

import pytest
from support.api import AdminPort

from proxy.cli import EGRESS
from proxy.commands import vocabulary
from proxy.commands.options import _ACTIONS
from proxy.control.openapi import document
from proxy.core.egress import AllowedAddresses
from proxy.core.states import Condition

DOCUMENT: Any = json.loads(document(AdminPort().api.operations()))


def parameter(name: str) -> Any:
    listed = DOCUMENT["paths"]["/api/v1/circuits"]["get"]["parameters"]
    (found,) = (each["schema"] for each in listed if each["name"] == name)
    return found


def wish(name: str) -> Any:
    return DOCUMENT["components"]["schemas"]["ForcingWish"]["properties"][name]


def test_states_and_sorts() -> None:
    assert sorted(vocabulary.STATES) == sorted(parameter("state")["items"]["enum"])
    assert sorted(vocabulary.STATES) == sorted(condition.value for condition in Condition)
    offered = parameter("sort")["enum"]
    assert {*vocabulary.SORTS, *(f"-{name}" for name in vocabulary.SORTS)} == set(offered)


def test_bounds() -> None:
    assert parameter("limit")["maximum"] == vocabulary.MOST_AT_ONCE
    assert parameter("q")["maxLength"] == vocabulary.LONGEST_SEARCH
    assert wish("note")["maxLength"] == vocabulary.MOST_OF_A_NOTE


def test_actions() -> None:
    paths = [path.rpartition("/")[2] for path in DOCUMENT["paths"] if "{key}/" in path]
    assert sorted(_ACTIONS) == sorted(paths)


def test_addresses_of_run() -> None:
    assert [choice.value for choice in AllowedAddresses] == list(EGRESS)


@pytest.mark.parametrize(
    "text",
    [
        "10m",
        "90s",
        "250ms",
        "2h",
        "1.5s",
        "99999s",
        "999h",
        "0s",
        "0",
        "",
        "10",
        "m",
        "100000s",
        "1000h",
        "-1s",
    ],
)
def test_durations(text: str) -> None:
    (pattern,) = (each["pattern"] for each in wish("ttl")["anyOf"] if "pattern" in each)
    assert vocabulary.is_ttl(text) == (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    "character", [*map(chr, range(0x100)), *map(chr, range(0x2000, 0x2070)), "\ufeff", "é"]
)
def test_notes(character: str) -> None:
    is_allowed = re.search(wish("note")["pattern"].replace("$", r"\Z"), character) is not None
    assert vocabulary.is_note(character) == is_allowed


def test_long_notes() -> None:
    assert vocabulary.is_note("x" * 200)
    assert not vocabulary.is_note("x" * 201)
