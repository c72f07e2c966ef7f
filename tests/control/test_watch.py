"""Files that change, and when that is noticed. Those of tokens are in test_credentials_file.py."""

import os
from pathlib import Path

import pytest

from proxy.control.watch import Watch, seen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text("one")
    return file


def settled(*paths: Path) -> Watch:
    """Files that have long been there."""
    watch = Watch(map(str, paths))
    for now in (0.0, 1.0):
        watch.has_changed(now)
        assert not watch.read()
    assert not watch.has_changed(2.0)
    return watch


def test_no_file_never_changes() -> None:
    watch = Watch()
    assert [watch.has_changed(now) for now in (0.0, 1.0, 2.0)] == [False] * 3
    assert not watch.read()


def test_it_looks_once_a_second(path: Path) -> None:
    watch = settled(path)
    path.write_text("two")
    assert not watch.has_changed(2.9)
    assert watch.has_changed(3.0)
    assert watch.read()


def test_what_has_changed_is_read_once_more_behind_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = settled(path)
    path.write_text("two")
    assert watch.has_changed(3.0)
    assert watch.read()
    # As if the clock of the file system had not gone on.
    same = seen(str(path))
    monkeypatch.setattr("proxy.control.watch.seen", lambda _: same)
    path.write_text("six")
    assert watch.has_changed(4.0)
    assert watch.read()
    assert not watch.has_changed(5.0)


def test_another_time_is_no_other_content(path: Path) -> None:
    watch = settled(path)
    os.utime(path, ns=(0, 0))
    assert watch.has_changed(3.0)
    assert not watch.read()


def test_the_symlinks_of_a_kubernetes_config_map(tmp_path: Path) -> None:
    """config.yaml -> ..data/config.yaml, ..data -> ..1; then ..data is replaced by one that leads to ..2."""
    for number in (1, 2):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        (folder / "config.yaml").write_text(f"of {number}")
        os.utime(folder / "config.yaml", ns=(0, 0))
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "config.yaml"
    path.symlink_to("..data/config.yaml")
    watch = settled(path)
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    assert watch.has_changed(3.0)
    assert watch.read()


def test_what_cannot_be_read_is_tried_again_each_time(path: Path) -> None:
    watch = settled(path)
    path.unlink()
    assert watch.has_changed(3.0)
    assert watch.read()
    for now in (4.0, 5.0, 6.0):
        assert watch.has_changed(now)
        assert not watch.read()
    path.write_text("one")
    assert watch.has_changed(7.0)
    assert watch.read()


def test_a_pipe_does_not_hold_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert not Watch([str(pipe)]).read()
    assert not Watch(["a\0b"]).read()


def test_other_files_may_be_followed(path: Path, tmp_path: Path) -> None:
    watch = settled(path)
    other = tmp_path / "ca.pem"
    other.write_text("a")
    # What has not been read since it changed is not forgotten.
    path.write_text("two")
    watch.follow([str(path), str(other)])
    assert watch.read()
    other.write_text("b")
    assert watch.read()
    watch.follow([str(path)])
    other.write_text("c")
    assert not watch.read()
