"""What is done with a damaged file: it is put aside as it is, and what can be read goes into a new one.

SQLite itself mends what a crash leaves behind. This is for the rest: a disk that gives back other bytes than
it was given, a file that was cut short or written over. Nobody can promise that nothing is lost then; what is
promised is that the process goes on, that all which can still be read is kept, and that the damaged file
stays where an operator finds it.
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from proxy.store.file import DeferredFile

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_SHORT_READ}
_MOST_ASIDE = 1000


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file does not hold what was written."""
    code = getattr(error, "sqlite_errorcode", None)
    # What quick_check finds comes without a code.
    return code in _DAMAGED or (code is None and "malformed" in str(error))


def put_aside(path: Path) -> Path:
    """Gives a damaged file another name, together with what was written ahead of it.

    Returns:
        The first of `PATH.damaged-1`, `PATH.damaged-2` and so on that is free.

    Raises:
        OSError: the directory does not allow it, or there are a thousand already.
    """
    for number in range(1, _MOST_ASIDE + 1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            break
    else:
        raise FileExistsError(f"there are {_MOST_ASIDE} damaged files beside {path}")
    with suppress(FileNotFoundError):
        _beside(path, "-wal").rename(_beside(aside, "-wal"))
    with suppress(FileNotFoundError):
        _beside(path, "-shm").unlink()
    path.rename(aside)
    return aside


def rescue(aside: Path, into: DeferredFile) -> int:
    """Copies what can be read of a damaged file, request by request.

    Returns:
        How many requests that were.

    Raises:
        sqlite3.Error: the new file cannot be written.
    """
    rescued = 0
    into.begin()
    for request_id in _ids(aside):
        request = None
        with suppress(sqlite3.Error, ValueError, TypeError), closing(_Reading(aside)) as reading:
            request = reading.get(request_id, with_content=True)
        # Content that is gone, or is not all there, is worse than none: it would be delivered.
        is_whole = request is not None and len(request.content or b"") == request.content_bytes
        if request is not None and is_whole and into.get(request.id) is None:
            into.add(request)
            rescued += 1
    into.commit()
    return rescued


class _Reading(DeferredFile):
    """A damaged file, to be read only."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)


def _ids(aside: Path) -> list[str]:
    """The ids that can be found, from whichever end they can be reached, in the order of their places."""
    found: dict[str, int] = {}
    for direction in ("ASC", "DESC"):
        for source in ("request", "request NOT INDEXED"):
            with suppress(sqlite3.Error), closing(sqlite3.connect(aside)) as database:
                rows = database.execute(f"SELECT id, place FROM {source} ORDER BY key {direction}")  # noqa: S608 -- constants
                for request_id, place in rows:
                    if isinstance(request_id, str) and isinstance(place, int):
                        found.setdefault(request_id, place)
    return sorted(found, key=found.__getitem__)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
