"""The one form of a host. Which spellings mean which address stands in test_spellings.py."""

import socket
import string
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.host import literal, normalised, split

EMPTY = "empty, or a part of it"
CHARACTERS = "characters that no name has"
NOT_ASCII = "not ASCII"
TOO_LONG = "too long"
NUMBER = "reads as a number"
NO_IPV6 = "no IPv6 address"
ZONE = "a zone"

LONGEST = ".".join(["a" * 63] * 3 + ["a" * 61])


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("example.com", "example.com"),
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("localhost", "localhost"),
        ("a", "a"),
        ("_dmarc.a_b", "_dmarc.a_b"),
        ("-a-.b-", "-a-.b-"),
        ("1.2.3.4.a", "1.2.3.4.a"),
        ("1.2.3.4a", "1.2.3.4a"),
        ("3com", "3com"),
        ("0x7f.a", "0x7f.a"),
        ("0xg", "0xg"),
        ("a0x1", "a0x1"),
        ("XN--MLLER-KVA.example", "xn--mller-kva.example"),
        ("a" * 63, "a" * 63),
        (LONGEST, LONGEST),
        (LONGEST + ".", LONGEST),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1.", "192.0.2.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:0db8:0:0:0:0:0:1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("::192.0.2.1", "::c000:201"),
        ("1:2:3:4:5:6:192.0.2.1", "1:2:3:4:5:6:c000:201"),
        ("1111:2222:3333:4444:5555:6666:255.255.255.255", "1111:2222:3333:4444:5555:6666:ffff:ffff"),
    ],
)
def test_one_form(written: str, host: str) -> None:
    assert normalised(written) == host


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", EMPTY),
        (".", EMPTY),
        ("..", EMPTY),
        (".a", EMPTY),
        ("a..", EMPTY),
        ("a..b", EMPTY),
        ("a" * 64, TOO_LONG),
        ("a." + "b" * 64, TOO_LONG),
        ("a" + LONGEST, TOO_LONG),
        ("1" * 64, TOO_LONG),
        ("127.1", NUMBER),
        ("0", NUMBER),
        ("0x", NUMBER),
        ("a.0x", NUMBER),
        ("a.0XFf", NUMBER),
        ("a.1", NUMBER),
        ("1.2.3.4.5", NUMBER),
        ("256.0.0.1", NUMBER),
        ("1.2.3.08", NUMBER),
        ("127.0.0.0x1", NUMBER),
        ("127.1.", NUMBER),
        ("127.0.0.1..", EMPTY),
        ("a b", CHARACTERS),
        (" a", CHARACTERS),
        ("a\n", CHARACTERS),
        ("a\0", CHARACTERS),
        ("a\x7f", CHARACTERS),
        ("a%2eb", CHARACTERS),
        ("127.0.0.1%00", CHARACTERS),
        ("a/b", CHARACTERS),
        ("a@b", CHARACTERS),
        ("*.a", CHARACTERS),
        ("a,b", CHARACTERS),
        ("m\u00fcller.example", NOT_ASCII),
        ("\u212a", NOT_ASCII),
        ("\uff11\uff12\uff17.0.0.1", NOT_ASCII),
        ("127\u30020\u30020\u30021", NOT_ASCII),
        ("127\uff0e1", NOT_ASCII),
        ("exa\u00admple.com", NOT_ASCII),
        ("a\udc80", NOT_ASCII),
        ("::1\u0661", NOT_ASCII),
        ("fe80::1%eth0", ZONE),
        ("::1%", ZONE),
        ("::1.", NO_IPV6),
        ("[::1]", NO_IPV6),
        ("a:80", NO_IPV6),
        ("::1\n", NO_IPV6),
        ("::1/128", NO_IPV6),
        ("1::2::3", NO_IPV6),
        ("12345::", NO_IPV6),
        ("::127.1", NO_IPV6),
        ("::127.0.0.01", NO_IPV6),
        ("::0x7f.0.0.1", NO_IPV6),
        ("::1.2.3.4:5", NO_IPV6),
        ("0" * 46 + "::1", NO_IPV6),
        (":" * 100_000, NO_IPV6),
        ("1." * 100_000, TOO_LONG),
    ],
)
def test_what_is_no_host(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        normalised(written)


@pytest.mark.parametrize("written", ["secret.exa mple", "secret..a", "secret.1", "s:e:cret", "secret\u00e4"])
def test_what_was_written_is_not_repeated(written: str) -> None:
    with pytest.raises(ValueError, match=r"^the host ") as refused:
        normalised(written)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("example.com", None),
        ("1.2.3.4a", None),
        ("localhost", None),
        ("192.0.2.1", IPv4Address("192.0.2.1")),
        ("2001:db8::1", IPv6Address("2001:db8::1")),
        ("::", IPv6Address("::")),
    ],
)
def test_which_hosts_are_addresses(host: str, address: IPv4Address | IPv6Address | None) -> None:
    assert literal(host) == address


