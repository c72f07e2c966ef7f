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


class Clock:
    """The proxy's time, which stands still unless the test moves it.

    Attributes:
        on_move: is told each new time. A proxy looks at its clock ten times a second, and what begins between
            two looks began at the first of them: untold, what begins behind a leap would seem to be as old as
            that is long.
    """

    def __init__(self) -> None:
        self._now = 1000.0
        self.on_move: Callable[[float], None] = lambda _now: None

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now
        self.on_move(now)

    def __call__(self) -> float:
        return self._now


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

    def state(self, key: str) -> str | None:
        """The state of a circuit, None if there is none."""
        circuit = self.sidecar.circuits.get(key)
        return circuit.state.value if circuit is not None else None


Start = Callable[..., Awaitable[Running]]
