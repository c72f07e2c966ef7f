"""Everything by keys alone."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, expect
from support.process import RunningProxy
from system.page.calling import AdminClient, asked
from system.page.chromium import Visitor
from system.page.live_page import LivePage

KEYS = [f"host-{number}.test:80" for number in range(6)]
# What has the focus: whether it is in sight, and looks other than without it.
_SHOWS_FOCUS = """
() => {
  const focused = document.activeElement;
  if (focused === null || focused === document.body) return null;
  const looks = (element) => {
    const found = [];
    for (let each = element; each !== null && found.length < 3; each = each.parentElement) {
      const style = getComputedStyle(each);
      found.push([style.outlineStyle, style.outlineWidth, style.outlineColor, style.boxShadow,
        style.borderColor, style.backgroundColor, style.clipPath, style.transform].join());
    }
    return found.join(";");
  };
  const box = focused.getBoundingClientRect();
  const isInSight = box.width > 1 && box.height > 1 && box.bottom > 0 && box.right > 0
    && box.top < innerHeight && box.left < innerWidth;
  const held = looks(focused);
  focused.blur();
  const lost = looks(focused);
  focused.focus({ preventScroll: true });
  const name = focused.id || focused.dataset.key || focused.textContent.trim();
  window.stops ??= new Set();
  const isNew = !window.stops.has(focused);
  window.stops.add(focused);
  return { name: `${focused.localName} ${name}`, isShown: isInSight && held !== lost, isNew };
}
"""


@contextmanager
def circuits(browser: Browser) -> Iterator[tuple[LivePage, RunningProxy]]:
    """The page with circuits that were all reset, so closed."""
    with RunningProxy() as proxy, Visitor(browser) as visitor:
        admin = AdminClient(proxy)
        for key in KEYS:
            admin.steer(key, "open")
            admin.steer(key, "reset")
        admin.close()
        live = visitor.visit(proxy)
        live.page.get_by_role("combobox", name="Sort by", exact=True).select_option("key")
        expect(live.rows).to_have_count(len(KEYS))
        # Until the answer in the new order is there, the first row is another one.
        expect(live.rows.first).to_have_attribute("data-key", KEYS[0])
        live.page.evaluate("document.activeElement.blur()")
        yield live, proxy


def test_from_the_search_to_the_action_and_back(browser: Browser) -> None:
    with circuits(browser) as (live, proxy):
        key, press = "host-3.test:80", live.page.keyboard.press
        press("/")
        expect(live.search).to_be_focused()
        expect(live.search).to_have_value("")
        live.page.keyboard.type("host-3")
        expect(live.rows).to_have_count(1)
        press("ArrowDown")
        expect(live.row(key)).to_be_focused()
        press("Enter")
        expect(live.detail(key)).to_be_visible()

        for _ in range(40):
            if live.page.evaluate("document.activeElement.textContent.trim()") == "Force open":
                break
            press("Tab")
        expect(live.button("Force open")).to_be_focused()
        press("Enter")
        expect(live.dialog).to_be_visible()
        expect(live.dialog.get_by_label("Note")).to_be_focused()
        # Here keys are text, and do nothing else.
        live.page.keyboard.type("? / j k")
        press("Shift+Tab")
        expect(live.dialog.get_by_label("For")).to_be_focused()
        press("ControlOrMeta+a")
        live.page.keyboard.type("20m")
        press("Enter")
        expect(live.dialog).to_have_count(0)
        live.expect_state(key, "forced open")
        override = asked(proxy, key)["override"]
        assert override["note"] == "? / j k"
        assert 1190 < override["ttl_left_s"] <= 1200

        press("Escape")
        expect(live.detail(key)).to_have_count(0)
        expect(live.row(key)).to_be_focused()


def test_rows_are_walked_by_arrows_and_letters(browser: Browser) -> None:
    with circuits(browser) as (live, _):
        live.page.keyboard.press("/")
        live.page.keyboard.press("ArrowDown")
        expect(live.row(KEYS[0])).to_be_focused()
        walk = {
            "ArrowDown": 1, "j": 2, "ArrowUp": 1, "k": 0, "End": 5, "ArrowDown ": 5, "Home": 0, "ArrowUp ": 0
        }  # fmt: skip
        for key, place in walk.items():
            live.page.keyboard.press(key.strip())
            expect(live.row(KEYS[place])).to_be_focused()
            # One stop for Tab in all of the table.
            assert live.rows.evaluate_all("rows => rows.filter((row) => row.tabIndex === 0).length") == 1


def test_the_focus_stays_on_its_circuit_while_the_list_changes(browser: Browser) -> None:
    with circuits(browser) as (live, proxy):
        with live.page.expect_response(re.compile(r"/circuits\?.*\bsort=state\b")):
            live.page.get_by_role("combobox", name="Sort by", exact=True).select_option("state")
        live.row(KEYS[0]).focus()
        expect(live.row(KEYS[0])).to_be_focused()
        admin = AdminClient(proxy)
        for key in KEYS[3:]:
            admin.steer(key, "open")
        admin.close()
        live.expect_state(KEYS[5], "forced open")
        expect(live.rows.first).not_to_have_attribute("data-key", KEYS[0])
        expect(live.row(KEYS[0])).to_be_focused()


def test_the_keys_are_told(browser: Browser) -> None:
    with circuits(browser) as (live, _):
        live.page.keyboard.press("?")
        dialog = live.page.get_by_role("dialog", name="Keyboard", exact=True)
        expect(dialog).to_be_visible()
        for key in ("/", "Enter", "Esc", "j", "k", "?"):
            assert key in dialog.inner_text()
        live.page.keyboard.press("Escape")
        expect(dialog).not_to_be_visible()


def test_all_can_be_reached_by_tab_and_the_focus_is_seen(browser: Browser) -> None:
    with circuits(browser) as (live, _):
        live.opened(KEYS[0])
        stops: list[dict[str, Any]] = []
        for _ in range(60):
            live.page.keyboard.press("Tab")
            stop = live.page.evaluate(_SHOWS_FOCUS)
            # Between its last stop and its first one nothing of the page has the focus.
            if stop is not None:
                if not stop["isNew"]:
                    break
                stops.append(stop)
        names = " ".join(stop["name"] for stop in stops)
        for part in ("Force open", "Force closed", "Reset", "search", "state", "sort", "theme", KEYS[0]):
            assert part in names, names
        assert [stop for stop in stops if not stop["isShown"]] == [], json.dumps(stops)
