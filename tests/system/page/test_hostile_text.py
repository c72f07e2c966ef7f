"""Text that others have chosen, on its way through API, log and events to the page: it stays text."""

import re

from playwright.sync_api import Browser, expect
from support.outage import LocalUpstream
from support.process import RunningProxy, get
from system.page.calling import AdminClient
from system.page.chromium import Visitor
from system.page.test_layout import assert_fits

NOTES = (
    """<script>document.title = "run"</script><img src=x onerror='document.title = "run"'>""",
    """" onmouseover="document.title = 'run'" x=\"""",
    "javascript:document.title='run' ${document.title='run'} {{7*7}} &lt;b&gt; &amp;",
    "\u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0633\u0644\u0627\u0645 3.14 abc",
    "W" * 200,
)
# The longest names that DNS has, and what else can become the key of a circuit.
KEYS = (
    f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}:65535",
    "xn--bcher-kva.test:80",
    "[fd00:1234:5678:9abc:def0:1234:5678:9abc]:65535",
    "a--.test:80",
    "x.test:80+internal",
)


def test_what_notes_and_names_say_is_shown_and_nothing_more(browser: Browser) -> None:
    with RunningProxy() as proxy, Visitor(browser) as visitor:
        admin = AdminClient(proxy)
        for key, note in zip(KEYS, NOTES, strict=True):
            admin.steer(key, "open", note=note)
        admin.close()
        for viewport in ({"width": 1280, "height": 800}, {"width": 380, "height": 800}):
            live = visitor.visit(proxy, viewport=viewport)
            expect(live.page).to_have_title(re.compile(r"^\(5 open\) breaker-proxy-"))
            for key, note in zip(KEYS, NOTES, strict=True):
                live.row(key).scroll_into_view_if_needed()
                live.cell(key, "State").click()
                detail = live.detail(key)
                expect(detail.get_by_role("heading", level=2)).to_have_text(key)
                expect(detail.get_by_text(note, exact=True).first).to_be_visible()
                expect(live.transitions(key)).to_contain_text(note)
                assert_fits(live)
                if "<" in note:
                    live.button("Force closed").click()
                    assert_fits(live)
                    live.button("Cancel").click()
                live.page.keyboard.press("Escape")
            expect(live.latest).to_contain_text(NOTES[0])
            assert_fits(live)
            expect(live.page).to_have_title(re.compile(r"^\(5 open\) breaker-proxy-"))
            assert live.page.locator("main script, main img, main iframe").count() == 0
            assert live.page.locator("[onmouseover], [onerror]").count() == 0


def test_what_paths_say_never_comes_to_the_page(browser: Browser) -> None:
    """Of an endpoint's path there is a hash, which can be opened as any other circuit."""
    circuit = {"key": "path"}
    with LocalUpstream() as upstream, RunningProxy(circuit=circuit) as proxy, Visitor(browser) as visitor:
        get(proxy.proxy_port, f"{upstream.origin}/%3Cscript%3Esecret%3C/script%3E?secret=1")
        live = visitor.visit(proxy)
        expect(live.rows).to_have_count(2)
        keys = [str(row.get_attribute("data-key")) for row in live.rows.all()]
        (endpoint,) = [key for key in keys if "#" in key]
        assert endpoint.startswith(f"{upstream.authority}#")
        detail = live.opened(endpoint)
        expect(detail.get_by_role("button", name="Force open", exact=True)).to_be_visible()
        live.act("Force open", note="one endpoint alone")
        live.expect_state(endpoint, "forced open")
        live.expect_state(upstream.authority, "closed")
        assert "secret" not in live.page.content()


def test_a_search_may_be_anything(browser: Browser) -> None:
    with RunningProxy() as proxy, Visitor(browser) as visitor:
        live = visitor.visit(proxy)
        expect(live.connection).to_have_text("live")
        for text in ("<img src=x>", "%", "&limit=0", "#", "\u05e9\u05dc\u05d5\u05dd", "x" * 500):
            with live.page.expect_response(re.compile(r"/api/v1/circuits\?.*\bq=")) as asked:
                live.search.fill(text)
            assert asked.value.status == 200
        expect(live.connection).to_have_text("live")
        assert live.page.locator("img").count() == 0
