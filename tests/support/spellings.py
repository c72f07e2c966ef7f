"""How clients write hosts, what each means, and where it may lead: one table for all that judge hosts.

The expected values are written out and not computed, so that a fault in the table of addresses or in the
rules cannot hide in its own test.
"""

from typing import NamedTuple

from proxy.core.address import AddressClass, IpAddress, classes_of


def class_of(address: IpAddress) -> AddressClass:
    """The class of an address; of one that carries another, the first that is not public."""
    return next(
        (kind for kind in classes_of(address) if kind is not AddressClass.PUBLIC), AddressClass.PUBLIC
    )


class Allowed(NamedTuple):
    """Whether an address may be called, under each word of `egress.addresses`."""

    public: bool
    no_metadata: bool
    any: bool


class Spelling(NamedTuple):
    """One host.

    Attributes:
        written: the authority of a request, as the client writes it.
        host: normalised; None if the request is refused with 400.
        kind: what `class_of` says of the address; None for a name.
        allowed: None for a name, of which its addresses decide.
    """

    written: str
    host: str | None
    kind: AddressClass | None = None
    allowed: Allowed | None = None


YES = Allowed(public=True, no_metadata=True, any=True)
INSIDE = Allowed(public=False, no_metadata=True, any=True)
ONLY_ANY = Allowed(public=False, no_metadata=False, any=True)

PUBLIC = AddressClass.PUBLIC
LOOPBACK = AddressClass.LOOPBACK
PRIVATE = AddressClass.PRIVATE
SHARED = AddressClass.SHARED
LINK_LOCAL = AddressClass.LINK_LOCAL
METADATA = AddressClass.METADATA
MULTICAST = AddressClass.MULTICAST
UNSPECIFIED = AddressClass.UNSPECIFIED
RESERVED = AddressClass.RESERVED

