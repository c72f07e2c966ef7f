"""What is kept for later, as a whole: the store, who takes requests in, and who delivers them.

It is there only with `defer.path`. `app.py` makes it, and tells it of the time and of the circuits.
"""

from collections.abc import Callable
from pathlib import Path

from proxy.control import log
from proxy.control.deferred_metrics import Kept
from proxy.control.durations import Durations
from proxy.core.defer import Defer
from proxy.core.registry import Circuits
from proxy.core.states import Transition
from proxy.store import volume
from proxy.store.deferred_store import DeferredStore
from proxy.wire.data_plane import DataPlane
from proxy.wire.deferring import Deferring
from proxy.wire.delivering import DELIVERED, FAILED, Clocks, Deliveries


class Deferral:
    """Keeps requests and delivers them; make it inside a running loop.

    Args:
        settings: with a path.
        name: of this proxy.
        plane: carries what is delivered.
        circuits: say when it may go.
        clocks: monotonic seconds, and seconds since 1970.

    Attributes:
        store: what is kept.
        deferring: takes requests in.
        deliveries: delivers them.
    """

    def __init__(
        self, settings: Defer, name: str, plane: DataPlane, circuits: Circuits, *, clocks: Clocks
    ) -> None:
        self._settings = settings
        self._wall_clock = clocks.wall
        self._stored = Durations()
        self.store = DeferredStore(
            settings, on_put=self._stored.add, on_fault=_tell_fault(settings.path), on_damage=_tell_damage
        )
        self.deferring = Deferring(self.store, name, clocks)
        self.deliveries = Deliveries(
            self.store, circuits, send=plane.send, policies=lambda: plane.provisions.policies, clocks=clocks
        )
        plane.fallbacks.keeps = self.deferring

    def kept(self) -> Kept:
        """What is kept, in numbers."""
        store, ended = self.store, self.deliveries.ended
        return Kept(
            waiting=store.depth,
            dead_letters=store.dead,
            stored_bytes=store.stored_bytes,
            oldest_at=min((queue.oldest_at for queue in store.queues().values()), default=None),
            can_store=store.fault is None,
            max_requests=self._settings.max_events,
            max_bytes=int(self._settings.max_bytes),
            stored=self._stored,
            delivered=ended[DELIVERED],
            failed=ended[FAILED],
            dead=ended,
            not_stored=self.deferring.not_stored,
            wall_now=self._wall_clock(),
        )

    def configure(self, settings: Defer) -> None:
        """Goes on with these settings, all but the path."""
        self._settings = settings
        self.store.configure(settings)
        self.deferring.configure(settings)
        self.deliveries.configure(settings)

    async def start(self) -> None:
        """Opens the store. If that cannot be, it goes on trying, and calls are refused as without it."""
        path = self._settings.path
        if path is not None and (doubt := volume.doubt(Path(path))) is not None:
            log.logger().warning("requests may be kept for less long than expected", path=path, why=doubt)
        await self.store.open()

    def look(self, now: float) -> None:
        """Begins what may be delivered now."""
        self.deliveries.look(now)

    def circuit_changed(self, transition: Transition) -> None:
        """Hears of a circuit."""
        self.deliveries.circuit_changed(transition)

    def drain(self) -> None:
        """Begins no more deliveries; what comes is still kept."""
        self.deliveries.end()

    async def close(self) -> None:
        """Ends it, once nothing is carried any more."""
        await self.deliveries.close()
        await self.store.close()


def _tell_fault(path: str | None) -> Callable[[str | None], None]:
    was_told = False

    def tell(fault: str | None) -> None:
        nonlocal was_told
        if fault is not None:
            log.logger().error("requests cannot be kept for later", why=fault)
        elif was_told:
            log.logger().info("requests can be kept for later again", path=path)
        was_told = fault is not None

    return tell


def _tell_damage(told: str) -> None:
    log.logger().error("the file of deferred requests was damaged", what=told)
