"""The page while the proxy restarts, while much happens, and while there is no room for one more reader."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, Route, expect
from support.outage import LocalUpstream
from support.process import PATIENCE_S, RunningProxy, free_port
from system.page.calling import HASTY, AdminClient, call, trip
from system.page.chromium import Visitor

# What Chromium says of calls that a proxy which has gone leaves unanswered.
GONE = "ERR_(CONNECTION_(REFUSED|RESET)|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED)"
READERS = 16


@contextmanager
def reading(proxy: RunningProxy) -> Iterator[None]:
    """Somebody else who listens to events."""
    with socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE_S) as reader:
        reader.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reader.recv(4096).startswith(b"HTTP/1.1 200 ")
        yield


@pytest.mark.parametrize("ending", ["terminated", "killed"])
def test_a_restart_is_told_and_got_over(browser: Browser, ending: str) -> None:
    listen = {"proxy": "127.0.0.1:0", "admin": f"127.0.0.1:{free_port()}"}
    with Visitor(browser) as visitor, LocalUpstream() as upstream:
        key = upstream.authority
        visitor.expects(GONE)
        with RunningProxy(circuit=HASTY, listen=listen) as proxy:
            trip(proxy, upstream)
            live = visitor.visit(proxy)
            live.expect_state(key, "open")
            expect(live.connection).to_have_text("live")
            if ending == "killed":
                proxy.crash()
        expect(live.connection).to_have_text("reconnecting")
        # Nobody takes what is still there for the state of things.
        alert = live.page.get_by_role("alert").filter(visible=True)
        expect(alert).to_have_count(1)

        upstream.start()
        with RunningProxy(circuit=HASTY, listen=listen) as proxy:
            assert call(proxy, upstream).status == 200
            expect(live.connection).to_have_text("live")
            expect(alert).to_have_count(0)
            # The new process has forgotten the circuit, and its counts begin at nothing.
            live.expect_state(key, "closed")
            expect(live.cell(key, "Failures")).to_contain_text("0 of 1")
            for figure in ("Calls a second", "Failures a second", "Refused a second"):
                assert "-" not in live.page.get_by_label(figure, exact=True).inner_text()
            upstream.kill()
            while call(proxy, upstream).status == 502:
                pass
            live.expect_state(key, "open")


def test_a_storm_of_transitions_leaves_the_page_quick_and_right(browser: Browser) -> None:
    keys = [f"storm-{number}.test:80" for number in range(10)]
    with RunningProxy() as proxy, Visitor(browser) as visitor:
        live = visitor.visit(proxy)
        expect(live.connection).to_have_text("live")
        visitor.requested.clear()
        admin = AdminClient(proxy)
        for _ in range(40):
            for key in keys:
                admin.steer(key, "open")
                admin.steer(key, "reset")
        admin.steer(keys[3], "open", note="the last of all")
        admin.close()
        live.expect_state(keys[3], "forced open")
        expect(live.latest).to_contain_text("the last of all")
        for key in keys[:3]:
            live.expect_state(key, "closed")
        # 801 transitions; the list keeps some, and asking for each of them anew would be as many calls.
        assert live.latest.get_by_role("listitem").count() <= 200
        assert len(visitor.requested) < 60


def test_without_room_for_a_reader_it_asks_now_and_then(browser: Browser) -> None:
    with LocalUpstream() as upstream, RunningProxy(circuit=HASTY) as proxy, ExitStack() as readers:
        for _ in range(READERS):
            readers.enter_context(reading(proxy))
        with Visitor(browser) as visitor:
            visitor.expects("status of 503")
            live = visitor.visit(proxy)
            expect(live.page.get_by_text("poll")).to_be_visible()
            trip(proxy, upstream)
            live.expect_state(upstream.authority, "open")
            # One of them leaves, and the next one to come is this.
            readers.close()
            expect(live.connection).to_have_text("live")
            expect(live.page.get_by_text("poll")).not_to_be_visible()


def test_first_steps_that_come_late_are_not_told_in_place_of_something_else(browser: Browser) -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream, Visitor(browser) as visitor:
        live = visitor.visit(proxy)
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        live.page.route("**/api/v1/config", hold)
        with live.page.expect_request("**/api/v1/config"):
            live.page.reload()
        assert call(proxy, upstream).status == 200
        expect(live.row(upstream.authority)).to_be_visible()
        live.search.fill("fits none")
        expect(live.page.get_by_text("No circuit fits")).to_be_visible()
        with live.page.expect_response("**/api/v1/config") as answered:
            held[0].continue_()
        answered.value.finished()
        live.page.wait_for_timeout(200)
        expect(live.page.get_by_text("No circuit fits")).to_be_visible(timeout=1)
