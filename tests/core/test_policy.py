from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

from proxy.core.policy import (
    AccessLog,
    AddressClass,
    Bytes,
    CircuitPolicy,
    Endpoint,
    Limits,
    Listen,
    LogLevel,
    PathLog,
    Range,
    Seconds,
    Settings,
    Timeouts,
    conflicts,
)

# Design sections 4 and 9: every setting, its default, and the type that carries its unit.
DEFAULTS: dict[str, object] = {
    "version": 1,
    "name": None,
    "listen.proxy": Endpoint("127.0.0.1", 3128),
    "listen.admin": Endpoint("127.0.0.1", 3129),
    "listen.open_relay": False,
    "circuit.consecutive_failures": 5,
    "circuit.open": Seconds(30),
    "circuit.half_open_in_flight": 1,
    "circuit.recovery_threshold": 3,
    "circuit.abandoned_after": Seconds(3),
    "timeouts.dns": Seconds(5),
    "timeouts.connect": Seconds(5),
    "timeouts.head": Seconds(30),
    "timeouts.body_idle": Seconds(60),
    "timeouts.tunnel_idle": Seconds(60 * 60),
    "timeouts.client_idle": Seconds(10 * 60),
    "timeouts.upstream_idle": Seconds(4),
    "limits.max_circuits": 10_000,
    "limits.max_head": Bytes(32 * 1024),
    "limits.max_fields": 128,
    "limits.idle_per_host": 64,
    "limits.idle_total": 512,
    "egress.addresses": AddressClass.PUBLIC,
    "dns.servers": (),
    "metrics.max_circuits": 500,
    "log.level": LogLevel.INFO,
    "log.access": AccessLog.ERRORS,
    "log.path": PathLog.HASH,
    "drain.quiet": Seconds(1),
    "drain.timeout": Seconds(20),
    "via": True,
}


def leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """Each setting below a section as (key, value, annotation); an Endpoint is one value."""
    hints = get_type_hints(type(section), include_extras=True)
    for field in fields(section):
        value = getattr(section, field.name)
        key = prefix + field.name
        if is_dataclass(value) and not isinstance(value, Endpoint):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value, hints[field.name]


def test_defaults() -> None:
    values = {key: value for key, value, _ in leaves(Settings())}
    assert values == DEFAULTS
    assert {key: type(value) for key, value in values.items()} == {
        key: type(value) for key, value in DEFAULTS.items()
    }


def test_every_default_is_of_its_type_and_within_its_range() -> None:
    ranged = 0
    for key, value, annotation in leaves(Settings()):
        if get_origin(annotation) is not Annotated:
            assert not isinstance(value, (Seconds, Bytes)), f"{key} has a unit and no range"
            continue
        of_type, bounds = get_args(annotation)
        assert isinstance(value, of_type), key
        assert isinstance(bounds, Range), key
        assert bounds.least is None or value >= bounds.least, key
        assert bounds.most is None or value <= bounds.most, key
        ranged += 1
    assert ranged > 20


@pytest.mark.parametrize(
    ("section", "field", "bounds"),
    [
        pytest.param(CircuitPolicy, "consecutive_failures", Range(least=0), id="0-is-off"),
        pytest.param(CircuitPolicy, "half_open_in_flight", Range(least=1), id="a-probe-must-be-possible"),
        pytest.param(CircuitPolicy, "recovery_threshold", Range(least=1), id="a-circuit-must-close"),
        pytest.param(CircuitPolicy, "abandoned_after", Range(least=0), id="abandoned-0-is-never"),
        pytest.param(Timeouts, "head", Range(least=0.001), id="a-wait-has-a-length"),
        pytest.param(Timeouts, "upstream_idle", Range(least=0), id="0-keeps-no-connection"),
        pytest.param(Limits, "max_circuits", Range(least=1), id="a-table-has-room"),
        pytest.param(Limits, "max_head", Range(least=1024, most=1024 * 1024), id="head-from-1-KiB-to-1-MiB"),
        pytest.param(Settings, "version", Range(least=1, most=1), id="one-version"),
    ],
)
def test_ranges(section: type, field: str, bounds: Range) -> None:
    assert get_args(get_type_hints(section, include_extras=True)[field])[1] == bounds


def test_settings_cannot_be_changed_in_place() -> None:
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.via = False  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (Endpoint("127.0.0.1", 3128), "127.0.0.1:3128"),
        (Endpoint("::1", 0), "[::1]:0"),
        (Endpoint("localhost", 3128), "localhost:3128"),
    ],
    ids=["ipv4", "ipv6", "name"],
)
def test_an_endpoint_is_written_as_in_the_file(endpoint: Endpoint, text: str) -> None:
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("128.0.0.1", False),
        ("fe80::1", False),
        ("example.com", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_loopback(host: str, is_loopback: bool) -> None:  # noqa: FBT001 -- a column of the table
    assert Endpoint(host, 3128).is_loopback is is_loopback


EVERYWHERE = Endpoint("0.0.0.0", 3128)


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        pytest.param(Settings(), [], id="defaults"),
        pytest.param(Settings(listen=Listen(proxy=EVERYWHERE)), ["listen.proxy"], id="open-to-all"),
        pytest.param(
            Settings(listen=Listen(proxy=Endpoint("::", 3128))), ["listen.proxy"], id="open-to-all-on-ipv6"
        ),
        pytest.param(
            Settings(listen=Listen(proxy=EVERYWHERE, open_relay=True)), [], id="open-to-all-on-purpose"
        ),
        pytest.param(Settings(listen=Listen(open_relay=True)), [], id="relay-on-loopback"),
        pytest.param(Settings(listen=Listen(admin=EVERYWHERE)), [], id="admin-has-its-token"),
        pytest.param(
            Settings(name="1", listen=Listen(proxy=EVERYWHERE)), ["listen.proxy", "name"], id="all-at-once"
        ),
    ],
)
def test_conflicts(settings: Settings, keys: list[str]) -> None:
    assert [key for key, _ in conflicts(settings)] == keys


def test_a_conflict_says_what_to_do() -> None:
    [(_, what)] = conflicts(Settings(listen=Listen(proxy=EVERYWHERE)))
    assert what.startswith("0.0.0.0:3128 can be reached from other machines")
    assert "listen.open_relay: true" in what


@pytest.mark.parametrize("name", ["a", "Z", "breaker-proxy-0a1b2c3d", "a.b_c-d", "a" * 64])
def test_names_that_fit_via_and_proxy_status(name: str) -> None:
    assert list(conflicts(Settings(name=name))) == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("1proxy", id="digit-first"),
        pytest.param("-proxy", id="dash-first"),
        pytest.param("a" * 65, id="too-long"),
        pytest.param("my proxy", id="space"),
        pytest.param("proxy\n", id="line-feed"),
        pytest.param("proxy;error=x", id="parameter"),
        pytest.param("pr\u00f6xy", id="non-ascii"),
    ],
)
def test_names_that_do_not(name: str) -> None:
    [(key, what)] = conflicts(Settings(name=name))
    assert key == "name"
    assert "a letter, then up to 63" in what
