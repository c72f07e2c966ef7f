"""Fixtures for all tests, and how hypothesis runs."""

import gc
import itertools

import hypothesis
import pytest

# How long an example takes is the machine's affair, which is shared and noisy.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Async tests run on plain asyncio unless they ask for more."""
    return ("asyncio", {"use_uvloop": False})


# After so many tests, what they have left for good (their reports, mostly) is set aside as well.
_TESTS_BETWEEN = 50
# A name of a test longer than this says nothing.
_LONG = 40
_ended = itertools.count(1)


def pytest_collection_finish() -> None:
    """Keeps the collected tests from the garbage collector, which the wire tests run after each of them."""
    _set_aside()


def pytest_runtest_logfinish() -> None:
    """Keeps what has gathered since from it."""
    if next(_ended) % _TESTS_BETWEEN == 0:
        _set_aside()


def _set_aside() -> None:
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names long bytes by their length: some are drawn anew in each process, and none can be read."""
    return f"{len(val)} bytes" if isinstance(val, bytes) and len(val) > _LONG else None
