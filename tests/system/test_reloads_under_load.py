"""The long form of tests/process/test_reloads.py: wrk calls as fast as it can while the settings change."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.outage import LocalUpstream
from support.process import PATIENCE_S, RunningProxy, environment, get, until

RELOADED, NOT_RELOADED = "configuration reloaded", "configuration not reloaded"
LOAD_S = 30
RELOADS = 20
CLIENTS = 32
# Longer than the test, so that nothing ends by itself that is to stay.
CIRCUIT = {"open": "10m", "open_max": "10m", "window": "10m", "consecutive_failures": 5, "retry_spread": 0}
# wrk knows nothing of proxies: it is told to write the absolute-form itself, and half of its calls close.
SCRIPT = """
local number = 0
request = function()
  number = number + 1
  local fields = {["Host"] = "%(authority)s"}
  if number %% 2 == 0 then fields["Connection"] = "close" end
  return wrk.format("POST", "%(url)s", fields, string.rep("x", 512))
end
"""


def circuit(proxy: RunningProxy, authority: str) -> dict[str, Any]:
    """What must not change of a circuit that nobody calls."""
    found = json.loads(proxy.admin(f"/api/v1/circuits/{quote(authority, safe='')}").content)
    kept = ("state", "reason", "cause", "since", "level", "calls", "failed", "slow", "rejected", "override")
    return {key: found[key] for key in kept}


def other(number: int, port: int) -> dict[str, Any]:
    """Settings that differ from those before in every part that a reload takes."""
    return {
        "circuit": CIRCUIT | {"recovery_threshold": 1 + number},
        "timeouts": {"head": f"{20 + number}s", "dns": f"{5 + number}s", "upstream_idle": f"{number % 3}s"},
        "limits": {
            "max_circuits": 1000 + number,
            "idle_per_host": 8 * (number % 5),
            "max_fields": 64 + number,
        },
        "egress": {"addresses": "any", "deny": [f"192.0.2.{number}"]},
        "dns": {"ttl_max": f"{100 + number}s"},
        "upstreams": [{"match": f"localhost:{port}", "timeouts": {"head": f"{30 + number}s"}}] * (number % 2),
        "admin": {"hosts": [f"admin-{number}.test"]},
        "metrics": {"max_circuits": 100 + number},
        "log": {"access": ("all", "errors", "off")[number % 3], "level": ("info", "debug")[number % 2]},
        "via": bool(number % 2),
    }


@pytest.mark.timeout(150)
def test_half_a_minute_of_load_with_twenty_reloads(tmp_path: Path) -> None:
    """Five of them are broken. No call fails, and what was known of other upstreams stays known."""
    with (
        LocalUpstream("localhost") as upstream,
        LocalUpstream() as dead,
        LocalUpstream("localhost") as failing,
        RunningProxy(circuit=CIRCUIT) as proxy,
    ):
        for sick, calls in ((dead, 6), (failing, 3)):
            sick.kill()
            for _ in range(calls):
                get(proxy.proxy_port, sick.url)
        before = [circuit(proxy, sick.authority) for sick in (dead, failing)]
        assert [(each["state"], each["failed"], each["rejected"]) for each in before] == [
            ("open", 0, 1),
            ("closed", 3, 0),
        ]
        script = tmp_path / "call.lua"
        script.write_text(SCRIPT % {"authority": upstream.authority, "url": upstream.url})
        began = time.monotonic()
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{LOAD_S}s", "--timeout", f"{PATIENCE_S:.0f}s"]
        with subprocess.Popen(
            [*command, "-s", str(script), f"http://127.0.0.1:{proxy.proxy_port}"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as wrk:
            for number in range(RELOADS):
                # Evenly over the load; what is late is made up for by the next.
                due = began + (number + 0.5) * LOAD_S / RELOADS
                until(lambda: time.monotonic() >= due or wrk.poll() is not None, "the time is not come")  # noqa: B023 -- it is asked at once
                assert wrk.poll() is None, "the load has ended before the reloads"
                is_bad = number % 4 == 3
                told = len(proxy.all_told(NOT_RELOADED if is_bad else RELOADED))
                if is_bad:
                    proxy.write(f"circuit: {{open: soon}}\nlimits: {{max_circuits: -{number}}}\n")
                else:
                    proxy.configure(**other(number, upstream.port))
                proxy.send(signal.SIGHUP)
                proxy.told(NOT_RELOADED if is_bad else RELOADED, told + 1)
                until(lambda: proxy.metric("config_reload_success") == (not is_bad), "it is not told")  # noqa: B023 -- as above
                assert [circuit(proxy, sick.authority) for sick in (dead, failing)] == before
            said, _ = wrk.communicate(timeout=LOAD_S + PATIENCE_S)
        assert wrk.returncode == 0, said
        assert "Socket errors" not in said, said
        assert "Non-2xx" not in said, said
        done = re.search(r"(\d+) requests in", said)
        assert done is not None, said
        assert int(done[1]) > CLIENTS * RELOADS, said
        success = {"circuit": upstream.authority, "scope": "host"}
        for outcome in ("failure", "abandoned"):
            assert not proxy.metric("circuit_calls_total", **success, outcome=outcome)
        carried = proxy.metric("circuit_calls_total", **success, outcome="success")
        # Those that wrk leaves behind at its end are carried out and not counted by it.
        assert carried is not None
        assert int(done[1]) <= carried <= int(done[1]) + CLIENTS
        # Two more failures make five in a row, and the open one has answered for itself all the while.
        get(proxy.proxy_port, failing.url)
        get(proxy.proxy_port, failing.url)
        assert circuit(proxy, failing.authority)["state"] == "open"
        assert get(proxy.proxy_port, dead.url).status == 503
