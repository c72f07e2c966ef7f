"""What is written down while a run goes on, one JSON object a line, each process into a file of its own.

Times are those of the monotonic clock, which all processes of a machine share, in seconds.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

WORKER_READY = "the worker is ready"
"""What the dispatcher's worker says, in its log, once it takes events."""


@dataclass(frozen=True)
class Attempt:
    """One call of a worker, written when it has ended.

    Attributes:
        event: its number.
        endpoint: whom it is for, by name.
        made_s: when the event was due to be published.
        began_s, ended_s: when the worker called, and when it had its answer or gave up.
        status: of the answer; None: there was none.
        is_refused: whether breaker-proxy answered and let nothing through.
        error: the class of what the client raised, if it did.
    """

    event: int
    endpoint: str
    made_s: float
    began_s: float
    ended_s: float
    status: int | None
    is_refused: bool = False
    error: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the event is done with."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 -- RFC 9110 section 15.3


@dataclass(frozen=True)
class Arrival:
    """One request that reached an endpoint.

    Attributes:
        endpoint: by name.
        at_s: when its head had arrived.
        is_sick: whether the endpoint was sick then.
    """

    endpoint: str
    at_s: float
    is_sick: bool


@dataclass(frozen=True)
class Opening:
    """A circuit that opened.

    Attributes:
        endpoint: by name.
        at_s: when.
        open_s: for how long.
    """

    endpoint: str
    at_s: float
    open_s: float


def write(record: Attempt | Arrival, to: IO[str]) -> None:
    """Adds a record; it is in the file when this returns."""
    to.write(json.dumps(asdict(record)) + "\n")
    to.flush()


def attempts(folder: Path) -> Iterator[Attempt]:
    """What all workers have written, in no order."""
    for path in folder.glob("attempts-*.jsonl"):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield Attempt(**json.loads(line))


def arrivals(folder: Path) -> Iterator[Arrival]:
    """What the endpoints have written, in order."""
    with (folder / "arrivals.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield Arrival(**json.loads(line))
