"""A sidecar in this process, its clock in hand, and everything it has reported."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from proxy.app import Sidecar
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.exchange import Exchange
from proxy.core.policy import AccessLog, Endpoint, Listen, Log, Settings

SETTINGS = Settings(
    name="testproxy",
    listen=Listen(proxy=Endpoint("127.0.0.1", 0), admin=Endpoint("127.0.0.1", 0)),
    egress=Egress(addresses=AllowedAddresses.ANY),
    log=Log(access=AccessLog.OFF),
)


@dataclass
class Clock:
    """The proxy's time, which stands still unless the test moves it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Running:
    """A sidecar under test, with its clock and everything it has reported."""

    sidecar: Sidecar
    clock: Clock
    exchanges: list[Exchange] = field(default_factory=list)
    reported: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def port(self) -> int:
        return self.sidecar.proxy_port

    async def report(self, number: int = 1) -> Exchange:
        """Waits until this many exchanges have been reported; returns the last of them."""
        while len(self.exchanges) < number:
            self.reported.clear()
            await self.reported.wait()
        assert len(self.exchanges) == number, "one report per request"
        return self.exchanges[-1]

    def leap(self, seconds: float) -> None:
        """Moves the clock, and has the listener look at it at once, as it does ten times a second.

        Without that a client that connects behind the leap and before the next look seems to have connected
        before it.
        """
        self.clock.now += seconds
        self.sidecar.data_plane.clients.now = self.clock.now

    def state(self, key: str) -> str | None:
        """The state of a circuit, None if there is none."""
        circuit = self.sidecar.circuits.get(key)
        return circuit.state.value if circuit is not None else None


Start = Callable[..., Awaitable[Running]]
