"""breaker-proxy on the way: with its defaults, or with `tuned.yaml`, and with or without interception.

For the scaled form of the experiment all its durations are scaled as well: those of the circuits, the
timeouts, and how long idle circuits are kept. At scale 1 nothing is set but what the file has, and what a
test needs: any free ports, and leave to call loopback.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Any

import yaml
from isolation.records import Opening
from isolation.running import Running, environ
from isolation.scenario import Scenario
from support.process import RunningProxy

from proxy import __version__
from proxy.control import config
from proxy.control.convert import duration_text
from proxy.core.policy import CircuitPolicy, Limits, Timeouts
from proxy.core.quantities import Seconds
from proxy.wire.certificate_authority import CERTIFICATE_NAME

TUNED = Path(__file__).with_name("tuned.yaml")


def sections(file: Path | None, scale: float) -> dict[str, Any]:
    """What is configured.

    Args:
        file: its configuration; None: the defaults.
        scale: by what its durations are multiplied.
    """
    written = {} if file is None else yaml.safe_load(file.read_text(encoding="utf-8"))
    if scale == 1:
        return dict(written)
    settings = config.load(file, {}, {})
    limits = replace(Limits(), circuit_idle=settings.limits.circuit_idle)
    return written | {
        "circuit": written.get("circuit", {}) | _scaled(settings.circuit, scale),
        "timeouts": _scaled(settings.timeouts, scale),
        "limits": written.get("limits", {}) | _scaled(limits, scale),
    }


def _scaled(section: CircuitPolicy | Timeouts | Limits, scale: float) -> dict[str, str]:
    """All durations of a section, shorter."""
    values = {field.name: getattr(section, field.name) for field in fields(section)}
    return {
        name: duration_text(round(value * scale, 3))
        for name, value in values.items()
        if isinstance(value, Seconds)
    }


@contextmanager
def start(
    folder: Path,
    scenario: Scenario,
    ports: Mapping[str, int],
    ca: Path | None,
    *,
    file: Path | None = None,
    is_https: bool = False,
) -> Iterator[Running]:
    """Starts it; it has ended, and well, when the `with` has.

    Args:
        folder: empty, for its CA.
        scenario: has the scale.
        ports: of the endpoints, by name.
        ca: the certificates that the endpoints have theirs from, where they speak TLS.
        file: its configuration; None: the defaults.
        is_https: whether it intercepts.
    """
    configured = sections(file, scenario.scale)
    trusted = None
    if is_https:
        shared, private = folder / "shared", folder / "private"
        shared.mkdir()
        private.mkdir(mode=0o700)
        configured["intercept"] = {"directory": str(shared), "private_directory": str(private)}
        configured["upstreams"] = [{"match": "*", "https": "intercept", "tls": {"ca": str(ca)}}]
        # All that the dispatcher calls is intercepted. The bundle has the system's roots besides, and a
        # client that reads those for each call has no time for anything else.
        trusted = shared / CERTIFICATE_NAME
    with RunningProxy(**configured) as proxy:
        names = {port: name for name, port in ports.items()}
        program = f"breaker-proxy {__version__}"
        yield Running(environ(proxy.url, trusted), program, partial(openings, proxy.lines, names))


def openings(lines: list[dict[str, Any]], names: Mapping[int, str]) -> list[Opening]:
    """The circuits that have opened, by the log.

    Args:
        lines: of the log so far.
        names: of the endpoints, by port.
    """
    # The log has the time of day; the experiment, the clock that nobody sets.
    offset_s = monotonic() - time()
    return [
        Opening(
            endpoint=names[int(line["circuit"].rpartition(":")[2])],
            at_s=datetime.fromisoformat(line["timestamp"]).timestamp() + offset_s,
            open_s=line["open_s"],
        )
        for line in list(lines)
        if line["event"] == "circuit changed" and line["to_state"] == "open"
    ]
