"""TLS in memory: however what comes is cut, the same is made of it."""

import ssl
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import certificates

from proxy.wire.records import RECORD_BYTES, Records, SlowKeyExchange

SERVER = certificates.server()
CLIENT = certificates.client()
OLD_SERVER = certificates.server(version="1.2")


def ends(server: ssl.SSLContext = SERVER) -> tuple[Records, Records]:
    return (
        Records(CLIENT, server_side=False, server_hostname=certificates.NAME),
        Records(server, server_side=True),
    )


def shaken(server: ssl.SSLContext = SERVER) -> tuple[Records, Records]:
    client, other = ends(server)
    waiting = b""
    rests: list[bytes | None] = [None, None]
    while None in rests:
        for number, end in enumerate((client, other)):
            if rests[number] is None:
                rests[number] = end.shake(memoryview(waiting))
            elif waiting:
                assert end.decrypt(memoryview(waiting)) == (b"", None)
            waiting = end.unsent
    assert rests == [b"", b""]
    assert client.decrypt(memoryview(waiting)) == (b"", None)
    return client, other


def as_one(sent: bytes | list[bytes]) -> bytes:
    return sent if isinstance(sent, bytes) else b"".join(sent)


@given(st.data())
def test_a_handshake_may_come_cut_anywhere(data: st.DataObject) -> None:
    client, server = ends()
    client.shake(memoryview(b""))
    hello = client.unsent
    cuts = sorted(data.draw(st.lists(st.integers(0, len(hello) - 1), max_size=5)))
    for start, end in zip([0, *cuts], [*cuts, len(hello)], strict=True):
        assert not server.unsent
        assert server.shake(memoryview(hello[start:end])) is None
    assert server.unsent


@pytest.mark.parametrize("size", [1, 100, 5000, RECORD_BYTES, 40_000])
def test_what_comes_behind_a_handshake_is_given_back(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    client, server = ends(OLD_SERVER)
    client.shake(memoryview(b""))
    server.shake(memoryview(client.unsent))
    client.shake(memoryview(server.unsent))
    assert server.shake(memoryview(client.unsent)) == b""
    last = server.unsent
    behind = as_one(server.encrypt(content))
    assert client.shake(memoryview(last + behind)) == behind
    assert decrypted(client, behind) == content


def decrypted(records: Records, received: bytes) -> bytes:
    content = b""
    for at in range(0, len(received), RECORD_BYTES):
        piece, error = records.decrypt(memoryview(received)[at : at + RECORD_BYTES])
        assert error is None
        content += piece
    return content


@given(
    st.lists(st.binary(min_size=1, max_size=3000), max_size=8),
    st.lists(st.integers(1, 5000), min_size=1, max_size=20),
)
def test_records_may_come_cut_anywhere(contents: list[bytes], sizes: list[int]) -> None:
    client, server = PAIR
    sent = b"".join(as_one(client.encrypt(content)) for content in contents)
    received = b""
    for size in cycle(sizes):
        if not sent:
            break
        received += decrypted(server, sent[:size])
        sent = sent[size:]
    assert received == b"".join(contents)


PAIR = shaken()


def test_what_is_larger_than_a_record_goes_in_several() -> None:
    client, server = shaken()
    content = bytes(3 * RECORD_BYTES + 1)
    sent = client.encrypt(content)
    assert isinstance(sent, list)
    assert len(sent) == 4
    assert max(map(len, sent)) < RECORD_BYTES + 100
    assert decrypted(server, b"".join(sent)) == content
    # Whatever the items of what is viewed.
    items = memoryview(content[:-1]).cast("Q")
    assert decrypted(server, as_one(client.encrypt(items))) == content[:-1]


def test_a_close_notify_is_seen_behind_what_comes_with_it() -> None:
    client, server = shaken()
    sent = as_one(client.encrypt(b"last words")) + client.end()
    assert server.decrypt(memoryview(sent)) == (b"last words", None)
    assert server.is_ended


def test_what_is_wrong_is_told_with_what_came_before_it() -> None:
    client, server = shaken()
    content, error = server.decrypt(memoryview(as_one(client.encrypt(b"right")) + b"wrong" * 10))
    assert content == b"right"
    assert isinstance(error, ssl.SSLError)
    # The alert that says so.
    _, alert = client.decrypt(memoryview(server.unsent))
    assert alert is not None
    assert "ALERT" in str(alert.reason)


def test_a_handshake_with_what_is_no_tls_fails() -> None:
    _, server = ends()
    with pytest.raises(ssl.SSLError):
        server.shake(memoryview(b"GET / HTTP/1.1\r\n\r\n"))


@pytest.mark.parametrize("size", [1, 511, RECORD_BYTES], ids=str)
@pytest.mark.parametrize("group", ["ffdhe2048", "ffdhe8192"])
def test_a_server_that_asks_for_a_slow_key_exchange_is_refused(group: str, size: int) -> None:
    server = certificates.server(version="1.3")
    server.set_ecdh_curve(group)
    client, other = ends(server)
    client.shake(memoryview(b""))
    other.shake(memoryview(client.unsent))
    # It could send its key at once: whatever that is, what is made of it takes us long.
    key = (1).to_bytes(1024)
    share = b"\0\x33" + (len(key) + 4).to_bytes(2) + b"\x01\x04" + len(key).to_bytes(2) + key
    rest = b"\0\x2b\0\x02\x03\x04" + share
    fields = b"\x03\x03" + bytes(32) + b"\0\x13\x02\0" + len(rest).to_bytes(2) + rest
    message = b"\x02" + len(fields).to_bytes(3) + fields
    sent = other.unsent + b"\x16\x03\x03" + len(message).to_bytes(2) + message
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]

    def shake() -> None:
        for piece in pieces:
            client.shake(memoryview(piece))

    with pytest.raises(SlowKeyExchange):
        shake()
    assert client.unsent == b"", "nothing goes out"


@pytest.mark.parametrize("group", ["secp384r1", "secp521r1", "prime256v1"])
def test_a_server_may_ask_for_another_curve(group: str) -> None:
    server = certificates.server(version="1.3")
    server.set_ecdh_curve(group)
    client, _ = shaken(server)
    assert client.session.version() == "TLSv1.3"
