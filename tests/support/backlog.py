"""What is kept for later by a process, and its way out."""

from collections.abc import Callable
from functools import partial

from support.process import RunningProxy, until


def drained(running: RunningProxy) -> None:
    """Waits until nothing waits, for as long as that goes on."""

    def left() -> float:
        return running.metric("deferred_depth") or 0

    while before := left():
        until(partial(_is_less, left, before), f"{before} wait for ever")


def _is_less(count: Callable[[], float], than: float) -> bool:
    return count() < than
