"""The page on limits says what the defaults add up to."""

import math
from pathlib import Path

from proxy.core.budget import descriptors, memory_bytes
from proxy.core.policy import Limits

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024


def test_the_page_is_in_step_with_the_defaults() -> None:
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    most = memory_bytes(Limits())
    assert f"**{math.ceil(most / MIB)} MiB**" in page
    intercepting = memory_bytes(Limits(), intercepts=True)
    assert f"**{math.ceil(intercepting / MIB)} MiB**" in page
    assert f"{math.ceil((intercepting - most) / MIB)} MiB more" in page
    assert f"{descriptors(Limits())} with the defaults" in page
