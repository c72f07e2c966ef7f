"""What was answered 202 is delivered, however often the process is killed in between.

Four senders go on and on. The process is killed at a random moment: while the upstream is down, after so many
more were accepted; or while it is up, after so many more have reached it. Then it is started again.
"""

import random
import sqlite3
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread

import pytest
from support.backlog import drained
from support.outage import LocalUpstream
from support.process import PATIENCE_S, RunningProxy, until

CIRCUIT = {"consecutive_failures": 1, "open": "100ms", "open_multiplier": 1, "open_jitter": 0}
UPSTREAMS = [{"match": "*", "fallback": {"defer": True}}]
SENDERS = 4
MOST_BETWEEN = 40


class Sender:
    """Sends one event after the other, each another one.

    Attributes:
        promised: those that were answered 202, in their order.
    """

    def __init__(self, name: int) -> None:
        self.promised: list[bytes] = []
        self._name = name
        self._sent = 0

    def send(self, port: int, url: str, ended: Event) -> None:
        """Sends until it is told to end, or nobody answers any more."""
        while not ended.is_set():
            self._sent += 1
            content = b"%d %d" % (self._name, self._sent)
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            try:
                with closing(connection):
                    connection.request("POST", url, body=content)
                    answer = connection.getresponse()
                    answer.read()
            except (OSError, HTTPException):
                # It has died: whatever became of this one, nothing was promised.
                return
            if answer.status == 202:
                self.promised.append(content)


def proxy(path: Path) -> RunningProxy:
    # The one in front is tried, and fails, in each life in which the upstream is down.
    return RunningProxy(
        defer={"path": str(path), "max_attempts": 10_000}, circuit=CIRCUIT, upstreams=UPSTREAMS
    )


def killed_at_random(
    path: Path, upstream: LocalUpstream, senders: list[Sender], received: list[bytes], draw: random.Random
) -> None:
    """One life of the process, under load, up to its sudden end."""
    with ExitStack() as threads, proxy(path) as running:
        ended = Event()
        for sender in senders:
            thread = Thread(target=sender.send, args=(running.proxy_port, upstream.url, ended))
            thread.start()
            threads.callback(thread.join)
        threads.callback(ended.set)
        more, is_up = draw.randint(1, MOST_BETWEEN), draw.random() < 0.5
        if is_up:
            enough = len(received) + more
            upstream.start()
            until(lambda: len(received) >= enough, "nothing reaches the upstream")
        else:
            enough = sum(len(sender.promised) for sender in senders) + more
            until(lambda: sum(len(sender.promised) for sender in senders) >= enough, "nothing is accepted")
        running.crash()
    if is_up:
        upstream.kill()


@pytest.mark.timeout(1800)
def test_nothing_that_was_promised_is_lost(tmp_path: Path, crashes: int, draw: random.Random) -> None:
    path, received = tmp_path / "deferred.db", list[bytes]()
    senders = [Sender(name) for name in range(SENDERS)]
    with LocalUpstream(keep=received.append) as upstream:
        upstream.kill()
        for _ in range(crashes):
            killed_at_random(path, upstream, senders, received, draw)
        upstream.start()
        promised = {content for sender in senders for content in sender.promised}
        with proxy(path) as running:
            drained(running)
            assert running.metric("deferred_dead_letters") == 0
    assert promised - set(received) == set()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM request").fetchone() == (0,)
    assert len(promised) >= crashes
    # The one that was under way as either side died; nothing else comes twice.
    assert len(received) - len(set(received)) <= 2 * crashes
    first = {content: place for place, content in reversed(list(enumerate(received)))}
    for sender in senders:
        places = [first[content] for content in sender.promised]
        assert places == sorted(places), "they have arrived in another order"
