"""The settings, and those that cannot be used together."""

import pytest

from proxy.core.overlay import HostPattern, Overlay
from proxy.core.policy import (
    CircuitPolicy,
    Endpoint,
    Limits,
    Listen,
    Seconds,
    Settings,
    Timeouts,
    Upstream,
    conflicts,
)
from proxy.core.route import Route, UpstreamUrl
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


def test_the_defaults_have_no_conflicts() -> None:
    assert list(conflicts(Settings())) == []


def upstream(circuit: dict[str, object], timeouts: dict[str, object] | None = None) -> tuple[Upstream, ...]:
    return (Upstream(match=HostPattern("a"), circuit=Overlay(circuit), timeouts=Overlay(timeouts or {})),)


HERE = Endpoint("127.0.0.1", 3130)


def route(url: str) -> Route:
    return Route(upstream=UpstreamUrl.parse(url))


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (Settings(listen=Listen(proxy=Endpoint("0.0.0.0", 1))), ["listen.proxy"]),
        (Settings(listen=Listen(proxy=Endpoint("0.0.0.0", 1), open_relay=True)), []),
        (Settings(name="1st"), ["name"]),
        (Settings(name="first"), []),
        (Settings(listen=Listen(reverse=HERE)), ["listen.reverse"]),
        (Settings(routes=(route("http://a"),)), ["routes"]),
        (Settings(listen=Listen(reverse=HERE), routes=(route("http://a"),)), []),
        (Settings(listen=Listen(reverse=Endpoint("0.0.0.0", 1)), routes=(route("http://a"),)), []),
        (
            Settings(listen=Listen(reverse=HERE), routes=(route("http://a"), route("https://a"))),
            ["routes[1].upstream"],
        ),
        (Settings(routes=(route("https://a"),)), ["routes", "routes[0].upstream"]),
        (Settings(circuit=CircuitPolicy(open=Seconds(301))), ["circuit.open_max"]),
        (Settings(circuit=CircuitPolicy(probe_lease=Seconds(49.9))), ["circuit.probe_lease"]),
        (Settings(circuit=CircuitPolicy(probe_lease=Seconds(50))), []),
        (
            Settings(circuit=CircuitPolicy(probe_lease=Seconds(50)), timeouts=Timeouts(tls=Seconds(6))),
            ["circuit.probe_lease"],
        ),
        (Settings(limits=Limits(circuit_idle=Seconds(360))), ["limits.circuit_idle"]),
        (Settings(limits=Limits(circuit_idle=Seconds(361))), []),
        (Settings(upstreams=upstream({"open": Seconds(400)})), ["upstreams[0].circuit.open_max"]),
        (Settings(upstreams=upstream({"open_max": Seconds(800)})), ["upstreams[0].circuit.open_max"]),
        (Settings(upstreams=upstream({"probe_lease": Seconds(1)})), ["upstreams[0].circuit.probe_lease"]),
        (
            Settings(
                circuit=CircuitPolicy(probe_lease=Seconds(50)), upstreams=upstream({}, {"head": Seconds(31)})
            ),
            ["upstreams[0].circuit.probe_lease"],
        ),
        # What the general settings have wrong is told once.
        (
            Settings(circuit=CircuitPolicy(open=Seconds(301)), upstreams=upstream({"ramp": Seconds(9)})),
            ["circuit.open_max"],
        ),
    ],
)
def test_settings_that_cannot_be_used(settings: Settings, keys: list[str]) -> None:
    assert [key for key, _ in conflicts(settings)] == keys
