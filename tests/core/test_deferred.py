"""What is known of a request that is kept for later."""

import pytest

from proxy.core.deferred import FULL, NotStoredError


@pytest.mark.parametrize(("details", "text"), [("", "full"), ("the disk is full", "the disk is full")])
def test_what_is_not_stored_says_why(details: str, text: str) -> None:
    error = NotStoredError(FULL, details)
    assert (error.reason, str(error)) == ("full", text)
