"""An operator's word on a circuit: it stands above what the circuit would do by itself."""

from dataclasses import dataclass
from enum import Enum

FOREVER = float("inf")


class Force(Enum):
    """What an operator forces a circuit to be."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Override:
    """One override.

    Attributes:
        until: when it ends, in monotonic seconds; for ever without a time to live.
        note: why, in the operator's words.
    """

    force: Force
    until: float = FOREVER
    note: str = ""
