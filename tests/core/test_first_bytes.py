"""What the first bytes in a tunnel are taken for, whatever pieces they come in."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.first_bytes import ALERTS, MAX_LINE_BYTES, Kind, alert_name, fatal_alert, kind

MAX_HEAD = 32 * 1024

# A beginning, and the number of its bytes that settle what it is.
HTTP = [
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"GET / HTTP/1.1\n",
    b"GET / HTTP/1.0\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"GET http://a.example/?q=%20 HTTP/1.1\r\n",
    b"CONNECT a.example:443 HTTP/1.1\r\n",
    b"\r\nGET / HTTP/1.1\r\n",
    b"\n\r\n\n\r\nGET / HTTP/1.1\r\n",
    b"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\n",
    b"M" * 32 + b" / HTTP/1.1\r\n",
    b"GET /\xff\x80\xc3\xbc HTTP/1.1\r\n",
    b"GET HTTP/1.1 HTTP/1.1\r\n",
    b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\n",
]
OTHER = [
    (b"\0", 1),
    (b"\x05\x01\0", 1),
    (b"\x17\x03\x03", 1),
    (b"\x15\x03\x01", 1),
    (b"\x16\x02\0", 2),
    (b"\x16GET / HTTP/1.1\r\n", 2),
    (b"\x80\x2e\x01", 1),
    (b" GET / HTTP/1.1\r\n", 1),
    (b"\rGET / HTTP/1.1\r\n", 2),
    (b"\r\r\n", 2),
    (b"\r\n\x16\x03", 3),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 12),
    (b"GET / HTTP/1.2\r\n", 14),
    (b"GET / HTTP/1.10\r\n", 15),
    (b"GET / HTTP/0.9\r\n", 12),
    (b"GET / http/1.1\r\n", 7),
    (b"GET /\r\n", 6),
    (b"GET / \r\n", 7),
    (b"GET  / HTTP/1.1\r\n", 5),
    (b"GET /  HTTP/1.1\r\n", 7),
    (b"GET /a b HTTP/1.1\r\n", 8),
    (b"GET\t/ HTTP/1.1\r\n", 4),
    (b"GET / HTTP/1.1 \r\n", 15),
    (b"GET / HTTP/1.1\rX", 16),
    (b"GET /\0 HTTP/1.1\r\n", 6),
    (b"GET /\x7f HTTP/1.1\r\n", 6),
    (b"GET(/ HTTP/1.1\r\n", 4),
    (b"G\xc3\x8bT / HTTP/1.1\r\n", 2),
    (b"M" * 33 + b" / HTTP/1.1\r\n", 33),
    (b"SSH-2.0-OpenSSH_9.2\r\n", 20),
    (b"EHLO a.example\r\n", 15),
    (b"*1\r\n$4\r\nPING\r\n", 3),
    (b"RTSP / RTSP/1.0\r\n", 8),
    (b"HTTP/1.1 200 OK\r\n", 5),
    (b"GET /" + b"a" * MAX_LINE_BYTES, MAX_LINE_BYTES),
    (b"\r\n" * MAX_LINE_BYTES, MAX_LINE_BYTES),
]
CASES = [
    (b"\x16\x03\x01\x02\0", 2, Kind.TLS),
    (b"\x16\x03", 2, Kind.TLS),
    *((line, len(line), Kind.HTTP) for line in HTTP),
    *((begin, settled, Kind.OTHER) for begin, settled in OTHER),
]


@pytest.mark.parametrize(
    ("sent", "settled", "taken_for"), CASES, ids=[repr(sent)[2:32] for sent, _, _ in CASES]
)
def test_it_is_known_at_the_byte_that_settles_it(sent: bytes, settled: int, taken_for: Kind) -> None:
    # The long ones not at each byte.
    ends = [*range(min(settled, 64)), *range(64, settled, 97), settled - 1]
    assert {kind(sent[:end], MAX_HEAD) for end in ends} == {Kind.UNDECIDED}
    assert {kind(sent[:end], MAX_HEAD) for end in range(settled, len(sent) + 1)} == {taken_for}
    for more in (b"", b"\r\n", b" HTTP/1.1\r\n", b"\x16\x03\x01", bytes(2 * MAX_HEAD)):
        assert kind(sent + more, MAX_HEAD) is kind(bytearray(sent + more), MAX_HEAD) is taken_for


@pytest.mark.parametrize("before", [b"", b"\r\n"])
@pytest.mark.parametrize(("max_head", "most"), [(1024, 1024), (MAX_HEAD, MAX_LINE_BYTES)])
@pytest.mark.parametrize("end", [b" HTTP/1.1\r\n", b" HTTP/1.0\n"])
def test_the_longest_line(before: bytes, max_head: int, most: int, end: bytes) -> None:
    line = before + b"GET ".ljust(most - len(before) - len(end), b"/") + end
    assert len(line) == most
    assert kind(line, max_head) is Kind.HTTP
    assert kind(line[:-1], max_head) is Kind.UNDECIDED
    longer = line.replace(b"GET ", b"POST ")
    assert kind(longer, max_head) is kind(longer[:most], max_head) is Kind.OTHER
    assert kind(longer[: most - 1], max_head) is Kind.UNDECIDED


TOKEN = "!#$%&'*+-.^_`|~" + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
http_lines = st.builds(
    lambda empty, method, target, version, end: b"".join((*empty, method, b" ", target, version, end)),
    st.lists(st.sampled_from([b"\r\n", b"\n"]), max_size=3),
    st.text(TOKEN, min_size=1, max_size=32).map(str.encode),
    st.text(st.characters(codec="utf-8", min_codepoint=0x21, exclude_characters="\x7f"), min_size=1).map(
        str.encode
    ),
    st.sampled_from([b" HTTP/1.1", b" HTTP/1.0"]),
    st.sampled_from([b"\r\n", b"\n"]),
)
SETTLED = {Kind.TLS, Kind.HTTP, Kind.OTHER}


@given(http_lines, st.binary(max_size=20))
def test_what_becomes_http_is_never_taken_for_another(line: bytes, more: bytes) -> None:
    assert {kind(line[:end], MAX_HEAD) for end in range(len(line))} == {Kind.UNDECIDED}
    assert kind(line + more, MAX_HEAD) is Kind.HTTP


pieces = st.sampled_from(
    [
        b"GET",
        b" ",
        b"/",
        b"HTTP/1.1",
        b"HTTP/",
        b"1.0",
        b"\r",
        b"\n",
        b"\r\n",
        b"\x16",
        b"\x03",
        b"\0",
        b"\xff",
    ]
)


@given(st.one_of(st.binary(max_size=40), st.lists(pieces, max_size=12).map(b"".join)), st.integers(1, 40))
@example(b"GET / HTTP/1.1\r\n", 15)
@example(b"\x16\x03", 1)
def test_once_known_it_stays(sent: bytes, max_head: int) -> None:
    kinds = [kind(sent[:end], max_head) for end in range(len(sent) + 1)]
    settled = [one for one in kinds if one is not Kind.UNDECIDED]
    assert kinds == [Kind.UNDECIDED] * (len(kinds) - len(settled)) + settled[:1] * len(settled)
    assert settled or len(sent) < max_head or sent == b"\x16"


ALERT = b"\x15\x03\x03\0\x02\x02\x28"


@pytest.mark.parametrize("minor", range(5))
@pytest.mark.parametrize("description", [0, 10, 13, 40, 255])
def test_a_fatal_alert(minor: int, description: int) -> None:
    record = bytes([0x15, 3, minor, 0, 2, 2, description])
    assert [fatal_alert(record[:end]) for end in range(7)] == [Kind.UNDECIDED] * 7
    assert fatal_alert(record) == fatal_alert(bytearray(record) + ALERT) == description


@pytest.mark.parametrize(
    ("at", "byte"),
    [(0, 0x16), (0, 0x17), (0, 0x48), (1, 2), (1, 4), (2, 5), (3, 1), (4, 1), (4, 3), (5, 1), (5, 0), (5, 3)],
)
def test_no_fatal_alert_from_the_byte_on_that_is_another(at: int, byte: int) -> None:
    record = ALERT[:at] + bytes([byte]) + ALERT[at + 1 :]
    assert {fatal_alert(record[:end]) for end in range(at + 1)} == {Kind.UNDECIDED}
    assert {fatal_alert(record[:end]) for end in range(at + 1, 8)} == {None}
    assert fatal_alert(record + ALERT) is None


@given(st.binary(max_size=10), st.integers(0, 7))
def test_what_an_upstream_says_stays(more: bytes, kept: int) -> None:
    sent = ALERT[:kept] + more
    answers = [fatal_alert(sent[:end]) for end in range(len(sent) + 1)]
    settled = [answer for answer in answers if answer is not Kind.UNDECIDED]
    assert answers[: len(answers) - len(settled)] == [Kind.UNDECIDED] * (len(answers) - len(settled))
    assert len(set(settled)) <= 1
    assert settled or len(sent) < 7


def test_alerts_have_the_names_of_the_rfc() -> None:
    assert (alert_name(40), alert_name(48), alert_name(70)) == (
        "handshake_failure",
        "unknown_ca",
        "protocol_version",
    )
    assert (alert_name(112), alert_name(116), alert_name(120)) == (
        "unrecognized_name",
        "certificate_required",
        "no_application_protocol",
    )
    assert alert_name(255) == "alert_255"
    assert len(set(ALERTS.values())) == len(ALERTS)
    assert all(0 <= description <= 255 for description in ALERTS)
