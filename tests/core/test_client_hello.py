"""What is read of a ClientHello, whatever pieces and records it comes in.

The real ones are Python's own (OpenSSL's); the others are put together here, field by field.
"""

import re
import ssl
from itertools import pairwise
from typing import SupportsIndex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.client_hello import MAX_BYTES, MAX_RECORDS, ClientHello, NotTls, key_groups, parse

MAX_FRAGMENT = 2**14
CIPHER_SUITES = bytes.fromhex("0a0a 1301 1302 c02b")
LONGEST_NAME = ".".join(["a" * 63] * 3 + ["a" * 61])


def hello_of_python(
    server_name: str | None = None,
    protocols: list[str] | None = None,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = server_name is not None
    context.maximum_version = newest
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(bytes_of_length: int, content: bytes) -> bytes:
    return len(content).to_bytes(bytes_of_length) + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, content)


def names(*host_names: bytes, kind: int = 0) -> bytes:
    return b"".join(bytes([kind]) + vector(2, name) for name in host_names)


def server_name(entries: bytes) -> bytes:
    return extension(0, vector(2, entries))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def message(
    *extensions: bytes,
    version: bytes = b"\x03\x03",
    session_id: bytes = b"",
    cipher_suites: bytes = CIPHER_SUITES,
    compression: bytes = b"\0",
    end: bytes | None = None,
) -> bytes:
    fields = version + bytes(32) + vector(1, session_id) + vector(2, cipher_suites) + vector(1, compression)
    return b"\x01" + vector(3, fields + (vector(2, b"".join(extensions)) if end is None else end))


def message_of(size: int, *extensions: bytes) -> bytes:
    """A message that padding (RFC 7685) makes so long."""
    rest = len(message(*extensions, extension(21, b"")))
    return message(*extensions, extension(21, bytes(size - rest)))


def record(fragment: bytes, kind: int = 22, version: bytes = b"\x03\x01") -> bytes:
    return bytes([kind]) + version + vector(2, fragment)


def records(content: bytes, cuts: list[int]) -> bytes:
    return b"".join(record(content[begin:end]) for begin, end in pairwise([0, *cuts, len(content)]))


def records_of(content: bytes, size: int) -> bytes:
    return records(content, list(range(size, len(content), size)))


# GREASE (RFC 8701) as Chrome sends it: as a cipher suite, as an extension at either end, as a protocol.
GREASE = message(
    extension(0x0A0A, b""),
    server_name(names(b"example.com")),
    alpn(b"\x0a\x0a", b"h2", b"http/1.1"),
    extension(0xFAFA, b"\0"),
    session_id=bytes(32),
)
PYTHON = hello_of_python("Example.COM", ["h2", "http/1.1"])

