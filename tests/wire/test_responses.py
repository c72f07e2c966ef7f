"""Our own answers, read back by strict parsers: HTTP by h11, Proxy-Status as a structured field."""

import json
import re
from collections.abc import Iterator

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core import errors
from proxy.core.errors import ProxyError
from proxy.core.target import from_absolute_form, from_authority_form
from proxy.wire.responses import CONNECT_ESTABLISHED, render

HOP = "api.example.com:443"
# What RFC 9651 section 3.3.3 allows in a string.
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))

# RFC 9651, as much of it as RFC 9209 needs: an item that is a token, with parameters.
_TOKEN = r"[A-Za-z*][!#$%&'*+\-.^_`|~:/0-9A-Za-z]*"
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_PARAMETER = re.compile(rf"; *([a-z*][a-z0-9_.*-]*)=({_TOKEN}|{_STRING})")
_ITEM = re.compile(rf"({_TOKEN})((?:; *[a-z*][a-z0-9_.*-]*=(?:{_TOKEN}|{_STRING}))*)")


def proxy_status(value: str) -> tuple[str, dict[str, str]]:
    """The one member of a Proxy-Status field, with its parameters; a token is told by its missing quotes."""
    item = _ITEM.fullmatch(value)
    assert item is not None, value
    return item[1], dict(_PARAMETER.findall(item[2]))


