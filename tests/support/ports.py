"""Ports of 127.0.0.1: one refuses, one never answers, one waits for a server of ours."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def refusing() -> Iterator[int]:
    """A port on which nobody listens, and which nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def reserved() -> Iterator[int]:
    """A port that nobody else is given meanwhile, and on which a server of ours may listen all the same."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def unresponsive() -> Iterator[int]:
    """A port whose queue is full: the kernel answers a connect neither way."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        with ExitStack() as waiting:
            answered = True
            while answered:
                sock = waiting.enter_context(socket.socket())
                sock.settimeout(0.1)
                answered = sock.connect_ex(listening.getsockname()) == 0
            yield listening.getsockname()[1]
