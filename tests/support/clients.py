"""The proxy's own ends of its clients' connections."""

from dataclasses import dataclass

import pytest

from proxy.wire.client import ClientConnection
from support.sidecar import Running
from support.turns import until


def connections(proxy: Running) -> list[ClientConnection]:
    """All of them, on whichever listener; those that are being closed as well."""
    ends = [end for listener in proxy.sidecar.data_plane.listeners.values() for end in listener.connections]
    assert all(isinstance(end, ClientConnection) for end in ends)
    return ends  # type: ignore[return-value]  # as has just been seen


@dataclass
class Taken:
    """How many bytes of its clients the proxy has taken in."""

    count: int = 0

    async def until(self, count: int) -> None:
        """Waits until it is so many."""
        await until(lambda: self.count >= count)


def taken_in(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Counts what is taken in from now on."""
    taken = Taken()
    data_received = ClientConnection.data_received

    def counted(self: ClientConnection, data: bytes) -> None:
        taken.count += len(data)
        data_received(self, data)

    monkeypatch.setattr(ClientConnection, "data_received", counted)
    return taken
