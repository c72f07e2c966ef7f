"""How content is framed on its way: as it is, or in chunks (RFC 9112 sections 6 and 7.1)."""

from proxy.core.headers import Body, Framing
from proxy.wire.call import Call

# Members are looked up on their class in Python; these are read in every exchange.
_CHUNKED, _CLOSE = Framing.CHUNKED, Framing.CLOSE
_IN_CHUNKS, _TO_THE_END = Body(_CHUNKED), Body(_CLOSE)


def framed(piece: bytes, body: Body) -> bytes:
    """A piece of content as it goes out; an empty one is none, since the empty chunk is the last."""
    if body.framing is not _CHUNKED or not piece:
        return piece
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def body_for_client(body: Body, call: Call) -> Body:
    """How the client learns where the response ends (RFC 9112 section 6.1: no chunks for HTTP/1.0)."""
    if body.framing is _CLOSE and call.is_http_1_1:
        return _IN_CHUNKS
    if body.framing is _CHUNKED and not call.is_http_1_1:
        return _TO_THE_END
    return body
