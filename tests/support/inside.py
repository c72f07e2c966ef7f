"""The service that nobody may reach from outside: it records every connection, and says nothing."""

import socket
from contextlib import ExitStack
from typing import Self


class Inside:
    """Listens on addresses of this machine, all on one port, while its `with` lasts.

    The kernel completes connections by itself and keeps them until they are counted, so that none is missed,
    not even one that was closed or reset at once.

    Args:
        addresses: where it listens.
        port: 0 takes a free one.
    """

    def __init__(self, *addresses: str, port: int = 0) -> None:
        self.port = port
        self._addresses = addresses
        self._listeners: list[socket.socket] = []
        self._resources = ExitStack()
        self._reached: list[str] = []

    @property
    def reached(self) -> list[str]:
        """By which of its addresses it was reached, once for each connection so far."""
        for listener in self._listeners:
            while True:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    break
                with connection:
                    self._reached.append(connection.getsockname()[0])
        return self._reached

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            for address in self._addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                listener = resources.enter_context(socket.socket(family))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family is socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                *_, sockaddr = socket.getaddrinfo(address, self.port, type=socket.SOCK_STREAM)[0]
                listener.bind(sockaddr)
                listener.listen(128)
                listener.settimeout(0)
                self.port = listener.getsockname()[1]
                self._listeners.append(listener)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        self._listeners.clear()
