"""Connections to upstreams without a pool: the test is their owner."""

from proxy.wire.upstream import UpstreamConnection


class Owner:
    """Knows which connections have ended while nothing was on them."""

    def __init__(self) -> None:
        self.ended: list[UpstreamConnection] = []

    def take_back(self, connection: UpstreamConnection) -> None:
        connection.abort()

    def forget(self, connection: UpstreamConnection) -> None:
        self.ended.append(connection)


def leg(owner: Owner | None = None) -> UpstreamConnection:
    """A connection that a test dials itself."""
    return UpstreamConnection(owner or Owner(), "key")
