"""`breaker-proxy deferred`, each command a process of its own, against a proxy that keeps requests."""

import json
import sqlite3
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.odd_server import OddServer, says
from support.outage import LocalUpstream
from support.process import PATIENCE_S, RunningProxy, command
from support.terminal import Terminal

SETTINGS: dict[str, Any] = {
    "circuit": {"consecutive_failures": 1, "open": "5m"},
    "upstreams": [{"match": "*", "fallback": {"defer": True}}],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deferred.db"


@pytest.fixture
def proxy(path: Path) -> Iterator[RunningProxy]:
    """A proxy that keeps three requests, the first of them a dead letter."""
    with LocalUpstream() as upstream:
        upstream.kill()
        with RunningProxy(defer={"path": str(path)}, **SETTINGS) as running:
            answered = [
                post(running, f"{upstream.url}?token=s3cret", b"event %d" % number) for number in range(4)
            ]
        assert answered == [502, 202, 202, 202]
        # As if the upstream had not wanted it.
        with closing(sqlite3.connect(path)) as database:
            database.execute(
                "UPDATE request SET died_at = 5, died_of = 'final_status', result = '410' WHERE place = 1"
            )
            database.commit()
        with RunningProxy(defer={"path": str(path)}, **SETTINGS) as running:
            done(running, "pause")
            yield running


def post(running: RunningProxy, url: str, content: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", running.proxy_port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("POST", url, body=content)
        return connection.getresponse().status


def asked(running: RunningProxy, *arguments: str) -> tuple[int, str, str]:
    ended = command("deferred", *arguments, "--admin", f"127.0.0.1:{running.admin_port}")
    return ended.returncode, ended.stdout, ended.stderr


def done(running: RunningProxy, *arguments: str) -> str:
    code, out, err = asked(running, *arguments)
    assert (code, err) == (0, "")
    return out


def listed(running: RunningProxy, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done(running, "list", *arguments))["requests"]
    return found


def test_what_there_is(proxy: RunningProxy) -> None:
    status = json.loads(done(proxy, "status"))
    assert (status["waiting"], status["dead_letters"], status["is_paused"]) == (2, 1, True)
    assert [each["state"] for each in listed(proxy)] == ["dead", "waiting", "waiting"]
    assert len(listed(proxy, "--limit", "2")) == 2
    (dead,) = listed(proxy, "--state", "dead")
    assert json.loads(done(proxy, "show", dead["id"]))["died_of"] == "final_status"
    assert listed(proxy, "--queue", "none.test:80") == []
    for arguments in (["status"], ["list"], ["show", dead["id"]]):
        assert "s3cret" not in done(proxy, *arguments)


def test_one_is_put_back_and_one_deleted(proxy: RunningProxy) -> None:
    first, second, third = (each["id"] for each in listed(proxy))
    assert done(proxy, "put-back", first, "--note", "mended") == f"{first} waits again, behind all others\n"
    assert proxy.told("deferred request put back")["note"] == "mended"
    assert asked(proxy, "put-back", first)[0] == 1
    assert "not_dead" in asked(proxy, "put-back", first)[2]
    assert done(proxy, "delete", second) == f"{second} is deleted\n"
    assert [each["id"] for each in listed(proxy)] == [third, first]
    code, _, err = asked(proxy, "show", second)
    assert (code, "no_such_request" in err) == (1, True)


def test_many_at_once_and_not_by_mistake(proxy: RunningProxy) -> None:
    for arguments in (["put-back"], ["delete"], ["delete", "--queue", "a.test:80"], ["show", "x"]):
        assert asked(proxy, *arguments)[0] == 2
    assert len(listed(proxy)) == 3
    assert done(proxy, "put-back", "--queue", "none.test:80") == "0 put back\n"
    assert done(proxy, "put-back", "--all") == "1 put back\n"
    assert json.loads(done(proxy, "delete", "--state", "waiting", "--json")) == {"changed": 3}
    assert listed(proxy) == []


def test_the_export_has_all_that_there_is(proxy: RunningProxy) -> None:
    lines = [json.loads(line) for line in done(proxy, "export").splitlines()]
    assert [b64decode(line["content"]) for line in lines] == [b"event 1", b"event 2", b"event 3"]
    assert all(line["url"].endswith("?token=s3cret") for line in lines)
    assert len(done(proxy, "export", "--state", "dead").splitlines()) == 1


def test_half_an_export_is_no_whole_one() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n\r\n"
    with OddServer(says(head + b"3\r\n{}\n\r\n")) as server:
        ended = command("deferred", "export", "--admin", f"127.0.0.1:{server.port}")
    assert (ended.returncode, ended.stdout) == (1, "{}\n")
    assert "broken off" in ended.stderr


def test_pausing_is_said_and_lasts(proxy: RunningProxy) -> None:
    assert done(proxy, "resume") == "deliveries go on\n"
    assert not json.loads(done(proxy, "status"))["is_paused"]
    assert json.loads(done(proxy, "pause", "--json")) == {"is_paused": True}


def test_without_a_store_that_is_said() -> None:
    with RunningProxy() as running:
        code, _, err = asked(running, "status")
    assert (code, "defer.path is not set" in err) == (1, True)


def test_on_a_terminal_it_is_a_table(proxy: RunningProxy) -> None:
    at = ("--admin", f"127.0.0.1:{proxy.admin_port}")
    with Terminal("deferred", "status", *at) as terminal:
        assert terminal.ended() == 0
        assert "2 waiting, the oldest for" in terminal.text
        assert "paused: nothing is delivered until" in terminal.text
    with Terminal("deferred", "list", *at, width=150) as terminal:
        assert terminal.ended() == 0
        for word in ("✗ final status", "… waiting", "410", "POST"):
            assert word in terminal.text
