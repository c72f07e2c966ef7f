"""What one call says of its upstream's health.

The rules of design section 4: a status is classified in a fixed order, a failure has a kind, and what is no
fault of the upstream is neutral. What each verdict does to a circuit is the table EFFECTS.
"""

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How an outcome counts."""

    SUCCESS = "success"
    ALIVE = "alive"
    THROTTLED = "throttled"
    FAILURE = "failure"
    NEUTRAL = "neutral"


class FailureKind(Enum):
    """Why a call counts as failed; the `kind` label of `failures_total`."""

    STATUS = "status"
    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    RESPONSE_TIMEOUT = "response_timeout"
    RESET = "reset"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    TUNNEL = "tunnel"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, with the kind where it is a failure."""

    verdict: Verdict
    kind: FailureKind | None = None

    def __str__(self) -> str:
        return f"{self.verdict.value}({self.kind.value})" if self.kind else self.verdict.value


@dataclass(frozen=True, slots=True)
class Effect:
    """What a verdict does to a circuit: to the run of failures, and to a probe."""

    run: int | None  # added to the run of failures; None clears it
    probe_succeeded: bool


SUCCESS = Outcome(Verdict.SUCCESS)
ALIVE = Outcome(Verdict.ALIVE)
THROTTLED = Outcome(Verdict.THROTTLED)
NEUTRAL = Outcome(Verdict.NEUTRAL)

_FAILED = {kind: Outcome(Verdict.FAILURE, kind) for kind in FailureKind}

# NEUTRAL is absent on purpose: it gives its permit back and does nothing else.
EFFECTS = {
    Verdict.SUCCESS: Effect(run=None, probe_succeeded=True),
    Verdict.ALIVE: Effect(run=0, probe_succeeded=True),
    Verdict.THROTTLED: Effect(run=0, probe_succeeded=False),
    Verdict.FAILURE: Effect(run=1, probe_succeeded=False),
}

# 501 and 505 say that the upstream works and does not know the method or the version.
FAILURE_STATUSES = frozenset(range(500, 600)) - {501, 505}
ALIVE_STATUSES = frozenset(range(400, 500)) | {501, 505}


def failed(kind: FailureKind) -> Outcome:
    """The failure of this kind."""
    return _FAILED[kind]


def of_status(status: int) -> Outcome:
    """The outcome of a complete response.

    Args:
        status: 100-999, as received.
    """
    if status in FAILURE_STATUSES:
        return _FAILED[FailureKind.STATUS]
    return ALIVE if status in ALIVE_STATUSES else SUCCESS


def of_leaving(*, upstream_owed_s: float, abandoned_after_s: float) -> Outcome:
    """The outcome of a call whose client left before the end.

    A client that gives up after the upstream kept it waiting says what a timeout of ours would have said
    later; one that leaves early says nothing.

    Args:
        upstream_owed_s: for how long the upstream had owed the next move, 0 if another side owed it.
        abandoned_after_s: from which length on that is a failure; 0 is never.
    """
    if abandoned_after_s and upstream_owed_s >= abandoned_after_s:
        return _FAILED[FailureKind.ABANDONED]
    return NEUTRAL
