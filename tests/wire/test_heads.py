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


A, B = (b"A", b"1"), (b"B", b"2")


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        # Neither is ours: both lines stay as they are.
        ([b'a; details="x', b'y"'], [b'a; details="x', b'y"']),
        ([b"a", b"b"], [b"a", b"b"]),
        # A string that spans two lines: what stands in it is nobody's name.
        ([b'a; details="x', b'me; error=y"'], [b'a; details="x, me; error=y"']),
        ([b'a; details="x', b'me; error=y", b'], [b'a; details="x, me; error=y", b']),
        # It ends in the second line, and we begin behind it.
        ([b'a; details="x', b'y", me; error=z'], [b'a; details="x, y"']),
        ([b'a; details="x\\"', b'y", me; error=z, b'], [b'a; details="x\\", y", b']),
        ([b"a", b"me; error=x", b"b"], [b"a, b"]),
        ([b"me", b'"me"; error=x'], []),
        # Without an end of the string nobody can tell whether it is ours.
        ([b'a; details="x', b"me; error=y"], []),
        ([b'b, a; details="x, me; error=y'], [b"b"]),
        ([b"b", b'a; details="x', b"me"], [b"b"]),
        ([b'a; details="x\\"', b"me; error=y"], []),
        ([b'a; details="x" "me'], []),
        ([b'a; details="x" ", me; error=y'], []),
        # With one it is somebody else's, whatever it says.
        ([b'a; details="me"'], [b'a; details="me"']),
        ([b'a; details="\\"me"'], [b'a; details="\\"me"']),
    ],
)
def test_proxy_status_is_one_list_over_all_its_lines(said: list[bytes], passed: list[bytes]) -> None:
    fields = [A, *[(b"Proxy-Status", line) for line in said], B]
    assert lines_of(200, fields) == [b"A: 1", *[b"Proxy-Status: " + line for line in passed], b"B: 2"]


def test_what_others_say_keeps_its_place_and_its_spelling() -> None:
    fields = [A, (b"pROXY-status", b"a;  error=x ,me"), B, (b"Proxy-Status", b"me, b; Error=Y"), A]
    assert lines_of(200, fields) == [b"A: 1", b"pROXY-status: a;  error=x, b; Error=Y", b"B: 2", b"A: 1"]


@pytest.mark.parametrize("status", [103, 200])
def test_what_only_others_say_is_not_touched(status: int) -> None:
    fields = [(b"PROXY-STATUS", b"a ,  b"), A, (b"proxy-status", b',"c"')]
    assert lines_of(status, fields) == [b"PROXY-STATUS: a ,  b", b"A: 1", b'proxy-status: ,"c"']


@pytest.mark.parametrize(
    ("status", "passes"), [(100, False), (103, False), (204, False), (200, True), (304, True)]
)
def test_content_length_where_there_is_no_content(status: int, passes: bool) -> None:  # noqa: FBT001 -- a column
    assert bool(lines_of(status, [(b"Content-Length", b"5")])) is passes
