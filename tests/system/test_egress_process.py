"""The egress guard of the real process, on a machine with addresses of all kinds (root, Linux).

The services that listen on them record every connection, and each is at the same port.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from support.dns import DnsServer
from support.inside import Inside
from support.process import RunningProxy
from system.namespaces import network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network namespace")

PORT = 8080
PUBLIC = ["8.8.8.8", "2606:4700:4700::1111"]
METADATA = ["169.254.169.254", "168.63.129.16", "fd00:ec2::254"]
LINK_LOCAL = ["169.254.7.7", "fe80::7"]
PRIVATE = ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.0.0.8", "fd12::1"]
LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1"]
HERE = [*PUBLIC, *METADATA, *LINK_LOCAL, *PRIVATE]
# Without a zone, nothing link-local of IPv6 can be called; with one, it is no host.
CALLABLE = [address for address in (*HERE, *LOOPBACK) if not address.startswith("fe80")]

NAMES = {f"n{number}.test": [address] for number, address in enumerate([*HERE, *LOOPBACK])}
NAMES["private.test"] = PRIVATE
# No more of a family than are looked at (MOST_PER_FAMILY).
NAMES["mixed.test"] = [PRIVATE[0], PRIVATE[-1], *LOOPBACK, PUBLIC[0], *METADATA]
NAMES["mapped.test"] = ["::ffff:a00:1"]


def host_of(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def name_of(address: str) -> str:
    return next(name for name, known in NAMES.items() if known == [address])


@pytest.fixture
def machine() -> Iterator[None]:
    with network(*HERE):
        yield


@contextmanager
def running(**sections: Any) -> Iterator[RunningProxy]:
    """The process, with the settings it has by itself, but for these."""
    with ExitStack() as resources:
        portal = resources.enter_context(start_blocking_portal())
        dns = resources.enter_context(portal.wrap_async_context_manager(DnsServer(NAMES)))
        sections = {"egress": {}, "dns": {"servers": [f"127.0.0.1:{dns.port}"]}} | sections
        yield resources.enter_context(RunningProxy(**sections))


def asked(proxy: RunningProxy, authority: str, method: str, proxy_at: str = "127.0.0.1") -> bytes:
    """The head of the answer to a request."""
    target = authority if method == "CONNECT" else f"http://{authority}/"
    with socket.create_connection((proxy_at, proxy.proxy_port), timeout=10) as client:
        client.sendall(f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return client.recv(65536).partition(b"\r\n\r\n")[0]


def reached(proxy: RunningProxy, address: str, inside: Inside) -> bool:
    """Whether tunnels lead to an address, by itself and by its name; what is refused connects to nothing."""
    before = len(inside.reached)
    answers = {asked(proxy, f"{host}:{PORT}", "CONNECT") for host in (host_of(address), name_of(address))}
    new = inside.reached[before:]
    if new:
        assert new == [address] * 2
        assert answers == {b"HTTP/1.1 200 Connection established"}
        return True
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 502 Address denied by egress.")
        assert b"X-Breaker-Reason: address_denied\r\n" in answer
    return False


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("egress", "allowed"),
    [
        ({}, PUBLIC),
        ({"addresses": "public"}, PUBLIC),
        ({"addresses": "no-metadata"}, [*PUBLIC, *PRIVATE, *LOOPBACK]),
        ({"addresses": "any"}, CALLABLE),
        ({"allow": ["10.0.0.0/8", "fd00::/8"]}, [*PUBLIC, "10.0.0.1", "fd12::1", "fd00:ec2::254"]),
        ({"allow": ["10.0.0.0/8"], "deny": ["8.8.0.0/16", "10.0.0.1"]}, PUBLIC[1:]),
        (
            {"addresses": "any", "deny": ["0.0.0.0/1", "::/1", "fd00::/8"]},
            ["169.254.169.254", "168.63.129.16", "169.254.7.7", "172.16.0.1", "192.168.1.1", "192.0.0.8"],
        ),
    ],
    ids=str,
)
def test_which_addresses_are_reached(egress: dict[str, Any], allowed: list[str]) -> None:
    with Inside(*CALLABLE, port=PORT) as inside, running(egress=egress) as proxy:
        assert [address for address in CALLABLE if reached(proxy, address, inside)] == sorted(
            allowed, key=CALLABLE.index
        )


@pytest.mark.usefixtures("machine")
def test_by_default_nothing_private_is_reached_in_any_spelling() -> None:
    hosts = [
        "localhost",
        "0.0.0.0",
        "[::]",
        "[fe80::7]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::a00:1]",
        "[2002:a00:1::1]",
        "private.test",
        "mapped.test",
        "127.1",
        "0xa.1",
        "167772161",
        "012.0.0.1",
        "10.0.0.1.",
        "[fe80::7%25lo]",
    ]
    with Inside(*CALLABLE, port=PORT) as inside, running() as proxy:
        descriptors = proxy.descriptors()
        for host in hosts:
            for method in ("GET", "CONNECT"):
                answer = asked(proxy, f"{host}:{PORT}", method)
                assert answer.startswith(
                    (b"HTTP/1.1 502 Address denied by egress.addresses", b"HTTP/1.1 400 ")
                )
        assert inside.reached == []
        # Of a name with all kinds of addresses, the public one is called.
        assert asked(proxy, f"mixed.test:{PORT}", "CONNECT") == b"HTTP/1.1 200 Connection established"
        assert inside.reached == [PUBLIC[0]]
        denied = 2 * (len(hosts) - 5)
        assert proxy.metric("denied_total", reason="address_denied", enforced="true") == denied
        assert proxy.metric("circuits", state="closed") in (0, 1)
        assert proxy.descriptors() <= descriptors + 1
    told = [
        line
        for line in proxy.lines
        if line["event"] == "exchange ended" and line["reason"] == "address_denied"
    ]
    assert len(told) == denied
    assert {line["outcome"] for line in told} == {"neutral"}
    by_name = [line["address"] for line in told if line["upstream"] == f"private.test:{PORT}"]
    assert len(by_name) == 1
    assert set(by_name) <= set(PRIVATE)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("everywhere", "proxy_at"), [("0.0.0.0", "127.0.0.1"), ("[::]", "::1")])
def test_own_listeners_are_refused_by_all_addresses_of_the_machine(everywhere: str, proxy_at: str) -> None:
    addresses = [*CALLABLE, "127.4.4.4", "0.0.0.0", "::", "::ffff:7f00:1", "::ffff:a00:1"]
    hosts = [*map(host_of, addresses), "localhost", "private.test", "mixed.test", "mapped.test"]
    listen = {
        "proxy": f"{everywhere}:0",
        "admin": "127.0.0.1:0",
        "reverse": f"{everywhere}:9090",
        "open_relay": True,
    }
    routes = [{"path": "/", "upstream": "http://127.0.0.1:9090", "internal": True}]
    with running(listen=listen, routes=routes, egress={"addresses": "any"}) as proxy:
        calls = [
            (f"{host}:{port}", method)
            for port in (proxy.proxy_port, proxy.admin_port, 9090)
            for host in hosts
            for method in ("GET", "CONNECT")
        ]
        for authority, method in calls:
            answer = asked(proxy, authority, method, proxy_at)
            assert answer.startswith(b"HTTP/1.1 502 Own listener"), authority
        # A route that is called internal leads there no more than anything else does.
        with socket.create_connection((proxy_at, 9090), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 502 Own listener")
        # Each call was one: none has come in again.
        assert proxy.metric("denied_total", reason="address_denied", enforced="true") == len(calls) + 1


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("egress", "refused_by"),
    [
        ({}, "Address denied by egress.addresses"),
        ({"addresses": "any", "deny": ["0.0.0.0/0", "::/0"]}, "Address denied by egress.deny"),
        # Own listeners beat `allow`, which has told already that this may be called.
        ({"allow": ["10.0.0.0/8", "fd12::/16"]}, "Own listener"),
    ],
    ids=str,
)
def test_of_what_is_forbidden_nobody_learns_whether_it_is_this_machines(
    egress: dict[str, Any], refused_by: str
) -> None:
    listen = {"proxy": "0.0.0.0:0", "admin": "[::]:0", "open_relay": True}
    with running(listen=listen, egress=egress) as proxy:
        for port in (proxy.proxy_port, proxy.admin_port):
            for here, elsewhere in (("10.0.0.1", "10.0.0.2"), ("[fd12::1]", "[fd12::2]")):
                for method in ("GET", "CONNECT"):
                    answer = asked(proxy, f"{here}:{port}", method)
                    assert answer.startswith(f"HTTP/1.1 502 {refused_by}\r\n".encode())
                    there = asked(proxy, f"{elsewhere}:{port}", method)
                    same = there.replace(elsewhere.encode(), here.encode()) == answer
                    assert same is (refused_by != "Own listener")


@pytest.mark.usefixtures("machine")
def test_a_connection_never_meets_itself() -> None:
    """Nobody listens at the port, and the kernel has few to choose from for the client's end."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40003", encoding="ascii")
    circuit = {"consecutive_failures": 0, "min_calls": 0}
    listen = {"proxy": "127.0.0.1:3128", "admin": "127.0.0.1:3129"}
    with running(listen=listen, egress={"addresses": "any"}, circuit=circuit) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.proxy_port), timeout=10) as client:
            for number in range(100):
                host = ("127.0.0.1", "localhost", "10.0.0.1", "[::1]")[number % 4]
                client.sendall(f"GET http://{host}:40002/ HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                answer = client.recv(65536)
                assert answer.startswith(b"HTTP/1.1 502 Connection refused"), answer
