"""Sets of response statuses, as the settings write them: `[500-599, 429]`, or `none`."""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Self

_ITEM = re.compile(r"(?P<first>[0-9]{3})(?:-(?P<last>[0-9]{3}))?")
# A 1xx is no answer (RFC 9110 section 15.2); the parser takes everything up to 999.
_FIRST, _LAST = 200, 999


class Statuses(frozenset[int]):
    """A set of statuses, each 200-999; a frozenset, since it is asked on every response."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        """Reads a list of statuses and ranges such as `500-599`, or the word `none`.

        Args:
            value: as YAML gives it: a list of whole numbers and text, or text.

        Raises:
            ValueError: for anything else; the text says what was expected.
        """
        if value == "none":
            return cls()
        if not isinstance(value, list | tuple):
            raise ValueError(  # noqa: TRY004 -- what a user writes has a wrong value, not a wrong type
                f"expected a list such as [500-599, 429], or none, got {value!r:.60}"
            )
        return cls(status for item in value for status in _range_of(item))

    def __str__(self) -> str:
        return ", ".join(_runs(sorted(self))) or "none"

    def __repr__(self) -> str:
        return f"<Statuses {self}>"


def _range_of(item: object) -> range:
    # True is an int for Python, and no status.
    parts = _ITEM.fullmatch(str(item)) if isinstance(item, int | str) else None
    if parts is None:
        raise ValueError(f"expected a status such as 503 or a range such as 500-599, got {item!r:.60}")
    first = int(parts["first"])
    last = int(parts["last"] or first)
    if not _FIRST <= first <= last <= _LAST:
        raise ValueError(f"expected statuses from {_FIRST} to {_LAST}, the lower one first, got {item!r:.60}")
    return range(first, last + 1)


def _runs(statuses: Iterable[int]) -> Iterable[str]:
    # In a run of neighbours the distance between value and index stays the same.
    for _, neighbours in groupby(enumerate(statuses), key=lambda pair: pair[1] - pair[0]):
        run = [status for _, status in neighbours]
        yield str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"
