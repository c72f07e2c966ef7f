"""Responses: what the client receives for what the upstream says; interim responses, early ones."""

from wire.raw.case import BEHIND, CONTINUE, OK, OK_PASSED_ON, Case, Own, arrives, head

_HOST = b"Host: {up}"
_VIA = b"Via: 1.1 testproxy"
_TE = b"Transfer-Encoding: chunked"
_CLOSE = b"Connection: close"
_EXPECT = b"Expect: 100-continue"
_FIVE = b"Content-Length: 5"
_HINTS = head(b"HTTP/1.1 103 Early Hints", b"Link: </a>; rel=preload", b"link: </b>")
_REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n"
_ONCE = arrives(b"GET / HTTP/1.1", _HOST)


def _answered(
    name: str,
    answer: bytes,
    received: bytes,
    *,
    method: bytes = b"GET",
    version: bytes = b"1.1",
    upstream_closes: bool = False,
    closes: bool = False,
) -> Case:
    return Case(
        name=name,
        sent=head(method + b" http://{up}/ HTTP/" + version, _HOST),
        requests=(arrives(method + b" / HTTP/1.1", _HOST, via=version),),
        answers=(answer,),
        upstream_closes=upstream_closes,
        received=received,
        closes=closes,
    )


def _malformed(name: str, answer: bytes, *, reason: str = "http_protocol_error") -> Case:
    return Case(
        name=name,
        sent=head(b"GET http://{up}/ HTTP/1.1", _HOST),
        requests=(_ONCE,),
        answers=(answer,),
        own=Own(status=502, reason=reason, closes=False),
    )


