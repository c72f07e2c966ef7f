"""How clients write hosts: each row of the table, and that no spelling and no carrier opens an address."""

import contextlib
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support.spellings import INSIDE, ONLY_ANY, SPELLINGS, YES, Allowed, Spelling, class_of

from proxy.core.acl import Acl
from proxy.core.address import TABLE, AddressClass, IpAddress, canonical, classes_of
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.errors import DestinationIpProhibited, HttpRequestError
from proxy.core.exchange import Entry, Exchange
from proxy.core.host import literal, normalised
from proxy.core.target import Target, from_absolute_form, from_authority_form, host_and_port

# In the order of `Allowed`.
ACLS = [Acl(Egress(addresses=addresses)) for addresses in AllowedAddresses]
BY_DEFAULT = ACLS[0]
READ = [spelling for spelling in SPELLINGS if spelling.host is not None]
REFUSED = [spelling.written for spelling in SPELLINGS if spelling.host is None]


def test_the_table_is_large_and_each_row_new() -> None:
    assert len(SPELLINGS) >= 220
    written = [spelling.written for spelling in SPELLINGS]
    assert [one for one in written if written.count(one) > 1] == []
    assert {spelling.kind for spelling in READ} == {None, *AddressClass}
    assert {spelling.allowed for spelling in READ} == {None, YES, INSIDE, ONLY_ANY}


@pytest.mark.parametrize("spelling", READ, ids=lambda spelling: ascii(spelling.written))
def test_what_a_host_is(spelling: Spelling) -> None:
    host, _ = host_and_port(spelling.written, 80)
    assert host == spelling.host
    address = literal(host)
    if address is None:
        assert (spelling.kind, spelling.allowed) == (None, None)
        return
    assert class_of(address) is spelling.kind
    assert spelling.allowed == Allowed(*(may_be_called(spelling.written, acl) for acl in ACLS))


def may_be_called(written: str, acl: Acl) -> bool:
    """Whether a request for this authority may go on, in each form."""
    denied = []
    for entry, target in (
        (Entry.FORWARD, from_absolute_form(f"http://{written}/", "GET")),
        (Entry.TUNNEL, Target("", *host_and_port(written, 443), "", written)),
    ):
        try:
            acl.authorize(Exchange(entry, "GET", 0), target)
        except DestinationIpProhibited:
            denied.append(entry)
    assert len(denied) in {0, 2}, "the forms of a request differ"
    return not denied


@pytest.mark.parametrize("written", REFUSED, ids=lambda written: ascii(written)[:50])
def test_what_is_no_host(written: str) -> None:
    with pytest.raises(HttpRequestError) as refused:
        host_and_port(written, 80)
    assert (refused.value.status, refused.value.reason) == (400, "bad_request")


@pytest.mark.parametrize("written", REFUSED, ids=lambda written: ascii(written)[:50])
def test_what_is_no_host_is_none_in_any_form_of_a_request(written: str) -> None:
    for authority in (written, f"{written}:443"):
        with pytest.raises(HttpRequestError):
            from_authority_form(authority)
    # There, what stands behind these belongs to the path or the query.
    if not set(written) & set("/?"):
        with pytest.raises(HttpRequestError):
            from_absolute_form(f"http://{written}/", "GET")


PUBLIC = AddressClass.PUBLIC
ONES = 0xFFFF_FFFF

# How an IPv4 address is put into an IPv6 one, among bits that are anything.
EMBEDDINGS: dict[str, Callable[[int, int], int]] = {
    "mapped": lambda ipv4, _: 0xFFFF << 32 | ipv4,
    "compatible": lambda ipv4, _: ipv4,
    "translated": lambda ipv4, _: 0xFFFF << 48 | ipv4,
    "NAT64": lambda ipv4, _: 0x64_FF9B << 96 | ipv4,
    "NAT64 of a site": lambda ipv4, any_: 0x64_FF9B_0001 << 80 | any_ % (1 << 48) << 32 | ipv4,
    "6to4": lambda ipv4, any_: 0x2002 << 112 | ipv4 << 80 | any_ % (1 << 80),
    "Teredo server": lambda ipv4, any_: 0x2001_0000 << 96 | ipv4 << 64 | any_ % (1 << 64),
    "Teredo client": lambda ipv4, any_: 0x2001_0000 << 96 | any_ % (1 << 64) << 32 | ipv4 ^ ONES,
    "ISATAP": lambda ipv4, any_: any_ % (1 << 64) << 64 | 0x5EFE << 32 | ipv4,
    "ISATAP of a public address": lambda ipv4, any_: any_ % (1 << 64) << 64 | 0x0200_5EFE << 32 | ipv4,
}


