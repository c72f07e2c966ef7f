"""What is read is bounded, and what is written stands wholly or not at all."""

import os
import stat
from pathlib import Path

import pytest

from proxy.wire import certificate_files
from proxy.wire.certificate_files import (
    MAX_FILE_BYTES,
    CertificateFault,
    create,
    make_directory,
    read,
    read_if_there,
    replace,
)


def fault(path: Path) -> str:
    with pytest.raises(CertificateFault) as raised:
        read(path)
    assert raised.value.path == str(path)
    assert str(raised.value) == f"{path}: {raised.value.reason}"
    return raised.value.reason


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Reading.


def test_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    path.chmod(0o640)
    assert read(path) == certificate_files.File(b"x", 0o640)
    assert read_if_there(path) == read(path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert fault(tmp_path / "a") == "cannot be read: No such file or directory"
    assert fault(tmp_path) == "cannot be read: Is a directory"
    assert fault(Path("a\0b")) == "cannot be read: embedded null byte"
    assert fault(Path("/dev/zero")) == "cannot be read: it is not a regular file"


def test_a_pipe_does_not_hold_the_start_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert fault(tmp_path / "pipe") == "cannot be read: it is not a regular file"


def test_a_file_has_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES)
    assert len(read(path).content) == MAX_FILE_BYTES
    with path.open("ab") as file:
        file.write(b"x")
    assert fault(path) == "cannot be read: it is larger than 16 MiB"


def test_what_is_missing_is_none_and_what_is_wrong_is_not(tmp_path: Path) -> None:
    assert read_if_there(tmp_path / "a") is None
    with pytest.raises(CertificateFault, match="Is a directory"):
        read_if_there(tmp_path)


# Writing.


def test_a_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert create(path, b"first", 0o600)
    assert not create(path, b"second", 0o644)
    assert read(path) == certificate_files.File(b"first", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"first", b"second"):
        replace(path, content, 0o644)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_what_was_asked_for_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        create(tmp_path / "a", b"", 0o600)
        replace(tmp_path / "b", b"", 0o644)
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o600, 0o644)


def test_nobody_else_can_read_a_file_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    before = os.fchmod

    def fchmod(descriptor: int, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        before(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)
    create(tmp_path / "a", b"", 0o644)
    assert seen == [0o600]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "a").symlink_to("theirs")
    assert not create(tmp_path / "a", b"ours", 0o644)
    replace(tmp_path / "a", b"ours", 0o644)
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "a").is_symlink()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path, why in (
        (tmp_path / "none" / "a", "No such file or directory"),
        (tmp_path / "file" / "a", "Not a directory"),
        (tmp_path / "folder", "Is a directory"),
    ):
        with pytest.raises(CertificateFault) as raised:
            replace(path, b"", 0o644)
        assert str(raised.value) == f"{path}: cannot be written: {why}"
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}
    with pytest.raises(CertificateFault, match="none/a: cannot be written: No such file"):
        create(tmp_path / "none" / "a", b"", 0o644)


def test_a_file_system_without_hard_links_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(CertificateFault, match="a: cannot be written: Operation not permitted"):
        create(tmp_path / "a", b"", 0o600)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_flush_directories_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        before(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert create(tmp_path / "a", b"", 0o600)


def test_what_a_crash_has_left_is_removed_later_and_nothing_else(tmp_path: Path) -> None:
    old = [".breaker-proxy-0123456789abcdef.tmp"]
    kept = [
        ".breaker-proxy-fedcba9876543210.tmp",
        ".breaker-proxy-0123456789abcdeg.tmp",
        ".breaker-proxy-settings",
        "mine.tmp",
    ]
    for name in (*old, *kept):
        (tmp_path / name).touch()
        if name != kept[0]:
            os.utime(tmp_path / name, (0, 0))
    # What cannot be removed does no harm.
    (tmp_path / ".breaker-proxy-00000000000000ff.tmp").mkdir()
    os.utime(tmp_path / ".breaker-proxy-00000000000000ff.tmp", (0, 0))
    replace(tmp_path / "a", b"", 0o644)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a", ".breaker-proxy-00000000000000ff.tmp", *kept}


def test_directories(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b", 0o700)
    make_directory(tmp_path / "a" / "b", 0o755)
    assert mode(tmp_path / "a" / "b") == 0o700
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "a", "Not a directory")):
        with pytest.raises(CertificateFault) as raised:
            make_directory(path, 0o700)
        assert str(raised.value) == f"{path}: cannot be made: {why}"
