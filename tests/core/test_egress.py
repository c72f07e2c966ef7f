"""What the egress guard does where nothing is written; the file is tested in tests/control."""

from dataclasses import FrozenInstanceError

import pytest

from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress, HostRules, Hosts, SniRules
from proxy.core.host_pattern import HostPattern
from proxy.core.ports import ANY_PORT


def test_public_addresses_of_any_host_at_any_port_unless_something_is_written() -> None:
    egress = Egress()
    assert egress.addresses is AllowedAddresses.PUBLIC
    assert (egress.allow, egress.deny) == ((), ())
    assert egress.hosts == Hosts(allow=(HostPattern("*"),), deny=(), mode=HostRules.ENFORCE)
    assert egress.connect_ports == ANY_PORT
    assert egress.sni is SniRules.REPORT


@pytest.mark.parametrize("host", ["a", "a.example", "192.0.2.1", "2001:db8::1"])
def test_any_host_may_be_named_unless_something_is_written(host: str) -> None:
    assert [pattern.matches(host, 443) for pattern in Egress().hosts.allow] == [True]


def test_the_words_of_the_file() -> None:
    assert [one.value for one in AllowedAddresses] == ["public", "no-metadata", "any"]
    assert [one.value for one in HostRules] == ["enforce", "report"]
    assert [one.value for one in SniRules] == ["enforce", "report"]


def test_a_policy_is_a_value() -> None:
    # It is part of the key of pooled connections.
    one, same = (Egress(allow=(Network.parse("10.0.0.0/8"),)) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)
    assert one != Egress(deny=(Network.parse("10.0.0.0/8"),))
    with pytest.raises(FrozenInstanceError):
        one.deny = ()  # type: ignore[misc]
