"""A client behind a network that begins to drop everything, without FIN or RST: its tunnel still ends."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.process import PATIENCE_S, RunningProxy, until

OURS, THEIRS = "10.213.7.1", "10.213.7.2"
CLIENT = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
client.sendall(b"CONNECT %b HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n" % sys.argv[3].encode())
print(client.recv(4096)[:12].decode(), flush=True)
sys.stdin.read()
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network of its own, joined to this one by a pair of interfaces."""
    if os.geteuid():
        pytest.skip("only root can make networks")
    name = f"bp{os.getpid()}"
    with ExitStack() as undo:
        ip("netns", "add", name)
        undo.callback(ip, "netns", "del", name)
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{OURS}/30", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "addr", "add", f"{THEIRS}/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        yield name


def test_the_tunnel_of_a_client_that_vanishes_ends_long_before_it_is_idle_for_too_long(
    namespace: str,
) -> None:
    listen = {"proxy": f"{OURS}:0", "admin": "127.0.0.1:0", "open_relay": True}
    with RunningProxy(listen=listen, timeouts={"body_idle": "2s"}) as proxy, ExitStack() as ends:
        listener = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        authority = f"127.0.0.1:{listener.getsockname()[1]}"
        client = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                namespace,
                sys.executable,
                "-c",
                CLIENT,
                OURS,
                str(proxy.proxy_port),
                authority,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ends.callback(client.communicate)
        ends.callback(client.kill)
        upstream = ends.enter_context(listener.accept()[0])
        upstream.settimeout(PATIENCE_S)
        assert client.stdout is not None
        assert client.stdout.readline() == "HTTP/1.1 200\n"
        assert proxy.metric("tunnels") == 1
        # From here on nothing arrives at either side.
        ip("-n", namespace, "link", "set", "eth0", "down")
        until(lambda: proxy.metric("tunnels") == 0, "the tunnel is still there")
        assert upstream.recv(1) == b""
