"""Fields: what passes unchanged, what belongs to one hop, and the lines that no field is."""

from wire.raw.case import Case, Own, arrives, head, passes, refused

_GET = b"GET http://{up}/ HTTP/1.1"
_ARRIVES = b"GET / HTTP/1.1"
_HOST = b"Host: {up}"
_ABOVE = bytes(range(0x80, 0x100))


def _fields(name: str, sent: tuple[bytes, ...], kept: tuple[bytes, ...], *ours: bytes) -> Case:
    """Of the field lines sent these are kept, followed by those that we make anew."""
    return passes(name, head(_GET, _HOST, *sent), arrives(_ARRIVES, _HOST, *kept, *ours))


def _same(name: str, *lines: bytes) -> Case:
    return _fields(name, lines, lines)


def _gone(name: str, *lines: bytes) -> Case:
    return _fields(name, (b"A: 1", *lines, b"Z: 2"), (b"A: 1", b"Z: 2"))


def _bad(name: str, *lines: bytes, status: int = 400, reason: str = "bad_request") -> Case:
    return refused(name, head(_GET, b"Host: a", *lines, b"Z: 2"), status=status, reason=reason)


HOSTS = (
    # RFC 9112 section 3.2.2: the Host received is ignored and replaced by that of the request-target.
    passes("another Host", head(_GET, b"Host: b.invalid"), arrives(_ARRIVES, _HOST)),
    passes(
        "Host keeps its place and spelling",
        head(_GET, b"A: 1", b"hOsT:b", b"Z: 2"),
        arrives(_ARRIVES, b"A: 1", b"hOsT: {up}", b"Z: 2"),
    ),
    passes("empty Host", head(_GET, b"Host:"), arrives(_ARRIVES, _HOST)),
    passes("Host of another port", head(_GET, b"Host: 127.0.0.1:1"), arrives(_ARRIVES, _HOST)),
    passes(
        "Host that Connection names",
        head(_GET, b"Connection: host", b"Host: b"),
        arrives(_ARRIVES, _HOST),
    ),
    # RFC 9112 section 3.2: a server MUST answer 400 to HTTP/1.1 without Host, and to more than one.
    refused("no Host", head(_GET, b"A: 1")),
    refused("two Hosts", head(_GET, _HOST, b"Host: b.invalid")),
    refused("the same Host twice", head(_GET, _HOST, _HOST)),
    refused("two Hosts, differently spelled", head(_GET, b"HOST: {up}", b"A: 1", b"host: {up}")),
    refused("two Hosts on HTTP/1.0", head(b"GET http://{up}/ HTTP/1.0", _HOST, b"Host: b")),
)

KEPT = (
    _same("duplicates in order and spelling", b"x-A: 1", b"X-a: 2", b"B: 3", b"x-A: 1"),
    _same("duplicates that differ only in case", b"x-sig: 1", b"X-SIG: 2", b"X-Sig: 1"),
    _same("two Cookie", b"Cookie: a=b", b"cookie: c=d"),
    _same("two Authorization", b"Authorization: Basic eA==", b"Authorization: Bearer x"),
    _same("every byte above 0x7f", b"X: " + _ABOVE),
    _same("UTF-8 in a value", "X: käse €".encode()),
    _same("tabs and spaces inside of a value", b"X: a \t  b"),
    _same("an empty value", b"X: "),
    _same("list elements that are empty", b"Accept: ,, a,,"),
    _same("quotes and commas", b'X: "a, b"; c="\\"", d'),
    _same("every character of a name", b"!#$%&'*+-.^_`|~09azAZ: 1"),
    _same("a name with underscores", b"Content_Length: 5", b"Transfer_Encoding: chunked"),
    _same("colons in a value", b"X: :a: b:"),
    _same("a long value", b"X: " + b"y" * 3900),
    _same("as many as max_fields", *[b"X%d: %d" % (number, number) for number in range(15)]),
    _same("what looks like a coding", b"Content-Encoding: gzip", b"Accept-Encoding: br"),
    _same("Trailer stays", b"Trailer: X"),
    _same("Upgrade-Insecure-Requests", b"Upgrade-Insecure-Requests: 1"),
    _same("an expectation that nobody knows", b"Expect: nothing"),
    _same("a Via of others", b"Via: 1.0 a, 1.1 b (testproxy)"),
    _same("a Via with a longer name", b"Via: 1.1 testproxy2"),
    _fields("spaces around a value", (b"X: \t a \t ", b"Y:b", b"Z:\t"), (b"X: a", b"Y: b", b"Z: ")),
)

