"""Whatever a path turns out to be, reading it ends at once, and gives no more than was asked for."""

import os
import socket
from pathlib import Path

import pytest

from proxy import regular_file


def test_a_file_is_read_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    path.chmod(0o640)
    content, status = regular_file.read(path, 4)
    assert (content, status.st_mode & 0o777, status.st_uid) == (b"four", 0o640, os.geteuid())


@pytest.mark.parametrize(("most", "told"), [(3, "0 KiB"), (2048, "2 KiB"), (3 << 20, "3 MiB")])
def test_a_larger_one_is_refused(tmp_path: Path, most: int, told: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(most))
    assert len(regular_file.read(path, most)[0]) == most
    path.write_bytes(bytes(most + 1))
    with pytest.raises(ValueError, match=f"larger than {told}"):
        regular_file.read(path, most)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for path in ("pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            regular_file.read(path, 10)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for path in ("socket", ".", "missing"):
            with pytest.raises(OSError, match=path):
                regular_file.read(path, 10)
    with pytest.raises(ValueError, match="null"):
        regular_file.read("a\0b", 10)


def test_a_pipe_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def open_(name: str, *arguments: int) -> int:
        opened.append(name)
        return os_open(name, *arguments)

    os_open = os.open
    monkeypatch.setattr(os, "open", open_)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        regular_file.read(tmp_path / "pipe", 10)
    assert opened == []


def test_a_link_is_followed_unless_it_is_told_not_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert regular_file.read(tmp_path / "link", 1)[0] == b"x"
    with pytest.raises(OSError, match="link"):
        regular_file.read(tmp_path / "link", 1, os.O_NOFOLLOW)
