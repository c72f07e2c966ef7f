"""The table of addresses, row by row and against the standard library, and what carries IPv4."""

import ipaddress
import random
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from support.spellings import class_of

from proxy.core.address import (
    CARRIERS,
    TABLE,
    AddressClass,
    IpAddress,
    Network,
    canonical,
    carried_by,
    classes_of,
)

PUBLIC = AddressClass.PUBLIC
LOOPBACK = AddressClass.LOOPBACK
PRIVATE = AddressClass.PRIVATE
SHARED = AddressClass.SHARED
LINK_LOCAL = AddressClass.LINK_LOCAL
METADATA = AddressClass.METADATA
MULTICAST = AddressClass.MULTICAST
UNSPECIFIED = AddressClass.UNSPECIFIED
RESERVED = AddressClass.RESERVED

# Network, what it is, what is just before and just behind it; None where there is nothing.
ROWS: tuple[tuple[str, AddressClass, AddressClass | None, AddressClass | None], ...] = (
    ("169.254.169.254/32", METADATA, LINK_LOCAL, LINK_LOCAL),
    ("169.254.170.2/32", METADATA, LINK_LOCAL, LINK_LOCAL),
    ("169.254.170.23/32", METADATA, LINK_LOCAL, LINK_LOCAL),
    ("169.254.0.23/32", METADATA, LINK_LOCAL, LINK_LOCAL),
    ("169.254.42.42/32", METADATA, LINK_LOCAL, LINK_LOCAL),
    ("100.100.100.200/32", METADATA, SHARED, SHARED),
    ("168.63.129.16/32", METADATA, PUBLIC, PUBLIC),
    ("192.0.0.192/32", METADATA, RESERVED, RESERVED),
    ("0.0.0.0/32", UNSPECIFIED, None, RESERVED),
    ("0.0.0.0/8", RESERVED, None, PUBLIC),
    ("10.0.0.0/8", PRIVATE, PUBLIC, PUBLIC),
    ("100.64.0.0/10", SHARED, PUBLIC, PUBLIC),
    ("127.0.0.0/8", LOOPBACK, PUBLIC, PUBLIC),
    ("169.254.0.0/16", LINK_LOCAL, PUBLIC, PUBLIC),
    ("172.16.0.0/12", PRIVATE, PUBLIC, PUBLIC),
    ("192.0.0.0/24", RESERVED, PUBLIC, PUBLIC),
    ("192.0.2.0/24", RESERVED, PUBLIC, PUBLIC),
    ("192.88.99.0/24", RESERVED, PUBLIC, PUBLIC),
    ("192.168.0.0/16", PRIVATE, PUBLIC, PUBLIC),
    ("198.18.0.0/15", RESERVED, PUBLIC, PUBLIC),
    ("198.51.100.0/24", RESERVED, PUBLIC, PUBLIC),
    ("203.0.113.0/24", RESERVED, PUBLIC, PUBLIC),
    ("224.0.0.0/4", MULTICAST, PUBLIC, RESERVED),
    ("240.0.0.0/4", RESERVED, MULTICAST, None),
    ("fd00:ec2::/32", METADATA, PRIVATE, PRIVATE),
    ("fd20:ce::254/128", METADATA, PRIVATE, PRIVATE),
    ("fd00:42::42/128", METADATA, PRIVATE, PRIVATE),
    ("fd00:100::100:200/128", METADATA, PRIVATE, PRIVATE),
    ("fd00:a9fe:a9fe::1/128", METADATA, PRIVATE, PRIVATE),
    ("fd00:c1::a9fe:a9fe/128", METADATA, PRIVATE, PRIVATE),
    ("fe80::a9fe:a9fe/128", METADATA, LINK_LOCAL, LINK_LOCAL),
    ("::/128", UNSPECIFIED, None, LOOPBACK),
    ("::1/128", LOOPBACK, UNSPECIFIED, RESERVED),
    ("64:ff9b:1::/48", PRIVATE, RESERVED, RESERVED),
    ("100::/64", RESERVED, RESERVED, RESERVED),
    ("100:0:0:1::/64", RESERVED, RESERVED, RESERVED),
    ("2001::/23", RESERVED, PUBLIC, PUBLIC),
    ("2001:db8::/32", RESERVED, PUBLIC, PUBLIC),
    ("3fff::/20", RESERVED, PUBLIC, PUBLIC),
    ("2000::/3", PUBLIC, RESERVED, RESERVED),
    ("5f00::/16", RESERVED, RESERVED, RESERVED),
    ("fc00::/7", PRIVATE, RESERVED, RESERVED),
    ("fe80::/10", LINK_LOCAL, RESERVED, PRIVATE),
    ("fec0::/10", PRIVATE, LINK_LOCAL, MULTICAST),
    ("ff00::/8", MULTICAST, PRIVATE, None),
    ("::/0", RESERVED, None, None),
)


