"""Fixtures for all tests."""

import pytest


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Async tests run on plain asyncio unless they ask for more."""
    return ("asyncio", {"use_uvloop": False})
