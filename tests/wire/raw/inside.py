"""Requests inside of a CONNECT: each walks the line, and none is for anybody but whom the CONNECT names."""

from wire.raw.case import BEHIND, ESTABLISHED, OK, OK_AND_CLOSE, OK_PASSED_ON, Case, Own, arrives, head

_HOST = b"Host: {up}"
_CONNECT = head(b"CONNECT {up} HTTP/1.1", _HOST)
_GET = head(b"GET / HTTP/1.1", _HOST)
_ARRIVES = arrives(b"GET / HTTP/1.1", _HOST)
_TE = b"Transfer-Encoding: chunked"


def _passes(
    name: str, inside: bytes, *requests: bytes, closes: bool = False, connect: bytes = _CONNECT
) -> Case:
    """Each of the requests inside arrives upstream as if it had come without the CONNECT."""
    *first, last = [OK_PASSED_ON] * len(requests)
    return Case(
        name=f"inside of a CONNECT: {name}",
        sent=connect + inside,
        requests=requests,
        answers=(OK,) * len(requests),
        received=b"".join([ESTABLISHED, *first, OK_AND_CLOSE if closes else last]),
        closes=closes,
    )


def _refused(
    name: str, inside: bytes, *before: bytes, status: int = 421, reason: str = "misdirected_request"
) -> Case:
    """The requests before it pass; this one is refused, the connection closed, nothing behind it is read."""
    return Case(
        name=f"inside of a CONNECT: {name}",
        sent=_CONNECT + inside + BEHIND,
        requests=before,
        answers=(OK,) * len(before),
        received=ESTABLISHED + OK_PASSED_ON * len(before),
        own=Own(status=status, reason=reason),
        closes=True,
    )


PASSED = (
    _passes("a request", _GET, _ARRIVES),
    _passes(
        "a request that comes with it over HTTP/1.0", _GET, _ARRIVES, connect=head(b"CONNECT {up} HTTP/1.0")
    ),
    _passes(
        "absolute-form", head(b"GET http://{up}/a?b HTTP/1.1", _HOST), arrives(b"GET /a?b HTTP/1.1", _HOST)
    ),
    # RFC 9112 section 3.2.2: the Host field is then ignored.
    _passes("absolute-form with another Host", head(b"GET http://{up}/ HTTP/1.1", b"Host: a"), _ARRIVES),
    _passes("asterisk-form", head(b"OPTIONS * HTTP/1.1", _HOST), arrives(b"OPTIONS * HTTP/1.1", _HOST)),
    _passes("a path with two slashes", head(b"GET //a HTTP/1.1", _HOST), arrives(b"GET //a HTTP/1.1", _HOST)),
    _passes("empty lines before it", b"\r\n\r\n" + _GET, _ARRIVES),
    _passes(
        "fields of the hop",
        head(
            b"GET / HTTP/1.1", _HOST, b"A: b", b"Connection: x", b"X: y", b"Proxy-Authorization: Basic YTpi"
        ),
        arrives(b"GET / HTTP/1.1", _HOST, b"A: b"),
    ),
    _passes(
        "content and a request behind it",
        head(b"POST / HTTP/1.1", _HOST, b"Content-Length: 5") + b"event" + _GET,
        arrives(b"POST / HTTP/1.1", _HOST, b"Content-Length: 5") + b"event",
        _ARRIVES,
    ),
    _passes("five requests", _GET * 5, *[_ARRIVES] * 5),
    _passes(
        "chunks",
        head(b"POST / HTTP/1.1", _HOST, _TE) + b"5\r\nevent\r\n0\r\n\r\n",
        arrives(b"POST / HTTP/1.1", _HOST, _TE) + b"5\r\nevent\r\n0\r\n\r\n",
    ),
    _passes(
        "HTTP/1.0 without Host",
        head(b"GET / HTTP/1.0"),
        arrives(b"GET / HTTP/1.1", _HOST, via=b"1.0"),
        closes=True,
    ),
)

REFUSED = (
    _refused("another Host", head(b"GET / HTTP/1.1", b"Host: a")),
    _refused("another Host with the same port", head(b"GET / HTTP/1.1", b"Host: localhost:{port}")),
    _refused("another port", head(b"GET / HTTP/1.1", b"Host: {closed}")),
    _refused("the default port", head(b"GET / HTTP/1.1", b"Host: 127.0.0.1")),
    _refused("absolute-form for another authority", head(b"GET http://{closed}/ HTTP/1.1", _HOST)),
    _refused("absolute-form with another scheme", head(b"GET https://{up}/ HTTP/1.1", _HOST)),
    _refused("the second has another Host", _GET + head(b"GET / HTTP/1.1", b"Host: a"), _ARRIVES),
    _refused("a CONNECT", _CONNECT, status=400, reason="bad_request"),
    _refused(
        "a CONNECT in origin-form", head(b"CONNECT / HTTP/1.1", _HOST), status=400, reason="bad_request"
    ),
    _refused(
        "a CONNECT in absolute-form",
        head(b"CONNECT http://{up}/ HTTP/1.1", _HOST),
        status=400,
        reason="bad_request",
    ),
    _refused("a CONNECT behind a request", _GET + _CONNECT, _ARRIVES, status=400, reason="bad_request"),
    _refused("authority-form", head(b"GET {up} HTTP/1.1", _HOST), status=400, reason="bad_request"),
    _refused(
        "user information", head(b"GET http://u@{up}/ HTTP/1.1", _HOST), status=400, reason="bad_request"
    ),
    _refused(
        "two framings",
        head(b"POST / HTTP/1.1", _HOST, b"Content-Length: 5", _TE) + b"0\r\n\r\n",
        status=400,
        reason="bad_request",
    ),
    _refused(
        "an unknown coding",
        head(b"POST / HTTP/1.1", _HOST, b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        status=501,
        reason="unknown_coding",
    ),
    # aiohttp refuses what comes behind one that ends the connection.
    Case(
        name="inside of a CONNECT: another Host over HTTP/1.0",
        sent=_CONNECT + head(b"GET / HTTP/1.0", b"Host: a"),
        received=ESTABLISHED,
        own=Own(status=421, reason="misdirected_request"),
        closes=True,
    ),
    Case(
        name="inside of a CONNECT: a request that has been here",
        sent=_CONNECT + head(b"GET / HTTP/1.1", _HOST, b"Via: 1.1 testproxy"),
        received=ESTABLISHED,
        own=Own(status=502, reason="proxy_loop_detected", closes=False),
    ),
)

INSIDE = (*PASSED, *REFUSED)
