"""A request that is kept for later, and what is known of its attempts.

Times are seconds since 1970: they must mean the same after a restart.
"""

from dataclasses import dataclass

from proxy.core.headers import Fields
from proxy.core.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """One request.

    Attributes:
        id: 32 hexadecimal digits, the same over all attempts.
        queue: the key of the circuit within which order holds: its endpoint's, or else its host's.
        circuit: the key of its host's circuit.
        reason: why it was refused, a token.
        stored_at: when it was accepted, or put back.
        target: what it is for.
        fields: as they go upstream, without Host and what concerns one hop only.
        content: whole; empty where only the description was asked for.
        content_bytes: its length, always.
        sequence: its place in the order of all; 0 until the store gives it one.
        attempts: how often it was sent so far.
        tried_at: when last, None if never.
        result: what came of that: a status such as `503`, or an error type of RFC 9209.
        died_at: since when it is a dead letter, None if it still waits.
        died_of: why: one of CAUSES.
    """

    id: str
    queue: str
    circuit: str
    reason: str
    stored_at: float
    target: Target
    method: str
    fields: Fields
    content: bytes
    content_bytes: int
    sequence: int = 0
    attempts: int = 0
    tried_at: float | None = None
    result: str | None = None
    died_at: float | None = None
    died_of: str | None = None


FINAL_STATUS, TOO_OLD, TOO_MANY_ATTEMPTS = "final_status", "too_old", "too_many_attempts"
# Why a request becomes a dead letter.
CAUSES = (FINAL_STATUS, TOO_OLD, TOO_MANY_ATTEMPTS)


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one circuit.

    Attributes:
        circuit: the key of its host's circuit.
        waiting: how many requests; dead letters are not among them.
        oldest_at: when the one in front was stored.
    """

    circuit: str
    waiting: int
    oldest_at: float


FULL, UNAVAILABLE, CONTENT_TOO_LARGE = "full", "unavailable", "content_too_large"
TOO_MANY_AT_ONCE = "too_many_at_once"
# Why a request is not kept that was to be: there is no room, the disk does not work, there turns out to be
# more content than is kept, or too much is on its way to the disk.
NOT_STORED = (FULL, UNAVAILABLE, CONTENT_TOO_LARGE, TOO_MANY_AT_ONCE)


class NotStoredError(Exception):
    """A request could not be kept, so that it must be refused.

    Attributes:
        reason: one of NOT_STORED.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(details or reason)
        self.reason = reason
