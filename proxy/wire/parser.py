"""Reads responses: bytes in, heads and content out. No I/O of its own.

llhttp (httptools) finds the tokens; what the message means is decided here. Facts about httptools on which
this rests: HEAD cannot be signalled to it, there is no call for the end of a connection, errors may come
after a complete message, values and chunk extensions are unbounded, and it accepts versions and statuses that
HTTP/1.1 does not know. So there is a fresh parser for each response, framing is computed from the fields, the
head is bounded, and what follows a complete message only makes the connection unfit for another.
"""

from dataclasses import dataclass, field

import httptools

from proxy.core.errors import HttpProtocolError, HttpResponseHeaderSectionSize, ProxyError
from proxy.core.headers import Body, Fields, Framing, response_body, size_of

MAX_INTERIM = 16
_PROTOCOL = b"HTTP/"
# More pieces than this are joined: small chunks would cost many times their content.
_MAX_PIECES = 256
_FORBIDDEN = (b"\r", b"\n", b"\0")


@dataclass(slots=True)
class ResponseHead:
    """The head of one response, as received.

    Attributes:
        reason: the reason phrase, possibly empty.
        keeps_alive: whether the upstream will take another request on this connection.
    """

    status: int
    reason: bytes
    fields: Fields
    body: Body
    keeps_alive: bool


