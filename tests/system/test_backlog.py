"""10,000 requests that were kept for later, and an upstream that comes back."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from support.backlog import drained
from support.outage import LocalUpstream
from support.process import CLOSED, PATIENCE_S, RunningProxy, get

SENDERS = 4
# Between two live calls.
BETWEEN_S = 0.05


def send(port: int, url: str, sender: int, requests: int) -> Counter[int]:
    """One sender's share, one after the other over one connection; how often it got which status."""
    found = Counter[int]()
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        for number in range(requests):
            connection.request("POST", f"{url}?endpoint={sender}", body=b"%d %d" % (sender, number))
            answer = connection.getresponse()
            answer.read()
            found[answer.status] += 1
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("key", "requests"), [("host", 10_000), ("path", 2_000)])
def test_all_arrive_once_in_order_and_the_circuit_stays_closed(
    tmp_path: Path, key: str, requests: int
) -> None:
    received: list[bytes] = []
    circuit = {
        "consecutive_failures": 1,
        "open": "1s",
        "open_max": "1s",
        "open_jitter": 0,
        "max_in_flight": 2,
    }
    with LocalUpstream(keep=received.append) as upstream, LocalUpstream() as well:
        sick = {"match": upstream.authority, "fallback": {"defer": True}, "circuit": {"key": key}}
        upstream.kill()
        with RunningProxy(
            defer={"path": str(tmp_path / "deferred.db"), "max_attempts": 10_000},
            circuit=circuit,
            upstreams=[sick],
        ) as running:
            assert get(running.proxy_port, upstream.url).status == 502
            with ThreadPoolExecutor(SENDERS) as senders:
                shares = [
                    senders.submit(send, running.proxy_port, upstream.url, sender, requests // SENDERS)
                    for sender in range(SENDERS)
                ]
            answered = sum((share.result() for share in shares), Counter[int]())
            # Whoever was a probe was told that it failed.
            assert answered.keys() <= {202, 502}
            assert answered[202] > requests * 0.99
            upstream.start()
            with ThreadPoolExecutor(1) as beside:
                waiting = beside.submit(drained, running)
                lively = Counter[int]()
                while not wait([waiting], BETWEEN_S).done:
                    lively[get(running.proxy_port, well.url).status] += 1
                waiting.result()
            assert lively.keys() == {200}
            changes = [line["to_state"] for line in running.all_told("circuit changed")]
            assert "open" not in changes[changes.index("closed") :]
            assert running.state(upstream.authority) == CLOSED
            assert running.metric("deferred_delivered_total") == answered[202]
            assert running.metric("deferred_dead_letters") == 0
    assert len(received) == len(set(received)) == answered[202]
    for sender in range(SENDERS):
        numbers = [int(content.split()[1]) for content in received if content.startswith(b"%d " % sender)]
        assert numbers == sorted(numbers)
