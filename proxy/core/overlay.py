"""Settings for some upstreams only: which ones, and what differs for them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar, cast

Section = TypeVar("Section")

# A name as in target.py, with `*.` before it or `*` alone, or an IPv6 address; then a port.
_PATTERN = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>\*|(?:\*\.)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class HostPattern:
    """Which upstreams an entry is for: `api.example.com`, `*.example.com`, `*`, each with an optional port.

    Attributes:
        host: lower case, an IPv6 address without its brackets; after `*.` any depth matches, and not the
            name itself.
        port: 1-65535, or None for all.
    """

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, value: object) -> Self:
        """Reads the setting.

        Raises:
            ValueError: for anything else; the text says what was expected.
        """
        parts = _PATTERN.fullmatch(value) if isinstance(value, str) else None
        port = int(parts["port"]) if parts is not None and parts["port"] else None
        if parts is None or (port is not None and not 1 <= port <= _MAX_PORT):
            raise ValueError(f"expected a host such as api.example.com or *.example.com, got {value!r:.60}")
        return cls((parts["ipv6"] or parts["name"]).lower().rstrip("."), port)

    def matches(self, host: str, port: int) -> bool:
        """Whether the entry is for this upstream.

        Args:
            host: lower case, without brackets; one dot at its end means the same name (RFC 1034 section 3.1).
            port: 1-65535.
        """
        if self.port is not None and self.port != port:
            return False
        if self.host == "*":
            return True
        name = host.removesuffix(".")
        return name.endswith(self.host[1:]) if self.host.startswith("*.") else name == self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True)  # CPython 3.11 cannot make a generic one with slots
class Overlay(Generic[Section]):
    """The keys of a section that were written, to be laid over another section of the same class.

    The section's dataclass stays the only list of keys.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    def onto(self, base: Section) -> Section:
        """The section with what was written in place of the base's."""
        # A section is a dataclass; only typeshed has a name for what they all are.
        return replace(cast("Any", base), **self.values) if self.values else base