# Of which only counts what it carries.
TEREDO = IPv6Network("2001::/32")


def test_each_row_of_the_table_is_tested() -> None:
    assert [(str(network), kind) for network, kind, _ in TABLE] == [(row[0], row[1]) for row in ROWS]


def neighbour(address: IpAddress, step: int) -> IpAddress | None:
    bits = int(address) + step
    return type(address)(bits) if 0 <= bits < 1 << address.max_prefixlen else None


@pytest.mark.parametrize(("written", "kind", "before", "behind"), ROWS)
def test_a_row_holds_its_network_and_no_more(
    written: str, kind: AddressClass, before: AddressClass | None, behind: AddressClass | None
) -> None:
    network = ip_network(written)
    first, last = network[0], network[-1]
    narrower = [one for one, _, _ in TABLE if one.prefixlen > network.prefixlen]
    for address in (first, last, network[network.num_addresses // 2]):
        if not any(address in one for one in (*narrower, TEREDO)):
            assert class_of(address) is kind
    assert [
        None if outside is None else class_of(outside)
        for outside in (neighbour(first, -1), neighbour(last, 1))
    ] == [before, behind]


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "93.184.216.34", "223.255.255.255", "126.255.255.255", "128.0.0.0"),
        # Anycast that IANA registers as special and globally reachable: AS112, and relays of multicast.
        *("192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1"),
        *("2001:4860:4860::8888", "2606:4700::1111", "2000::", "2a00::1", "2001:200::"),
    ],
)
def test_what_no_row_names_is_public(address: str) -> None:
    assert classes_of(ip_address(address)) == (PUBLIC,)