HELLOS = {
    "Python": (PYTHON, "example.com", ("h2", "http/1.1")),
    "Python, no name": (hello_of_python(protocols=["http/1.1"]), None, ("http/1.1",)),
    "Python, no protocols": (hello_of_python("localhost"), "localhost", None),
    "Python, TLS 1.2": (hello_of_python("a.example", newest=ssl.TLSVersion.TLSv1_2), "a.example", None),
    "Python, an IDN": (hello_of_python("m\u00fcller.example"), "xn--mller-kva.example", None),
    "Python, in two records": (records(PYTHON[5:], [100]), "example.com", ("h2", "http/1.1")),
    "Python, its header in pieces": (records(PYTHON[5:], [1, 2, 3, 4, 5]), "example.com", ("h2", "http/1.1")),
    "GREASE": (record(GREASE), "example.com", ("\n\n", "h2", "http/1.1")),
    "each byte a record": (records_of(message(alpn(b"h2")), 1), None, ("h2",)),
    "no extensions": (record(message()), None, None),
    "not even their length": (record(message(end=b"")), None, None),
    "SSL 3.0": (record(message(end=b"", version=b"\x03\0"), version=b"\x03\0"), None, None),
    "a version of records that nobody has": (record(message(), version=b"\x03\xff"), None, None),
    "all fields at their longest": (
        record(message(session_id=bytes(32), cipher_suites=bytes(512), compression=bytes(255))),
        None,
        None,
    ),
    "the longest name": (record(message(server_name(names(LONGEST_NAME.encode())))), LONGEST_NAME, None),
    "an underscore": (record(message(server_name(names(b"_a.b_c")))), "_a.b_c", None),
    "a dot at the end": (record(message(server_name(names(b"example.com.")))), "example.com", None),
    "an IPv4 address": (record(message(server_name(names(b"192.0.2.1")))), "192.0.2.1", None),
    "an IPv6 address": (record(message(server_name(names(b"2001:DB8:0::1")))), "2001:db8::1", None),
    "a name of another kind": (record(message(server_name(names(b"\xff", kind=7)))), None, None),
    "names of two kinds": (
        record(message(server_name(names(b"\xff", kind=7) + names(b"a.example")))),
        "a.example",
        None,
    ),
    "a protocol twice": (record(message(alpn(b"h2", b"h2"))), None, ("h2", "h2")),
    "the longest protocol": (record(message(alpn(b"\xff" * 255))), None, ("\xff" * 255,)),
    "a full record": (record(message_of(MAX_FRAGMENT, alpn(b"h2"))), None, ("h2",)),
    "one byte more": (records_of(message_of(MAX_FRAGMENT + 1, alpn(b"h2")), MAX_FRAGMENT), None, ("h2",)),
    "the longest": (
        records_of(message_of(MAX_BYTES - 2 * 5, alpn(b"h2")), MAX_FRAGMENT),
        None,
        ("h2",),
    ),
    "the longest, in more records": (
        records_of(message_of(MAX_BYTES - 243 * 5, alpn(b"h2")), 130),
        None,
        ("h2",),
    ),
    "the most records": (records_of(message_of(MAX_RECORDS * 64, alpn(b"h2")), 64), None, ("h2",)),
}

each_hello = pytest.mark.parametrize(("sent", "host", "protocols"), list(HELLOS.values()), ids=list(HELLOS))


@each_hello
def test_whole_and_with_more_behind(sent: bytes, host: str | None, protocols: tuple[str, ...] | None) -> None:
    hello = ClientHello(host, protocols)
    assert parse(sent) == hello
    assert parse(bytearray(sent)) == hello
    for more in (b"\0", b"GET / HTTP/1.1\r\n\r\n", record(b"early", kind=23), sent, bytes(2 * MAX_BYTES)):
        assert parse(sent + more) == hello


@each_hello
def test_more_is_needed_wherever_it_is_cut(
    sent: bytes, host: str | None, protocols: tuple[str, ...] | None
) -> None:
    received = bytearray()
    for byte in sent:
        assert parse(received) is None
        received.append(byte)
    assert parse(received) == ClientHello(host, protocols)


def with_length(sent: bytes, at: int, length: int) -> bytes:
    """A hello of which two bytes are another length."""
    return sent[:at] + length.to_bytes(2) + sent[at + 2 :]


ANOTHER_RECORD = "another thing than a record of a TLS handshake"
NO_HELLO = "does not begin with a ClientHello"
RECORD_LENGTH = "empty or too long"
TOO_LONG = "is too long"
MORE_IN_RECORD = "more in a record"
WITHIN = "ends within a field"
TOO_SHORT = "too short"
BEHIND = "behind the end of a list"
TWICE = "there twice"
SEVERAL = "several server names"
MALFORMED = "the server name is malformed: the host "

_FRAGMENTS = [GREASE[:50], GREASE[50:]]

