"""What bytes mean: h11 reads what the proxy says, readers of our own what it hears.

h11 takes bare LF, folded lines and repeated lengths; so each head is held against the grammar of RFC 9112
first. Nothing here is shared with the product: where the two disagree, one of them is wrong.
"""

import re
from dataclasses import dataclass, field, replace

import h11

Fields = list[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*(.*?)[ \t]*", re.DOTALL)
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) (HTTP/1\.[01])")
# RFC 9112 section 3: "recipients MAY instead parse on whitespace-delimited word boundaries".
_SPACED_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") +([\x21-\x7e]+) +(HTTP/1\.[01])")
# What tells in a tunnel that its client speaks HTTP: one such line, within what one may have (section 3).
_BEGINS_HTTP = re.compile(
    rb"(?:\r?\n)*[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [\x21-\x7e\x80-\xff]+ HTTP/1\.[01]\r?\n"
)
_LONGEST_LINE = 8192
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([0-9]{3})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_SLOPPY_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) +([0-9]{3})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# RFC 9112 section 7.1.1, as a sender must keep to it: the blanks that the grammar has in extensions are "bad
# whitespace", which no sender may generate (RFC 9110 section 5.6.3), and llhttp knows no behind the `;`.
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSIONS = rb"(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
_SENT_CHUNK = re.compile(rb"(0*[0-9A-Fa-f]{1,15})" + _EXTENSIONS + rb"\r\n")
# As a recipient may: whatever an extension says, it moves no boundary.
_CHUNK = re.compile(rb"(0*[0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_SLOPPY_CHUNK = re.compile(rb"(0*[0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?\n")
_BLANK = re.compile(rb"\r\n\r\n")
_SLOPPY_BLANK = re.compile(rb"\n\r?\n")
_MOST = 1 << 24


class Malformed(Exception):
    """No reading of these bytes is right."""


@dataclass(frozen=True)
class Request:
    """One request; `end` is the offset behind it, `complete` says that it is all there."""

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    content: bytes
    complete: bool
    end: int

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


@dataclass(frozen=True)
class Answer:
    """One response, with the interim ones before it; `status` is 0 while the head is not there."""

    status: int = 0
    reason: bytes = b""
    fields: Fields = field(default_factory=list)
    content: bytes = b""
    trailers: Fields = field(default_factory=list)
    interim: tuple[int, ...] = ()
    complete: bool = False
    end: int = 0

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


def requests_of(stream: bytes, at: int = 0) -> list[Request]:
    """The requests that a strict reader finds in what a client sent: up to the first fault, or a CONNECT.

    The last one may be incomplete: its head is right, of its content the beginning is.
    """
    found: list[Request] = []
    while True:
        # RFC 9112 section 2.2: empty lines before a request are ignored.
        at = _behind_empty_lines(stream, at)
        try:
            line, fields, begin = _head(stream, at, sloppy=False)
            match = _SPACED_REQUEST_LINE.fullmatch(line)
            if match is None:
                return found
            method, target, version = match.groups()
            kind, length = framing(fields)
            if kind == "chunked" and version == b"HTTP/1.0":
                return found
        except (Malformed, _Cut):
            return found
        hosts = sum(name.lower() == b"host" for name, _ in fields)
        if hosts > 1 or (method == b"CONNECT" and kind != "none"):
            return found
        content = _Content(b"", complete=True, end=begin)
        if kind != "none":
            content = _content(stream, begin, kind, length, chunk=_CHUNK)
        found.append(Request(method, target, version, fields, content.taken, content.complete, content.end))
        if not content.complete or method == b"CONNECT":
            return found
        at = content.end


def inside_of(stream: bytes, requests: list[Request]) -> list[Request] | None:
    """The requests inside of the CONNECT that these end with; None if what is inside is only carried."""
    if not requests or requests[-1].method != b"CONNECT":
        return None
    at = requests[-1].end
    return requests_of(stream, at) if begins_http(stream[at:]) else None


def begins_http(said: bytes) -> bool:
    """Whether who says this first in a tunnel speaks HTTP/1."""
    line = _BEGINS_HTTP.match(said)
    return line is not None and line.end() <= _LONGEST_LINE


def arrived_of(stream: bytes) -> tuple[list[Request], bytes]:
    """The requests that h11 finds in what an upstream got, and what follows an upgrade; the last may be cut.

    Raises:
        Malformed: it finds something else.
    """
    found: list[Request] = []
    at = 0
    while at < len(stream):
        try:
            line, fields, _ = _head(stream, at, sloppy=False)
        except _Cut:
            return found, b""
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"request line {line!r}")
        framing(fields)
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST)
        parser.receive_data(stream[at:])
        content, complete = b"", False
        while not complete:
            event = _next(parser)
            if event is h11.NEED_DATA:
                break
            content += bytes(event.data) if isinstance(event, h11.Data) else b""
            complete = isinstance(event, h11.EndOfMessage)
        at = len(stream) - len(parser.trailing_data[0]) if complete else len(stream)
        method, target, version = match.groups()
        request = Request(method, target, version, fields, content, complete, at)
        found.append(request)
        if request.values(b"upgrade"):
            return found, stream[at:]
    return found, b""


def answer_of(stream: bytes, method: bytes, *, ended: bool, upgrade: bool = False) -> Answer:
    """The first answer that h11 finds in a stream, strictly.

    Args:
        stream: what came.
        method: of the request.
        ended: the stream has ended in an orderly way.
        upgrade: the request has asked for WebSocket.

    Raises:
        Malformed: it finds something else.
    """
    asked = [("Host", "a")] + [("Upgrade", "websocket"), ("Connection", "Upgrade")] * upgrade
    target = "a:1" if method == b"CONNECT" else "/"
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST)
    parser.send(h11.Request(method=method, target=target, headers=asked))
    parser.send(h11.EndOfMessage())
    parser.receive_data(stream)
    answer, kind, at = Answer(), "none", 0
    while answer.status == 0:
        try:
            line, fields, at = _head(stream, at, sloppy=False)
        except _Cut:
            if not b"HTTP/1.1 ".startswith(stream[at : at + 9]):
                raise Malformed(f"not a status line: {stream[at:]!r}") from None
            return replace(answer, end=len(stream))
        event = _next(parser)
        if not _STATUS_LINE.fullmatch(line) or not isinstance(
            event, h11.InformationalResponse | h11.Response
        ):
            raise Malformed(f"status line {line!r}")
        kind, _ = framing(fields)
        status = event.status_code
        if status >= 200 or status == 101:
            answer = replace(answer, status=status, reason=bytes(event.reason), fields=fields)
        elif kind != "none":
            raise Malformed("an interim response with content")
        elif line.startswith(b"HTTP/1.0") or b"close" in options(fields):
            # RFC 9110 section 15.2: HTTP/1.0 has none. RFC 9112 section 9.6: behind `close` comes nothing.
            raise Malformed("an interim response that is the last one")
        else:
            answer = replace(answer, interim=(*answer.interim, status))
    if answer.status == 101 or (method == b"CONNECT" and answer.status < 300):
        return replace(answer, complete=True, end=at)
    # The end of the stream is an end only for content that has no other.
    read = _with_content(answer, parser, len(stream), ends_it=ended and kind == "none")
    # h11 takes any byte but LF for a chunk extension, a bare CR as well. RFC 9112 section 7.1.1 does not.
    # A response to HEAD ends with its head, whatever that says.
    chunked = read.complete and kind == "chunked" and read.end > at
    if chunked and not _content(stream, at, kind, 0, chunk=_SENT_CHUNK).complete:
        raise Malformed("a chunk that is none")
    return read