HOP_BY_HOP = (
    _gone("Connection", b"Connection: keep-alive"),
    _gone("empty Connection", b"Connection:"),
    _gone("Keep-Alive", b"keep-ALIVE: timeout=5"),
    _gone("Proxy-Connection", b"Proxy-Connection: keep-alive"),
    _gone("Proxy-Authorization", b"proxy-authorization: Basic eA=="),
    _gone("Proxy-Authenticate", b"Proxy-Authenticate: Basic"),
    _gone("Proxy-Authentication-Info", b"Proxy-Authentication-Info: a"),
    _gone("TE of others", b"TE: gzip, deflate;q=0.5"),
    _gone("empty TE", b"TE:"),
    _gone("what Connection names", b"Connection: x-HOP , b", b"X-Hop: 1", b"B: 2", b"x-hop: 3"),
    _gone("two Connections", b"B: 1", b"Connection: b", b"C: 2", b"connection: c"),
    _gone("Connection behind what it names", b"X-Hop: 1", b"CONNECTION: ,,X-hop\t,"),
    _fields(
        "what Connection must not take away",
        (
            b"Connection: host, content-length, authorization",
            b"Authorization: Basic eA==",
            b"Content-Length: 0",
        ),
        (b"Authorization: Basic eA==", b"Content-Length: 0"),
    ),
    passes(
        "Connection: close",
        head(_GET, _HOST, b"Connection: close, X-Hop", b"X-Hop: 1"),
        arrives(_ARRIVES, _HOST),
        closes=True,
    ),
    passes(
        "Connection: close in capitals",
        head(_GET, _HOST, b"CONNECTION: CLOSE"),
        arrives(_ARRIVES, _HOST),
        closes=True,
    ),
    _fields("TE: trailers", (b"TE: trailers", b"A: 1"), (b"A: 1",), b"TE: trailers", b"Connection: TE"),
    _fields(
        "TE with trailers in it",
        (b"Connection: te", b"te: gzip;q=0.3, Trailers"),
        (),
        b"TE: trailers",
        b"Connection: TE",
    ),
)

FORWARDS = (
    *[
        passes(
            f"Max-Forwards {sent.decode()} of {method}",
            head(b"%b http://{up}/ HTTP/1.1" % method.encode(), _HOST, b"max-FORWARDS: %b" % sent, b"Z: 1"),
            arrives(b"%b / HTTP/1.1" % method.encode(), _HOST, b"max-FORWARDS: %b" % passed, b"Z: 1"),
        )
        for method, sent, passed in [
            ("OPTIONS", b"5", b"4"),
            ("OPTIONS", b"1", b"0"),
            ("TRACE", b"10", b"9"),
            ("OPTIONS", b"many", b"many"),
            ("OPTIONS", b"-1", b"-1"),
            ("GET", b"5", b"5"),
            ("GET", b"0", b"0"),
        ]
    ],
    Case(
        name="Max-Forwards 0 of OPTIONS",
        sent=head(b"OPTIONS http://{up}/ HTTP/1.1", _HOST, b"Max-Forwards: 0"),
        own=Own(status=200, reason=None, closes=False),
    ),
    Case(
        name="Max-Forwards 0 of TRACE",
        sent=head(b"TRACE http://{up}/ HTTP/1.1", _HOST, b"Max-Forwards: 0"),
        own=Own(status=405, reason=None, closes=None),
    ),
    *[
        Case(
            name=name,
            sent=head(_GET, _HOST, *lines),
            own=Own(status=502, reason="proxy_loop_detected", closes=None),
        )
        for name, lines in [
            ("Via that names us", [b"Via: 1.1 testproxy"]),
            ("Via that names us among others", [b"Via: 1.0 a, HTTP/1.1 testproxy (x), 1.1 b"]),
            ("Via that names us in a second field", [b"Via: 1.0 a", b"via: 1.1 testproxy"]),
        ]
    ],
)

