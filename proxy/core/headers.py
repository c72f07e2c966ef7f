"""Fields and framing: what passes a proxy, what stays, and how long a message is.

Fields are a list of (name, value) as bytes, in the order and spelling received; nothing is merged or
re-cased. Framing is computed here from the fields, never left to a parser's opinion.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from proxy.core.errors import HttpProtocolError, HttpRequestError, HttpResponseTransferCoding, UnknownCoding

Fields = list[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1: fields for the next hop alone, whether Connection names them or not.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What Connection must not take away, whoever names it: the message would change its meaning.
_NOT_REMOVABLE = frozenset({b"host", b"content-length", b"authorization"})
# RFC 9110 section 5.6.3. Bare strip() would take away more, such as the vertical tab of b"\x0bchunked",
# with which requests are smuggled past whoever reads it otherwise.
_OWS = b" \t"
# RFC 9110 section 8.6 sets no bound, but wants overflows prevented: 18 digits always fit in 63 bits.
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Framing(Enum):
    """How the end of a message's content is found (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Body:
    """The framing of a message, with the length where it has one."""

    framing: Framing
    length: int = 0


NO_BODY = Body(Framing.NONE)
CHUNKED = Body(Framing.CHUNKED)
UNTIL_CLOSE = Body(Framing.CLOSE)


def size_of(fields: Iterable[tuple[bytes, bytes]]) -> int:
    """The bytes of fields on the wire, with their separators."""
    return sum([len(name) + len(value) + 4 for name, value in fields])


def end_to_end(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """The fields that a proxy passes on: all but the hop-by-hop ones and those that Connection names."""
    named: set[bytes] = set()
    kept: Fields = []
    for field in fields:
        name = field[0].lower()
        if name == b"connection":
            named.update(option.strip(_OWS).lower() for option in field[1].split(b","))
        elif name not in HOP_BY_HOP:
            kept.append(field)
    named -= _NOT_REMOVABLE
    if named - HOP_BY_HOP:
        return [field for field in kept if field[0].lower() not in named]
    return kept


def request_body(fields: Iterable[tuple[bytes, bytes]], *, http_1_1: bool) -> Body:
    """The framing of a request (RFC 9112 section 6.3).

    Raises:
        HttpRequestError: 400 for framing that two parsers could read in two ways, 501 for a transfer
            coding other than chunked.
    """
    lengths, codings = _framing_fields(fields)
    if codings:
        if lengths:
            # RFC 9112 section 6.1: both at once "ought to be handled as an error", it is how requests
            # are smuggled.
            raise HttpRequestError("the request has both Transfer-Encoding and Content-Length")
        if not http_1_1:
            raise HttpRequestError("the request has Transfer-Encoding on HTTP/1.0")
        if codings != [b"chunked"]:
            raise UnknownCoding("the request has a transfer coding other than chunked")
        return CHUNKED
    if not lengths:
        return NO_BODY
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise HttpRequestError("the request has no single valid Content-Length")
    return Body(Framing.LENGTH, int(lengths[0]))


def response_body(fields: Iterable[tuple[bytes, bytes]], *, status: int, method: str) -> Body:
    """The framing of a response (RFC 9112 section 6.3).

    Raises:
        HttpProtocolError, HttpResponseTransferCoding: 502.
    """
    lengths, codings = _framing_fields(fields)
    if codings and lengths:
        raise HttpProtocolError("the response has both Transfer-Encoding and Content-Length")
    if codings and codings != [b"chunked"]:
        raise HttpResponseTransferCoding("the response has a transfer coding other than chunked")
    if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
        raise HttpProtocolError("the response has no single valid Content-Length")
    if method == "HEAD" or status < 200 or status in (204, 304):  # noqa: PLR2004 -- RFC 9112 section 6.3
        return NO_BODY
    if codings:
        return CHUNKED
    return Body(Framing.LENGTH, int(lengths[0])) if lengths else UNTIL_CLOSE


def _framing_fields(fields: Iterable[tuple[bytes, bytes]]) -> tuple[list[bytes], list[bytes]]:
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-length":
            lengths.append(value.strip(_OWS))
        elif lower == b"transfer-encoding":
            codings += [coding.strip(_OWS).lower() for coding in value.split(b",")]
    return lengths, codings
