"""Messages before anything is done to them: requests and responses, valid ones and faulty ones.

`upstream.test:1` and `a.tunnel.test:1` stand for the authorities of the two upstreams; they are as long as an
address with a port of five digits, so that lengths hold whichever ports the upstreams get.
"""

UPSTREAM = b"upstream.test:1"
TUNNEL = b"a.tunnel.test:1"
# Stands for the port of either, behind another spelling of its host.
PORT = b"port1"
_URL = b"http://" + UPSTREAM
_HOST = b"Host: " + UPSTREAM + b"\r\n"
_SMUGGLED = b"GET " + _URL + b"/smuggled HTTP/1.1\r\n" + _HOST + b"\r\n"


def _request(line: bytes, *fields: bytes, content: bytes = b"") -> bytes:
    method, _, rest = line.partition(b" ")
    head = method + b" " + _URL + rest + b" HTTP/1.1\r\n" + _HOST
    return head + b"".join(one + b"\r\n" for one in fields) + b"\r\n" + content


def _sized(content: bytes) -> bytes:
    return b"Content-Length: %d" % len(content)


def _chunks(*pieces: bytes, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return chunks + b"0\r\n" + trailers + b"\r\n"


_CHUNKED = b"Transfer-Encoding: chunked"
_CONNECT = b"CONNECT " + TUNNEL + b" HTTP/1.1\r\nHost: " + TUNNEL + b"\r\n\r\n"

REQUESTS = {
    "get": _request(b"GET /a"),
    "query": _request(b"GET /a?b=c%20d", b"Accept: */*", b"X-Empty:", b"X-Twice: 1", b"x-twice: 2"),
    "no path": _request(b"GET "),
    "head": _request(b"HEAD /h"),
    "length": _request(b"POST /l", _sized(b"hello"), content=b"hello"),
    "length zero": _request(b"POST /z", b"Content-Length: 0"),
    "smuggled in a length": _request(b"PUT /sl", _sized(_SMUGGLED), content=_SMUGGLED),
    "chunked": _request(b"POST /c", _CHUNKED, content=_chunks(b"hello", b" ", b"world, hello")),
    "smuggled in a chunk": _request(b"POST /sc", _CHUNKED, content=_chunks(_SMUGGLED)),
    "extensions": _request(b"PUT /x", _CHUNKED, content=_chunks(b"abc", b"d", extension=b";a=b")),
    "trailers": _request(b"POST /t", _CHUNKED, content=_chunks(b"abc", trailers=b"X-Sum: 5\r\n")),
    "expect": _request(b"POST /e", b"Expect: 100-continue", _sized(b"hello"), content=b"hello"),
    "upgrade": _request(
        b"GET /u",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "hop-by-hop": _request(b"GET /p", b"Connection: X-Hop, keep-alive", b"X-Hop: 1", b"TE: trailers"),
    "named by Connection": _request(
        b"POST /nc", b"Connection: content-length, host", _sized(b"hello"), content=b"hello"
    ),
    "close": _request(b"GET /cl", b"Connection: close"),
    "options": _request(b"OPTIONS "),
    "trace": _request(b"TRACE /tr", b"Max-Forwards: 5"),
    "delete": _request(b"DELETE /d", b"Authorization: Basic eDp5"),
    "old": _request(b"GET /o").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "connect": _CONNECT,
    "inside": _CONNECT + b"GET /i HTTP/1.1\r\nHost: " + TUNNEL + b"\r\n\r\n",
}

# What is refused, with something behind it that must then not be executed.
REFUSED = {
    "connect nowhere": b"CONNECT nowhere.test:1 HTTP/1.1\r\nHost: nowhere.test:1\r\n\r\n" + _SMUGGLED,
    "connect with a length": b"CONNECT "
    + TUNNEL
    + b" HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 0\r\n\r\n"
    + _SMUGGLED,
    "old and chunked": _request(b"POST /oc", _CHUNKED, content=_chunks(b"abc")).replace(b"/1.1", b"/1.0")
    + _SMUGGLED,
    "two lengths": _request(b"POST /ll", _sized(b"abc"), _sized(b"abc"), content=b"abc") + _SMUGGLED,
    "length and chunked": _request(b"POST /lc", _sized(b"abc"), _CHUNKED, content=_chunks(b"abc"))
    + _SMUGGLED,
    "another coding": _request(b"POST /ac", b"Transfer-Encoding: gzip, chunked", content=_chunks(b"abc"))
    + _SMUGGLED,
    "origin-form": b"GET /of HTTP/1.1\r\n" + _HOST + b"\r\n" + _SMUGGLED,
    "another scheme": _request(b"GET /as").replace(b"http:", b"ftp:") + _SMUGGLED,
    "another version": _request(b"GET /av").replace(b"/1.1", b"/2.0") + _SMUGGLED,
    "two hosts": _request(b"GET /hh", b"Host: b") + _SMUGGLED,
}


def _response(line: bytes, *fields: bytes, content: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + line + b"\r\n" + b"".join(one + b"\r\n" for one in fields) + b"\r\n" + content


_SECOND = _response(b"200 OK", b"X-Smuggled: 1", _sized(b"other"), content=b"other")
RESPONSES = {
    "length": _response(b"200 OK", b"X-Mark: 1", _sized(b"hello"), content=b"hello"),
    "length zero": _response(b"201 Created", b"Location: /x", b"Content-Length: 0"),
    "chunked": _response(b"200 OK", _CHUNKED, content=_chunks(b"hello", b" ", b"world, hello")),
    "extensions": _response(b"200 OK", _CHUNKED, content=_chunks(b"abc", extension=b";a=b")),
    "trailers": _response(
        b"200 OK", b"Trailer: X-Sum", _CHUNKED, content=_chunks(b"abc", trailers=b"X-Sum: 5\r\n")
    ),
    "close": _response(b"200 OK", content=b"until the end"),
    "close said": _response(b"200 OK", b"Connection: close", _sized(b"bye"), content=b"bye"),
    "old": _response(b"200 OK", _sized(b"hi"), content=b"hi").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no content": _response(b"204 No Content", b"X-A: 1"),
    "not modified": _response(b"304 Not Modified", b"ETag: x", b"Content-Length: 5"),
    "no reason": _response(b"404 ", _sized(b"no"), content=b"no"),
    "failed": _response(b"503 Service Unavailable", b"Retry-After: 7", b"Content-Length: 0"),
    "continue": _response(b"100 Continue") + _response(b"200 OK", _sized(b"ok"), content=b"ok"),
    "hints": _response(b"103 Early Hints", b"Link: </a>")
    + _response(b"102 Processing")
    + _response(b"200 OK", _CHUNKED, content=_chunks(b"ok")),
    # RFC 9110 section 15.2: it ends with its head all the same.
    "hints with a length": _response(b"103 Early Hints", _sized(_SECOND)) + _SECOND,
    "second inside": _response(b"200 OK", _sized(_SECOND), content=_SECOND),
    "second in a chunk": _response(b"200 OK", _CHUNKED, content=_chunks(_SECOND)),
    "hop-by-hop": _response(b"200 OK", b"Connection: X-Hop", b"X-Hop: 1", _sized(b"a"), content=b"a"),
}
# What cannot be passed on as it is.
FAULTY = {
    "cut length": _response(b"200 OK", _sized(b"hello"), content=b"hel"),
    "cut chunks": _response(b"200 OK", _CHUNKED, content=b"5\r\nhello\r\n5\r\nwor"),
    "no last chunk": _response(b"200 OK", _CHUNKED, content=b"5\r\nhello\r\n"),
    "no chunk": _response(b"200 OK", _CHUNKED, content=b"5\r\nhello\r\nzz\r\n"),
    "two LF behind a size": _response(b"200 OK", _CHUNKED, content=b"5\n\nhello\r\n0\r\n\r\n"),
    "LF behind the last size": _response(b"200 OK", _CHUNKED, content=b"0\n\nX-Sum: 5\r\n\r\n"),
    "length among trailers": _response(
        b"200 OK", _CHUNKED, content=_chunks(b"abc", trailers=b"Content-Length: 3\r\n")
    ),
    "interim with the end of chunks": _response(b"110 A", _CHUNKED, content=_chunks())
    + _response(b"200 OK", _sized(b"abc"), content=b"abc"),
    "two lengths": _response(b"200 OK", _sized(b"abc"), _sized(b"abc"), content=b"abc"),
    "length and chunked": _response(b"200 OK", _sized(b"abc"), _CHUNKED, content=_chunks(b"abc")),
    "tab behind the coding": _response(b"200 OK", _CHUNKED + b"\t", content=_chunks(b"abc")),
    "CR for a value": _response(b"200 OK", b"X-A:\r", _sized(b"abc"), content=b"abc"),
    "blank line with a blank": _response(b"200 OK", b" ", _sized(b"abc"), content=b"abc"),
    "switched": _response(b"101 Switching Protocols", b"Upgrade: websocket"),
}
# Other spellings of the address of both upstreams, and what some take for one: they lead there or nowhere.
ODD_HOSTS = (
    *(b"127.1", b"0x7f.1", b"0x7f000001", b"2130706433", b"017700000001", b"0177.0.0.1", b"4294967297"),
    *(b"127.0.0.1.", b"127.0.0.1..", b".127.0.0.1", b"127.000.000.001", b"127.0.0.256", b"127.0.0.1.1"),
    *(b"127.0.0.%31", b"%31%32%37.0.0.1", b"127.0.0.1%25lo", b"127.0.0.1%lo", b"127.0.0.1%00.test"),
    *(b"[::ffff:127.0.0.1]", b"[::ffff:7f00:1]", b"[::FFFF:127.0.0.1%25lo]", b"[127.0.0.1]", b"[v1.127]"),
    *(
        b"127.0.0.1@b.test",
        b"b.test@127.0.0.1",
        b"127.0.0.1:1",
        b"127.0.0.1\\",
        b"127.0.0.1,b",
        b"127.0.0.1#",
    ),
    *(
        b"\xef\xbc\x91127.0.0.1",
        b"127\xe3\x80\x820.0.1",
        b"xn--127-.test",
        b"xn--.test",
        b"b.test.",
        b".",
        b"",
        b"-",
        b"*",
    ),
)
# Who asks for the mutated responses, and with which method.
ASKING = {
    "get": REQUESTS["get"],
    "head": REQUESTS["head"],
    "post": REQUESTS["length"],
    "chunked": REQUESTS["chunked"],
    "old": REQUESTS["old"],
}
