"""What was written ahead of the file (SQLite's WAL), and how much of it can still be read.

SQLite takes a transaction for unfinished as soon as one bit of it is wrong, drops it with all that follow,
and says nothing: it cannot tell a crash from a damaged disk. A crash leaves at most one transaction without
its end. Whole ones that are dropped were damaged, and they may hold what was answered 202.

The format: https://www.sqlite.org/fileformat2.html section 4.1.
"""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from struct import Struct

_HEADER = Struct(">8I")
_FRAME = Struct(">6I")
_LITTLE, _BIG = 0x377F0682, 0x377F0683
_PAGE_SIZES, _USUAL_PAGE_SIZE = {1 << bits for bits in range(9, 16)}, 4096
_MOST_ASIDE = 1000


def commits(log: Path) -> list[int]:
    """Which frames, counted from 1, end a transaction of the latest generation; none without a log."""
    try:
        with log.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                return []
            _, _, page_size, _, *salts, _, _ = _HEADER.unpack(head)
            if page_size not in _PAGE_SIZES:
                page_size = _USUAL_PAGE_SIZE
            # Where the head itself is damaged, whole frames tell of what generation they are.
            expected = tuple(salts) if _is_sound(head) else None
            found = []
            size = log.stat().st_size
            for number in count(1):
                end = _HEADER.size + number * (_FRAME.size + page_size)
                if end > size:
                    break
                file.seek(end - page_size - _FRAME.size)
                _, pages, *salts, _, _ = _FRAME.unpack(file.read(_FRAME.size))
                if expected is None:
                    expected = tuple(salts)
                if tuple(salts) != expected:
                    break
                if pages:
                    found.append(number)
            return found
    except FileNotFoundError:
        return []


def keep(log: Path) -> Path:
    """Copies a log to a name of its own.

    Returns:
        The first of `LOG.damaged-1`, `LOG.damaged-2` and so on that is free.

    Raises:
        OSError: it cannot be copied.
    """
    for name in _names(log):
        if not name.exists():
            break
    else:
        raise FileExistsError(f"there are {_MOST_ASIDE} damaged logs beside {log}")
    shutil.copy(log, name)
    return name


def _names(log: Path) -> Iterator[Path]:
    for number in range(1, _MOST_ASIDE + 1):
        yield log.with_name(f"{log.name}.damaged-{number}")


def _is_sound(head: bytes) -> bool:
    """Whether the head has its checksum."""
    magic, *_, first, second = _HEADER.unpack(head)
    if magic not in (_LITTLE, _BIG):
        return False
    words = Struct("<6I" if magic == _LITTLE else ">6I").unpack(head[:24])
    one = two = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return (one, two) == (first, second)
