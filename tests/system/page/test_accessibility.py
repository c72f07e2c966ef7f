"""What axe-core has to say of the page: contrast, names, roles, order, in light and dark, wide and narrow."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from system.page.live_page import LivePage
from system.page.test_layout import several_states

AXE = (Path(__file__).parents[1] / "node/node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(live: LivePage) -> list[str]:
    """Each of them, with where it is."""
    # Run by the debugger: the policy of the page would not have it as a script of its own.
    live.page.evaluate(f"if (!window.axe) {{ {AXE} }}")
    found: dict[str, Any] = live.page.evaluate(
        "(rules) => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })", RULES
    )
    assert found["passes"], "it has looked at nothing"
    return [
        f"{violation['impact']}: {violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("width", [380, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, scheme: str, width: int) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with several_states(browser, "status of 400", **options) as (live, key):
        assert violations(live) == []
        detail = live.opened(key)
        expect(detail.get_by_role("button", name="Reset", exact=True)).to_be_visible()
        detail.get_by_text("Settings in force").click()
        assert violations(live) == []
        live.act("Force open", for_="ten minutes")
        expect(live.dialog.get_by_role("alert")).to_be_visible()
        assert violations(live) == []
        live.button("Cancel").click()
        live.page.keyboard.press("Escape")
        live.page.keyboard.press("?")
        expect(live.dialog).to_be_visible()
        assert violations(live) == []
