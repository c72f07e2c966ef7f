"""Tells those who watch of each transition, in order, whatever they do."""

from collections import deque
from collections.abc import Callable

from proxy.core.states import Transition

Listener = Callable[[Transition], None]
OnFault = Callable[[Listener, Exception], None]


class Listeners:
    """Those who watch.

    They run after the transition, and may use the circuits. What they cause so is told when all have heard
    of what came before, so that everybody hears everything in the order in which it happened.

    Args:
        listeners: called in this order.
        on_fault: told of one that raised; the others are called all the same. It must not raise.
    """

    __slots__ = ("_is_telling", "_listeners", "_on_fault", "_untold")

    def __init__(self, listeners: tuple[Listener, ...], on_fault: OnFault) -> None:
        self._listeners = listeners
        self._on_fault = on_fault
        self._untold: deque[Transition] = deque()
        self._is_telling = False

    def tell(self, transition: Transition) -> None:
        """Tells all of a transition, now or as soon as they have heard of the ones before."""
        self._untold.append(transition)
        if self._is_telling:
            return
        self._is_telling = True
        while self._untold:
            told = self._untold.popleft()
            for listener in self._listeners:
                try:
                    listener(told)
                except Exception as error:  # noqa: BLE001 -- no fault of one keeps the others from hearing
                    self._on_fault(listener, error)
        self._is_telling = False
