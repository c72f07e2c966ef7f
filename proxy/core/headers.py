"""Fields and framing: what passes a proxy, what stays, and how long a message is.

Fields are a list of (name, value) as bytes, in the order and spelling received; nothing is merged or
re-cased. Framing is computed here from the fields, never left to a parser's opinion. A head is read in one
pass, since every request and every response costs it.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from proxy.core.errors import HttpProtocolError, HttpRequestError, HttpResponseTransferCoding, UnknownCoding

Field = tuple[bytes, bytes]
Fields = list[Field]

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
# What a proxy itself reads or writes, besides.
_OURS = frozenset(
    {
        b"content-length",
        b"content-type",
        b"date",
        b"expect",
        b"host",
        b"max-forwards",
        b"proxy-status",
        b"retry-after",
        b"via",
        b"x-breaker-reason",
    }
)
_TOLD = HOP_BY_HOP | _OURS
# What Connection must not take away, whoever names it: the message would change its meaning.
_NOT_REMOVABLE = frozenset({b"host", b"content-length", b"authorization"})
# RFC 9110 section 6.5.1: no trailer field may say where a message ends, where it goes, who may see it, or
# what its recipient is to do with it.
_NOT_IN_TRAILERS = HOP_BY_HOP | frozenset(
    {b"content-length", b"content-type", b"content-encoding", b"content-range", b"host", b"authorization"}
    | {b"set-cookie", b"expect", b"max-forwards", b"cache-control", b"trailer", b"x-breaker-reason"}
    | {b"proxy-status", b"via", b"location", b"retry-after", b"age", b"date", b"expires", b"vary"}
    | {b"www-authenticate"}
)
# RFC 9110 section 5.6.3. Bare strip() would take away more, such as the vertical tab of b"\x0bchunked",
# with which requests are smuggled past whoever reads it otherwise.
_OWS = b" \t"
# RFC 9110 section 8.6 sets no bound, but wants overflows prevented: 18 digits always fit in 63 bits.
MAX_DIGITS = 18


class Framing(Enum):
    """How the end of a message's content is found (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Body(NamedTuple):
    """The framing of a message, with the length where it has one."""

    framing: Framing
    length: int = 0


NO_BODY = Body(Framing.NONE)
CHUNKED = Body(Framing.CHUNKED)
UNTIL_CLOSE = Body(Framing.CLOSE)
# A member is looked up on its class in Python.
_LENGTH = Framing.LENGTH


