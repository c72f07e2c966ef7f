"""Whether an address is in any of many networks."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.address import IpAddress, Network, canonical
from proxy.core.networks import Networks


@pytest.mark.parametrize(
    ("address", "is_in"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("198.51.100.1", True),
        ("::ffff:198.51.100.1", True),
        ("fdff::1", True),
        ("fe00::", False),
        # The same bits as 10.0.0.1, and the same length of prefix as a network above.
        ("::a00:1", False),
        ("a00::", False),
    ],
)
def test_which_addresses_are_in_it(address: str, *, is_in: bool) -> None:
    written = ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "::ffff:198.51.100.0/120", "fd00::/8")
    assert (canonical(address) in Networks(map(Network.parse, written))) is is_in


def test_all_addresses_of_a_version_can_be_in_it() -> None:
    four, six = (Networks([Network.parse(written)]) for written in ("0.0.0.0/0", "::/0"))
    assert [IPv4Address("255.0.0.1") in one for one in (four, six, Networks(()))] == [True, False, False]
    assert [IPv6Address("ff::1") in one for one in (four, six, Networks(()))] == [False, True, False]


# Near each other, so that many an address is in a network of each length.
four_bits = st.one_of(st.integers(0, 15).map(0x0A00_0000.__or__), st.integers(0, 0xFFFF_FFFF))
six_bits = st.one_of(st.integers(0, 15).map((0xFD << 120).__or__), four_bits, st.integers(0, (1 << 128) - 1))
addresses = st.one_of(four_bits.map(IPv4Address), six_bits.map(IPv6Address))


@st.composite
def networks_around(draw: st.DrawFn) -> Network:
    """A network with one of the addresses in it."""
    address = draw(addresses)
    bits, length = int(address), draw(st.integers(0, address.max_prefixlen))
    if isinstance(address, IPv4Address):
        return Network(IPv4Network((bits, length), strict=False))
    return Network(IPv6Network((bits, length), strict=False))


@given(st.lists(networks_around(), max_size=8), addresses)
@example([Network.parse("10.0.0.0/8"), Network.parse("10.0.0.0/31")], IPv4Address("10.0.0.2"))
def test_it_has_what_a_look_at_each_finds(networks: list[Network], address: IpAddress) -> None:
    assert (address in Networks(networks)) is any(address in network for network in networks)
