"""Settings that cannot be used together."""

from dataclasses import replace

import pytest

from proxy.core.conflicts import conflicts, doubts
from proxy.core.defer import Defer
from proxy.core.fallback import DeferOrder, Fallback, FallbackOn, RedirectUrl
from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Intercept
from proxy.core.overlay import Overlay
from proxy.core.policy import (
    Admin,
    CircuitPolicy,
    Dns,
    Endpoint,
    Limits,
    Listen,
    Settings,
    Timeouts,
    Upstream,
)
from proxy.core.quantities import Seconds
from proxy.core.route import Route, UpstreamUrl


def test_the_defaults_have_no_conflicts() -> None:
    assert list(conflicts(Settings())) == []


def upstream(circuit: dict[str, object], timeouts: dict[str, object] | None = None) -> tuple[Upstream, ...]:
    return (Upstream(match=HostPattern("a"), circuit=Overlay(circuit), timeouts=Overlay(timeouts or {})),)


def over_tls(https: HttpsMode, **tls: object) -> tuple[Upstream, ...]:
    return (Upstream(match=HostPattern("a"), https=https, tls=Overlay(tls)),)


HERE = Endpoint("127.0.0.1", 3130)


def route(url: str) -> Route:
    return Route(upstream=UpstreamUrl.parse(url))


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (Settings(listen=Listen(proxy=Endpoint("0.0.0.0", 1))), ["listen.proxy"]),
        (Settings(listen=Listen(proxy=Endpoint("0.0.0.0", 1), open_relay=True)), []),
        (Settings(listen=Listen(proxy=Endpoint("0.0.0.0", 1), credentials_file="tokens")), []),
        (Settings(dns=Dns(ttl_min=Seconds(5), ttl_max=Seconds(4))), ["dns.ttl_max"]),
        (
            Settings(admin=Admin(hosts=(HostPattern("a"), HostPattern("*"), HostPattern("*", 80)))),
            [
                "admin.hosts[1]",
                "admin.hosts[2]",
            ],
        ),
        (Settings(admin=Admin(hosts=(HostPattern("*.internal"),))), []),
        (Settings(dns=Dns(servers=(Endpoint("127.0.0.1", 53), Endpoint("::1", 53)))), []),
        (
            Settings(
                dns=Dns(servers=(Endpoint("localhost", 53), Endpoint("::1", 0), Endpoint("fe80::1%1", 53)))
            ),
            ["dns.servers[0]", "dns.servers[1]", "dns.servers[2]"],
        ),
        (Settings(name="1st"), ["name"]),
        (Settings(name="first"), []),
        (Settings(listen=Listen(reverse=HERE)), ["listen.reverse"]),
        (Settings(routes=(route("http://a"),)), ["routes"]),
        (Settings(listen=Listen(reverse=HERE), routes=(route("http://a"),)), []),
        (Settings(listen=Listen(reverse=Endpoint("0.0.0.0", 1)), routes=(route("http://a"),)), []),
        (Settings(listen=Listen(reverse=HERE), routes=(route("http://a"), route("https://a"))), []),
        (Settings(intercept=Intercept(ephemeral=True)), []),
        (Settings(intercept=Intercept(private_directory="ca")), []),
        (Settings(intercept=Intercept(private_directory="ca", ephemeral=True)), ["intercept.ephemeral"]),
        (Settings(upstreams=over_tls(HttpsMode.INTERCEPT)), ["upstreams[0].https"]),
        (
            Settings(
                intercept=Intercept(directory="shared"),
                upstreams=(*upstream({}), *over_tls(HttpsMode.INTERCEPT)),
            ),
            ["upstreams[1].https"],
        ),
        (
            Settings(
                intercept=Intercept(private_directory="ca"),
                upstreams=over_tls(HttpsMode.INTERCEPT),
            ),
            [],
        ),
        (
            Settings(intercept=Intercept(ephemeral=True), upstreams=over_tls(HttpsMode.INTERCEPT)),
            [],
        ),
        (Settings(upstreams=over_tls(HttpsMode.ORIGINATE)), []),
        *[
            (Settings(upstreams=(replace(entry, match=HostPattern("a", port)),)), keys)
            for (entry,) in [over_tls(HttpsMode.ORIGINATE, ca="ca.pem")]
            for port, keys in [(80, ["upstreams[0].tls"]), (443, []), (8080, []), (None, [])]
        ],
        (
            Settings(upstreams=over_tls(HttpsMode.ORIGINATE, client_key="me.key")),
            ["upstreams[0].tls.client_key"],
        ),
        (Settings(upstreams=over_tls(HttpsMode.ORIGINATE, client_cert="me.pem")), []),
        (Settings(upstreams=over_tls(HttpsMode.TUNNEL, client_cert="me.pem", client_key="me.key")), []),
        *[
            (Settings(upstreams=over_tls(HttpsMode.TUNNEL, server_name=name)), [])
            for name in (None, "api.example.com", "API.example.com", "192.0.2.1", "2001:db8::1")
        ],
        *[
            (
                Settings(upstreams=over_tls(HttpsMode.TUNNEL, server_name=name)),
                ["upstreams[0].tls.server_name"],
            )
            for name in ("", "a b", "a:443", "api.example.com.", "https://a", "127.1", "*.example.com")
        ],
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


