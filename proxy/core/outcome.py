"""What one call says of its upstream's health.

The rules of design section 4: a status is classified in a fixed order, a failure has a kind, and what is no
fault of the upstream is neutral. What each verdict does to a circuit is the table EFFECTS; which circuit a
failure says something of, where an upstream has two, is the tables CONNECTION_KINDS and SILENT_KINDS.
"""

from dataclasses import dataclass
from enum import Enum

from proxy.core.policy import CircuitPolicy


class Verdict(Enum):
    """How an outcome counts."""

    SUCCESS = "success"
    ALIVE = "alive"
    THROTTLED = "throttled"
    FAILURE = "failure"
    NEUTRAL = "neutral"

    # Members are singletons, and Enum's own hash, written in Python, would cost a tenth of a settlement.
    __hash__ = object.__hash__


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

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, with the kind where it is a failure."""

    verdict: Verdict
    kind: FailureKind | None = None

    def __str__(self) -> str:
        return f"{self.verdict.value}({self.kind.value})" if self.kind else self.verdict.value


@dataclass(frozen=True, slots=True)
class Effect:
    """What a verdict does to a circuit: to the run of failures, to the window, and to a probe.

    Attributes:
        run: added to the run of failures; None clears it.
        failed: whether the call counts as failed, in the window and as a probe.
    """

    run: int | None
    failed: bool


SUCCESS = Outcome(Verdict.SUCCESS)
ALIVE = Outcome(Verdict.ALIVE)
THROTTLED = Outcome(Verdict.THROTTLED)
NEUTRAL = Outcome(Verdict.NEUTRAL)

_FAILED = {kind: Outcome(Verdict.FAILURE, kind) for kind in FailureKind}

# NEUTRAL is absent on purpose: it gives its permit back and does nothing else.
EFFECTS = {
    Verdict.SUCCESS: Effect(run=None, failed=False),
    # Between two 500s a 404 says that the upstream works, but not that what failed works again.
    Verdict.ALIVE: Effect(run=0, failed=False),
    Verdict.THROTTLED: Effect(run=0, failed=True),
    Verdict.FAILURE: Effect(run=1, failed=True),
}

# The upstream works, and will not or cannot do what this request asks for.
_ALIVE_STATUSES = frozenset({*range(400, 500), 501, 505})

# What happens before any endpoint is named says something of the host alone.
CONNECTION_KINDS = frozenset(
    {
        FailureKind.DNS,
        FailureKind.REFUSED,
        FailureKind.UNREACHABLE,
        FailureKind.CONNECT_TIMEOUT,
        FailureKind.TLS,
        FailureKind.TUNNEL,
    }
)
# Silence on a connection that stands: one endpoint's fault, or the host's if others are silent as well.
SILENT_KINDS = frozenset({FailureKind.RESPONSE_TIMEOUT, FailureKind.ABANDONED, FailureKind.RESET})

_LOSSES = frozenset({FailureKind.RESET, FailureKind.TRUNCATED})


def failed(kind: FailureKind) -> Outcome:
    """The failure of this kind."""
    return _FAILED[kind]


def of_status(status: int, policy: CircuitPolicy) -> Outcome:
    """The outcome of a complete response; the order of the sets decides.

    Args:
        status: 200-999, as received.
        policy: says which statuses are failures, and which throttle.
    """
    if status in policy.failure_statuses:
        return _FAILED[FailureKind.STATUS]
    if status in policy.throttled:
        return THROTTLED
    return ALIVE if status in _ALIVE_STATUSES else SUCCESS


def of_loss(outcome: Outcome, *, client_owed_s: float, abandoned_after_s: float) -> Outcome:
    """The outcome of a call whose upstream broke the connection.

    An upstream that gives up a client who has kept it waiting has done nothing wrong.

    Args:
        outcome: what the loss says otherwise.
        client_owed_s: for how long the client had owed the next move, 0 if another side owed it.
        abandoned_after_s: from which length on it is excused; 0 is at once.
    """
    was_kept_waiting = client_owed_s > 0 and client_owed_s >= abandoned_after_s
    return NEUTRAL if outcome.kind in _LOSSES and was_kept_waiting else outcome


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
