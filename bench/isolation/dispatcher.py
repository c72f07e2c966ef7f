"""Starts and stops the dispatcher: a Redis server, a Celery worker with its processes, and who publishes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from isolation.records import WORKER_READY
from isolation.scenario import Scenario
from support.redis import redis
from support.servers import Server, ServerError, serving

# What Celery says then; it starts another, and goes on.
_LOST = "WorkerLostError"


@dataclass(frozen=True)
class Dispatcher:
    """A dispatcher that is ready.

    Attributes:
        broker, worker: its parts.
        environment: of the worker.
    """

    broker: Server
    worker: Server
    environment: Mapping[str, str]

    def check(self) -> None:
        """Sees to it that all of it still runs.

        Raises:
            ServerError: a part has ended, or a process of the worker's was lost, with its event.
        """
        self.broker.check()
        self.worker.check()
        if _LOST in self.worker.said:
            raise ServerError(self.worker, "has lost a process")

    @contextmanager
    def publishing(self, onset_s: float, urls: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
        """Publishes the events; `communicate()` on what is given waits for what publish.py prints.

        Args:
            onset_s: on the monotonic clock; should lie ahead by the lead-in and a second, for the start.
            urls: of each endpoint, by name.
        """
        command = [sys.executable, "-m", "isolation.publish", str(onset_s), json.dumps(urls)]
        publisher = subprocess.Popen(  # noqa: S603 -- ours
            command, env=self.environment, stdout=subprocess.PIPE, text=True, process_group=0
        )
        with publisher:
            try:
                yield publisher
            finally:
                publisher.kill()


@contextmanager
def running(folder: Path, scenario: Scenario, way: Mapping[str, str]) -> Iterator[Dispatcher]:
    """Runs a dispatcher, and stops it: calls under way may end.

    Args:
        folder: where it writes attempts, and what its processes say.
        scenario: how many processes, and how all times are scaled.
        way: the variables of its environment that decide the way of its calls. It inherits none: neither
            proxies nor trusted certificates.

    Raises:
        ServerError: a part of it did not start, or ended before it should.
    """
    # Not in the folder, whose path may be longer than that of a socket may be.
    with TemporaryDirectory(prefix="isolation-") as home, redis(Path(home)) as (broker, socket_path):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,  # where requests would look for a .netrc
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "ISOLATION_BROKER": str(socket_path),
            "ISOLATION_FOLDER": str(folder),
            "ISOLATION_SCALE": str(scenario.scale),
            **way,
        }
        command = [sys.executable, "-m", "celery", "--app", "isolation.deliver", "--quiet", "worker"]
        command += ["--concurrency", str(scenario.workers), "--loglevel", "WARNING"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        # Calls under way may end, and if one of its processes is lost it waits 30 s for what that had to say.
        patience_s = scenario.client_timeout_s + 40
        with serving(command, folder / "worker.log", environment, end_patience_s=patience_s) as worker:
            worker.until(lambda: WORKER_READY in worker.said)
            yield Dispatcher(broker, worker, environment)
