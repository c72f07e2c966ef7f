"""What is played: twenty endpoints, what ails which of them and when, and the dispatcher that calls them.

Times are seconds since the onset, the moment at which the sick fall sick. Before it everyone is in health.
"""

from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise


class Ailment(Enum):
    """What an endpoint does to calls while it is sick."""

    SILENT = "silent"
    """It takes connections and requests, and never says anything: a black hole."""
    SLOW_ERROR = "slow_error"
    """It answers 500, after `Scenario.slow_error_s`."""
    ERROR = "error"
    """It answers 500 at once."""


@dataclass(frozen=True)
class Endpoint:
    """Somebody who is sent events.

    Attributes:
        name: in all that is written down.
        ailment: what it has while it is sick; None: it never is.
        sick: from when until when, in seconds since the onset, in order; open at their ends.
        is_recovering: whether it is the one whose recovery is measured, at the end of its only sickness.
    """

    name: str
    ailment: Ailment | None = None
    sick: tuple[tuple[float, float], ...] = ()
    is_recovering: bool = False

    def ailment_at(self, at_s: float) -> Ailment | None:
        """What it has at that time; None: it is in health."""
        return self.ailment if any(begin <= at_s < end for begin, end in self.sick) else None


@dataclass(frozen=True)
class Scenario:
    """All numbers of a run.

    Attributes:
        scale: what all times are multiplied by, but how long the healthy take to answer.
        lead_in_s: how long all are in health, before the onset.
        measured_s: from the onset to the end of the run.
        events_per_s: over all endpoints, one after another in an order that changes each time around.
        workers: processes of the dispatcher.
        client_timeout_s: when the dispatcher gives up, on a connection and on each read.
        answer_s: how long a healthy endpoint takes, drawn evenly between these.
        slow_error_s: how long the one with slow errors takes.
        retry_s: when an event is tried again, unless the answer has a Retry-After.
        retries: how often.
        flap_s: how long the flapping one is sick, and how long it is well, in turn.
        recovery_s: when the second of the silent ones is well again.
        head_s, connect_s: the timeouts of the tuned configurations.
    """

    scale: float = 1.0
    lead_in_s: float = 10.0
    measured_s: float = 180.0
    events_per_s: float = 80.0
    workers: int = 16
    client_timeout_s: float = 10.0
    answer_s: tuple[float, float] = (0.04, 0.24)
    slow_error_s: float = 2.0
    retry_s: float = 30.0
    retries: int = 3
    flap_s: float = 20.0
    recovery_s: float = 72.0
    head_s: float = 5.0
    connect_s: float = 2.0

    def scaled(self, scale: float) -> "Scenario":
        """The same with shorter times."""
        return replace(
            self,
            scale=self.scale * scale,
            lead_in_s=self.lead_in_s * scale,
            measured_s=self.measured_s * scale,
            client_timeout_s=self.client_timeout_s * scale,
            slow_error_s=self.slow_error_s * scale,
            retry_s=self.retry_s * scale,
            flap_s=self.flap_s * scale,
            recovery_s=self.recovery_s * scale,
            head_s=self.head_s * scale,
            connect_s=self.connect_s * scale,
        )

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The twenty, the healthy ones first."""
        ticks = [self.flap_s * tick for tick in range(int(self.measured_s / self.flap_s) + 2)]
        return (
            *(Endpoint(f"healthy-{number:02}") for number in range(16)),
            Endpoint("silent", Ailment.SILENT, ((0.0, self.measured_s),)),
            Endpoint("silent-recovering", Ailment.SILENT, ((0.0, self.recovery_s),), is_recovering=True),
            Endpoint("slow-error", Ailment.SLOW_ERROR, ((0.0, self.measured_s),)),
            Endpoint("flapping", Ailment.ERROR, tuple(pairwise(ticks))[::2]),
        )
