"""What the limits take, and what is left of them where there is less."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.budget import (
    EXTRA_ATTEMPTS,
    FIXED,
    KEPT_BYTES,
    MAX_RACES,
    TURNED_AWAY,
    Clamped,
    deferral_bytes,
    descriptors,
    fitted,
    interception_bytes,
    memory_bytes,
)
from proxy.core.policy import Limits

BESIDES = TURNED_AWAY + MAX_RACES * EXTRA_ATTEMPTS + FIXED


def test_the_defaults_take_two_for_each_client_and_some_more() -> None:
    assert descriptors(Limits()) == 2 * 2000 + 512 + BESIDES == 4864


@pytest.mark.parametrize("available", [4864, 1_000_000])
def test_what_fits_is_left_alone(available: int) -> None:
    assert fitted(Limits(), available) == (Limits(), ())


def test_what_does_not_fit_is_lowered_and_told() -> None:
    limits, clamped = fitted(Limits(), 1024)
    assert (limits.max_connections, limits.max_tunnels, limits.idle_total) == (288, 288, 96)
    assert clamped == (
        Clamped("limits.max_connections", 2000, 288),
        Clamped("limits.max_tunnels", 1000, 288),
        Clamped("limits.idle_total", 512, 96),
    )


def test_idle_connections_go_first() -> None:
    limits, clamped = fitted(Limits(max_connections=100, max_tunnels=100), 2 * 100 + BESIDES + 100)
    assert (limits.max_connections, limits.max_tunnels, limits.idle_total) == (100, 100, 100)
    assert clamped == (Clamped("limits.idle_total", 512, 100),)


def test_few_clients_turn_few_away_and_race_little() -> None:
    assert descriptors(Limits(max_connections=10, idle_total=0)) == 10 * (2 + 1 + EXTRA_ATTEMPTS) + FIXED
    limits, _ = fitted(Limits(), 256)
    assert (limits.max_connections, limits.idle_total) == (17, 19)
    # Fewer than are needed for one: what can be had is had.
    assert fitted(Limits(), 0)[0].max_connections == 1


@given(
    st.builds(
        Limits,
        max_connections=st.integers(1, 5000),
        max_tunnels=st.integers(1, 5000),
        idle_total=st.integers(0, 5000),
    ),
    st.integers(0, 20_000),
)
def test_what_is_left_fits_and_is_no_more_than_was_wanted(limits: Limits, available: int) -> None:
    lowered, clamped = fitted(limits, available)
    assert lowered.max_connections >= 1
    assert lowered.max_tunnels <= limits.max_tunnels
    assert lowered.max_connections <= limits.max_connections
    assert lowered.idle_total <= limits.idle_total
    assert (lowered == limits) is (not clamped)
    if available >= descriptors(Limits(max_connections=1, idle_total=1)):
        assert descriptors(lowered) <= available


def test_memory_grows_with_each_limit() -> None:
    least = memory_bytes(Limits())
    for name in ("max_connections", "max_head", "idle_total", "max_circuits"):
        limits = Limits()
        assert memory_bytes(replace(limits, **{name: 2 * getattr(limits, name)})) > least
    assert memory_bytes(Limits(), entries=1) > least
    assert memory_bytes(Limits(), intercepts=True) == least + interception_bytes(Limits())
    kept = (Limits().max_connections - Limits().max_tunnels) * KEPT_BYTES
    assert memory_bytes(Limits(), redirects_failures=True) == least + kept
    assert interception_bytes(Limits(max_connections=4000)) > interception_bytes(Limits())
    # More tunnels than clients there cannot be.
    assert memory_bytes(Limits(max_tunnels=2000)) == memory_bytes(Limits(max_tunnels=9000))


def test_what_is_kept_for_later_takes_its_share() -> None:
    assert deferral_bytes(Limits(), 0) > 64 * 1024 * 1024
    assert deferral_bytes(Limits(), 1024) == deferral_bytes(Limits(), 0) + 32 * 1024