@pytest.mark.parametrize(
    ("address", "carried", "kinds"),
    [
        ("::ffff:10.0.0.1", ["10.0.0.1"], [PRIVATE]),
        ("::ffff:8.8.8.8", ["8.8.8.8"], [PUBLIC]),
        ("64:ff9b::169.254.169.254", ["169.254.169.254"], [METADATA]),
        ("64:ff9b::8.8.8.8", ["8.8.8.8"], [PUBLIC]),
        ("2002:7f00:1::", ["127.0.0.1"], [LOOPBACK]),
        ("2002:808:808:1:2:3:4:5", ["8.8.8.8"], [PUBLIC]),
        # RFC 4380 section 4: the client's address has its bits flipped.
        ("2001:0:808:808:0:ffff:f5ff:fffe", ["8.8.8.8", "10.0.0.1"], [PUBLIC, PRIVATE]),
        ("2001:0:a00:1:0:ffff:f7f7:f7f7", ["10.0.0.1", "8.8.8.8"], [PRIVATE, PUBLIC]),
        ("2001:0:808:808:0:ffff:f7f7:f7f7", ["8.8.8.8", "8.8.8.8"], [PUBLIC, PUBLIC]),
        ("::ffff:0:192.168.0.1", ["192.168.0.1"], [RESERVED, PRIVATE]),
        ("::ffff:0:8.8.8.8", ["8.8.8.8"], [RESERVED, PUBLIC]),
        ("::127.0.0.1", ["127.0.0.1"], [RESERVED, LOOPBACK]),
        ("::8.8.8.8", ["8.8.8.8"], [RESERVED, PUBLIC]),
        # RFC 4291 section 2.5.5.1: what it has in ::/96 besides is no IPv4 address.
        ("::1", [], [LOOPBACK]),
        ("::", [], [UNSPECIFIED]),
        ("::2", ["0.0.0.2"], [RESERVED, RESERVED]),
        (
            "64:ff9b:1::169.254.169.254",
            ["169.254.169.254", "0.0.0.0", "0.0.0.0", "0.0.0.169"],
            [PRIVATE, METADATA, UNSPECIFIED, UNSPECIFIED, RESERVED],
        ),
        # The examples of RFC 6052 section 2.4 for prefixes of 48, 56 and 64 bits.
        (
            "64:ff9b:1:c000:2:2100::",
            ["0.0.0.0", "192.0.2.33", "0.2.33.0", "2.33.0.0"],
            [PRIVATE, UNSPECIFIED, RESERVED, RESERVED, PUBLIC],
        ),
        (
            "64:ff9b:1:3c0:0:221::",
            ["0.0.0.0", "3.192.0.2", "192.0.2.33", "0.2.33.0"],
            [PRIVATE, UNSPECIFIED, PUBLIC, RESERVED, RESERVED],
        ),
        (
            "64:ff9b:1:344:c0:2:2100::",
            ["33.0.0.0", "3.68.192.0", "68.192.0.2", "192.0.2.33"],
            [PRIVATE, PUBLIC, PUBLIC, PUBLIC, RESERVED],
        ),
        ("2a00::5efe:10.0.0.1", ["10.0.0.1"], [PUBLIC, PRIVATE]),
        ("2a00::200:5efe:8.8.8.8", ["8.8.8.8"], [PUBLIC, PUBLIC]),
        ("fe80::5efe:8.8.8.8", ["8.8.8.8"], [LINK_LOCAL, PUBLIC]),
        ("2a00::300:5efe:10.0.0.1", [], [PUBLIC]),
        # One within the other.
        ("2002:808:808::5efe:10.0.0.1", ["8.8.8.8", "10.0.0.1"], [PUBLIC, PRIVATE]),
        ("2002:a00:1::200:5efe:8.8.8.8", ["10.0.0.1", "8.8.8.8"], [PRIVATE, PUBLIC]),
        # Beside a carrier, not of it.
        ("::fffe:10.0.0.1", [], [RESERVED]),
        ("64:ff9b::1:10.0.0.1", [], [RESERVED]),
        ("64:ff9b:2::10.0.0.1", [], [RESERVED]),
        ("2003:a00:1::", [], [PUBLIC]),
        ("10.0.0.1", [], [PRIVATE]),
    ],
)
def test_what_is_carried(address: str, carried: list[str], kinds: list[AddressClass]) -> None:
    parsed = ip_address(address)
    assert list(map(str, carried_by(parsed))) == carried
    assert classes_of(parsed) == tuple(kinds)
    assert class_of(parsed) is next((kind for kind in kinds if kind is not PUBLIC), PUBLIC)


# Ours and not the library's to call public: it looks at the carrier, we at what is inside.
OPENED = [
    network for network, _, _, what in CARRIERS if what.startswith(("IPv4-mapped", "NAT64 (", "Teredo"))
]


