"""The file that remembers open circuits over a restart (`state_file`): read at start, written now and then.

It is worth something for minutes only, so nothing about it stops the proxy: what cannot be read is ignored,
what cannot be written is tried again, and each is told once. A directory that is not there is a fault of the
configuration all the same, or a slip of the pen would go unnoticed until the restart that needs the file.

The new content replaces the old at once (rename), so that a process that is killed leaves one of them whole.
It is not flushed to the disk: that would be for a loss of power, which takes longer than the file is worth,
and what is torn then is recognised. Which hosts are called is nobody else's affair (0600). Who can write the
file can cut off any of them: that of another owner, one that all may write to and a link are not read.
"""

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from proxy import regular_file
from proxy.control import log
from proxy.control.config import ConfigError
from proxy.control.sections import Fault
from proxy.core.policy import CircuitPolicy
from proxy.core.record import Record
from proxy.core.registry import Circuits
from proxy.core.snapshot import changes, restore, take

# How often it is asked whether there is something else to be remembered.
LOOK_S = 5.0
# How often it is written in any case, while there is something to be remembered: so `saved_at` tells when the
# proxy was last alive, and what is half-open for long is not taken for old.
REFRESH_S = 60.0
# So many circuits are looked at in one turn of the loop: 0.9 ms. All 10,000 at once would hold it for 20 ms;
# their JSON (1.3 MB), made in the thread, holds it for 3 ms.
SLICE = 500
# 40,000 circuits with the longest names that there are.
MAX_FILE_BYTES = 16 * 1024 * 1024
VERSION = 1

_KEY = "state_file"
# The end of the year 9999, where dates end.
_LAST_DAY = 253_402_300_799.0


@dataclass(frozen=True, slots=True)
class _Saved:
    """What stands in the file.

    Attributes:
        saved_at: seconds since 1970, by the clock on the wall.
    """

    version: int
    saved_at: float
    circuits: list[Record]

    def __post_init__(self) -> None:
        if not 0 <= self.saved_at <= _LAST_DAY:
            raise ValueError("saved_at is no time")


@dataclass(frozen=True, slots=True)
class _Versioned:
    version: int


def check(path: str) -> None:
    """Looks whether a file can be there; a relative path begins at the working directory.

    Raises:
        ConfigError: its directory does not exist, or it is a directory itself.
    """
    where = Path(path)
    try:
        reason = (
            "it is a directory, and should be a file in one" if stat.S_ISDIR(where.stat().st_mode) else None
        )
    except FileNotFoundError:
        reason = None if where.parent.is_dir() else f"the directory {where.parent} does not exist"
    # A directory that may not be searched, a name that is too long, a NUL in it.
    except (OSError, ValueError) as error:
        reason = _reason(error)
    if reason is not None:
        raise ConfigError([Fault(path, None, _KEY, reason)])


