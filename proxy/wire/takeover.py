"""How a tunnel takes a client's connection over: it hears of everything that happens there."""

from typing import Protocol


class TunnelClient(Protocol):
    """What a client connection tells the tunnel that has taken it over."""

    def client_sent(self, sent: bytes) -> None:
        """Bytes for the upstream."""

    def client_ended(self) -> bool:
        """The client has closed its side; returns whether the other side stays open."""

    def client_lost(self) -> None:
        """The connection is gone."""

    def client_paused(self) -> None:
        """The client reads more slowly than we write."""

    def client_resumed(self) -> None:
        """The client has taken most of what we wrote."""


class TunnelSink:
    """What aiohttp feeds with the bytes behind a CONNECT or a 101."""

    __slots__ = ("_tunnel",)

    def __init__(self, tunnel: TunnelClient) -> None:
        self._tunnel = tunnel

    def feed_data(self, received: bytes) -> tuple[bool, bytes]:
        """Passes on what the client has sent."""
        self._tunnel.client_sent(received)
        return False, b""

    def feed_eof(self) -> None:
        """The connection is gone; `connection_lost` says so as well."""
