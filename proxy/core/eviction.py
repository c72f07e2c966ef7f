"""Half-open circuits that nobody calls again, found when the table needs room.

A half-open circuit leaves that state only by a call: one that is never called would stay for ever. Which of
them has been left alone for longest is asked rarely, and their times change with every call; so this queue
holds for each circuit one time that is no later than the true one, and is corrected when that comes up.
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush, heapreplace

from proxy.core.breaker import Circuit
from proxy.core.states import State

# Beyond so many entries of circuits that have left the table, the queue is made anew.
_SPARE = 64


class Abandoned:
    """Queues the circuits of a table that are open or half-open."""

    def __init__(self, table: Mapping[str, Circuit]) -> None:
        self._table = table
        self._heap: list[tuple[float, str]] = []
        self._queued: set[str] = set()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, circuit: Circuit) -> None:
        """Queues a circuit, unless it is."""
        if circuit.key in self._queued:
            return
        if len(self._heap) > 2 * len(self._table) + _SPARE:
            self._heap = [entry for entry in self._heap if entry[1] in self._table]
            heapify(self._heap)
            self._queued = {key for _, key in self._heap}
        self._queued.add(circuit.key)
        heappush(self._heap, (circuit.touched, circuit.key))

    def find(self, idle_s: float, now: float) -> Circuit | None:
        """The half-open circuit that was left alone for longest, if one was for `idle_s` seconds."""
        while self._heap and self._heap[0][0] + idle_s <= now:
            earliest, key = self._heap[0]
            circuit = self._table.get(key)
            if circuit is None or circuit.state is State.CLOSED:
                heappop(self._heap)
                self._queued.discard(key)
                continue
            since = circuit.abandoned_since(now)
            if since == earliest:
                return circuit
            heapreplace(self._heap, (now if since is None else since, key))
        return None
