"""What is kept for later, for how long, and how often it is tried: the settings of it."""

from dataclasses import dataclass
from typing import Annotated

from proxy.core.quantities import Bytes, Range, Seconds
from proxy.core.statuses import Statuses

# What trying again would not change: the upstream has understood the request, and does not want it.
FINAL_STATUSES = Statuses({400, 401, 403, 404, 410})


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """What is kept for later, for how long, and how often it is tried (design section 9).

    Attributes:
        path: the file of the store; None keeps nothing, and then no upstream may have `defer: true`.
        max_age: a request older than this is not tried again.
        max_attempts: nor one that was tried so often.
        max_events, max_bytes: of all that is kept, dead letters included; beyond, calls are rejected.
        final_statuses: with these the upstream says that trying again is no use.
        methods: which requests are kept.
        max_content: bytes of content of one, at most.
    """

    path: str | None = None
    max_age: Annotated[Seconds, Range(least=1)] = Seconds(3600)
    max_attempts: Annotated[int, Range(least=1, most=10_000)] = 20
    max_events: Annotated[int, Range(least=1, most=10_000_000)] = 10_000
    max_bytes: Annotated[Bytes, Range(least=1024)] = Bytes(256 * 1024 * 1024)
    final_statuses: Statuses = FINAL_STATUSES
    methods: tuple[str, ...] = ("POST", "PUT", "PATCH", "DELETE")
    max_content: Annotated[Bytes, Range(least=0, most=16 * 1024 * 1024)] = Bytes(1024 * 1024)
