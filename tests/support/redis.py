"""A Redis server."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.process import PATIENCE_S
from support.servers import Server, serving


@contextmanager
def redis(folder: Path) -> Iterator[tuple[Server, Path]]:
    """Runs one that is empty, keeps nothing on disk and listens on a unix socket only; gives both."""
    path = folder / "redis.sock"
    options = {"port": "0", "unixsocket": str(path), "dir": str(folder), "save": "", "appendonly": "no"}
    command = ["redis-server", *(word for key, value in options.items() for word in (f"--{key}", value))]
    with serving(command, folder / "redis.log") as server:
        server.until(lambda: _answers(path))
        yield server, path


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, suppress(FileNotFoundError, ConnectionRefusedError):
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        return client.recv(16) == b"+PONG\r\n"
    return False
