"""What is kept for later, by default."""

import pytest

from proxy.core.defer import Defer


@pytest.mark.parametrize(
    ("status", "is_final"), [(400, True), (404, True), (410, True), (408, False), (429, False)]
)
def test_what_trying_again_could_change_is_not_final(status: int, is_final: bool) -> None:  # noqa: FBT001
    assert (status in Defer().final_statuses) is is_final


def test_nothing_is_kept_unless_a_file_is_named() -> None:
    assert Defer().path is None