def embedded_in_48(ipv4: int) -> int:
    """RFC 6052 section 2.2, octet by octet."""
    octets = ipv4.to_bytes(4, "big")
    return int.from_bytes(bytes.fromhex("0064ff9b0001") + octets[:2] + b"\0" + octets[2:] + bytes(5), "big")


def embedded_in_56(ipv4: int) -> int:
    octets = ipv4.to_bytes(4, "big")
    return int.from_bytes(bytes.fromhex("0064ff9b000107") + octets[:1] + b"\0" + octets[1:] + bytes(4), "big")


def embedded_in_64(ipv4: int) -> int:
    octets = ipv4.to_bytes(4, "big")
    return int.from_bytes(bytes.fromhex("0064ff9b00010708") + b"\0" + octets + bytes(3), "big")


PROHIBITED = [network for network, kind, _ in TABLE if kind is not PUBLIC]
PROHIBITED_4 = [network for network in PROHIBITED if isinstance(network, IPv4Network)]
PROHIBITED_6 = [network for network in PROHIBITED if isinstance(network, IPv6Network)]
GLOBAL_UNICAST = IPv6Network("2000::/3")
# Of these only what they carry counts, see test_address.py.
TRANSPARENT = [IPv6Network(one) for one in ("::ffff:0:0/96", "64:ff9b::/96", "2002::/16", "2001::/32")]


@st.composite
def addresses_in(draw: st.DrawFn, networks: Sequence[IPv4Network | IPv6Network]) -> int:
    """An address of one of the networks, often at its edge."""
    network = draw(st.sampled_from(networks))
    first, last = int(network[0]), int(network[-1])
    return draw(st.one_of(st.sampled_from([first, last]), st.integers(first, last)))


@st.composite
def spelled(draw: st.DrawFn, address: IPv6Address) -> str:
    """One of the ways to write an IPv6 address (RFC 4291 section 2.2)."""
    groups = [int(address) >> 16 * place & 0xFFFF for place in reversed(range(8))]
    dotted = [str(IPv4Address(int(address) & ONES))]
    if not draw(st.booleans()):
        dotted.clear()
    width = draw(st.sampled_from(["x", "X", "04x", "04X", "02x"]))
    written = [format(group, width) for group in groups[: 6 if dotted else 8]] + dotted
    zeros = [place for place, one in enumerate(written) if one.strip("0") == ""]
    if draw(st.booleans()) and zeros:
        first = last = draw(st.sampled_from(zeros))
        while last + 1 in zeros and draw(st.booleans()):
            last += 1
        return ":".join(written[:first]) + "::" + ":".join(written[last + 1 :])
    return ":".join(written)


def read(text: str) -> IpAddress:
    address = literal(normalised(text))
    assert address is not None
    return address


def never_public(address: IPv6Address, text: str) -> None:
    # That it is a spelling of this address the C library says.
    assert socket.inet_pton(socket.AF_INET6, text) == address.packed
    assert class_of(read(text)) is not PUBLIC
    assert class_of(canonical(text)) is not PUBLIC
    # As a name's answer, and as a host of a request.
    assert BY_DEFAULT.vet(text, 80) is not None
    assert not may_be_called(f"[{text}]:80", BY_DEFAULT)
    assert class_of(address) is not PUBLIC


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@settings(max_examples=300)
@given(data=st.data(), anything=st.integers(0, (1 << 128) - 1))
def test_no_ipv6_address_that_carries_a_prohibited_one_is_public(
    embedding: str, data: st.DataObject, anything: int
) -> None:
    ipv4 = data.draw(addresses_in(PROHIBITED_4))
    address = IPv6Address(EMBEDDINGS[embedding](ipv4, anything))
    never_public(address, data.draw(spelled(address)))


