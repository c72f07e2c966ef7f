"""The admin port of the real process, called by another machine (root, Linux)."""

import json
import os
import socket

import pytest
from support.process import PATIENCE_S, RunningProxy
from system.namespaces import network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network namespace")

HERE, ANOTHER = "10.0.0.1", "10.0.0.2"
STEER = "/api/v1/circuits/a.test:80/open"


def asked(proxy: RunningProxy, to: str, by: str, method: str, path: str, *fields: str) -> bytes:
    """The head of the answer to a request from one address to another."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields]
    with socket.create_connection((to, proxy.admin_port), PATIENCE_S, source_address=(by, 0)) as client:
        client.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + b"{}" * (method == "POST"))
        return client.recv(65536).partition(b"\r\n")[0]


def test_who_calls_from_another_address_needs_the_token_whatever_he_says() -> None:
    posted = ("Content-Type: application/json", "Content-Length: 2", "X-Forwarded-For: 127.0.0.1")
    with network(HERE, ANOTHER), RunningProxy(listen={"proxy": "127.0.0.1:0", "admin": "0.0.0.0:0"}) as proxy:
        for by in (ANOTHER, HERE):
            for path in ("/api/v1/config", "/api/v1/circuits", "/api/v1/events"):
                assert asked(proxy, HERE, by, "GET", path).startswith(b"HTTP/1.1 401 ")
            assert asked(proxy, HERE, by, "POST", STEER, *posted).startswith(b"HTTP/1.1 401 ")
            assert asked(proxy, HERE, by, "GET", "/readyz").startswith(b"HTTP/1.1 200 ")
        assert [line for line in proxy.lines if line["event"] == "circuit steered"] == []


def test_on_loopback_only_loopback_addresses_are_this_machine() -> None:
    """An address of this machine that is not on loopback can call what is, if it is bound to it."""
    with network(HERE), RunningProxy() as proxy:
        assert asked(proxy, "127.0.0.1", "127.0.0.9", "GET", "/api/v1/config").startswith(b"HTTP/1.1 200 ")
        assert asked(proxy, "127.0.0.1", HERE, "GET", "/api/v1/config").startswith(b"HTTP/1.1 401 ")
        with pytest.raises(ConnectionRefusedError):
            asked(proxy, HERE, HERE, "GET", "/livez")
        assert json.loads(proxy.admin("/api/v1/circuits").content)["total"] == 0
