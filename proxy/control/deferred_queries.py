"""Which deferred requests a caller asks for: queries and contents, read strictly and bounded."""

from typing import Annotated

import msgspec
from multidict import MultiMapping

from proxy.control import queries, steering
from proxy.control.deferred_views import Standing
from proxy.control.openapi import Parameter

MOST_AT_ONCE = 500
_AT_ONCE = 100
_MOST_CURSOR = 10**15
# So many are changed by one request, those that came first.
MOST_CHANGED = 1000
LONGEST_QUEUE = 300

ONE = Parameter(
    name="id",
    place="path",
    description="as the 202 has told it, or a list",
    schema={"type": "string", "pattern": "^[0-9a-f]{32}$"},
)
QUEUE = Parameter(
    name="queue",
    description="only those of this queue",
    schema={"type": "string", "minLength": 1, "maxLength": LONGEST_QUEUE},
)
STATE = Parameter(
    name="state",
    description="only those that wait, or only dead letters",
    schema={"type": "string", "enum": [each.value for each in Standing]},
)
PAGE = (
    QUEUE,
    STATE,
    Parameter(
        name="after",
        description="the cursor behind which to begin",
        schema={"type": "integer", "minimum": 0, "maximum": _MOST_CURSOR, "default": 0},
    ),
    Parameter(
        name="limit",
        description="how many at most",
        schema={"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE, "default": _AT_ONCE},
    ),
)
EXPORT = (QUEUE, STATE)


class PutBackWish(steering.Wish, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which dead letters are to wait again.

    Attributes:
        queue: only of this one; null is all.
    """

    queue: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_QUEUE)] | None = None


class DeleteWish(PutBackWish, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which are to be removed: those that wait, or dead letters; that must be said."""

    state: Standing


def queue(query: MultiMapping[str]) -> str | None:
    """Of which queue.

    Raises:
        Problem: 400.
    """
    if "queue" not in query:
        return None
    found = queries.text(query, "queue", LONGEST_QUEUE)
    if not found:
        # As a variable that was not set would say: it must not mean all.
        raise queries.bad("queue: expected the key of a circuit")
    return found


def is_dead(query: MultiMapping[str]) -> bool | None:
    """Whether dead letters or others; None is both.

    Raises:
        Problem: 400.
    """
    if "state" not in query:
        return None
    state = queries.one(query, "state", "")
    if state not in {each.value for each in Standing}:
        raise queries.bad(f"state: expected {', '.join(each.value for each in Standing)}")
    return state == Standing.DEAD.value


def after(query: MultiMapping[str]) -> int:
    """Behind which cursor.

    Raises:
        Problem: 400.
    """
    return queries.number(query, "after", 0, 0, _MOST_CURSOR)


def limit(query: MultiMapping[str]) -> int:
    """How many at most.

    Raises:
        Problem: 400.
    """
    return queries.number(query, "limit", 1, _AT_ONCE, MOST_AT_ONCE)
