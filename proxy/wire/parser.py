"""Reads responses: bytes in, heads and content out. No I/O of its own.

llhttp (httptools) finds the tokens; what the message means is decided here. Facts about httptools on which
this rests: HEAD cannot be signalled to it, there is no call for the end of a connection, errors may come
after a complete message, values and chunk extensions are unbounded, and it accepts versions and statuses that
HTTP/1.1 does not know. So there is a fresh parser for each response, framing is computed from the fields, the
head is bounded, and what follows a complete message only makes the connection unfit for another.
"""

import re

import httptools

from proxy.core.errors import HttpProtocolError, HttpResponseHeaderSectionSize, ProxyError
from proxy.core.headers import Body, Fields, Framing, Head, size_of
from proxy.core.retry_after import retry_after_at

MAX_INTERIM = 16
_PROTOCOL = b"HTTP/"
# RFC 2068 section 19.7.1.1 is the last that described it; servers still send it.
_KEEP_ALIVE = re.compile(rb"timeout=\"?([0-9]{1,6})\"?")
# More pieces than this are joined: small chunks would cost many times their content.
_MAX_PIECES = 256
_SWITCHING_PROTOCOLS = 101
# What sloppy endpoints send and no one can smuggle with. `lenient_headers` is not among it: with it, a bare
# CR or a line of spaces ends a head, and what follows passes for content. Nor is `lenient_keep_alive`: with
# it, the length of an interim response that says `close` is added to that of the final one.
_LENIENCIES = {"lenient_optional_cr_before_lf": True, "lenient_spaces_after_chunk_size": True}
# Behind the size of a chunk llhttp then takes two LF for one line end, and others would not: of chunks it
# would move the boundaries.
_IN_CHUNKS = {"lenient_optional_cr_before_lf": False}
# Of a reason phrase (RFC 9112 section 4); llhttp lets controls stand there.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Members are looked up on their class in Python; these are asked for every piece.
_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE


class ResponseHead:
    """The head of one response, as received.

    Attributes:
        version: `1.0` or `1.1`.
        reason: the reason phrase, possibly empty.
        fields: read once.
        keeps_alive: whether the upstream will take another request on this connection.
    """

    __slots__ = ("body", "fields", "keeps_alive", "reason", "status", "version")

    def __init__(self, status: int, reason: bytes, version: str, fields: Head, body: Body) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self.fields = fields
        self.body = body
        self.keeps_alive = (
            version == "1.1"
            and body.framing is not _CLOSE
            # Behind a 101 it is no HTTP any more.
            and status != _SWITCHING_PROTOCOLS
            and not (fields.has(b"connection") and b"close" in fields.options(b"connection"))
        )

    @property
    def is_event_stream(self) -> bool:
        """Whether the content comes event by event, with silence in between, for as long as it likes."""
        return any(
            value.lower().startswith(b"text/event-stream") for value in self.fields.values(b"content-type")
        )

    def retry_after_at(self, now: float) -> float | None:
        """When the upstream wants to be called again, in monotonic seconds; a success does not say so."""
        # RFC 9110 section 10.2.3 names 503, 429 and redirections.
        if self.status < 300 or not self.fields.has(b"retry-after"):  # noqa: PLR2004 -- see above
            return None
        dates = self.fields.values(b"date")
        return retry_after_at(self.fields.values(b"retry-after")[-1], dates[-1] if dates else None, now)

    @property
    def keep_alive_s(self) -> float | None:
        """For how long the upstream says it keeps an idle connection, None if it does not say.

        It may close at the very end of that time, so that a second less is counted, if there is one.
        """
        if not self.fields.has(b"keep-alive"):
            return None
        for option in self.fields.options(b"keep-alive"):
            told = _KEEP_ALIVE.fullmatch(option)
            if told is not None:
                return max(0.0, int(told[1]) - 1.0)
        return None