FRAMED = (
    _answered(
        "fields of a response",
        head(b"HTTP/1.1 418 I'm a teapot", b"set-COOKIE: a", b"Set-Cookie: b", b"X:  \xe4\xff", _FIVE)
        + b"event",
        head(b"HTTP/1.1 418 I'm a teapot", b"set-COOKIE: a", b"Set-Cookie: b", b"X: \xe4\xff", _FIVE, _VIA)
        + b"event",
    ),
    _answered(
        "fields of one hop in a response",
        head(
            b"HTTP/1.1 200 OK",
            b"Connection: x-HOP",
            b"X-Hop: 1",
            b"Keep-Alive: timeout=5",
            b"Upgrade: h2c",
            _FIVE,
        )
        + b"event",
        head(b"HTTP/1.1 200 OK", _FIVE, _VIA) + b"event",
    ),
    _answered(
        "what only we may say",
        head(
            b"HTTP/1.1 503 No",
            b"X-Breaker-Reason: circuit_open",
            b"Proxy-Status: a, testproxy; error=x",
            _FIVE,
        )
        + b"event",
        head(b"HTTP/1.1 503 No", b"Proxy-Status: a", _FIVE, _VIA) + b"event",
    ),
    _answered(
        "no phrase",
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        head(b"HTTP/1.1 200 ", b"Content-Length: 0", _VIA),
    ),
    _answered(
        "bytes above 0x7f in a phrase",
        head(b"HTTP/1.1 200 \xe4\xff", b"Content-Length: 0"),
        head(b"HTTP/1.1 200 \xe4\xff", b"Content-Length: 0", _VIA),
    ),
    _answered(
        "HEAD with a length",
        head(b"HTTP/1.1 200 OK", _FIVE),
        head(b"HTTP/1.1 200 OK", _FIVE, _VIA),
        method=b"HEAD",
    ),
    _answered(
        "HEAD with chunks",
        head(b"HTTP/1.1 200 OK", b"A: 1", _TE),
        head(b"HTTP/1.1 200 OK", b"A: 1", _VIA),
        method=b"HEAD",
    ),
    _answered(
        "HEAD without framing",
        head(b"HTTP/1.1 200 OK", b"A: 1"),
        head(b"HTTP/1.1 200 OK", b"A: 1", _VIA),
        method=b"HEAD",
    ),
    _answered(
        "204", head(b"HTTP/1.1 204 No Content", b"A: 1"), head(b"HTTP/1.1 204 No Content", b"A: 1", _VIA)
    ),
    # RFC 9110 section 8.6: a server MUST NOT send Content-Length in a 204.
    _answered(
        "204 with a length", head(b"HTTP/1.1 204 No Content", _FIVE), head(b"HTTP/1.1 204 No Content", _VIA)
    ),
    _answered(
        "204 with length 0", head(b"HTTP/1.1 204 N", b"Content-Length: 0"), head(b"HTTP/1.1 204 N", _VIA)
    ),
    _answered("304", head(b"HTTP/1.1 304 Not Modified"), head(b"HTTP/1.1 304 Not Modified", _VIA)),
    _answered(
        "304 with a length",
        head(b"HTTP/1.1 304 Not Modified", _FIVE),
        head(b"HTTP/1.1 304 Not Modified", _FIVE, _VIA),
    ),
    _answered(
        "chunks in a response",
        _TE_OK := head(b"HTTP/1.1 200 OK", _TE, b"A: 1") + b"2\r\nev\r\n3;a=b\r\nent\r\n0\r\n\r\n",
        head(b"HTTP/1.1 200 OK", b"A: 1", _TE, _VIA) + b"5\r\nevent\r\n0\r\n\r\n",
    ),
    _answered(
        "chunked without content",
        head(b"HTTP/1.1 200 OK", _TE) + b"0\r\n\r\n",
        head(b"HTTP/1.1 200 OK", _TE, _VIA) + b"0\r\n\r\n",
    ),
    _answered(
        "trailers of a response",
        head(b"HTTP/1.1 200 OK", b"Trailer: X, y", _TE)
        + b"5\r\nevent\r\n0\r\nX: 1\r\ny:  \xe4\r\nX: 2\r\n\r\n",
        head(b"HTTP/1.1 200 OK", b"Trailer: X, y", _TE, _VIA)
        + b"5\r\nevent\r\n0\r\nX: 1\r\ny: \xe4\r\nX: 2\r\n\r\n",
    ),
    _answered(
        "trailers that may not pass",
        head(b"HTTP/1.1 200 OK", _TE)
        + b"0\r\nConnection: close\r\nX-Sum: 1\r\nHost: a\r\nX-Breaker-Reason: x\r\nTE: b\r\n\r\n",
        head(b"HTTP/1.1 200 OK", _TE, _VIA) + b"0\r\nX-Sum: 1\r\n\r\n",
    ),
    _answered(
        "chunked to HTTP/1.0",
        _TE_OK,
        head(b"HTTP/1.1 200 OK", b"A: 1", _VIA, _CLOSE) + b"event",
        version=b"1.0",
        closes=True,
    ),
    _answered(
        "content until the end",
        head(b"HTTP/1.1 200 OK", b"A: 1") + b"event",
        head(b"HTTP/1.1 200 OK", b"A: 1", _TE, _VIA) + b"5\r\nevent\r\n0\r\n\r\n",
        upstream_closes=True,
    ),
    _answered(
        "content until the end to HTTP/1.0",
        head(b"HTTP/1.1 200 OK", b"A: 1") + b"event",
        head(b"HTTP/1.1 200 OK", b"A: 1", _VIA, _CLOSE) + b"event",
        version=b"1.0",
        upstream_closes=True,
        closes=True,
    ),
    _answered(
        "HTTP/1.0 upstream",
        head(b"HTTP/1.0 200 OK", _FIVE) + b"event",
        head(b"HTTP/1.1 200 OK", _FIVE, b"Via: 1.0 testproxy") + b"event",
        upstream_closes=True,
    ),
    _malformed("two framings in a response", head(b"HTTP/1.1 200 OK", _FIVE, _TE) + b"0\r\n\r\n"),
    _malformed("two lengths in a response", head(b"HTTP/1.1 200 OK", _FIVE, b"Content-Length: 0") + b"event"),
    *[
        _malformed(f"{what} in a response", head(b"HTTP/1.1 200 OK", lines, _FIVE) + b"event")
        for what, lines in [
            ("space before a colon", b"X : 1"),
            ("folded field", b"X: 1\r\n 2"),
            ("field that begins with a space", b" X: 1"),
            ("line of one space", b" "),
            ("NUL", b"X: a\0b"),
            ("control character", b"X: a\x01b"),
            ("DEL", b"X: a\x7fb"),
            ("bare CR", b"X: a\rb"),
            ("bare CR for a value", b"X:\r"),
        ]
    ],
    _malformed("control character in a phrase", head(b"HTTP/1.1 200 O\x01K", _FIVE) + b"event"),
    _malformed(
        "101 that nobody asked for", head(b"HTTP/1.1 101 Switching", b"Upgrade: a", b"Connection: Upgrade")
    ),
    _malformed("another protocol in a response", head(b"RTSP/1.0 200 OK", _FIVE) + b"event"),
    _malformed(
        "another coding in a response",
        head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        reason="http_response_transfer_coding",
    ),
    # Limit of llhttp, docs/http-support.md.
    _malformed(
        "tab behind the coding in a response",
        head(b"HTTP/1.1 200 OK", _TE + b"\t") + b"0\r\n\r\n",
        reason="http_response_transfer_coding",
    ),
)

