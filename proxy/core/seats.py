"""What a circuit gives to the calls that it lets through, and the few of them that are probes."""

from typing import TYPE_CHECKING

from proxy.core.exchange import FOREVER, Exchange

if TYPE_CHECKING:
    from proxy.core.breaker import Circuit


class Seat:
    """What a circuit gave to one call.

    Attributes:
        generation: of the circuit when it was given.
        exchange: of the call; a probe's lease is judged by its facts.
        lease_at: when the lease ends, in monotonic seconds; for ever if it is no probe.
        settled: whether the circuit has had the one verdict on it, from its permit or from its lease.
        told: whether the permit has told one.
        has_endpoint: whether the call has a seat of an endpoint's circuit besides this of its host's.
    """

    __slots__ = (
        "circuit",
        "exchange",
        "generation",
        "has_endpoint",
        "is_probe",
        "lease_at",
        "settled",
        "told",
    )

    def __init__(self, circuit: "Circuit", exchange: Exchange, lease_at: float, *, is_probe: bool) -> None:
        self.circuit = circuit
        self.exchange = exchange
        self.generation = circuit.generation
        self.is_probe = is_probe
        self.lease_at = lease_at
        self.settled = False
        self.told = False
        self.has_endpoint = False


class Probes:
    """The probes of one generation.

    Attributes:
        begun: how many there were so far.
        succeeded: how many have.
    """

    __slots__ = ("_seats", "begun", "succeeded")

    def __init__(self) -> None:
        # In the order in which they began: of two leases that end at once, the first is judged first.
        self._seats: dict[Seat, None] = {}
        self.begun = self.succeeded = 0

    def __len__(self) -> int:
        return len(self._seats)

    def clear(self) -> None:
        """Begins a new generation."""
        self._seats.clear()
        self.begun = self.succeeded = 0

    def begin(self, seat: Seat) -> None:
        """Takes a probe in."""
        self._seats[seat] = None
        self.begun += 1

    def end(self, seat: Seat) -> None:
        """Gives its place to the next one."""
        del self._seats[seat]

    @property
    def first_lease_at(self) -> float:
        """When the first lease ends; for ever without probes. There are `half_open_in_flight` at most."""
        return min((seat.lease_at for seat in self._seats), default=FOREVER)

    def first(self) -> Seat:
        """The one whose lease ends first, of at least one; of several, the one that began first."""
        return min(self._seats, key=_lease_at)


def _lease_at(seat: Seat) -> float:
    return seat.lease_at
