"""The file with the tokens: how faults are told, and when it is read again."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.credentials import OTHER, TOKEN, field, line

from proxy.control.config import ConfigError
from proxy.control.credentials_file import MAX_FILE_BYTES, CredentialsFile, read

KEY = "listen.credentials_file"
EXPECTED = "expected NAME:SHA256, as `breaker-proxy token NAME` writes it"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text(line())
    return file


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


def value(name: str = "ci", token: str = TOKEN) -> list[bytes]:
    return [field(name, token).partition(": ")[2].encode()]


def started(path: Path) -> CredentialsFile:
    """The file as it is after the start."""
    file = CredentialsFile(str(path))
    file.configure(read(str(path)))
    return file


def faults(path: Path | str) -> list[str]:
    """What is wrong with the file, as the command line and the log tell it."""
    with pytest.raises(ConfigError) as raised:
        read(str(path))
    return [str(fault) for fault in raised.value.faults]


# What is told.


def test_a_good_file(path: Path) -> None:
    assert read(str(path)).check(value()) == "ci"


def test_a_relative_path_begins_at_the_working_directory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert read("tokens").check(value()) == "ci"


def test_faults_are_told_with_their_lines_and_without_the_content(path: Path) -> None:
    path.write_text(f"# ours\n{line()}ci:s3cret\ns3cret\n")
    assert faults(path) == [f"{path}:3: {EXPECTED}", f"{path}:4: {EXPECTED}"]


def test_a_file_without_a_token_is_a_fault(path: Path) -> None:
    path.write_text("# nobody yet\n")
    expected = "expected at least one line NAME:SHA256; see `breaker-proxy token NAME`"
    assert faults(path) == [f"{path}: {KEY}: {expected}"]


def test_a_file_that_cannot_be_read(path: Path) -> None:
    missing = path.parent / "missing"
    assert faults(missing) == [f"{missing}: {KEY}: cannot be read: No such file or directory"]
    assert faults(path.parent) == [f"{path.parent}: {KEY}: cannot be read: Is a directory"]
    assert faults("a\0b") == [f"a\0b: {KEY}: cannot be read: embedded null byte"]
    assert faults("") == [f": {KEY}: cannot be read: No such file or directory"]


def test_a_pipe_does_not_hold_the_start_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert faults(pipe) == [f"{pipe}: {KEY}: cannot be read: it is not a regular file"]


def test_a_device_is_not_read_for_ever() -> None:
    assert faults("/dev/zero") == [f"/dev/zero: {KEY}: cannot be read: it is not a regular file"]


def test_a_file_has_a_size(path: Path) -> None:
    with path.open("a") as file:
        file.write("#" * (MAX_FILE_BYTES - len(line())))
    assert read(str(path)).tokens == 1
    with path.open("a") as file:
        file.write("#")
    assert faults(path) == [f"{path}: {KEY}: cannot be read: it is larger than 1 MiB"]


# When it is read again.


def read_entry(path: Path, names: int = 1, tokens: int = 1) -> dict[str, Any]:
    return {
        "event": "credentials read",
        "log_level": "info",
        "path": str(path),
        "names": names,
        "tokens": tokens,
    }


def kept_entry(*told: str) -> dict[str, Any]:
    return {"event": "credentials not changed", "log_level": "warning", "faults": list(told)}


def test_the_start_is_told(path: Path, logs: list[Any]) -> None:
    path.write_text(line() + line(token=OTHER))
    started(path)
    assert logs == [read_entry(path, names=1, tokens=2)]


def test_a_bad_file_is_a_fault_at_the_start(path: Path, logs: list[Any]) -> None:
    path.write_text("ci")
    with pytest.raises(ConfigError):
        started(path)
    assert logs == []


def test_it_is_looked_at_once_a_second(path: Path, logs: list[Any]) -> None:
    file = started(path)
    file.look(100.0)
    path.write_text(line("web", OTHER))
    file.look(100.9)
    assert file.check(value()) == "ci"
    file.look(101.0)
    assert file.check(value()) is None
    assert file.check(value("web", OTHER)) == "web"
    assert logs == [read_entry(path)] * 2


def test_a_file_that_stays_is_read_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = started(path)
    file.look(1.0)
    opened: list[str] = []

    def content(path: str, _most_bytes: int) -> tuple[bytes, None]:
        opened.append(path)
        return line().encode(), None

    monkeypatch.setattr("proxy.regular_file.read", content)
    for now in range(2, 10):
        file.look(now)
    assert opened == []
    os.utime(path, ns=(0, 0))
    for now in range(10, 20):
        file.look(now)
    # Once for the change, and once more behind it.
    assert opened == [str(path)] * 2


def test_nothing_is_told_where_nothing_has_changed(path: Path, logs: list[Any]) -> None:
    file = started(path)
    os.utime(path, ns=(0, 0))
    file.look(1.0)
    path.write_text("# the same\n" + line())
    file.look(2.0)
    file.look(3.0)
    assert logs == [read_entry(path)]


@pytest.mark.parametrize("at_start", [True, False])
def test_a_change_within_one_tick_of_the_file_systems_clock_is_seen(path: Path, *, at_start: bool) -> None:
    file = started(path)
    if not at_start:
        path.write_text("# a change\n" + line())
        file.look(1.0)
        file.look(2.0)
        path.write_text(line())
        file.look(3.0)
    status = path.stat()
    path.write_text(line(token=OTHER))
    # As if the clock had not gone on.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    file.look(4.0)
    assert file.check(value(token=OTHER)) == "ci"


def test_a_file_that_is_replaced_is_seen(path: Path, tmp_path: Path) -> None:
    file = started(path)
    file.look(1.0)
    file.look(2.0)
    status = path.stat()
    new = tmp_path / "new"
    new.write_text(line(token=OTHER))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)
    file.look(3.0)
    assert file.check(value(token=OTHER)) == "ci"


def test_the_symlinks_of_a_kubernetes_secret(tmp_path: Path) -> None:
    """tokens -> ..data/tokens, ..data -> ..1; then ..data is replaced by one that leads to ..2."""
    for number, token in ((1, TOKEN), (2, OTHER)):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        (folder / "tokens").write_text(line(token=token))
        os.utime(folder / "tokens", ns=(0, 0))
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "tokens"
    path.symlink_to("..data/tokens")
    file = started(path)
    file.look(1.0)
    file.look(2.0)
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    file.look(3.0)
    assert file.check(value()) is None
    assert file.check(value(token=OTHER)) == "ci"


def test_what_a_reload_has_read_holds_at_once(path: Path, logs: list[Any]) -> None:
    file = started(path)
    path.write_text(line("web", OTHER))
    file.configure(read(str(path)))
    file.configure(read(str(path)))
    assert file.check(value("web", OTHER)) == "web"
    file.look(1.0)
    assert logs == [read_entry(path)] * 2


def test_what_a_slow_reload_has_read_does_not_hold_for_longer_than_a_look(path: Path) -> None:
    file = started(path)
    before = read(str(path))
    path.write_text(line("web", OTHER))
    for now in (1.0, 2.0, 3.0):
        file.look(now)
    file.configure(before)
    file.look(4.0)
    assert file.check(value()) is None
    assert file.check(value("web", OTHER)) == "web"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", f": {KEY}: expected at least one line NAME:SHA256; see `breaker-proxy token NAME`"),
        (line() + "s3cret", f":2: {EXPECTED}"),
        (line()[:-2], f":1: {EXPECTED}"),
        (None, f": {KEY}: cannot be read: No such file or directory"),
    ],
)
def test_a_bad_file_changes_nothing_and_is_told_once(
    path: Path, text: str | None, fault: str, logs: list[Any]
) -> None:
    file = started(path)
    logs.clear()
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    for now in range(1, 10):
        file.look(now)
        assert file.check(value()) == "ci"
    assert logs == [kept_entry(str(path) + fault)]
    # That all is well again is told, though it is what it was before.
    path.write_text(line())
    for now in range(10, 15):
        file.look(now)
    assert logs[1:] == [read_entry(path)]


def test_a_file_that_was_bad_in_another_way_is_told_again(path: Path, logs: list[Any]) -> None:
    file = started(path)
    logs.clear()
    for now, text in enumerate(["a", "a\nb", "# \na\nb", "# \na\nb"], start=1):
        path.write_text(text)
        file.look(now)
    told = [[1], [1, 2], [2, 3]]
    assert logs == [kept_entry(*(f"{path}:{number}: {EXPECTED}" for number in lines)) for lines in told]


def test_what_could_not_be_read_for_want_of_a_descriptor_is_read_once_there_is_one(
    path: Path, logs: list[Any]
) -> None:
    file = started(path)
    path.write_text(line(token=OTHER))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        for now in range(1, 5):
            file.look(now)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert file.check(value()) == "ci"
    assert [entry["event"] for entry in logs] == ["credentials read", "credentials not changed"]
    file.look(6.0)
    assert file.check(value(token=OTHER)) == "ci"
    assert [entry["event"] for entry in logs[2:]] == ["credentials read"]
