"""What the API says, as far as it is shown: checked, bounded, and clean.

What is not here is ignored, and what an older proxy does not say is absent: the two may differ by a version.
"""

from typing import Annotated, Any, TypeVar

import msgspec

from proxy.commands.failure import Failed
from proxy.commands.text import cleaned

Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
# A hundred years; infinity is more.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=4e9)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
View = TypeVar("View")


class Override(msgspec.Struct):
    """What an operator forces a circuit to be."""

    force: str
    note: str | None = None
    ttl_left_s: Seconds | None = None


class Circuit(msgspec.Struct, kw_only=True):
    """A circuit in a list (`CircuitView`)."""

    key: str
    state: str
    reason: str | None = None
    cause: str | None = None
    since: str | None = None
    level: Count = 0
    next_probe_in_s: Seconds | None = None
    in_flight: Count = 0
    calls: Count = 0
    failed: Count = 0
    slow: Count = 0
    rejected: Count = 0
    mode: str = "enforce"
    override: Override | None = None
    latency_s: Seconds | None = None
    spared_s: Seconds | None = None


class Circuits(msgspec.Struct, kw_only=True):
    """A page of them (`CircuitsView`)."""

    circuits: list[Circuit]
    total: Count
    states: dict[str, Count]
    calls: Count = 0
    failed: Count = 0
    rejected: Count = 0
    spared_s: Seconds | None = None


class Failure(msgspec.Struct):
    """Failed calls of one kind."""

    kind: str
    count: Count
    last_at: str


class Rejected(msgspec.Struct):
    """Refused calls."""

    reason: str
    enforced: bool
    count: Count


class Transition(msgspec.Struct, kw_only=True):
    """One change of state."""

    at: str
    from_state: str
    to_state: str
    reason: str
    cause: str | None = None
    open_s: Seconds | None = None
    level: Count = 0
    note: str | None = None


class Setting(msgspec.Struct):
    """A setting in force."""

    value: str | int | float | bool | list[str] | None
    origin: str


class Detail(Circuit, kw_only=True):
    """A circuit by itself (`CircuitDetail`)."""

    window_s: Seconds = 0.0
    failures_in_a_row: Count = 0
    probes_in_flight: Count = 0
    open_s: Seconds = 0.0
    outcomes: dict[str, Count] = {}
    last_failures: list[Failure] = []
    rejections: list[Rejected] = []
    transitions: list[Transition] = []
    settings: dict[str, Setting] = {}


class Event(msgspec.Struct):
    """The data of an event `transition` (`EventView`)."""

    key: str
    transition: Transition


class DeferredRequest(msgspec.Struct, kw_only=True):
    """A request that is kept for later."""

    id: str
    state: str
    queue: str
    method: str = ""
    scheme: str = ""
    reason: str = ""
    content_bytes: Count = 0
    stored_at: str
    attempts: Count = 0
    tried_at: str | None = None
    result: str | None = None
    died_at: str | None = None
    died_of: str | None = None


class DeferredPage(msgspec.Struct):
    """A page of them (`DeferredPage`); as they came, since JSON is passed on."""

    requests: list[Any]
    next_after: Count | None = None


class Queue(msgspec.Struct):
    """What waits for a circuit."""

    queue: str
    waiting: Count
    oldest_age_s: Seconds


class Deferred(msgspec.Struct, kw_only=True):
    """What is kept for later (`DeferredView`)."""

    waiting: Count
    dead_letters: Count
    stored_bytes: Count
    oldest_age_s: Seconds | None = None
    is_paused: bool = False
    fault: str | None = None
    max_events: Count
    max_bytes: Count
    queues: list[Queue] = []
    queues_total: Count = 0


class Changed(msgspec.Struct):
    """How many requests were changed, and whether there are more."""

    changed: Count
    has_more: bool


class Paused(msgspec.Struct):
    """Whether deliveries are paused."""

    is_paused: bool


def read(answer: Any, kind: type[View]) -> View:
    """What an answer says, clean.

    Args:
        answer: values of JSON.
        kind: what it should be.

    Raises:
        Failed: it is something else.
    """
    try:
        return msgspec.convert(cleaned(answer), kind)
    except (msgspec.ValidationError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise Failed(f"the answer is not what this version of breaker-proxy understands: {why}") from None
