"""A server on loopback that says to each client whatever a test wants, in threads."""

import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

from support.process import PATIENCE_S

Script = Callable[[socket.socket, Event], None]


class OddServer:
    """Reads the head of each request, and then follows a script.

    Args:
        scripts: of the first client, of the second, and so on; the last one is that of all others. Each gets
            the connection, and an event that is set when all is over.

    Attributes:
        heads: of the requests so far.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._over = Event()
        self._threads: list[Thread] = []
        self.heads: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        self._threads.append(Thread(target=self._accept))
        self._threads[0].start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        # It is woken by what it waits for.
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S):
            self._threads[0].join(PATIENCE_S)
        self._listening.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            if self._over.is_set():
                client.close()
                return
            script = self._scripts[min(len(self._threads), len(self._scripts)) - 1]
            self._threads.append(Thread(target=self._serve, args=(client, script)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket, script: Script) -> None:
        with client, suppress(OSError):
            client.settimeout(PATIENCE_S)
            head = b""
            while b"\r\n\r\n" not in head and (received := client.recv(65536)):
                head += received
            self.heads.append(head)
            script(client, self._over)


def says(answer: bytes) -> Script:
    """Sends an answer and closes."""

    def script(client: socket.socket, _over: Event) -> None:
        client.sendall(answer)

    return script


def answers(content: bytes, status: str = "200 OK", *fields: str) -> Script:
    """Sends a proper answer and closes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *fields]
    if not any(line.lower().startswith("content-type:") for line in fields):
        lines.append("Content-Type: application/json")
    return says("\r\n".join(lines).encode() + b"\r\n\r\n" + content)


def drips(head: bytes, drop: bytes) -> Script:
    """Sends something, and then for ever a little more."""

    def script(client: socket.socket, over: Event) -> None:
        client.sendall(head)
        while not over.wait(0.01):
            client.sendall(drop)

    return script


def pours(head: bytes, piece: bytes) -> Script:
    """Sends something, and then for ever more, as fast as it is taken."""

    def script(client: socket.socket, over: Event) -> None:
        client.sendall(head)
        while not over.is_set():
            client.sendall(piece)

    return script


def is_silent(_client: socket.socket, over: Event) -> None:
    """Says nothing at all."""
    over.wait(PATIENCE_S)