class StateFile:
    """Keeps a table in a file.

    Args:
        path: of the file, which need not be there.
        circuits: the table.
        policy_of: the settings of a host, by the key of its circuit; raises ValueError if it is none.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        path: str,
        circuits: Circuits,
        policy_of: Callable[[str], CircuitPolicy],
        wall_clock: Callable[[], float],
    ) -> None:
        self._path = Path(path)
        self._circuits = circuits
        self._policy_of = policy_of
        self._wall_clock = wall_clock
        self._is_restored = False
        self._look_at = 0.0
        self._refresh_at = 0.0
        # Up to which change all is in the file, how many circuits that is, and what is being written.
        self._saved_changes = -1
        self._saved_circuits = 0
        self._saving: asyncio.Task[None] | None = None
        self._told: str | None = None

    def restore(self, now: float) -> None:
        """Gives the table what the file remembers; `now` is monotonic seconds."""
        self._is_restored = True
        try:
            saved = _decoded(_content(self._path))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            log.logger().warning("state file ignored", path=str(self._path), reason=_reason(error))
            return
        elapsed_s = max(0.0, self._wall_clock() - saved.saved_at)
        restored = restore(self._circuits, saved.circuits, self._policy_of, elapsed_s, now)
        log.logger().info(
            "circuits restored",
            path=str(self._path),
            circuits=restored,
            ignored=len(saved.circuits) - restored,
            saved_at=datetime.fromtimestamp(saved.saved_at, UTC).isoformat(),
            elapsed_s=log.rounded(elapsed_s),
        )

    def look(self, now: float) -> None:
        """Begins to write the file if something has changed; looks at most once in `LOOK_S`.

        Args:
            now: monotonic seconds.
        """
        if now < self._look_at or self._saving is not None:
            return
        self._look_at = now + LOOK_S
        is_due = self._saved_circuits and now >= self._refresh_at
        if is_due or changes(self._circuits) != self._saved_changes:
            self._saving = asyncio.create_task(self._save(now), name="save the state")

    async def close(self, now: float) -> None:
        """Writes it for the last time; nothing if it was never read, since then it is still another's."""
        if self._saving is not None:
            await self._saving
        if self._is_restored:
            await self._save(now)

    async def _save(self, now: float) -> None:
        """Takes what is to be remembered, and writes it in a thread."""
        seen = changes(self._circuits)
        saved = _Saved(VERSION, self._wall_clock(), [])
        circuits = list(self._circuits)
        for begin in range(0, len(circuits), SLICE):
            # What changes meanwhile is a change behind `seen`, and is written next time.
            saved.circuits.extend(take(circuits[begin : begin + SLICE], now))
            await asyncio.sleep(0)
        self._refresh_at = now + REFRESH_S
        reason = await asyncio.to_thread(_written, self._path, saved)
        self._saving = None
        if reason is None:
            self._saved_changes = seen
            self._saved_circuits = len(saved.circuits)
        if reason != self._told:
            self._told = reason
            if reason is None:
                log.logger().info("state saved again", path=str(self._path))
            else:
                log.logger().warning("state not saved", path=str(self._path), reason=reason)


def _content(path: Path) -> bytes:
    """The content of a file that nobody else can have written.

    Raises:
        OSError, ValueError: with what is wrong.
    """
    if path.is_symlink():
        raise ValueError("it is a symbolic link")
    content, status = regular_file.read(path, MAX_FILE_BYTES, os.O_NOFOLLOW)
    if status.st_uid != os.geteuid():
        raise ValueError(f"it belongs to user {status.st_uid}, and we are user {os.geteuid()}")
    if status.st_mode & stat.S_IWOTH:
        raise ValueError("everybody may write to it")
    return content


def _decoded(content: bytes) -> _Saved:
    """What the file says; wholly, or not at all.

    Raises:
        ValueError, RecursionError: it is damaged, or of another version.
    """
    version = msgspec.json.decode(content, type=_Versioned).version
    if version != VERSION:
        raise ValueError(f"it has version {version}, and this program knows {VERSION}")
    return msgspec.json.decode(content, type=_Saved)


def _written(path: Path, saved: _Saved) -> str | None:
    """Replaces the file; returns why that failed."""
    try:
        content = msgspec.json.encode(saved)
        if len(content) > MAX_FILE_BYTES:
            return f"it would be larger than {MAX_FILE_BYTES >> 20} MiB"
        _replace(path, content)
    except (OSError, ValueError) as error:
        return _reason(error)
    return None


def _replace(path: Path, content: bytes) -> None:
    # Always the same name, so that a process that is killed while it writes leaves no more than one.
    under_way = path.with_name(f".{path.name}.tmp")
    under_way.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(under_way, "wb", opener=lambda name, _: os.open(name, flags, 0o600)) as file:
            file.write(content)
        under_way.replace(path)
    except OSError:
        with suppress(OSError):
            under_way.unlink()
        raise


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