IPV4 = (
    Spelling("8.8.8.8", "8.8.8.8", PUBLIC, YES),
    Spelling("8.8.8.8.", "8.8.8.8", PUBLIC, YES),
    Spelling("8.8.8.8:443", "8.8.8.8", PUBLIC, YES),
    Spelling("8.8.8.8:", "8.8.8.8", PUBLIC, YES),
    Spelling("8.8.8.8.:00080", "8.8.8.8", PUBLIC, YES),
    Spelling("1.0.0.0", "1.0.0.0", PUBLIC, YES),
    Spelling("9.255.255.255", "9.255.255.255", PUBLIC, YES),
    Spelling("10.0.0.0", "10.0.0.0", PRIVATE, INSIDE),
    Spelling("10.255.255.255", "10.255.255.255", PRIVATE, INSIDE),
    Spelling("11.0.0.0", "11.0.0.0", PUBLIC, YES),
    Spelling("100.63.255.255", "100.63.255.255", PUBLIC, YES),
    Spelling("100.64.0.0", "100.64.0.0", SHARED, INSIDE),
    Spelling("100.127.255.255", "100.127.255.255", SHARED, INSIDE),
    Spelling("100.128.0.0", "100.128.0.0", PUBLIC, YES),
    Spelling("126.255.255.255", "126.255.255.255", PUBLIC, YES),
    Spelling("127.0.0.0", "127.0.0.0", LOOPBACK, INSIDE),
    Spelling("127.0.0.1", "127.0.0.1", LOOPBACK, INSIDE),
    Spelling("127.0.0.1.", "127.0.0.1", LOOPBACK, INSIDE),
    Spelling("127.0.0.1:3128", "127.0.0.1", LOOPBACK, INSIDE),
    Spelling("127.0.0.53", "127.0.0.53", LOOPBACK, INSIDE),
    Spelling("127.1.1.1", "127.1.1.1", LOOPBACK, INSIDE),
    Spelling("127.255.255.255", "127.255.255.255", LOOPBACK, INSIDE),
    Spelling("128.0.0.0", "128.0.0.0", PUBLIC, YES),
    Spelling("169.253.255.255", "169.253.255.255", PUBLIC, YES),
    Spelling("169.254.0.0", "169.254.0.0", LINK_LOCAL, ONLY_ANY),
    Spelling("169.254.20.10", "169.254.20.10", LINK_LOCAL, ONLY_ANY),
    Spelling("169.254.255.255", "169.254.255.255", LINK_LOCAL, ONLY_ANY),
    Spelling("169.255.0.0", "169.255.0.0", PUBLIC, YES),
    Spelling("172.15.255.255", "172.15.255.255", PUBLIC, YES),
    Spelling("172.16.0.0", "172.16.0.0", PRIVATE, INSIDE),
    Spelling("172.17.0.1", "172.17.0.1", PRIVATE, INSIDE),
    Spelling("172.31.255.255", "172.31.255.255", PRIVATE, INSIDE),
    Spelling("172.32.0.0", "172.32.0.0", PUBLIC, YES),
    Spelling("191.255.255.255", "191.255.255.255", PUBLIC, YES),
    Spelling("192.0.0.0", "192.0.0.0", RESERVED, INSIDE),
    Spelling("192.0.0.170", "192.0.0.170", RESERVED, INSIDE),
    Spelling("192.0.0.255", "192.0.0.255", RESERVED, INSIDE),
    Spelling("192.0.1.0", "192.0.1.0", PUBLIC, YES),
    Spelling("192.0.2.0", "192.0.2.0", RESERVED, INSIDE),
    Spelling("192.0.2.255", "192.0.2.255", RESERVED, INSIDE),
    Spelling("192.0.3.0", "192.0.3.0", PUBLIC, YES),
    Spelling("192.31.196.1", "192.31.196.1", PUBLIC, YES),
    Spelling("192.52.193.1", "192.52.193.1", PUBLIC, YES),
    Spelling("192.88.98.255", "192.88.98.255", PUBLIC, YES),
    Spelling("192.88.99.1", "192.88.99.1", RESERVED, INSIDE),
    Spelling("192.88.100.0", "192.88.100.0", PUBLIC, YES),
    Spelling("192.167.255.255", "192.167.255.255", PUBLIC, YES),
    Spelling("192.168.0.0", "192.168.0.0", PRIVATE, INSIDE),
    Spelling("192.168.255.255", "192.168.255.255", PRIVATE, INSIDE),
    Spelling("192.169.0.0", "192.169.0.0", PUBLIC, YES),
    Spelling("192.175.48.1", "192.175.48.1", PUBLIC, YES),
    Spelling("198.17.255.255", "198.17.255.255", PUBLIC, YES),
    Spelling("198.18.0.0", "198.18.0.0", RESERVED, INSIDE),
    Spelling("198.19.255.255", "198.19.255.255", RESERVED, INSIDE),
    Spelling("198.20.0.0", "198.20.0.0", PUBLIC, YES),
    Spelling("198.51.99.255", "198.51.99.255", PUBLIC, YES),
    Spelling("198.51.100.0", "198.51.100.0", RESERVED, INSIDE),
    Spelling("198.51.101.0", "198.51.101.0", PUBLIC, YES),
    Spelling("203.0.112.255", "203.0.112.255", PUBLIC, YES),
    Spelling("203.0.113.255", "203.0.113.255", RESERVED, INSIDE),
    Spelling("203.0.114.0", "203.0.114.0", PUBLIC, YES),
    Spelling("223.255.255.255", "223.255.255.255", PUBLIC, YES),
    Spelling("224.0.0.0", "224.0.0.0", MULTICAST, INSIDE),
    Spelling("224.0.0.251", "224.0.0.251", MULTICAST, INSIDE),
    Spelling("239.255.255.255", "239.255.255.255", MULTICAST, INSIDE),
    Spelling("240.0.0.0", "240.0.0.0", RESERVED, INSIDE),
    Spelling("255.255.255.254", "255.255.255.254", RESERVED, INSIDE),
    Spelling("255.255.255.255", "255.255.255.255", RESERVED, INSIDE),
    Spelling("0.0.0.0", "0.0.0.0", UNSPECIFIED, INSIDE),
    Spelling("0.0.0.0.", "0.0.0.0", UNSPECIFIED, INSIDE),
    Spelling("0.0.0.1", "0.0.0.1", RESERVED, INSIDE),
    Spelling("0.255.255.255", "0.255.255.255", RESERVED, INSIDE),
)

