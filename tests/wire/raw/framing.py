"""Where content ends: Content-Length and Transfer-Encoding, and every way to say both or neither.

RFC 9112 sections 6 and 7, RFC 9110 section 8.6. Where two readers could find two ends of a request, what lies
between them is executed by one of them alone; so all of that is refused.
"""

from wire.raw.case import BEHIND, OK, OK_AND_CLOSE, Case, Own, arrives, head, passes, refused

_POST = b"POST http://{up}/ HTTP/1.1"
_GET = b"GET http://{up}/ HTTP/1.1"
_ARRIVES = b"POST / HTTP/1.1"
_HOST = b"Host: {up}"
_TE = b"Transfer-Encoding: chunked"
_END = b"0\r\n\r\n"
# What a reader by Content-Length: 5 takes for content, and a reader by chunks for the end.
_FIVE = b"0\r\n\r\n"


def _bad(
    name: str,
    *lines: bytes,
    content: bytes = _FIVE,
    version: bytes = b"1.1",
    status: int = 400,
    reason: str = "bad_request",
) -> Case:
    request = head(b"POST http://{up}/ HTTP/" + version, b"Host: a", *lines)
    return refused(name, request + content, status=status, reason=reason)


def _bad_coding(name: str, *lines: bytes) -> Case:
    """A coding that our own rules refuse; the parser does not."""
    return _bad(name, *lines, status=501, reason="unknown_coding")


def _no_coding(name: str, line: bytes) -> Case:
    """501; or 400, in one read with something behind it."""
    request = head(_POST, b"Host: a", line)
    return refused(name, request + _FIVE, status=501, reason="unknown_coding", read_alone=request)


def _length(name: str, sent: bytes, content: bytes, method: bytes = b"POST") -> Case:
    return passes(
        name,
        head(method + b" http://{up}/ HTTP/1.1", _HOST, b"Content-Length: " + sent) + content,
        arrives(method + b" / HTTP/1.1", _HOST, b"Content-Length: " + sent.strip()) + content,
    )


def _chunks(name: str, content: bytes, arriving: bytes, *lines: bytes, closes: bool = False) -> Case:
    """Chunked content, and the one chunk that it is."""
    chunk = b"%x\r\n%b\r\n" % (len(arriving), arriving) if arriving else b""
    return passes(
        name,
        head(_POST, _HOST, *lines or (_TE,)) + content,
        arrives(_ARRIVES, _HOST, _TE) + chunk + _END,
        closes=closes,
    )


def _another_end(name: str, content: bytes, arriving: bytes) -> Case:
    """Chunked content that does not end in exactly CRLF 0 CRLF CRLF: the connection closes behind it.

    aiohttp hides trailers, and takes the last of them for a field of the next request. So there is no next
    request where nobody can tell that there were none.
    """
    return _chunks(name, content, arriving, closes=True)


def _bad_chunks(name: str, content: bytes) -> Case:
    """Chunked content that goes wrong: the head may have gone on already, but the end never does."""
    return Case(
        name=name,
        sent=head(_POST, _HOST, _TE) + content + BEHIND,
        unfinished=arrives(_ARRIVES, _HOST, _TE),
        own=Own(status=400),
        client_owes=True,
        closes=True,
    )


