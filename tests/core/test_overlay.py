"""What differs for some upstreams."""

from proxy.core.egress import Egress, HostRules, Hosts
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy
from proxy.core.quantities import Seconds


def test_only_what_was_written_differs() -> None:
    base = CircuitPolicy(consecutive_failures=7)
    assert Overlay[CircuitPolicy]({"open": Seconds(1)}).onto(base) == CircuitPolicy(
        consecutive_failures=7, open=Seconds(1)
    )
    assert Overlay[CircuitPolicy]().onto(base) is base


def test_a_section_of_a_section_differs_only_in_what_was_written() -> None:
    denied = (HostPattern("denied.example"),)
    base = Egress(hosts=Hosts(deny=denied, mode=HostRules.REPORT))
    laid = Overlay[Egress]({"hosts": Overlay[Hosts]({"mode": HostRules.ENFORCE})}).onto(base)
    assert laid == Egress(hosts=Hosts(deny=denied))
