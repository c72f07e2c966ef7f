"""The past of circuits, which goes with them."""

import gc

from support.api import AdminPort
from support.circuits import HOST

from proxy.control.history import MOST_OF_A_CIRCUIT
from proxy.core.overrides import Force
from proxy.core.policy import Limits
from proxy.core.states import Trigger


def test_of_each_circuit_the_latest_are_kept_oldest_first() -> None:
    port = AdminPort()
    circuits = port.rig.circuits
    for number in range(MOST_OF_A_CIRCUIT + 5):
        circuits.force(HOST, port.rig.policy, Force.OPEN, number, note=str(number))
    circuits.force("b.test:80", port.rig.policy, Force.CLOSED, 99)
    past = port.history.of(port.rig.circuit())
    assert [each.note for each in past] == [str(number) for number in range(5, MOST_OF_A_CIRCUIT + 5)]
    assert port.history.last(port.rig.circuit()) is past[-1]
    (other,) = port.history.of(port.rig.circuit("b.test:80"))
    assert other.trigger is Trigger.FORCED_CLOSED


def test_a_circuit_that_never_changed_has_none() -> None:
    port = AdminPort()
    port.rig.fail(1, 0)
    assert port.history.of(port.rig.circuit()) == ()
    assert port.history.last(port.rig.circuit()) is None


def test_it_goes_with_the_circuit_and_the_next_of_the_key_has_none() -> None:
    port = AdminPort(limits=Limits(max_circuits=1))
    circuits = port.rig.circuits
    for number in range(100):
        circuits.force(f"{number}.test:80", port.rig.policy, Force.OPEN, number)
        circuits.reset(f"{number}.test:80", number)
    gc.collect()
    assert len(port.history) == len(circuits) == 1
    port.rig.fail(1, 200, "0.test:80")
    assert port.history.of(port.rig.circuit("0.test:80")) == ()
