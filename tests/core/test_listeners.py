"""Who hears what, and in which order; a transition is told by its time."""

from proxy.core.listeners import Listener, Listeners
from proxy.core.states import State, Transition, Trigger


def change(at: float) -> Transition:
    return Transition("a:443", State.CLOSED, State.CLOSED, Trigger.RESET, None, open_s=0.0, at=at)


class Told:
    """Listeners, and what they have heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float]] = []
        self.faults: list[tuple[Listener, Exception]] = []

    def listener(self, name: str) -> Listener:
        return lambda told: self.heard.append((name, told.at))

    def listeners(self, *listeners: Listener) -> Listeners:
        return Listeners(listeners, lambda listener, error: self.faults.append((listener, error)))


def test_all_hear_each_in_their_order() -> None:
    told = Told()
    listeners = told.listeners(told.listener("first"), told.listener("second"))
    listeners.tell(change(1.0))
    listeners.tell(change(2.0))
    assert told.heard == [("first", 1.0), ("second", 1.0), ("first", 2.0), ("second", 2.0)]
    assert told.faults == []


def test_they_hear_the_transition_itself() -> None:
    heard: list[Transition] = []
    told = change(1.0)
    Told().listeners(heard.append).tell(told)
    assert heard[0] is told


def test_nobody_need_listen() -> None:
    told = Told()
    told.listeners().tell(change(1.0))
    assert (told.heard, told.faults) == ([], [])


def test_one_that_raises_is_reported_and_the_others_hear_all_the_same() -> None:
    told = Told()
    faults = {1.0: RuntimeError("at 1"), 2.0: ValueError("at 2")}

    def broken(heard: Transition) -> None:
        raise faults[heard.at]

    listeners = told.listeners(told.listener("first"), broken, told.listener("third"))
    listeners.tell(change(1.0))
    listeners.tell(change(2.0))
    assert told.heard == [("first", 1.0), ("third", 1.0), ("first", 2.0), ("third", 2.0)]
    assert told.faults == [(broken, faults[1.0]), (broken, faults[2.0])]


def test_what_a_listener_causes_is_told_when_all_have_heard_of_what_came_before() -> None:
    told = Told()
    causes = {1.0: (2.0, 3.0), 2.0: (4.0,)}

    def causing(heard: Transition) -> None:
        told.heard.append(("first", heard.at))
        for at in causes.get(heard.at, ()):
            listeners.tell(change(at))
            told.heard.append(("goes on", at))

    listeners = told.listeners(causing, told.listener("second"))
    listeners.tell(change(1.0))
    assert told.heard == [
        ("first", 1.0),
        ("goes on", 2.0),
        ("goes on", 3.0),
        ("second", 1.0),
        ("first", 2.0),
        ("goes on", 4.0),
        ("second", 2.0),
        ("first", 3.0),
        ("second", 3.0),
        ("first", 4.0),
        ("second", 4.0),
    ]


def test_what_one_causes_and_then_raises_is_told() -> None:
    told = Told()
    fault = RuntimeError("behind the change")

    def causing_and_broken(heard: Transition) -> None:
        if heard.at == 1.0:
            listeners.tell(change(2.0))
            raise fault

    listeners = told.listeners(causing_and_broken, told.listener("second"))
    listeners.tell(change(1.0))
    assert told.heard == [("second", 1.0), ("second", 2.0)]
    assert told.faults == [(causing_and_broken, fault)]
    listeners.tell(change(3.0))
    assert told.heard[2:] == [("second", 3.0)]
