"""All clients that are tried, and what each is able to."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from system.adapters import HERE, Client, adapter
from system.curl import curl

UNDICI_REFUSED = "Proxy response ({status}) !== 200 when HTTP Tunneling"

Start = Callable[[Path, Mapping[str, str]], AbstractContextManager[Client]]


@dataclass(frozen=True)
class Kind:
    """A client.

    Attributes:
        start: starts it with a folder of its own and an environment.
        tunnels: it sends http:// through CONNECT, too.
        refused: what it says when its CONNECT is refused, with {status} and {reason} for those of the proxy's
            answer. Empty: it shows that answer as if it were the upstream's.
        unauthorized: what else it says when the proxy wants another token.
        expects: it can send "Expect: 100-continue".
        interim: it shows interim answers.
        hints: the status it shows where "103 Early Hints" goes before 200. Python's http.client, beneath
            requests, takes any interim answer but 100 for the final one.
    """

    start: Start
    tunnels: bool = False
    refused: str = ""
    unauthorized: str = ""
    expects: bool = False
    interim: bool = False
    hints: int = 200


def _run(*command: str) -> Start:
    return lambda folder, environ: adapter(folder, environ, *command)


def _python(name: str) -> Start:
    return _run(sys.executable, "python/call.py", name)


def _undici(way: str) -> Start:
    return _run("node", "node/undici.mjs", way)


def _curl(*options: str) -> Start:
    return lambda folder, environ: curl(folder, environ, *options)


@contextmanager
def _go(folder: Path, environ: Mapping[str, str]) -> Iterator[Client]:
    program = str(folder / "call")
    # It needs no module beside the standard library, and asks no server whether there is one.
    offline = {"GO111MODULE": "off", "GOCACHE": str(folder / "cache"), "GOFLAGS": "", "GOPROXY": "off"}
    subprocess.run(
        ["go", "build", "-o", program, "go/call.go"], cwd=HERE, env={**environ, **offline}, check=True
    )
    with adapter(folder, environ, program) as client:
        yield client


KINDS = {
    "curl": Kind(_curl(), expects=True, interim=True),
    "curl-tunnel": Kind(_curl("-p"), tunnels=True, expects=True, interim=True),
    "requests": Kind(_python("requests"), refused="Tunnel connection failed: {status} {reason}'", hints=103),
    "httpx": Kind(_python("httpx"), refused="{status} {reason}"),
    "aiohttp": Kind(_python("aiohttp"), refused="{status}, message='{reason}'"),
    "undici": Kind(_undici("tunnel"), tunnels=True, refused=UNDICI_REFUSED, interim=True),
    "undici-forward": Kind(
        _undici("forward"),
        refused=UNDICI_REFUSED,
        unauthorized="Proxy Authentication Required (407)",
        interim=True,
    ),
    "axios": Kind(_run("node", "node/axios.mjs")),
    "go": Kind(_go, refused=": {reason}", expects=True, interim=True),
    "java": Kind(
        _run("java", "java/Call.java"),
        refused="Tunnel failed, got: {status}",
        unauthorized="too many authentication attempts",
        expects=True,
    ),
}
