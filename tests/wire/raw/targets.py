"""Request lines: the forms of the request-target (RFC 9112 section 3.2), methods, versions."""

from wire.raw.case import BEHIND, ESTABLISHED, OK, Case, Own, arrives, head, passes, refused

_HOST = b"Host: {up}"
_ANY = b"Host: a"


def _kept(name: str, target: bytes, origin_form: bytes, method: bytes = b"GET") -> Case:
    """A target whose rest behind the authority goes upstream as it is."""
    return passes(
        name,
        head(method + b" " + target + b" HTTP/1.1", _HOST),
        arrives(method + b" " + origin_form + b" HTTP/1.1", _HOST),
    )


def _bad(name: str, target: bytes, method: bytes = b"GET", *, reason: str = "bad_request") -> Case:
    return refused(name, head(method + b" " + target + b" HTTP/1.1", _ANY), reason=reason)


def _bad_line(name: str, line: bytes) -> Case:
    return refused(name, head(line, _ANY))


def _bad_version(name: str, line: bytes) -> Case:
    """505; or 400, in one read with something behind it."""
    return refused(name, head(line, _ANY), status=505, reason="unknown_version", read_alone=head(line, _ANY))


def _old(name: str, method: bytes, version: bytes) -> Case:
    """Limit of aiohttp, docs/http-support.md: it takes this protocol for HTTP/1.0, and does not say so.

    One request in, one out, and nothing behind it; or 400, in one read with something behind it.
    """
    request = head(method + b" http://{up}/ " + version, _HOST)
    return passes(
        name,
        request + BEHIND,
        arrives(method + b" / HTTP/1.1", _HOST, via=b"1.0"),
        closes=True,
        read_alone=request,
    )


def _bad_connect(name: str, target: bytes, *fields: bytes) -> Case:
    """A CONNECT that is refused; a request comes behind it (RFC 9931 section 5)."""
    return refused(name, head(b"CONNECT " + target + b" HTTP/1.1", _ANY, *fields))


KEPT = (
    _kept("plain", b"http://{up}/", b"/"),
    _kept("empty path", b"http://{up}", b"/"),
    _kept("empty path with query", b"http://{up}?a=b", b"/?a=b"),
    _kept("empty query", b"http://{up}/?", b"/?"),
    _kept("empty path with empty query", b"http://{up}?", b"/?"),
    _kept(
        "percent-encodings keep their case", b"http://{up}/%2f%2F%7e%7E%41%c3%BC", b"/%2f%2F%7e%7E%41%c3%BC"
    ),
    _kept("encoded CR, LF, NUL stay encoded", b"http://{up}/%00%0d%0A?%0a", b"/%00%0d%0A?%0a"),
    _kept("percent signs that encode nothing", b"http://{up}/%zz%%?%", b"/%zz%%?%"),
    _kept("dot segments", b"http://{up}/a/../b/./c/..", b"/a/../b/./c/.."),
    _kept("encoded dot segments", b"http://{up}/%2e%2E/x", b"/%2e%2E/x"),
    _kept("double slashes", b"http://{up}//a///b/", b"//a///b/"),
    _kept("a URI in the path", b"http://{up}/http://b/?c", b"/http://b/?c"),
    _kept("an @ in the path", b"http://{up}/@b:80/", b"/@b:80/"),
    _kept("sub-delims", b"http://{up}/!$&'()*+,;=:@-._~", b"/!$&'()*+,;=:@-._~"),
    _kept("visible characters that no URI has", b'http://{up}/[]{}|\\^`"<>', b'/[]{}|\\^`"<>'),
    _kept("question marks in the query", b"http://{up}/?a?b=/?", b"/?a?b=/?"),
    _kept("plus and ampersands", b"http://{up}/?a=+&&b&=", b"/?a=+&&b&="),
    _kept("scheme in capitals", b"HTTP://{up}/", b"/"),
    _kept("long target", b"http://{up}/" + b"x" * 3900, b"/" + b"x" * 3900),
    _kept("OPTIONS for the whole server", b"http://{up}", b"*", b"OPTIONS"),
    _kept("OPTIONS for a slash", b"http://{up}/", b"/", b"OPTIONS"),
    _kept("OPTIONS with a query alone", b"http://{up}?a", b"/?a", b"OPTIONS"),
    _kept("DELETE", b"http://{up}/", b"/", b"DELETE"),
    _kept("TRACE", b"http://{up}/", b"/", b"TRACE"),
    _kept("PROPFIND", b"http://{up}/", b"/", b"PROPFIND"),
    _kept("M-SEARCH", b"http://{up}/", b"/", b"M-SEARCH"),
    # RFC 9112 section 2.2: a server SHOULD ignore at least one empty line before the request line.
    passes(
        "empty line before it",
        b"\r\n" + head(b"GET http://{up}/ HTTP/1.1", _HOST),
        arrives(b"GET / HTTP/1.1", _HOST),
    ),
    # RFC 9112 section 3: "recipients MAY instead parse on whitespace-delimited word boundaries": aiohttp.
    passes(
        "spaces between the words of the request line",
        head(b"GET  http://{up}/   HTTP/1.1", _HOST),
        arrives(b"GET / HTTP/1.1", _HOST),
    ),
    passes(
        "HTTP/1.0",
        head(b"GET http://{up}/ HTTP/1.0", _HOST),
        arrives(b"GET / HTTP/1.1", _HOST, via=b"1.0"),
        closes=True,
    ),
    passes(
        "HTTP/1.0 without Host",
        head(b"GET http://{up}/ HTTP/1.0"),
        arrives(b"GET / HTTP/1.1", _HOST, via=b"1.0"),
        closes=True,
    ),
)

