"""The file over a restart: what stands in it, when it is written, and that nothing about it does harm."""

import asyncio
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.circuits import HOST, POLICY, Rig
from support.process import PATIENCE_S

from proxy.control.config import ConfigError
from proxy.control.state_file import LOOK_S, MAX_FILE_BYTES, REFRESH_S, SLICE, StateFile, _written, check
from proxy.core.breaker import Circuit
from proxy.core.overrides import Force
from proxy.core.policies import Policies
from proxy.core.policy import Limits, Settings
from proxy.core.record import Record
from proxy.core.snapshot import take
from proxy.core.states import Condition, State

# 2026-11-23, 18:00:00 UTC.
SAVED_AT = 1_795_456_800.0
SAVED_AT_TEXT = "2026-11-23T18:00:00+00:00"
POLICIES = Policies(Settings(circuit=POLICY))


@dataclass
class Process:
    """A table with its file, and the clock on the wall."""

    path: Path
    wall: float = SAVED_AT
    rig: Rig = field(default_factory=Rig)

    def __post_init__(self) -> None:
        self.file = StateFile(
            str(self.path), self.rig.circuits, lambda key: POLICIES.of_circuit(key).circuit, lambda: self.wall
        )

    def looks(self, now: float) -> bool:
        """Whether it writes the file at this look."""

        async def look() -> bool:
            self.file.look(now)
            started = writing()
            await asyncio.gather(*started)
            return bool(started)

        return asyncio.run(look())

    def close(self, now: float) -> None:
        """Writes it for the last time."""
        asyncio.run(self.file.close(now))


