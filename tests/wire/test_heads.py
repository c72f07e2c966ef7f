"""The heads that go out: what an upstream cannot say in our name, and what statuses cannot carry."""

import pytest

from proxy.core.headers import NO_BODY, Fields, Head
from proxy.wire.heads import Heads
from proxy.wire.parser import ResponseHead

HEADS = Heads("me", via=True)


def lines_of(status: int, fields: Fields) -> list[bytes]:
    head = ResponseHead(status, b"X", "1.1", Head(fields), NO_BODY)
    made = HEADS.interim(head) if status < 200 else HEADS.response(head, NO_BODY, keep=True)
    first, *lines, _, _ = made.split(b"\r\n")
    assert first == b"HTTP/1.1 %d X" % status
    return [line for line in lines if line != b"Via: 1.1 me"]


@pytest.mark.parametrize("status", [103, 200, 503])
def test_only_we_say_that_an_answer_is_ours(status: int) -> None:
    assert lines_of(status, [(b"x-breaker-REASON", b"circuit_open"), (b"A", b"b")]) == [b"A: b"]


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        (b"me; error=destination_unavailable", None),
        (b'"me"; error=x', None),
        (b" me ;error=x", None),
        (b"other; error=x, me; error=y", b"other; error=x"),
        (b'a; details="x, me", me, b', b'a; details="x, me", b'),
        (b'a; details="x\\", me", b', b'a; details="x\\", me", b'),
        (b"meanwhile; error=x", b"meanwhile; error=x"),
        (b"other", b"other"),
    ],
)
def test_a_forged_member_of_proxy_status_is_dropped(sent: bytes, passed: bytes | None) -> None:
    expected = [] if passed is None else [b"Proxy-Status: " + passed]
    assert lines_of(200, [(b"Proxy-Status", sent)]) == expected


@pytest.mark.parametrize(
    ("status", "passes"), [(100, False), (103, False), (204, False), (200, True), (304, True)]
)
def test_content_length_where_there_is_no_content(status: int, passes: bool) -> None:  # noqa: FBT001 -- a column
    assert bool(lines_of(status, [(b"Content-Length", b"5")])) is passes
