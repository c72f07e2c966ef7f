"""Batches of examples: hypothesis draws them in a thread, the test's own loop runs them.

A batch has a seed, which tells all of its examples. So a run is repeated by the seed of its first batch, and
a failure by the seed of the batch that it is in.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import hypothesis
from hypothesis import HealthCheck
from hypothesis.strategies import SearchStrategy

EXAMPLES = 200

_T = TypeVar("_T")


@dataclass(frozen=True)
class Fuzz:
    """How long to go on, 0 for one batch, and the seed of the first batch."""

    seconds: float
    seed: int

    async def __call__(
        self, strategy: SearchStrategy[_T], example: Callable[[_T], Coroutine[Any, Any, None]]
    ) -> None:
        """Runs batches until the time is over, at least one."""
        loop = asyncio.get_running_loop()
        ends = time.monotonic() + self.seconds
        seed = self.seed

        def batch() -> None:
            @hypothesis.seed(seed)
            @hypothesis.settings(
                max_examples=EXAMPLES,
                database=None,
                deadline=None,
                print_blob=False,
                suppress_health_check=list(HealthCheck),
            )
            @hypothesis.given(strategy)
            def one(drawn: _T) -> None:
                asyncio.run_coroutine_threadsafe(example(drawn), loop).result()

            one()

        while True:
            try:
                await asyncio.to_thread(batch)
            except BaseException as error:
                error.add_note(f"repeat this batch with --fuzz-seed {seed}")
                raise
            seed += 1
            if time.monotonic() >= ends:
                return
