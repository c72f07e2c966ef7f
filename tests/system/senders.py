"""Those who send events to receivers and try again by themselves, unmodified, each with our proxy."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Protocol

import yaml
from celery import Celery
from support.process import PATIENCE_S, get, until
from support.redis import redis
from support.servers import serving
from system.adapters import HERE, environment


@dataclass(frozen=True, order=True)
class Event:
    """What a receiver is to get, once."""

    receiver: str
    name: str


class Send(Protocol):
    """Takes events over, whose deliveries are the sender's affair from then on."""

    def __call__(self, *events: Event) -> None: ...


class Start(Protocol):
    """Runs a sender; at the end of the `with` it has nothing left to deliver, and ends cleanly.

    Args:
        proxy: its URL.
        receivers: the URL of each.
        folder: for its files.
    """

    def __call__(
        self, proxy: str, receivers: Mapping[str, str], folder: Path
    ) -> AbstractContextManager[Send]: ...


@dataclass(frozen=True)
class Sender:
    """A kind of sender.

    Attributes:
        start: it.
        read: takes the event from the content of a delivery.
    """

    start: Start
    read: Callable[[bytes], Event]


@contextmanager
def _bullmq(way: str, proxy: str, receivers: Mapping[str, str], folder: Path) -> Iterator[Send]:
    taken = 0
    with (
        redis(folder) as (_, path),
        subprocess.Popen(
            ["node", "node/bullmq.mjs", str(path), way],
            cwd=HERE,
            env=environment(proxy),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):

        def send(*events: Event) -> None:
            nonlocal taken
            assert process.stdin is not None
            jobs = [{"url": receivers[event.receiver], "event": asdict(event)} for event in events]
            process.stdin.writelines(json.dumps(job) + "\n" for job in jobs)
            process.stdin.flush()
            taken += len(jobs)

        try:
            yield send
            counts, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
        assert process.returncode == 0, errors
        assert errors == "", errors
        assert {state: count for state, count in json.loads(counts).items() if count} == {
            "completed": taken
        }, counts


@contextmanager
def _celery(proxy: str, receivers: Mapping[str, str], folder: Path) -> Iterator[Send]:
    with redis(folder) as (_, path):
        broker = f"redis+socket://{path}"
        command = [sys.executable, "-m", "celery", "--app", "webhooks", "--quiet", "worker"]
        # Four at a time, and quick to start.
        command += ["--pool", "threads", "--concurrency", "4", "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        environ = environment(proxy) | {"BROKER": broker, "PYTHONPATH": str(HERE / "python")}
        with (
            serving(command, folder / "celery.log", environ) as worker,
            Celery(broker=broker, set_as_current=False) as app,
            app.connection_for_write() as connection,
        ):
            worker.until(lambda: " ready." in worker.said)

            def send(*events: Event) -> None:
                for event in events:
                    task = (receivers[event.receiver], asdict(event))
                    app.send_task("webhooks.deliver", task, connection=connection)

            yield send
            store = connection.default_channel.client
            until(lambda: not store.exists("celery", "unacked"), "a task is left")


@contextmanager
def _alertmanager(proxy: str, receivers: Mapping[str, str], folder: Path) -> Iterator[Send]:
    config, log = folder / "alertmanager.yml", folder / "alertmanager.log"
    config.write_text(yaml.safe_dump(_alertmanager_config(proxy, receivers)))
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
        "--log.format=json",
    ]

    def port() -> int | None:
        lines = [
            json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")
        ]
        told = [line["address"] for line in lines if line.get("msg") == "Listening on"]
        return int(told[0].rpartition(":")[2]) if told else None

    def is_ready() -> bool:
        told = port()
        return told is not None and get(told, "/-/ready").status == 200

    # No proxy in its environment: it has one in its configuration.
    with serving(command, log, environment("")) as server:
        server.until(is_ready)
        listening = port()
        assert listening is not None

        def send(*events: Event) -> None:
            alerts = [{"labels": {"alertname": event.name, "receiver": event.receiver}} for event in events]
            _post(listening, "/api/v2/alerts", alerts)

        yield send


def _alertmanager_config(proxy: str, receivers: Mapping[str, str]) -> dict[str, Any]:
    """Each alert is a group of its own, of which is told at once."""
    routes = [{"receiver": name, "matchers": [f'receiver="{name}"']} for name in receivers]
    hooks = {
        name: {"url": url, "http_config": {"proxy_url": proxy}, "send_resolved": False}
        for name, url in receivers.items()
    }
    return {
        "route": {
            "receiver": next(iter(receivers)),
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
            "routes": routes,
        },
        "receivers": [{"name": name, "webhook_configs": [hook]} for name, hook in hooks.items()],
    }


def _post(port: int, path: str, content: object) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def _notified(content: bytes) -> Event:
    told = json.loads(content)
    (alert,) = told["alerts"]
    assert (told["status"], told["receiver"]) == ("firing", alert["labels"]["receiver"])
    return Event(told["receiver"], alert["labels"]["alertname"])


def _delivered(content: bytes) -> Event:
    return Event(**json.loads(content))


BULLMQ = Sender(partial(_bullmq, "plain"), _delivered)
# As docs/dispatchers.md has it, and so Celery.
BULLMQ_TOLD = Sender(partial(_bullmq, "told"), _delivered)
CELERY = Sender(_celery, _delivered)
ALERTMANAGER = Sender(_alertmanager, _notified)
