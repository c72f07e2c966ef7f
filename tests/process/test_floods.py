"""Up to every limit and beyond, against the real process: the limits hold, and who is served stays served."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread

import pytest
from support.process import PATIENCE_S, PROGRAM, RunningProxy, until

from proxy.core.budget import IDLE_CLIENT_BYTES, TURNED_AWAY, memory_bytes
from proxy.core.policy import Limits

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Served:
    """A healthy upstream, and calls of it."""

    def __init__(self, listener: socket.socket, proxy: RunningProxy) -> None:
        self.authority = b"127.0.0.1:%d" % listener.getsockname()[1]
        self._proxy = proxy

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._proxy.proxy_port), PATIENCE_S)

    def ask(self, client: socket.socket) -> bytes:
        """One call; the first bytes of the answer."""
        client.sendall(b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n\r\n" % self.authority)
        return client.recv(4096)


@contextmanager
def served(proxy: RunningProxy) -> Iterator[Served]:
    """An upstream that answers each of its connections with OK to whatever comes."""

    def answer() -> None:
        with ExitStack() as connections, suppress(OSError):
            while True:
                connection = connections.enter_context(listener.accept()[0])
                threads.append(Thread(target=talk, args=(connection,)))
                threads[-1].start()

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(65536):
                connection.sendall(OK)

    threads: list[Thread] = []

    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        thread = Thread(target=answer)
        thread.start()
        try:
            yield Served(listener, proxy)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in threads:
                each.join()


# More than the proxy takes at once; it sends each in pieces.
FLOODS = {
    "idle clients": b"",
    "slow heads": b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: y",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_clients_holds_up_nobody_who_is_served(kind: str) -> None:
    limits = Limits(max_connections=300)
    with RunningProxy(limits={"max_connections": 300}, timeouts={"request_head": "1s"}) as proxy:
        with served(proxy) as upstream, ExitStack() as clients:
            before = clients.enter_context(upstream.connect())
            assert upstream.ask(before).endswith(b"ok")
            descriptors = proxy.descriptors()
            flood = [clients.enter_context(upstream.connect()) for _ in range(900)]
            for each in flood:
                try:
                    each.sendall(FLOODS[kind])
                except OSError:  # it was closed, as the longest idle one or as one too many
                    continue
            assert proxy.descriptors() <= descriptors + 300 + TURNED_AWAY
            assert proxy.memory("VmHWM") < memory_bytes(limits)
            # A new client is served as soon as one that is slow has had its time.
            answers: list[bytes] = []

            def is_served() -> bool:
                with upstream.connect() as client, suppress(ConnectionError):
                    answers.append(upstream.ask(client))
                return answers[-1:] != [] and answers[-1].endswith(b"ok")

            until(is_served, "nobody is served")
            assert {each[:12] for each in answers} <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""}
        until(lambda: proxy.descriptors() <= descriptors, "a descriptor is left")


def test_with_few_descriptors_it_says_so_once_and_refuses_who_is_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit holds from the first line of the program on.
    monkeypatch.setattr("support.process.PROGRAM", ("prlimit", "--nofile=128:512", *PROGRAM))
    with RunningProxy() as proxy:
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
        lines = [line for line in proxy.lines if line["level"] == "warning" and "descriptors" in line]
        assert len(lines) == 1
        assert lines[0]["descriptors"] == 512
        most = int(lines[0]["limits.max_connections"].split()[-1])
        with served(proxy) as first, served(proxy) as second, ExitStack() as clients:
            tunnels = []
            for number in range(most + 10):
                # One alone does not get them all.
                upstream = (first, second)[number % 2]
                client = clients.enter_context(upstream.connect())
                client.sendall(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % upstream.authority)
                tunnels.append(client.recv(4096)[:12])
            assert tunnels[:most] == [b"HTTP/1.1 200"] * most
            assert set(tunnels[most:]) == {b"HTTP/1.1 503"}
            assert proxy.descriptors() < 512


def test_an_idle_tunnel_takes_fifteen_kilobytes() -> None:
    count = 1000
    with RunningProxy(limits={"max_tunnels": 2000}) as proxy, ExitStack() as ends:
        listener = ends.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        authority = b"127.0.0.1:%d" % listener.getsockname()[1]

        def tunnel() -> None:
            client = socket.create_connection(("127.0.0.1", proxy.proxy_port), PATIENCE_S)
            ends.enter_context(client).sendall(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % authority)
            ends.enter_context(listener.accept()[0])
            assert client.recv(4096).startswith(b"HTTP/1.1 200")

        for _ in range(20):
            tunnel()
        before = proxy.memory("VmRSS")
        for _ in range(count - 20):
            tunnel()
        assert (proxy.memory("VmRSS") - before) / (count - 20) <= 15_000


def test_an_idle_client_takes_what_the_formula_says() -> None:
    count = 1000
    with RunningProxy() as proxy, ExitStack() as ends:
        before = proxy.memory("VmRSS")
        address = ("127.0.0.1", proxy.proxy_port)
        for _ in range(count):
            ends.enter_context(socket.create_connection(address, PATIENCE_S))
        until(lambda: proxy.descriptors() > count, "they do not get connected")
        assert (proxy.memory("VmRSS") - before) / count <= IDLE_CLIENT_BYTES