INTERIM = (
    _answered("103", _HINTS + OK, _HINTS + OK_PASSED_ON),
    _answered("103 twice", _HINTS * 2 + OK, _HINTS * 2 + OK_PASSED_ON),
    _answered(
        "102 and 100",
        b"HTTP/1.1 102 A\r\n\r\n" + CONTINUE + OK,
        b"HTTP/1.1 102 A\r\n\r\n" + CONTINUE + OK_PASSED_ON,
    ),
    _answered(
        "103 before no content",
        _HINTS + head(b"HTTP/1.1 204 No"),
        _HINTS + head(b"HTTP/1.1 204 No", _VIA),
    ),
    # RFC 9110 section 15.2: a server MUST NOT send a 1xx response to an HTTP/1.0 client.
    _answered(
        "103 to HTTP/1.0",
        _HINTS + OK,
        head(b"HTTP/1.1 200 OK", b"Content-Length: 2", _VIA, _CLOSE) + b"ok",
        version=b"1.0",
        closes=True,
    ),
)


def _expecting(name: str, framing: bytes, content: bytes, *, waits: bool) -> Case:
    """100-continue goes end to end, whether the client waits for it or not."""
    sent = head(b"POST http://{up}/ HTTP/1.1", _HOST, _EXPECT, framing)
    kept = (_EXPECT,) if framing == _TE else (_EXPECT, framing)
    ours = (_TE,) if framing == _TE else ()
    return Case(
        name=name,
        sent=sent if waits else sent + content,
        first=CONTINUE if waits else b"",
        then=content if waits else b"",
        requests=(arrives(b"POST / HTTP/1.1", _HOST, *kept, *ours) + content,),
        at_head=CONTINUE,
        answers=(OK,),
        received=CONTINUE + OK_PASSED_ON,
    )


def _early(name: str, *fields: bytes, arriving: tuple[bytes, ...]) -> Case:
    """The upstream answers before it has the content; what is left of that would cost too much."""
    received = _REFUSAL + _VIA + b"\r\n" + _CLOSE + b"\r\n\r\nbig"
    return Case(
        name=name,
        sent=head(b"POST http://{up}/ HTTP/1.1", _HOST, *fields),
        first=received,
        then=BEHIND,
        unfinished=arrives(b"POST / HTTP/1.1", _HOST, *arriving),
        at_head=_REFUSAL + b"\r\nbig",
        received=received,
        closes=True,
    )


_MUCH = b"Content-Length: 100000"
EARLY = (
    _expecting("100-continue accepted", _FIVE, b"event", waits=True),
    _expecting("100-continue accepted, chunks", _TE, b"5\r\nevent\r\n0\r\n\r\n", waits=True),
    _expecting("100-continue accepted, content sent at once", _FIVE, b"event", waits=False),
    _early("100-continue refused", _EXPECT, _FIVE, arriving=(_EXPECT, _FIVE)),
    _early("100-continue refused, chunks", _EXPECT, _TE, arriving=(_EXPECT, _TE)),
    _early("much content refused early", _MUCH, arriving=(_MUCH,)),
    _early("chunks refused early", _TE, arriving=(_TE,)),
    Case(
        name="little content refused early, the connection stays",
        sent=head(b"POST http://{up}/ HTTP/1.1", _HOST, _FIVE),
        first=_REFUSAL + _VIA + b"\r\n\r\nbig",
        then=b"event" + head(b"GET http://{up}/ HTTP/1.1", _HOST),
        unfinished=arrives(b"POST / HTTP/1.1", _HOST, _FIVE),
        requests=(_ONCE,),
        at_head=_REFUSAL + b"\r\nbig",
        answers=(OK,),
        received=_REFUSAL + _VIA + b"\r\n\r\nbig" + OK_PASSED_ON,
    ),
)

UPLOAD_SIZE = 100_000_000
_ALL = b"Content-Length: %d" % UPLOAD_SIZE
# Its content comes from a generator.
UPLOAD = Case(
    name="100 MB refused early",
    sent=head(b"POST http://{up}/ HTTP/1.1", _HOST, _ALL),
    unfinished=arrives(b"POST / HTTP/1.1", _HOST, _ALL),
    at_head=_REFUSAL + b"\r\nbig",
    at_least=256 * 1024,
    received=_REFUSAL + _VIA + b"\r\n" + _CLOSE + b"\r\n\r\nbig",
    closes=True,
)

ANSWERS = (*FRAMED, *INTERIM)
