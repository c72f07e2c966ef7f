"""How the process ends: what is in flight is answered, and who asks is told."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from support.outage import LocalUpstream
from support.process import PATIENCE_S, PROGRAM, ROOT, RunningProxy, environment, get, until

ENDINGS = [signal.SIGTERM, signal.SIGINT]
# Only what the test does can end it within the time that a test has.
PATIENT = {"quiet": "0s", "timeout": "10m"}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"


@contextmanager
def in_flight(proxy: RunningProxy) -> Iterator[tuple[HTTPConnection, socket.socket]]:
    """A request that waits for its answer: the client's connection, and the upstream's end of the other."""
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        upstream.settimeout(PATIENCE_S)
        with closing(HTTPConnection("127.0.0.1", proxy.proxy_port, timeout=PATIENCE_S)) as client:
            client.request("GET", f"http://127.0.0.1:{upstream.getsockname()[1]}/")
            held, _ = upstream.accept()
            with held:
                held.settimeout(PATIENCE_S)
                assert held.recv(65536).startswith(b"GET / HTTP/1.1\r\n")
                yield client, held


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_idle_process_ends_with_0(ending: signal.Signals) -> None:
    with RunningProxy(drain={"timeout": "10m"}) as proxy:
        proxy.send(ending)
        assert proxy.ended() == 0
        events = [line["event"] for line in proxy.lines]
        assert events == ["started", "egress", "https", "draining", "stopped"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_in_flight_is_answered(ending: signal.Signals) -> None:
    with RunningProxy(drain=PATIENT) as proxy, in_flight(proxy) as (client, held):
        proxy.send(ending)
        proxy.told("draining")
        assert proxy.admin("/readyz").status == 503
        held.sendall(ANSWER)
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b"late")
        assert proxy.ended() == 0


def test_draining_is_told_and_new_requests_still_pass() -> None:
    with RunningProxy(drain=PATIENT) as proxy, LocalUpstream() as upstream:
        assert proxy.admin("/readyz").status == 200
        with in_flight(proxy) as (client, held):
            proxy.send(signal.SIGTERM)
            until(lambda: proxy.admin("/readyz").status == 503, "it stays ready")
            assert proxy.admin("/readyz").content == b"draining\n"
            assert proxy.admin("/livez").status == 200
            assert get(proxy.proxy_port, upstream.url).status == 200
            held.sendall(ANSWER)
            assert client.getresponse().status == 200
        assert proxy.ended() == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_second_signal_ends_it_at_once(ending: signal.Signals) -> None:
    with RunningProxy(drain=PATIENT) as proxy, in_flight(proxy) as (client, _):
        proxy.send(ending)
        proxy.told("draining")
        proxy.send(ending)
        answer = client.getresponse()
        assert (answer.status, answer.getheader("X-Breaker-Reason")) == (503, "draining")
        assert answer.getheader("Retry-After") == "1"
        assert proxy.ended() == 0


def test_drain_timeout_ends_it() -> None:
    with RunningProxy(drain={"timeout": "100ms"}) as proxy, in_flight(proxy) as (client, held):
        proxy.send(signal.SIGTERM)
        answer = client.getresponse()
        assert (answer.status, answer.getheader("X-Breaker-Reason")) == (503, "draining")
        assert held.recv(1) == b""
        assert proxy.ended() == 0


def test_an_open_tunnel_does_not_outlive_drain_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        address = f"127.0.0.1:{upstream.getsockname()[1]}"
        with RunningProxy(drain={"timeout": "100ms"}) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.proxy_port), PATIENCE_S) as client:
                client.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
                proxy.send(signal.SIGTERM)
                assert client.recv(1) == b""
                assert proxy.ended() == 0


def test_an_idle_tunnel_does_not_hold_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        address = f"127.0.0.1:{upstream.getsockname()[1]}"
        with RunningProxy(drain=PATIENT) as proxy, ExitStack() as open_tunnels:
            clients = []
            for _ in range(5):
                client = socket.create_connection(("127.0.0.1", proxy.proxy_port), PATIENCE_S)
                clients.append(open_tunnels.enter_context(client))
                client.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            proxy.send(signal.SIGTERM)
            assert [client.recv(1) for client in clients] == [b""] * 5
            assert proxy.ended() == 0
        # One line for all of them, and none that calls it a failure.
        assert [line["tunnels"] for line in proxy.all_told("idle tunnels cut")] == [5]
        assert [line["event"] for line in proxy.lines if line["level"] != "info"] == []


def test_a_tunnel_that_is_cut_while_it_is_used_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        address = f"127.0.0.1:{upstream.getsockname()[1]}"
        with RunningProxy(drain=PATIENT) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.proxy_port), PATIENCE_S) as client:
                client.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
                proxy.send(signal.SIGTERM)
                proxy.told("draining")
                client.sendall(b"\0")
                upstream.settimeout(PATIENCE_S)
                served, _ = upstream.accept()
                with served:
                    served.settimeout(PATIENCE_S)
                    assert served.recv(1) == b"\0"
                    proxy.send(signal.SIGTERM)
                    assert client.recv(1) == b""
                assert proxy.ended() == 0
        assert [line["reason"] for line in proxy.all_told("exchange ended")] == ["draining"]
        assert proxy.all_told("idle tunnels cut") == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_before_it_listens_there_is_nothing_to_drain(ending: signal.Signals, tmp_path: Path) -> None:
    """Its configuration never comes, so that it is known how far its start has got."""
    config = tmp_path / "config.yaml"
    os.mkfifo(config)
    with subprocess.Popen(
        [*PROGRAM, "run", "--config", str(config)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        # It is opened for writing once the other side reads.
        with config.open("w"):
            process.send_signal(ending)
            said, _ = process.communicate(timeout=PATIENCE_S)
        assert said == b""
        assert process.returncode == 0


@contextmanager
def importing(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that is still importing what a proxy needs, and what it opens there and waits to read."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    # It is found in place of the real one, which it then loads.
    (tmp_path / "uvloop.py").write_text(
        f"open({str(gate)!r}).read()\n"
        "import sys\n"
        "sys.path.remove(__file__.rpartition('/')[0])\n"
        "del sys.modules['uvloop']\n"
        "import uvloop\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    listen = {"BREAKER_PROXY_LISTEN_PROXY": "127.0.0.1:0", "BREAKER_PROXY_LISTEN_ADMIN": "127.0.0.1:0"}
    with subprocess.Popen(
        [*PROGRAM, "run"],
        cwd=ROOT,
        env=environment(PYTHONPATH=path, **listen),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield process, gate
        finally:
            process.kill()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_signal_while_it_still_imports_ends_it_in_order(ending: signal.Signals, tmp_path: Path) -> None:
    with importing(tmp_path) as (process, gate), gate.open("w"):
        process.send_signal(ending)
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert (said, process.returncode) == (b"", 0)


def test_a_reload_while_it_still_imports_does_not_end_it(tmp_path: Path) -> None:
    with importing(tmp_path) as (process, gate):
        with gate.open("w"):
            process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        assert b'"event":"started"' in process.stdout.readline().replace(b": ", b":")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=PATIENCE_S)
    assert b"stopped" in rest
    assert process.returncode == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_signal_at_the_very_end_changes_nothing(ending: signal.Signals) -> None:
    """Whoever is impatient does not make a fault of an orderly end."""
    with RunningProxy(drain=PATIENT) as proxy:
        proxy.send(ending)
        proxy.told("stopped")
        while proxy.process.poll() is None:
            proxy.send(ending)
        assert proxy.ended() == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_look_ups_that_hang_do_not_hold_it(ending: signal.Signals) -> None:
    """The server never answers, and the time for that is longer than a test may take."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, ExitStack() as clients:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(PATIENCE_S)
        with RunningProxy(
            drain={"timeout": "100ms"},
            dns={"servers": [f"127.0.0.1:{silent.getsockname()[1]}"]},
            timeouts={"dns": "10m"},
        ) as proxy:
            asking = []
            for name in ("a.test", "b.test", "web", "a.test"):
                client = clients.enter_context(
                    closing(HTTPConnection("127.0.0.1", proxy.proxy_port, timeout=PATIENCE_S))
                )
                client.request("GET", f"http://{name}/")
                asking.append(client)
            # A and AAAA of three names.
            for _ in range(6):
                silent.recv(4096)
            proxy.send(ending)
            for client in asking:
                answer = client.getresponse()
                assert (answer.status, answer.getheader("X-Breaker-Reason")) == (503, "draining")
            assert proxy.ended() == 0