REFUSED = (
    _bad("origin-form", b"/", reason="not_a_proxy_request"),
    _bad("origin-form of a foreign Host", b"//{up}/", reason="not_a_proxy_request"),
    _bad("asterisk-form", b"*", b"OPTIONS", reason="not_a_proxy_request"),
    _bad("asterisk-form for GET", b"*"),
    _bad("authority-form for GET", b"{up}"),
    _bad("relative reference", b"a/b"),
    _bad("fragment", b"http://{up}/#a"),
    _bad("fragment behind the authority", b"http://{up}#a"),
    _bad("fragment in the query", b"http://{up}/?a#b"),
    _bad("byte above 0x7f", b"http://{up}/\xe4"),
    _bad("UTF-8", b"http://{up}/\xc3\xa4"),
    _bad("byte above 0x7f in the authority", b"http://\xe4{up}/"),
    _bad("space", b"http://{up}/a b"),
    _bad("space and a version", b"http://{up}/ HTTP/1.1\tX"),
    _bad("tab", b"http://{up}/a\tb"),
    _bad("DEL", b"http://{up}/\x7f"),
    _bad("NUL", b"http://{up}/\0"),
    _bad("control character", b"http://{up}/\x01"),
    _bad("form feed", b"http://{up}/\x0c"),
    _bad("bare CR in the target", b"http://{up}/\rX"),
    _bad("user information", b"http://u:p@{up}/"),
    _bad("empty user information", b"http://@{up}/"),
    _bad("authority that hides another", b"http://{up}@b.invalid/"),
    _bad("backslash before an authority", b"http://{up}\\@b.invalid/"),
    _bad("port 0", b"http://127.0.0.1:0/"),
    _bad("port 65536", b"http://127.0.0.1:65536/"),
    _bad("port of six digits", b"http://127.0.0.1:000080/"),
    _bad("port with a sign", b"http://127.0.0.1:+80/"),
    _bad("port with a letter", b"http://127.0.0.1:8o/"),
    _bad("two ports", b"http://127.0.0.1:80:80/"),
    _bad("no host", b"http:///"),
    _bad("no host but a port", b"http://:80/"),
    _bad("one slash", b"http:/{up}/"),
    _bad("no slash", b"http:{up}"),
    _bad("IPv6 with a zone", b"http://[::1%25lo]/"),
    _bad("IPv6 without its end", b"http://[::1/"),
    _bad("IPv6 that is none", b"http://[1:2]/"),
    _bad("IPv4 of two parts", b"http://127.1/"),
    _bad("IPv4 in hex", b"http://0x7f.0.0.1/"),
    _bad("IPv4 in octal", b"http://127.0.0.01/"),
    _bad("IPv4 as one number", b"http://2130706433/"),
    _bad("host with an empty label", b"http://a..invalid/"),
    _bad("full-width digits as a host", "http://\uff11\uff12\uff17.0.0.1/".encode()),
    _bad("encoded host", b"http://127%2e0.0.1/"),
    _bad("two hosts", b"http://127.0.0.1,b/"),
    _bad("ftp", b"ftp://{up}/"),
    _bad("https without a host", b"https:///"),
    _bad("https with user information", b"https://u@{up}/"),
    Case(
        name="https where nobody listens",
        sent=head(b"GET https://{closed}/ HTTP/1.1", b"Host: {closed}"),
        own=Own(status=502, reason="connection_refused", closes=False),
    ),
    _bad("ws", b"ws://{up}/"),
    refused(
        "target beyond max_head",
        head(b"GET http://{up}/" + b"x" * 4096 + b" HTTP/1.1", _HOST),
        status=414,
        reason=None,
    ),
    _bad_line("unknown method", b"FOO http://{up}/ HTTP/1.1"),
    _bad_line("method in small letters", b"get http://{up}/ HTTP/1.1"),
    _bad_line("method that is no token", b"G(T http://{up}/ HTTP/1.1"),
    _bad_line("no method", b" http://{up}/ HTTP/1.1"),
    _bad_line("no target", b"GET HTTP/1.1"),
    _bad_line("space behind the version", b"GET http://{up}/ HTTP/1.1 "),
    _bad_line("tabs as separators", b"GET\thttp://{up}/\tHTTP/1.1"),
    _bad_line("version in small letters", b"GET http://{up}/ http/1.1"),
    _bad_line("HTTP/1", b"GET http://{up}/ HTTP/1"),
    _bad_line("HTTP/1.10", b"GET http://{up}/ HTTP/1.10"),
    _bad_line("HTTP/01.1", b"GET http://{up}/ HTTP/01.1"),
    # aiohttp's parser knows no such version, so this is no answer 505.
    _bad_line("HTTP/1.2", b"GET http://{up}/ HTTP/1.2"),
    _bad_line("preface of HTTP/2", b"PRI * HTTP/2.0"),
    _bad_version("HTTP/2.0", b"GET http://{up}/ HTTP/2.0"),
    _bad_version("HTTP/0.9 with a version", b"GET http://{up}/ HTTP/0.9"),
    # aiohttp takes it for HTTP/0.9.
    _bad_version("no version", b"GET http://{up}/"),
)

