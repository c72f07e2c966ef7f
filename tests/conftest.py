"""Fixtures for all tests, and how hypothesis runs."""

import gc

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


def pytest_collection_finish() -> None:
    """Keeps the collected tests from the garbage collector, which the wire tests run after each of them."""
    gc.collect()
    gc.freeze()
