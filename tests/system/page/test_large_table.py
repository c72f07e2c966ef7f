"""The page of a proxy with 5,000 circuits, all of which were really called."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from playwright.sync_api import Browser, expect
from support.process import PATIENCE_S, RunningProxy
from system.page.chromium import Visitor

CIRCUITS = 5000
# Far more rows than any window shows.
MOST_ROWS = 120
REFRESHES = 5
# How long a refresh may keep a reader's keys waiting: many times what it takes, for noisy machines.
LONGEST_TASK_MS = 400


def address(number: int) -> str:
    """One of loopback where nobody listens."""
    return f"127.{1 + number // 250}.{number % 250}.1"


@pytest.fixture(scope="module")
def proxy() -> Iterator[RunningProxy]:
    """Every twentieth circuit is open."""
    with RunningProxy(circuit={"consecutive_failures": 2, "open": "10m", "open_max": "10m"}) as proxy:
        client = HTTPConnection("127.0.0.1", proxy.proxy_port, timeout=PATIENCE_S)
        for number in range(CIRCUITS):
            for _ in range(2 if number % 20 == 0 else 1):
                client.request("GET", f"http://{address(number)}:9/")
                answer = client.getresponse()
                answer.read()
                assert answer.status == 502
        client.close()
        assert json.loads(proxy.admin("/api/v1/circuits?limit=1").content)["total"] == CIRCUITS
        yield proxy


def test_only_rows_in_sight_are_in_the_document_and_the_last_can_be_seen(
    browser: Browser, proxy: RunningProxy
) -> None:
    with Visitor(browser) as visitor:
        live = visitor.visit(proxy)
        live.page.get_by_role("combobox", name="Sort by", exact=True).select_option("key")
        expect(live.table).to_have_attribute("aria-rowcount", str(CIRCUITS))
        first, *_, last = sorted(f"{address(number)}:9" for number in range(CIRCUITS))
        expect(live.row(first)).to_be_in_viewport()
        assert live.rows.count() <= MOST_ROWS

        # By the wheel, as far as it goes; and by the key.
        live.row(first).hover()
        live.page.mouse.wheel(0, 10_000_000)
        expect(live.row(last)).to_be_in_viewport()
        expect(live.row(last)).to_have_attribute("aria-rowindex", str(CIRCUITS))
        expect(live.row(first)).to_have_count(0)
        assert live.rows.count() <= MOST_ROWS
        live.row(last).focus()
        live.page.keyboard.press("Home")
        expect(live.row(first)).to_be_focused()
        live.page.keyboard.press("End")
        expect(live.row(last)).to_be_focused()
        assert live.page.evaluate("document.getElementsByTagName('*').length") < 5000


def test_the_search_and_the_state_narrow_it(browser: Browser, proxy: RunningProxy) -> None:
    with Visitor(browser) as visitor:
        live = visitor.visit(proxy)
        live.page.get_by_role("combobox", name="State", exact=True).select_option("open")
        expect(live.table).to_have_attribute("aria-rowcount", str(CIRCUITS // 20))
        live.search.fill(address(40))
        expect(live.table).to_have_attribute("aria-rowcount", "1")
        expect(live.row(f"{address(40)}:9")).to_be_visible()
        live.search.fill("nothing like it")
        expect(live.table).to_have_attribute("aria-rowcount", "0")
        expect(live.rows).to_have_count(0)


def test_refreshing_keeps_nobody_waiting(browser: Browser, proxy: RunningProxy) -> None:
    with Visitor(browser) as visitor:
        live = visitor.visit(proxy)
        expect(live.table).to_have_attribute("aria-rowcount", str(CIRCUITS))
        live.page.evaluate(
            """() => {
              window.tasks = [];
              new PerformanceObserver((list) => {
                for (const task of list.getEntries()) window.tasks.push(task.duration);
              }).observe({ type: "longtask" });
            }"""
        )
        for _ in range(REFRESHES):
            with live.page.expect_response(lambda answer: "/api/v1/circuits?" in answer.url):
                pass
        tasks = live.page.evaluate("window.tasks")
        assert max(tasks, default=0) < LONGEST_TASK_MS, tasks
