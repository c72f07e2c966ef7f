"""What an operator does on the page, and what becomes of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest
from playwright.sync_api import Browser, expect
from support.outage import LocalUpstream
from support.process import PATIENCE_S, RunningProxy
from system.page.calling import HASTY, asked, call, trip
from system.page.chromium import Visitor
from system.page.live_page import LivePage

NOTE = "they are moving"
# Until `go` is called.
HOLDS_ACTIONS = """() => {
  const usual = fetch;
  const going = new Promise((go) => { globalThis.go = go; });
  globalThis.fetch = async (url, options) => {
    if (options.method === "POST") await going;
    return usual(url, options);
  };
}"""


@contextmanager
def opened(browser: Browser, *expected: str) -> Iterator[tuple[LivePage, RunningProxy, LocalUpstream]]:
    """The page with the circuit of a healthy upstream opened; some complaints may be expected."""
    with LocalUpstream() as upstream, RunningProxy(circuit=HASTY) as proxy, Visitor(browser) as visitor:
        for complaint in expected:
            visitor.expects(complaint)
        assert call(proxy, upstream).status == 200
        live = visitor.visit(proxy)
        live.opened(upstream.authority)
        yield live, proxy, upstream


def events(proxy: RunningProxy, last: str) -> bytes:
    """The events kept so far, up to this text."""
    connection = HTTPConnection("127.0.0.1", proxy.admin_port, timeout=PATIENCE_S)
    try:
        # An unknown id asks for all there are.
        connection.request("GET", "/api/v1/events", headers={"Last-Event-ID": "none"})
        answer = connection.getresponse()
        heard = b""
        while last.encode() not in heard:
            heard += answer.read1()
        return heard
    finally:
        connection.close()


def test_forcing_a_circuit_open_refuses_the_next_call_and_is_told_everywhere(browser: Browser) -> None:
    with opened(browser) as (live, proxy, upstream):
        key = upstream.authority
        live.act("Force open", for_="10m", note=NOTE)
        expect(live.dialog).to_have_count(0)
        refused = call(proxy, upstream)
        assert (refused.status, refused.headers["x-breaker-reason"]) == (503, "circuit_forced_open")

        live.expect_state(key, "forced open")
        detail = live.detail(key)
        expect(detail.get_by_text(NOTE).first).to_be_visible()
        expect(live.transitions(key)).to_contain_text(NOTE)
        expect(live.latest).to_contain_text(NOTE)
        # Nearly all of ten minutes are left.
        expect(detail).to_contain_text("9 min 5")
        assert 590 < asked(proxy, key)["override"]["ttl_left_s"] <= 600
        assert NOTE in events(proxy, NOTE).decode()
        assert proxy.told("circuit steered")["note"] == NOTE


def test_an_answer_that_comes_late_leaves_the_next_dialog_alone(browser: Browser) -> None:
    with opened(browser) as (live, _, upstream):
        live.page.evaluate(HOLDS_ACTIONS)
        live.act("Force open")
        live.page.keyboard.press("Escape")
        live.button("Reset").click()
        live.page.evaluate("go()")
        live.expect_state(upstream.authority, "forced open")
        expect(live.dialog).to_contain_text(f"Reset: {upstream.authority}")


def test_giving_it_back_lets_probes_pass(browser: Browser) -> None:
    with opened(browser) as (live, proxy, upstream):
        key = upstream.authority
        expect(live.button("Give back")).to_have_count(0)
        live.act("Force open")
        live.expect_state(key, "forced open")
        assert call(proxy, upstream).status == 503
        live.act("Give back", note="they have moved")
        live.expect_state(key, "half-open")
        expect(live.button("Give back")).to_have_count(0)
        assert call(proxy, upstream).status == 200
        live.expect_state(key, "closed")
        expect(live.transitions(key)).to_contain_text("they have moved")


def test_forcing_it_closed_lets_calls_through_to_a_dead_upstream(browser: Browser) -> None:
    with LocalUpstream() as upstream, RunningProxy(circuit=HASTY) as proxy, Visitor(browser) as visitor:
        key = upstream.authority
        trip(proxy, upstream)
        live = visitor.visit(proxy)
        live.expect_state(key, "open")
        live.opened(key)
        live.act("Force closed", for_="1h", note=NOTE)
        live.expect_state(key, "forced closed")
        # They come to the upstream, and fail there, as often as they are made.
        assert [call(proxy, upstream).status for _ in range(5)] == [502] * 5


def test_a_reset_closes_an_open_circuit_at_once(browser: Browser) -> None:
    with LocalUpstream() as upstream, RunningProxy(circuit=HASTY) as proxy, Visitor(browser) as visitor:
        key = upstream.authority
        trip(proxy, upstream)
        live = visitor.visit(proxy)
        live.expect_state(key, "open")
        live.opened(key)
        live.button("Reset").click()
        # There is nothing that it could last.
        expect(live.dialog.get_by_label("For")).not_to_be_visible()
        live.dialog.get_by_role("button", name="Confirm", exact=True).click()
        live.expect_state(key, "closed")
        assert call(proxy, upstream).status == 502
        assert asked(proxy, key)["level"] == 0


def test_what_the_api_refuses_is_told_in_the_dialog_and_can_be_mended(browser: Browser) -> None:
    with opened(browser, "status of 400") as (live, proxy, upstream):
        key = upstream.authority
        live.act("Force open", for_="ten minutes", note=NOTE)
        alert = live.dialog.get_by_role("alert")
        expect(alert).to_be_visible()
        expect(alert).not_to_have_text("")
        assert asked(proxy, key)["override"] is None
        # What was written is still there.
        expect(live.dialog.get_by_label("Note")).to_have_value(NOTE)
        live.dialog.get_by_label("For").fill("10m")
        live.dialog.get_by_role("button", name="Confirm", exact=True).click()
        live.expect_state(key, "forced open")
        # The next one begins without the fault of the last.
        live.button("Give back").click()
        expect(live.dialog.get_by_role("alert")).not_to_be_visible()


@pytest.mark.parametrize("way", ["Cancel", "Escape"])
def test_who_thinks_better_of_it_changes_nothing(browser: Browser, way: str) -> None:
    with opened(browser) as (live, proxy, upstream):
        for action in ("Force open", "Force closed", "Reset"):
            live.button(action).click()
            live.dialog.get_by_label("Note").fill(NOTE)
            if way == "Escape":
                live.page.keyboard.press("Escape")
            else:
                live.button("Cancel").click()
            expect(live.dialog).to_have_count(0)
            # The circuit stays opened, and the button has the focus back.
            expect(live.button(action)).to_be_focused()
        detail = asked(proxy, upstream.authority)
        assert (detail["override"], detail["transitions"]) == (None, [])
        assert proxy.all_told("circuit steered") == []


def test_the_proxy_that_has_gone_is_told_in_the_dialog(browser: Browser) -> None:
    with LocalUpstream() as upstream, RunningProxy(circuit=HASTY) as proxy, Visitor(browser) as visitor:
        assert call(proxy, upstream).status == 200
        live = visitor.visit(proxy)
        live.opened(upstream.authority)
        live.button("Force open").click()
        visitor.expects("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET")
        proxy.crash()
        live.dialog.get_by_role("button", name="Confirm", exact=True).click()
        expect(live.dialog.get_by_role("alert")).to_contain_text("does not answer")
