"""What a call is given, and the few that are probes."""

import pytest

from proxy.core.breaker import Circuit
from proxy.core.exchange import FOREVER, Entry, Exchange
from proxy.core.policy import CircuitPolicy
from proxy.core.seats import Probes, Seat
from proxy.core.tally import Tally


def circuit() -> Circuit:
    return Circuit(
        "a:443",
        "a:443",
        CircuitPolicy(),
        totals=Tally(),
        draw=lambda: 0.5,
        listener=lambda _, __: None,
        now=0.0,
    )


def probe(lease_at: float) -> Seat:
    return Seat(circuit(), Exchange(Entry.FORWARD, "GET", 0.0), lease_at, is_probe=True)


def probes_of(*seats: Seat) -> Probes:
    probes = Probes()
    for seat in seats:
        probes.begin(seat)
    return probes


def test_a_new_seat() -> None:
    of, exchange = circuit(), Exchange(Entry.FORWARD, "GET", 0.0)
    seat = Seat(of, exchange, 80.0, is_probe=True)
    assert seat.circuit is of
    assert seat.exchange is exchange
    assert (seat.generation, seat.lease_at, seat.is_probe) == (0, 80.0, True)
    assert (seat.settled, seat.told, seat.has_endpoint) == (False, False, False)


def test_a_seat_keeps_the_generation_in_which_it_was_given() -> None:
    of = circuit()
    of.reset(1.0)
    seat = Seat(of, Exchange(Entry.FORWARD, "GET", 1.0), FOREVER, is_probe=False)
    of.reset(2.0)
    assert (seat.generation, of.generation, seat.is_probe) == (1, 2, False)


@pytest.mark.parametrize(
    ("leases", "first"),
    [
        ([80.0], 0),
        ([80.0, 81.0], 0),
        ([82.0, 81.0, 83.0], 1),
        ([83.0, 82.0, 81.0], 2),
        # Of several that end at once, the one that began first.
        ([80.0, 80.0], 0),
        ([81.0, 80.0, 80.0], 1),
        ([FOREVER, 80.0], 1),
        ([FOREVER, FOREVER], 0),
    ],
)
def test_the_first_lease(leases: list[float], first: int) -> None:
    seats = [probe(lease_at) for lease_at in leases]
    probes = probes_of(*seats)
    assert len(probes) == len(leases)
    assert probes.first() is seats[first]
    assert probes.first_lease_at == leases[first]


def test_without_probes_no_lease_ends() -> None:
    assert (len(Probes()), Probes().succeeded, Probes().first_lease_at) == (0, 0, FOREVER)


def test_each_ends_once_and_the_next_is_first() -> None:
    first, second = probe(80.0), probe(81.0)
    probes = probes_of(second, first)
    probes.end(first)
    assert (len(probes), probes.first(), probes.first_lease_at) == (1, second, 81.0)
    with pytest.raises(KeyError):
        probes.end(first)
    probes.end(second)
    assert (len(probes), probes.first_lease_at) == (0, FOREVER)


def test_a_new_generation_has_none_and_none_has_succeeded() -> None:
    probes = probes_of(probe(80.0), probe(81.0))
    probes.succeeded = 2
    probes.clear()
    assert (len(probes), probes.succeeded, probes.first_lease_at) == (0, 0, FOREVER)
