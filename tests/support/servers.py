"""Programs of others, each in the foreground as a child of this process."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from support.process import PATIENCE_S

_LOOK_S = 0.02
_LAST_LINES = 20


class Server:
    """A program while it runs.

    Attributes:
        log: the file with all that it says.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.log = log
        self._process = process

    @property
    def has_ended(self) -> bool:
        """Whether it is no more."""
        return self._process.poll() is not None

    @property
    def said(self) -> str:
        """All that it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def until(self, is_up: Callable[[], bool]) -> None:
        """Waits for a sign of it.

        Raises:
            ServerError: it has ended, or is too slow.
        """
        end_s = monotonic() + PATIENCE_S
        while not is_up():
            # It is looked for the sign every now and then, and its end is seen at once.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_S)
            if self.has_ended:
                raise ServerError(self, f"ended at its start, with {self._process.returncode}")
            if monotonic() > end_s:
                raise ServerError(self, "does not come up")

    def check(self) -> None:
        """Sees to it that it still runs.

        Raises:
            ServerError: it has ended.
        """
        if self.has_ended:
            raise ServerError(self, f"ended by itself, with {self._process.returncode}")

    def end(self, patience_s: float = PATIENCE_S) -> None:
        """Asks it to end, and waits until it has.

        Raises:
            ServerError: it had ended before, or does not end, or not well.
        """
        self.check()
        self._process.terminate()
        try:
            code = self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise ServerError(self, "does not end") from None
        if code:
            raise ServerError(self, f"ended with {code}")


class ServerError(Exception):
    """A program that does not do what it should; the text has the end of its log."""

    def __init__(self, server: Server, what: str) -> None:
        last = server.said.splitlines()[-_LAST_LINES:]
        super().__init__("\n".join([f"{server.log.stem} {what}", *last]))


@contextmanager
def serving(
    command: Sequence[str | Path],
    log: Path,
    environ: Mapping[str, str] | None = None,
    *,
    end_patience_s: float = PATIENCE_S,
) -> Iterator[Server]:
    """Runs a program until the `with` ends; then SIGTERM ends it, and well.

    Args:
        command: it and its arguments.
        log: takes all that it says.
        environ: of its process; None: that of this one.
        end_patience_s: how long it may take to end.

    Raises:
        ServerError: it did not run to the end of the `with`, or did not end well.
    """
    with (
        log.open("wb") as said,
        subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            process_group=0,  # an interrupt from the terminal is for whoever has started it
        ) as process,
    ):
        server = Server(process, log)
        try:
            yield server
            server.end(end_patience_s)
        finally:
            # With those that it has started, whatever state it is in.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def search_path() -> str:
    """Where programs are looked for: also where Debian has its servers, which users may not have in PATH."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