def falls_back(kept: Defer | None = None, *, match: str = "a.test", **fallback: object) -> Settings:
    made = Upstream(match=HostPattern.parse(match), fallback=Fallback(**fallback))  # type: ignore[arg-type]
    return Settings(upstreams=(made,), defer=kept or Defer())


ELSEWHERE = RedirectUrl.parse("http://dl.test:8080/{host}")
KEPT = Defer(path="deferred.db")


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (falls_back(), []),
        (falls_back(redirect=ELSEWHERE), []),
        (falls_back(redirect=ELSEWHERE, internal=True, on=FallbackOn.FAILURE), []),
        (falls_back(internal=True), ["internal"]),
        (falls_back(on=FallbackOn.FAILURE), ["on"]),
        (falls_back(KEPT, defer=True, redirect=ELSEWHERE), ["defer"]),
        (falls_back(defer=True), ["defer"]),
        (falls_back(KEPT, defer=True, order=DeferOrder.STRICT), []),
        (falls_back(KEPT, order=DeferOrder.STRICT), ["order"]),
        (falls_back(match="dl.test", redirect=ELSEWHERE), ["redirect"]),
        (falls_back(match="*", redirect=ELSEWHERE), ["redirect"]),
        (falls_back(match="*", redirect=ELSEWHERE, internal=True), []),
        (falls_back(match="dl.test:80", redirect=ELSEWHERE), []),
    ],
)
def test_what_of_a_fallback_does_not_go_together(settings: Settings, keys: list[str]) -> None:
    assert [key for key, _ in conflicts(settings)] == [f"upstreams[0].fallback.{key}" for key in keys]


@pytest.mark.parametrize(
    ("method", "is_one"), [("POST", True), ("X-Y2", True), ("post", False), ("CONNECT", False), ("", False)]
)
def test_which_methods_may_be_kept(method: str, is_one: bool) -> None:  # noqa: FBT001 -- a column
    found = list(conflicts(Settings(defer=Defer(methods=("PUT", method)))))
    assert [key for key, _ in found] == ([] if is_one else ["defer.methods[1]"])


@pytest.mark.parametrize(
    ("https", "count"), [(HttpsMode.TUNNEL, 1), (HttpsMode.INTERCEPT, 0), (HttpsMode.ORIGINATE, 0)]
)
def test_tunnels_of_an_upstream_whose_requests_are_to_be_kept_are_doubtful(
    https: HttpsMode, count: int
) -> None:
    settings = falls_back(KEPT, defer=True)
    (made,) = settings.upstreams
    found = list(doubts(replace(settings, upstreams=(replace(made, https=https),))))
    assert [key for key, _ in found] == ["upstreams[0].fallback.defer"] * count
    assert list(doubts(falls_back(redirect=ELSEWHERE))) == []