REFUSED = (
    _bad("space before the colon", b"X : 1"),
    _bad("tab before the colon", b"X\t: 1"),
    _bad("space before the colon of Host", b"Host : b"),
    _bad("no name", b": 1"),
    _bad("no colon", b"X"),
    _bad("space in a name", b"X Y: 1"),
    _bad("no token in a name", b"X(Y): 1"),
    _bad("byte above 0x7f in a name", b"X\xe4: 1"),
    _bad("NUL in a name", b"X\0: 1"),
    _bad("NUL in a value", b"X: a\0b"),
    _bad("NUL at the end of a value", b"X: a\0"),
    _bad("bare CR in a value", b"X: a\rb"),
    _bad("bare CR before a field", b"X: a\rY: b"),
    _bad("two CR at the end of a value", b"X: a\r"),
    _bad("bare LF between fields", b"X: a\nY: b"),
    _bad("bare LF before an empty line", b"X: a\n\nGET http://{up}/smuggled HTTP/1.1"),
    _bad("bare CR instead of an empty line", b"X: a\r\n\rY: b"),
    _bad("control character in a value", b"X: a\x01b"),
    _bad("DEL in a value", b"X: a\x7fb"),
    _bad("vertical tab in a value", b"X: a\x0bb"),
    _bad("folded with a space", b"X: a", b" b"),
    _bad("folded with a tab", b"X: a", b"\tb"),
    _bad("folded with nothing", b"X: a", b" "),
    _bad("folded from nothing", b"X:", b" a"),
    refused("folded request line", head(_GET, b" " + _HOST, b"A: 1")),
    refused("field that begins with a space", head(_GET, b" A: 1", _HOST)),
    refused("line ends without CR", head(_GET, _HOST, b"A: 1").replace(b"\r\n", b"\n")),
    refused("request line ends without CR", head(_GET, _HOST).replace(b"\r\n", b"\n", 1)),
    refused("empty line without CR", head(_GET, _HOST)[:-2] + b"\n"),
    refused("line ends without LF", head(_GET, _HOST).replace(b"\r\n", b"\r")),
    _bad("more than max_fields", *[b"X: 1"] * 16, status=431, reason="head_too_large"),
    _bad("value beyond max_head", b"X: " + b"y" * 4100, status=431, reason="head_too_large"),
    _bad("name beyond max_head", b"x" * 4100 + b": 1", status=431, reason="head_too_large"),
    _bad("head beyond max_head", *[b"X: " + b"y" * 1000] * 5, status=431, reason="head_too_large"),
)

# Valid, or at least harmless, and refused all the same: limit of aiohttp, docs/http-support.md.
REFUSED_BY_AIOHTTP = (
    *[
        _bad(f"two {first.partition(b':')[0].decode()}", first, second)
        for first, second in [
            (b"Content-Location: a", b"Content-Location: b"),
            (b"Content-Range: a", b"Content-Range: b"),
            (b"Content-Type: a/b", b"content-type: c/d"),
            (b"ETag: a", b"etag: b"),
            (b"Max-Forwards: 5", b"Max-Forwards: 5"),
            (b"Server: a", b"Server: b"),
            (b"User-Agent: a", b"User-Agent: a"),
        ]
    ],
    _bad("old WebSocket keys", b"Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5"),
)

FIELDS = (*HOSTS, *KEPT, *HOP_BY_HOP, *FORWARDS, *REFUSED, *REFUSED_BY_AIOHTTP)
