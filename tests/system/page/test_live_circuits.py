"""What the page shows of circuits while they open, wait and close."""

import re
from datetime import datetime
from typing import Any

from playwright.sync_api import Browser, expect
from support.outage import LocalUpstream
from support.process import RunningProxy, until
from system.page.calling import HASTY, asked, call, trip
from system.page.chromium import Visitor

SEEN_WITHIN_S = 2.0

# When a state is first painted in a row, in ms since 1970.
_SEES = """
([key, word]) => {
  const isShown = () => {
    const row = document.querySelector(`[role=table] [data-key="${key}"]`);
    const words = [...(row?.querySelectorAll("*") ?? [])];
    return words.some((each) => each.childElementCount === 0 && each.textContent === word
      && each.checkVisibility());
  };
  window.seenAt = new Promise((resolve) => {
    const look = () => {
      if (!isShown()) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => resolve(Date.now())));
    };
    const observer = new MutationObserver(look);
    observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
    look();
  });
}
"""
# All that a row says, from now on.
_HEARS = """
(row) => {
  window.heard = [row.innerText];
  new MutationObserver(() => window.heard.push(row.innerText))
    .observe(row, { subtree: true, childList: true, characterData: true });
}
"""


def epoch_ms(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() * 1000


def opening(proxy: RunningProxy, key: str) -> Any:
    """The latest transition of a circuit, which is that of its opening."""
    latest = asked(proxy, key)["transitions"][0]
    assert latest["to_state"] == "open"
    return latest


def test_an_opening_is_seen_within_two_seconds(browser: Browser) -> None:
    with LocalUpstream() as upstream, RunningProxy(circuit=HASTY) as proxy, Visitor(browser) as visitor:
        key = upstream.authority
        live = visitor.visit(proxy)
        assert call(proxy, upstream).status == 200
        live.expect_state(key, "closed")
        live.page.evaluate(_SEES, [key, "open"])
        upstream.kill()
        while call(proxy, upstream).status == 502:
            pass
        late_s = (live.page.evaluate("window.seenAt") - epoch_ms(opening(proxy, key)["at"])) / 1000
        assert 0 <= late_s < SEEN_WITHIN_S
        assert "Failures in a row" in live.cell(key, "Reason").inner_text()
        expect(live.latest).to_contain_text(key)


def test_the_opening_of_a_circuit_that_was_not_there_is_seen_as_soon(browser: Browser) -> None:
    with LocalUpstream() as upstream, RunningProxy(circuit=HASTY) as proxy, Visitor(browser) as visitor:
        key = upstream.authority
        live = visitor.visit(proxy)
        expect(live.connection).to_have_text("live")
        live.page.evaluate(_SEES, [key, "open"])
        trip(proxy, upstream)
        late_s = (live.page.evaluate("window.seenAt") - epoch_ms(opening(proxy, key)["at"])) / 1000
        assert 0 <= late_s < SEEN_WITHIN_S


def test_it_counts_down_to_the_probe_that_then_closes_the_circuit(browser: Browser) -> None:
    circuit = {**HASTY, "open": "4s"}
    with LocalUpstream() as upstream, RunningProxy(circuit=circuit) as proxy, Visitor(browser) as visitor:
        key = upstream.authority
        live = visitor.visit(proxy)
        trip(proxy, upstream)
        live.expect_state(key, "open")
        live.row(key).evaluate(_HEARS)
        upstream.start()

        live.expect_state(key, "half-open")
        heard = live.page.evaluate("window.heard")
        left = [int(seconds) for text in heard for seconds in re.findall(r"\bin (\d+) s\b", text)]
        assert left[0] <= 4
        assert left == sorted(left, reverse=True), heard
        # Second by second, and not only when the proxy is asked.
        assert {3, 2, 1} <= set(left), heard

        assert call(proxy, upstream).status == 200
        live.expect_state(key, "closed")
        live.opened(key)
        expect(live.transitions(key).get_by_role("listitem")).to_have_count(3)
        for text in ("Failures in a row", "refused the connection", "Its probes were good"):
            expect(live.transitions(key)).to_contain_text(text)


def test_circuits_that_need_a_look_are_first_and_counted(browser: Browser) -> None:
    with (
        LocalUpstream() as well,
        LocalUpstream() as sick,
        RunningProxy(circuit=HASTY) as proxy,
        Visitor(browser) as visitor,
    ):
        for _ in range(3):
            assert call(proxy, well).status == 200
        trip(proxy, sick)
        live = visitor.visit(proxy)
        expect(live.rows).to_have_count(2)
        keys = [row.get_attribute("data-key") for row in live.rows.all()]
        assert keys == [sick.authority, well.authority]
        expect(live.table).to_have_attribute("aria-rowcount", "2")
        expect(live.cell(well.authority, "Failures")).to_contain_text("0 of 3")
        expect(live.cell(sick.authority, "Circuit")).to_contain_text("1 refused")
        totals = live.page.get_by_role("region", name="Totals", exact=True)
        for number in ("open 1", "closed 1", "half-open 0"):
            expect(totals.get_by_role("button", name=number, exact=True)).to_be_visible()
        totals.get_by_role("button", name="closed 1", exact=True).click()
        expect(live.rows).to_have_count(1)
        expect(live.row(well.authority)).to_be_visible()


def test_the_totals_are_nothing_and_then_rates_of_what_happens(browser: Browser) -> None:
    with LocalUpstream() as well, LocalUpstream() as sick:
        with RunningProxy(circuit=HASTY) as proxy, Visitor(browser) as visitor:
            live = visitor.visit(proxy)
            expect(live.connection).to_have_text("live")
            totals = live.page.get_by_role("region", name="Totals", exact=True)
            figures = ["Calls a second", "Failures a second", "Refused a second"]
            for name in figures:
                expect(totals.get_by_label(name, exact=True)).to_have_text("0")
            sick.kill()
            live.page.evaluate(
                """(names) => {
                  window.positive = new Set();
                  const look = () => names.forEach((name) => {
                    const terms = [...document.querySelectorAll("dt")];
                    const term = terms.find((each) => each.textContent === name);
                    if (/[1-9]/.test(term?.nextElementSibling?.textContent)) window.positive.add(name);
                  });
                  new MutationObserver(look).observe(
                    document, { subtree: true, childList: true, characterData: true });
                }""",
                figures,
            )
            positive = live.page.evaluate_handle("window.positive")

            def make_calls() -> bool:
                for _ in range(5):
                    call(proxy, well)
                    call(proxy, sick)
                return bool(positive.evaluate("(names) => names.size") == len(figures))

            until(make_calls, "no rate goes up")
