"""The page of a proxy that asks for a token."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from support.process import RunningProxy
from system.page.chromium import Visitor
from system.page.live_page import LivePage

TOKEN = "a-token-of-thirty-two-characters"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return file


def give(live: LivePage, token: str) -> None:
    dialog = live.page.get_by_role("dialog", name="Token", exact=True)
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token", exact=True).fill(token)
    dialog.get_by_role("button", name="Use", exact=True).click()


def test_it_asks_for_the_token_and_shows_nothing_without(browser: Browser, token_file: Path) -> None:
    with RunningProxy(admin={"token_file": str(token_file)}) as proxy, Visitor(browser) as visitor:
        visitor.expects("status of 401")
        live = visitor.visit(proxy)
        expect(live.connection).to_have_text("token needed")
        expect(live.dialog.get_by_label("Token", exact=True)).to_have_attribute("type", "password")
        give(live, "another-token-of-32-characters--")
        expect(live.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("not the token")
        expect(live.connection).to_have_text("token needed")
        give(live, TOKEN)
        expect(live.dialog).to_have_count(0)
        expect(live.connection).to_have_text("live")


def test_the_token_is_kept_in_this_tab_alone(browser: Browser, token_file: Path) -> None:
    with RunningProxy(admin={"token_file": str(token_file)}) as proxy, Visitor(browser) as visitor:
        visitor.expects("status of 401")
        live = visitor.visit(proxy)
        give(live, TOKEN)
        expect(live.connection).to_have_text("live")
        live.page.reload()
        expect(live.connection).to_have_text("live")
        expect(live.dialog).to_have_count(0)

        assert [url for url in visitor.requested if TOKEN in url] == []
        assert TOKEN not in live.page.url
        kept = live.page.evaluate(
            "[JSON.stringify(localStorage), document.cookie, JSON.stringify(history.state)]"
        )
        assert TOKEN not in "".join(map(str, kept))
        assert TOKEN not in live.page.content()
        # Another tab of the same browser is asked.
        other = LivePage(live.page.context.new_page())
        other.page.goto(live.page.url)
        expect(other.page.get_by_role("dialog", name="Token", exact=True)).to_be_visible()


def test_a_token_that_has_changed_is_asked_for_anew(browser: Browser, token_file: Path) -> None:
    with RunningProxy(admin={"token_file": str(token_file)}) as proxy, Visitor(browser) as visitor:
        visitor.expects("status of 401")
        live = visitor.visit(proxy)
        give(live, TOKEN)
        expect(live.connection).to_have_text("live")
        new = "its-successor-of-32-characters--"
        token_file.with_name("new").write_text(new)
        token_file.with_name("new").replace(token_file)
        expect(live.connection).to_have_text("token needed")
        give(live, new)
        expect(live.connection).to_have_text("live")
