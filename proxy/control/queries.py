"""What a caller asks for: the query of a list, read strictly and bounded; and which circuits that is."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from proxy.control.circuit_views import failure_ratio, rejected, severity
from proxy.control.openapi import Parameter
from proxy.control.problems import Problem
from proxy.core.breaker import Circuit
from proxy.core.states import Condition, Transition

MOST_AT_ONCE = 1000
_AT_ONCE = 100
_MOST_OFFSET = 1_000_000
_LONGEST_TEXT = 200
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_NEVER = float("-inf")

# By what a list may be sorted: a number of a circuit, its latest transition and the time.
_RANKS: dict[str, Callable[[Circuit, Transition | None, float], Any]] = {
    "key": lambda circuit, _last, _now: circuit.key,
    "state": lambda circuit, last, _now: (severity(circuit), -(_NEVER if last is None else last.at)),
    "since": lambda _circuit, last, _now: _NEVER if last is None else last.at,
    "calls": lambda circuit, _last, now: circuit.counts(now).calls,
    "failed": lambda circuit, _last, now: circuit.counts(now).failed,
    "failure_ratio": lambda circuit, _last, now: failure_ratio(circuit, now) or 0.0,
    "latency_s": lambda circuit, _last, now: circuit.counts(now).mean_upstream_s or 0.0,
    "in_flight": lambda circuit, _last, _now: circuit.in_flight,
    "rejected": lambda circuit, _last, _now: rejected(circuit.tally),
    "spared_s": lambda circuit, _last, _now: circuit.tally.spared_s,
    "level": lambda circuit, _last, _now: circuit.level,
}
_CONDITIONS = {condition.value: condition for condition in Condition}
_SORTS = [*_RANKS, *(f"-{name}" for name in _RANKS)]

PARAMETERS = (
    Parameter(
        name="state",
        description="only circuits in one of these states; may be repeated",
        schema={
            "type": "array",
            "minItems": 1,
            "maxItems": len(_CONDITIONS),
            "items": {"type": "string", "enum": list(_CONDITIONS)},
        },
    ),
    Parameter(
        name="q",
        description="only circuits whose key has this text in it, in any case",
        schema={"type": "string", "maxLength": _LONGEST_TEXT},
    ),
    Parameter(
        name="sort",
        description="by what; with a minus the largest first. By state the open ones are first, latest first",
        schema={"type": "string", "enum": _SORTS, "default": "state"},
    ),
    Parameter(
        name="limit",
        description="how many at most",
        schema={"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE, "default": _AT_ONCE},
    ),
    Parameter(
        name="offset",
        description="how many to skip",
        schema={"type": "integer", "minimum": 0, "maximum": _MOST_OFFSET, "default": 0},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for.

    Attributes:
        conditions: those that fit; none are all.
        text: in lower case; part of the keys that fit.
        sort: a key of the table of ranks.
    """

    conditions: frozenset[Condition]
    text: str
    sort: str
    is_descending: bool
    limit: int
    offset: int

    def fits(self, circuit: Circuit) -> bool:
        """Whether a circuit is asked for."""
        return (not self.conditions or circuit.condition in self.conditions) and self.text in circuit.key

    def rank(self, circuit: Circuit, last: Transition | None, now: float) -> Any:
        """By what it is sorted.

        Args:
            circuit: any.
            last: its latest transition.
            now: monotonic seconds.
        """
        return _RANKS[self.sort](circuit, last, now)


def read(query: MultiMapping[str]) -> Query:
    """Reads the query of a list.

    Raises:
        Problem: 400, with what was expected.
    """
    known(query, PARAMETERS)
    states = query.getall("state", [])
    if not _CONDITIONS.keys() >= set(states) or len(states) > len(_CONDITIONS):
        raise bad(f"state: expected {', '.join(_CONDITIONS)}")
    part = text(query, "q", _LONGEST_TEXT)
    sort = one(query, "sort", "state")
    if sort not in _SORTS:
        raise bad(f"sort: expected {', '.join(_RANKS)}, or one of them behind a minus")
    return Query(
        conditions=frozenset(_CONDITIONS[state] for state in states),
        text=part.lower(),
        sort=sort.removeprefix("-"),
        is_descending=sort.startswith("-"),
        limit=number(query, "limit", 1, _AT_ONCE, MOST_AT_ONCE),
        offset=number(query, "offset", 0, 0, _MOST_OFFSET),
    )


def none(query: MultiMapping[str]) -> None:
    """Refuses a query where there is none.

    Raises:
        Problem: 400.
    """
    if query:
        raise bad("there are no parameters here")


def known(query: MultiMapping[str], parameters: Iterable[Parameter]) -> None:
    """Refuses parameters that there are not.

    Raises:
        Problem: 400.
    """
    names = [parameter.name for parameter in parameters]
    if set(query) - set(names):
        raise bad(f"an unknown parameter; there are {', '.join(names)}")


def one(query: MultiMapping[str], name: str, default: str) -> str:
    """The value of a parameter that may be there once.

    Raises:
        Problem: 400.
    """
    values = query.getall(name, [default])
    if len(values) != 1:
        raise bad(f"{name}: expected once")
    return values[0]


def text(query: MultiMapping[str], name: str, longest: int) -> str:
    """A text of so many characters at most; empty without one.

    Raises:
        Problem: 400.
    """
    found = one(query, name, "")
    if len(found) > longest:
        raise bad(f"{name}: expected at most {longest} characters")
    return found


def number(query: MultiMapping[str], name: str, least: int, default: int, most: int) -> int:
    """A whole number within bounds.

    Raises:
        Problem: 400.
    """
    written = one(query, name, str(default))
    if not _NUMBER.fullmatch(written) or not least <= int(written) <= most:
        raise bad(f"{name}: expected a whole number from {least} to {most}")
    return int(written)


def bad(detail: str) -> Problem:
    """What is said of a query that cannot be."""
    return Problem(400, "bad_request", detail)