LENGTHS = (
    _length("length", b"5", b"event"),
    _length("length 0", b"0", b""),
    _length("length with zeros before it", b"005", b"event"),
    _length("length with spaces around it", b" \t5\t ", b"event"),
    _length("content of GET", b"5", b"event", b"GET"),
    _length("content of DELETE", b"5", b"event", b"DELETE"),
    _length("content of PUT", b"256", bytes(range(256)), b"PUT"),
    _length("content of OPTIONS", b"5", b"event", b"OPTIONS"),
    _length(
        "content that looks like a request", b"%d" % len(b"GET / HTTP/1.1\r\n\r\n"), b"GET / HTTP/1.1\r\n\r\n"
    ),
    _length("content that looks like chunks", b"10", b"5\r\nevent\r\n0"[:10]),
    passes(
        "encoded content",
        head(_POST, _HOST, b"Content-Encoding: gzip", b"Content-Length: 5") + b"\x1f\x8b\x08no",
        arrives(_ARRIVES, _HOST, b"Content-Encoding: gzip", b"Content-Length: 5") + b"\x1f\x8b\x08no",
    ),
    passes("POST without a length", head(_POST, _HOST), arrives(_ARRIVES, _HOST)),
    _bad("length with a plus", b"Content-Length: +5"),
    _bad("length with a minus", b"Content-Length: -5"),
    _bad("length with a space in it", b"Content-Length: 5 5"),
    _bad("length with a tab in it", b"Content-Length: 0\t5"),
    _bad("length as a list", b"Content-Length: 5, 5"),
    _bad("length as a list of two", b"Content-Length: 5, 6"),
    _bad("length with a comma behind it", b"Content-Length: 5,"),
    _bad("length in hexadecimal", b"Content-Length: 0x5"),
    _bad("length with an underscore", b"Content-Length: 0_5"),
    _bad("length with a point", b"Content-Length: 5.0"),
    _bad("length with an exponent", b"Content-Length: 5e0"),
    _bad("length with a letter", b"Content-Length: 5b"),
    _bad("empty length", b"Content-Length:"),
    _bad("quoted length", b'Content-Length: "5"'),
    _bad("length with a parameter", b"Content-Length: 5;a"),
    _bad("length in other digits", "Content-Length: \uff15".encode()),
    _bad("length with a vertical tab", b"Content-Length: \x0b5"),
    _bad("length with a no-break space", b"Content-Length: \xa05"),
    _bad("length with a NUL", b"Content-Length: 5\0"),
    _bad("length of 64 bits and more", b"Content-Length: 18446744073709551621"),
    _bad("length of 63 bits and more", b"Content-Length: 9223372036854775813"),
    _bad("two lengths", b"Content-Length: 5", b"Content-Length: 6"),
    _bad("the same length twice", b"Content-Length: 5", b"Content-Length: 5"),
    _bad("two lengths, differently spelled", b"Content-Length: 5", b"content-LENGTH: 0"),
    _bad("two lengths, one of them empty", b"Content-Length:", b"Content-Length: 5"),
    _bad("space behind the name of the length", b"Content-Length : 5"),
    _bad("folded length", b"Content-Length:", b" 5"),
)

BOTH = (
    _bad("CL.TE", b"Content-Length: 5", _TE),
    _bad("TE.CL", _TE, b"Content-Length: 5"),
    _bad("CL.TE with length 0", b"Content-Length: 0", _TE),
    _bad("CL.TE in other cases", b"content-length: 5", b"TRANSFER-ENCODING: Chunked"),
    _bad("TE.CL with a bad length", _TE, b"Content-Length: +5"),
    _bad("CL.TE where Connection names one", b"Connection: content-length", b"Content-Length: 5", _TE),
    _bad(
        "CL.TE where Connection names the other", b"Connection: Transfer-Encoding", b"Content-Length: 5", _TE
    ),
    _bad("CL.TE with a coding that is unknown", b"Content-Length: 5", b"Transfer-Encoding: xchunked"),
    _bad("CL.TE with identity", b"Content-Length: 5", b"Transfer-Encoding: identity"),
    _bad("CL.TE on HTTP/1.0", b"Content-Length: 5", _TE, version=b"1.0"),
    _bad("CL.TE, space behind the name", b"Content-Length: 5", b"Transfer-Encoding : chunked"),
    _bad("CL.TE, tab behind the name", b"Content-Length: 5", b"Transfer-Encoding\t: chunked"),
    _bad("CL.TE, space before the name", b"Content-Length: 5", b" Transfer-Encoding: chunked"),
    _bad("CL.TE, folded", b"Content-Length: 5", b"Transfer-Encoding:", b" chunked"),
    _bad("CL.TE behind a bare LF", b"Content-Length: 5", b"X: a\nTransfer-Encoding: chunked"),
    _bad("CL.TE behind a bare CR", b"Content-Length: 5", b"X: a\rTransfer-Encoding: chunked"),
    _bad("CL.TE with a NUL in the name", b"Content-Length: 5", b"Transfer-Encoding\0: chunked"),
    _bad("CL.TE with a byte above 0x7f in the name", b"Content-Length: 5", b"Transfer-Encoding\xa0: chunked"),
    passes(
        "a name that is not Transfer-Encoding",
        head(
            _POST, _HOST, b"Content-Length: 5", b"Transfer_Encoding: chunked", b"X-Transfer-Encoding: chunked"
        )
        + _FIVE,
        arrives(
            _ARRIVES,
            _HOST,
            b"Content-Length: 5",
            b"Transfer_Encoding: chunked",
            b"X-Transfer-Encoding: chunked",
        )
        + _FIVE,
    ),
)

