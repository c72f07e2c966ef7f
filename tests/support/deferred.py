"""Deferred requests, and a store of them that tells what it hears."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from proxy.core.defer import Defer
from proxy.core.deferred import Deferred
from proxy.core.target import Target
from proxy.store.deferred_store import DeferredStore

TARGET = Target("https", "hooks.test", 8443, "/hooks/7?sig=abc", "hooks.test:8443")


def deferred(number: int, **facts: Any) -> Deferred:
    """A request; each number is another one."""
    content = facts.pop("content", b"event %d" % number)
    made: dict[str, Any] = {
        "id": f"{number:032x}",
        "queue": "hooks.test:8443",
        "circuit": "hooks.test:8443",
        "reason": "circuit_open",
        "stored_at": 1000.0 + number,
        "target": TARGET,
        "method": "POST",
        "fields": [(b"Content-Type", b"application/json"), (b"X-Odd", b"a:b\xff ")],
    }
    return Deferred(**(made | facts), content=content, content_bytes=len(content))


class Heard:
    """What a store tells."""

    def __init__(self) -> None:
        self.puts_s: list[float] = []
        self.faults: list[str | None] = []
        self.damage: list[str] = []
        self._changed = asyncio.Event()

    def fault(self, fault: str | None) -> None:
        self.faults.append(fault)
        self._changed.set()

    async def until_fault(self, *, is_over: bool) -> str | None:
        """Waits until the store has a fault, or has none."""
        while not self.faults or (self.faults[-1] is None) is not is_over:
            self._changed.clear()
            await self._changed.wait()
        return self.faults[-1]


@asynccontextmanager
async def opened(path: Path, heard: Heard | None = None, **settings: Any) -> AsyncIterator[DeferredStore]:
    """A store that is open while this lasts."""
    heard = heard or Heard()
    store = DeferredStore(
        Defer(path=str(path), **settings),
        on_put=heard.puts_s.append,
        on_fault=heard.fault,
        on_damage=heard.damage.append,
    )
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def ids(store: DeferredStore, *, is_dead: bool | None = None) -> list[int]:
    """The numbers of all requests, in their order."""
    return [int(request.id, 16) async for request in store.export(is_dead=is_dead)]
