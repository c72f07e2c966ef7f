"""A program as a process on a terminal of its own."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Self

from support.process import PATIENCE_S, PROGRAM, ROOT, environment

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>78])")


class Terminal:
    """A command on a pseudo-terminal, from its start until the `with` ends, which ends it as well.

    Args:
        arguments: of the program.
        program: ours, or another one.
        width: in characters.
        height: in lines.
        variables: of its environment.

    Attributes:
        raw: all that it has written so far, escapes included.
    """

    def __init__(
        self,
        *arguments: str,
        program: Sequence[str] = PROGRAM,
        width: int = 80,
        height: int = 24,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [*program, *arguments]
        self._size = struct.pack("HHHH", height, width, 0, 0)
        without = {"COLUMNS", "LINES", "NO_COLOR"}
        inherited = {name: value for name, value in environment().items() if name not in without}
        self._environ = inherited | {"TERM": "xterm-256color"} | dict(variables or {})
        self._ours = -1
        self._process: subprocess.Popen[bytes] | None = None
        self.raw = ""

    def __enter__(self) -> Self:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, self._size)
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environ,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 -- no threads here
        )
        os.close(theirs)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._ours)

    @property
    def text(self) -> str:
        """All that it has written so far, without escapes and bells, in lines."""
        return _ESCAPES.sub("", self.raw).replace("\x07", "").replace("\r\n", "\n")

    def shows(self, text: str, after: int = 0) -> str:
        """Waits until it has written a text, and returns all that it has written.

        Args:
            text: without escapes.
            after: how many characters of `text` do not count.
        """
        end = monotonic() + PATIENCE_S
        while text not in self.text[after:]:
            assert self._read(end - monotonic()), f"no {text!r}: {self.text!r}"
        return self.text

    def has_written(self) -> bool:
        """Whether there is anything that was not read yet."""
        ready, _, _ = select.select([self._ours], [], [], 0)
        return bool(ready)

    def press(self, keys: str) -> None:
        """Types something; "\\x03" is Ctrl-C."""
        os.write(self._ours, keys.encode())

    def ended(self) -> int:
        """Reads on until it has ended; returns the exit code."""
        end = monotonic() + PATIENCE_S
        while self._read(end - monotonic()):
            pass
        assert self._process is not None
        return self._process.wait(PATIENCE_S)

    def send(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, seconds))
        assert ready, f"it hangs: {self.text!r}"
        try:
            received = os.read(self._ours, 65536)
        except OSError:
            # Linux: the other side is closed.
            return False
        self.raw += received.decode("utf-8", "replace")
        return bool(received)
