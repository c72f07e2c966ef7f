"""Each setting is handed on by a reload: to some part, or else it is known to need a restart.

Whoever adds a setting adds a value for it here, and learns at once if no part gets it.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from support.sidecar import SETTINGS, Clock
from wire import test_adoption

from proxy.app import Sidecar
from proxy.control.reload import NEEDS_RESTART
from proxy.core.address import Network
from proxy.core.defer import Defer
from proxy.core.egress import AllowedAddresses, Hosts, SniRules
from proxy.core.host_pattern import HostPattern
from proxy.core.policy import (
    AccessLog,
    Endpoint,
    Mode,
    OpenAction,
    PathLog,
    Search,
    Settings,
    Upstream,
)
from proxy.core.ports import Ports
from proxy.core.quantities import Bytes, Seconds
from proxy.core.route import PathPrefix, Route, UpstreamUrl
from proxy.core.scope import CircuitKey
from proxy.core.statuses import Statuses
from proxy.wire.data_plane import Provisions

# With every part: what keeps requests for later is there only with a file.
KEEPING = replace(SETTINGS, defer=Defer(path="deferred.db"))
PATTERN = HostPattern.parse("else.test")
# Read before any part is asked, and by none.
ONLY_CHECKED = {
    "version": "there is one",
    "intercept.ephemeral": "says only that a missing directory is meant so (core/conflicts.py)",
}
# What changes outside of the parts, and which test sees it.
SEEN_ELSEWHERE: dict[str, Callable[..., object]] = {
    "intercept.extra_roots": test_adoption.test_the_bundle_of_clients_has_other_roots,
    "log.level": test_adoption.test_the_level_is_another,
}
# For each setting a value that is not the default, or how that comes from the default.
OTHER: dict[str, Any] = {
    "circuit.key": CircuitKey.parse("path"),
    "circuit.probe_lease": Seconds(77),
    "circuit.failure_statuses": Statuses({500}),
    "circuit.throttle_statuses": Statuses({430}),
    "circuit.mode": Mode.OBSERVE,
    "upstreams": (Upstream(match=PATTERN),),
    "routes": (Route(path=PathPrefix("/a"), upstream=UpstreamUrl.parse("http://else.test")),),
    "egress.addresses": AllowedAddresses.PUBLIC,
    "egress.allow": (Network.parse("192.0.2.0/24"),),
    "egress.deny": (Network.parse("192.0.2.0/24"),),
    "egress.hosts": Hosts(deny=(PATTERN,)),
    "egress.connect_ports": Ports.parse([443]),
    "egress.sni": SniRules.ENFORCE,
    "dns.servers": (Endpoint("127.0.0.1", 5300),),
    "dns.search": Search.ON,
    "intercept.exclude": (PATTERN,),
    "admin.token_file": "token",
    "defer.final_statuses": Statuses({418}),
    "defer.methods": ("PUT",),
    "admin.hosts": (PATTERN,),
    "log.access": AccessLog.ALL,
    "log.path": PathLog.FULL,
    "open_action": OpenAction.CLOSE,
}


def leaves(section: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of all settings, with their values; sections are one deep, as in the file."""
    for each in fields(section):
        value = getattr(section, each.name)
        if not above and is_dataclass(value):
            yield from leaves(value, f"{each.name}.")
        else:
            yield f"{above}{each.name}", value


DEFAULTS = dict(leaves(SETTINGS))
HANDED_ON = sorted(set(DEFAULTS) - set(NEEDS_RESTART) - set(ONLY_CHECKED) - set(SEEN_ELSEWHERE))


def other(key: str) -> Any:
    """Another value than the default one, of the same type."""
    if key in OTHER:
        return OTHER[key]
    value = DEFAULTS[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, Seconds | Bytes | int):
        return type(value)(value + 1)
    assert isinstance(value, float), f"{key} is new: give it another value in OTHER"
    return value / 2 + 0.125


def with_other(key: str) -> Settings:
    section, _, name = key.partition(".")
    if not name:
        return replace(KEEPING, **{key: other(key)})
    return replace(KEEPING, **{section: replace(getattr(KEEPING, section), **{name: other(key)})})


def held(found: Any, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Every plain value that can be reached from a part, with the way there; the whole settings left out."""
    if isinstance(found, str | bytes | int | float | Enum | None):
        yield path, repr(found)
        return
    if id(found) in seen or isinstance(found, Settings | Provisions | Clock):
        return
    seen.add(id(found))
    if isinstance(found, dict):
        for key, value in found.items():
            yield from held(value, f"{path}[{key!r}]" if isinstance(key, str) else f"{path}[]", seen)
    elif isinstance(found, list | tuple | set | frozenset):
        for value in found:
            yield from held(value, f"{path}[]", seen)
    elif type(found).__module__.startswith("proxy."):
        slots = [name for kind in type(found).__mro__ for name in getattr(kind, "__slots__", ())]
        for name in {*slots, *getattr(found, "__dict__", ())} - {"__weakref__", "__dict__"}:
            if hasattr(found, name):
                yield from held(getattr(found, name), f"{path}.{name}", seen)


def in_force(sidecar: Sidecar) -> list[tuple[str, str]]:
    """What the parts go by."""
    own = vars(sidecar)
    seen: set[int] = {id(sidecar)}
    parts = ("data_plane", "circuits", "metrics", "deferral", "_access", "_admin")
    return sorted({pair for name in parts for pair in held(own[name], name, seen)})


def test_every_setting_is_accounted_for() -> None:
    assert set(OTHER) <= set(HANDED_ON)
    assert set(ONLY_CHECKED) | set(SEEN_ELSEWHERE) | set(NEEDS_RESTART) <= set(DEFAULTS)
    for key in HANDED_ON:
        assert other(key) != DEFAULTS[key], key


@pytest.mark.parametrize("key", HANDED_ON)
async def test_a_reload_hands_it_on(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("0123456789abcdef")
    sidecar = Sidecar(KEEPING, clock=Clock())
    try:
        await sidecar.adopt(KEEPING)
        await sidecar.adopt(KEEPING)
        before = in_force(sidecar)
        await sidecar.adopt(KEEPING)
        assert in_force(sidecar) == before, "this test sees more than settings"
        await sidecar.adopt(with_other(key))
        assert in_force(sidecar) != before, f"no part has heard of {key}"
    finally:
        await sidecar.stop()
