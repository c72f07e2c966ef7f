"""When which event is published for whom: pure, and the same in every run."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from isolation.scenario import Scenario


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        number: from 0.
        due_s: when it is published, in seconds since the onset.
        endpoint: whom it is for, by name.
    """

    number: int
    due_s: float
    endpoint: str


def events(scenario: Scenario) -> Iterator[Event]:
    """All events of a run in order: equally many for each endpoint, in an order that is new each time around.

    An order that stays would let the calls to the sick fall into step.
    """
    names = [endpoint.name for endpoint in scenario.endpoints()]
    random = Random("order")  # noqa: S311 -- no secret, and the same in each run
    for number in range(round((scenario.lead_in_s + scenario.measured_s) * scenario.events_per_s)):
        turn = number % len(names)
        if turn == 0:
            random.shuffle(names)
        yield Event(number, number / scenario.events_per_s - scenario.lead_in_s, names[turn])
