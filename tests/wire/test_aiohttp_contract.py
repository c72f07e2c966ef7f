"""What aiohttp makes of requests, where the listener and the line rest on it; an upgrade fails here first.

Each test names one fact. Some are weaknesses, with which the proxy deals; a test that fails because aiohttp
has become better is a reason to take the remedy out.
"""

import inspect
from typing import Any

import pytest
from aiohttp import HttpVersion, http_parser, web
from aiohttp.http_exceptions import (
    BadHttpMessage,
    BadHttpMethod,
    BadStatusLine,
    HttpProcessingError,
    InvalidURLError,
    LineTooLong,
)
from support.bare import REFUSED, Bare, Connection, listening
from support.client import Client

# The fixture sees to it that nothing is left over.
pytestmark = pytest.mark.usefixtures("start")

HOST = b"Host: a\r\n"
OTHER = b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"


def get(target: bytes = b"/", *, fields: bytes = HOST, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + fields + b"\r\n"


def post(framing: bytes, content: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"POST / " + version + b"\r\n" + HOST + framing + b"\r\n\r\n" + content


async def accepted(text: bytes, **settings: Any) -> tuple[web.BaseRequest, bytes]:
    """The request that aiohttp hands on, with its content."""
    server = Bare(**settings)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(text)
        assert (await client.answer()).status == 200
    assert server.faults == []
    assert len(server.seen) == 1
    return server.seen[0], server.contents[0]


async def refused(text: bytes, **settings: Any) -> BaseException:
    """The fault by which aiohttp keeps a request from the handler."""
    server = Bare(**settings)
    async with listening(server) as port, await Client.connect(port) as client:
        await client.send(text)
        assert await client.rest() == REFUSED
    assert server.seen == []
    [(status, fault, request, _)] = server.faults
    assert status == 400
    # A request that could not be parsed is a stand-in: nothing of it is known.
    assert (request.method, request.raw_path, len(request.raw_headers)) == ("UNKNOWN", "/", 0)
    assert request.version == HttpVersion(1, 0)
    assert isinstance(fault, HttpProcessingError)
    return fault


async def test_requests_are_parsed_by_llhttp_and_not_by_the_parser_in_python() -> None:
    # The one in Python (a platform without a wheel, AIOHTTP_NO_EXTENSIONS) accepts and refuses otherwise.
    assert http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser"


async def test_the_settings_that_we_make_have_these_names() -> None:
    assert set(inspect.signature(web.RequestHandler).parameters) >= {
        "access_log",
        "auto_decompress",
        "keepalive_timeout",
        "lingering_time",
        "loop",
        "max_field_size",
        "max_headers",
        "max_line_size",
        "read_bufsize",
    }


async def test_the_limits_are_8_kib_a_field_and_128_fields_unless_set() -> None:
    connection = Bare()()
    assert (connection.max_line_size, connection.max_field_size, connection.max_headers) == (8190, 8190, 128)


async def test_what_the_line_reads_of_a_request_is_public() -> None:
    request, _ = await accepted(get())
    for name in ("content", "keep_alive", "method", "protocol", "raw_headers", "raw_path", "transport"):
        assert hasattr(request, name)
    assert hasattr(request, "version")
    assert hasattr(request, "writer")
    assert isinstance(request.protocol, Connection)


async def test_a_request_target_is_handed_on_as_it_came() -> None:
    for target in ("HTTP://A:80/%7e/../x?%zz&&?", "http://a?q", 'http://a/"<>|\\^`{}', "http://[::1]:8/"):
        request, _ = await accepted(get(target.encode()))
        assert request.raw_path == target


async def test_fields_keep_order_spelling_and_bytes_but_not_the_space_around_their_values() -> None:
    request, _ = await accepted(
        get(fields=b"x-A: 1\r\nhOST:a\r\nX-a:\r\nX-A: \t \xff\xc3\xa4;,\t \r\nE: \r\n")
    )
    assert request.raw_headers == (
        (b"x-A", b"1"),
        (b"hOST", b"a"),
        (b"X-a", b""),
        (b"X-A", b"\xff\xc3\xa4;,"),
        (b"E", b""),
    )


ACCEPTED = {
    "HTTP/2.0": (get(version=b"HTTP/2.0"), "GET", "/", (2, 0)),
    "HTTP/0.9": (get(version=b"HTTP/0.9"), "GET", "/", (0, 9)),
    "RTSP/1.0, as HTTP/1.0": (get(version=b"RTSP/1.0"), "GET", "/", (1, 0)),
    "SOURCE of ICE/1.0, as HTTP/1.0": (b"SOURCE / ICE/1.0\r\n\r\n", "SOURCE", "/", (1, 0)),
    "HTTP/1.0 without Host": (get(fields=b"", version=b"HTTP/1.0"), "GET", "/", (1, 0)),
    "ftp": (get(b"ftp://a/"), "GET", "ftp://a/", (1, 1)),
    "userinfo": (get(b"http://u:p@a/"), "GET", "http://u:p@a/", (1, 1)),
    "a fragment": (get(b"http://a/#f"), "GET", "http://a/#f", (1, 1)),
    "port 0": (get(b"http://a:0/"), "GET", "http://a:0/", (1, 1)),
    "an empty port": (get(b"http://a:/"), "GET", "http://a:/", (1, 1)),
    "the asterisk of OPTIONS": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", "OPTIONS", "*", (1, 1)),
    "a method of WebDAV": (b"PROPFIND / HTTP/1.1\r\n" + HOST + b"\r\n", "PROPFIND", "/", (1, 1)),
    "QUERY": (b"QUERY / HTTP/1.1\r\n" + HOST + b"\r\n", "QUERY", "/", (1, 1)),
    "empty lines before": (b"\r\n\n" + get(), "GET", "/", (1, 1)),
    "spaces before the target": (get(b"   /"), "GET", "/", (1, 1)),
    "CONNECT without a port": (b"CONNECT a HTTP/1.1\r\n" + HOST + b"\r\n", "CONNECT", "a", (1, 1)),
    "CONNECT with userinfo": (b"CONNECT u@a:1 HTTP/1.1\r\n" + HOST + b"\r\n", "CONNECT", "u@a:1", (1, 1)),
    "CONNECT with a path": (b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n", "CONNECT", "/", (1, 1)),
    "CONNECT with a length": (
        b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n",
        "CONNECT",
        "a:1",
        (1, 1),
    ),
    "CONNECT with chunks": (
        b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
        "CONNECT",
        "a:1",
        (1, 1),
    ),
}


@pytest.mark.parametrize(("text", "method", "target", "version"), ACCEPTED.values(), ids=ACCEPTED)
async def test_aiohttp_accepts_what_is_ours_to_refuse_or_to_carry(
    text: bytes, method: str, target: str, version: tuple[int, int]
) -> None:
    request, _ = await accepted(text)
    assert (request.method, request.raw_path, tuple(request.version)) == (method, target, version)


REFUSALS: dict[str, tuple[bytes, type[HttpProcessingError]]] = {
    "an unknown method": (b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n", BadHttpMethod),
    "a method in small letters": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", BadHttpMethod),
    "a method of RTSP": (b"DESCRIBE / HTTP/1.1\r\n" + HOST + b"\r\n", BadStatusLine),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BadHttpMethod),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BadHttpMessage),
    "a target beyond ASCII": (get("http://a/é".encode()), InvalidURLError),
    "a byte of Latin-1 in the target": (get(b"/\xe9"), InvalidURLError),
    "a space in the target": (get(b"/a b"), BadStatusLine),
    "a target without a host": (get(b"http:///x"), InvalidURLError),
    "a port beyond any": (get(b"http://a:65536/"), InvalidURLError),
    "a port that is none": (get(b"http://a:x/"), InvalidURLError),
    "the asterisk of GET": (get(b"*"), InvalidURLError),
    "a path without a slash": (get(b"a/b"), InvalidURLError),
    "CONNECT with a URL": (b"CONNECT http://a/ HTTP/1.1\r\n" + HOST + b"\r\n", InvalidURLError),
    "CONNECT with a port beyond any": (b"CONNECT a:65536 HTTP/1.1\r\n" + HOST + b"\r\n", InvalidURLError),
    "CONNECT without a host": (b"CONNECT :1 HTTP/1.1\r\n" + HOST + b"\r\n", InvalidURLError),
    "HTTP/1.2": (get(version=b"HTTP/1.2"), BadStatusLine),
    "HTTP/1": (get(version=b"HTTP/1"), BadStatusLine),
    "a version in small letters": (get(version=b"http/1.1"), BadStatusLine),
    "a space behind the version": (get(version=b"HTTP/1.1 "), BadStatusLine),
    "no Host on HTTP/1.1": (get(fields=b""), BadHttpMessage),
    "Host twice": (get(fields=HOST + b"hOST: b\r\n"), BadHttpMessage),
    "both length and chunks": (post(b"Content-Length: 2\r\nTransfer-Encoding: chunked"), BadHttpMessage),
    "both chunks and length": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 2"), BadHttpMessage),
    "the length twice": (post(b"Content-Length: 2\r\nContent-Length: 2"), BadHttpMessage),
    "a list of lengths": (post(b"Content-Length: 2, 2"), BadHttpMessage),
    "no length": (post(b"Content-Length: "), BadHttpMessage),
    "a signed length": (post(b"Content-Length: +2"), BadHttpMessage),
    "a length with a space inside": (post(b"Content-Length: 2 0"), BadHttpMessage),
    "a prefixed length": (post(b"Content-Length: 0x2"), BadHttpMessage),
    "a length with an underscore": (post(b"Content-Length: 2_0"), BadHttpMessage),
    "a length beyond 64 bits": (post(b"Content-Length: 18446744073709551616"), BadHttpMessage),
    "gzip alone": (post(b"Transfer-Encoding: gzip"), BadHttpMessage),
    "gzip behind chunked": (post(b"Transfer-Encoding: chunked, gzip"), BadHttpMessage),
    "identity": (post(b"Transfer-Encoding: identity"), BadHttpMessage),
    "chunked twice in a line": (post(b"Transfer-Encoding: chunked, chunked"), BadHttpMessage),
    "chunked in two lines": (
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        BadHttpMessage,
    ),
    "a coding with a vertical tab": (post(b"Transfer-Encoding: \x0bchunked"), BadHttpMessage),
    "a space before the colon": (get(fields=HOST + b"X : 1\r\n"), BadHttpMessage),
    "a space before the colon of a length": (post(b"Content-Length : 2"), BadHttpMessage),
    "a space before the colon of a coding": (post(b"Transfer-Encoding : chunked"), BadHttpMessage),
    "no field name": (get(fields=HOST + b": 1\r\n"), BadHttpMessage),
    "no colon": (get(fields=HOST + b"X\r\n"), BadHttpMessage),
    "a field name beyond ASCII": (get(fields=HOST + b"X\xe4: 1\r\n"), BadHttpMessage),
    "a folded value": (get(fields=HOST + b"X: a\r\n b\r\n"), BadHttpMessage),
    "a space behind the request line": (get(fields=b" X: 1\r\n" + HOST), BadHttpMessage),
    "NUL in a value": (get(fields=HOST + b"X: a\0b\r\n"), BadHttpMessage),
    "a control in a value": (get(fields=HOST + b"X: a\x01b\r\n"), BadHttpMessage),
    "a bare CR": (get(fields=HOST + b"X: a\rb\r\n"), BadHttpMessage),
    "a bare LF behind a field": (get(fields=b"X: a\n" + HOST), BadHttpMessage),
    "a bare LF behind the request line": (b"GET / HTTP/1.1\nHost: a\n\n", BadStatusLine),
    "the WebSocket of old": (get(fields=HOST + b"Sec-WebSocket-Key1: a\r\n"), BadHttpMessage),
}


@pytest.mark.parametrize(("text", "fault"), REFUSALS.values(), ids=REFUSALS)
async def test_aiohttp_refuses_what_we_do_not_look_for(text: bytes, fault: type[HttpProcessingError]) -> None:
    found = await refused(text)
    assert isinstance(found, fault)
    assert not isinstance(found, LineTooLong)


SINGLE = ["Content-Location", "Content-Range", "Content-Type", "ETag", "Max-Forwards", "Server", "User-Agent"]


@pytest.mark.parametrize("name", SINGLE)
async def test_aiohttp_refuses_some_harmless_fields_if_they_are_repeated(name: str) -> None:
    line = f"{name}: 1\r\n".encode()
    await accepted(get(fields=HOST + line))
    assert isinstance(await refused(get(fields=HOST + line + line)), BadHttpMessage)


async def test_aiohttp_says_in_words_what_it_refuses_and_quotes_the_request() -> None:
    assert "Duplicate 'Host' header" in str(await refused(get(fields=HOST + b"hOST: secret\r\n")))
    assert "secret" in str(await refused(get(fields=HOST + b"secret\r\n")))


async def test_a_target_beyond_max_line_size_is_a_line_too_long() -> None:
    await accepted(get(b"/" + b"a" * 99), max_line_size=100, max_field_size=50)
    fault = await refused(get(b"/" + b"a" * 100), max_line_size=100, max_field_size=50)
    assert isinstance(fault, LineTooLong)


@pytest.mark.parametrize(
    "field", [b"%b: 1\r\n" % (b"n" * 101), b"X: %b\r\n" % (b"v" * 101)], ids=["name", "value"]
)
async def test_a_name_or_value_beyond_max_field_size_is_a_line_too_long(field: bytes) -> None:
    fault = await refused(get(fields=HOST + field), max_line_size=50, max_field_size=100)
    assert isinstance(fault, LineTooLong)


async def test_a_line_too_long_tells_target_from_field_only_by_its_limit_and_by_a_type() -> None:
    target = await refused(get(b"/" + b"a" * 100), max_line_size=100, max_field_size=101)
    name = await refused(get(fields=HOST + b"n" * 102 + b": 1\r\n"), max_line_size=100, max_field_size=101)
    value = await refused(
        get(fields=HOST + b"X: " + b"v" * 102 + b"\r\n"), max_line_size=100, max_field_size=101
    )
    assert [fault.args[1] for fault in (target, name, value)] == [100, 101, 101]
    assert [type(fault.args[0]) for fault in (target, name, value)] == [bytearray, bytes, bytes]


async def test_the_limit_of_a_field_line_counts_name_and_value_only_in_the_first_field() -> None:
    field = b"n" * 60 + b": " + b"v" * 60 + b"\r\n"
    assert isinstance(await refused(get(fields=field + HOST), max_field_size=100), LineTooLong)
    await accepted(get(fields=HOST + field), max_field_size=100)


async def test_the_limit_of_a_name_counts_the_name_before_it_as_well() -> None:
    first, second = b"n" * 60 + b": 1\r\n", b"m" * 60 + b": 1\r\n"
    await accepted(get(fields=HOST + first), max_field_size=100)
    assert isinstance(await refused(get(fields=HOST + first + second), max_field_size=100), LineTooLong)


async def test_a_head_as_a_whole_is_bounded_by_the_number_of_its_fields_alone() -> None:
    request, _ = await accepted(get(fields=HOST + b"X: %b\r\n" % (b"y" * 8000) * 127))
    assert len(request.raw_headers) == 128


async def test_one_field_too_many_is_not_a_line_too_long_but_said_in_words() -> None:
    await accepted(get(fields=HOST + b"X: 1\r\n" * 9), max_headers=10)
    fault = await refused(get(fields=HOST + b"X: 1\r\n" * 10), max_headers=10)
    assert type(fault) is BadHttpMessage
    assert fault.message == "Too many headers received"


async def test_a_head_too_large_is_refused_before_it_is_complete() -> None:
    for text in (b"GET /" + b"a" * 100, b"GET / HTTP/1.1\r\nX: " + b"y" * 101):
        assert isinstance(await refused(text, max_line_size=100, max_field_size=100), LineTooLong)
    assert "Too many" in str(await refused(b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 12, max_headers=10))


@pytest.mark.parametrize(
    ("fields", "version", "keeps"),
    [
        (b"", b"HTTP/1.1", True),
        (b"Connection: x, CLOSE\r\n", b"HTTP/1.1", False),
        (b"", b"HTTP/1.0", False),
        (b"Connection: keep-alive\r\n", b"HTTP/1.0", True),
        (b"", b"HTTP/2.0", False),
    ],
)
async def test_keep_alive_of_a_request_follows_its_version_and_connection_field(
    fields: bytes, version: bytes, *, keeps: bool
) -> None:
    request, _ = await accepted(get(fields=HOST + fields, version=version))
    assert request.keep_alive is keeps
