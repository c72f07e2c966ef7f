"""What one peer, or one thing that is remembered, costs in memory, with the real process.

    PYTHONPATH=tests python bench/memory/bench_memory.py [--each 200] [--only tunnel]

Each kind gets a process of its own; the figure is by how much its resident memory has grown (`Rss` in
/proc/PID/smaps_rollup) divided by how many there are. Socket buffers are the kernel's and not in it.
"""

import argparse
import asyncio
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep
from typing import Any

from support import certificates
from support.dns import DnsServer, Record
from support.process import PATIENCE_S, RunningProxy

_BLOCK = bytes(1 << 20)
_NARROW = 4096
_LENGTH = 10**10
_FIELD = b"X: " + b"y" * 31_000 + b"\r\n"
_LONG = "n" * 60 + "." + "n" * 60 + "." + "n" * 60 + ".test"
# What a TLS connection carries each way before it rests, so that its buffers are as large as they get.
_CARRIED = bytes(60_000 - 3) + b"end"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Peers:
    """Makes clients and upstreams of the proxy, which live as long as `held`."""

    def __init__(self, proxy: RunningProxy, held: ExitStack) -> None:
        self._proxy = proxy
        self._held = held
        # Any address of loopback is this one, so that there can be many upstreams.
        self._listener = held.enter_context(socket.create_server(("", 0), backlog=1024))
        self._listener.settimeout(PATIENCE_S)
        self.port = self._listener.getsockname()[1]
        self.authority = b"127.0.0.1:%d" % self.port
        self._stuffed: list[socket.socket] = []
        self._asking: socket.socket | None = None
        self._number = 0

    def resident(self) -> int:
        """The resident memory of the process in bytes."""
        rollup = Path(f"/proc/{self._proxy.process.pid}/smaps_rollup").read_text(encoding="ascii")
        found = re.search(r"^Rss:\s+(\d+) kB$", rollup, re.MULTILINE)
        if found is None:
            raise RuntimeError("the kernel does not say")
        return int(found[1]) * 1024

    def stuff(self) -> None:
        """Sends on all that are to be stuffed, until they take nothing more."""
        for each in self._stuffed:
            each.setblocking(False)  # noqa: FBT003 -- as the library has it
        quiet = 0
        while quiet < _QUIET:
            sent = 0
            for each in self._stuffed:
                with suppress(BlockingIOError, ssl.SSLWantWriteError):
                    while True:
                        sent += each.send(_BLOCK)
            quiet = 0 if sent else quiet + 1
            sleep(0.2)

    # Clients and upstreams.

    def _client(self, said: bytes, *, narrow: bool = False) -> socket.socket:
        client = self._held.enter_context(socket.socket())
        client.settimeout(PATIENCE_S)
        if narrow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
        client.connect(("127.0.0.1", self._proxy.proxy_port))
        client.sendall(said)
        return client

    def _accepted(self, *, narrow: bool = True) -> socket.socket:
        upstream = self._held.enter_context(self._listener.accept()[0])
        upstream.settimeout(PATIENCE_S)
        if narrow:
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
        return upstream

    def _asked(self) -> socket.socket:
        """An upstream that has the head of its request: an answer before that would be to nothing."""
        upstream = self._accepted()
        _read_to(b"\r\n\r\n", upstream)
        return upstream

    def idle(self) -> None:
        self._client(b"")

    def head(self) -> None:
        self._client(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n" + _FIELD.rstrip())

    def waiting(self) -> None:
        self._client(b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority)
        self._asked()

    def waiting_with_head(self) -> None:
        self._client(b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n%b\r\n" % (self.authority, _FIELD))
        self._asked()

    def upload(self) -> None:
        head = b"PUT http://%b/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        self._stuffed.append(self._client(head % (self.authority, _LENGTH)))
        self._asked()

    def download(self) -> None:
        self._client(b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority, narrow=True)
        upstream = self._asked()
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _LENGTH)
        self._stuffed.append(upstream)

    def both(self) -> None:
        head = b"PUT http://%b/ HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n"
        client = self._client(head % (self.authority, _FIELD, _LENGTH), narrow=True)
        upstream = self._asked()
        upstream.sendall(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (_FIELD, _LENGTH))
        self._stuffed += [client, upstream]

    def tunnel(self) -> tuple[socket.socket, socket.socket]:
        client = self._client(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority, narrow=True)
        upstream = self._accepted()
        client.recv(_NARROW)
        return client, upstream

    def full_tunnel(self) -> None:
        self._stuffed += self.tunnel()

    # What is remembered: one client asks again and again.

    def _ask(self, target: str) -> socket.socket:
        self._number += 1
        if self._asking is None:
            self._asking = self._client(b"")
        # What OPTIONS is for is not remembered, so that this is not measured along.
        self._asking.sendall(f"OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return self._asking

    def _many(self) -> str:
        return f"127.1.{self._number // 250}.{self._number % 250 + 1}"

    def host(self) -> None:
        self._ask(f"http://n{self._number}.{_LONG}/").recv(_NARROW)

    def address(self) -> None:
        self._ask(f"http://[fd00::{self._number:x}]/").recv(_NARROW)

    def path(self) -> None:
        if self._asking is None:
            self._asking = self._client(b"")
        self._number += 1
        path = str(self._number).ljust(240, "y")
        self._asking.sendall(f"GET http://a.test/{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self._asking.recv(_NARROW)

    def circuit(self) -> None:
        """The upstream refuses, which the circuit has to remember."""
        self._ask(f"http://{self._many()}:1/").recv(_NARROW)

    def idle_upstream(self) -> None:
        """The connection to the upstream stays, the client's is the same for all."""
        asking = self._ask(f"http://{self._many()}:{self.port}/")
        self._asked().sendall(_ANSWER)
        asking.recv(_NARROW)


class _TlsPeers(_Peers):
    """Speaks TLS, as a client within its CONNECT and as an upstream."""

    def __init__(self, proxy: RunningProxy, held: ExitStack) -> None:
        super().__init__(proxy, held)
        self._server = certificates.server()
        # The proxy's CA is new with each start, and nothing secret is said.
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def _client(self, said: bytes, *, narrow: bool = False, host: str = "127.0.0.1") -> ssl.SSLSocket:
        plain = super()._client(
            f"CONNECT {host}:{self.port} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), narrow=narrow
        )
        plain.recv(_NARROW)
        client = self._held.enter_context(self._context.wrap_socket(plain, server_hostname=host))
        client.sendall(
            said.replace(b"http://%b/" % self.authority, b"/").replace(b"Host: a", b"Host: " + self.authority)
        )
        return client

    def _accepted(self, *, narrow: bool = True) -> ssl.SSLSocket:
        plain = super()._accepted(narrow=narrow)
        return self._held.enter_context(self._server.wrap_socket(plain, server_side=True))

    def _carry(self, client: socket.socket, target: str) -> None:
        """Has a connection of a client's, and one to an upstream, carry much."""
        length = f"Content-Length: {len(_CARRIED)}\r\n\r\n"
        head = f"PUT {target} HTTP/1.1\r\nHost: {self.authority.decode()}\r\n{length}"
        client.sendall(head.encode() + _CARRIED)
        upstream = self._accepted(narrow=False)
        _read_to(_CARRIED[-3:], upstream)
        upstream.sendall(f"HTTP/1.1 200 OK\r\n{length}".encode() + _CARRIED)
        _read_to(_CARRIED[-3:], client)

    def idle(self) -> None:
        self._carry(self._client(b""), "/")

    def idle_upstream(self) -> None:
        if self._asking is None:
            self._asking = super()._client(b"")
        self._number += 1
        self._carry(self._asking, f"https://{self._many()}:{self.port}/")

    def full_websocket(self) -> None:
        key = b"dGhlIHNhbXBsZSBub25jZQ=="
        head = b"GET http://%b/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
        client = self._client(head % (self.authority, key), narrow=True)
        upstream = self._asked()
        upstream.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        _read_to(b"\r\n\r\n", client)
        self._stuffed += [client, upstream]

    def leaf(self) -> None:
        self._number += 1
        self._client(b"", host=f"n{self._number}.test").close()


def _read_to(end: bytes, peer: socket.socket) -> None:
    seen = b""
    while not seen.endswith(end):
        received = peer.recv(1 << 16)
        if not received:
            raise ConnectionError("it has ended")
        seen = seen[-len(end) :] + received


@dataclass(frozen=True)
class _Kind:
    """What is measured, in what settings, and how many at least."""

    begin: Callable[[Any], Any]
    least: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    sections: Mapping[str, Any] = field(default_factory=dict)
    peers: type[_Peers] = _Peers


_ONE_CIRCUIT = {"max_circuits": 1}
_DENYING = {"egress": {"hosts": {"deny": ["*.test"]}}}
_PUBLIC = {"egress": {"addresses": "public"}}
_ENTRY = {"upstreams": [{"match": "never.test", "open_action": "close"}]}
_KINDS = {
    "idle client": _Kind(_Peers.idle, 1000),
    "client in the middle of a head of 31 kB": _Kind(_Peers.head),
    "exchange that waits for its answer": _Kind(_Peers.waiting, 400),
    "the same, with a head of 31 kB": _Kind(_Peers.waiting_with_head),
    "upload that the upstream does not read": _Kind(_Peers.upload),
    "response that the client does not read": _Kind(_Peers.download),
    "both at once, with heads of 31 kB": _Kind(_Peers.both),
    "idle tunnel": _Kind(_Peers.tunnel, 1000),
    "tunnel that neither side reads": _Kind(_Peers.full_tunnel),
    "idle connection to an upstream (1)": _Kind(_Peers.idle_upstream, 2000, _ONE_CIRCUIT),
    "circuit (1)": _Kind(_Peers.circuit, 4000),
    "(1) what else is remembered of a host": _Kind(_Peers.circuit, 4000, _ONE_CIRCUIT),
    "host of 190 characters, ruled on": _Kind(_Peers.host, 4000, {}, _DENYING),
    "the same, where there are `upstreams`": _Kind(_Peers.host, 4000, {}, _DENYING | _ENTRY),
    "address in a URL, ruled on": _Kind(_Peers.address, 4000, {}, _PUBLIC),
    "URL of 256 characters": _Kind(_Peers.path, 4000, {}, _DENYING),
    "name of 190 characters, 1 address (2)": _Kind(_Peers.host, 1000, _ONE_CIRCUIT, _PUBLIC),
    "name of 190 characters, 32 addresses (2)": _Kind(_Peers.host, 1000, _ONE_CIRCUIT, _PUBLIC),
}
_INTERCEPTED = {
    "idle client, intercepted": _Kind(_TlsPeers.idle, 400, {"idle_total": 0}),
    "exchange that waits, intercepted": _Kind(_TlsPeers.waiting, 400),
    "both at once, with heads of 31 kB, intercepted": _Kind(_TlsPeers.both),
    "idle connection to an upstream (1), TLS": _Kind(_TlsPeers.idle_upstream, 500, _ONE_CIRCUIT),
    "WebSocket that neither side reads, intercepted": _Kind(_TlsPeers.full_websocket),
    "leaf certificate": _Kind(_TlsPeers.leaf, 350, _ONE_CIRCUIT),
}
_KINDS |= {name: replace(kind, peers=_TlsPeers) for name, kind in _INTERCEPTED.items()}
_UNLIMITED = {"max_connections": 10_000, "max_tunnels": 10_000, "idle_total": 10_000}
_WARM_UP = 20
# So many rounds in which nobody takes anything more are the end.
_QUIET = 3


class _Names(dict[str, Record]):
    """Every name has so many addresses, none of which may be called."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._record = Record(addresses=[f"10.0.0.{number + 1}" for number in range(count)], ttl=300)

    def get(self, _: str, default: Any = None) -> Record:
        del default
        return self._record


@contextmanager
def _resolving(addresses: int) -> Iterator[int]:
    """A DNS server in a thread of its own; gives its port."""
    server = DnsServer(_Names(addresses))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(server.__aenter__())
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.port
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(server.__aexit__())
        loop.close()


def _intercepting(folder: Path) -> dict[str, Any]:
    """Settings with which all is intercepted, and every upstream verified by one name."""
    path = folder / "upstreams.pem"
    certificates.authority().cert_pem.write_to_path(path)
    tls = {"ca": str(path), "server_name": certificates.NAME}
    return {
        "intercept": {"ephemeral": True},
        "timeouts": {"upstream_idle": "1h"},
        "upstreams": [{"match": "*", "https": "intercept", "tls": tls}],
    }


def _measured(name: str, kind: _Kind, least: int) -> tuple[float, float]:
    """How much there was before, and what each has taken, in bytes."""
    with ExitStack() as held:
        sections = dict(kind.sections)
        if "(2)" in name:
            port = held.enter_context(_resolving(int(name.split()[-3])))
            sections["dns"] = {"servers": [f"127.0.0.1:{port}"]}
        sections["circuit"] = {"max_in_flight": 10_000}
        if kind.peers is _TlsPeers:
            sections |= _intercepting(Path(held.enter_context(TemporaryDirectory())))
        with RunningProxy(limits=_UNLIMITED | dict(kind.limits), **sections) as proxy, ExitStack() as ends:
            peers = kind.peers(proxy, ends)
            for _ in range(_WARM_UP):
                kind.begin(peers)
            before = peers.resident()
            count = max(kind.least, least)
            for _ in range(count):
                kind.begin(peers)
            peers.stuff()
            return before, (peers.resident() - before) / count


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=200, help="how many peers of a kind at least")
    parser.add_argument("--only", default="", help="kinds with this in their names")
    wanted = parser.parse_args()
    for name, kind in _KINDS.items():
        if wanted.only in name:
            before, each = _measured(name, kind, wanted.each)
            sys.stdout.write(f"{name:46} {each / 1000:7.2f} kB (started with {before / 1e6:.1f} MB)\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
