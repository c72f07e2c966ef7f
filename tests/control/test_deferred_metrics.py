"""What is kept for later, as Prometheus reads it."""

from dataclasses import replace

import pytest
from support.metrics import flat, metrics_of, nonzero, samples

from proxy.control.deferred_metrics import Kept, deferred_families
from proxy.control.durations import Durations
from proxy.core.deferred import FULL, TOO_OLD

NOTHING = Kept(
    waiting=0,
    dead_letters=0,
    stored_bytes=0,
    oldest_at=None,
    can_store=False,
    max_requests=10_000,
    max_bytes=1_000_000,
    stored=Durations(),
    delivered=0,
    failed=0,
    dead={},
    not_stored={},
    wall_now=1030.5,
)
SOME = replace(NOTHING, waiting=3, dead_letters=2, stored_bytes=4096, oldest_at=1000.0, can_store=True)


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        (NOTHING, (0, 0, 0, 0, 0)),
        (SOME, (3, 2, 4096, 30.5, 1)),
        # The clock of the machine was set back.
        (replace(SOME, oldest_at=2000.0), (3, 2, 4096, 0, 1)),
    ],
)
def test_what_is_kept_in_numbers(kept: Kept, told: tuple[float, ...]) -> None:
    found = {family.name: family.samples[0].value for family in deferred_families(kept)}
    for name, value in zip(
        ("depth", "dead_letters", "bytes", "oldest_age_seconds", "store_up"), told, strict=True
    ):
        assert found[f"breaker_proxy_deferred_{name}"] == value


def test_how_much_there_may_be() -> None:
    found = flat(deferred_families(NOTHING))
    assert (found["deferred_limit"], found["deferred_limit_bytes"]) == (10_000, 1_000_000)


def test_what_has_become_of_all() -> None:
    stored = Durations()
    stored.add(0.002)
    stored.add(0.25)
    kept = replace(SOME, stored=stored, delivered=7, failed=6, dead={TOO_OLD: 4}, not_stored={FULL: 5})
    found = flat(deferred_families(kept))
    assert found["deferred_stored_total"] == found["deferred_store_seconds_count"] == 2
    assert found["deferred_store_seconds_sum"] == 0.252
    assert (found["deferred_delivered_total"], found["deferred_failed_attempts_total"]) == (7, 6)
    assert {name: value for name, value in found.items() if "deferred_dead_total" in name} == {
        "deferred_dead_total{cause=final_status}": 0,
        "deferred_dead_total{cause=too_old}": 4,
        "deferred_dead_total{cause=too_many_attempts}": 0,
    }
    assert nonzero(found, "deferred_not_stored") == {"deferred_not_stored_total{reason=full}": 5}
    assert sum("deferred_not_stored" in name for name in found) == 4


def test_without_a_store_there_is_nothing_of_it() -> None:
    assert not [name for name in samples(metrics_of()) if name.startswith("deferred_")]
