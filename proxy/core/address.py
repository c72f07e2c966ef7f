"""What kind of address an address is: one table, after IANA's registries of special-purpose addresses.

An IPv6 address can carry an IPv4 address through a translator or a tunnel, so that a public one leads inside.
Such an address is what it is itself, and what it carries. What no row names is public for IPv4, and for IPv6
only within 2000::/3: of the rest nothing has been assigned (RFC 4291 section 2.4).

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), which include RFC 9602, 9637
and 9780; the multicast ranges of RFC 5771 and RFC 4291; the documentation of the clouds for their metadata
services.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

IpAddress = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


class AddressClass(Enum):
    """What an address is for. Only `public` ones are reachable from anywhere."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    SHARED = "shared"
    LINK_LOCAL = "link_local"
    METADATA = "metadata"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    RESERVED = "reserved"

    __hash__ = object.__hash__


_C = AddressClass

# The first row that an address is in counts, so the narrower ones come first.
TABLE: tuple[tuple[_Network, AddressClass, str], ...] = tuple(
    (ip_network(network), kind, what)
    for network, kind, what in (
        ("169.254.169.254/32", _C.METADATA, "instance metadata of AWS, Azure, Google, Oracle, OpenStack"),
        ("169.254.170.2/32", _C.METADATA, "task credentials of AWS ECS"),
        ("169.254.170.23/32", _C.METADATA, "Pod identity of AWS EKS"),
        ("169.254.0.23/32", _C.METADATA, "instance metadata of Tencent"),
        ("169.254.42.42/32", _C.METADATA, "instance metadata of Scaleway"),
        ("100.100.100.200/32", _C.METADATA, "instance metadata of Alibaba"),
        ("168.63.129.16/32", _C.METADATA, "the wire server of Azure, in a public range"),
        ("192.0.0.192/32", _C.METADATA, "instance metadata of Oracle's first cloud"),
        ("0.0.0.0/32", _C.UNSPECIFIED, "this host (RFC 1122), which Linux connects to itself"),
        ("0.0.0.0/8", _C.RESERVED, "this network (RFC 791)"),
        ("10.0.0.0/8", _C.PRIVATE, "RFC 1918"),
        ("100.64.0.0/10", _C.SHARED, "carrier-grade NAT (RFC 6598)"),
        ("127.0.0.0/8", _C.LOOPBACK, "RFC 1122"),
        ("169.254.0.0/16", _C.LINK_LOCAL, "RFC 3927"),
        ("172.16.0.0/12", _C.PRIVATE, "RFC 1918"),
        ("192.0.0.0/24", _C.RESERVED, "IETF protocol assignments (RFC 6890)"),
        ("192.0.2.0/24", _C.RESERVED, "documentation (RFC 5737)"),
        ("192.88.99.0/24", _C.RESERVED, "6to4 relay anycast, deprecated (RFC 7526)"),
        ("192.168.0.0/16", _C.PRIVATE, "RFC 1918"),
        ("198.18.0.0/15", _C.RESERVED, "benchmarking (RFC 2544)"),
        ("198.51.100.0/24", _C.RESERVED, "documentation (RFC 5737)"),
        ("203.0.113.0/24", _C.RESERVED, "documentation (RFC 5737)"),
        ("224.0.0.0/4", _C.MULTICAST, "RFC 5771"),
        ("240.0.0.0/4", _C.RESERVED, "reserved (RFC 1112), with the limited broadcast"),
        ("fd00:ec2::/32", _C.METADATA, "the local services of AWS"),
        ("fd20:ce::254/128", _C.METADATA, "instance metadata of Google"),
        ("fd00:42::42/128", _C.METADATA, "instance metadata of Scaleway"),
        ("fd00:100::100:200/128", _C.METADATA, "instance metadata of Alibaba"),
        ("fd00:a9fe:a9fe::1/128", _C.METADATA, "instance metadata of Akamai (Linode)"),
        ("fd00:c1::a9fe:a9fe/128", _C.METADATA, "instance metadata of Oracle"),
        ("fe80::a9fe:a9fe/128", _C.METADATA, "instance metadata of OpenStack"),
        ("::/128", _C.UNSPECIFIED, "RFC 4291, which Linux connects to itself"),
        ("::1/128", _C.LOOPBACK, "RFC 4291"),
        ("64:ff9b:1::/48", _C.PRIVATE, "translation within a site (RFC 8215)"),
        ("100::/64", _C.RESERVED, "discard (RFC 6666)"),
        ("100:0:0:1::/64", _C.RESERVED, "dummy prefix (RFC 9780)"),
        ("2001::/23", _C.RESERVED, "IETF protocol assignments (RFC 2928); for Teredo, within it, see below"),
        ("2001:db8::/32", _C.RESERVED, "documentation (RFC 3849)"),
        ("3fff::/20", _C.RESERVED, "documentation (RFC 9637)"),
        ("2000::/3", _C.PUBLIC, "global unicast (RFC 4291)"),
        ("5f00::/16", _C.RESERVED, "segment routing (RFC 9602)"),
        ("fc00::/7", _C.PRIVATE, "unique local (RFC 4193)"),
        ("fe80::/10", _C.LINK_LOCAL, "RFC 4291"),
        ("fec0::/10", _C.PRIVATE, "site-local, deprecated (RFC 3879)"),
        ("ff00::/8", _C.MULTICAST, "RFC 4291"),
        ("::/0", _C.RESERVED, "not assigned"),
    )
)

