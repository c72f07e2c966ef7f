"""Which ports may be asked for: `any`, or a list of ports and ranges."""

import re
from dataclasses import dataclass
from typing import Self

_ITEM = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports, as ranges with both ends included.

    Attributes:
        ranges: each from its first to its last port; None is any port.
    """

    ranges: tuple[tuple[int, int], ...] | None = None

    @classmethod
    def parse(cls, value: object) -> Self:
        """Reads the word `any`, or a list of ports and ranges such as `[443, 8000-8999]`.

        Raises:
            ValueError: for anything else; the text says what was expected.
        """
        if value == "any":
            return cls()
        if not isinstance(value, list | tuple):
            raise ValueError(  # noqa: TRY004 -- what a user writes has a wrong value, not a wrong type
                f"expected any, or a list such as [443, 8000-8999], got {value!r:.60}"
            )
        return cls(tuple(map(_range_of, value)))

    def __contains__(self, port: int) -> bool:
        return self.ranges is None or any(first <= port <= last for first, last in self.ranges)

    def __str__(self) -> str:
        if self.ranges is None:
            return "any"
        return ", ".join(str(one) if one == last else f"{one}-{last}" for one, last in self.ranges) or "none"


def _range_of(item: object) -> tuple[int, int]:
    parts = _ITEM.fullmatch(str(item)) if isinstance(item, int | str) else None
    first, last = (int(parts[1]), int(parts[2] or parts[1])) if parts is not None else (0, 0)
    if not 1 <= first <= last <= _MAX_PORT:
        raise ValueError(f"expected a port such as 443 or a range such as 8000-8999, got {item!r:.60}")
    return first, last


ANY_PORT = Ports()
