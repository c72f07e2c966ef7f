"""The table of circuits: finds the circuit of a key, and stays within its bound.

Peers choose the keys, so the table is bounded (`limits.max_circuits`). A circuit that knows nothing leaves
with its last permit. When the table is full, the closed circuit that has been idle for longest goes; open,
half-open and busy ones never do. With nothing to evict, a new key passes unprotected and is counted.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace

from proxy.core.breaker import Circuit, Permit, State, Tally, Transition
from proxy.core.policy import CircuitPolicy

Listener = Callable[[Transition], None]


class Circuits:
    """All circuits of the process.

    Args:
        max_circuits: how many the table holds at most, >= 1.
        listeners: called after each transition, in order. They must not raise; they may use the table.
    """

    def __init__(self, max_circuits: int, listeners: tuple[Listener, ...] = ()) -> None:
        self.max_circuits = max_circuits
        self.totals = Tally()
        self.evictions = 0
        self.unprotected = 0
        self._listeners = listeners
        self._table: dict[str, Circuit] = {}
        # The circuits of the table that may be evicted, longest idle first.
        self._evictable: OrderedDict[str, Circuit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Circuit]:
        return iter(self._table.values())

    def get(self, key: str) -> Circuit | None:
        """The circuit of a key, if it has one."""
        return self._table.get(key)

    def admit(self, key: str, policy: CircuitPolicy, now: float) -> Permit:
        """Gives leave to send one call to the upstream of this key; see `Circuit.admit`.

        Raises:
            DestinationUnavailable: 503.
        """
        circuit = self._table.get(key)
        if circuit is None:
            circuit = self._new(key, policy)
        else:
            circuit.policy = policy
        permit = circuit.admit(now)
        self._evictable.pop(key, None)
        return permit.on_end(self._ended)

    def advance(self, now: float) -> None:
        """Makes all due transitions, so that they are seen early; it never changes a decision."""
        # A copy, since listeners may use the table.
        for circuit in list(self._table.values()):
            circuit.advance(now)

    def _new(self, key: str, policy: CircuitPolicy) -> Circuit:
        if len(self._table) >= self.max_circuits:
            if not self._evictable:
                self.unprotected += 1
                # It must not open: nobody would find it, and everybody would be told.
                return Circuit(key, replace(policy, consecutive_failures=0), self.totals, self._tell)
            evicted, _ = self._evictable.popitem(last=False)
            del self._table[evicted]
            self.evictions += 1
        circuit = Circuit(key, policy, self.totals, self._tell)
        self._table[key] = circuit
        return circuit

    def _ended(self, circuit: Circuit) -> None:
        if circuit.in_flight or self._table.get(circuit.key) is not circuit:
            return
        if circuit.is_blank and not circuit.tally.calls:
            del self._table[circuit.key]
        elif circuit.state is State.CLOSED:
            self._evictable[circuit.key] = circuit

    def _tell(self, transition: Transition) -> None:
        for listener in self._listeners:
            listener(transition)
