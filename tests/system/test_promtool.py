"""What Prometheus' own checker says of /metrics after a life with an outage in it."""

import subprocess

from support.outage import LocalUpstream
from support.process import OPEN, RunningProxy, get, until


def test_metrics_pass_promtool() -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        assert get(proxy.proxy_port, upstream.url).status == 200
        upstream.kill()
        until(lambda: proxy.metric("pool_connections", state="idle") == 0, "a dead connection stays")
        assert [get(proxy.proxy_port, upstream.url).status for _ in range(6)] == [502] * 5 + [503]
        content = proxy.admin("/metrics").content
        circuit = {"circuit": upstream.authority, "scope": "host"}
        assert proxy.metric("circuit_state", **circuit) == OPEN
        opened = {"from_state": "closed", "to_state": "open", "reason": "consecutive_failures"}
        assert proxy.metric("circuit_transitions_total", **circuit, **opened) == 1
        refused = {"reason": "circuit_open", "enforced": "true"}
        assert proxy.metric("circuit_rejected_total", **circuit, **refused) == 1
        answered = {"entry": "forward", "code_class": "2xx", "source": "upstream"}
        assert proxy.metric("requests_total", **answered) == 1
        own = {"entry": "forward", "code_class": "5xx", "source": "proxy"}
        assert proxy.metric("requests_total", **own) == 6
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=content, capture_output=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
