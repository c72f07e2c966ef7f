"""Requests one behind the other on a connection: each exactly once, and none behind a refusal or an end."""

from wire.raw.case import BEHIND, ESTABLISHED, OK, OK_PASSED_ON, Case, Own, arrives, head, passes, refused

_HOST = b"Host: {up}"
_GET = head(b"GET http://{up}/ HTTP/1.1", _HOST)
_ARRIVES = arrives(b"GET / HTTP/1.1", _HOST)
_TE = b"Transfer-Encoding: chunked"
_CHUNKS = head(b"POST http://{up}/ HTTP/1.1", _HOST, _TE) + b"5\r\nevent\r\n0\r\n\r\n"
_CHUNKS_ARRIVE = arrives(b"POST / HTTP/1.1", _HOST, _TE) + b"5\r\nevent\r\n0\r\n\r\n"


def _second(name: str, second: bytes, *, status: int = 400, reason: str = "bad_request") -> Case:
    """A good request, and one behind it that the line refuses."""
    return refused(name, _GET + second, _ARRIVES, status=status, reason=reason)


def _second_malformed(name: str, second: bytes) -> Case:
    """A good request, and one behind it that aiohttp refuses, in one read together with the first."""
    return refused(name, _GET + second, _ARRIVES, read_alone=_GET)


def _last(name: str, sent: bytes, *, via: bytes = b"1.1") -> Case:
    """A request that ends the connection, so that what comes behind it is not carried out.

    aiohttp refuses bytes behind it, in one read together with it.
    """
    request = arrives(b"GET / HTTP/1.1", _HOST, via=via)
    return passes(name, sent + BEHIND, request, closes=True, read_alone=sent)


