"""The file of the deferred requests: one SQLite database, its tables and every statement on them.

All of this is synchronous, and belongs to the one thread of `writer.py`. A transaction is durable when
`commit` returns: the log is written ahead (WAL), and synced with every commit (`synchronous = FULL`). The
lock of the file is exclusive for as long as it is open, so that no two processes deliver the same requests.

What changes with each attempt stands apart from the content, which may be large and never changes.
"""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.core.deferred import Deferred
from proxy.core.headers import Fields
from proxy.core.target import Target
from proxy.store import write_ahead

# SQLite gives up a lock that another process holds after this.
_BUSY_S = 0.2
_VERSION = 1
# The key of content that belongs to no request; theirs are 1 and more.
_STUFFING = -1
_SCHEMA = f"""
CREATE TABLE request (
  key INTEGER PRIMARY KEY,
  place INTEGER NOT NULL,
  id TEXT NOT NULL UNIQUE,
  queue TEXT NOT NULL,
  circuit TEXT NOT NULL,
  reason TEXT NOT NULL,
  stored_at REAL NOT NULL,
  scheme TEXT NOT NULL,
  host TEXT NOT NULL,
  port INTEGER NOT NULL,
  origin_form TEXT NOT NULL,
  authority TEXT NOT NULL,
  is_internal INTEGER NOT NULL,
  method TEXT NOT NULL,
  fields BLOB NOT NULL,
  content_bytes INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  tried_at REAL,
  result TEXT,
  died_at REAL,
  died_of TEXT
) STRICT;
CREATE TABLE content (key INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT;
CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE INDEX by_place ON request (place);
CREATE INDEX waiting ON request (queue, place) WHERE died_at IS NULL;
PRAGMA user_version = {_VERSION};
"""
_COLUMNS = (
    "id, queue, circuit, reason, stored_at, scheme, host, port, origin_form, authority, is_internal, method,"
    " fields, content_bytes, place, attempts, tried_at, result, died_at, died_of"
)
_INSERT = (
    f"INSERT INTO request ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 -- constants
)
_SELECT = f"SELECT {_COLUMNS}, {{content}} FROM request LEFT JOIN content USING (key)"  # noqa: S608 -- constants
_WITH_CONTENT, _WITHOUT = _SELECT.format(content="content"), _SELECT.format(content="x''")


