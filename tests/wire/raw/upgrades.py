"""Upgrade: a WebSocket goes end to end, everything else is an ordinary request (RFC 9110 section 7.8)."""

from wire.raw.case import BEHIND, OK, OK_AND_CLOSE, Case, arrives, head

_HOST = b"Host: {up}"
_GET = b"GET http://{up}/ HTTP/1.1"
_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
_ASKS = (b"Upgrade: websocket", b"Connection: Upgrade")
_WEBSOCKET = head(_GET, _HOST, *_ASKS, _KEY)
_ASKED = arrives(b"GET / HTTP/1.1", _HOST, _KEY, *_ASKS)
_SWITCHING = head(b"HTTP/1.1 101 Switching Protocols", b"connection: upgrade", b"upgrade: WebSocket", b"A: 1")
_SWITCHED = head(b"HTTP/1.1 101 Switching Protocols", b"A: 1", b"Via: 1.1 testproxy", *_ASKS)


def _accepted(name: str, sent: bytes, *, then: bytes = b"\x81\x02hi", ahead: bytes = b"") -> Case:
    return Case(
        name=name,
        sent=sent + ahead,
        first=_SWITCHED,
        then=then,
        requests=(_ASKED,),
        answers=(_SWITCHING,),
        raw=ahead + then,
        raw_answer=b"\x81\x02ho\r\n\r\n",
        received=_SWITCHED + b"\x81\x02ho\r\n\r\n",
    )


def _ordinary(name: str, sent: bytes, arriving: bytes) -> Case:
    """Answered without a 101; what comes behind it could be meant for the other protocol."""
    return Case(
        name=name,
        sent=sent + BEHIND,
        requests=(arriving,),
        answers=(OK,),
        received=OK_AND_CLOSE,
        closes=True,
    )


UPGRADES = (
    _accepted("WebSocket accepted", _WEBSOCKET),
    _accepted("WebSocket accepted, every byte passes", _WEBSOCKET, then=bytes(range(256))),
    _accepted("WebSocket accepted, a request in it is raw", _WEBSOCKET, then=BEHIND),
    _accepted(
        "WebSocket in other cases",
        head(_GET, _HOST, b"CONNECTION: keep-alive, UPGRADE", b"upgrade: WebSocket", _KEY),
    ),
    _accepted("WebSocket accepted, frames sent ahead", _WEBSOCKET, ahead=b"\x81\x01a"),
    _ordinary("WebSocket refused", _WEBSOCKET, _ASKED),
    _ordinary(
        "WebSocket that Connection does not name",
        head(_GET, _HOST, b"Upgrade: websocket", _KEY),
        arrives(b"GET / HTTP/1.1", _HOST, _KEY),
    ),
    _ordinary(
        "WebSocket by POST",
        head(b"POST http://{up}/ HTTP/1.1", _HOST, *_ASKS, b"Content-Length: 5") + b"event",
        arrives(b"POST / HTTP/1.1", _HOST, b"Content-Length: 5") + b"event",
    ),
    _ordinary(
        "WebSocket over HTTP/1.0",
        head(b"GET http://{up}/ HTTP/1.0", _HOST, *_ASKS),
        arrives(b"GET / HTTP/1.1", _HOST, via=b"1.0"),
    ),
    _ordinary(
        "HTTP/2 in clear text",
        head(
            _GET,
            _HOST,
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABk",
            b"A: 1",
        ),
        arrives(b"GET / HTTP/1.1", _HOST, b"A: 1"),
    ),
    _ordinary(
        "TLS inside of HTTP",
        head(b"OPTIONS http://{up} HTTP/1.1", _HOST, b"Connection: upgrade", b"Upgrade: TLS/1.0"),
        arrives(b"OPTIONS * HTTP/1.1", _HOST),
    ),
    _ordinary(
        "an Upgrade that Connection does not name",
        head(_GET, _HOST, b"A: 1", b"Upgrade: tls/1.0"),
        arrives(b"GET / HTTP/1.1", _HOST, b"A: 1"),
    ),
)