def _with_content(answer: Answer, parser: h11.Connection, size: int, *, ends_it: bool) -> Answer:
    content = b""
    while isinstance(event := _next(parser), h11.Data):
        content += bytes(event.data)
    if event is h11.NEED_DATA:
        return replace(answer, content=content, complete=ends_it, end=size)
    trailers = event.headers.raw_items() if isinstance(event, h11.EndOfMessage) else []
    end = size - len(parser.trailing_data[0])
    return replace(answer, content=content, trailers=trailers, complete=True, end=end)


def sloppy_answer_of(stream: bytes, method: bytes, *, ended: bool) -> Answer:
    """The first answer in a stream whose sender takes liberties that change no boundary.

    LF alone ends a line, empty lines come before the first, spaces follow the size of a chunk.

    Raises:
        Malformed: it is not even that.
    """
    answer = Answer()
    at = 0
    while True:
        # RFC 9112 section 2.2 has this for requests only, but it harms nobody.
        at = _behind_empty_lines(stream, at)
        try:
            line, fields, at = _head(stream, at, sloppy=True)
        except _Cut:
            return replace(answer, end=len(stream))
        match = _SLOPPY_STATUS_LINE.fullmatch(line)
        status = int(match[2]) if match else 0
        if match is None or status < 100 or status == 101:
            raise Malformed(f"status line {line!r}")
        kind, length = framing(fields)
        if status >= 200:
            break
        answer = replace(answer, interim=(*answer.interim, status))
    answer = replace(answer, status=status, reason=match[3] or b"", fields=fields)
    if method == b"HEAD" or status in {204, 304}:
        return replace(answer, complete=True, end=at)
    if kind == "none":
        return replace(answer, content=stream[at:], complete=ended, end=len(stream))
    content = _content(stream, at, kind, length, chunk=_SLOPPY_CHUNK)
    return replace(
        answer,
        content=content.taken,
        trailers=content.trailers,
        complete=content.complete,
        end=content.end,
    )


