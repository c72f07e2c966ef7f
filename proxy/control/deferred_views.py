"""What the API tells of requests that are kept for later, and in which shape.

Their paths, queries, fields and contents are in the export only: whoever asks for that asks for everything.
"""

from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from typing import Protocol

import msgspec

from proxy.control.circuit_views import rounded
from proxy.core.defer import Defer
from proxy.core.deferred import Deferred, Queue

# So many queues are told of: there may be as many as there are requests.
MOST_QUEUES = 100


class Standing(Enum):
    """Whether a request is still to be delivered."""

    WAITING = "waiting"
    DEAD = "dead"

    @classmethod
    def of(cls, request: Deferred) -> "Standing":
        """That of a request."""
        return cls.WAITING if request.died_at is None else cls.DEAD


class DeferredRequest(msgspec.Struct, kw_only=True, frozen=True):
    """One request.

    Attributes:
        id: 32 hexadecimal digits, which its receiver is told as well.
        cursor: its place in the order of all; 1 or more.
        queue: the key of the circuit within which order holds.
        circuit: the key of its host's circuit.
        reason: why it was refused.
        stored_at: when it was accepted, or put back.
        attempts: how often it was sent since.
        tried_at: when last; null if never.
        result: what came of that, a status or an error type of RFC 9209.
        died_at: since when it is a dead letter; null while it waits.
        died_of: why: `final_status`, `too_old` or `too_many_attempts`.
    """

    id: str
    cursor: int
    state: Standing
    queue: str
    circuit: str
    reason: str
    method: str
    scheme: str
    content_bytes: int
    stored_at: str
    attempts: int
    tried_at: str | None
    result: str | None
    died_at: str | None
    died_of: str | None


class DeferredPage(msgspec.Struct, kw_only=True, frozen=True):
    """Some of them, in the order in which they were accepted; `next_after` is null behind the last."""

    requests: list[DeferredRequest]
    next_after: int | None


class QueueView(msgspec.Struct, kw_only=True, frozen=True):
    """What waits for one circuit, and for how long the first of it has."""

    queue: str
    circuit: str
    waiting: int
    oldest_age_s: float


class DeferredView(msgspec.Struct, kw_only=True, frozen=True):
    """What is kept, as a whole.

    Attributes:
        stored_bytes: of content and fields, dead letters included.
        oldest_age_s: for how long the one has waited that came first; null if none waits.
        is_paused: whether an operator has asked to deliver nothing.
        fault: why nothing can be stored now, for people; null while all is well.
        max_events, max_bytes: how much there may be.
        queues: the 100 with most requests, those first.
        queues_total: how many there are.
    """

    waiting: int
    dead_letters: int
    stored_bytes: int
    oldest_age_s: float | None
    is_paused: bool
    fault: str | None
    max_events: int
    max_bytes: int
    queues: list[QueueView]
    queues_total: int


class Whole(msgspec.Struct, kw_only=True, frozen=True):
    """A line of the export: all that there is of a request.

    Attributes:
        fields: names and values as they go upstream, each byte a character (ISO 8859-1).
        content: in base64.
    """

    id: str
    state: Standing
    queue: str
    reason: str
    stored_at: str
    attempts: int
    result: str | None
    died_of: str | None
    method: str
    url: str
    fields: list[tuple[str, str]]
    content: str


class Standings(Protocol):
    """What is known of all without asking the disk."""

    fault: str | None

    @property
    def depth(self) -> int:
        """How many wait."""

    @property
    def dead(self) -> int:
        """How many dead letters there are."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of all of them."""

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to be delivered."""


def request_view(request: Deferred) -> DeferredRequest:
    """One of them, as lists show it."""
    return DeferredRequest(
        id=request.id,
        cursor=request.sequence,
        state=Standing.of(request),
        queue=request.queue,
        circuit=request.circuit,
        reason=request.reason,
        method=request.method,
        scheme=request.target.scheme,
        content_bytes=request.content_bytes,
        stored_at=_iso(request.stored_at),
        attempts=request.attempts,
        tried_at=None if request.tried_at is None else _iso(request.tried_at),
        result=request.result,
        died_at=None if request.died_at is None else _iso(request.died_at),
        died_of=request.died_of,
    )


def overview(
    standings: Standings, queues: Iterable[tuple[str, Queue]], limits: Defer, wall_now: float
) -> DeferredView:
    """All of them in numbers.

    Args:
        standings: the store.
        queues: what waits, by queue.
        limits: how much there may be.
        wall_now: seconds since 1970.
    """
    ordered = sorted(queues, key=lambda each: each[1].waiting, reverse=True)
    ages = [age(queue, wall_now) for _, queue in ordered]
    return DeferredView(
        waiting=standings.depth,
        dead_letters=standings.dead,
        stored_bytes=standings.stored_bytes,
        oldest_age_s=max(ages, default=None),
        is_paused=standings.is_paused,
        fault=standings.fault,
        max_events=limits.max_events,
        max_bytes=int(limits.max_bytes),
        queues=[
            QueueView(queue=key, circuit=queue.circuit, waiting=queue.waiting, oldest_age_s=age)
            for (key, queue), age in islice(zip(ordered, ages, strict=True), MOST_QUEUES)
        ],
        queues_total=len(ordered),
    )


def whole_line(request: Deferred) -> bytes:
    """All of one as a line of JSON, its end included."""
    target = request.target
    line = Whole(
        id=request.id,
        state=Standing.of(request),
        queue=request.queue,
        reason=request.reason,
        stored_at=_iso(request.stored_at),
        attempts=request.attempts,
        result=request.result,
        died_of=request.died_of,
        method=request.method,
        url=f"{target.scheme}://{target.host_port}{target.origin_form}",
        fields=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.fields],
        content=b64encode(request.content).decode("ascii"),
    )
    return msgspec.json.encode(line) + b"\n"


def age(queue: Queue, wall_now: float) -> float:
    """For how long the one in front has waited, in seconds; `wall_now` since 1970."""
    return rounded(max(0.0, wall_now - queue.oldest_at))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