def writing() -> list[asyncio.Task[Any]]:
    """What writes the file at the moment."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "save the state"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


def saved(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def opened(path: Path) -> Process:
    """One that has an open circuit since 0, and begins to look."""
    process = Process(path)
    process.file.restore(0.0)
    process.rig.fail(5, 0.0)
    return process


def written(path: Path) -> bytes:
    """The content of the file after a process that had an open circuit."""
    opened(path).close(10.0)
    return path.read_bytes()


def ignored_entry(path: Path, reason: str) -> dict[str, Any]:
    return {"event": "state file ignored", "log_level": "warning", "path": str(path), "reason": reason}


def not_saved_entry(path: Path, reason: str) -> dict[str, Any]:
    return {"event": "state not saved", "log_level": "warning", "path": str(path), "reason": reason}


# What is written, and read again.


def test_what_stands_in_it(path: Path) -> None:
    process = opened(path)
    process.rig.circuits.force("b.example:80", POLICY, Force.OPEN, 4.0, note="maintenance")
    process.close(10.0)
    assert saved(path) == {
        "version": 1,
        "saved_at": SAVED_AT,
        "circuits": [
            {"key": HOST, "state": "open", "level": 1, "since_s": 10.0, "left_s": 20.0, "spread_s": 0.0}
            | {"told_by": "", "note": ""},
            {"key": "b.example:80", "state": "forced_open", "level": 0, "since_s": 6.0, "left_s": None}
            | {"spread_s": 0.0, "told_by": "", "note": "maintenance"},
        ],
    }


def test_the_next_process_goes_on(path: Path, logs: list[Any]) -> None:
    first = opened(path)
    first.rig.circuits.force("b.example:80", POLICY, Force.OPEN, 4.0, note="maintenance")
    first.close(10.0)
    second = Process(path, SAVED_AT + 8.5)
    second.file.restore(5000.0)
    assert second.rig.refusal(5000.0) == ("circuit_open", 12)
    assert second.rig.condition(5000.0, "b.example:80") is Condition.FORCED_OPEN
    assert logs == [
        {"event": "circuits restored", "log_level": "info", "path": str(path), "circuits": 2, "ignored": 0}
        | {"saved_at": SAVED_AT_TEXT, "elapsed_s": 8.5}
    ]


def test_what_is_too_old_is_told_as_ignored(path: Path, logs: list[Any]) -> None:
    written(path)
    process = Process(path, SAVED_AT + 3600)
    process.file.restore(0.0)
    assert len(process.rig.circuits) == 0
    assert [(entry["circuits"], entry["ignored"], entry["elapsed_s"]) for entry in logs] == [(0, 1, 3600.0)]


def test_a_file_from_the_future_is_of_now(path: Path, logs: list[Any]) -> None:
    written(path)
    process = Process(path, SAVED_AT - 86400)
    process.file.restore(0.0)
    assert process.rig.refusal(0.0) == ("circuit_open", 20)
    assert [entry["elapsed_s"] for entry in logs] == [0.0]


def test_the_first_process_finds_none(path: Path, logs: list[Any]) -> None:
    Process(path).file.restore(0.0)
    assert logs == []


def test_who_never_read_it_does_not_write_it(path: Path) -> None:
    # Its addresses were in use: the file is that of the process that has them.
    before = written(path)
    Process(path).close(0.0)
    assert path.read_bytes() == before


def test_when_all_is_closed_nothing_is_left_in_it(path: Path) -> None:
    written(path)
    process = Process(path)
    process.file.restore(0.0)
    process.rig.circuits.reset(HOST, 0.0)
    process.close(1.0)
    assert saved(path)["circuits"] == []


# When it is written.


def test_it_is_written_when_something_has_changed(path: Path) -> None:
    process = Process(path)
    process.file.restore(0.0)
    # At once, so that a file that cannot be written is told at the start.
    assert process.looks(0.1)
    assert saved(path)["circuits"] == []
    process.rig.fail(5, 0.2)
    assert not process.looks(0.1 + LOOK_S - 0.01)
    assert process.looks(0.1 + LOOK_S)
    assert saved(path)["circuits"][0]["left_s"] == pytest.approx(30.0 - 4.9)
    process.rig.refusal(6.0)
    assert not process.looks(20.0)
    process.rig.circuits.advance(31.0)
    assert process.looks(31.0)
    assert saved(path)["circuits"][0]["state"] == "half_open"


def test_while_something_is_to_be_remembered_the_file_says_when_the_proxy_was_last_alive(
    path: Path,
) -> None:
    process = opened(path)
    assert process.looks(0.0)
    process.rig.circuits.advance(30.0)
    assert process.looks(30.0)
    process.wall += 1000.0
    assert not process.looks(30.0 + REFRESH_S - 0.01)
    assert process.looks(30.0 + REFRESH_S + LOOK_S)
    assert saved(path)["saved_at"] == SAVED_AT + 1000.0
    process.rig.circuits.reset(HOST, 500.0)
    assert process.looks(500.0)
    assert not process.looks(5000.0)


async def test_only_one_writes_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = opened(path)
    writes: list[str] = []
    may_end = Event()

    def slow(file: Path, content: Any) -> str | None:
        writes.append("begun")
        # As a disk that takes its time.
        assert may_end.wait(PATIENCE_S)
        writes.append("ended")
        return _written(file, content)

    monkeypatch.setattr("proxy.control.state_file._written", slow)
    process.file.look(0.0)
    process.rig.circuits.reset(HOST, 1.0)
    process.file.look(LOOK_S)
    process.file.look(2 * LOOK_S)
    assert len(writing()) == 1
    # The last one waits for it, and has the last word.
    closing = asyncio.create_task(process.file.close(2 * LOOK_S))
    for _ in range(1000):
        await asyncio.sleep(0)
    may_end.set()
    await closing
    assert writes == ["begun", "ended"] * 2
    assert saved(path)["circuits"] == []


async def test_what_changes_while_it_is_written_is_written_next(path: Path) -> None:
    process = Process(path)
    process.file.restore(0.0)
    process.file.look(0.0)
    # By now it has looked at the table.
    await asyncio.sleep(0)
    process.rig.fail(5, 0.0)
    await asyncio.gather(*writing())
    assert saved(path)["circuits"] == []
    process.file.look(LOOK_S)
    await asyncio.gather(*writing())
    assert len(saved(path)["circuits"]) == 1


async def test_a_large_table_does_not_hold_the_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(path)
    process.file.restore(0.0)
    for number in range(2 * SLICE + 1):
        process.rig.circuits.force(f"host{number}:80", POLICY, Force.OPEN, 0.0)
    turns = 0
    taken: list[tuple[int, int]] = []

    def counted(circuits: list[Circuit], now: float) -> list[Record]:
        taken.append((turns, len(circuits)))
        return take(circuits, now)

    monkeypatch.setattr("proxy.control.state_file.take", counted)
    process.file.look(0.0)
    while writing():
        await asyncio.sleep(0)
        turns += 1
    assert taken == [(0, SLICE), (1, SLICE), (2, 1)]
    assert len(saved(path)["circuits"]) == 2 * SLICE + 1


# What is ignored.


def test_a_file_that_was_cut_is_reported_and_ignored(path: Path, logs: list[Any]) -> None:
    content = written(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        process = Process(path)
        process.file.restore(0.0)
        assert len(process.rig.circuits) == 0
    assert {(entry["event"], entry["log_level"]) for entry in logs} == {("state file ignored", "warning")}
    assert len(logs) == len(content)


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(suppress_health_check=list(HealthCheck), max_examples=300)
def test_a_byte_that_has_changed_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.unlink(missing_ok=True)
    content = bytearray(written(path))
    content[place % len(content)] = byte
    path.write_bytes(content)
    process = Process(path)
    process.file.restore(0.0)
    # At worst a time has another digit.
    assert process.rig.refusal(0.0) is None or process.rig.condition(300.0) is Condition.HALF_OPEN


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated"),
        (b"\0" * 4096, "malformed"),
        (b"null", "Expected `object`"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `version`"),
        (b'{"version": 2, "circuits": 7}', "it has version 2, and this program knows 1"),
        (b'{"version": "1"}', "Expected `int`"),
        (b'{"version": 1}', "missing required field `saved_at`"),
        (b'{"version": 1, "saved_at": -1, "circuits": []}', "saved_at is no time"),
        (b'{"version": 1, "saved_at": 1e300, "circuits": []}', "saved_at is no time"),
        (b'{"version": 1, "saved_at": 1e999, "circuits": []}', ""),
        (b'{"version": 1, "saved_at": NaN, "circuits": []}', "malformed"),
        (b'{"version": 1, "saved_at": 1, "circuits": [7]}', "Expected `object`"),
        (b'{"version": 1, "saved_at": 1, "x": ' + b"[" * 1_000_000, ""),
    ],
)
def test_what_is_no_state_is_reported_and_ignored(
    path: Path, content: bytes, reason: str, logs: list[Any]
) -> None:
    path.write_bytes(content)
    process = Process(path)
    process.file.restore(0.0)
    (entry,) = logs
    assert entry == ignored_entry(path, entry["reason"])
    assert reason in entry["reason"]
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "changes",
    [
        {"level": -1},
        {"level": 10**9},
        {"level": 1.5},
        {"since_s": -1},
        {"left_s": -1},
        {"left_s": None},
        {"left_s": "20"},
        {"state": "closed"},
        {"state": "ajar"},
        {"key": 7},
        {"spread_s": None},
    ],
)
def test_one_wrong_record_spoils_the_file(path: Path, changes: dict[str, Any], logs: list[Any]) -> None:
    written(path)
    content = saved(path)
    content["circuits"].append(content["circuits"][0] | {"key": "b.example:80"} | changes)
    path.write_text(json.dumps(content))
    process = Process(path)
    process.file.restore(0.0)
    assert len(process.rig.circuits) == 0
    assert [entry["event"] for entry in logs] == ["state file ignored"]


def test_what_another_program_adds_is_passed_over(path: Path) -> None:
    written(path)
    content = saved(path) | {"more": {"of": ["it"]}}
    content["circuits"][0]["more"] = 1
    path.write_text(json.dumps(content))
    process = Process(path)
    process.file.restore(0.0)
    assert process.rig.state(0.0) is State.OPEN


def test_a_file_has_a_size(path: Path, logs: list[Any]) -> None:
    with path.open("wb") as file:
        file.truncate(10 * MAX_FILE_BYTES)
    Process(path).file.restore(0.0)
    assert logs == [ignored_entry(path, "it is larger than 16 MiB")]


def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path, logs: list[Any]) -> None:
    elsewhere = tmp_path / "elsewhere"
    content = written(elsewhere)
    path.symlink_to(elsewhere)
    process = opened(path)
    assert logs == [ignored_entry(path, "it is a symbolic link")]
    # It is replaced, and what it leads to is not touched.
    process.close(1.0)
    assert elsewhere.read_bytes() == content
    assert not path.is_symlink()
    assert saved(path)["circuits"][0]["since_s"] == 1.0


def test_a_pipe_does_not_hold_the_start_up(path: Path, logs: list[Any]) -> None:
    os.mkfifo(path)
    Process(path).file.restore(0.0)
    assert logs == [ignored_entry(path, "it is not a regular file")]


def test_what_everybody_may_write_is_not_believed(path: Path, logs: list[Any]) -> None:
    written(path)
    # Kubernetes gives what is on a volume to its group, by fsGroup.
    path.chmod(0o660)
    process = Process(path)
    process.file.restore(0.0)
    assert len(process.rig.circuits) == 1
    path.chmod(0o602)
    logs.clear()
    process = Process(path)
    process.file.restore(0.0)
    assert len(process.rig.circuits) == 0
    assert logs == [ignored_entry(path, "everybody may write to it")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_what_belongs_to_another_is_not_believed(path: Path, logs: list[Any]) -> None:
    written(path)
    os.chown(path, 65532, 65532)
    Process(path).file.restore(0.0)
    assert logs == [ignored_entry(path, "it belongs to user 65532, and we are user 0")]


# How it is written.


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_it_is_for_nobody_else(path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        written(path)
    finally:
        os.umask(before)
    assert stat.filemode(path.stat().st_mode) == "-rw-------"


def test_nothing_else_is_left_beside_it(path: Path, tmp_path: Path) -> None:
    # As a process leaves it that is killed while it writes.
    (tmp_path / ".state.json.tmp").write_bytes(b'{"version"')
    written(path)
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_what_stands_in_the_way_is_not_written_through(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / ".state.json.tmp").symlink_to(precious)
    written(path)
    assert precious.read_text() == "precious"


def test_it_is_replaced_at_once(path: Path) -> None:
    content = written(path)
    with path.open("rb") as read_by_another:
        process = Process(path)
        process.file.restore(0.0)
        process.rig.circuits.reset(HOST, 1.0)
        process.close(1.0)
        assert path.read_bytes() != content
        assert read_by_another.read() == content


def test_what_cannot_be_written_is_told_once_and_tried_again(path: Path, logs: list[Any]) -> None:
    process = opened(path)
    folder = path.parent
    away = folder.with_name("away")
    folder.rename(away)
    for look in range(3):
        assert process.looks(look * LOOK_S)
    assert logs == [not_saved_entry(path, "No such file or directory")]
    # Another reason is told as well.
    folder.write_text("a file")
    assert process.looks(3 * LOOK_S)
    assert logs[1:] == [not_saved_entry(path, "Not a directory")]
    folder.unlink()
    away.rename(folder)
    assert process.looks(4 * LOOK_S)
    assert logs[2:] == [{"event": "state saved again", "log_level": "info", "path": str(path)}]
    assert len(saved(path)["circuits"]) == 1


def test_a_directory_in_its_place(path: Path, tmp_path: Path, logs: list[Any]) -> None:
    process = opened(path)
    path.mkdir()
    process.close(1.0)
    assert logs == [not_saved_entry(path, "Is a directory")]
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_what_would_not_be_read_is_not_written(path: Path, logs: list[Any]) -> None:
    process = Process(path)
    process.file.restore(0.0)
    process.rig.circuits.force(HOST, POLICY, Force.OPEN, 0.0, note="x" * MAX_FILE_BYTES)
    process.close(1.0)
    assert logs == [not_saved_entry(path, "it would be larger than 16 MiB")]


def test_as_many_as_the_table_holds_fit(path: Path) -> None:
    limits = Limits()
    process = Process(path, rig=Rig(limits=limits))
    process.file.restore(0.0)
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 55])
    for number in range(limits.max_circuits):
        process.rig.circuits.force(f"{number:05}.{longest}:65535", POLICY, Force.OPEN, 0.0)
    process.close(1.0)
    after = Process(path)
    after.file.restore(0.0)
    assert len(after.rig.circuits) == limits.max_circuits
    assert path.stat().st_size < MAX_FILE_BYTES / 3


# What is a fault of the configuration.


def faults(path: str | Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        check(str(path))
    return [str(fault) for fault in raised.value.faults]


def test_a_directory_that_is_missing_is_a_fault(path: Path, tmp_path: Path) -> None:
    check(str(path))
    missing = tmp_path / "missing"
    wrong = missing / "state.json"
    assert faults(wrong) == [f"{wrong}: state_file: the directory {missing} does not exist"]
    assert faults(tmp_path) == [f"{tmp_path}: state_file: it is a directory, and should be a file in one"]
    assert faults("a\0b") == ["a\0b: state_file: embedded null byte"]
    long = tmp_path / ("x" * 300) / "state.json"
    assert faults(long) == [f"{long}: state_file: File name too long"]


def test_a_relative_path_begins_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check("state.json")
    with pytest.raises(ConfigError):
        check("missing/state.json")


def test_checking_makes_nothing(path: Path, tmp_path: Path) -> None:
    check(str(path))
    assert list(tmp_path.iterdir()) == []