class Head:
    """The fields of one message, read once.

    Attributes:
        size: of the fields on the wire, with their separators, in bytes.
        kept: the fields that a proxy passes on, all but the hop-by-hop ones and those that Connection names.
        host_at: where `Host` stands among them; None if it does not.
    """

    __slots__ = ("_told", "host_at", "kept", "size")

    def __init__(self, fields: Iterable[Field]) -> None:
        told: dict[bytes, list[bytes]] = {}
        kept: Fields = []
        size = 0
        self.host_at: int | None = None
        for field in fields:
            spelled, value = field
            name = spelled.lower()
            size += len(name) + len(value) + 4
            if name in _TOLD:
                if name in told:
                    told[name].append(value)
                else:
                    told[name] = [value]
                if name in HOP_BY_HOP:
                    continue
                if name == b"host":
                    self.host_at = len(kept)
            kept.append(field)
        self._told = told
        self.kept = kept
        self.size = size
        if b"connection" in told:
            named = self.options(b"connection") - _NOT_REMOVABLE - HOP_BY_HOP
            if named:
                self.kept = [field for field in kept if field[0].lower() not in named]
                self.host_at = next(
                    (at for at, field in enumerate(self.kept) if field[0].lower() == b"host"), None
                )

    def has(self, name: bytes) -> bool:
        """Whether there is a field of this name, one of those that a proxy reads itself, in lower case."""
        return name in self._told

    def values(self, name: bytes) -> Sequence[bytes]:
        """All values of such a field, possibly none."""
        return self._told.get(name, ())

    def options(self, name: bytes) -> set[bytes]:
        """The members of such a field as a list (RFC 9110 section 5.6.1), in lower case."""
        return {
            option.strip(_OWS).lower() for value in self._told.get(name, ()) for option in value.split(b",")
        }

    def passes(self, name: bytes) -> bool:
        """Whether there is such a field and it goes on; one that Connection names goes no further than us."""
        return name in self._told and (
            b"connection" not in self._told
            or name not in self.options(b"connection")
            or name in _NOT_REMOVABLE
        )

    @property
    def wants_trailers(self) -> bool:
        """Whether the client takes trailers (RFC 9110 section 10.1.4)."""
        return b"te" in self._told and b"trailers" in self.options(b"te")

    @property
    def upgrades(self) -> bool:
        """Whether this hop is to become a WebSocket (RFC 6455 section 4.1): the only upgrade that passes."""
        return (
            b"upgrade" in self._told
            and b"upgrade" in self.options(b"connection")
            # Just so: aiohttp takes a list of protocols for no upgrade, and reads on as if it were HTTP.
            and [value.lower() for value in self.values(b"upgrade")] == [b"websocket"]
        )

    @property
    def expects_continue(self) -> bool:
        """Whether the client may wait for a 100 before it sends content (RFC 9110 section 10.1.1)."""
        return self.passes(b"expect") and b"100-continue" in self.options(b"expect")

    def request_body(self, *, http_1_1: bool) -> Body:
        """The framing of a request (RFC 9112 section 6.3).

        Raises:
            HttpRequestError: 400 for framing that two parsers could read in two ways, 501 for a transfer
                coding other than chunked.
        """
        lengths = self._told.get(b"content-length")
        codings = self._told.get(b"transfer-encoding")
        if codings is not None:
            if lengths is not None:
                # RFC 9112 section 6.1: both at once "ought to be handled as an error", it is how requests
                # are smuggled.
                raise HttpRequestError("the request has both Transfer-Encoding and Content-Length")
            if not http_1_1:
                raise HttpRequestError("the request has Transfer-Encoding on HTTP/1.0")
            if not _is_chunked(codings):
                raise UnknownCoding("the request has a transfer coding other than chunked")
            return CHUNKED
        if lengths is None:
            return NO_BODY
        length = _length(lengths)
        if length is None:
            raise HttpRequestError("the request has no single valid Content-Length")
        return Body(_LENGTH, length)

    def response_body(self, *, status: int, method: str) -> Body:
        """The framing of a response (RFC 9112 section 6.3).

        Raises:
            HttpProtocolError, HttpResponseTransferCoding: 502.
        """
        lengths = self._told.get(b"content-length")
        codings = self._told.get(b"transfer-encoding")
        length = None
        if codings is not None:
            if lengths is not None:
                raise HttpProtocolError("the response has both Transfer-Encoding and Content-Length")
            if not _is_chunked(codings):
                raise HttpResponseTransferCoding("the response has a transfer coding other than chunked")
        elif lengths is not None:
            length = _length(lengths)
            if length is None:
                raise HttpProtocolError("the response has no single valid Content-Length")
        if method == "HEAD" or status < 200 or status in (204, 304):  # noqa: PLR2004 -- RFC 9112 section 6.3
            return NO_BODY
        if codings is not None:
            return CHUNKED
        return UNTIL_CLOSE if length is None else Body(_LENGTH, length)


def size_of(fields: Iterable[Field]) -> int:
    """The bytes of fields on the wire, with their separators."""
    return sum([len(name) + len(value) + 4 for name, value in fields])


def trailers_of(fields: Iterable[Field], head: Head) -> Fields:
    """The trailers that may pass on (RFC 9110 section 6.5.1).

    Args:
        fields: the trailers.
        head: of the same message; what its Connection names goes no further than us.
    """
    stopped = _NOT_IN_TRAILERS | head.options(b"connection")
    return [field for field in fields if field[0].lower() not in stopped]


def _length(values: Sequence[bytes]) -> int | None:
    if len(values) != 1:
        return None
    digits = values[0].strip(_OWS)
    return int(digits) if digits.isdigit() and len(digits) <= MAX_DIGITS else None


def _is_chunked(values: Sequence[bytes]) -> bool:
    # A tab is whitespace as well, but llhttp does not take it for that here: then it is no "chunked" for us.
    return [coding.strip(b" ").lower() for value in values for coding in value.split(b",")] == [b"chunked"]