def drawn_addresses() -> Iterator[IpAddress]:
    """The edges of all networks of the table and of the library, and a few hundred thousand by chance."""
    chance = random.Random(5)  # noqa: S311 -- the same ones in each run
    networks: list[IPv4Network | IPv6Network] = [network for network, _, _ in TABLE]
    networks += [network for network, *_ in CARRIERS]
    networks += ipaddress._IPv4Constants._private_networks  # type: ignore[attr-defined]  # noqa: SLF001
    networks += ipaddress._IPv6Constants._private_networks  # type: ignore[attr-defined]  # noqa: SLF001
    for network in networks:
        for edge in (network[0], network[-1]):
            yield from filter(None, (neighbour(edge, step) for step in range(-2, 3)))
        size = network.num_addresses
        yield from (network[chance.randrange(size)] for _ in range(500))
    yield from (IPv4Address(chance.getrandbits(32)) for _ in range(100_000))
    yield from (IPv6Address(chance.getrandbits(128)) for _ in range(50_000))
    yield from (IPv6Address(1 << 125 | chance.getrandbits(125)) for _ in range(50_000))
    # Few bits set: near the special ones.
    yield from (IPv6Address(chance.getrandbits(16) << 16 * chance.randrange(8)) for _ in range(20_000))


def test_nothing_is_public_that_the_library_does_not_call_global() -> None:
    count = 0
    wrong = []
    for address in drawn_addresses():
        count += 1
        if class_of(address) is PUBLIC and not address.is_global:
            inside = carried_by(address)
            if not (any(address in network for network in OPENED) and all(one.is_global for one in inside)):
                wrong.append(address)
    assert wrong == []
    assert count > 200_000


@pytest.mark.parametrize(
    ("written", "inside", "outside", "shown"),
    [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.0", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.7/32"),
        ("10.0.0.0/255.0.0.0", "10.1.1.1", "::a00:1", "10.0.0.0/8"),
        ("fd00::/8", "fdff::1", "fc00::1", "fd00::/8"),
        ("FD00::1", "fd00::1", "fd00::2", "fd00::1/128"),
        ("0.0.0.0/0", "255.255.255.255", "::", "0.0.0.0/0"),
        ("::/0", "::1", "10.0.0.1", "::/0"),
        # `canonical` makes IPv4 addresses of mapped ones: a network of those would never be met.
        ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.7/32"),
        ("::ffff:0:0/96", "203.0.113.9", "::1", "0.0.0.0/0"),
    ],
)
def test_a_network(written: str, inside: str, outside: str, shown: str) -> None:
    network = Network.parse(written)
    assert canonical(inside) in network
    assert canonical(outside) not in network
    assert str(network) == shown
    assert Network.parse(shown) == network


@pytest.mark.parametrize(
    "written",
    [
        *("", "a", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "127.1", "0x7f.0.0.1", "010.0.0.1", " 10.0.0.1"),
        *("fe80::1%eth0", "fe80::%1/64", "[::1]", "::1/129", "10.0.0.0/8,", "10.0.0.0-10.0.0.9"),
        *(10, 10.1, True, None, ["10.0.0.0/8"]),
    ],
)
def test_what_is_no_network(written: object) -> None:
    with pytest.raises(ValueError, match="expected an address or a network such as") as refused:
        Network.parse(written)
    assert repr(written)[:60] in str(refused.value)


def test_host_bits_are_told() -> None:
    with pytest.raises(ValueError, match=r"got '10\.0\.0\.1/8' \(10\.0\.0\.1/8 has host bits set\)"):
        Network.parse("10.0.0.1/8")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("10.0.0.1", IPv4Address("10.0.0.1")),
        ("::ffff:10.0.0.1", IPv4Address("10.0.0.1")),
        ("::FFFF:a00:1", IPv4Address("10.0.0.1")),
        ("2001:DB8::1", IPv6Address("2001:db8::1")),
        # As getsockname and getifaddrs give them.
        ("fe80::1%eth0", IPv6Address("fe80::1")),
        ("::ffff:0:10.0.0.1", IPv6Address("::ffff:0:10.0.0.1")),
    ],
)
def test_the_canonical_address(written: str, address: IpAddress) -> None:
    assert canonical(written) == address


@pytest.mark.parametrize("written", ["", "a", "127.1", "10.0.0.0/8", "[::1]", "%eth0"])
def test_what_is_no_address(written: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        canonical(written)
