"""What is kept for later, as Prometheus reads it."""

import pytest
from support.metrics import metrics_of, samples

from proxy.control.deferred_metrics import deferred_families
from proxy.core.deferred import Kept


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        (Kept(0, 0, 0, None, can_store=False), (0, 0, 0, 0, 0)),
        (Kept(3, 2, 4096, 1000.0, can_store=True), (3, 2, 4096, 30.5, 1)),
        # The clock of the machine was set back.
        (Kept(1, 0, 1, 2000.0, can_store=True), (1, 0, 1, 0, 1)),
    ],
)
def test_what_is_kept_in_numbers(kept: Kept, told: tuple[float, ...]) -> None:
    found = {family.name: family.samples[0].value for family in deferred_families(kept, 1030.5)}
    names = ("depth", "dead_letters", "bytes", "oldest_age_seconds", "store_up")
    assert found == {f"breaker_proxy_deferred_{name}": value for name, value in zip(names, told, strict=True)}


def test_without_a_store_there_is_nothing_of_it() -> None:
    assert not [name for name in samples(metrics_of()) if name.startswith("deferred_")]
