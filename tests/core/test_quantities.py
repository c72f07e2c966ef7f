"""What settings are measured in: numbers with the unit in their type."""

from proxy.core.quantities import Bytes, Range, Seconds


def test_a_quantity_counts_like_a_number() -> None:
    assert Seconds(0.25) * 4 == 1
    assert Bytes(1024) + 1 == 1025


def test_a_range_without_an_end_is_unbounded_there() -> None:
    assert (Range().least, Range().most) == (None, None)
