"""What the page shows of requests that are kept for later."""

from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from playwright.sync_api import Browser, expect
from support.outage import LocalUpstream
from support.process import PATIENCE_S, RunningProxy
from system.page.chromium import Visitor

CIRCUIT = {"consecutive_failures": 1, "open": "5m"}
UPSTREAMS = [{"match": "*", "fallback": {"defer": True}}]


def post(running: RunningProxy, url: str) -> int:
    connection = HTTPConnection("127.0.0.1", running.proxy_port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("POST", url, body=b"event")
        return connection.getresponse().status


def test_how_many_wait_and_for_how_long(browser: Browser, tmp_path: Path) -> None:
    path = {"path": str(tmp_path / "deferred.db")}
    with (
        LocalUpstream() as upstream,
        RunningProxy(defer=path, circuit=CIRCUIT, upstreams=UPSTREAMS) as proxy,
        Visitor(browser) as visitor,
    ):
        upstream.kill()
        live = visitor.visit(proxy)
        expect(live.connection).to_have_text("live")
        expect(live.page.locator("#kept")).to_be_hidden()
        assert [post(proxy, upstream.url) for _ in range(3)] == [502, 202, 202]
        expect(live.page.get_by_label("Kept for later")).to_have_text("2")
        detail = live.opened(upstream.authority)
        expect(detail.get_by_text("2 requests, the oldest for")).to_be_visible()