METADATA_SERVICES = (
    # AWS, Azure, Google, Oracle, IBM, DigitalOcean, Hetzner, Akamai, OpenStack and others.
    Spelling("169.254.169.254", "169.254.169.254", METADATA, ONLY_ANY),
    Spelling("169.254.169.254.:80", "169.254.169.254", METADATA, ONLY_ANY),
    # AWS: ECS, EKS, and beside them its name and time services.
    Spelling("169.254.170.2", "169.254.170.2", METADATA, ONLY_ANY),
    Spelling("169.254.170.23", "169.254.170.23", METADATA, ONLY_ANY),
    Spelling("169.254.169.253", "169.254.169.253", LINK_LOCAL, ONLY_ANY),
    Spelling("169.254.169.123", "169.254.169.123", LINK_LOCAL, ONLY_ANY),
    Spelling("[fd00:ec2::254]", "fd00:ec2::254", METADATA, ONLY_ANY),
    Spelling("[FD00:0EC2:0:0:0:0:0:0254]", "fd00:ec2::254", METADATA, ONLY_ANY),
    Spelling("[fd00:ec2::23]", "fd00:ec2::23", METADATA, ONLY_ANY),
    Spelling("[fd00:ec2::253]", "fd00:ec2::253", METADATA, ONLY_ANY),
    Spelling("[fd00:ec3::254]", "fd00:ec3::254", PRIVATE, INSIDE),
    # Google.
    Spelling("[fd20:ce::254]:80", "fd20:ce::254", METADATA, ONLY_ANY),
    Spelling("[fd20:ce::253]", "fd20:ce::253", PRIVATE, INSIDE),
    # Azure's wire server.
    Spelling("168.63.129.16", "168.63.129.16", METADATA, ONLY_ANY),
    Spelling("168.63.129.15", "168.63.129.15", PUBLIC, YES),
    Spelling("168.63.129.17", "168.63.129.17", PUBLIC, YES),
    # Oracle, now and before.
    Spelling("[fd00:c1::a9fe:a9fe]", "fd00:c1::a9fe:a9fe", METADATA, ONLY_ANY),
    Spelling("[fd00:c1::169.254.169.254]", "fd00:c1::a9fe:a9fe", METADATA, ONLY_ANY),
    Spelling("192.0.0.192", "192.0.0.192", METADATA, ONLY_ANY),
    # Alibaba.
    Spelling("100.100.100.200", "100.100.100.200", METADATA, ONLY_ANY),
    Spelling("100.100.100.201", "100.100.100.201", SHARED, INSIDE),
    Spelling("[fd00:100::100:200]", "fd00:100::100:200", METADATA, ONLY_ANY),
    # Akamai, OpenStack, Scaleway, Tencent.
    Spelling("[fd00:a9fe:a9fe::1]", "fd00:a9fe:a9fe::1", METADATA, ONLY_ANY),
    Spelling("[fe80::a9fe:a9fe]", "fe80::a9fe:a9fe", METADATA, ONLY_ANY),
    Spelling("[fe80::169.254.169.254]", "fe80::a9fe:a9fe", METADATA, ONLY_ANY),
    Spelling("169.254.42.42", "169.254.42.42", METADATA, ONLY_ANY),
    Spelling("[fd00:42::42]", "fd00:42::42", METADATA, ONLY_ANY),
    Spelling("169.254.0.23", "169.254.0.23", METADATA, ONLY_ANY),
)

