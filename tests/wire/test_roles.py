"""Whom a client's connection talks to; what the rest of the roles promise, mypy checks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.wire.client import ClientConnection
from proxy.wire.handler import Handler
from proxy.wire.listener import Clients
from proxy.wire.roles import Line, Neighbours, TunnelClient, TunnelSink
from proxy.wire.tunnel import Tunnel


class Hears:
    """A tunnel that hears its client; nothing else is asked of it here."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_over = False

    def client_sent(self, sent: bytes) -> None:
        self.sent.append(sent)

    def client_ended(self) -> bool:
        self.is_over = True
        return False

    def client_lost(self) -> None:
        self.is_over = True

    def sweep(self, now: float) -> None:
        raise AssertionError(now)

    def is_idle(self, since: float) -> bool:
        raise AssertionError(since)

    def client_paused(self) -> None:
        raise AssertionError

    def client_resumed(self) -> None:
        raise AssertionError


@dataclass
class Client:
    tunnel: TunnelClient | None


def test_what_comes_when_nobody_has_taken_over_any_more_is_dropped() -> None:
    assert TunnelSink(Client(None)).feed_data(b"late") == (False, b"")


def test_what_aiohttp_feeds_goes_to_the_tunnel_piece_by_piece_and_whole() -> None:
    tunnel = Hears()
    sink = TunnelSink(Client(tunnel))
    for piece in (b"one", b"\0\xff\r\n", b"three"):
        # It has not ended, and nothing is left for an HTTP parser.
        assert sink.feed_data(piece) == (False, b"")
    assert tunnel.sent == [b"one", b"\0\xff\r\n", b"three"]


def test_aiohttps_word_of_the_end_says_nothing() -> None:
    """The connection tells the tunnel itself, and whether its client left or only half-closed."""
    tunnel = Hears()
    TunnelSink(Client(tunnel)).feed_eof()
    assert not tunnel.is_over


if TYPE_CHECKING:

    def _as_line(handler: Handler) -> Line:
        return handler

    def _as_neighbours(clients: Clients) -> Neighbours:
        return clients

    def _as_tunnel(tunnel: Tunnel) -> TunnelClient:
        return tunnel

    def _as_client(client: ClientConnection) -> TunnelClient | None:
        return client.tunnel
