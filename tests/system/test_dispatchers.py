"""What docs/dispatchers.md says of those who are refused: who comes back when, and what it takes."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from support.outage import LocalUpstream
from support.process import PATIENCE_S, ROOT, RunningProxy, until
from system.adapters import Answerless, Ask, Client, environment
from system.caller import HOST, Caller
from system.kinds import RETRYING, URLLIB, Start
from system.senders import ALERTMANAGER, BULLMQ, BULLMQ_TOLD, CELERY, Event, Sender

SENDERS = {
    "bullmq": BULLMQ,
    "bullmq-told": BULLMQ_TOLD,
    "celery": CELERY,
    "alertmanager": ALERTMANAGER,
}


def force_open(proxy: RunningProxy, circuit: str, ttl: str) -> None:
    """Opens a circuit by hand; behind this time it is half-open."""
    connection = HTTPConnection("127.0.0.1", proxy.admin_port, timeout=PATIENCE_S)
    try:
        fields = {"Content-Type": "application/json"}
        connection.request("POST", f"/api/v1/circuits/{circuit}/open", json.dumps({"ttl": ttl}), fields)
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def refusals(proxy: RunningProxy, circuit: str) -> float:
    labels = {"circuit": circuit, "scope": "host", "enforced": "true"}
    found = (
        proxy.metric("circuit_rejected_total", **labels, reason=reason)
        for reason in ("circuit_forced_open", "circuit_half_open")
    )
    return sum(count or 0 for count in found)


def status(client: Client, ask: Ask) -> int:
    """Of the answer. Some show an error in place of a refusal; that it was one, the proxy's count tells."""
    try:
        return client(ask)[0].status
    except Answerless:
        return 503


# Clients.


def test_of_itself_a_client_does_not_come_back(caller: Caller) -> None:
    with LocalUpstream(HOST) as upstream:
        force_open(caller.proxy, upstream.authority, "1m")
        asks = Ask(upstream.url), Ask(upstream.url, "POST", b"event")
        assert [status(caller.client, ask) for ask in asks] == [503, 503]
        assert refusals(caller.proxy, upstream.authority) == 2
        assert upstream.seen == []


def test_nor_does_urllib(tmp_path: Path) -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        force_open(proxy, upstream.authority, "1m")
        with URLLIB(tmp_path, environment(proxy.url)) as client:
            assert status(client, Ask(upstream.url)) == 503
        assert refusals(proxy, upstream.authority) == 1


def test_some_come_back_when_they_are_told_and_no_sooner_but_not_with_a_post(tmp_path: Path) -> None:
    with RunningProxy() as proxy, ThreadPoolExecutor(len(RETRYING)) as pool:

        def told(name: str, start: Start) -> tuple[int, float, int, float]:
            folder = tmp_path / name
            folder.mkdir()
            with LocalUpstream() as upstream, start(folder, environment(proxy.url)) as client:
                # It has started when it has made a call.
                assert status(client, Ask(upstream.url)) == 200
                force_open(proxy, upstream.authority, "2s")
                got = status(client, Ask(upstream.url))
                refused_gets = refusals(proxy, upstream.authority)
                force_open(proxy, upstream.authority, "2s")
                posted = status(client, Ask(upstream.url, "POST", b"event"))
                return got, refused_gets, posted, refusals(proxy, upstream.authority) - refused_gets

        found = dict(zip(RETRYING, pool.map(told, RETRYING, RETRYING.values()), strict=True))
    assert found == {
        "curl": (200, 1, 200, 1),
        "requests": (200, 1, 503, 1),
        "urllib3": (200, 1, 503, 1),
        "undici": (200, 1, 503, 1),
    }


# Senders.


def test_with_a_few_lines_a_sender_comes_back_when_it_is_told_else_as_it_would_anyway(tmp_path: Path) -> None:
    with RunningProxy() as proxy, ThreadPoolExecutor(len(SENDERS)) as pool:

        def refused(name: str, sender: Sender) -> float:
            folder = tmp_path / name
            folder.mkdir()
            arrived: list[bytes] = []
            with LocalUpstream(keep=arrived.append) as upstream:
                with sender.start(proxy.url, {"one": upstream.url}, folder) as send:
                    # It has started, and asks for work, when one has arrived.
                    send(Event("one", "1"))
                    until(lambda: len(arrived) == 1, f"the first event of {name} does not arrive")
                    force_open(proxy, upstream.authority, "4s")
                    send(Event("one", "2"))
                    until(lambda: len(arrived) == 2, f"the refused event of {name} does not arrive")
                assert [sender.read(content).name for content in arrived] == ["1", "2"]
                return refusals(proxy, upstream.authority)

        found = dict(zip(SENDERS, pool.map(refused, SENDERS, SENDERS.values()), strict=True))
    assert (found["bullmq-told"], found["celery"]) == (1, 1)
    assert found["bullmq"] > 1
    assert found["alertmanager"] > 1
    # What it says of a refusal has the URL, which may be a secret.
    assert "/hook?event=1" in (tmp_path / "alertmanager" / "alertmanager.log").read_text()


def test_the_configuration_of_alertmanager_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "dispatchers.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- alertmanager.yml -->\n```yaml\n(.*?)```", page, re.DOTALL)
    bundle = tmp_path / "ca-bundle.crt"
    bundle.touch()
    file = tmp_path / "alertmanager.yml"
    file.write_text(shown.replace("/var/run/breaker-proxy/ca-bundle.crt", str(bundle)))
    done = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
