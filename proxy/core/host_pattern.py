"""Which upstreams a setting or a rule is for: one pattern, and many of them in the order of the file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from proxy.core.host import literal, normalised, split

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


class HostPatterns:
    """The patterns of a list, to be searched without looking at each.

    A search takes two look-ups for each label of the host, however long the list is.
    """

    def __init__(self, patterns: Iterable[HostPattern]) -> None:
        self._places: dict[tuple[str, int | None], int] = {}
        for place, pattern in enumerate(patterns):
            self._places.setdefault((pattern.host, pattern.port), place)

    def first(self, host: str, port: int) -> int | None:
        """The place in the list, from 0, of the first pattern that matches; None if none does.

        Args:
            host: normalised.
            port: 1-65535.
        """
        places = self._places
        matching = [
            places[key]
            for name in _patterns_of(host)
            for key in ((name, None), (name, port))
            if key in places
        ]
        return min(matching, default=None)

    def match(self, host: str, port: int) -> bool:
        """Whether any of them does."""
        return self.first(host, port) is not None


def _patterns_of(host: str) -> Iterator[str]:
    """All hosts of patterns that match a host."""
    yield host
    yield "*"
    dot = host.find(".")
    while dot >= 0:
        yield f"*{host[dot:]}"
        dot = host.find(".", dot + 1)
