"""How the settings write a fallback."""

import pytest

from proxy.core.fallback import NO_FALLBACK, Fallback, RedirectUrl


@pytest.mark.parametrize(
    ("written", "host", "port", "path", "query"),
    [
        ("http://dl.test", "dl.test", 80, "/", None),
        ("https://dl.test/", "dl.test", 443, "/", None),
        ("http://dl.test:8080/{host}/{path}", "dl.test", 8080, "/{host}/{path}", None),
        ("http://[::1]:81/a?{query}&h={host}", "::1", 81, "/a", "{query}&h={host}"),
        ("http://dl.test?", "dl.test", 80, "/", ""),
        ("http://dl.test?u={scheme}:{port}", "dl.test", 80, "/", "u={scheme}:{port}"),
    ],
)
def test_a_redirect_is_a_url_with_places(
    written: str, host: str, port: int, path: str, query: str | None
) -> None:
    url = RedirectUrl.parse(written)
    assert (url.origin.host, url.origin.port, url.path, url.query) == (host, port, path, query)
    assert RedirectUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (5, "expected a URL"),
        ("", "expected a URL"),
        ("dl.test/a", "expected a URL"),
        ("ftp://dl.test", "expected a URL"),
        ("http://{host}/a", "expected a URL"),
        ("http://dl.test:{port}/", "expected a URL"),
        ("http://dl.test/a b", "expected a URL"),
        ("http://dl.test/#a", "expected a URL"),
        ("http://dl.test/é", "expected a URL"),
        ("http://me@dl.test/", "expected a URL"),
        ("http://dl.test/{method}", "expected one of {scheme}, {host}, {port}, {path}, {query} in braces"),
        ("http://dl.test/?{}", "got '{}'"),
    ],
)
def test_what_is_no_redirect_is_told(written: object, told: str) -> None:
    with pytest.raises(ValueError, match="expected") as raised:
        RedirectUrl.parse(written)
    assert told in str(raised.value)


def test_by_default_a_refused_request_is_rejected() -> None:
    assert Fallback() == NO_FALLBACK
    assert NO_FALLBACK.redirect is None