@given(addresses_in(PROHIBITED_4), st.sampled_from([embedded_in_48, embedded_in_56, embedded_in_64]))
def test_what_a_site_translates_by_a_short_prefix_is_seen(ipv4: int, embed: Callable[[int], int]) -> None:
    assert class_of(IPv4Address(ipv4)) in classes_of(IPv6Address(embed(ipv4)))


@given(addresses_in(PROHIBITED_4))
def test_no_prohibited_ipv4_address_is_public(ipv4: int) -> None:
    address = IPv4Address(ipv4)
    assert class_of(read(str(address))) is class_of(address) is class_of(canonical(str(address)))
    assert class_of(address) is not PUBLIC
    assert BY_DEFAULT.vet(str(address), 80) is not None
    assert not may_be_called(str(address), BY_DEFAULT)


@settings(max_examples=1000)
@given(st.data())
def test_no_prohibited_ipv6_address_is_public(data: st.DataObject) -> None:
    network = data.draw(st.sampled_from(PROHIBITED_6))
    address = IPv6Address(data.draw(addresses_in([network])))
    assume(network.prefixlen > 3 or address not in GLOBAL_UNICAST)
    assume(not any(address in one for one in TRANSPARENT))
    never_public(address, data.draw(spelled(address)))


@st.composite
def by_inet_aton(draw: st.DrawFn) -> str:
    """An IPv4 address in one to four numbers, each decimal, octal or hexadecimal; or nearly."""
    bits = draw(st.one_of(addresses_in(PROHIBITED_4), st.integers(0, 1 << 33)))
    count = draw(st.integers(1, 4))
    heads = [bits >> 24 - 8 * place & 0xFF for place in range(count - 1)]
    parts = [*heads, bits & (1 << 40 - 8 * count) - 1]
    form = st.sampled_from(["{}", "{}", "0{:o}", "000{:o}", "0x{:x}", "0X{:X}", "0x0000{:x}", "0{}"])
    text = ".".join(draw(form).format(part) for part in parts)
    return text + draw(st.sampled_from(["", "", "", ".", "..", " ", "\n", " a", "\0", "a", "x", ":", "%lo"]))


def understood(text: str) -> set[bytes]:
    """The addresses that this machine's C library takes a text for, without asking a name server."""
    found = set()
    with contextlib.suppress(OSError, ValueError):
        found.add(socket.inet_aton(text))
    try:
        infos = socket.getaddrinfo(text, None, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return found
    for family, _, _, _, sockaddr in infos:
        found.add(socket.inet_pton(family, str(sockaddr[0]).partition("%")[0]))
    return found


near = st.text(st.sampled_from("0123456789abcdefxX.:%\uff11\uff0e\u3002\u00ad "), max_size=20)


@settings(max_examples=2000)
@given(st.one_of(by_inet_aton(), near, st.ip_addresses().map(str)))
@example("127.1")
@example("0x7f.1")
@example("017700000001")
@example("127.0.0.1 a")
@example("\uff11\uff12\uff17.0.0.1")
@example("::ffff:127.0.0.1")
@example("fe80::1%lo")
@example("127.0.0.01")
def test_what_the_c_library_takes_for_an_address_is_that_address_or_refused(text: str) -> None:
    try:
        host = normalised(text)
    except ValueError:
        return
    address = literal(host)
    meant = {canonical(socket.inet_ntop(family(packed), packed)) for packed in understood(text)}
    assert meant <= {address}
    # And what goes to the resolver means no other either.
    meant = {canonical(socket.inet_ntop(family(packed), packed)) for packed in understood(host)}
    assert meant == ({address} if address is not None else set())


def family(packed: bytes) -> int:
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6