# For each version the first address, the mask and the class of each row: this is asked at each connection.
_ROWS = {
    version: tuple(
        (int(network.network_address), int(network.netmask), kind)
        for network, kind, _ in TABLE
        if network.version == version
    )
    for version in (4, 6)
}
_ALL_ONES = 0xFFFF_FFFF

# IPv6 that carries IPv4: the network, how far the IPv4 address is shifted, and whether its bits are flipped.
_LAST = 0
CARRIERS: tuple[tuple[IPv6Network, int, int, str], ...] = tuple(
    (IPv6Network(network), shift, flip, what)
    for network, shift, flip, what in (
        ("::ffff:0:0/96", _LAST, 0, "IPv4-mapped (RFC 4291)"),
        ("64:ff9b::/96", _LAST, 0, "NAT64 (RFC 6052)"),
        ("2002::/16", 80, 0, "6to4 (RFC 3056)"),
        ("2001::/32", 64, 0, "Teredo, its server (RFC 4380)"),
        ("2001::/32", _LAST, _ALL_ONES, "Teredo, its client (RFC 4380)"),
        ("::ffff:0:0:0/96", _LAST, 0, "IPv4-translated (RFC 7915)"),
        ("::/96", _LAST, 0, "IPv4-compatible, deprecated (RFC 4291); not `::` and `::1`"),
        ("64:ff9b:1::/48", _LAST, 0, "NAT64 within a site (RFC 8215)"),
    )
)
# RFC 4291 section 2.5.5.1: the unspecified address and loopback are in ::/96, and are no IPv4 addresses.
_LAST_OF_NO_IPV4 = 1
# Of these the IPv4 address inside says all.
_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSPARENT = (_MAPPED, *map(IPv6Network, ("64:ff9b::/96", "2002::/16", "2001::/32")))
# RFC 6052 section 2.2: behind a prefix of 48, 56 or 64 bits the IPv4 address leaves out octet 8. Within the
# network of RFC 8215 a site may choose any of these. So far it is shifted then in what remains.
_NAT64_OF_A_SITE = IPv6Network("64:ff9b:1::/48")
_BEHIND_SHORTER_PREFIXES = (40, 32, 24)
# RFC 5214 section 6.1: any prefix, then 00-00-5E-FE or 02-00-5E-FE, then the IPv4 address.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


@dataclass(frozen=True, slots=True)
class Network:
    """A range of addresses in the configuration, such as `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`."""

    range: _Network

    @classmethod
    def parse(cls, value: object) -> Self:
        """Reads the setting.

        Raises:
            ValueError: for anything else; the text says what was expected.
        """
        # A zone is one of this machine's links; no address that is asked about carries one.
        if not isinstance(value, str) or "%" in value:
            raise ValueError(_EXPECTED.format(value))
        try:
            return cls(_unmapped(ip_network(value)))
        except ValueError as error:
            why = f" ({error})" if "host bits" in str(error) else ""
            raise ValueError(_EXPECTED.format(value) + why) from None

    def __contains__(self, address: IpAddress) -> bool:
        return address in self.range

    def __str__(self) -> str:
        return str(self.range)


_EXPECTED = "expected an address or a network such as 10.0.0.0/8 or fd00::/8, got {!r:.60}"


def _unmapped(network: _Network) -> _Network:
    """The IPv4 network that an IPv6 one only maps, since addresses come that way (`canonical`)."""
    if isinstance(network, IPv4Network) or not network.subnet_of(_MAPPED):
        return network
    return IPv4Network((int(network.network_address) & _ALL_ONES, network.prefixlen - _MAPPED.prefixlen))


def canonical(address: str) -> IpAddress:
    """The address that a text means: IPv4 where IPv6 only maps it, and without a zone.

    Raises:
        ValueError: for what is no address.
    """
    parsed = ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return parsed if mapped is None else mapped


def classes_of(address: IpAddress) -> tuple[AddressClass, ...]:
    """All that an address is: its own class, then those of the addresses that it carries."""
    carried = carried_by(address)
    own = () if carried and any(address in one for one in _TRANSPARENT) else (_own_class(address),)
    return (*own, *map(_own_class, carried))


def carried_by(address: IpAddress) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses inside an IPv6 address."""
    bits = int(address)
    if isinstance(address, IPv4Address) or bits <= _LAST_OF_NO_IPV4:
        return ()
    carried = [
        IPv4Address(bits >> shift & _ALL_ONES ^ flip)
        for network, shift, flip, _ in CARRIERS
        if address in network
    ]
    if address in _NAT64_OF_A_SITE:
        without_octet_8 = bits >> 64 << 56 | bits & (1 << 56) - 1
        carried += [IPv4Address(without_octet_8 >> shift & _ALL_ONES) for shift in _BEHIND_SHORTER_PREFIXES]
    if bits >> 32 & _ALL_ONES in _ISATAP:
        carried.append(IPv4Address(bits & _ALL_ONES))
    return tuple(carried)


def _own_class(address: IpAddress) -> AddressClass:
    bits = int(address)
    rows = _ROWS[address.version]
    return next((kind for network, mask, kind in rows if bits & mask == network), _C.PUBLIC)