CODINGS = (
    _chunks("chunked", b"5\r\nevent\r\n0\r\n\r\n", b"event"),
    _chunks("chunked in other cases", b"5\r\nevent\r\n0\r\n\r\n", b"event", b"tRANSFER-eNCODING:CHUNKED"),
    _chunks(
        "chunked with spaces before it",
        b"5\r\nevent\r\n0\r\n\r\n",
        b"event",
        b"Transfer-Encoding: \t chunked",
    ),
    _chunks(
        "chunked with a space behind it", b"5\r\nevent\r\n0\r\n\r\n", b"event", b"Transfer-Encoding: chunked "
    ),
    # Limit of aiohttp, docs/http-support.md.
    _bad("chunked with a tab behind it", b"Transfer-Encoding: chunked\t"),
    _chunks(
        "chunked that Connection names",
        b"5\r\nevent\r\n0\r\n\r\n",
        b"event",
        b"Connection: Transfer-Encoding",
        _TE,
    ),
    _bad("TE on HTTP/1.0", _TE, version=b"1.0"),
    _bad("TE on HTTP/1.0 that is kept alive", _TE, b"Connection: keep-alive", version=b"1.0"),
    _no_coding("TE that is empty", b"Transfer-Encoding:"),
    _bad("TE xchunked", b"Transfer-Encoding: xchunked"),
    _bad("TE chunkedx", b"Transfer-Encoding: chunkedx"),
    _bad("TE identity", b"Transfer-Encoding: identity"),
    _bad("TE gzip", b"Transfer-Encoding: gzip"),
    _bad("TE chunked, gzip", b"Transfer-Encoding: chunked, gzip"),
    _bad("TE chunked, identity", b"Transfer-Encoding: chunked, identity"),
    _bad("TE chunked and then identity", _TE, b"Transfer-Encoding: identity"),
    _bad("TE identity and then chunked", b"Transfer-Encoding: identity", _TE),
    _bad("TE twice", _TE, _TE),
    _bad("TE twice, differently spelled", _TE, b"transfer-encoding: CHUNKED"),
    _bad("TE with a parameter", b"Transfer-Encoding: chunked;a=b"),
    _bad("TE quoted", b'Transfer-Encoding: "chunked"'),
    _bad("TE with a vertical tab", b"Transfer-Encoding: \x0bchunked"),
    _bad("TE with a form feed behind it", b"Transfer-Encoding: chunked\x0c"),
    _bad("TE with a NUL behind it", b"Transfer-Encoding: chunked\0"),
    _bad("TE with a CR behind it", b"Transfer-Encoding: chunked\r"),
    _bad("TE with a no-break space", b"Transfer-Encoding: \xa0chunked"),
    _bad("TE with a space in it", b"Transfer-Encoding: chun ked"),
    _bad("TE with an empty element behind it", b"Transfer-Encoding: chunked,"),
    _bad_coding("TE gzip, chunked", b"Transfer-Encoding: gzip, chunked"),
    _bad("TE chunked, chunked", b"Transfer-Encoding: chunked, chunked"),
    _bad_coding("TE with an empty element before it", b"Transfer-Encoding: ,chunked"),
    _bad_coding("TE with a bare word before it", b"Transfer-Encoding: x, chunked"),
)

