"""The token of the admin port: read from a file of others, or made and left in one of our own."""

import os
import stat
import tempfile
from pathlib import Path

import pytest
import structlog.testing
from support.sidecar import Clock

from proxy.control.admin_token import MadeToken, TokenFile, read
from proxy.control.config import ConfigError

TOKEN = "0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def runtime(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


def made(environ: dict[str, str], port: int = 3129) -> tuple[MadeToken, dict[str, object]]:
    token = MadeToken()
    with structlog.testing.capture_logs() as lines:
        token.write(port, environ)
    assert len(lines) == 1
    return token, dict(lines[0])


def test_the_one_in_the_file_is_right(file: Path) -> None:
    token = TokenFile(str(file), Clock(), TOKEN.encode())
    assert token.check(TOKEN)
    for wrong in ("", TOKEN[:-1], f"{TOKEN}0", f"{TOKEN}\n", "\udcff", "x" * 100_000):
        assert not token.check(wrong)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"short", TOKEN.encode() + b" x", b"x" * 513, b"\xff" * 20, b"x" * 2_000_000]
)
def test_what_is_no_token_ends_the_start_and_is_not_told(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"admin.token_file: (expected|cannot be read)") as raised:
        read(str(file))
    assert "short" not in str(raised.value)


def test_so_does_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read(str(path))


def test_a_change_counts_after_a_second(file: Path) -> None:
    clock = Clock(0.0)
    token = TokenFile(str(file), clock, TOKEN.encode())
    file.write_text("another-token-of-16")
    clock.now = 0.9
    assert token.check(TOKEN)
    clock.now = 1.0
    assert not token.check(TOKEN)
    assert token.check("another-token-of-16")


def test_while_it_cannot_be_read_nobody_is_let_in_which_is_said_once(file: Path) -> None:
    clock = Clock(0.0)
    token = TokenFile(str(file), clock, TOKEN.encode())
    file.unlink()
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            clock.now += 1
            assert not token.check(TOKEN)
    assert [line["event"] for line in lines] == ["admin token not readable"]
    file.write_text(TOKEN)
    clock.now += 1
    assert token.check(TOKEN)


def test_ours_is_left_where_only_our_user_can_read_it(tmp_path: Path, runtime: dict[str, str]) -> None:
    token, line = made(runtime)
    path = tmp_path / "breaker-proxy" / "admin-3129.token"
    assert line == {"event": "admin token written", "path": str(path), "log_level": "info"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert token.check(path.read_text().strip())
    assert not token.check("")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_before_it_is_written_none_is_right() -> None:
    assert not MadeToken().check("")


def test_each_process_has_its_own_and_takes_only_that_away(tmp_path: Path, runtime: dict[str, str]) -> None:
    first, _ = made(runtime)
    other, _ = made(runtime, 3130)
    second, _ = made(runtime)
    path = tmp_path / "breaker-proxy" / "admin-3129.token"
    assert second.check(path.read_text().strip())
    first.remove()
    assert path.exists()
    second.remove()
    assert not path.exists()
    second.remove()
    other.remove()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["writable by others", "link", "file", "missing"])
def test_where_others_could_change_it_it_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    folder = tmp_path / "breaker-proxy"
    if kind == "writable by others":
        folder.mkdir()
        folder.chmod(0o777)
    elif kind == "link":
        (tmp_path / "theirs").mkdir()
        folder.symlink_to(tmp_path / "theirs")
    elif kind == "file":
        folder.write_text("x")
    runtime = tmp_path / "missing" if kind == "missing" else tmp_path
    token, line = made({"XDG_RUNTIME_DIR": str(runtime)})
    assert line["log_level"] == "warning"
    assert line["event"] == "admin token not written: the API lets nobody in"
    faults = line["faults"]
    assert isinstance(faults, list)
    assert len(faults) == 2
    assert not token.check("")
    token.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_nor_in_a_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    (tmp_path / "breaker-proxy").mkdir(mode=0o700)
    os.chown(tmp_path / "breaker-proxy", 12345, 12345)
    _, line = made({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert line["log_level"] == "warning"


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(
    tmp_path: Path, runtime: dict[str, str]
) -> None:
    (tmp_path / "breaker-proxy").mkdir(mode=0o700)
    (tmp_path / "target").write_text("x")
    path = tmp_path / "breaker-proxy" / "admin-3129.token"
    path.symlink_to(tmp_path / "target")
    made(runtime)
    assert not path.is_symlink()
    assert (tmp_path / "target").read_text() == "x"