class ResponseParser:
    """One response, its interim responses included.

    Feed it (`feed`, `feed_eof`), then look at what it has found: `interim` and `head` as soon as they are
    whole, `take` for the content so far, `complete` at the end, `fault` if the response is malformed.

    Args:
        method: of the request, since a response to HEAD has no content.
        max_head: bounds each head, and what stands between pieces of content (chunk extensions, trailers).
        max_fields: bounds the fields of each head, and the trailers.
        may_switch: whether the request asked for another protocol, so that 101 may be the answer.

    Attributes:
        trailers: the fields behind chunked content.
        tail: what came behind a 101.
        excess: bytes came behind the complete response.
    """

    head: ResponseHead | None = None
    complete: bool = False
    fault: ProxyError | None = None
    excess: bool = False
    started: bool = False
    buffered: int = 0
    tail: bytes = b""
    _protocol: bytes = b""
    _reason: bytes = b""
    _overhead: int = 0
    _interim_seen: int = 0
    _content_left: int = 0

    def __init__(self, method: str, max_head: int, max_fields: int, *, may_switch: bool = False) -> None:
        self._method = method
        self._max_head = max_head
        self._max_fields = max_fields
        self._may_switch = may_switch
        self.interim: list[ResponseHead] = []
        self._fields: Fields = []
        self._content: list[bytes] = []
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(**_LENIENCIES)
        self._parser: httptools.HttpResponseParser | None = parser

    def __repr__(self) -> str:
        status = None if self.head is None else self.head.status
        return f"<ResponseParser status={status} complete={self.complete} fault={self.fault!r}>"

    def close(self) -> None:
        """Ends it: the two parsers know each other, and only the garbage collector would end them."""
        self._parser = None

    def feed(self, received: bytes) -> None:
        """Takes what has arrived; never raises."""
        self.started = True
        if self.head is not None and self.head.status == _SWITCHING_PROTOCOLS:
            # A loop may read more than once before anybody has taken the connection over.
            self.tail += received
            return
        if self.complete:
            self.excess = True
        parser = self._parser
        if self.complete or self.fault is not None or parser is None:
            return
        if not self._protocol and received.startswith(_PROTOCOL):
            self._protocol = _PROTOCOL
        elif len(self._protocol) < len(_PROTOCOL):
            # llhttp takes RTSP and ICE as well, and does not say which it was. It skips empty lines.
            self._protocol = (self._protocol + received).lstrip(b"\r\n")[: len(_PROTOCOL)]
            if not _PROTOCOL.startswith(self._protocol):
                self._fail(HttpProtocolError("the response is not HTTP/1.1"))
                return
        self._overhead += len(received)
        try:
            parser.feed_data(received)
        except httptools.HttpParserUpgrade as switch:
            self._end_switch(received, switch)
        except httptools.HttpParserError:
            self._fail(HttpProtocolError("the response is not HTTP/1.1"))
        if self._overhead > self._max_head:
            where = "head" if self.head is None else "chunk extensions or trailers"
            self._fail(HttpResponseHeaderSectionSize(f"{where} of the response beyond limits.max_head"))

    def feed_eof(self) -> None:
        """Takes note that the upstream has closed: the end of a response that has no other end."""
        if self.head is not None and self.head.body.framing is _CLOSE and self.fault is None:
            self.complete = True

    def take(self) -> bytes:
        """Gives out the content that has arrived since the last call."""
        content = self._content[0] if len(self._content) == 1 else b"".join(self._content)
        self._content.clear()
        self.buffered = 0
        return content

    @property
    def trailers(self) -> Fields:
        """What came behind chunked content, once it is complete."""
        return self._fields

    # Called by httptools, by these names. An exception here would come back as a parser error, so faults
    # are noted and not raised.

    def on_message_begin(self) -> None:
        """A status line begins; behind a final response it is excess."""
        if self.head is not None:
            self.excess = True
            return
        self._reason = b""
        self._fields = []

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, possibly in pieces."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of a head, or of the trailers."""
        if not self.complete:
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
        if head.status < 200 and head.status != _SWITCHING_PROTOCOLS:  # noqa: PLR2004 -- RFC 9110 section 15.2
            self._interim_seen += 1
            if self._interim_seen > MAX_INTERIM:
                self.fault = HttpProtocolError(f"more than {MAX_INTERIM} interim responses")
            else:
                self.interim.append(head)
            return
        self.head = head
        self._fields = []
        framing, length = head.body
        self._content_left = length
        self.complete = framing is _NONE or (framing is _LENGTH and length == 0)
        self._overhead = 0
        if framing is _CHUNKED and self._parser is not None:
            self._parser.set_dangerous_leniencies(**_IN_CHUNKS)

    def on_chunk_header(self) -> None:
        """A chunk begins; behind a response without content it is excess."""
        self.excess = self.excess or self.complete
        if self.head is None:
            self._refuse_interim_content()

    def on_body(self, content: bytes) -> None:
        """A piece of content; what stood before it no longer counts against `max_head`."""
        if self.complete or self.fault is not None:
            self.excess = True
            return
        if self.head is None:
            self._refuse_interim_content()
            return
        self._overhead = 0
        if len(self._content) >= _MAX_PIECES:
            self._content = [b"".join(self._content)]
        self._content.append(content)
        self.buffered += len(content)
        if self.head.body.framing is _LENGTH:
            self._content_left -= len(content)
            self.complete = self._content_left == 0

    def on_message_complete(self) -> None:
        """The end that llhttp sees; for chunked content it is the only one."""
        if self.head is None:
            self._overhead = 0
        elif self.head.body.framing is _CHUNKED and not self.complete and self.fault is None:
            self.fault = self._fault_of_fields("trailers")
            self.complete = self.fault is None

    def _end_switch(self, received: bytes, switch: httptools.HttpParserUpgrade) -> None:
        """Takes what stands where llhttp sees another protocol begin: behind a 101, if at all."""
        if self.head is not None and self.head.status == _SWITCHING_PROTOCOLS:
            self.tail = received[switch.args[0] :]
        else:
            self.excess = True

    def _refuse_interim_content(self) -> None:
        # RFC 9110 section 15.2: an interim response ends with its head. llhttp gives one the content that its
        # fields announce, and the client would take that for content of the final response.
        self._fail(HttpProtocolError("an interim response has content"))

    def _fail(self, fault: ProxyError) -> None:
        """Notes what is wrong; behind a complete message that only makes the connection unfit."""
        if self.complete:
            self.excess = True
        elif self.fault is None:
            self.fault = fault

    def _make_head(self) -> ResponseHead:
        parser = self._parser
        if parser is None:
            raise RuntimeError("the parser is closed")
        status = parser.get_status_code()
        version = parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise HttpProtocolError("the response is neither HTTP/1.0 nor HTTP/1.1")
        if status < 100 or (status == _SWITCHING_PROTOCOLS and not self._may_switch):  # noqa: PLR2004 -- RFC 9110 section 15
            raise HttpProtocolError("the response has an impossible status")
        fault = self._fault_of_fields("head")
        if fault is not None:
            raise fault
        fields = Head(self._fields)
        if status == _SWITCHING_PROTOCOLS and not fields.upgrades:
            raise HttpProtocolError("the upstream switches to a protocol that nobody asked for")
        return ResponseHead(
            status, self._reason, version, fields, fields.response_body(status=status, method=self._method)
        )

    def _fault_of_fields(self, where: str) -> ProxyError | None:
        """What is wrong with the fields of a head or of trailers, if anything is."""
        fields = self._fields
        # What has arrived so far bounds the first head, and costs nothing.
        may_be_large = self.head is not None or self._interim_seen or self._overhead > self._max_head
        if may_be_large and len(self._reason) + size_of(fields) > self._max_head:
            return HttpResponseHeaderSectionSize(f"the {where} of the response exceeds limits.max_head")
        if len(fields) > self._max_fields:
            return HttpResponseHeaderSectionSize(f"the {where} of the response exceeds limits.max_fields")
        if _CONTROL.search(self._reason):
            return HttpProtocolError("the reason phrase of the response holds a control character")
        return None
