"""The page on narrow windows, in the dark, and where colours are the reader's own."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect
from support.outage import LocalUpstream
from support.process import RunningProxy
from system.page.calling import HASTY, AdminClient, call, trip
from system.page.chromium import Visitor
from system.page.live_page import COLUMNS, LivePage

# As long as names of hosts are.
LONG = ".".join(["a-name-that-goes-on-and-on"] * 5) + ".example.com:8443"
# What sticks out of the window at the right, and is not in something that scrolls by itself or cuts it off.
_STICKS_OUT = """
() => [...document.querySelectorAll("body *")].filter((element) => {
  if (!element.checkVisibility() || element.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let each = element.parentElement; each !== document.body && each !== null; each = each.parentElement) {
    if (getComputedStyle(each).overflowX !== "visible") return false;
  }
  return true;
}).map((element) => element.outerHTML.slice(0, 120))
"""


@contextmanager
def several_states(browser: Browser, *expected: str, **options: Any) -> Iterator[tuple[LivePage, str]]:
    """The page with circuits that are open, forced either way, and closed; and the key of the open one.

    Args:
        browser: to be used.
        expected: complaints.
        options: of the context.
    """
    with LocalUpstream() as well, LocalUpstream() as sick, RunningProxy(circuit=HASTY) as proxy:
        call(proxy, well)
        trip(proxy, sick)
        admin = AdminClient(proxy)
        admin.steer("forced-open.test:80", "open", ttl="10m", note="they are moving their data, until noon")
        admin.steer("forced-closed.test:80", "close")
        admin.steer(LONG, "open")
        admin.close()
        with Visitor(browser) as visitor:
            for complaint in expected:
                visitor.expects(complaint)
            live = visitor.visit(proxy, **options)
            expect(live.rows.first).to_be_visible()
            live.expect_state(sick.authority, "open")
            yield live, sick.authority


def assert_fits(live: LivePage) -> None:
    """Nothing has to be scrolled to sideways."""
    widths = live.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    assert live.page.evaluate(_STICKS_OUT) == []


def assert_reachable(live: LivePage, element: Locator) -> None:
    """It can be scrolled to, is whole between the sides of the window, and nothing lies over it."""
    element.scroll_into_view_if_needed()
    expect(element).to_be_visible()
    box = element.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= live.page.evaluate("innerWidth")
    element.click(trial=True)


@pytest.mark.parametrize("width", [320, 380, 768, 1280])
def test_nothing_has_to_be_scrolled_to_sideways(browser: Browser, width: int) -> None:
    with several_states(browser, viewport={"width": width, "height": 800}) as (live, key):
        assert_fits(live)
        live.opened(key)
        assert_fits(live)
        for name in ("Force open", "Force closed", "Reset"):
            assert_reachable(live, live.button(name))
        live.button("Force open").click()
        assert_fits(live)
        for name in ("For", "Note"):
            assert_reachable(live, live.dialog.get_by_label(name))
        for name in ("Confirm", "Cancel"):
            assert_reachable(live, live.button(name))


@pytest.mark.parametrize("width", [1024, 1280, 1440])
def test_a_desktop_shows_every_column(browser: Browser, width: int) -> None:
    with several_states(browser, viewport={"width": width, "height": 800}) as (live, key):
        for column in COLUMNS:
            expect(live.table.get_by_role("columnheader", name=column, exact=True)).to_be_in_viewport(ratio=1)
            expect(live.cell(key, column)).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("width", [320, 380])
def test_a_narrow_page_can_do_all_that_a_wide_one_can(browser: Browser, width: int) -> None:
    # As on a telephone: touched, not clicked.
    options = {"viewport": {"width": width, "height": 800}, "has_touch": True, "is_mobile": True}
    with several_states(browser, **options) as (live, key):
        for reachable in (
            live.search,
            live.page.get_by_role("combobox", name="State", exact=True),
            live.page.get_by_role("combobox", name="Sort by", exact=True),
            live.button("Theme"),
            live.latest,
        ):
            assert_reachable(live, reachable)
        expect(live.row(key)).to_contain_text(re.compile(r"in \d+ s"))
        expect(live.row(key)).to_contain_text("Failures in a row")
        live.row(key).scroll_into_view_if_needed()
        live.cell(key, "Circuit").tap()
        expect(live.detail(key)).to_be_in_viewport()
        for name in ("Force open", "Force closed", "Reset"):
            box = live.button(name).bounding_box()
            assert box is not None
            # WCAG 2.2, success criterion 2.5.8, wants 24.
            assert min(box["width"], box["height"]) >= 24
        live.button("Force closed").tap()
        live.dialog.get_by_label("Note").fill("from a telephone")
        live.button("Confirm").tap()
        expect(live.dialog).to_have_count(0)
        live.expect_state(key, "forced closed")
        # Back to the list.
        live.page.keyboard.press("Escape")
        expect(live.detail(key)).to_have_count(0)
        assert_reachable(live, live.row(key))


def test_a_small_window_shows_circuits_at_once(browser: Browser) -> None:
    with several_states(browser, viewport={"width": 1024, "height": 600}) as (live, key):
        expect(live.row(key)).to_be_in_viewport()


def luminance(live: LivePage) -> float:
    """That of the background, 0 to 1."""
    colour: list[float] = live.page.evaluate(
        """() => {
          const canvas = new OffscreenCanvas(1, 1).getContext("2d");
          canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
          canvas.fillRect(0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data];
        }"""
    )
    assert colour[3] == 255
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), colour, strict=False)) / 255


def test_it_is_dark_where_the_system_is(browser: Browser) -> None:
    with RunningProxy() as proxy, Visitor(browser) as visitor:
        assert luminance(visitor.visit(proxy, color_scheme="light")) > 0.8
        live = visitor.visit(proxy, color_scheme="dark")
        assert luminance(live) < 0.2
        live.page.emulate_media(color_scheme="light")
        assert luminance(live) > 0.8


def test_the_button_has_it_otherwise_and_that_is_remembered(browser: Browser) -> None:
    with RunningProxy() as proxy, Visitor(browser) as visitor:
        live = visitor.visit(proxy, color_scheme="light")
        live.button("Theme").click()  # light
        live.page.emulate_media(color_scheme="dark")
        assert luminance(live) > 0.8
        live.button("Theme").click()  # dark
        live.page.emulate_media(color_scheme="light")
        assert luminance(live) < 0.2
        live.page.reload()
        expect(live.connection).to_have_text("live")
        assert luminance(live) < 0.2
        live.button("Theme").click()  # auto
        assert luminance(live) > 0.8


@pytest.mark.parametrize("forced_colors", ["active", "none"])
def test_no_state_is_told_by_colour_alone(browser: Browser, forced_colors: str) -> None:
    with several_states(browser, forced_colors=forced_colors) as (live, key):
        states = {key: "open", "forced-open.test:80": "forced open", "forced-closed.test:80": "forced closed"}
        shapes = set()
        for circuit, word in states.items():
            live.expect_state(circuit, word)
            shape = live.cell(circuit, "State").locator("svg path")
            expect(shape).to_be_visible()
            shapes.add(shape.get_attribute("d"))
            # It is drawn in another colour than it lies on.
            fill, ground = shape.evaluate(
                "(path) => [getComputedStyle(path).fill, getComputedStyle(document.body).backgroundColor]"
            )
            assert fill != ground
        assert len(shapes) == len(states)
        expect(live.row(key)).to_be_visible()
