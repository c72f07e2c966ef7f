"""The last transitions of each circuit, for as long as the circuit is there."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from proxy.core.breaker import Circuit
from proxy.core.states import Transition

# What they take in memory is HISTORY_BYTES in core/budget.py.
MOST_OF_A_CIRCUIT = 20


class History:
    """Remembers them; `add` listens to the table of circuits.

    Args:
        circuit_of: finds the circuit of a key.
    """

    def __init__(self, circuit_of: Callable[[str], Circuit | None]) -> None:
        self._circuit_of = circuit_of
        # A circuit that leaves the table takes its past with it; the next one of its key has none.
        self._told: WeakKeyDictionary[Circuit, tuple[Transition, ...]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._told)

    def add(self, transition: Transition) -> None:
        """Remembers one more, and forgets the oldest beyond `MOST_OF_A_CIRCUIT`."""
        circuit = self._circuit_of(transition.key)
        if circuit is not None:
            # A new tuple each time: whoever has the old one has a copy.
            self._told[circuit] = (*self.of(circuit), transition)[-MOST_OF_A_CIRCUIT:]

    def of(self, circuit: Circuit) -> tuple[Transition, ...]:
        """Those of a circuit, oldest first."""
        return self._told.get(circuit, ())

    def last(self, circuit: Circuit) -> Transition | None:
        """The latest of a circuit; None if it has had none."""
        told = self.of(circuit)
        return told[-1] if told else None