IPV6 = (
    Spelling("[::]", "::", UNSPECIFIED, INSIDE),
    Spelling("[0:0:0:0:0:0:0:0]", "::", UNSPECIFIED, INSIDE),
    Spelling("[::0.0.0.0]", "::", UNSPECIFIED, INSIDE),
    Spelling("[::1]", "::1", LOOPBACK, INSIDE),
    Spelling("[::1]:443", "::1", LOOPBACK, INSIDE),
    Spelling("[0000:0000:0000:0000:0000:0000:0000:0001]", "::1", LOOPBACK, INSIDE),
    Spelling("[::0.0.0.1]", "::1", LOOPBACK, INSIDE),
    Spelling("[0::1]", "::1", LOOPBACK, INSIDE),
    Spelling("[::2]", "::2", RESERVED, INSIDE),
    Spelling("[64:ff9b:0:ffff:ffff:ffff:ffff:ffff]", "64:ff9b:0:ffff:ffff:ffff:ffff:ffff", RESERVED, INSIDE),
    Spelling("[64:ff9b:1::]", "64:ff9b:1::", PRIVATE, INSIDE),
    Spelling("[64:ff9b:2::]", "64:ff9b:2::", RESERVED, INSIDE),
    Spelling("[100::1]", "100::1", RESERVED, INSIDE),
    Spelling("[100:0:0:1::1]", "100:0:0:1::1", RESERVED, INSIDE),
    Spelling("[1fff:ffff::]", "1fff:ffff::", RESERVED, INSIDE),
    Spelling("[2000::]", "2000::", PUBLIC, YES),
    Spelling("[2000:ffff::]", "2000:ffff::", PUBLIC, YES),
    Spelling("[2001:1::1]", "2001:1::1", RESERVED, INSIDE),
    Spelling("[2001:2::]", "2001:2::", RESERVED, INSIDE),
    Spelling("[2001:20::1]", "2001:20::1", RESERVED, INSIDE),
    Spelling("[2001:1ff:ffff::]", "2001:1ff:ffff::", RESERVED, INSIDE),
    Spelling("[2001:200::]", "2001:200::", PUBLIC, YES),
    Spelling("[2001:4860:4860::8888]", "2001:4860:4860::8888", PUBLIC, YES),
    Spelling("[2001:4860:4860:0:0:0:0:8888]:443", "2001:4860:4860::8888", PUBLIC, YES),
    Spelling("[2001:DB7:ffff::]", "2001:db7:ffff::", PUBLIC, YES),
    Spelling("[2001:DB8::1]", "2001:db8::1", RESERVED, INSIDE),
    Spelling("[2001:db8:ffff:ffff::]", "2001:db8:ffff:ffff::", RESERVED, INSIDE),
    Spelling("[2001:db9::]", "2001:db9::", PUBLIC, YES),
    Spelling("[2003::1]", "2003::1", PUBLIC, YES),
    Spelling("[2606:4700::1111]", "2606:4700::1111", PUBLIC, YES),
    Spelling("[2620:4f:8000::1]", "2620:4f:8000::1", PUBLIC, YES),
    Spelling("[3ffe:ffff::]", "3ffe:ffff::", PUBLIC, YES),
    Spelling("[3fff::]", "3fff::", RESERVED, INSIDE),
    Spelling("[3fff:fff:ffff::]", "3fff:fff:ffff::", RESERVED, INSIDE),
    Spelling("[3fff:1000::]", "3fff:1000::", PUBLIC, YES),
    Spelling("[4000::]", "4000::", RESERVED, INSIDE),
    Spelling("[5f00::1]", "5f00::1", RESERVED, INSIDE),
    Spelling("[fbff:ffff::]", "fbff:ffff::", RESERVED, INSIDE),
    Spelling("[fc00::]", "fc00::", PRIVATE, INSIDE),
    Spelling("[FD12:3456:789A::1]", "fd12:3456:789a::1", PRIVATE, INSIDE),
    Spelling(
        "[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        PRIVATE,
        INSIDE,
    ),
    Spelling("[fe00::]", "fe00::", RESERVED, INSIDE),
    Spelling("[fe7f:ffff::]", "fe7f:ffff::", RESERVED, INSIDE),
    Spelling("[fe80::1]", "fe80::1", LINK_LOCAL, ONLY_ANY),
    Spelling("[FE80::1]:80", "fe80::1", LINK_LOCAL, ONLY_ANY),
    Spelling("[febf:ffff::]", "febf:ffff::", LINK_LOCAL, ONLY_ANY),
    Spelling("[fec0::1]", "fec0::1", PRIVATE, INSIDE),
    Spelling("[feff:ffff::]", "feff:ffff::", PRIVATE, INSIDE),
    Spelling("[ff00::]", "ff00::", MULTICAST, INSIDE),
    Spelling("[ff02::1]", "ff02::1", MULTICAST, INSIDE),
    Spelling("[ff0e::1]", "ff0e::1", MULTICAST, INSIDE),
)

