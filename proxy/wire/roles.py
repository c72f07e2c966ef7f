"""Whom a client's connection talks to: where it is, the line, who keeps account of all, who takes it over."""

from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from proxy.core.errors import ProxyError

if TYPE_CHECKING:
    from proxy.wire.client import ClientConnection
    from proxy.wire.naming import Naming


class Origin(Protocol):
    """Where a client has connected; aiohttp's server, too."""

    def connection(self, naming: "Naming") -> "ClientConnection":
        """Makes the protocol of a connection."""


class Line(Protocol):
    """What a connection asks of the line, for requests that cannot walk it."""

    def refuse(self, request: web.BaseRequest, error: ProxyError) -> web.StreamResponse:
        """Answers a request that could not be parsed."""

    def turn_away(self, client: "ClientConnection", error: ProxyError) -> None:
        """Answers a client that has sent no whole request."""


class Neighbours(Protocol):
    """What a connection asks of those who keep account of all.

    Attributes:
        now: monotonic seconds, as of the last sweep; exact enough for those who are slow.
        is_draining: whether each answer is the last one on its connection.
    """

    now: float
    is_draining: bool

    def joined(self, client: "ClientConnection") -> None:
        """A client has connected."""

    def left(self, client: "ClientConnection") -> None:
        """A client is gone."""


class TunnelClient(Protocol):
    """What a client connection tells who has taken it over: a tunnel, or who listens for what it begins."""

    def client_sent(self, sent: bytes) -> None:
        """Bytes for the upstream."""

    def client_ended(self) -> bool:
        """The client has closed its side; returns whether the other side stays open."""

    def client_lost(self) -> None:
        """The connection is gone."""

    def sweep(self, now: float) -> None:
        """Looks whether the client has taken any of what it was sent."""

    def is_idle(self, since: float) -> bool:
        """Whether nothing has been under way since then, in monotonic seconds."""

    def client_paused(self) -> None:
        """The client reads more slowly than we write."""

    def client_resumed(self) -> None:
        """The client has taken most of what we wrote."""


class TakenOver(Protocol):
    """A client's connection that may have been taken over.

    Attributes:
        tunnel: by whom, if anybody.
    """

    tunnel: TunnelClient | None


class TunnelSink:
    """What aiohttp feeds with the bytes behind a CONNECT or a 101."""

    __slots__ = ("_client",)

    def __init__(self, client: TakenOver) -> None:
        self._client = client

    def feed_data(self, received: bytes) -> tuple[bool, bytes]:
        """Passes on what the client has sent."""
        if self._client.tunnel is not None:
            self._client.tunnel.client_sent(received)
        return False, b""

    def feed_eof(self) -> None:
        """The connection is gone; `connection_lost` says so as well."""