@pytest.mark.parametrize(
    ("authority", "parts"),
    [
        ("A.example", ("A.example", None)),
        ("a:", ("a", None)),
        ("a:080", ("a", 80)),
        ("a:65535", ("a", 65535)),
        ("[2001:DB8::1]", ("2001:DB8::1", None)),
        ("[::1]:1", ("::1", 1)),
        ("*.a:1", ("*.a", 1)),
        ("", ("", None)),
        (":80", ("", 80)),
    ],
)
def test_a_host_and_its_port(authority: str, parts: tuple[str, int | None]) -> None:
    assert split(authority) == parts


@pytest.mark.parametrize(
    "authority",
    [
        "::1",
        "a:b",
        "a:1:2",
        "a:123456",
        "a:-1",
        "[a]",
        "[]",
        "[127.0.0.1]",
        "[::1",
        "[::1]a",
        "a[::1]",
        "[[::1]]",
    ],
)
def test_what_is_no_authority(authority: str) -> None:
    with pytest.raises(ValueError, match="not a host with an optional port"):
        split(authority)


@pytest.mark.parametrize("authority", ["a:0", "a:65536", "[::1]:00000"])
def test_what_is_no_port(authority: str) -> None:
    with pytest.raises(ValueError, match="outside 1-65535"):
        split(authority)


# What is near to a host: characters of names, numbers and addresses, and what IDNA or C takes for them.
near = st.text(
    st.sampled_from("aAfFxX012789.:-_%[]/ \t\n\0\uff11\uff0e\u3002\u00ad\u212a\udc80"), max_size=30
)
numbers = st.lists(
    st.one_of(
        st.integers(0, 2**33).map(str),
        st.integers(0, 2**33).map(hex),
        st.integers(0, 2**33).map("0{:o}".format),
        st.integers(0, 256).map(str),
        st.sampled_from(["", "0x", "00", "08", "a"]),
    ),
    min_size=1,
    max_size=5,
).map(".".join)
addresses = st.ip_addresses().flatmap(
    lambda address: st.sampled_from([str(address), str(address).upper(), address.exploded, f"{address}."])
)
hosts = st.one_of(near, numbers, addresses, st.text(max_size=80))


@given(hosts)
@example("::ffff:192.0.2.1")
@example("::ffff:0:0")
def test_whatever_is_taken_has_one_form(written: str) -> None:
    host = host_or_refusal(written)
    if isinstance(host, ValueError):
        # No UnicodeError or AddressValueError of some library, with its own text.
        assert type(host) is ValueError
        assert str(host).startswith("the host ")
        return
    assert normalised(host) == host
    assert host.isascii()
    assert host == host.lower()
    assert set(host) <= set(string.ascii_lowercase + string.digits + ".-_:")
    assert literal(host) == by_inet_pton(host)


def host_or_refusal(written: str) -> str | ValueError:
    try:
        return normalised(written)
    except ValueError as error:
        return error


def by_inet_pton(host: str) -> IPv4Address | IPv6Address | None:
    for family, kind in ((socket.AF_INET, IPv4Address), (socket.AF_INET6, IPv6Address)):
        try:
            return kind(socket.inet_pton(family, host))
        except OSError:
            continue
    return None
