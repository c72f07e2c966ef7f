"""The configuration in force, as the file would write it.

Nothing in it is secret but paths: those of webhooks are credentials, so that where a route leads is shown as
the log shows it (`log.path`). Files are shown by their names, never by what they hold.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from proxy.control.convert import SHAPES, duration_text, size_text
from proxy.core.overlay import Overlay
from proxy.core.policy import PathLog, Settings
from proxy.core.ports import Ports
from proxy.core.quantities import Bytes, Seconds
from proxy.core.route import PathPrefix, UpstreamUrl
from proxy.core.scope import endpoint_name
from proxy.core.statuses import Statuses


def effective(settings: Settings) -> dict[str, Any]:
    """All settings, those that nobody has written included, as JSON that the file could hold as well."""
    told: dict[str, Any] = written(settings, show_paths=settings.log.path is PathLog.FULL)
    return told


def written(value: Any, *, show_paths: bool = True) -> Any:
    """A setting or a section of them as the file writes it.

    Args:
        value: of a type that settings have.
        show_paths: whether the paths of routes are shown, or a hash of each.
    """
    if isinstance(value, PathPrefix | UpstreamUrl) and not show_paths:
        return _hashed(value)
    for kind, write in _WRITTEN:
        if isinstance(value, kind):
            return write(value)
    if isinstance(value, tuple):
        return [written(each, show_paths=show_paths) for each in value]
    section = value.values if isinstance(value, Overlay) else _section(value)
    if section is None:
        return str(value) if is_dataclass(value) else value
    return {name: written(each, show_paths=show_paths) for name, each in section.items()}


def _section(value: Any) -> dict[str, Any] | None:
    """The keys of a section; None for a value."""
    if not is_dataclass(value) or hasattr(value, "parse") or type(value) in SHAPES:
        return None
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _listed(value: Statuses | Ports) -> str | list[str]:
    text = str(value)
    if text == "none":
        # Of ports that is an empty list, which both can be.
        return []
    return text if text == "any" else text.split(", ")


_WRITTEN: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.value),
    (Seconds, duration_text),
    (Bytes, size_text),
    (Statuses | Ports, _listed),
)


def _hashed(value: PathPrefix | UpstreamUrl) -> str:
    if not value.path:
        return str(value)
    before = f"{value.scheme}://{value.authority}" if isinstance(value, UpstreamUrl) else "/"
    return endpoint_name(before, value.path.encode("ascii"))
