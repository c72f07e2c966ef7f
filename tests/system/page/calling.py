"""Calls through a proxy to an upstream that dies and comes back, and what the API says of that."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

from support.outage import LocalUpstream
from support.process import PATIENCE_S, Reply, RunningProxy, get

# Opens after two failures, and is closed by the first probe that succeeds.
HASTY: Mapping[str, Any] = {
    "consecutive_failures": 2,
    "recovery_threshold": 1,
    "open": "1m",
    "open_jitter": 0,
}


def call(proxy: RunningProxy, upstream: LocalUpstream) -> Reply:
    """One call to an upstream."""
    return get(proxy.proxy_port, upstream.url)


def trip(proxy: RunningProxy, upstream: LocalUpstream) -> None:
    """Kills an upstream that has not been called yet; its circuit, a hasty one, opens."""
    upstream.kill()
    assert [call(proxy, upstream).status for _ in range(3)] == [502, 502, 503]


def asked(proxy: RunningProxy, key: str) -> Any:
    """What the API says of a circuit."""
    return json.loads(proxy.admin(f"/api/v1/circuits/{quote(key, safe='')}").content)


class AdminClient:
    """One connection to the API, for many calls.

    Args:
        proxy: whose API.
    """

    def __init__(self, proxy: RunningProxy) -> None:
        self._connection = HTTPConnection("127.0.0.1", proxy.admin_port, timeout=PATIENCE_S)

    def steer(self, key: str, action: str, **wish: str) -> None:
        """Has something done to a circuit."""
        self._connection.request(
            "POST",
            f"/api/v1/circuits/{quote(key, safe='')}/{action}",
            json.dumps(wish),
            {"Content-Type": "application/json"},
        )
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content

    def close(self) -> None:
        """Closes it."""
        self._connection.close()
