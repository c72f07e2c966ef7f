"""Windows so narrow that some kilobytes shut them: loopback by itself takes megabytes.

A `NarrowClient` reads nothing unless told to. `narrow_legs` gives the proxy's connections to upstreams to the
test, each with a small window upwards, and with the count of what has arrived on it.
"""

import asyncio
import socket
from dataclasses import dataclass
from typing import Protocol, cast

import pytest

from proxy.wire.client import ClientConnection
from proxy.wire.tunnel import Tunnel
from proxy.wire.upstream import UpstreamConnection
from support.client import Client
from support.sidecar import Running
from support.turns import until

# Through the client's window little passes in a second, for it is less than a segment; so it is widened to
# read on. An upstream's leg is narrow and yet wide enough to pass megabytes on.
_CLIENT, _LEG, _WIDE = 4096, 64 * 1024, 4 * 1024 * 1024


class _HasSocketOptions(Protocol):
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def _set(transport: asyncio.BaseTransport, option: int, size: int) -> None:
    raw: _HasSocketOptions = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, option, size)


class NarrowClient(Client):
    """A client with a narrow window; it reads when it is told to.

    Attributes:
        other_end: the proxy's protocol of this connection.
        proxy_side: the proxy's transport of it.
    """

    other_end: ClientConnection
    proxy_side: asyncio.Transport

    @classmethod
    async def connect_to(cls, proxy: Running) -> "NarrowClient":
        listener = proxy.sidecar.data_plane.listeners["proxy"]
        others = set(listener.connections)
        raw = socket.socket()
        raw.settimeout(0)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CLIENT)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", proxy.port))
        client = cls(*await asyncio.open_connection(sock=raw))
        client.stop_reading()
        await until(lambda: set(listener.connections) - others)
        (other_end,) = set(listener.connections) - others
        assert isinstance(other_end, ClientConnection)
        assert other_end.transport is not None
        client.other_end = other_end
        client.proxy_side = other_end.transport
        _set(client.proxy_side, socket.SO_SNDBUF, _CLIENT)
        return client

    def stop_reading(self) -> None:
        self._transport.pause_reading()

    def read_slowly(self) -> None:
        """Reads again, through the narrow window, on a connection that may have ended as well."""
        self._transport.resume_reading()

    def read_on(self) -> None:
        """Reads again, through a wide window."""
        _set(self.proxy_side, socket.SO_SNDBUF, _WIDE)
        _set(self._transport, socket.SO_RCVBUF, _WIDE)
        self._transport.resume_reading()

    def close(self) -> None:
        """Leaves at once, with whatever was not read."""
        self._transport.abort()

    @property
    def _transport(self) -> asyncio.Transport:
        return cast("asyncio.Transport", self.writer.transport)


@dataclass
class Leg:
    """One connection of the proxy to an upstream."""

    protocol: UpstreamConnection | Tunnel
    transport: asyncio.Transport
    received: int = 0

    @property
    def forwarding(self) -> UpstreamConnection:
        """The protocol, where it is no tunnel's."""
        assert isinstance(self.protocol, UpstreamConnection)
        return self.protocol

    def widen(self) -> None:
        """Gives it a wide window upwards."""
        _set(self.transport, socket.SO_SNDBUF, _WIDE)


def narrow_legs(monkeypatch: pytest.MonkeyPatch, window: int = _LEG) -> list[Leg]:
    """Every leg that the proxy makes from now on, in their order."""
    legs: list[Leg] = []

    def watch(kind: type[UpstreamConnection | Tunnel]) -> None:
        made, received = kind.connection_made, kind.data_received

        def connection_made(self: UpstreamConnection | Tunnel, transport: asyncio.BaseTransport) -> None:
            _set(transport, socket.SO_SNDBUF, window)
            legs.append(Leg(self, cast("asyncio.Transport", transport)))
            made(self, transport)  # type: ignore[arg-type]  # of the kind that `watch` was given

        def data_received(self: UpstreamConnection | Tunnel, data: bytes) -> None:
            next(leg for leg in legs if leg.protocol is self).received += len(data)
            received(self, data)  # type: ignore[arg-type]  # of the kind that `watch` was given

        monkeypatch.setattr(kind, "connection_made", connection_made)
        monkeypatch.setattr(kind, "data_received", data_received)

    watch(UpstreamConnection)
    watch(Tunnel)
    return legs
