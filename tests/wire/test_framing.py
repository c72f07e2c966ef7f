"""How content is framed: the empty piece is no chunk, and HTTP/1.0 gets none."""

import pytest

from proxy.core.headers import Body, Framing
from proxy.wire.framing import framed

CHUNKED = Body(Framing.CHUNKED)


@pytest.mark.parametrize(
    ("piece", "body", "out"),
    [
        (b"abc", CHUNKED, b"3\r\nabc\r\n"),
        (b"a" * 17, CHUNKED, b"11\r\n" + b"a" * 17 + b"\r\n"),
        (b"", CHUNKED, b""),
        (b"abc", Body(Framing.LENGTH, 3), b"abc"),
        (b"abc", Body(Framing.CLOSE), b"abc"),
    ],
)
def test_a_piece_goes_out_as_its_framing_says(piece: bytes, body: Body, out: bytes) -> None:
    assert framed(piece, body) == out