def string(text: str) -> str:
    """Text as a string of Structured Fields."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def parse(answer: bytes, method: str = "GET") -> tuple[h11.Response, dict[str, str], bytes]:
    """The one response that the bytes are, without a byte behind it."""
    connection = h11.Connection(h11.CLIENT)
    target = HOP if method == "CONNECT" else "/"
    connection.send(h11.Request(method=method, target=target, headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    head = connection.next_event()
    assert isinstance(head, h11.Response)
    content = b""
    while isinstance(event := connection.next_event(), h11.Data):
        content += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert connection.trailing_data[0] == b""
    fields = [(name.decode(), value.decode("ascii")) for name, value in head.headers.raw_items()]
    assert len({name.lower() for name, _ in fields}) == len(fields), "each field once"
    return head, dict(fields), content


def classes(parent: type[ProxyError] = ProxyError) -> Iterator[type[ProxyError]]:
    for cls in parent.__subclasses__():
        if cls.__module__ == errors.__name__:
            yield cls
            yield from classes(cls)


# What is no error has no content that tells one.
EVERY_CLASS = sorted(set(classes()) - {errors.MaxForwardsReached}, key=lambda cls: cls.__name__)
each_class = pytest.mark.parametrize("cls", EVERY_CLASS)


def test_the_classes_are_found() -> None:
    assert {errors.DestinationUnavailable, errors.HeadTooLarge, errors.HttpRequestError} <= set(EVERY_CLASS)


@each_class
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_every_error_is_told_in_full(cls: type[ProxyError], method: str) -> None:
    error = cls("what happened")
    answer = render(error, name="me-1", method=method, next_hop=HOP, keep_alive=True)
    head, fields, content = parse(answer, method)
    status = error.connect_status if method == "CONNECT" else error.status
    assert (head.http_version, head.status_code, head.reason) == (b"1.1", status, error.phrase.encode())
    assert proxy_status(fields.pop("Proxy-Status")) == (
        "me-1",
        {"error": cls.error_type, "details": '"what happened"', "next-hop": f'"{HOP}"'},
    )
    assert fields.pop("X-Breaker-Reason") == error.reason
    assert fields.pop("Cache-Control") == "no-store"
    assert fields.pop("Content-Type") == "application/problem+json"
    assert fields.pop("Content-Length") == str(len(content))
    if error.retry_after_s is not None:
        assert fields.pop("Retry-After") == str(error.retry_after_s)
    assert fields.pop("Allow", None) == ("OPTIONS" if status == 405 else None)
    challenge = 'Basic realm="breaker-proxy", charset="UTF-8"'
    assert fields.pop("Proxy-Authenticate", None) == (challenge if status == 407 else None)
    assert fields == {}
    problem = json.loads(content)
    assert problem.pop("title")
    assert problem == {
        "status": status,
        "detail": "what happened",
        "error": cls.error_type,
        "reason": error.reason,
        "upstream": HOP,
    }


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
def test_what_is_no_error_has_no_content(method: str) -> None:
    error = errors.MaxForwardsReached("so far")
    head, fields, content = parse(
        render(error, name="me", method=method, next_hop=None, keep_alive=True), method
    )
    assert (head.status_code, fields["X-Breaker-Reason"], content) == (200, "max_forwards", b"")
    assert "Content-Type" not in fields


@each_class
def test_an_answer_to_head_is_that_to_get_without_content(cls: type[ProxyError]) -> None:
    got, asked = (
        render(cls("why"), name="me", method=method, next_hop=None, keep_alive=True)
        for method in ("GET", "HEAD")
    )
    assert asked.endswith(b"\r\n\r\n")
    assert got.startswith(asked)
    _, fields, content = parse(asked, "HEAD")
    assert content == b""
    assert int(fields["Content-Length"]) == len(got) - len(asked) > 0


def test_an_answer_without_a_target_names_none() -> None:
    _, fields, content = parse(
        render(errors.HttpRequestError("bad"), name="me", method="GET", next_hop=None, keep_alive=False)
    )
    assert proxy_status(fields["Proxy-Status"]) == (
        "me",
        {"error": "http_request_error", "details": '"bad"'},
    )
    assert "upstream" not in json.loads(content)
    assert fields["Connection"] == "close"


def test_what_the_error_says_comes_before_what_its_class_says() -> None:
    error = errors.DestinationUnavailable(
        "open", reason="circuit_open", phrase=f"Circuit open for {HOP}", retry_after_s=17
    )
    head, fields, _ = parse(render(error, name="me", method="GET", next_hop=HOP, keep_alive=True))
    assert head.reason == f"Circuit open for {HOP}".encode()
    assert (fields["X-Breaker-Reason"], fields["Retry-After"]) == ("circuit_open", "17")
    assert "Connection" not in fields


@pytest.mark.parametrize(
    ("details", "quoted"),
    [
        ('say "no"', r'"say \"no\""'),
        (r"a\b", r'"a\\b"'),
        ('\\"', r'"\\\""'),
        ('"; error=forged', r'"\"; error=forged"'),
        ("", '""'),
    ],
)
def test_quotes_and_backslashes_do_not_end_a_string(details: str, quoted: str) -> None:
    answer = render(errors.DnsError(details), name="me", method="GET", next_hop=None, keep_alive=True)
    _, fields, content = parse(answer)
    assert proxy_status(fields["Proxy-Status"]) == ("me", {"error": "dns_error", "details": quoted})
    assert json.loads(content)["detail"] == details


@given(cls=st.sampled_from(EVERY_CLASS), details=TEXT, next_hop=TEXT, method=st.sampled_from(["GET", "HEAD"]))
def test_no_text_breaks_a_line(cls: type[ProxyError], details: str, next_hop: str, method: str) -> None:
    answer = render(cls(details), name="me", method=method, next_hop=next_hop, keep_alive=True)
    _, fields, content = parse(answer, method)
    assert proxy_status(fields["Proxy-Status"]) == (
        "me",
        {"error": cls.error_type, "details": string(details), "next-hop": string(next_hop)},
    )
    if method == "GET":
        assert (json.loads(content)["detail"], json.loads(content)["upstream"]) == (details, next_hop)


AUTHORITY = (
    st.from_regex(r"[A-Za-z0-9._-]{1,255}:[0-9]{1,5}", fullmatch=True)
    | st.ip_addresses(v=6).map("[{}]:80".format)
    | st.text(max_size=20).map("{}:80".format)
    | st.text(max_size=20)
)


@given(authority=AUTHORITY, connect=st.booleans())
@example(authority="a\r\nX: 1:80", connect=True)
@example(authority="a\n:80", connect=True)
@example(authority="a:80\n", connect=True)
@example(authority="a:80\n", connect=False)
@example(authority='a":80', connect=True)
@example(authority="ä:80", connect=True)
@example(authority="a:٨٠", connect=True)
@example(authority="[::1%a\r\n]:80", connect=False)
def test_no_target_that_is_let_in_breaks_a_line(authority: str, *, connect: bool) -> None:
    try:
        target = (
            from_authority_form(authority)
            if connect
            else from_absolute_form(f"http://{authority}/p?q", "GET")
        )
    except errors.HttpRequestError:
        return
    error = errors.DestinationUnavailable("open", phrase=f"Circuit open for {target.host_port}")
    head, fields, _ = parse(
        render(error, name="me", method="GET", next_hop=target.host_port, keep_alive=True)
    )
    assert head.reason == f"Circuit open for {target.host_port}".encode()
    assert proxy_status(fields["Proxy-Status"])[1]["next-hop"] == f'"{target.host_port}"'


def test_the_answer_that_opens_a_tunnel_is_exactly_this() -> None:
    # Some clients take a field, or another phrase, for a refusal.
    assert CONNECT_ESTABLISHED == b"HTTP/1.1 200 Connection established\r\n\r\n"
