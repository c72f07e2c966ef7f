"""The queue of half-open circuits that nobody calls."""

from support.circuits import Rig

from proxy.core.breaker import Circuit
from proxy.core.eviction import Abandoned


def opened(at: float, *keys: str) -> dict[str, Circuit]:
    rig = Rig()
    for key in keys:
        rig.fail(5, at, key)
    return {key: rig.circuit(key) for key in keys}


def test_the_one_that_was_left_alone_for_longest_is_found() -> None:
    table = opened(0.0, "b") | opened(-10.0, "a")
    abandoned = Abandoned(table)
    for circuit in table.values():
        abandoned.add(circuit)
        abandoned.add(circuit)
    assert len(abandoned) == 2
    assert abandoned.find(100.0, 119.9) is None
    assert abandoned.find(100.0, 130.0) is table["a"]


def test_it_does_not_grow_with_the_circuits_that_have_left() -> None:
    table: dict[str, Circuit] = {}
    abandoned = Abandoned(table)
    for number in range(1000):
        table.clear()
        table.update(opened(0.0, f"{number}"))
        abandoned.add(table[f"{number}"])
        assert len(abandoned) <= 67
    assert abandoned.find(1.0, 1000.0) is table["999"]
