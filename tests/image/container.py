"""The image as a container: a command of its own on a root that cannot be written to, without rights."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import IO, Any, Literal, Self

from image.buildah import HERE, Image
from support.process import PATIENCE_S, Reply

# What the image says, and where the tests look.
PROXY_PORT, ADMIN_PORT = 3128, 3129
# An address that the network of a container has beside those of loopback, as a Pod has one.
OUTSIDE = "10.9.8.7"


@dataclass(frozen=True)
class Mount:
    """A volume, a file of the host, or an empty file system in memory (without a source)."""

    target: str
    source: Path = Path()
    how: Literal["ro", "rw", "tmpfs"] = "ro"


TMP = Mount("/tmp", how="tmpfs")  # noqa: S108 -- the container's


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


class Container:
    """A container of an image, in the network that this thread is in, until the `with` ends.

    Args:
        image: what it is made of.
        root: the files of the image.
        arguments: in place of the image's.
        entrypoint: in place of the image's.
        environ: variables beside those of the image.
        mounts: what it sees of the host.

    Attributes:
        lines: of its standard output so far, as the JSON that they are.
    """

    def __init__(
        self,
        image: Image,
        root: Path,
        *arguments: str,
        entrypoint: list[str] | None = None,
        environ: Mapping[str, str] | None = None,
        mounts: tuple[Mount, ...] = (TMP,),
    ) -> None:
        self._image = image
        self._root = root
        entry = image.config["Entrypoint"] if entrypoint is None else entrypoint
        self._command = [*entry, *(arguments or image.config["Cmd"])]
        self._environ = image.environment | dict(environ or {})
        self._mounts = mounts
        self._process: subprocess.Popen[str] | None = None
        self._resources = ExitStack()
        self._told = Condition()
        self._said_all = False
        self.lines: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._process = self._start()
        reader = Thread(target=self._read, args=(self._process.stdout,))
        reader.start()
        self._resources.callback(reader.join)
        self._resources.callback(self._process.wait)
        self._resources.callback(self._kill)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        assert self._process is not None
        assert self._process.stderr is not None
        self._process.stderr.close()

    def run(self) -> Ended:
        """Runs it to its end, in place of `with`."""
        process = self._start()
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        return Ended(process.returncode, stdout, stderr)

    @property
    def pid(self) -> int:
        """Of its first process, as the host counts."""
        assert self._process is not None
        parent = self._process.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text())

    def told(self, event: str) -> dict[str, Any]:
        """Waits for the first line that tells this event."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines if line["event"] == event]

        with self._told:
            self._told.wait_for(lambda: self._said_all or found(), PATIENCE_S)
            lines = found()
        assert lines, f"no line {event!r}: {self.lines}"
        return lines[0]

    def stop(self) -> tuple[Ended, float]:
        """Ends it as a runtime does: by the image's signal. Returns also how many seconds it took."""
        assert self._process is not None
        began = monotonic()
        os.kill(self.pid, signal.Signals[self._image.config["StopSignal"]])
        code = self._process.wait(PATIENCE_S)
        took_s = monotonic() - began
        assert self._process.stderr is not None
        return Ended(code, "", self._process.stderr.read()), took_s

    def execute(self, command: list[str]) -> Ended:
        """Runs another command in it, as its user, as a runtime does."""
        user, _, group = self._image.config["User"].partition(":")
        done = subprocess.run(
            [
                "nsenter", f"--target={self.pid}", "--mount", "--pid", "--root", "--wd",
                f"--setuid={user}", f"--setgid={group}", "--", *self._with_environment(command),
            ],
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    def _kill(self) -> None:
        # Its first process takes all others along. Of what `unshare` knows of that, setpriv has taken leave.
        with suppress(ValueError, OSError):
            os.kill(self.pid, signal.SIGKILL)

    def _start(self) -> subprocess.Popen[str]:
        mounts = [word for mount in self._mounts for word in (mount.how, str(mount.source), mount.target)]
        return subprocess.Popen(
            [
                "unshare", "--mount", "--pid", "--ipc", "--uts", "--fork",
                str(HERE / "contain"), str(self._root), self._image.config["User"], *mounts, "--",
                *self._with_environment(self._command)[2:],
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _with_environment(self, command: list[str]) -> list[str]:
        variables = [f"{name}={value}" for name, value in self._environ.items()]
        return ["/usr/bin/env", "--ignore-environment", *variables, *command]

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                with self._told:
                    self.lines.append(json.loads(line))
                    self._told.notify_all()
        with self._told:
            self._said_all = True
            self._told.notify_all()


def through(url: str) -> Reply:
    """Gets a URL through the proxy of the container, from the same network."""
    connection = HTTPConnection("127.0.0.1", PROXY_PORT, timeout=PATIENCE_S)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        return Reply(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        )
    finally:
        connection.close()


Start = Callable[..., Container]
