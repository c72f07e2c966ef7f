"""Settings for some upstreams only: which ones, and what differs for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar, cast

from proxy.core.host import literal, normalised, split

Section = TypeVar("Section")

_EXPECTED = "expected a host such as api.example.com or *.example.com, got {!r:.60}"


@dataclass(frozen=True, slots=True)
class HostPattern:
    """Which upstreams an entry is for: `api.example.com`, `*.example.com`, `*`, each with an optional port.

    Attributes:
        host: normalised (host.py), an IPv6 address without its brackets; `*.` before a name means any depth
            below it, and not the name itself.
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
        if not isinstance(value, str) or value.endswith(":"):
            raise ValueError(_EXPECTED.format(value))
        try:
            host, port = split(value)
            return cls(_pattern(host), port)
        except ValueError as error:
            raise ValueError(f"{_EXPECTED.format(value)}: {error}") from None

    def matches(self, host: str, port: int) -> bool:
        """Whether the entry is for this upstream.

        Args:
            host: normalised.
            port: 1-65535.
        """
        if self.port is not None and self.port != port:
            return False
        if self.host == "*":
            return True
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def _pattern(host: str) -> str:
    if host == "*":
        return host
    name = normalised(host.removeprefix("*."))
    if not host.startswith("*."):
        return name
    if literal(name) is not None:
        raise ValueError("nothing is below an address")
    return f"*.{name}"


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
