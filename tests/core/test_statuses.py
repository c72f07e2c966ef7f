"""Sets of statuses, as the settings write them."""

import pytest

from proxy.core.statuses import Statuses


@pytest.mark.parametrize(
    ("written", "meant", "shown"),
    [
        ([500, "502-504"], {500, 502, 503, 504}, "500, 502-504"),
        (["429"], {429}, "429"),
        (["200-999"], set(range(200, 1000)), "200-999"),
        ([], set(), "none"),
        ("none", set(), "none"),
    ],
)
def test_a_list_of_statuses_and_ranges(written: object, meant: set[int], shown: str) -> None:
    statuses = Statuses.parse(written)
    assert set(statuses) == meant
    assert str(statuses) == shown
    assert repr(statuses) == f"<Statuses {shown}>"


@pytest.mark.parametrize(
    "written", ["500", 500, None, {}, [True], [5.0], ["5xx"], [100], [1000], ["504-502"]]
)
def test_what_is_no_list_of_statuses(written: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        Statuses.parse(written)