MALFORMED_HELLOS = {
    "HTTP": (b"GET / HTTP/1.1\r\n", ANOTHER_RECORD),
    "SSH": (b"S", ANOTHER_RECORD),
    "SSLv2": (bytes.fromhex("802e0103010015000000100100800300800700c0") + bytes(30), ANOTHER_RECORD),
    "another major version": (b"\x16\x02", ANOTHER_RECORD),
    "an alert": (record(b"\x02\x28", kind=21), ANOTHER_RECORD),
    "application data": (record(GREASE, kind=23), ANOTHER_RECORD),
    "change_cipher_spec in between": (
        record(_FRAGMENTS[0]) + record(b"\x01", kind=20) + record(_FRAGMENTS[1]),
        ANOTHER_RECORD,
    ),
    "text in between": (record(_FRAGMENTS[0]) + b"HTTP" + record(_FRAGMENTS[1]), ANOTHER_RECORD),
    "text within its header": (record(GREASE[:2]) + b"HTTP", ANOTHER_RECORD),
    "an empty record": (record(b""), RECORD_LENGTH),
    "an empty record in between": (
        record(_FRAGMENTS[0]) + record(b"") + record(_FRAGMENTS[1]),
        RECORD_LENGTH,
    ),
    "a record of 2^14 + 1": (b"\x16\x03\x01\x40\x01", RECORD_LENGTH),
    "a ServerHello": (record(b"\x02" + GREASE[1:]), NO_HELLO),
    "a HelloRequest": (record(bytes(4)), NO_HELLO),
    "no ClientHello, by its first byte": (record(b"\x0b" + bytes(3)), NO_HELLO),
    "too long for its records": (
        record(b"\x01" + (MAX_BYTES - 2 * 5 - 3).to_bytes(3)),
        TOO_LONG,
    ),
    "of 16 MB": (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff", TOO_LONG),
    "too long with its records": (
        records_of(message_of(MAX_BYTES - 4 * 5), 8000),
        "too long with its records",
    ),
    "too many records": (records_of(message_of(MAX_RECORDS + 1), 1), "in too many records"),
    "two in one record": (record(GREASE + GREASE), MORE_IN_RECORD),
    "a byte more in its record": (record(GREASE + b"\0"), MORE_IN_RECORD),
    "a record that goes on behind it": (record(GREASE + b"\0")[:-1], MORE_IN_RECORD),
    "nothing in it": (record(b"\x01" + bytes(3)), WITHIN),
    "an unknown version": (record(message(version=b"\x02\x00")), "unknown version"),
    "half a random": (record(b"\x01" + vector(3, b"\x03\x03" + bytes(16))), WITHIN),
    "a long session id": (record(message(session_id=bytes(33))), "session id"),
    "no cipher suites": (record(message(cipher_suites=b"")), TOO_SHORT),
    "half a cipher suite": (record(message(cipher_suites=bytes(3))), "half a cipher suite"),
    "no compression": (record(message(compression=b"")), TOO_SHORT),
    "half a length of extensions": (record(message(end=b"\0")), WITHIN),
    "fewer extensions than said": (record(message(end=b"\0\x05" + extension(5, b""))), WITHIN),
    "more than the extensions": (record(message(end=b"\0\x04" + extension(5, b"") + b"\0")), BEHIND),
    "half an extension": (record(message(extension(5, b"abc")[:-1])), WITHIN),
    "half a kind of extension": (record(message(extension(5, b""), b"\0")), WITHIN),
    "an extension twice": (record(message(extension(5, b""), alpn(b"h2"), extension(5, b"a"))), TWICE),
    "a name in two extensions": (
        record(message(server_name(names(b"a.example")), server_name(names(b"b.example")))),
        TWICE,
    ),
    "protocols twice": (record(message(alpn(b"h2"), alpn(b"http/1.1"))), TWICE),
    "no list of names": (record(message(extension(0, b""))), WITHIN),
    "no names": (record(message(server_name(b""))), WITHIN),
    "two names": (record(message(server_name(names(b"a.example", b"b.example")))), SEVERAL),
    "the same name twice": (record(message(server_name(names(b"a.example", b"a.example")))), SEVERAL),
    "two of an unknown kind": (record(message(server_name(names(b"a", b"b", kind=9)))), SEVERAL),
    "more than the list of names": (
        record(message(extension(0, vector(2, names(b"a.example")) + b"\0"))),
        BEHIND,
    ),
    "half a name": (record(message(server_name(names(b"a.example")[:-1]))), WITHIN),
    "an empty name": (record(message(server_name(names(b"")))), TOO_SHORT),
    "a NUL": (record(message(server_name(names(b"a.example\0.evil")))), MALFORMED + "has characters"),
    "a space": (record(message(server_name(names(b"a.example ")))), MALFORMED + "has characters"),
    "a port": (record(message(server_name(names(b"a.example:443")))), MALFORMED + "is no IPv6 address"),
    "a wildcard": (record(message(server_name(names(b"*.example")))), MALFORMED + "has characters"),
    "UTF-8": (record(message(server_name(names("ü.example".encode())))), MALFORMED + "is not ASCII"),
    "two dots": (record(message(server_name(names(b"a..example")))), MALFORMED + "is empty"),
    "two dots at the end": (record(message(server_name(names(b"a.example..")))), MALFORMED + "is empty"),
    "only a dot": (record(message(server_name(names(b".")))), MALFORMED + "is empty"),
    "a name too long": (
        record(message(server_name(names(b"a" + LONGEST_NAME.encode())))),
        MALFORMED + "is too long",
    ),
    "a number": (record(message(server_name(names(b"0x7f.1")))), MALFORMED + "reads as a number"),
    "no list of protocols": (record(message(extension(16, b""))), WITHIN),
    "no protocols": (record(message(alpn())), WITHIN),
    "an empty protocol first": (record(message(alpn(b"", b"h2"))), TOO_SHORT),
    "an empty protocol": (record(message(alpn(b"h2", b""))), TOO_SHORT),
    "half a protocol": (record(message(extension(16, vector(2, b"\x03h2")))), WITHIN),
    "more than the protocols": (record(message(extension(16, vector(2, b"\x02h2") + b"\0"))), BEHIND),
}


@pytest.mark.parametrize(("sent", "why"), list(MALFORMED_HELLOS.values()), ids=list(MALFORMED_HELLOS))
def test_what_is_no_hello(sent: bytes, why: str) -> None:
    with pytest.raises(NotTls, match=re.escape(why)):
        parse(sent)
    # Byte by byte more is needed, and then it is refused for the same reason, whatever follows.
    decided = next(end for end in range(len(sent) + 1) if is_refused(sent[:end]))
    assert [parse(sent[:end]) for end in range(decided)] == [None] * decided
    for end in range(decided, len(sent) + 1):
        with pytest.raises(NotTls, match=re.escape(why)):
            parse(sent[:end])
    with pytest.raises(NotTls, match=re.escape(why)):
        parse(sent + bytes(MAX_BYTES))


def is_refused(received: bytes) -> bool:
    try:
        parse(received)
    except NotTls:
        return True
    return False


@pytest.mark.parametrize(
    "received",
    [b"GET", b"\x16\x02", b"\x16\x03\x01\0\x01\x02", b"\x16\x03\x01\x40\x01", b"\x16\x03\x01\0\0"],
)
def test_refused_as_soon_as_it_can_be_known(received: bytes) -> None:
    assert is_refused(received)


def test_the_text_repeats_nothing() -> None:
    with pytest.raises(NotTls) as refused:
        parse(record(message(server_name(names(b"secret\n.example")))))
    assert "secret" not in str(refused.value)


REAL = [sent for sent, _, _ in HELLOS.values() if len(sent) < 2000]


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x16\x03\x01", b"\x16\x03\x01\0\x40\x01\0\0"]))
def test_random_bytes(received: bytes, begin: bytes) -> None:
    result_of(begin + received)


@given(st.sampled_from(REAL), st.data())
def test_mutated_hellos(sent: bytes, draw: st.DataObject) -> None:
    received = bytearray(sent)
    for _ in range(draw.draw(st.integers(1, 4))):
        begin = draw.draw(st.integers(0, len(received)))
        end = draw.draw(st.integers(begin, min(len(received), begin + 8)))
        received[begin:end] = draw.draw(st.binary(max_size=8))
    hello = result_of(received)
    # What may follow changes nothing once there is an answer.
    if hello is not None:
        assert result_of(received + b"\x16\x03\x01\0\x01\0") == hello


def result_of(received: bytes | bytearray) -> ClientHello | str | None:
    try:
        return parse(received)
    except NotTls as error:
        return str(error)


@given(st.sampled_from([PYTHON[5:], GREASE]), st.sets(st.integers(1, 130), max_size=100))
@example(GREASE, {1, 2, 3, 4})
def test_the_places_where_records_end_do_not_matter(content: bytes, cuts: set[int]) -> None:
    sent = records(content, sorted(cuts))
    whole = parse(record(content))
    assert whole is not None
    assert parse(sent) == whole
    assert all(parse(sent[:end]) is None for end in range(0, len(sent), 7))


@given(st.integers(1, MAX_FRAGMENT), st.integers(0, 2**24 - 1))
def test_nobody_makes_us_keep_more_than_the_limit(fragment: int, claimed: int) -> None:
    content = (b"\x01" + claimed.to_bytes(3) + bytes(MAX_BYTES))[:MAX_BYTES]
    assert result_of(records_of(content, fragment)[:MAX_BYTES]) is not None


class Watched(bytes):
    """Bytes that count what is looked at: each slice, and how long it is."""

    looks = 0

    def __getitem__(self, key: SupportsIndex | slice) -> bytes:  # type: ignore[override]
        assert isinstance(key, slice)
        found = super().__getitem__(key)
        self.looks += 1 + len(found)
        return found


def looks_of(sent: bytes) -> int:
    """How much is looked at of what comes byte by byte, up to an answer, or all of it."""
    looks = 0
    for end in range(len(sent) + 1):
        received = Watched(sent[:end])
        result = result_of(received)
        looks += received.looks
        if result is not None:
            break
    return looks


@pytest.mark.parametrize("fragment", [1, 3, 64, 1000, MAX_FRAGMENT])
def test_the_work_is_linear_byte_by_byte(fragment: int) -> None:
    # Ten times as long, at most about ten times as much to do; begun anew with each byte it would be 100.
    short, long = (records_of(message_of(size), fragment)[:size] for size in (3000, 30000))
    assert looks_of(long) < 13 * looks_of(short)


def test_the_most_work_is_bounded() -> None:
    # 256 records, of which only the last few bytes are missing again and again.
    slow = looks_of(records_of(message_of(MAX_RECORDS * 2), 2))
    assert slow < 5 * MAX_RECORDS * (6 * MAX_RECORDS + 2 * MAX_RECORDS)


def key_share(*shares: tuple[int, bytes]) -> bytes:
    return extension(51, vector(2, b"".join(group.to_bytes(2) + vector(2, key) for group, key in shares)))


@pytest.mark.parametrize(
    ("sent", "groups"),
    [
        (record(message(key_share((29, b"k"), (0x0104, bytes(1024))))), (29, 0x0104)),
        (record(message(key_share())), ()),
        (record(message()), ()),
        (record(message(key_share((29, b"k"))))[:-1], ()),
        (b"", ()),
    ],
    ids=["two", "none", "not even a list", "cut", "nothing"],
)
def test_the_groups_that_have_a_key(sent: bytes, groups: tuple[int, ...]) -> None:
    assert key_groups(sent) == groups


def test_openssl_has_a_key_for_a_curve_at_first() -> None:
    (group,) = key_groups(PYTHON)
    assert group in range(0x17, 0x1F)


def test_no_groups_but_of_a_hello() -> None:
    with pytest.raises(NotTls):
        key_groups(record(b"\x02\0\0\0"))
    with pytest.raises(NotTls):
        key_groups(record(message(key_share((29, b"")))))