CHUNKS = (
    _chunks("several chunks", b"2\r\nev\r\n3\r\nent\r\n0\r\n\r\n", b"event"),
    _chunks("no chunk", b"0\r\n\r\n", b""),
    _chunks(
        "sizes in capitals and small letters",
        b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        b"0123456789" * 2,
    ),
    _chunks("size with zeros before it", b"0005\r\nevent\r\n0\r\n\r\n", b"event"),
    _chunks("last size with zeros before it", b"5\r\nevent\r\n000\r\n\r\n", b"event"),
    _chunks("chunk that looks like the last", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    _chunks("chunk with every byte", b"100\r\n" + bytes(range(256)) + b"\r\n0\r\n\r\n", bytes(range(256))),
    _chunks("extension", b"5;a\r\nevent\r\n0\r\n\r\n", b"event"),
    _chunks("extension of the last chunk", b"5\r\nevent\r\n0;b=c\r\n\r\n", b"event"),
    _chunks("quoted extension", b'5;a="b;\t\\"c"\r\nevent\r\n0\r\n\r\n', b"event"),
    _another_end("trailers", b"5\r\nevent\r\n0\r\nX: 1\r\ny: 2\r\n\r\n", b"event"),
    _another_end("a trailer that ends in 0", b"5\r\nevent\r\n0\r\nX: 0\r\n\r\n", b"event"),
    _another_end("trailers before another request", b"1\r\na\r\n0\r\nX: 1\r\nY: 2\r\n\r\n" + BEHIND, b"a"),
    # The last bytes of all are those that tell that there were no trailers; but they are another request's.
    _another_end(
        "trailers before another request with chunks",
        b"0\r\nX: 1\r\n\r\n" + head(_POST, _HOST, _TE) + b"0\r\n\r\n",
        b"",
    ),
    Case(
        name="trailers, and another request once that is answered",
        sent=head(_POST, _HOST, _TE) + b"0\r\nX: 1\r\n\r\n",
        first=OK_AND_CLOSE,
        then=BEHIND,
        requests=(arrives(_ARRIVES, _HOST, _TE) + _END,),
        answers=(OK,),
        received=OK_AND_CLOSE,
        closes=True,
    ),
    _bad_chunks("a last chunk in the trailers", b"0\r\nX: 1\r\n0\r\n\r\n"),
    _bad_chunks("length in the trailers", b"0\r\nContent-Length: 5\r\n\r\n"),
    _bad_chunks("coding in the trailers", b"0\r\nTransfer-Encoding: x\r\n\r\n"),
    _bad_chunks("size with a plus", b"+5\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("size with a minus", b"-1\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("size with 0x", b"0x5\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("size with an underscore", b"0_5\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("size with a space before it", b" 5\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("size with a space behind it", b"5 \r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("no size", b"\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("extension without a size", b";a\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("size that is no number", b"g\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("size of 64 bits and more", b"10000000000000005\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("bare LF behind a size", b"5\nevent\r\n0\r\n\r\n"),
    _bad_chunks("bare CR behind a size", b"5\revent\r\n0\r\n\r\n"),
    _bad_chunks("bare LF in an extension", b"5;a\nevent\r\n0\r\n\r\n"),
    _bad_chunks("bare CR in an extension", b"5;a\rb\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("NUL in an extension", b"5;a\0\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("bare LF behind a chunk", b"5\r\nevent\n0\r\n\r\n"),
    _bad_chunks("nothing behind a chunk", b"5\r\nevent0\r\n\r\n"),
    _bad_chunks("more than the size", b"4\r\nevent\r\n0\r\n\r\n"),
    _bad_chunks("bare LF behind the last size", b"0\n\r\n"),
    _bad_chunks("bare LF at the end", b"0\r\n\n"),
    _bad_chunks("bare LF in trailers", b"0\r\nX: 1\nY: 2\r\n\r\n"),
    _bad_chunks("space before a trailer's colon", b"0\r\nX : 1\r\n\r\n"),
)

FRAMING = (*LENGTHS, *BOTH, *CODINGS, *CHUNKS)
