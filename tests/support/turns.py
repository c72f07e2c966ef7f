"""Waiting without sleeping: the loop turns until something is so."""

import asyncio
from collections.abc import Callable

# Far longer than any condition takes; a test that waits in vain fails by it.
_PATIENCE_S = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Gives the loop turns until the condition holds.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(_PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


async def turns(count: int = 50) -> None:
    """Gives the loop some turns, so that what is due gets done."""
    for _ in range(count):
        await asyncio.sleep(0)
