"""What one peer of each kind costs in memory, with the real process.

    PYTHONPATH=tests python bench/memory/bench_memory.py [--each 200]

Each kind gets a process of its own; the figure is the growth of its resident memory, divided by the peers.
What kernels hold in their socket buffers is not in it.
"""

import argparse
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import sleep

from support.process import RunningProxy

_BLOCK = bytes(1 << 20)
_NARROW = 4096
_LENGTH = 10**10
_UNLIMITED = {"max_connections": 10_000, "max_tunnels": 10_000}


class _Peers:
    def __init__(self, proxy: RunningProxy, held: ExitStack) -> None:
        self._proxy = proxy
        self._held = held
        self._listener = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        self.authority = b"127.0.0.1:%d" % self._listener.getsockname()[1]
        self.stuffed: list[socket.socket] = []

    def client(self, said: bytes, *, narrow: bool = False) -> socket.socket:
        client = self._held.enter_context(socket.socket())
        if narrow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
        client.connect(("127.0.0.1", self._proxy.proxy_port))
        client.sendall(said)
        return client

    def upstream(self) -> socket.socket:
        upstream = self._held.enter_context(self._listener.accept()[0])
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
        return upstream

    def idle(self) -> None:
        self.client(b"")

    def head(self) -> None:
        self.client(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 31_000)

    def waiting(self) -> None:
        self.client(b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority)
        self.upstream()

    def upload(self) -> None:
        head = b"POST http://%b/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        self.stuffed.append(self.client(head % (self.authority, _LENGTH)))
        self.upstream()

    def download(self) -> None:
        self.client(b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority, narrow=True)
        upstream = self.upstream()
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _LENGTH)
        self.stuffed.append(upstream)

    def tunnel(self) -> None:
        client = self.client(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority)
        self.upstream()
        client.recv(_NARROW)

    def full_tunnel(self) -> None:
        client = self.client(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority, narrow=True)
        upstream = self.upstream()
        client.recv(_NARROW)
        self.stuffed += [client, upstream]

    def stuff(self) -> None:
        for each in self.stuffed:
            each.setblocking(False)  # noqa: FBT003 -- as the library has it
        for _ in range(8 if self.stuffed else 1):
            for each in self.stuffed:
                with suppress(BlockingIOError):
                    while True:
                        each.send(_BLOCK)
            sleep(0.3)


_KINDS: dict[str, Callable[[_Peers], None]] = {
    "idle client": _Peers.idle,
    "client in the middle of a head of 31 kB": _Peers.head,
    "exchange that waits for its head": _Peers.waiting,
    "upload that the upstream does not read": _Peers.upload,
    "response that the client does not read": _Peers.download,
    "idle tunnel": _Peers.tunnel,
    "tunnel that neither side reads": _Peers.full_tunnel,
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=200)
    count = parser.parse_args().each
    for name, begin in _KINDS.items():
        with RunningProxy(limits=_UNLIMITED, circuit={"max_in_flight": 10_000}) as proxy, ExitStack() as held:
            peers = _Peers(proxy, held)
            proxy.metric("in_flight")
            before = proxy.memory("VmRSS")
            for _ in range(count):
                begin(peers)
            peers.stuff()
            each = (proxy.memory("VmHWM") - before) / count / 1000
        sys.stdout.write(f"{name:42} {each:6.1f} kB (started with {before / 1e6:.1f} MB)\n")


if __name__ == "__main__":
    main()