GOOD = (
    passes("two requests", _GET * 2, _ARRIVES, _ARRIVES),
    passes("five requests", _GET * 5, *[_ARRIVES] * 5),
    passes("an empty line between two requests", _GET + b"\r\n" + _GET, _ARRIVES, _ARRIVES),
    passes(
        "two requests of other methods and targets",
        head(b"PUT http://{up}/a HTTP/1.1", _HOST, b"Content-Length: 0")
        + head(b"DELETE http://{up}?b HTTP/1.1", b"Host: c"),
        arrives(b"PUT /a HTTP/1.1", _HOST, b"Content-Length: 0"),
        arrives(b"DELETE /?b HTTP/1.1", _HOST),
    ),
    passes(
        "content and a request behind it",
        head(b"POST http://{up}/ HTTP/1.1", _HOST, b"Content-Length: 5") + b"event" + _GET,
        arrives(b"POST / HTTP/1.1", _HOST, b"Content-Length: 5") + b"event",
        _ARRIVES,
    ),
    Case(
        name="chunks, and a request once they are answered",
        sent=_CHUNKS,
        first=OK_PASSED_ON,
        then=_GET,
        requests=(_CHUNKS_ARRIVE, _ARRIVES),
        answers=(OK, OK),
        received=OK_PASSED_ON * 2,
    ),
    passes(
        "content in which a request stands",
        head(b"POST http://{up}/ HTTP/1.1", b"Content-Length: 19", _HOST) + b"GET /b HTTP/1.1\r\n\r\n" + _GET,
        arrives(b"POST / HTTP/1.1", b"Content-Length: 19", _HOST) + b"GET /b HTTP/1.1\r\n\r\n",
        _ARRIVES,
    ),
    Case(
        name="HEAD and a request behind it",
        sent=head(b"HEAD http://{up}/ HTTP/1.1", _HOST) + _GET,
        requests=(arrives(b"HEAD / HTTP/1.1", _HOST), _ARRIVES),
        answers=(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", OK),
        received=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nVia: 1.1 testproxy\r\n\r\n" + OK_PASSED_ON,
    ),
    Case(
        name="a tunnel behind a request",
        sent=_GET + head(b"CONNECT {up} HTTP/1.1", _HOST) + b"\0" + _GET,
        requests=(_ARRIVES,),
        answers=(OK,),
        raw=b"\0" + _GET,
        raw_answer=b"raw",
        received=OK_PASSED_ON + ESTABLISHED + b"raw",
    ),
    Case(
        name="a CONNECT behind a request, and a request inside",
        sent=_GET
        + head(b"CONNECT {up} HTTP/1.1", _HOST)
        + head(b"PUT /a HTTP/1.1", _HOST, b"Content-Length: 0"),
        requests=(_ARRIVES, arrives(b"PUT /a HTTP/1.1", _HOST, b"Content-Length: 0")),
        answers=(OK, OK),
        received=OK_PASSED_ON + ESTABLISHED + OK_PASSED_ON,
    ),
)

ENDS = (
    _last(
        "Connection: close and a request behind it",
        head(b"GET http://{up}/ HTTP/1.1", _HOST, b"Connection: close"),
    ),
    _last("HTTP/1.0 and a request behind it", head(b"GET http://{up}/ HTTP/1.0", _HOST), via=b"1.0"),
    passes(
        "HTTP/1.0 that is kept alive and a request behind it",
        head(b"GET http://{up}/ HTTP/1.0", _HOST, b"Connection: keep-alive") + BEHIND,
        arrives(b"GET / HTTP/1.1", _HOST, via=b"1.0"),
        closes=True,
    ),
    # Nobody can tell any more whether there were trailers, see tests/wire/raw/framing.py.
    passes("chunks and a request behind them", _CHUNKS + BEHIND, _CHUNKS_ARRIVE, closes=True),
    passes(
        "content, Connection: close, and a request behind it",
        head(b"POST http://{up}/ HTTP/1.1", _HOST, b"Connection: close", b"Content-Length: 5")
        + b"event"
        + BEHIND,
        arrives(b"POST / HTTP/1.1", _HOST, b"Content-Length: 5") + b"event",
        closes=True,
        read_alone=head(b"POST http://{up}/ HTTP/1.1", _HOST, b"Connection: close", b"Content-Length: 5")
        + b"event",
    ),
)

SECOND_REFUSED = (
    _second_malformed("second is no HTTP", b"\x16\x03\x01\x02\r\n\r\n"),
    _second("second in origin-form", head(b"GET /admin HTTP/1.1", _HOST), reason="not_a_proxy_request"),
    _second_malformed(
        "second with two framings",
        head(b"POST http://{up}/ HTTP/1.1", _HOST, b"Content-Length: 5", _TE) + b"0\r\n\r\n",
    ),
    _second_malformed("second with a bare LF", head(b"GET http://{up}/ HTTP/1.1", _HOST, b"X: a\nY: b")),
    _second_malformed(
        "second with a bad length",
        head(b"POST http://{up}/ HTTP/1.1", _HOST, b"Content-Length: +5") + b"event",
    ),
    _second_malformed("second without a scheme", head(b"GET {up} HTTP/1.1", _HOST)),
    _second("second is a CONNECT without a port", head(b"CONNECT 127.0.0.1 HTTP/1.1", _HOST)),
    _second(
        "second is a CONNECT where nobody listens",
        head(b"CONNECT {closed} HTTP/1.1", _HOST),
        status=502,
        reason="connection_refused",
    ),
    _second(
        "second with an unknown coding",
        head(b"POST http://{up}/ HTTP/1.1", _HOST, b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        status=501,
        reason="unknown_coding",
    ),
    refused(
        "second in a longer content than announced",
        head(b"POST http://{up}/ HTTP/1.1", _HOST, b"Content-Length: 2") + b"event",
        arrives(b"POST / HTTP/1.1", _HOST, b"Content-Length: 2") + b"ev",
        read_alone=head(b"POST http://{up}/ HTTP/1.1", _HOST, b"Content-Length: 2") + b"ev",
    ),
)

OUTSTANDING = (
    Case(
        name="nobody listens, little content, the connection stays",
        sent=head(b"POST http://{closed}/ HTTP/1.1", b"Host: {closed}", b"Content-Length: 5") + b"event",
        own=Own(status=502, reason="connection_refused", closes=False),
    ),
    Case(
        name="nobody listens, much content, the connection closes",
        sent=head(b"POST http://{closed}/ HTTP/1.1", b"Host: {closed}", b"Content-Length: 100000") + BEHIND,
        own=Own(status=502, reason="connection_refused"),
        closes=True,
    ),
    Case(
        name="nobody listens, chunks, the connection closes",
        sent=head(b"POST http://{closed}/ HTTP/1.1", b"Host: {closed}", _TE) + b"50\r\n" + BEHIND,
        own=Own(status=502, reason="connection_refused"),
        closes=True,
    ),
    Case(
        name="nobody listens, the content waits for a 100, the connection closes",
        sent=head(
            b"POST http://{closed}/ HTTP/1.1",
            b"Host: {closed}",
            b"Expect: 100-continue",
            b"Content-Length: 5",
        ),
        own=Own(status=502, reason="connection_refused"),
        closes=True,
    ),
)

PIPELINING = (*GOOD, *ENDS, *SECOND_REFUSED, *OUTSTANDING)
