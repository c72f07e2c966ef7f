"""A real disk that is full, and one that cannot be written any more: no 202, a plain 503, and recovery."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from support.outage import LocalUpstream
from support.process import PATIENCE_S, RunningProxy, until

CIRCUIT = {"consecutive_failures": 1, "open": "5m"}
UPSTREAMS = [{"match": "*", "fallback": {"defer": True}}]
CONTENT = b"x" * 30_000


def mount(*command: str | Path) -> None:
    subprocess.run(command, check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    assert os.geteuid() == 0, "only root can mount"
    folder = tmp_path / "disk"
    folder.mkdir()
    with ExitStack() as undo:
        mount("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
        undo.callback(mount, "umount", folder)
        yield folder


def post(running: RunningProxy, url: str) -> tuple[int, str | None]:
    connection = HTTPConnection("127.0.0.1", running.proxy_port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("POST", url, body=CONTENT)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("X-Breaker-Reason")


def until_it_stores_again(running: RunningProxy) -> None:
    running.told("requests can be kept for later again")
    # What was wrong, it has told.
    running.lines[:] = [
        line for line in running.lines if line["event"] != "requests cannot be kept for later"
    ]
    until(lambda: running.metric("deferred_store_up") == 1, "it says that it cannot store")


def test_a_full_disk_takes_nothing_until_it_has_room(disk: Path) -> None:
    path, stuffing = disk / "deferred.db", disk / "stuffing"
    with LocalUpstream() as upstream:
        upstream.kill()
        with RunningProxy(defer={"path": str(path)}, circuit=CIRCUIT, upstreams=UPSTREAMS) as running:
            assert post(running, upstream.url)[0] == 502
            accepted = 0
            while (answer := post(running, upstream.url))[0] == 202:
                accepted += 1
                if accepted == 2:
                    stuffing.write_bytes(b"x" * 400_000)
                assert accepted < 100
            assert answer == (503, "circuit_open")
            assert "full" in running.told("requests cannot be kept for later")["why"]
            until(lambda: running.metric("deferred_store_up") == 0, "it says that it can store")
            assert (running.metric("deferred_not_stored_total", reason="unavailable") or 0) >= 1
            assert running.metric("deferred_depth") == accepted
            stuffing.unlink()
            until_it_stores_again(running)
            assert post(running, upstream.url) == (202, "circuit_open")
            # Those that it has promised are all there.
            assert running.metric("deferred_depth") == accepted + 1


def test_a_disk_that_turns_read_only_takes_nothing_until_it_is_not(disk: Path) -> None:
    with LocalUpstream() as upstream, ExitStack() as undo:
        upstream.kill()
        running = undo.enter_context(
            RunningProxy(defer={"path": str(disk / "deferred.db")}, circuit=CIRCUIT, upstreams=UPSTREAMS)
        )
        assert [post(running, upstream.url)[0] for _ in range(3)] == [502, 202, 202]
        running.crash()
        mount("mount", "-o", "remount,ro", disk)
        undo.callback(mount, "mount", "-o", "remount,rw", disk)
        again = undo.enter_context(
            RunningProxy(defer={"path": str(disk / "deferred.db")}, circuit=CIRCUIT, upstreams=UPSTREAMS)
        )
        assert "requests cannot be kept for later" in {line["event"] for line in again.lines}
        assert [post(again, upstream.url)[0] for _ in range(2)] == [502, 503]
        assert again.metric("deferred_store_up") == 0
        mount("mount", "-o", "remount,rw", disk)
        until_it_stores_again(again)
        assert post(again, upstream.url) == (202, "circuit_open")
        assert again.metric("deferred_depth") == 3
