"""A sidecar's life with everything in it that its metrics tell of, while a Prometheus looks on."""

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from typing import Any

import yaml
from anyio.from_thread import start_blocking_portal
from support import certificates
from support.dns import DnsServer, Trouble
from support.outage import LocalUpstream, Verbatim
from support.process import PATIENCE_S, ROOT, RunningProxy, free_port, get, until
from system.prometheus import Prometheus, prometheus

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
ERROR = Verbatim(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
MISSING = Verbatim(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
PATH = "/hook?event=1"
HOSTS = (
    "well.test",
    "sick.test",
    "dead.test",
    "flaky.test",
    "seen.test",
    "secure.test",
    "forced.test",
    "later.test",
)
SETTINGS: dict[str, Any] = {
    "version": 1,
    "circuit": {"open": "1s", "open_max": "1s", "open_jitter": 0, "min_calls": 2, "recovery_threshold": 1},
    "egress": {
        "addresses": "any",
        "deny": ["127.0.0.9/32"],
        "hosts": {"deny": ["forbidden.test"], "mode": "enforce"},
    },
}
# How often it is looked at, and for how long at least: rates need a few looks.
SCRAPE_S = 0.5
LOOKS = 16
# What Pods look like to Prometheus' discovery; only the first is a target.
_FOUND = (
    {"phase": "Running", "container_port_name": "bp-admin"},
    {"phase": "Running", "container_port_name": "http"},
    {"phase": "Succeeded", "container_port_name": "bp-admin"},
)


def scraping(port: int) -> dict[str, Any]:
    """deploy/prometheus/prometheus-kubernetes.yml, but that Pods are not looked for in a cluster.

    Debian's Prometheus knows nothing of Kubernetes; what discovery would find is written down instead, so
    that the rest of the file is what is tried.
    """
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus-kubernetes.yml").read_text())
    config["rule_files"] = [str(RULES / "*.yml")]
    every = f"{int(SCRAPE_S * 1000)}ms"
    config["global"] = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    (job,) = config["scrape_configs"]
    (discovery,) = job.pop("kubernetes_sd_configs")
    assert discovery["role"] == "pod"
    prefix = "__meta_kubernetes_"
    job["static_configs"] = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {
                f"{prefix}namespace": "shop",
                f"{prefix}pod_name": "dispatcher-0",
                f"{prefix}pod_container_name": "breaker-proxy",
            }
            | {f"{prefix}pod_{name}": value for name, value in facts.items()},
        }
        for facts in _FOUND
    ]
    return config


