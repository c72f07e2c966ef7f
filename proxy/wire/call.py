"""What the stations of the line hand on: one exchange, with its request and its client's connection."""

from aiohttp import HttpVersion11, web

from proxy.core.budget import KEPT_BYTES
from proxy.core.exchange import Exchange
from proxy.core.headers import Framing, Head
from proxy.core.opening import Opening
from proxy.core.permit import Permit
from proxy.core.policies import UpstreamPolicy
from proxy.core.target import Target
from proxy.wire.client import ClientConnection

_LENGTH, _CHUNKED = Framing.LENGTH, Framing.CHUNKED
# A refused or early answered request may leave so much content unread, and its connection lives on.
MAX_DISCARDED = 64 * 1024


class Call:
    """One exchange on the wire.

    Attributes:
        exchange: what is known of it.
        request: as aiohttp read it.
        client: whose it is.
        head: the fields of the request; from naming on, like `target`.
        policy: the settings of its upstream; from admission on, like `permit`.
        opening: what its client has said behind a 200, where that comes before the upstream is called.
        taken: all content that an attempt has read of it, so that another upstream can be sent the same; None
            where that is not kept, or is too much.
    """

    __slots__ = (
        "client",
        "exchange",
        "head",
        "is_http_1_1",
        "opening",
        "permit",
        "policy",
        "request",
        "taken",
        "target",
    )

    head: Head
    target: Target
    policy: UpstreamPolicy
    permit: Permit

    def __init__(self, exchange: Exchange, request: web.BaseRequest, client: ClientConnection) -> None:
        self.exchange = exchange
        self.request = request
        self.client = client
        self.opening: Opening | None = None
        self.taken: bytearray | None = None
        self.is_http_1_1 = request.version == HttpVersion11

    def keep(self, piece: bytes) -> None:
        """Keeps content that is read, as long as it is little, where an attempt has said that it must."""
        if self.taken is not None:
            self.taken += piece
            if len(self.taken) > KEPT_BYTES:
                self.taken = None

    @property
    def upgrades(self) -> bool:
        """Whether the connection may become a WebSocket (RFC 6455 section 4.1)."""
        return (
            self.head.upgrades
            and self.is_http_1_1
            and self.request.method == "GET"
            and self.exchange.body.length == 0
            and self.exchange.body.framing is not _CHUNKED
        )

    @property
    def may_follow(self) -> bool:
        """Whether another request may follow this one on the client's connection.

        Of content that is still to come, so much is thrown away (RFC 9110 section 10.1.1: a client that waits
        for a 100 may never send it, so that nobody could tell its content from its next request).
        """
        request = self.request
        if not self.is_http_1_1 or not request.keep_alive or self.head.has(b"upgrade"):
            return False
        if self.client.is_draining:
            return False
        body = self.exchange.body
        if request.content.is_eof():
            # It has all arrived, read or not. aiohttp hides the trailers of a request, and takes the last of
            # them for the first field of the next one: then there must be no next one. Neither may there be
            # one that has come already, as nobody can tell where it begins.
            return body.framing is not _CHUNKED or self.client.ends_with_chunks
        outstanding = body.length - request.content.total_bytes
        return body.framing is _LENGTH and outstanding <= MAX_DISCARDED and not self.head.has(b"expect")

    @property
    def may_send_on(self) -> bool:
        """Whether bytes may still come behind the last answer, so that closing at once could lose it that.

        RFC 9112 section 9.6: what comes on a closed connection is answered by a reset, which "might erase the
        client's unacknowledged input buffers". Of a drain a client knows only by its answer, before which it
        may have sent its next request.
        """
        return not self.request.content.is_eof() or self.client.is_draining
