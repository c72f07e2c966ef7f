"""What was answered 202 is delivered, however often the process is killed in between."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from support.outage import LocalUpstream
from support.process import PATIENCE_S, RunningProxy, until

CIRCUIT = {"consecutive_failures": 1, "open": "300ms", "open_multiplier": 1, "open_jitter": 0}
UPSTREAMS = [{"match": "*", "fallback": {"defer": True}}]


def proxy(path: Path) -> RunningProxy:
    return RunningProxy(defer={"path": str(path)}, circuit=CIRCUIT, upstreams=UPSTREAMS)


def post(running: RunningProxy, url: str, content: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", running.proxy_port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("POST", url, body=content)
        return connection.getresponse().status


def accepted(running: RunningProxy, url: str, numbers: range) -> set[bytes]:
    """Sends so many, four at a time; those that were answered 202."""
    contents = [b"event %d" % number for number in numbers]
    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(lambda content: post(running, url, content), contents))
    return {content for content, status in zip(contents, statuses, strict=True) if status == 202}


def test_what_was_answered_202_is_delivered_after_kill_9(tmp_path: Path) -> None:
    path, received = tmp_path / "deferred.db", list[bytes]()
    promised: set[bytes] = set()
    with LocalUpstream(keep=received.append) as upstream:
        upstream.kill()
        for crash in range(3):
            with proxy(path) as running:
                promised |= accepted(running, upstream.url, range(100 * crash, 100 * crash + 40))
                running.crash()
        assert len(promised) > 60
        upstream.start()
        with proxy(path) as running:
            until(lambda: promised <= set(received), "not all have been delivered")
            delivered = running.metric(
                "requests_total", entry="deferred", code_class="2xx", source="upstream"
            )
            assert (delivered or 0) > 60
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM request").fetchone() == (0,)