OTHER_PROTOCOLS = (
    _old("RTSP", b"GET", b"RTSP/1.0"),
    _old("SOURCE of ICE", b"SOURCE", b"ICE/1.0"),
)

CONNECTS = (
    _bad_connect("CONNECT without a port", b"127.0.0.1"),
    _bad_connect("CONNECT with an empty port", b"127.0.0.1:"),
    _bad_connect("CONNECT to port 0", b"127.0.0.1:0"),
    _bad_connect("CONNECT to port 65536", b"127.0.0.1:65536"),
    _bad_connect("CONNECT in absolute-form", b"http://{up}/"),
    _bad_connect("CONNECT in origin-form", b"/"),
    _bad_connect("CONNECT with a path", b"{up}/"),
    _bad_connect("CONNECT with user information", b"u@{up}"),
    _bad_connect("CONNECT with an asterisk", b"*"),
    _bad_connect("CONNECT to an IPv4 address in hex", b"0x7f000001:80"),
    _bad_connect("CONNECT to an IPv4 address of two parts", b"127.1:80"),
    _bad_connect("CONNECT to a zone", b"[fe80::1%25lo]:80"),
    _bad_connect("CONNECT with a length", b"{up}", b"Content-Length: 5"),
    _bad_connect("CONNECT with length 0", b"{up}", b"Content-Length: 0"),
    _bad_connect("CONNECT with chunks", b"{up}", b"Transfer-Encoding: chunked"),
    refused(
        "CONNECT where nobody listens",
        head(b"CONNECT {closed} HTTP/1.1", b"Host: {closed}"),
        status=502,
        reason="connection_refused",
    ),
    refused(
        "CONNECT over HTTP/2.0",
        head(b"CONNECT {up} HTTP/2.0", _HOST),
        status=505,
        reason="unknown_version",
    ),
    Case(
        name="CONNECT accepted, what is no request behind it is raw",
        sent=head(b"CONNECT {up} HTTP/1.1", _HOST) + b"\0" + head(b"GET http://{up}/ HTTP/1.1", _HOST),
        raw=b"\0" + head(b"GET http://{up}/ HTTP/1.1", _HOST),
        raw_answer=OK,
        received=ESTABLISHED + OK,
    ),
    Case(
        name="CONNECT accepted, the preface of HTTP/2 is raw",
        sent=head(b"CONNECT {up} HTTP/1.1", _HOST) + head(b"PRI * HTTP/2.0") + b"SM\r\n\r\n",
        raw=head(b"PRI * HTTP/2.0") + b"SM\r\n\r\n",
        raw_answer=b"\0\0\0\4\0\0\0\0\0",
        received=ESTABLISHED + b"\0\0\0\4\0\0\0\0\0",
    ),
    Case(
        name="CONNECT accepted, a request of another version is raw",
        sent=head(b"CONNECT {up} HTTP/1.1", _HOST) + head(b"GET / HTTP/1.2", _HOST),
        raw=head(b"GET / HTTP/1.2", _HOST),
        raw_answer=OK,
        received=ESTABLISHED + OK,
    ),
    Case(
        name="CONNECT accepted, every byte passes",
        sent=head(b"CONNECT {up} HTTP/1.0"),
        first=ESTABLISHED,
        then=bytes(range(256)),
        raw=bytes(range(256)),
        raw_answer=bytes(range(255, -1, -1)),
        received=ESTABLISHED + bytes(range(255, -1, -1)),
    ),
)

TARGETS = (*KEPT, *REFUSED, *OTHER_PROTOCOLS, *CONNECTS)
