"""What a client has said first inside its tunnel, and when that is clear."""

import ssl
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.client_hello import NotTls, parse
from proxy.core.first_bytes import Kind, kind
from proxy.core.opening import Opening

MAX_HEAD = 64


def hello_of_python(server_name: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = server_name is not None
    context.set_alpn_protocols(["h2", "http/1.1"])
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = hello_of_python("a.example")
NAMELESS = hello_of_python(None)
# It begins as TLS does, and is a record of a handshake; only the message in it is no ClientHello.
NO_HELLO = b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"
REQUEST = b"GET /a HTTP/1.1\r\n"


def heard(*pieces: bytes) -> Opening:
    opening = Opening(MAX_HEAD)
    for piece in pieces:
        opening.add(piece)
    return opening


def bytes_of(text: bytes) -> list[bytes]:
    return [text[at : at + 1] for at in range(len(text))]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", Kind.UNDECIDED),
        (b"\x16", Kind.UNDECIDED),
        (b"\x16\x03", Kind.UNDECIDED),
        (HELLO[:-1], Kind.UNDECIDED),
        (HELLO, Kind.TLS),
        (NAMELESS, Kind.TLS),
        (HELLO + b"more", Kind.TLS),
        (NO_HELLO, Kind.TLS),
        (b"G", Kind.UNDECIDED),
        (REQUEST[:-1], Kind.UNDECIDED),
        (REQUEST, Kind.HTTP),
        (REQUEST + b"Host: a\r\n", Kind.HTTP),
        (b"\0", Kind.OTHER),
        (b"PRI * HTTP/2.0\r\n\r\n", Kind.OTHER),
        (b"G" * 33, Kind.OTHER),
        (b"GET /" + b"a" * MAX_HEAD, Kind.OTHER),
    ],
)
def test_what_it_is_whole_and_byte_by_byte(sent: bytes, said: Kind) -> None:
    opening = Opening(MAX_HEAD)
    assert opening.add(sent) is said
    for each in (opening, heard(*bytes_of(sent))):
        assert (each.kind, bytes(each.received)) == (said, sent)


def test_nothing_is_clear_before_anything_is_said() -> None:
    opening = Opening(MAX_HEAD)
    assert (opening.kind, bytes(opening.received)) == (Kind.UNDECIDED, b"")
    assert opening.hello is None
    assert not opening.begins_tls


def test_the_hello_is_kept_once_it_is_whole() -> None:
    assert heard(HELLO[:-1]).hello is None
    opening = heard(HELLO[:-1], HELLO[-1:])
    assert opening.hello is not None
    assert (opening.hello.server_name, opening.hello.protocols) == ("a.example", ("h2", "http/1.1"))
    nameless = heard(NAMELESS).hello
    assert nameless is not None
    assert nameless.server_name is None


@pytest.mark.parametrize("sent", [NO_HELLO, REQUEST, b"\0", b"", b"\x16"])
def test_there_is_no_hello_but_in_tls_that_makes_sense(sent: bytes) -> None:
    assert heard(sent).hello is None


@pytest.mark.parametrize(
    ("sent", "begins"),
    [(b"\x16", True), (HELLO, True), (NO_HELLO, True), (REQUEST, False), (b"\0\x16\x03", False)],
)
def test_whether_it_begins_as_tls_does_shows_at_the_first_byte(sent: bytes, *, begins: bool) -> None:
    assert heard(sent).begins_tls is begins
    assert heard(sent[:1]).begins_tls is begins


@pytest.mark.parametrize(
    ("sent", "may"),
    [(HELLO, True), (b"\x15\x03\x01", True), (REQUEST, False), (b"\x17\x03", False), (b"", False)],
)
def test_behind_an_alert_tls_may_come_as_well(sent: bytes, *, may: bool) -> None:
    assert heard(sent).may_lead_to_tls is may
    assert heard(sent[:1]).may_lead_to_tls is may


@pytest.mark.parametrize(
    ("first", "said", "then"),
    [
        (REQUEST, Kind.HTTP, HELLO),
        (b"\0", Kind.OTHER, REQUEST),
        (HELLO, Kind.TLS, b"\0"),
        (NO_HELLO, Kind.TLS, HELLO),
    ],
)
def test_what_is_clear_stays_so_and_what_comes_behind_is_kept(first: bytes, said: Kind, then: bytes) -> None:
    opening = heard(first)
    hello = opening.hello
    assert opening.add(then) is said
    assert opening.kind is said
    assert opening.hello is hello, "it is not read anew"
    assert opening.received == first + then


def verdicts(sent: bytes) -> tuple[Kind, bool]:
    """What it is, and whether there is a hello, by the two that know."""
    said = kind(sent, MAX_HEAD)
    if said is not Kind.TLS:
        return said, False
    try:
        hello = parse(sent)
    except NotTls:
        return Kind.TLS, False
    return (Kind.UNDECIDED, False) if hello is None else (Kind.TLS, True)


@given(
    st.sampled_from([HELLO, NO_HELLO, REQUEST, b"\0", b""]),
    st.binary(max_size=80),
    st.lists(st.integers(0, 600), max_size=6),
)
def test_the_pieces_do_not_matter(begin: bytes, behind: bytes, cuts: list[int]) -> None:
    sent = begin + behind
    places = sorted({0, len(sent), *(min(cut, len(sent)) for cut in cuts)})
    opening = Opening(MAX_HEAD)
    clear = None
    for start, end in pairwise(places):
        said = opening.add(sent[start:end])
        if clear is None:
            # Until it is clear it is what all of that would be in one piece.
            assert (said, opening.hello is not None) == verdicts(sent[:end])
            clear = None if said is Kind.UNDECIDED else said
        assert clear in {None, said}
    assert opening.received == sent