# IPv6 addresses that lead to an IPv4 address.
CARRIERS = (
    # Mapped.
    Spelling("[::ffff:8.8.8.8]", "8.8.8.8", PUBLIC, YES),
    Spelling("[::ffff:808:808]:443", "8.8.8.8", PUBLIC, YES),
    Spelling("[::ffff:127.0.0.1]", "127.0.0.1", LOOPBACK, INSIDE),
    Spelling("[::FFFF:7F00:1]", "127.0.0.1", LOOPBACK, INSIDE),
    Spelling("[0:0:0:0:0:ffff:127.0.0.1]", "127.0.0.1", LOOPBACK, INSIDE),
    Spelling("[0000:0000:0000:0000:0000:FFFF:7f00:0001]", "127.0.0.1", LOOPBACK, INSIDE),
    Spelling("[0::ffff:10.0.0.1]:3128", "10.0.0.1", PRIVATE, INSIDE),
    Spelling("[::ffff:169.254.169.254]", "169.254.169.254", METADATA, ONLY_ANY),
    Spelling("[::ffff:a9fe:a9fe]", "169.254.169.254", METADATA, ONLY_ANY),
    Spelling("[::ffff:169.254.1.1]", "169.254.1.1", LINK_LOCAL, ONLY_ANY),
    Spelling("[::ffff:100.100.100.200]", "100.100.100.200", METADATA, ONLY_ANY),
    Spelling("[::ffff:100.64.0.1]", "100.64.0.1", SHARED, INSIDE),
    Spelling("[::ffff:0.0.0.0]", "0.0.0.0", UNSPECIFIED, INSIDE),
    Spelling("[::ffff:0:0]", "0.0.0.0", UNSPECIFIED, INSIDE),
    Spelling("[::ffff:224.0.0.1]", "224.0.0.1", MULTICAST, INSIDE),
    Spelling("[::ffff:255.255.255.255]", "255.255.255.255", RESERVED, INSIDE),
    # Compatible.
    Spelling("[::8.8.8.8]", "::808:808", RESERVED, INSIDE),
    Spelling("[::127.0.0.1]", "::7f00:1", RESERVED, INSIDE),
    Spelling("[::7f00:1]", "::7f00:1", RESERVED, INSIDE),
    Spelling("[::169.254.169.254]", "::a9fe:a9fe", RESERVED, ONLY_ANY),
    Spelling("[::a9fe:101]", "::a9fe:101", RESERVED, ONLY_ANY),
    # Translated.
    Spelling("[::ffff:0:8.8.8.8]", "::ffff:0:808:808", RESERVED, INSIDE),
    Spelling("[::ffff:0:127.0.0.1]", "::ffff:0:7f00:1", RESERVED, INSIDE),
    Spelling("[::ffff:0:a9fe:a9fe]", "::ffff:0:a9fe:a9fe", RESERVED, ONLY_ANY),
    # NAT64 by the well-known prefix.
    Spelling("[64:ff9b::8.8.8.8]", "64:ff9b::808:808", PUBLIC, YES),
    Spelling("[64:ff9b::808:808]:80", "64:ff9b::808:808", PUBLIC, YES),
    Spelling("[64:ff9b::10.0.0.1]", "64:ff9b::a00:1", PRIVATE, INSIDE),
    Spelling("[0064:FF9B:0:0:0:0:127.0.0.1]", "64:ff9b::7f00:1", LOOPBACK, INSIDE),
    Spelling("[64:ff9b::169.254.169.254]", "64:ff9b::a9fe:a9fe", METADATA, ONLY_ANY),
    Spelling("[64:ff9b::168.63.129.16]", "64:ff9b::a83f:8110", METADATA, ONLY_ANY),
    Spelling("[64:ff9b::169.254.9.9]", "64:ff9b::a9fe:909", LINK_LOCAL, ONLY_ANY),
    Spelling("[64:ff9b::]", "64:ff9b::", UNSPECIFIED, INSIDE),
    # NAT64 by a prefix of the site: of 96, 48, 56 and 64 bits.
    Spelling("[64:ff9b:1::8.8.8.8]", "64:ff9b:1::808:808", PRIVATE, INSIDE),
    Spelling("[64:ff9b:1::10.0.0.1]", "64:ff9b:1::a00:1", PRIVATE, INSIDE),
    Spelling("[64:ff9b:1::169.254.169.254]", "64:ff9b:1::a9fe:a9fe", PRIVATE, ONLY_ANY),
    Spelling("[64:ff9b:1:ffff::a9fe:a9fe]", "64:ff9b:1:ffff::a9fe:a9fe", PRIVATE, ONLY_ANY),
    Spelling("[64:ff9b:1:a9fe:a9:fe00::]", "64:ff9b:1:a9fe:a9:fe00::", PRIVATE, ONLY_ANY),
    Spelling("[64:ff9b:1:a9:fe:a9fe::]", "64:ff9b:1:a9:fe:a9fe::", PRIVATE, ONLY_ANY),
    Spelling("[64:ff9b:1:5:a9:fea9:fe00:0]", "64:ff9b:1:5:a9:fea9:fe00:0", PRIVATE, ONLY_ANY),
    Spelling("[64:ff9b:1:808:8:800::]", "64:ff9b:1:808:8:800::", PRIVATE, INSIDE),
    # 6to4, at any subnet.
    Spelling("[2002:808:808::1]", "2002:808:808::1", PUBLIC, YES),
    Spelling("[2002:7f00:1::]", "2002:7f00:1::", LOOPBACK, INSIDE),
    Spelling("[2002:7F00:0001:0:0:0:0:1]", "2002:7f00:1::1", LOOPBACK, INSIDE),
    Spelling("[2002:a00:1:ffff::1]", "2002:a00:1:ffff::1", PRIVATE, INSIDE),
    Spelling("[2002:c0a8:1::808:808]", "2002:c0a8:1::808:808", PRIVATE, INSIDE),
    Spelling("[2002:a9fe:a9fe::1]", "2002:a9fe:a9fe::1", METADATA, ONLY_ANY),
    Spelling("[2002:6464:64c8::]", "2002:6464:64c8::", METADATA, ONLY_ANY),
    Spelling("[2002::]", "2002::", UNSPECIFIED, INSIDE),
    # Teredo: the server, and the client with its bits flipped.
    Spelling("[2001:0:808:808::f7f7:f7f7]", "2001:0:808:808::f7f7:f7f7", PUBLIC, YES),
    Spelling("[2001::]", "2001::", UNSPECIFIED, INSIDE),
    Spelling("[2001:0:a00:1::f7f7:f7f7]", "2001:0:a00:1::f7f7:f7f7", PRIVATE, INSIDE),
    Spelling("[2001:0:808:808:8000:ffff:80ff:fffe]", "2001:0:808:808:8000:ffff:80ff:fffe", LOOPBACK, INSIDE),
    Spelling("[2001:0:808:808::5601:5601]", "2001:0:808:808::5601:5601", METADATA, ONLY_ANY),
    Spelling("[2001:0:a9fe:a9fe::f7f7:f7f7]", "2001:0:a9fe:a9fe::f7f7:f7f7", METADATA, ONLY_ANY),
    Spelling("[2001:0:a00:1::5601:5601]", "2001:0:a00:1::5601:5601", PRIVATE, ONLY_ANY),
    # ISATAP, under any prefix.
    Spelling("[2606:4700::5efe:8.8.8.8]", "2606:4700::5efe:808:808", PUBLIC, YES),
    Spelling("[2606:4700::200:5efe:8.8.8.8]", "2606:4700::200:5efe:808:808", PUBLIC, YES),
    Spelling("[2606:4700::5efe:10.0.0.1]", "2606:4700::5efe:a00:1", PRIVATE, INSIDE),
    Spelling("[2606:4700::200:5EFE:7f00:1]", "2606:4700::200:5efe:7f00:1", LOOPBACK, INSIDE),
    Spelling("[2606:4700::5efe:169.254.169.254]", "2606:4700::5efe:a9fe:a9fe", METADATA, ONLY_ANY),
    Spelling("[fd00::5efe:169.254.1.1]", "fd00::5efe:a9fe:101", PRIVATE, ONLY_ANY),
    Spelling("[fe80::5efe:8.8.8.8]", "fe80::5efe:808:808", LINK_LOCAL, ONLY_ANY),
    Spelling("[2002:808:808::5efe:10.0.0.1]", "2002:808:808::5efe:a00:1", PRIVATE, INSIDE),
    Spelling("[64:ff9b::5efe:a00:1]", "64:ff9b::5efe:a00:1", RESERVED, INSIDE),
)

