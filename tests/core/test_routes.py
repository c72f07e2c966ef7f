"""Which route a request takes, and what stands in the request line behind it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import DestinationNotFound
from proxy.core.host_pattern import HostPattern
from proxy.core.route import PathPrefix, Route, UpstreamUrl
from proxy.core.routes import Routes
from proxy.core.target import Target


def route(path: str, upstream: str, host: str | None = None) -> Route:
    pattern = None if host is None else HostPattern.parse(host)
    return Route(upstream=UpstreamUrl.parse(upstream), host=pattern, path=PathPrefix.parse(path))


def led_to(routes: list[Route], origin_form: str, host: str = "a", port: int = 80) -> str:
    """The host of the upstream that a request gets, "" if none."""
    try:
        return Routes(routes).target(host, port, origin_form).host
    except DestinationNotFound:
        return ""


def test_a_request_without_a_route_is_told_so() -> None:
    with pytest.raises(DestinationNotFound) as refused:
        Routes([route("/a", "http://one")]).target("a", 80, "/secret?token")
    assert (refused.value.status, refused.value.reason) == (404, "no_route")
    assert "secret" not in str(refused.value)


def test_without_routes_there_is_none() -> None:
    assert led_to([], "/") == ""


BY_PATH = [
    route("/", "http://all"),
    route("/a", "http://a"),
    route("/a/b", "http://ab"),
    route("/a/bb", "http://abb"),
]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("origin_form", "upstream"),
    [
        ("/", "all"),
        ("/?q", "all"),
        ("/b", "all"),
        ("/ab", "all"),
        ("*", "all"),
        ("/a", "a"),
        ("/a?q=/a/b", "a"),
        ("/a/", "a"),
        ("/a/c", "a"),
        ("/a/b", "ab"),
        ("/a/b?q", "ab"),
        ("/a/b/", "ab"),
        ("/a/bb", "abb"),
        ("/a/bb/b", "abb"),
        ("/a/bbb", "a"),
        ("/A/b", "all"),
        ("/a//b", "a"),
        ("/a/%62", "a"),
    ],
)
def test_the_longest_prefix_wins_in_any_order(origin_form: str, upstream: str, order: int) -> None:
    assert led_to(BY_PATH[::order], origin_form) == upstream


BY_HOST = [
    route("/a", "http://any-a"),
    route("/a", "http://exact-a", "one.example.com"),
    route("/a", "http://wild-a", "*.example.com"),
    route("/a/b", "http://any-ab"),
    route("/", "http://port", "one.example.com:8080"),
]


@pytest.mark.parametrize(
    ("host", "port", "origin_form", "upstream"),
    [
        ("one.example.com", 80, "/a", "exact-a"),
        ("two.example.com", 80, "/a", "wild-a"),
        ("example.com", 80, "/a", "any-a"),
        ("", 80, "/a", "any-a"),
        # The path counts first.
        ("one.example.com", 80, "/a/b", "any-ab"),
        ("one.example.com", 8080, "/a", "exact-a"),
        ("one.example.com", 8080, "/b", "port"),
        ("one.example.com", 8080, "*", "port"),
        ("one.example.com", 80, "/b", ""),
        ("one.example.com", 80, "*", ""),
        ("", 80, "/", ""),
    ],
)
def test_of_equal_prefixes_the_host_decides(host: str, port: int, origin_form: str, upstream: str) -> None:
    assert led_to(BY_HOST, origin_form, host, port) == upstream


def test_of_equals_the_first_wins() -> None:
    hosts = ["one.example.com", "*.example.com", "*"]
    for first, then in zip(hosts, [*hosts[1:], hosts[0]], strict=True):
        routes = [route("/", "http://first", first), route("/", "http://then", then)]
        assert led_to(routes, "/", "one.example.com") == "first"
    assert led_to([route("/a", "http://first"), route("/a/", "http://then")], "/a") == "first"


def test_a_longer_prefix_of_another_host_does_not_hide_a_shorter_one() -> None:
    routes = [route("/a/b", "http://other", "b"), route("/a", "http://this")]
    assert led_to(routes, "/a/b", "a") == "this"


@pytest.mark.parametrize(
    ("path", "upstream", "asked", "sent"),
    [
        ("/", "http://u", "/", "/"),
        ("/", "http://u", "/a/b?c", "/a/b?c"),
        ("/", "http://u/", "/a", "/a"),
        ("/", "http://u", "/?c", "/?c"),
        ("/", "http://u/base", "/", "/base/"),
        ("/", "http://u/base", "/a", "/base/a"),
        ("/", "http://u/base/", "/?c", "/base/?c"),
        ("/stripe", "http://u", "/stripe/v1", "/v1"),
        # RFC 9112 section 3.2.1: an empty path is sent as "/".
        ("/stripe", "http://u", "/stripe", "/"),
        ("/stripe", "http://u", "/stripe?c", "/?c"),
        ("/stripe", "http://u", "/stripe/", "/"),
        ("/stripe/", "http://u", "/stripe/", "/"),
        ("/stripe/", "http://u", "/stripe", "/"),
        ("/stripe", "http://u/base", "/stripe", "/base"),
        ("/stripe", "http://u/base", "/stripe?c", "/base?c"),
        ("/stripe", "http://u/base/", "/stripe/", "/base/"),
        ("/stripe", "http://u/base", "/stripe/v1?c=/stripe/v1", "/base/v1?c=/stripe/v1"),
        # Byte by byte.
        ("/stripe", "http://u", "/stripe//v1", "//v1"),
        ("/stripe", "http://u/base", "/stripe/../x", "/base/../x"),
        ("/stripe", "http://u", "/stripe/%2e%2E/%2f?%zz&&", "/%2e%2E/%2f?%zz&&"),
        ("/stripe", "http://u", "/stripe/stripe", "/stripe"),
        # OPTIONS for the whole server has no path to replace.
        ("/", "http://u", "*", "*"),
        ("/", "http://u/base", "*", "*"),
    ],
)
def test_the_upstreams_path_takes_the_place_of_the_prefix(
    path: str, upstream: str, asked: str, sent: str
) -> None:
    assert Routes([route(path, upstream)]).target("a", 80, asked) == Target("http", "u", 80, sent, "u")


def test_the_target_is_the_upstream_as_it_is_written() -> None:
    routes = Routes([route("/", "http://API.internal:8080/v1", "a")])
    assert routes.target("a", 3130, "/x") == Target(
        "http", "api.internal", 8080, "/v1/x", "API.internal:8080"
    )


VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")


@given(st.text(VISIBLE), st.sampled_from(["/", "/a", "/a/b"]), st.sampled_from(["", "/base"]))
def test_what_stands_behind_the_prefix_is_kept_byte_by_byte(rest: str, path: str, base: str) -> None:
    prefix = path.rstrip("/")
    sent = Routes([route(path, "http://u" + base)]).target("a", 80, f"{prefix}/{rest}").origin_form
    assert sent == f"{base}/{rest}"


@pytest.mark.parametrize("origin_form", ["/in", "/in/x?q", "*"])
def test_only_what_a_route_calls_internal_is(origin_form: str) -> None:
    """Two routes to the same upstream are two upstreams, if one calls it internal."""
    routes = [
        replace(route("/in", "http://a", "in"), internal=True),
        replace(route("/", "http://a", "in"), internal=True),
        route("/", "http://a"),
    ]
    inside, outside = (Routes(routes).target(host, 80, origin_form) for host in ("in", "out"))
    assert (inside.is_internal, outside.is_internal) == (True, False)
    assert (inside.circuit, outside.circuit) == ("a:80+internal", "a:80")
