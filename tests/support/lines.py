"""Lines of the log, as tests read them."""

from collections.abc import Callable
from typing import Any

Lines = Callable[[], list[dict[str, Any]]]


def without_timestamps(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines, but for what differs from run to run."""
    return [{name: value for name, value in line.items() if name != "timestamp"} for line in lines]
