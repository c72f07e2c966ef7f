"""Where a redirected request goes, whatever its client has written into the target."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.fallback import RedirectUrl
from proxy.core.redirect import redirected
from proxy.core.target import Target

HOOK = Target("https", "hooks.test", 8443, "/a/b?x=1&y=%2F", "hooks.test:8443")
SIX = Target("http", "::1", 80, "/", "[::1]")


def to(url: str, original: Target = HOOK, *, is_internal: bool = False) -> Target | None:
    return redirected(RedirectUrl.parse(url), original, is_internal=is_internal)


@pytest.mark.parametrize(
    ("url", "original", "origin_form"),
    [
        ("http://dl.test", HOOK, "/"),
        ("http://dl.test/fixed?a=b", HOOK, "/fixed?a=b"),
        ("http://dl.test/{host}/{path}?{query}", HOOK, "/hooks.test/a/b?x=1&y=%2F"),
        ("http://dl.test/{scheme}/{port}", HOOK, "/https/8443"),
        ("http://dl.test/{query}", HOOK, "/x%3D1%26y%3D%252F"),
        ("http://dl.test/?p={path}&h={host}&{query}", HOOK, "/?p=a%2Fb&h=hooks.test&x=1&y=%2F"),
        ("http://dl.test/{host}/{path}?{query}", SIX, "/%3A%3A1/?"),
        ("http://dl.test/{path}", HOOK._replace(origin_form="*"), "/*"),
        ("http://dl.test/{path}", HOOK._replace(origin_form="/a.b/..c/...?/../"), "/a.b/..c/..."),
        ("http://dl.test/?p={path}", HOOK._replace(origin_form="/../a"), "/?p=..%2Fa"),
    ],
)
def test_the_parts_of_the_target_go_into_their_places(url: str, original: Target, origin_form: str) -> None:
    target = to(url, original)
    assert target is not None
    assert (target.scheme, target.host, target.port, target.authority) == ("http", "dl.test", 80, "dl.test")
    assert target.origin_form == origin_form


@pytest.mark.parametrize(
    "path",
    [
        "/..", "/../a", "/a/..", "/a/../b", "/./a", "/%2e%2e/a", "/.%2E/a", "/a%2f..%2fb", "/..%5Ca",
        "/a\\..\\b", "/..;x/a", "/..%3Bx/a", "/%2E",
    ],
)  # fmt: skip
def test_a_path_that_climbs_is_not_redirected_into_a_path(path: str) -> None:
    assert to("http://dl.test/inbox/{path}", HOOK._replace(origin_form=path)) is None


def test_whether_it_leads_inside_is_said_by_the_settings_alone() -> None:
    for original in (HOOK, HOOK._replace(is_internal=True)):
        for is_internal in (True, False):
            target = to("http://dl.test", original, is_internal=is_internal)
            assert target is not None
            assert target.is_internal is is_internal


@given(
    path=st.from_regex(r"/[!\"$->@-~]*", fullmatch=True), query=st.from_regex(r"[!\"$-~]*", fullmatch=True)
)
def test_no_target_reaches_beyond_its_places(path: str, query: str) -> None:
    original = HOOK._replace(origin_form=f"{path}?{query}")
    target = to("http://dl.test/in/{path}/end?a={path}&b={query}", original)
    if target is None:
        return
    new_path, _, new_query = target.origin_form.partition("?")
    assert new_path.startswith("/in/")
    assert new_path.endswith("/end")
    assert new_query.startswith("a=")
    assert "&b=" in new_query
    assert re.fullmatch(r"[A-Za-z0-9._~%-]*", new_query[2:].partition("&")[0])
