"""One idea of a host: the form in which circuits, rules and the resolver know it.

A number in another spelling than four decimals (`127.1`, `0x7f.1`, `2130706433`) is a name to a rule and an
address to inet_aton, to some resolvers and to browsers. It is refused and not rewritten, since nobody who
means well sends it. Names come as A-labels (RFC 5890): what IDNA makes of other characters, such as
full-width digits and dots, is not ours to guess.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

# RFC 1035 section 2.3.4, in characters: 255 octets less the length of the first label and the root.
_MOST_CHARACTERS = 253
_MOST_OF_A_LABEL = 63
# INET6_ADDRSTRLEN less its NUL: six groups and an IPv4 address.
_MOST_OF_IPV6 = 45

# RFC 1123 section 2.1, looser: underscores, and hyphens at either end, exist. Of the last label the WHATWG's
# "ends in a number" checker (URL section 3.5) decides: all digits, or what may follow 0x, is an address.
_NAME = re.compile(
    rf"(?=.{{1,{_MOST_CHARACTERS}}}\Z)"
    rf"(?:[a-z0-9_-]{{1,{_MOST_OF_A_LABEL}}}\.)*"
    rf"(?!(?:[0-9]+|0x[0-9a-f]*)\Z)[a-z0-9_-]{{1,{_MOST_OF_A_LABEL}}}"
)
_CHARACTERS = re.compile(r"[a-z0-9_.-]*")
_PORT_BEHIND = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]{0,5}))?")
_MAX_PORT = 65535


def split(authority: str) -> tuple[str, int | None]:
    """Takes `name`, `name:port` or `[ipv6]:port` apart; the host comes without brackets and as written.

    Returns:
        The host, and a port from 1 to 65535; None if there is none, or nothing stands behind the colon.

    Raises:
        ValueError: the text says why, and repeats nothing of the authority.
    """
    parts = _PORT_BEHIND.fullmatch(authority)
    if parts is None or (parts["ipv6"] is not None and ":" not in parts["ipv6"]):
        raise ValueError("the authority is not a host with an optional port")
    port = int(parts["port"]) if parts["port"] else None
    if port is not None and not 1 <= port <= _MAX_PORT:
        raise ValueError("the port is outside 1-65535")
    return parts["ipv6"] or parts["name"], port


def normalised(host: str) -> str:
    """The one form of a host: lower case, without a dot at the end, addresses in their shortest spelling.

    An IPv4-mapped IPv6 address becomes the IPv4 address, which is what the kernel calls.

    Args:
        host: a name, or an address without brackets.

    Raises:
        ValueError: for what is no host, or not clearly one; the text says why, and repeats nothing of it.
    """
    if not host.isascii():
        raise ValueError("the host is not ASCII: names are written as A-labels (xn--)")
    host = host.lower()
    if ":" in host:
        return _ipv6(host)
    # RFC 1034 section 3.1: the dot says that the name is complete. One name, one circuit.
    host = host.removesuffix(".")
    return host if _NAME.fullmatch(host) else _ipv4(host)


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a normalised host is; None for a name."""
    if ":" in host:
        return IPv6Address(host)
    # No name ends in a label of digits, see above.
    return IPv4Address(host) if host.rpartition(".")[2].isdigit() else None


def _ipv6(host: str) -> str:
    if "%" in host:
        raise ValueError("the host is an address with a zone, which means nothing to others")
    try:
        address = IPv6Address(host if len(host) <= _MOST_OF_IPV6 else "")
    except AddressValueError:
        raise ValueError("the host is no IPv6 address") from None
    return str(address.ipv4_mapped or address)


def _ipv4(host: str) -> str:
    if not _CHARACTERS.fullmatch(host):
        raise ValueError("the host has characters that no name has")
    labels = host.split(".")
    if "" in labels:
        raise ValueError("the host is empty, or a part of it")
    if len(host) > _MOST_CHARACTERS or len(max(labels, key=len)) > _MOST_OF_A_LABEL:
        raise ValueError("the host is too long")
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise ValueError(
            "the host reads as a number: an address is four decimals from 0 to 255, without more zeros"
        ) from None
