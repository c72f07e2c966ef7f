"""A browser for each module."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from system.page.chromium import launched


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not one for all: async tests of other modules cannot run while it lasts."""
    with launched() as browser:
        yield browser