class DeferredFile:
    """One open database.

    Args:
        path: of the file; it is made if it is not there, readable by this user only.

    Raises:
        OSError: it cannot be made.
        sqlite3.Error: it cannot be opened, another process has it, or it is damaged; see `damage.py`.

    Attributes:
        lost: what was damaged of what had been written ahead, for people; None if nothing was.
        added_bytes: content that was added since the last `begin`.
        last_place: the place of the one that came last, 0 before the first.
    """

    def __init__(self, path: Path) -> None:
        _make(path)
        log = path.with_name(f"{path.name}-wal")
        ends = write_ahead.commits(log)
        self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            self._prepare()
            self.lost = self._lost(ends, log)
            self._begin()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        execute = self._database.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")

    def _lost(self, ends: list[int], log: Path) -> str | None:
        """What of the log cannot be read; nothing has been written to it so far."""
        _, frames, _ = self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        dropped = sum(end > frames for end in ends)
        if not dropped:
            return None
        kept = write_ahead.keep(log)
        return f"{dropped} transactions in {log} cannot be read, and are lost; it is kept as {kept.name}"

    def _begin(self) -> None:
        execute = self._database.execute
        (version,) = execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        elif version != _VERSION:
            raise sqlite3.NotSupportedError(f"its version is {version}, and this program knows {_VERSION}")
        # What cannot be written is known now, and not with the first request; what is damaged, too.
        self.begin()
        self.set_fact("opened", self.fact("opened") + 1)
        execute("DELETE FROM content WHERE key = ?", (_STUFFING,))
        self.commit()
        faults = [fault for (fault,) in execute("PRAGMA quick_check(1)")]
        if faults != ["ok"]:
            raise sqlite3.DatabaseError(f"database disk image is malformed: {faults[0]}")
        (last,) = execute("SELECT max(place) FROM request").fetchone()
        self.last_place: int = last or 0

    def ensure_room(self, size: int) -> None:
        """Writes so many bytes and removes them again: what fits into the gaps of a full disk says nothing.

        Raises:
            sqlite3.Error: there is no room for them.
        """
        self.begin()
        self._database.execute("INSERT INTO content VALUES (?, zeroblob(?))", (_STUFFING, size))
        self.commit()
        self.begin()
        self._database.execute("DELETE FROM content WHERE key = ?", (_STUFFING,))
        self.commit()

    def close(self) -> None:
        """Lets go of the file; what was written ahead goes into it first."""
        self._database.close()

    def begin(self) -> None:
        """Begins a transaction."""
        self.added_bytes = 0
        self._database.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Makes what was done since durable."""
        self._database.execute("COMMIT")

    # One request.

    def add(self, request: Deferred) -> int:
        """Adds a request behind all others.

        Returns:
            Its place.
        """
        self.last_place += 1
        self.added_bytes += request.content_bytes
        target = request.target
        row = (
            request.id, request.queue, request.circuit, request.reason, request.stored_at, target.scheme,
            target.host, target.port, target.origin_form, target.authority, int(target.is_internal),
            request.method, _joined(request.fields), request.content_bytes, self.last_place,
            request.attempts, request.tried_at, request.result, request.died_at, request.died_of,
        )  # fmt: skip
        key = self._database.execute(_INSERT, row).lastrowid
        self._database.execute("INSERT INTO content VALUES (?, ?)", (key, request.content))
        return self.last_place

    def get(self, request_id: str, *, with_content: bool = False) -> Deferred | None:
        """The request with this id, if there is one."""
        select = _WITH_CONTENT if with_content else _WITHOUT
        row = self._database.execute(f"{select} WHERE id = ?", (request_id,)).fetchone()
        return None if row is None else _request(row)

    def first(self, queue: str) -> Deferred | None:
        """The one that has waited for longest in a queue, with its content."""
        chosen = f"{_WITH_CONTENT} WHERE queue = ? AND died_at IS NULL ORDER BY place LIMIT 1"
        row = self._database.execute(chosen, (queue,)).fetchone()
        return None if row is None else _request(row)

    def note_attempt(self, request_id: str, at: float, result: str) -> None:
        """Writes down that it was sent once more, and what came of it."""
        changed = "UPDATE request SET attempts = attempts + 1, tried_at = ?, result = ? WHERE id = ?"
        self._database.execute(changed, (at, result, request_id))

    def bury(self, request_id: str, at: float, cause: str) -> None:
        """Makes it a dead letter."""
        changed = "UPDATE request SET died_at = ?, died_of = ? WHERE id = ?"
        self._database.execute(changed, (at, cause, request_id))

    def put_back(self, request_id: str, at: float) -> None:
        """Has a dead letter wait again, behind all others, as if it had just come."""
        self.last_place += 1
        changed = (
            "UPDATE request SET place = ?, stored_at = ?, attempts = 0, tried_at = NULL, result = NULL,"
            " died_at = NULL, died_of = NULL WHERE id = ?"
        )
        self._database.execute(changed, (self.last_place, at, request_id))

    def delete(self, request_id: str) -> None:
        """Removes it."""
        key = "SELECT key FROM request WHERE id = ?"
        of_it = f"DELETE FROM content WHERE key = ({key})"  # noqa: S608 -- a constant
        self._database.execute(of_it, (request_id,))
        self._database.execute("DELETE FROM request WHERE id = ?", (request_id,))

    # Many.

    def page(
        self, *, queue: str | None, is_dead: bool | None, after: int, limit: int, with_content: bool = False
    ) -> list[Deferred]:
        """Requests in the order of their places.

        Args:
            queue: only of this one; None is all.
            is_dead: only dead letters, or only those that wait; None is both.
            after: the place behind which it begins, 0 for the first.
            limit: so many at most.
            with_content: whether their content is wanted.
        """
        wanted = ["place > ?"]
        values: list[object] = [after]
        if queue is not None:
            wanted.append("queue = ?")
            values.append(queue)
        if is_dead is not None:
            wanted.append("died_at IS NOT NULL" if is_dead else "died_at IS NULL")
        select = _WITH_CONTENT if with_content else _WITHOUT
        chosen = f"{select} WHERE {' AND '.join(wanted)} ORDER BY place LIMIT ?"
        return [_request(row) for row in self._database.execute(chosen, (*values, limit))]

    def overview(self) -> Iterator[tuple[int, str, str, float, bool, int]]:
        """Of each its place, queue, circuit, when it was stored, whether it is dead, and its bytes."""
        chosen = (
            "SELECT place, queue, circuit, stored_at, died_at IS NOT NULL, content_bytes + length(fields)"
            " FROM request ORDER BY place"
        )
        yield from self._database.execute(chosen)

    # What else is remembered.

    def fact(self, name: str) -> int:
        """A number that was remembered; 0 if it never was."""
        row = self._database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def set_fact(self, name: str, value: int) -> None:
        """Remembers a number."""
        self._database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))


def bytes_of(request: Deferred) -> int:
    """What a request counts in `defer.max_bytes`."""
    return request.content_bytes + len(_joined(request.fields))


def _make(path: Path) -> None:
    """Makes an empty file that only this user can read, unless it is there; SQLite would go by the umask."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)
    # Its name must outlive a loss of power as well.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _joined(fields: Fields) -> bytes:
    # A name has no colon, and neither name nor value a line feed (RFC 9112 section 5).
    return b"\n".join(name + b":" + value for name, value in fields)


def _parted(joined: bytes) -> Fields:
    lines = joined.split(b"\n") if joined else []
    return [(name, value) for name, _, value in (line.partition(b":") for line in lines)]


def _request(row: tuple[Any, ...]) -> Deferred:
    (
        request_id, queue, circuit, reason, stored_at, scheme, host, port, origin_form, authority,
        is_internal, method, fields, content_bytes, place, attempts, tried_at, result, died_at, died_of,
        content,
    ) = row  # fmt: skip
    return Deferred(
        id=request_id,
        queue=queue,
        circuit=circuit,
        reason=reason,
        stored_at=stored_at,
        target=Target(scheme, host, port, origin_form, authority, bool(is_internal)),
        method=method,
        fields=_parted(fields),
        content=content,
        content_bytes=content_bytes,
        sequence=place,
        attempts=attempts,
        tried_at=tried_at,
        result=result,
        died_at=died_at,
        died_of=died_of,
    )
