"""Responses as bytes, and what is read out of them, however they are cut into pieces."""

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import (
    HttpProtocolError,
    HttpResponseHeaderSectionSize,
    HttpResponseTransferCoding,
    ProxyError,
)
from proxy.core.headers import Framing
from proxy.wire.parser import ResponseParser

MAX_HEAD = 1024
MAX_INTERIM = 16
OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@dataclass(frozen=True)
class Row:
    """A whole response and what it says."""

    text: bytes
    content: bytes = b"ok"
    method: str = "GET"
    status: int = 200
    reason: bytes = b"OK"
    framing: Framing = Framing.LENGTH
    keeps_alive: bool = True
    interim: tuple[int, ...] = ()


WHOLE = {
    "length": Row(OK + TWO),
    "empty": Row(OK + b"Content-Length: 0\r\n\r\n", b""),
    "length with spaces around": Row(OK + b"Content-Length: \t 2 \t\r\n\r\nok"),
    "content that looks like a response": Row(OK + b"Content-Length: 17\r\n\r\n" + OK, OK),
    "chunked": Row(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", framing=Framing.CHUNKED),
    "chunked, in capitals": Row(
        OK + b"TRANSFER-ENCODING: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", framing=Framing.CHUNKED
    ),
    "chunked, nothing": Row(CHUNKED + b"0\r\n\r\n", b"", framing=Framing.CHUNKED),
    "chunked, several": Row(
        CHUNKED + b"1\r\no\r\n00A\r\nk123456789\r\n0\r\n\r\n", b"ok123456789", framing=Framing.CHUNKED
    ),
    "chunk extensions": Row(CHUNKED + b'2;a=b;c="d"\r\nok\r\n0;e\r\n\r\n', framing=Framing.CHUNKED),
    "spaces behind a chunk size": Row(CHUNKED + b"2  \r\nok\r\n0\r\n\r\n", framing=Framing.CHUNKED),
    "trailers": Row(CHUNKED + b"2\r\nok\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\n", framing=Framing.CHUNKED),
    "HEAD": Row(OK + b"Content-Length: 9\r\n\r\n", b"", "HEAD", framing=Framing.NONE),
    "HEAD, chunked": Row(CHUNKED, b"", "HEAD", framing=Framing.NONE),
    "HEAD, no framing": Row(OK + b"\r\n", b"", "HEAD", framing=Framing.NONE),
    "204": Row(b"HTTP/1.1 204 None\r\n\r\n", b"", status=204, reason=b"None", framing=Framing.NONE),
    "204 with a length": Row(
        b"HTTP/1.1 204 \r\nContent-Length: 9\r\n\r\n", b"", status=204, reason=b"", framing=Framing.NONE
    ),
    "304 with a length": Row(
        b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n",
        b"",
        status=304,
        reason=b"Same",
        framing=Framing.NONE,
    ),
    "304, chunked": Row(
        b"HTTP/1.1 304 \r\nTransfer-Encoding: chunked\r\n\r\n",
        b"",
        status=304,
        reason=b"",
        framing=Framing.NONE,
    ),
    "HTTP/1.0": Row(b"HTTP/1.0 200 OK\r\n" + TWO, keeps_alive=False),
    "HTTP/1.0 that would stay": Row(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + TWO, keeps_alive=False
    ),
    "asks to close": Row(OK + b"Connection: close\r\n" + TWO, keeps_alive=False),
    "asks to close, among others": Row(
        OK + b"connection: X-Hop , CLOSE\r\nX-Hop: 1\r\n" + TWO, keeps_alive=False
    ),
    "does not ask to close": Row(OK + b"Connection: closed, x-close\r\nX: close\r\n" + TWO),
    "upgrade offered, none made": Row(OK + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + TWO),
    "no phrase": Row(b"HTTP/1.1 200\r\n" + TWO, reason=b""),
    "a phrase beyond ASCII": Row(b"HTTP/1.1 200 caf\xe9\r\n" + TWO, reason=b"caf\xe9"),
    "the last status": Row(b"HTTP/1.1 999 OK\r\n" + TWO, status=999),
    "bare LF": Row(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    "empty lines before": Row(b"\r\n\r\n" + OK + TWO),
    "interim": Row(EARLY + OK + TWO, interim=(103,)),
    "two interims": Row(b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY + OK + TWO, interim=(100, 103)),
    "as many interims as may be": Row(EARLY * MAX_INTERIM + OK + TWO, interim=(103,) * MAX_INTERIM),
    "interim with an empty length": Row(
        b"HTTP/1.1 199 \r\nContent-Length: 0\r\n\r\n" + OK + TWO, interim=(199,)
    ),
    "interim before the answer to HEAD": Row(
        EARLY + OK + b"Content-Length: 9\r\n\r\n", b"", "HEAD", framing=Framing.NONE, interim=(103,)
    ),
    "as large a head as may be": Row(OK + b"X: %b\r\n" % (b"y" * 980) + TWO),
    "chunks behind as large a head as may be": Row(
        CHUNKED[:-2] + b"X: %b\r\n\r\n" % (b"y" * 970) + b"2;%b\r\nok\r\n0\r\n\r\n" % (b"e" * 900),
        framing=Framing.CHUNKED,
    ),
    "many chunk extensions, each within bounds": Row(
        CHUNKED + b"1;%b\r\no\r\n" % (b"e" * 900) * 4 + b"0;%b\r\n\r\n" % (b"e" * 900),
        b"oooo",
        framing=Framing.CHUNKED,
    ),
}
UNTIL_CLOSE = {
    "HTTP/1.1": Row(OK + b"X: 1\r\n\r\nok", framing=Framing.CLOSE, keeps_alive=False),
    "HTTP/1.0": Row(b"HTTP/1.0 200 OK\r\n\r\nok", framing=Framing.CLOSE, keeps_alive=False),
    "nothing": Row(OK + b"\r\n", b"", framing=Framing.CLOSE, keeps_alive=False),
    "what looks like chunks": Row(
        OK + b"\r\n0\r\n\r\n", b"0\r\n\r\n", framing=Framing.CLOSE, keeps_alive=False
    ),
    "interim": Row(EARLY + OK + b"\r\nok", framing=Framing.CLOSE, keeps_alive=False, interim=(103,)),
}
MALFORMED: dict[str, tuple[bytes, type[ProxyError]]] = {
    "another protocol": (b"SSH-2.0-OpenSSH_9\r\n", HttpProtocolError),
    "a request": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", HttpProtocolError),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46", HttpProtocolError),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\n" + TWO, HttpProtocolError),
    "HTTP/0.9": (b"HTTP/0.9 200 OK\r\n" + TWO, HttpProtocolError),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n" + TWO, HttpProtocolError),
    "small letters": (b"http/1.1 200 OK\r\n" + TWO, HttpProtocolError),
    "status 99": (b"HTTP/1.1 99 OK\r\n" + TWO, HttpProtocolError),
    "status 099": (b"HTTP/1.1 099 OK\r\n" + TWO, HttpProtocolError),
    "status 099 and nothing else": (b"HTTP/1.1 099 OK\r\n\r\n", HttpProtocolError),
    "status 000": (b"HTTP/1.1 000 OK\r\n" + TWO, HttpProtocolError),
    "status of four digits": (b"HTTP/1.1 2000 OK\r\n" + TWO, HttpProtocolError),
    "101 that nobody asked for": (
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        HttpProtocolError,
    ),
    "101 without an upgrade": (b"HTTP/1.1 101 Switching\r\n\r\n", HttpProtocolError),
    "both lengths and chunks": (
        CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HttpProtocolError,
    ),
    "both chunks and lengths": (
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        HttpProtocolError,
    ),
    "the length twice": (OK + b"Content-Length: 2\r\n" + TWO, HttpProtocolError),
    "a list of lengths": (OK + b"Content-Length: 2, 2\r\n\r\nok", HttpProtocolError),
    "no length": (OK + b"Content-Length:\r\n\r\nok", HttpProtocolError),
    "a signed length": (OK + b"Content-Length: +2\r\n\r\nok", HttpProtocolError),
    "a length beyond any": (OK + b"Content-Length: 9999999999999999999\r\n\r\nok", HttpProtocolError),
    "gzip": (OK + b"Transfer-Encoding: gzip\r\n\r\nok", HttpResponseTransferCoding),
    "gzip, chunked": (
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HttpResponseTransferCoding,
    ),
    "chunked twice": (
        OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        HttpResponseTransferCoding,
    ),
    "identity": (OK + b"Transfer-Encoding: identity\r\n\r\nok", HttpResponseTransferCoding),
    "a coding with a vertical tab": (
        OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        HttpProtocolError,
    ),
    "a coding with a tab": (
        OK + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
        HttpResponseTransferCoding,
    ),
    "a bare CR for a value": (OK + b"X:\r\r\n" + TWO, HttpProtocolError),
    "a bare CR before a value": (OK + b"X:\r b\r\n" + TWO, HttpProtocolError),
    "a line of spaces": (OK + b" \r\n" + TWO, HttpProtocolError),
    "a first field with a space before it": (OK + b" X: y\r\n" + TWO, HttpProtocolError),
    "obs-fold": (OK + b"X: a\r\n b\r\n" + TWO, HttpProtocolError),
    "a control character": (OK + b"X: a\x01b\r\n" + TWO, HttpProtocolError),
    "a control character in the phrase": (b"HTTP/1.1 200 O\x01K\r\n" + TWO, HttpProtocolError),
    "a coding to HEAD": (OK + b"Transfer-Encoding: gzip\r\n\r\n", HttpResponseTransferCoding),
    "NUL in a value": (OK + b"X: a\0b\r\n" + TWO, HttpProtocolError),
    "CR in a value": (OK + b"X: a\rb\r\n" + TWO, HttpProtocolError),
    "NUL in the phrase": (b"HTTP/1.1 200 O\0K\r\n" + TWO, HttpProtocolError),
    "CR in the phrase": (b"HTTP/1.1 200 O\rK\r\n" + TWO, HttpProtocolError),
    "NUL in an interim": (b"HTTP/1.1 103 E\r\nX: \0\r\n\r\n" + OK + TWO, HttpProtocolError),
    "a space before the colon": (OK + b"Content-Length : 2\r\n\r\nok", HttpProtocolError),
    "a space before the colon of a coding": (
        OK + b"Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\nok",
        HttpProtocolError,
    ),
    "no name": (OK + b": 1\r\n" + TWO, HttpProtocolError),
    "no colon": (OK + b"X\r\n" + TWO, HttpProtocolError),
    "a name beyond ASCII": (OK + b"\xe4: 1\r\n" + TWO, HttpProtocolError),
    "no chunk size": (CHUNKED + b"\r\nok\r\n", HttpProtocolError),
    "a chunk size that is none": (CHUNKED + b"zz\r\n", HttpProtocolError),
    "a signed chunk size": (CHUNKED + b"-2\r\nok\r\n", HttpProtocolError),
    "a prefixed chunk size": (CHUNKED + b"0x2\r\nok\r\n", HttpProtocolError),
    "a chunk size beyond any": (CHUNKED + b"fffffffffffffffff\r\n", HttpProtocolError),
    "a chunk that is longer than it says": (CHUNKED + b"2\r\nok!\r\n0\r\n\r\n", HttpProtocolError),
    "bare LF between chunks": (CHUNKED + b"2\nok\n0\n\n", HttpProtocolError),
    # With its leniency llhttp takes this for a whole chunk, where others begin the content one byte earlier.
    "two bare LF behind a chunk size": (CHUNKED + b"2\n\nok\r\n0\r\n\r\n", HttpProtocolError),
    "bare LF behind a chunk extension": (CHUNKED + b"2;a=b\nok\r\n0\r\n\r\n", HttpProtocolError),
    "bare LF behind a chunk": (CHUNKED + b"2\r\nok\n0\r\n\r\n", HttpProtocolError),
    # And these for trailers, where for others the content has ended.
    "two bare LF behind the last size": (CHUNKED + b"0\n\nX: 1\r\n\r\n", HttpProtocolError),
    "bare LF behind a trailer": (CHUNKED + b"0\r\nX: 1\n\r\n", HttpProtocolError),
    "bare LF at the end": (CHUNKED + b"0\r\n\n", HttpProtocolError),
    # RFC 9110 section 5.6.3: senders MUST NOT generate these blanks.
    "a blank in a chunk extension": (CHUNKED + b"2; a=b\r\nok\r\n0\r\n\r\n", HttpProtocolError),
    # RFC 9110 section 6.5.1: senders MUST NOT generate it there.
    "a length among the trailers": (CHUNKED + b"0\r\nContent-Length: 2\r\n\r\n", HttpProtocolError),
    "one interim too many": (EARLY * (MAX_INTERIM + 1) + OK + TWO, HttpProtocolError),
    # A proxy that took this for content of the final response would send the client more than its length.
    "interim with content": (
        b"HTTP/1.1 110 \r\nContent-Length: 5\r\n\r\nHTTP/" + OK + TWO,
        HttpProtocolError,
    ),
    "interim with chunks": (
        b"HTTP/1.1 110 \r\nTransfer-Encoding: chunked\r\n\r\n1\r\nX\r\n0\r\n\r\n" + OK + TWO,
        HttpProtocolError,
    ),
    "interim with no more than the end of chunks": (
        b"HTTP/1.1 110 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + OK + TWO,
        HttpProtocolError,
    ),
    # RFC 9112 section 9.6: a server that says so closes behind that response.
    "interim that closes": (
        b"HTTP/1.1 103 \r\nConnection: close\r\n\r\n" + OK + TWO,
        HttpProtocolError,
    ),
    "100 with content": (
        b"HTTP/1.1 100 \r\nContent-Length: 5\r\n\r\nHTTP/" + OK + TWO,
        HttpProtocolError,
    ),
    "a value too large": (OK + b"X: %b\r\n" % (b"y" * 1100) + TWO, HttpResponseHeaderSectionSize),
    "a name too large": (OK + b"%b: 1\r\n" % (b"y" * 1100) + TWO, HttpResponseHeaderSectionSize),
    "fields too many": (OK + b"Xx: y\r\n" * 400 + TWO, HttpResponseHeaderSectionSize),
    "a phrase too large": (b"HTTP/1.1 200 %b\r\n" % (b"y" * 1100) + TWO, HttpResponseHeaderSectionSize),
    "an interim too large": (
        b"HTTP/1.1 103 E\r\nX: %b\r\n\r\n" % (b"y" * 1100) + OK + TWO,
        HttpResponseHeaderSectionSize,
    ),
}


def fed(
    pieces: Iterable[bytes], method: str = "GET", *, eof: bool = False
) -> tuple[ResponseParser, bytes, list[int]]:
    """A parser that was fed these pieces, with the content and the interim statuses it gave out meanwhile."""
    parser = ResponseParser(method, MAX_HEAD, 128)
    content = b""
    interim = []
    for piece in pieces:
        parser.feed(piece)
        content += parser.take()
        while parser.interim:
            interim.append(parser.interim.pop(0).status)
    if eof:
        parser.feed_eof()
    return parser, content, interim


def one_by_one(text: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in text]


def assert_says(row: Row, parser: ResponseParser, content: bytes, interim: list[int]) -> None:
    assert parser.fault is None
    assert parser.complete
    assert parser.head is not None
    assert (parser.head.status, parser.head.reason) == (row.status, row.reason)
    assert parser.head.body.framing is row.framing
    assert parser.head.keeps_alive is row.keeps_alive
    assert content == row.content
    assert interim == list(row.interim)


@pytest.mark.parametrize("row", WHOLE.values(), ids=WHOLE)
def test_a_whole_response(row: Row) -> None:
    for pieces in ([row.text], one_by_one(row.text)):
        parser, content, interim = fed(pieces, row.method)
        assert_says(row, parser, content, interim)
        assert parser.started
        assert not parser.excess


@pytest.mark.parametrize("row", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(
    "behind", [b"x", b"H", OK + TWO, b"0\r\n\r\n"], ids=["byte", "first byte", "response", "chunk"]
)
def test_bytes_behind_a_whole_response_are_excess_and_change_nothing(row: Row, behind: bytes) -> None:
    for pieces in ([row.text + behind], [row.text, behind], one_by_one(row.text + behind)):
        parser, content, interim = fed(pieces, row.method)
        assert_says(row, parser, content, interim)
        assert parser.excess


@pytest.mark.parametrize("row", WHOLE.values(), ids=WHOLE)
def test_a_response_that_is_cut_is_never_complete(row: Row) -> None:
    for end in range(len(row.text)):
        parser, content, _ = fed([row.text[:end]], row.method, eof=True)
        assert not parser.complete
        assert parser.fault is None
        assert row.content.startswith(content)


@pytest.mark.parametrize("row", UNTIL_CLOSE.values(), ids=UNTIL_CLOSE)
def test_a_response_that_ends_with_the_connection(row: Row) -> None:
    for pieces in ([row.text], one_by_one(row.text)):
        assert not fed(pieces)[0].complete
        assert_says(row, *fed(pieces, eof=True))
        parser, content, _ = fed([*pieces, b"more"], eof=True)
        assert content == row.content + b"more"
        assert not parser.excess


@pytest.mark.parametrize(("text", "fault"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("behind", [b"", OK + TWO], ids=["alone", "and more"])
def test_a_malformed_response(text: bytes, fault: type[ProxyError], behind: bytes) -> None:
    for pieces in ([text + behind], one_by_one(text + behind)):
        parser, content, _ = fed(pieces, eof=True)
        assert type(parser.fault) is fault
        assert not parser.complete
        assert content in (b"", b"ok"), "nothing but what stood before the fault"
        assert str(parser.fault.outcome) == "failure(malformed)"


@pytest.mark.parametrize(
    "text",
    [
        OK + b"X: " + b"y" * 2000,
        b"HTTP/1.1 200 " + b"y" * 2000,
        OK + b"y" * 2000,
        b"\r\n" * 1000,
        CHUNKED + b"2;" + b"e" * 2000,
        CHUNKED + b"2\r\nok\r\n2;" + b"e" * 2000,
        CHUNKED + b"2\r\nok\r\n0\r\nT: " + b"y" * 2000,
        CHUNKED + b"2\r\nok\r\n0\r\n" + b"T: y\r\n" * 1000,
        CHUNKED + b"0" * 2000,
    ],
    ids=[
        "value",
        "phrase",
        "name",
        "empty lines",
        "first extension",
        "later extension",
        "trailer",
        "trailers",
        "zeros",
    ],
)
def test_what_never_ends_is_bounded_by_max_head(text: bytes) -> None:
    parser = ResponseParser("GET", MAX_HEAD, 128)
    taken = 0
    while parser.fault is None:
        parser.feed(text[taken : taken + 1])
        taken += 1
    assert type(parser.fault) is HttpResponseHeaderSectionSize
    # What stood before it has a bound of its own.
    assert (
        taken <= text.find(b"ok") + 2 + MAX_HEAD + 1
        if b"ok" in text
        else taken <= len(CHUNKED) + MAX_HEAD + 1
    )


def test_each_interim_is_bounded_on_its_own() -> None:
    interim = b"HTTP/1.1 103 E\r\nX: %b\r\n\r\n" % (b"y" * 900)
    parser, content, statuses = fed(one_by_one(interim * 3 + OK + TWO))
    assert (parser.fault, content, statuses) == (None, b"ok", [103] * 3)


def test_fields_keep_their_order_case_and_bytes() -> None:
    text = (
        OK
        + b"set-COOKIE: a\r\nSet-Cookie:b\r\nX-\x7e!#: \xe4\xff \t,;\r\nE:\r\n"
        + CHUNKED[17:]
        + b"0\r\nTrailer: 1\r\n\r\n"
    )
    for pieces in ([text], one_by_one(text)):
        parser, _, _ = fed(pieces)
        assert parser.head is not None
        assert parser.head.fields.kept == [
            (b"set-COOKIE", b"a"),
            (b"Set-Cookie", b"b"),
            (b"X-\x7e!#", b"\xe4\xff \t,;"),
            (b"E", b""),
        ]
        assert parser.trailers == [(b"Trailer", b"1")]


def test_an_interim_keeps_its_own_fields() -> None:
    parser = ResponseParser("GET", MAX_HEAD, 128)
    parser.feed(EARLY + OK + TWO)
    assert [head.fields.kept for head in parser.interim] == [[(b"Link", b"</a>")]]
    assert parser.head is not None
    assert parser.head.fields.kept == [(b"Content-Length", b"2")]


def test_content_is_given_out_as_it_arrives() -> None:
    parser = ResponseParser("GET", MAX_HEAD, 128)
    parser.feed(CHUNKED + b"5\r\nab")
    assert (parser.buffered, parser.take(), parser.complete) == (2, b"ab", False)
    parser.feed(b"cde\r\n1\r\nf\r\n")
    assert (parser.buffered, parser.take(), parser.buffered, parser.take()) == (4, b"cdef", 0, b"")
    parser.feed(b"0\r\n\r\n")
    assert (parser.take(), parser.complete) == (b"", True)


def test_an_end_before_the_first_byte_is_no_response() -> None:
    parser, _, _ = fed([], eof=True)
    assert (parser.started, parser.complete, parser.head, parser.fault) == (False, False, None, None)


FRAGMENTS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b":",
    b";",
    b",",
    b"0",
    b"9",
    b"\xff",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"HTTP/1.1 110 \r\nContent-Length: 1\r\n\r\n",
    OK,
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid response with up to four places changed."""
    rows = [*WHOLE.values(), *UNTIL_CLOSE.values()]
    text = bytearray(draw(st.sampled_from([row.text for row in rows if len(row.text) < 200])))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 3)))
        text[start:end] = draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=2))
    return bytes(text)


@given(
    text=mutated() | st.binary(max_size=200) | st.binary(max_size=50).map(OK.__add__),
    method=st.sampled_from(["GET", "HEAD"]),
    eof=st.booleans(),
    cut=st.integers(0, 200),
)
def test_whatever_arrives_is_a_response_or_a_fault_and_never_more_than_announced(
    text: bytes, method: str, cut: int, *, eof: bool
) -> None:
    verdicts = []
    for pieces in ([text], one_by_one(text), [text[:cut], text[cut:]]):
        parser, content, interim = fed(pieces, method, eof=eof)
        assert not (parser.complete and parser.fault is not None)
        assert len(interim) <= MAX_INTERIM + 1
        if parser.head is None:
            assert not parser.complete
            assert content == b""
        elif parser.head.body.framing is Framing.NONE:
            assert content == b""
        elif parser.head.body.framing is Framing.LENGTH:
            length = parser.head.body.length
            assert len(content) == length if parser.complete else len(content) <= length
        verdicts.append((parser.complete, type(parser.fault), content, interim))
    assert verdicts[0] == verdicts[1] == verdicts[2], "how the bytes are cut changes nothing"


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_content_of_any_bytes_passes_in_any_framing(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    for text in (
        OK + b"Content-Length: %d\r\n\r\n" % len(content) + content,
        CHUNKED + chunks + b"0\r\n\r\n",
        OK + b"\r\n" + content,
    ):
        for fed_in in ([text], one_by_one(text)):
            parser, received, _ = fed(fed_in, eof=True)
            assert (parser.complete, parser.fault, received) == (True, None, content)
