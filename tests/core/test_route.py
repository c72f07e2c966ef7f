"""One reverse route as it is written: where it begins, and where it leads."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.route import PathPrefix, UpstreamUrl


@pytest.mark.parametrize(
    ("written", "path", "shown"),
    [
        ("/", "", "/"),
        ("/stripe", "/stripe", "/stripe"),
        ("/stripe/", "/stripe", "/stripe"),
        ("/stripe//", "/stripe", "/stripe"),
        ("//", "", "/"),
        ("/a/b.c/%2f", "/a/b.c/%2f", "/a/b.c/%2f"),
        ("/a!$&'()*+,;=:@~_-", "/a!$&'()*+,;=:@~_-", "/a!$&'()*+,;=:@~_-"),
        ('/"<>[]^`{|}\\', '/"<>[]^`{|}\\', '/"<>[]^`{|}\\'),
    ],
)
def test_a_prefix_is_read_without_the_slash_at_its_end(written: str, path: str, shown: str) -> None:
    prefix = PathPrefix.parse(written)
    assert (prefix.path, str(prefix)) == (path, shown)
    assert PathPrefix.parse(shown) == prefix


@pytest.mark.parametrize(
    "written", ["", "stripe", "/a?b", "/a#b", "/a b", "/\u00e4", "/a\n", "\n/a", "*", "http://a/", 5, None]
)
def test_what_is_no_prefix(written: object) -> None:
    with pytest.raises(ValueError, match="expected a path such as /stripe, without a query"):
        PathPrefix.parse(written)


@pytest.mark.parametrize(
    ("prefix", "origin_form", "covers"),
    [
        ("/stripe", "/stripe", True),
        ("/stripe", "/stripe/", True),
        ("/stripe", "/stripe/v1", True),
        ("/stripe", "/stripe?a=b", True),
        ("/stripe", "/stripe?", True),
        ("/stripe", "/stripes", False),
        ("/stripe", "/stripe.json", False),
        ("/stripe", "/stripe;a", False),
        ("/stripe", "/stripe%2Fv1", False),
        ("/stripe", "/strip", False),
        ("/stripe", "/Stripe", False),
        ("/stripe", "/", False),
        ("/stripe", "/x/stripe", False),
        ("/stripe", "//stripe", False),
        ("/stripe", "/?/stripe", False),
        # Byte by byte: another spelling of the same path is another path, and dots are left to the upstream.
        ("/stripe", "/%73tripe", False),
        ("/stripe", "/x/../stripe", False),
        ("/stripe", "/./stripe", False),
        ("/stripe", "/stripe/../admin", True),
        ("/a%2fb", "/a%2fb/c", True),
        ("/a%2fb", "/a%2Fb/c", False),
        ("/a%2fb", "/a/b/c", False),
        ("/a/b", "/a/b/c", True),
        ("/a/b", "/a", False),
        ("/a/b", "/a//b", False),
        ("/", "/", True),
        ("/", "/anything?x", True),
        ("/", "/?x", True),
        ("/", "*", True),
        ("/stripe", "*", False),
    ],
)
def test_what_stands_at_or_below_a_prefix(prefix: str, origin_form: str, *, covers: bool) -> None:
    assert PathPrefix.parse(prefix).covers(origin_form) is covers


SEGMENT = st.text("ab.%2", min_size=1, max_size=3)
PATH = st.lists(SEGMENT, max_size=4)


@given(PATH, PATH)
def test_a_prefix_covers_what_begins_with_its_segments(prefix: list[str], asked: list[str]) -> None:
    covers = PathPrefix.parse("/" + "/".join(prefix)).covers("/" + "/".join(asked))
    assert covers == (asked[: len(prefix)] == prefix)


@pytest.mark.parametrize(
    ("written", "url", "shown"),
    [
        ("http://a", UpstreamUrl("http", "a", 80, "a"), "http://a"),
        ("http://a/", UpstreamUrl("http", "a", 80, "a"), "http://a"),
        ("https://a", UpstreamUrl("https", "a", 443, "a"), "https://a"),
        (
            "http://10.0.0.7:8080/base",
            UpstreamUrl("http", "10.0.0.7", 8080, "10.0.0.7:8080", "/base"),
            "http://10.0.0.7:8080/base",
        ),
        ("http://a/b/c//", UpstreamUrl("http", "a", 80, "a", "/b/c"), "http://a/b/c"),
        ("http://API.a:080", UpstreamUrl("http", "api.a", 80, "API.a:080"), "http://API.a:080"),
        ("http://[2001:DB8::1]", UpstreamUrl("http", "2001:db8::1", 80, "[2001:DB8::1]"), None),
        ("http://[::1]:81/x", UpstreamUrl("http", "::1", 81, "[::1]:81", "/x"), None),
        ("http://a.b.:81", UpstreamUrl("http", "a.b", 81, "a.b.:81"), None),
        ("http://[::ffff:10.0.0.7]", UpstreamUrl("http", "10.0.0.7", 80, "[::ffff:10.0.0.7]"), None),
        ("http://_svc-1.a_b:65535", UpstreamUrl("http", "_svc-1.a_b", 65535, "_svc-1.a_b:65535"), None),
    ],
)
def test_where_a_route_leads(written: str, url: UpstreamUrl, shown: str | None) -> None:
    assert UpstreamUrl.parse(written) == url
    assert str(url) == (shown or written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "a",
        "a:80",
        "//a",
        "ftp://a",
        "HTTP://a",
        "http:/a",
        "http://",
        "http:///a",
        "http://u@a",
        "http://u:p@a/",
        "http://a:",
        "http://a:0",
        "http://a:65536",
        "http://a:x",
        "http://a:-1",
        "http://a:123456",
        "http://a?b",
        "http://a/?b",
        "http://a/#b",
        "http://a/ b",
        "http://a\n",
        "http://a b",
        "http://.a",
        "http://::1",
        "http://[::1",
        "http://[::g]",
        "http://*.a",
        "http://\u00e4",
        "http://10.1",
        "http://0x7f.0.0.1",
        "http://a..b",
        80,
        None,
        ["http://a"],
    ],
)
def test_what_is_no_upstream(written: object) -> None:
    with pytest.raises(ValueError, match="expected a URL such as http://"):
        UpstreamUrl.parse(written)


@pytest.mark.parametrize(
    "address",
    [":::", "1:2", "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9", "10.0.0.7", "::256.0.0.1", "..", "::1:"],
)
def test_what_looks_like_an_ipv6_address_and_is_none_is_no_upstream(address: str) -> None:
    with pytest.raises(ValueError, match=re.escape(address)):
        UpstreamUrl.parse(f"http://[{address}]:81/x")


def test_a_bad_host_of_an_upstream_is_told_apart() -> None:
    with pytest.raises(ValueError, match=r"got 'http://127\.1/x': the host reads as a number"):
        UpstreamUrl.parse("http://127.1/x")


@pytest.mark.parametrize("address", ["::", "fe80::1", "1:2:3:4:5:6:7:8"])
def test_an_ipv6_address_is_an_upstream_in_every_form(address: str) -> None:
    assert UpstreamUrl.parse(f"http://[{address}]").host == address
