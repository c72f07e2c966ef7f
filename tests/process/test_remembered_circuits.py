"""A restart does not forget a dead upstream, whether the process could say goodbye or not."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.outage import LocalUpstream, assert_refused
from support.process import OPEN, RunningProxy, command, get, until

# Openings of exactly a minute, whose end is what all are told.
CIRCUIT = {"open": "1m", "open_jitter": 0, "retry_spread": 0}


@pytest.fixture
def upstream() -> Iterator[LocalUpstream]:
    with LocalUpstream() as upstream:
        yield upstream


def proxy(path: Path) -> RunningProxy:
    return RunningProxy(state_file=str(path), circuit=CIRCUIT)


@contextmanager
def begun(path: Path) -> Iterator[RunningProxy]:
    """One that has written the file for the first time, so that the next time is 5 seconds away."""
    with proxy(path) as running:
        until(path.exists, "the state is not saved")
        yield running


def call(running: RunningProxy, upstream: LocalUpstream) -> Any:
    return get(running.proxy_port, upstream.url)


def opens(running: RunningProxy, upstream: LocalUpstream) -> int:
    """The upstream dies, its circuit opens, and a second goes by; the Retry-After of the first refusal."""
    upstream.kill()
    assert [call(running, upstream).status for _ in range(5)] == [502] * 5
    refusal = call(running, upstream)
    assert_refused(refusal, upstream.authority)
    told_s = int(refusal.headers["retry-after"])
    until(lambda: int(call(running, upstream).headers["retry-after"]) < told_s, "time stands still")
    return told_s


def assert_goes_on(running: RunningProxy, upstream: LocalUpstream, path: Path, told_s: int) -> None:
    """The very first call is refused, without a word to the upstream, though that is back."""
    upstream.start()
    assert running.state(upstream.authority) == OPEN
    refusal = call(running, upstream)
    assert_refused(refusal, upstream.authority)
    assert int(refusal.headers["retry-after"]) < told_s
    assert upstream.seen == []
    restored = running.told("circuits restored")
    assert (restored["path"], restored["circuits"], restored["ignored"]) == (str(path), 1, 0)
    # It has changed in the earlier process, and not in this one.
    assert [line for line in running.lines if line["event"] == "circuit changed"] == []
    assert running.metric("transitions_total", to_state="open") == 0


def test_an_open_circuit_is_still_open_after_kill_9(tmp_path: Path, upstream: LocalUpstream) -> None:
    path = tmp_path / "state.json"
    with begun(path) as before:
        told_s = opens(before, upstream)
        until(lambda: upstream.authority in path.read_text(), "the state is not saved")
        before.crash()
    with proxy(path) as after:
        assert_goes_on(after, upstream, path, told_s)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_an_open_circuit_is_still_open_after_a_restart(
    tmp_path: Path, upstream: LocalUpstream, ending: signal.Signals
) -> None:
    path = tmp_path / "state.json"
    with begun(path) as before:
        told_s = opens(before, upstream)
        before.send(ending)
        assert before.ended() == 0
    with proxy(path) as after:
        assert_goes_on(after, upstream, path, told_s)


def test_without_a_state_file_it_is_forgotten(upstream: LocalUpstream) -> None:
    with RunningProxy(circuit=CIRCUIT) as before:
        opens(before, upstream)
        before.crash()
    upstream.start()
    with RunningProxy(circuit=CIRCUIT) as after:
        assert call(after, upstream).status == 200


def test_a_damaged_file_does_not_keep_it_from_starting(tmp_path: Path, upstream: LocalUpstream) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b'{"version": 1, "saved_at": 17')
    with proxy(path) as running:
        ignored = running.told("state file ignored")
        assert (ignored["level"], ignored["path"]) == ("warning", str(path))
        assert call(running, upstream).status == 200
        until(lambda: path.read_bytes().endswith(b"}"), "it is not replaced")


def test_who_finds_its_addresses_in_use_leaves_the_file_alone(
    tmp_path: Path, upstream: LocalUpstream
) -> None:
    path = tmp_path / "state.json"
    with begun(path) as running:
        opens(running, upstream)
        until(lambda: upstream.authority in path.read_text(), "the state is not saved")
        before = path.read_bytes()
        config = tmp_path / "config.yaml"
        config.write_text(
            f"state_file: {path}\nlisten: {{proxy: '127.0.0.1:{running.proxy_port}', admin: '127.0.0.1:0'}}\n"
        )
        assert command("run", "--config", str(config)).returncode == 1
        assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", [("check",), ("run", "--config")])
def test_a_directory_that_is_missing_is_told(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    config = tmp_path / "config.yaml"
    wrong = tmp_path / "missing" / "state.json"
    config.write_text(f"state_file: {wrong}\nlisten: {{proxy: '127.0.0.1:0', admin: '127.0.0.1:0'}}\n")
    done = command(*arguments, str(config))
    assert done.returncode == 2
    assert done.stderr == f"{wrong}: state_file: the directory {wrong.parent} does not exist\n"
