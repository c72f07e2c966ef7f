"""What a case of the table of raw bytes says.

`{up}` stands for the authority of the recording upstream, `{port}` for its port, `{closed}` for an authority
where nothing listens.
"""

from dataclasses import dataclass

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK_PASSED_ON = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 testproxy\r\n\r\nok"
OK_AND_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 testproxy\r\nConnection: close\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
# Whatever a refused request brings with it must not be executed. It is short, being cut at each position.
BEHIND = b"GET http://{up} HTTP/1.0\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Own:
    """An answer of the proxy's own.

    Attributes:
        reason: of X-Breaker-Reason; None where the table leaves it open.
        closes: whether the connection ends with it; None where the table leaves it open.
    """

    status: int
    reason: str | None = "bad_request"
    closes: bool | None = True


@dataclass(frozen=True, kw_only=True)
class Case:
    """One conversation: a client that sends, a proxy, an upstream that records and answers.

    Attributes:
        sent: what the client sends, whatever it hears.
        first, then: once the client has received `first`, it sends `then`.
        requests: the whole requests that arrive upstream; chunked content stands here as a single chunk.
        unfinished: how a request begins that arrives upstream and never becomes whole.
        raw: what arrives upstream of a tunnel.
        at_head: what the upstream says as soon as it has the head of the first request,
            and `at_least` bytes in all.
        answers: what it says to each whole request.
        raw_answer: what it says into a tunnel once it has all of `raw`.
        upstream_closes: whether the upstream closes behind its answer.
        received: what the client receives, chunked content as a single chunk.
        own: the answer of the proxy's own that follows it.
        client_owes: whether the proxy may wait for the client until its deadline before it says `own`.
        closes: whether the proxy closes the connection.
        read_alone: how `sent` begins, where the case need only hold if this ends a read. Limit of aiohttp,
            docs/http-support.md: in one read all of it is `WHOLE_REFUSED`, and of its requests none is
            carried out, good as they may be; cut elsewhere, it is the one or the other.
    """

    name: str
    sent: bytes
    first: bytes = b""
    then: bytes = b""
    requests: tuple[bytes, ...] = ()
    unfinished: bytes = b""
    raw: bytes = b""
    at_head: bytes = b""
    at_least: int = 0
    answers: tuple[bytes, ...] = ()
    raw_answer: bytes = b""
    upstream_closes: bool = False
    received: bytes = b""
    own: Own | None = None
    client_owes: bool = False
    closes: bool = False
    read_alone: bytes = b""


# What aiohttp's parser makes of a read with a fault in it, or with bytes behind a request that ends the
# connection: it raises, and forgets the requests that it has found in the same read.
WHOLE_REFUSED = Own(status=400)


def head(*lines: bytes) -> bytes:
    """A request line and field lines, each with its end, and the empty line."""
    return b"".join([line + b"\r\n" for line in lines]) + b"\r\n"


def arrives(*lines: bytes, via: bytes = b"1.1") -> bytes:
    """The head of a request as it arrives upstream."""
    return head(*lines, b"Via: " + via + b" testproxy")


def passes(name: str, sent: bytes, *requests: bytes, closes: bool = False, read_alone: bytes = b"") -> Case:
    """Each of the requests arrives upstream and is answered 200."""
    *first, last = [OK_PASSED_ON] * len(requests)
    received = b"".join([*first, OK_AND_CLOSE if closes else last])
    return Case(
        name=name,
        sent=sent,
        requests=requests,
        answers=(OK,) * len(requests),
        received=received,
        closes=closes,
        read_alone=read_alone,
    )


def refused(
    name: str,
    sent: bytes,
    *before: bytes,
    status: int = 400,
    reason: str | None = "bad_request",
    read_alone: bytes = b"",
) -> Case:
    """The requests before it pass; this one is refused, the connection closed, nothing behind it is read."""
    return Case(
        name=name,
        sent=sent + BEHIND,
        requests=before,
        answers=(OK,) * len(before),
        received=OK_PASSED_ON * len(before),
        own=Own(status=status, reason=reason),
        closes=True,
        read_alone=read_alone,
    )
