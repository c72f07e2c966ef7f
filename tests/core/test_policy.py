"""The settings, and those that cannot be used together."""

import pytest

from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Tls
from proxy.core.policy import CircuitPolicy, Endpoint, Upstream
from proxy.core.scope import BY_HOST, CircuitKey
from proxy.core.statuses import Statuses


@pytest.mark.parametrize(
    ("endpoint", "loopback", "shown"),
    [
        (Endpoint("127.0.0.1", 3128), True, "127.0.0.1:3128"),
        (Endpoint("::1", 3128), True, "[::1]:3128"),
        (Endpoint("localhost", 0), True, "localhost:0"),
        (Endpoint("0.0.0.0", 3128), False, "0.0.0.0:3128"),
        (Endpoint("example.com", 3128), False, "example.com:3128"),
    ],
)
def test_an_endpoint_to_listen_on(endpoint: Endpoint, *, loopback: bool, shown: str) -> None:
    assert endpoint.is_loopback is loopback
    assert str(endpoint) == shown


def test_the_defaults_of_a_circuit() -> None:
    policy = CircuitPolicy()
    assert policy.key == BY_HOST
    assert policy.failure_statuses == Statuses({*range(500, 600)} - {501, 505})
    assert policy.lease_s == 50


@pytest.mark.parametrize(
    ("key", "throttle", "throttled"),
    [
        ("host", None, Statuses()),
        ("path", None, Statuses({429})),
        ("header:x-tenant", None, Statuses({429})),
        ("host", Statuses({429, 503}), Statuses({429, 503})),
        ("path", Statuses(), Statuses()),
    ],
)
def test_which_statuses_throttle(key: str, throttle: Statuses | None, throttled: Statuses) -> None:
    assert CircuitPolicy(key=CircuitKey.parse(key), throttle_statuses=throttle).throttled == throttled


def test_an_upstream_is_tunnelled_to_unless_something_is_written() -> None:
    upstream = Upstream(match=HostPattern("a"))
    assert upstream.https is HttpsMode.TUNNEL
    assert upstream.tls.onto(Tls()) == Tls()