def options(fields: Fields) -> set[bytes]:
    """What `Connection` says (RFC 9110 section 7.6.1), in lower case."""
    values = [value for name, value in fields if name.lower() == b"connection"]
    return {option.strip(b" \t").lower() for value in values for option in value.split(b",")}


def framing(fields: Fields) -> tuple[str, int]:
    """`none`, `length` or `chunked`, and the length: RFC 9112 section 6.3, less what is ambiguous.

    Raises:
        Malformed: nobody should read this.
    """
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise Malformed("framed twice")
    if codings:
        if codings[0].lower() != b"chunked":
            raise Malformed("a coding other than chunked")
        return "chunked", 0
    if lengths:
        if not _LENGTH.fullmatch(lengths[0]):
            raise Malformed("a length that is none")
        return "length", int(lengths[0])
    return "none", 0


class _Cut(Exception):
    """The stream ends before the head does."""


@dataclass(frozen=True)
class _Content:
    taken: bytes
    complete: bool
    end: int
    trailers: Fields = field(default_factory=list)


def _head(stream: bytes, at: int, *, sloppy: bool) -> tuple[bytes, Fields, int]:
    """The first line of the head at this offset, its fields, and the offset behind it."""
    blank = (_SLOPPY_BLANK if sloppy else _BLANK).search(stream, at)
    if blank is None:
        raise _Cut
    text = stream[at : blank.start()]
    first, *rest = _lines(text, sloppy=sloppy)
    return first, _fields(rest), blank.end()


def _behind_empty_lines(stream: bytes, at: int) -> int:
    return len(stream) - len(stream[at:].lstrip(b"\r\n"))


def _lines(text: bytes, *, sloppy: bool) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in text.split(b"\n")] if sloppy else text.split(b"\r\n")


def _fields(lines: list[bytes]) -> Fields:
    fields: Fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None or not _VALUE.fullmatch(match[2]):
            raise Malformed(f"field line {line!r}")
        fields.append((match[1], match[2]))
    return fields


def _content(stream: bytes, at: int, kind: str, length: int, *, chunk: re.Pattern[bytes]) -> _Content:
    sloppy = chunk is _SLOPPY_CHUNK
    if kind == "length":
        return _Content(
            stream[at : at + length], complete=len(stream) - at >= length, end=min(at + length, len(stream))
        )
    taken = b""
    while True:
        size = chunk.match(stream, at)
        if size is None:
            return _Content(taken, complete=False, end=at)
        length = int(size[1], 16)
        if length == 0:
            break
        at = size.end() + length
        taken += stream[size.end() : at]
        end = re.compile(rb"\r?\n" if sloppy else rb"\r\n").match(stream, at)
        if end is None:
            return _Content(taken, complete=False, end=at)
        at = end.end()
    # The trailers end with an empty line; without any it stands behind the last chunk's own line.
    blank = (_SLOPPY_BLANK if sloppy else _BLANK).search(stream, size.end() - (1 if sloppy else 2))
    if blank is None:
        return _Content(taken, complete=False, end=len(stream))
    text = stream[size.end() : blank.start()]
    try:
        trailers = _fields(_lines(text, sloppy=sloppy) if text else [])
    except Malformed:
        return _Content(taken, complete=False, end=size.end())
    # RFC 9110 section 6.5.1: a sender MUST NOT have it there, and RFC 9112 section 6.1 wants a message with a
    # coding and a length handled as an error: llhttp holds to that to the end.
    complete = not any(name.lower() == b"content-length" for name, _ in trailers)
    return _Content(taken, complete=complete, end=blank.end(), trailers=trailers)


def _next(parser: h11.Connection) -> object:
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as error:
        raise Malformed(str(error)) from error