class Life:
    """What happens to the sidecar, again and again.

    Args:
        proxy: with the settings above.
        upstreams: by their hosts.
    """

    def __init__(self, proxy: RunningProxy, upstreams: dict[str, LocalUpstream]) -> None:
        self._proxy = proxy
        self._upstreams = upstreams

    def go_on(self) -> None:
        """Each kind of call once or a few times; what must come of it is said behind it."""
        for host in ("well.test", "sick.test", "seen.test", "dead.test", "flaky.test", "later.test"):
            for _ in range(3):
                self.call(self._upstreams[host].url)
        assert self.call(self._upstreams["well.test"].url) == 200
        assert self.call(f"{self._upstreams['well.test'].origin}/missing") == 404
        assert self.call(f"{self._upstreams['well.test'].origin}/fails") == 500
        secure = self._upstreams["secure.test"]
        assert self.call(f"http://{secure.authority}{PATH}") == 200
        assert self.call("http://nowhere.test/") in {502, 503}
        assert self.call("http://broken.test/") == 502
        assert self.call("http://127.0.0.9/") == 502
        assert self.call("http://forbidden.test/") == 403
        assert self.call(f"http://{self._upstreams['forced.test'].authority}{PATH}") == 503
        with self.tunnel():
            pass

    @contextmanager
    def tunnel(self) -> Iterator[None]:
        """A tunnel through which something has come back."""
        well = self._upstreams["well.test"]
        with closing(socket.create_connection(("127.0.0.1", self._proxy.proxy_port), PATIENCE_S)) as client:
            client.sendall(f"CONNECT {well.authority} HTTP/1.1\r\nHost: {well.authority}\r\n\r\n".encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            # Not HTTP, so that it stays a tunnel.
            client.sendall(b"\x00\r\n\r\n")
            assert client.recv(4096)
            yield

    def steer(self, action: str, host: str) -> None:
        """An operator does something to a circuit."""
        with closing(HTTPConnection("127.0.0.1", self._proxy.admin_port, timeout=PATIENCE_S)) as connection:
            path = f"/api/v1/circuits/{self._upstreams[host].authority}/{action}"
            connection.request("POST", path, "{}", {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200

    def be_late(self, host: str) -> None:
        """A call fails whose circuit has begun anew meanwhile; its upstream is dead behind it."""
        upstream = self._upstreams[host]
        with closing(socket.create_connection(("127.0.0.1", self._proxy.proxy_port), PATIENCE_S)) as client:
            client.sendall(
                f"GET {upstream.origin}/silent HTTP/1.1\r\nHost: {upstream.authority}\r\n\r\n".encode()
            )
            until(lambda: "GET /silent" in upstream.seen, "the call does not arrive")
            self.steer("reset", host)
            upstream.kill()
            assert client.recv(4096).startswith(b"HTTP/1.1 502 ")

    def fail_to_reload(self) -> None:
        """Somebody writes nonsense into the configuration."""
        self._proxy.write("version: 1\ncircuit: {open: soon}\n")
        self._proxy.send(signal.SIGHUP)
        self._proxy.told("configuration not reloaded")

    def call(self, url: str) -> int:
        """The status of a call through the proxy."""
        return get(self._proxy.proxy_port, url).status


@contextmanager
def watched(folder: Path) -> Iterator[tuple[Prometheus, RunningProxy]]:
    """The life, lived; what Prometheus has seen of it, and the sidecar, are still there."""
    with ExitStack() as resources:
        names = {host: ["127.0.0.1"] for host in HOSTS} | {"broken.test": Trouble.SERVFAIL}
        portal = resources.enter_context(start_blocking_portal())
        dns = resources.enter_context(portal.wrap_async_context_manager(DnsServer(names)))
        tls = certificates.server("secure.test")
        upstreams = {
            host: resources.enter_context(
                LocalUpstream(
                    host,
                    {PATH: ERROR}
                    if host in {"sick.test", "seen.test"}
                    else {"/missing": MISSING, "/fails": ERROR, "/silent": Verbatim(b"")},
                    tls=tls if host == "secure.test" else None,
                )
            )
            for host in HOSTS
        }
        upstreams["dead.test"].kill()
        upstreams["later.test"].kill()
        settings = SETTINGS | {
            "defer": {"path": str(folder / "deferred.db"), "methods": ["GET"]},
            "dns": {"servers": [str(dns.endpoint)], "negative": "0s", "ttl_min": "0s"},
            "upstreams": [
                {"match": "later.test", "fallback": {"defer": True}},
                {"match": "seen.test", "circuit": {"mode": "observe"}},
                {"match": "secure.test", "https": "originate", "tls": {"ca": certificates.authority_path()}},
            ],
        }
        port = free_port()
        settings["listen"] = {"proxy": "127.0.0.1:0", "admin": f"127.0.0.1:{port}"}
        # One that ends, so that its successor is a restart.
        with RunningProxy(**settings):
            watching = resources.enter_context(prometheus(scraping(port), folder))
            until(lambda: watching.values("breaker_proxy_in_flight") == [0], "nothing is scraped")
        proxy = resources.enter_context(RunningProxy(**settings))
        _live(watching, Life(proxy, upstreams), upstreams["flaky.test"])
        # Whatever is asked from now on is about this moment, however long that takes.
        watching.at = watching.values("vector(time())")[0]
        yield watching, proxy


def _live(watching: Prometheus, life: Life, flaky: LocalUpstream) -> None:
    is_well = True
    state = f'breaker_proxy_circuit_state{{circuit="{flaky.authority}"}}'
    life.steer("open", "forced.test")
    with life.tunnel():
        looked = "count_over_time(breaker_proxy_in_flight[1m])"
        end = monotonic() + PATIENCE_S
        while sum(watching.values(looked)) < LOOKS:
            assert monotonic() < end, "Prometheus does not look"
            life.go_on()
            (flaky.kill if is_well else flaky.start)()
            is_well = not is_well
        life.fail_to_reload()
        until(
            lambda: watching.values("breaker_proxy_config_reload_success") == [0],
            "the failed reload is not seen",
        )
        if not is_well:
            flaky.start()
        until(lambda: life.call(flaky.url) == 200 and watching.values(state) == [0], "it does not get well")
        life.be_late("flaky.test")
        until(lambda: life.call(flaky.url) == 503 and watching.values(state) == [2], "it does not fall sick")
