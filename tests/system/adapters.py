"""Clients in the languages of those who call out, each as a process that finds the proxy in its environment.

An adapter is a small program in the client's own language. It makes one client, reads one call a line from
standard input and writes one answer a line to standard output, both JSON; contents stand in files. To add a
client, write its adapter and a row in `kinds`.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, Literal, Protocol

from support.process import PATIENCE_S, Reply

HERE = Path(__file__).parent

Framing = Literal["whole", "chunked", "expected"]

# Where clients look for whom to trust.
TRUST = frozenset(
    {
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "NODE_USE_SYSTEM_CA",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
    }
)


@dataclass(frozen=True)
class Ask:
    """One call.

    Attributes:
        framing: of the content, if there is any: its length is told; in chunks; or told, and sent only once
            the upstream has said "100 Continue".
    """

    url: str
    method: str = "GET"
    content: bytes = b""
    framing: Framing = "whole"
    timeout_s: float = PATIENCE_S


class Answerless(Exception):
    """The client has no answer to show, only this text."""


class Client(Protocol):
    """Makes calls, one after another; keeps its connections for the next ones if it can.

    Raises:
        Answerless: as it says.
        TimeoutError: it has given up.
    """

    def __call__(self, *asks: Ask) -> list[Reply]: ...


def environment(proxy_url: str) -> dict[str, str]:
    """The environment of the tests with this proxy and no other, and nobody to be trusted but by default."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and name not in TRUST
    }
    return inherited | dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy_url)


class _Adapter:
    """A running adapter."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._content = folder / "content"
        self._into = folder / "answer"

    def __call__(self, *asks: Ask) -> list[Reply]:
        return [self._ask(ask) for ask in asks]

    def _ask(self, ask: Ask) -> Reply:
        self._content.write_bytes(ask.content)
        self._into.write_bytes(b"")
        told = self._say(
            {
                "method": ask.method,
                "url": ask.url,
                "framing": ask.framing if ask.content else "none",
                "timeout_ms": round(ask.timeout_s * 1000),
                "content": str(self._content),
                "into": str(self._into),
            }
        )
        if told.get("timeout"):
            raise TimeoutError
        if "error" in told:
            raise Answerless(told["error"])
        interim = tuple(told.get("interim", ()))
        return Reply(told["status"], told["headers"], self._into.read_bytes(), interim)

    def _say(self, line: Mapping[str, Any]) -> dict[str, Any]:
        process, watch = self._process, Timer(2 * PATIENCE_S, self._process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
        watch.start()
        try:
            process.stdin.write(json.dumps(line) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            watch.cancel()
        assert answer, f"the adapter has ended, or had to be: {line}"
        told: dict[str, Any] = json.loads(answer)
        return told


@contextmanager
def adapter(folder: Path, environ: Mapping[str, str], *command: str) -> Iterator[Client]:
    """Runs an adapter, and proves that it ends when its input does."""
    with subprocess.Popen(
        command, cwd=HERE, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _Adapter(process, folder)
        finally:
            # The end of its input is the end of it.
            process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
