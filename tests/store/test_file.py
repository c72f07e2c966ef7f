"""The file itself: what opening one finds."""

import sqlite3
from pathlib import Path

import pytest
from support.deferred import deferred

from proxy.store.file import DeferredFile, bytes_of


def test_two_cannot_have_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    first = DeferredFile(path)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        DeferredFile(path)
    first.close()
    DeferredFile(path).close()


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(sqlite3.NotSupportedError, match="its version is 99, and this program knows 1"):
        DeferredFile(path)


def test_every_commit_is_synced(tmp_path: Path) -> None:
    file = DeferredFile(tmp_path / "deferred.db")
    database = file._database  # noqa: SLF001 -- nothing else tells what it asks of the disk
    pragmas = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    file.close()
    assert pragmas == ["wal", 2]


def test_trying_whether_there_is_room_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    file = DeferredFile(path)
    file.ensure_room(100_000)
    file.ensure_room(100_000)
    file.close()
    contents = "SELECT count(*) FROM content"
    with sqlite3.connect(path) as database:
        assert database.execute(contents).fetchone() == (0,)
        # Somebody has killed it in the middle.
        database.execute("INSERT INTO content VALUES (-1, x'00')")
    database.close()
    file = DeferredFile(path)
    assert file._database.execute(contents).fetchone() == (0,)  # noqa: SLF001 -- it is no request
    file.close()


def test_what_was_not_committed_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deferred.db"
    file = DeferredFile(path)
    file.begin()
    file.add(deferred(1))
    file.commit()
    file.begin()
    file.add(deferred(2))
    file.close()
    file = DeferredFile(path)
    assert [place for place, *_ in file.overview()] == [1]
    file.close()


def test_fields_count_as_bytes_too() -> None:
    assert bytes_of(deferred(1, content=b"1234", fields=[(b"A", b"bc"), (b"D", b"")])) == 4 + len(b"A:bc\nD:")
    assert bytes_of(deferred(1, content=b"", fields=[])) == 0
