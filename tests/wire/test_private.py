"""How a stored request stands on a connection."""

from support.deferred import deferred

from proxy.core.exchange import Entry
from proxy.wire.private import ByDelivery, request_bytes


def test_a_length_stays_in_its_place() -> None:
    kept = deferred(7, fields=[(b"A", b"1"), (b"content-length", b"5"), (b"B", b"2")], content=b"event")
    assert request_bytes(kept) == (
        b"POST /hooks/7?sig=abc HTTP/1.1\r\nHost: deferred\r\nA: 1\r\ncontent-length: 5\r\nB: 2\r\n"
        b"X-Breaker-Delivery-Id: %b\r\nConnection: close\r\n\r\nevent" % kept.id.encode()
    )


def test_what_came_in_chunks_has_a_length_now() -> None:
    assert b"\r\nContent-Length: 3\r\n" in request_bytes(deferred(1, fields=[], content=b"abc"))


def test_all_methods_come_in_as_what_was_deferred() -> None:
    assert ByDelivery(deferred(1)).entry("POST") is Entry.DEFERRED
