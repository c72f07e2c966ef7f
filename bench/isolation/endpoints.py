"""The twenty endpoints, in a process of their own that nobody else's load can slow down.

    python -m isolation.endpoints FOLDER SCALE [PEM]

With a file of key and certificates it speaks TLS. It prints one JSON object, from the name of each endpoint
to its port on 127.0.0.1. Then it reads a line: the onset, in seconds of the monotonic clock; before that
everyone is in health. It repeats the line once it goes by it. What arrives is written to
FOLDER/arrivals.jsonl. It ends at once, on SIGTERM or at the end of its input.

What ails an endpoint is asked once for each request, when its head has arrived: a call that began while the
endpoint was silent is never answered, as with a process that has hung and is then started anew.
"""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import IO, Any

import uvloop
from aiohttp import web
from isolation import records
from isolation.scenario import Ailment, Endpoint, Scenario

# Longer than any run, so that no connection that a client keeps is closed under its next request.
_KEEPALIVE_S = 3600.0
# Far longer than the start takes.
_PATIENCE_S = 20.0


class Clinic:
    """Answers for all endpoints, each as it is at that time.

    Args:
        scenario: who they are.
        to: where arrivals are written.

    Attributes:
        onset_s: on the monotonic clock; None: not known yet.
    """

    def __init__(self, scenario: Scenario, to: IO[str]) -> None:
        self.onset_s: float | None = None
        self._scenario = scenario
        self._to = to
        # For each its own: how long one takes to answer does not depend on who else is called.
        self._randoms = {endpoint.name: Random(endpoint.name) for endpoint in scenario.endpoints()}  # noqa: S311 -- no secret, and the same in each run

    async def answer(self, endpoint: Endpoint, request: web.BaseRequest) -> web.Response:
        """Treats one request; cancelled when its client leaves."""
        at_s = monotonic()
        ailment = None if self.onset_s is None else endpoint.ailment_at(at_s - self.onset_s)
        records.write(records.Arrival(endpoint.name, at_s, ailment is not None), self._to)
        await request.read()
        if ailment is Ailment.SILENT:
            await asyncio.Event().wait()
        if ailment is Ailment.SLOW_ERROR:
            await asyncio.sleep(self._scenario.slow_error_s)
        if ailment is not None:
            return web.json_response({"taken": False}, status=500)
        await asyncio.sleep(self._randoms[endpoint.name].uniform(*self._scenario.answer_s))
        return web.json_response({"taken": True})


async def listen(clinic: Clinic, endpoint: Endpoint, context: ssl.SSLContext | None) -> asyncio.Server:
    """Opens an endpoint, which speaks TLS if there is a context for that."""
    server = web.Server(
        partial(clinic.answer, endpoint),
        handler_cancellation=True,  # a silent call ends with its client, and with nothing else
        keepalive_timeout=_KEEPALIVE_S,
        access_log=None,
    )
    return await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _heed(clinic: Clinic) -> None:
    """Takes the onset from the input, and returns at its end."""
    heard = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(heard),
        sys.stdin,
    )
    if line := await heard.readline():
        clinic.onset_s = float(line)
        _say(clinic.onset_s)
        await heard.read()


async def _serve(folder: Path, scale: float, pem: str | None) -> None:
    context = None
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    scenario = Scenario().scaled(scale)
    with (folder / "arrivals.jsonl").open("a", encoding="utf-8") as to:
        clinic = Clinic(scenario, to)
        servers = {
            endpoint.name: await listen(clinic, endpoint, context) for endpoint in scenario.endpoints()
        }
        heeding = asyncio.create_task(_heed(clinic))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heeding.cancel)
        _say({name: server.sockets[0].getsockname()[1] for name, server in servers.items()})
        await asyncio.wait([heeding])


@dataclass(frozen=True)
class RunningEndpoints:
    """The endpoints while they run.

    Attributes:
        process: theirs.
        ports: of each, by name.
    """

    process: subprocess.Popen[str]
    ports: dict[str, int]

    def check(self) -> None:
        """Sees to it that they still run.

        Raises:
            RuntimeError: they do not.
        """
        if self.process.poll() is not None:
            raise RuntimeError(f"the endpoints have ended, with {self.process.returncode}")

    def fall_sick(self, onset_s: float) -> None:
        """Tells them the onset, once; it may lie ahead. They go by it when this returns."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("nothing to tell it by")
        self.process.stdin.write(f"{onset_s}\n")
        self.process.stdin.flush()
        if not self.process.stdout.readline():
            raise RuntimeError("the endpoints have ended")


@contextmanager
def running(folder: Path, scale: float, pem: Path | None = None) -> Iterator[RunningEndpoints]:
    """Runs the endpoints, all in health until they are told otherwise.

    Args:
        folder: where they write.
        scale: of the scenario's times.
        pem: key and certificates, for TLS.
    """
    command = [sys.executable, "-m", "isolation.endpoints", str(folder), str(scale)]
    process = subprocess.Popen(  # noqa: S603 -- ours
        command + ([] if pem is None else [str(pem)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
        text=True,
        process_group=0,  # an interrupt from the terminal is for who has started it
    )
    with process:
        try:
            if process.stdout is None:
                raise RuntimeError("no output")
            yield RunningEndpoints(process, json.loads(process.stdout.readline()))
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3] if sys.argv[3:] else None))
