"""The real program as a process of its own, and how to ask it things."""

import fcntl
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import IO, Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "proxy")
# Far more than anything here takes; whatever takes longer has hung.
PATIENCE_S = 20.0

# As much as Linux allows without a privilege.
_LOG_BYTES = 1024 * 1024

# What the metric circuit_state says.
CLOSED, HALF_OPEN, OPEN = 0, 1, 2


@dataclass(frozen=True)
class Reply:
    """What a client of any kind was answered; field names in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    interim: tuple[int, ...] = ()
    """The statuses of the interim answers before it, where the client shows them."""


def environment(**variables: str) -> dict[str, str]:
    """The environment of the tests with these variables, and no other of the product's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BREAKER_PROXY_")}
    return inherited | variables


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the program that ends by itself."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def get(port: int, path: str) -> Reply:
    """Asks a server on loopback, past all proxies."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, headers, answer.read())
    finally:
        connection.close()


def free_port() -> int:
    """A port of loopback that nobody listens on, and that nobody gets who takes any.

    Those that Linux gives away begin at 32768: one of them could be a connection of another test by the time
    it is listened on.
    """
    while True:
        # Not by the seed that all the workers of a run share.
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], bool], what: str) -> None:
    """Asks again and again, each time by a call that takes its time."""
    end = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < end, what


class RunningProxy:
    """`python -m proxy run --config FILE`, from its line `started` until the `with` ends.

    Leaving the `with` proves that the process ends cleanly (unless it was made to crash) and had no fault to
    tell.

    Args:
        options: further arguments of `run`.
        environ: variables of its environment.
        has_file: whether it is started with one.
        admin_port: a free port. It is how the start is noticed where the log does not tell it; else 0.
        sections: of the configuration; `listen`, `egress` and `drain` have defaults fit for tests.

    Attributes:
        lines: of the log so far.
    """

    def __init__(
        self,
        *options: str,
        environ: Mapping[str, str] | None = None,
        has_file: bool = True,
        admin_port: int = 0,
        **sections: Any,
    ) -> None:
        self._options = options
        self._environ = environment(**(environ or {}))
        self._sections = {
            "listen": {"proxy": "127.0.0.1:0", "admin": f"127.0.0.1:{admin_port}"},
            "egress": {"addresses": "any"},
            "drain": {"quiet": "0s", "timeout": "1s"},
        } | sections
        self.lines: list[dict[str, Any]] = []
        self._told = Condition()
        self._said_all = False
        self._resources = ExitStack()
        self._stderr: IO[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._crashed = False
        self.proxy_port = 0
        self.admin_port = admin_port
        self._has_file = has_file
        self._config = Path()

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process, while the `with` lasts."""
        assert self._process is not None
        return self._process

    @property
    def url(self) -> str:
        """What HTTP_PROXY is set to."""
        return f"http://127.0.0.1:{self.proxy_port}"

    def __enter__(self) -> Self:
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        self._config = folder / "config.yaml"
        self.configure()
        config = ["--config", str(self._config)] if self._has_file else []
        self._stderr = self._resources.enter_context((folder / "stderr").open("w+"))
        self._process = subprocess.Popen(
            [*PROGRAM, "run", *config, *self._options],
            cwd=ROOT,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        assert self._process.stdout is not None
        # The proxy drops lines for which a pipe has no room, and a busy test reads late.
        fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _LOG_BYTES)
        reader = Thread(target=self._read)
        reader.start()
        # In reverse: kill it if it still runs, reap it, and then there is nothing more to read.
        self._resources.callback(reader.join)
        self._resources.callback(self._process.wait)
        self._resources.callback(self._process.kill)
        try:
            self._await_start()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._resources:
            if kind is None:
                self.send(signal.SIGTERM)
                assert self.ended() == (-signal.SIGKILL if self._crashed else 0)
                assert self.errors() == ""
                assert [line for line in self.lines if line["level"] in ("error", "critical")] == []

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal; nothing if it has ended."""
        self.process.send_signal(number)

    def configure(self, **sections: Any) -> None:
        """Replaces its file by one that has these sections in place of those of the start."""
        self.write(yaml.safe_dump(self._sections | sections))

    def write(self, text: str) -> None:
        """Replaces its file."""
        new = self._config.with_name("new")
        new.write_text(text)
        new.replace(self._config)

    def make_pipe(self) -> None:
        """Replaces its file by a pipe that nobody writes to."""
        self._config.unlink()
        os.mkfifo(self._config)

    def crash(self) -> None:
        """Kills it, as a container runtime does in the end."""
        self._crashed = True
        self.send(signal.SIGKILL)
        self.ended()

    def ended(self) -> int:
        """Waits for its end and for its last line; returns the exit code."""
        code = self.process.wait(PATIENCE_S)
        with self._told:
            assert self._told.wait_for(lambda: self._said_all, PATIENCE_S)
        return code

    def errors(self) -> str:
        """Everything it has written to standard error."""
        assert self._stderr is not None
        self._stderr.seek(0)
        return self._stderr.read()

    def told(self, event: str, number: int = 1) -> dict[str, Any]:
        """Waits for the first line of the log that tells this event, or for a later one of them."""
        with self._told:
            self._told.wait_for(lambda: self._said_all or len(self.all_told(event)) >= number, PATIENCE_S)
            found = self.all_told(event)[number - 1 :]
        assert found, f"no line {event!r}: {self.lines}\n{self.errors()}"
        return found[0]

    def all_told(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log so far that tell this event."""
        return [line for line in self.lines if line["event"] == event]

    def admin(self, path: str) -> Reply:
        """Asks the admin server."""
        return get(self.admin_port, path)

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a sample, by its name without the prefix and all its labels; None if there is none."""
        for family in text_string_to_metric_families(self.admin("/metrics").content.decode()):
            for sample in family.samples:
                if sample.name == f"breaker_proxy_{name}" and sample.labels == labels:
                    return sample.value
        return None

    def state(self, circuit: str) -> float | None:
        """The state of a circuit."""
        return self.metric("circuit_state", circuit=circuit, scope="host")

    def memory(self, name: str) -> int:
        """A line of its /proc/PID/status, in bytes: VmRSS is resident, VmHWM the most that ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def descriptors(self) -> int:
        """How many it has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def _await_start(self) -> None:
        if self.admin_port:
            until(self._is_ready, "it does not get ready")
            return
        started = self.told("started")
        self.proxy_port = int(started["proxy"].rpartition(":")[2])
        self.admin_port = int(started["admin"].rpartition(":")[2])

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.errors()
        try:
            return self.admin("/readyz").status == 200
        except ConnectionRefusedError:
            return False

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._told:
                    self.lines.append(json.loads(line))
                    self._told.notify_all()
        with self._told:
            self._said_all = True
            self._told.notify_all()