NAMES = (
    Spelling("example.com", "example.com"),
    Spelling("Example.COM:443", "example.com"),
    Spelling("example.com.", "example.com"),
    Spelling("EXAMPLE.com.:8080", "example.com"),
    Spelling("localhost", "localhost"),
    Spelling("LocalHost.", "localhost"),
    Spelling("metadata.google.internal", "metadata.google.internal"),
    Spelling("metadata", "metadata"),
    Spelling("127.0.0.1.nip.io", "127.0.0.1.nip.io"),
    Spelling("1.2.3.4.a", "1.2.3.4.a"),
    Spelling("127.0.0.1a", "127.0.0.1a"),
    Spelling("a127.0.0.1.b2", "a127.0.0.1.b2"),
    Spelling("0x7f.1.com", "0x7f.1.com"),
    Spelling("0xyz", "0xyz"),
    Spelling("x0", "x0"),
    Spelling("1e3", "1e3"),
    Spelling("1_0", "1_0"),
    Spelling("-1", "-1"),
    Spelling("0-0", "0-0"),
    Spelling("cafe", "cafe"),
    Spelling("ffff", "ffff"),
    Spelling("xn--mller-kva.example", "xn--mller-kva.example"),
    Spelling("XN--P1AI", "xn--p1ai"),
    Spelling("_acme-challenge.example.com", "_acme-challenge.example.com"),
    Spelling("a_b", "a_b"),
    Spelling("-a-.example", "-a-.example"),
    Spelling("3com.com", "3com.com"),
    Spelling("1.1.1.1.in-addr.arpa", "1.1.1.1.in-addr.arpa"),
)