@dataclass(slots=True)
class ResponseParser:
    """One response, its interim responses included.

    Feed it (`feed`, `feed_eof`), then look at what it has found: `interim` and `head` as soon as they are
    whole, `take` for the content so far, `complete` at the end, `fault` if the response is malformed.

    Attributes:
        method: of the request, since a response to HEAD has no content.
        max_head: bounds each head, and what stands between pieces of content (chunk extensions, trailers).
        max_fields: bounds the fields of each head.
        excess: bytes came behind the complete response.
    """

    method: str
    max_head: int
    max_fields: int
    head: ResponseHead | None = None
    interim: list[ResponseHead] = field(default_factory=list)
    complete: bool = False
    fault: ProxyError | None = None
    excess: bool = False
    started: bool = False
    buffered: int = 0
    _parser: httptools.HttpResponseParser = field(init=False)
    _protocol: bytes = b""
    _reason: bytes = b""
    _fields: Fields = field(default_factory=list)
    _content: list[bytes] = field(default_factory=list)
    _overhead: int = 0
    _interim_seen: int = 0
    _content_left: int = 0

    def __post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # What sloppy endpoints send and no one can smuggle with. Values are checked for CR, LF and NUL below.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def feed(self, received: bytes) -> None:
        """Takes what has arrived; never raises."""
        self.started = True
        if self.complete:
            self.excess = True
        if self.complete or self.fault is not None:
            return
        if len(self._protocol) < len(_PROTOCOL):
            # llhttp takes RTSP and ICE as well, and does not say which it was. It skips empty lines.
            self._protocol = (self._protocol + received).lstrip(b"\r\n")[: len(_PROTOCOL)]
            if not _PROTOCOL.startswith(self._protocol):
                self._fail(HttpProtocolError("the response is not HTTP/1.1"))
                return
        self._overhead += len(received)
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserUpgrade:
            self.excess = True
        except httptools.HttpParserError:
            self._fail(HttpProtocolError("the response is not HTTP/1.1"))
        if self._overhead > self.max_head:
            where = "head" if self.head is None else "chunk extensions or trailers"
            self._fail(HttpResponseHeaderSectionSize(f"{where} of the response beyond limits.max_head"))

    def feed_eof(self) -> None:
        """Takes note that the upstream has closed: the end of a response that has no other end."""
        if self.head is not None and self.head.body.framing is Framing.CLOSE and self.fault is None:
            self.complete = True

    def take(self) -> bytes:
        """Gives out the content that has arrived since the last call."""
        content = self._content[0] if len(self._content) == 1 else b"".join(self._content)
        self._content.clear()
        self.buffered = 0
        return content

    # Called by httptools, by these names. An exception here would come back as a parser error, so faults
    # are noted and not raised.

    def on_message_begin(self) -> None:
        """A status line begins; behind a final response it is excess."""
        if self.head is not None:
            self.excess = True
        self._reason = b""
        self._fields = []

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, possibly in pieces."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of a head, or of the trailers."""
        if self.head is None:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is whole: decide what it means."""
        if self.head is not None or self.fault is not None:
            return
        try:
            head = self._make_head()
        except ProxyError as fault:
            self.fault = fault
            return
        if head.status < 200:  # noqa: PLR2004 -- RFC 9110 section 15.2, interim responses
            self._interim_seen += 1
            if self._interim_seen > MAX_INTERIM:
                self.fault = HttpProtocolError(f"more than {MAX_INTERIM} interim responses")
            self.interim.append(head)
            return
        self.head = head
        self._overhead = 0
        self._content_left = head.body.length
        self.complete = head.body.framing is Framing.NONE or (
            head.body.framing is Framing.LENGTH and head.body.length == 0
        )

    def on_chunk_header(self) -> None:
        """A chunk begins; behind a response without content it is excess."""
        self.excess = self.excess or self.complete

    def on_body(self, content: bytes) -> None:
        """A piece of content; what stood before it no longer counts against `max_head`."""
        if self.complete or self.fault is not None:
            self.excess = True
            return
        if self.head is None:
            # RFC 9110 section 15.2: an interim response ends with its head. llhttp gives one the content that
            # its fields announce, and the client would take that for content of the final response.
            self.fault = HttpProtocolError("an interim response has content")
            return
        self._overhead = 0
        if len(self._content) >= _MAX_PIECES:
            self._content = [b"".join(self._content)]
        self._content.append(content)
        self.buffered += len(content)
        if self.head.body.framing is Framing.LENGTH:
            self._content_left -= len(content)
            self.complete = self._content_left == 0

    def on_message_complete(self) -> None:
        """The end that llhttp sees; for chunked content it is the only one."""
        if self.head is None:
            self._overhead = 0
        elif self.head.body.framing is Framing.CHUNKED and self.fault is None:
            self.complete = True

    def _fail(self, fault: ProxyError) -> None:
        """Notes what is wrong; behind a complete message that only makes the connection unfit."""
        if self.complete:
            self.excess = True
        elif self.fault is None:
            self.fault = fault

    def _make_head(self) -> ResponseHead:
        status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise HttpProtocolError("the response is neither HTTP/1.0 nor HTTP/1.1")
        if status < 100 or status == 101:  # noqa: PLR2004 -- RFC 9110 section 15; no upgrade was asked for
            raise HttpProtocolError("the response has an impossible status")
        if len(self._reason) + size_of(self._fields) > self.max_head:
            raise HttpResponseHeaderSectionSize("the head of the response exceeds limits.max_head")
        if len(self._fields) > self.max_fields:
            raise HttpResponseHeaderSectionSize("the head of the response exceeds limits.max_fields")
        for name, value in self._fields:
            if b" " in name:
                # RFC 9112 section 5.1: space before the colon hides a field from one reader or the other.
                raise HttpProtocolError("a field name of the response holds a space")
            if any(byte in value for byte in _FORBIDDEN):
                raise HttpProtocolError("a field of the response holds CR, LF or NUL")
        if any(byte in self._reason for byte in _FORBIDDEN):
            raise HttpProtocolError("the reason phrase holds CR, LF or NUL")
        body = response_body(self._fields, status=status, method=self.method)
        keeps_alive = (
            version == "1.1" and body.framing is not Framing.CLOSE and not _asks_to_close(self._fields)
        )
        return ResponseHead(status, self._reason, self._fields, body, keeps_alive)


def _asks_to_close(fields: Fields) -> bool:
    return any(
        name.lower() == b"connection" and b"close" in [option.strip() for option in value.lower().split(b",")]
        for name, value in fields
    )