def _refused(*written: str) -> tuple[Spelling, ...]:
    return tuple(Spelling(one, None) for one in written)


NUMBERS = _refused(
    # Fewer parts than four: inet_aton fills the last one up.
    *("127.1", "127.0.1", "127.1:80", "10.1", "169.254.43518", "0", "1", "127", "0.0", "0.0.0"),
    *("2130706433", "2852039166", "4294967295", "4294967296", "99999999999999999999", "3232235521:80"),
    # Octal and hexadecimal.
    *(
        "0177.0.0.1",
        "0177.1",
        "017700000001",
        "127.0.0.01",
        "127.0.0.001",
        "1.2.3.08",
        "1.2.3.09",
        "00.0.0.0",
    ),
    *("0x7f.1", "0X7F.0.0.1", "0x7f.0x0.0x0.0x1", "0x7f000001", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE"),
    *("127.0.0.0x1", "0x", "0x.0x.0x.0x", "127.0.0.0x", "example.0x", "0300.0250.0.1", "010.0.0.1"),
    # Numbers that are none.
    *("256.1.1.1", "1.256.1.1", "1.1.1.256", "1.2.3.4.5", "999.999.999.999", "1.2.3.4.5.6", "example.1"),
    *("a.b.0x7f", "1.2.3.1000", "127.0.0.1.1", "00000000000000000000000000000000000127.0.0.1"),
    # The dot at the end goes first, and one only.
    *("127.1.", "2130706433.", "0x7f.1.", "127.0.0.1..", "0x7f000001.:80"),
)

CHARACTERS = _refused(
    # Percent-encodings and zones.
    *("127%2e0.0.1", "127.0.0.1%00", "%31%32%37.0.0.1", "example%2ecom", "%", "localhost%"),
    *("[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1%25lo]", "[::1%1]:80", "[::1%]", "[fe80::a9fe:a9fe%25eth0]"),
    # Spaces and controls.
    *("127.0.0.1 ", " 127.0.0.1", "127.0.0.1 a", "127. 0.0.1", "a b", "a\tb", "localhost\n", "a\0", "\x7f"),
    *("127.0.0.1\r\n", "127.0.0.1\0.example.com", "\x0b127.0.0.1"),
    # What delimits other parts of a URL, and quotes.
    *("a/b", "a\\b", "a?b", "a#b", "a,b", "a;b", "a&b", "a=b", "a!b", "a'b", 'a"b', "a(b)", "a*", "*", "~a"),
    *("user@a", "user:secret@127.0.0.1", "a@b:80", "@", "<a>", "a|b", "{a}", "a^b", "`a`", "$a", "+1"),
)

NOT_ASCII = _refused(
    "m\u00fcller.example",
    "\u0440\u0444",
    # Full-width digits, dots and letters; digits of other scripts; circled ones.
    *("\uff11\uff12\uff17.0.0.1", "127\uff0e0\uff0e0\uff0e1", "\uff4c\uff4f\uff43\uff41\uff4c"),
    *("\u0661\u0662\u0667.0.0.1", "\u2460\u2461\u2466.0.0.1", "127.0.0.\u00b9", "0\uff587f.1"),
    # The dots of IDNA.
    *("127\u30020\u30020\u30021", "127\uff610\uff610\uff611", "example\u3002com", "example.com\u3002"),
    # What IDNA drops: soft hyphen, zero-width space and joiner, word joiner, variation selector, order mark.
    *(
        "local\u00adhost",
        "127.0.0.1\u00ad",
        "127\u200b.0.0.1",
        "a\u200db",
        "a\u2060b",
        "a\ufe0f",
        "\ufefflocalhost",
    ),
    # What lower case makes ASCII of, and what sharp s and ligatures become.
    *("loc\u212al", "\u0130.example", "stra\u00dfe.example", "o\ufb03ce.example", "\u2100.example"),
    # Not UTF-8, and inside brackets.
    *("a\udc80", "127.0.0.1\udcff", "[::\uff11]", "[\uff1a\uff1a1]", "[::1\u3002]", "\u00a0127.0.0.1"),
)

SHAPES = _refused(
    *("", ".", "..", ".a", "a..", "a..b", ".127.0.0.1", "127..0.1", ":80", ".:80"),
    *("a" * 64, "a." + "a" * 64, ".".join(["a" * 49] * 5) + ".aaaa", "a" * 300, "1" * 300, "a." * 200),
    # Brackets, and colons without them.
    *(
        "[]",
        "[",
        "]",
        "[::1",
        "::1]",
        "::1",
        "::",
        "fe80::1",
        "2001:db8::1",
        "[[::1]]",
        "[::1]]",
        "[::1]a",
        "a[::1]",
    ),
    *(
        "[127.0.0.1]",
        "[localhost]",
        "[2130706433]",
        "[v1.a]",
        "[ffff]",
        "[::1].",
        "[::1.]",
        "[ ::1]",
        "[::1 ]",
    ),
    # What is no IPv6 address.
    *(
        "[:::]",
        "[1::2::3]",
        "[1:2:3:4:5:6:7]",
        "[1:2:3:4:5:6:7:8:9]",
        "[12345::]",
        "[g::]",
        "[::1/128]",
        "[:1]",
    ),
    *(
        "[::127.1]",
        "[::ffff:127.1]",
        "[::ffff:0x7f.0.0.1]",
        "[::ffff:127.0.0.01]",
        "[::256.0.0.1]",
        "[::1.2.3.4:5]",
    ),
    *("[::ffff:2130706433]", "[::ffff:127.0.0.1.]", "[0x1::]", "[-1::]", "[" + "0" * 300 + "::1]"),
    # Ports.
    *(
        "a:0",
        "a:65536",
        "a:99999",
        "a:000080",
        "a:-1",
        "a:+80",
        "a:0x50",
        "a:80:80",
        "a:80 ",
        "a:http",
        "a:8\u0660",
    ),
    *("[::1]:0", "[::1]:65536", "[::1]80", "127.0.0.1:80:80"),
)

SPELLINGS = (
    *IPV4,
    *METADATA_SERVICES,
    *IPV6,
    *CARRIERS,
    *NAMES,
    *NUMBERS,
    *CHARACTERS,
    *NOT_ASCII,
    *SHAPES,
)
