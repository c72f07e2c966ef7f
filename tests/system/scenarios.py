"""Calls of all kinds and their answers, for any client on any way through the proxy."""

import json
import random
from dataclasses import dataclass

from support.outage import LocalUpstream, Verbatim, received
from support.process import Reply
from system.adapters import Ask, Framing

MEGABYTES = random.Random(0).randbytes(10_000_000)  # noqa: S311 -- no secret

TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large"
BROKEN = Verbatim(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\nbroken")
ANSWERS = {
    "/megabytes": Verbatim(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + MEGABYTES),
    "/nothing": Verbatim(b"HTTP/1.1 204 No Content\r\nX-Upstream: local\r\n\r\n"),
    "/trailers": Verbatim(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n"
        b"8\r\ntrailers\r\n0\r\nX-Checksum: 8\r\n\r\n"
    ),
    "/hints": Verbatim(
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhints"
    ),
    "/too-large": Verbatim(TOO_LARGE),
    "/too-large-and-reset": Verbatim(TOO_LARGE, reset=True),
}


@dataclass(frozen=True)
class Scenario:
    """A call and its answer; None as `answer`: the upstream's account of what it has received."""

    target: str = "/hook?event=1"
    method: str = "GET"
    content: bytes = b""
    framing: Framing = "whole"
    status: int = 200
    answer: bytes | None = None

    def ask(self, upstream: LocalUpstream) -> Ask:
        return Ask(f"{upstream.origin}{self.target}", self.method, self.content, self.framing)

    def check(self, reply: Reply) -> None:
        assert reply.status == self.status
        if self.answer is not None:
            # A plain comparison of megabytes would be told byte by byte.
            assert len(reply.content) == len(self.answer)
            assert (reply.content == self.answer) is True
        else:
            assert reply.headers["x-upstream"] == "local"
            chunked = self.framing == "chunked"
            assert json.loads(reply.content) == received(self.method, self.content, chunked=chunked)


PLAIN = Scenario()
KEPT_ALIVE = {
    "get": PLAIN,
    "get-10-mb": Scenario("/megabytes", answer=MEGABYTES),
    "post": Scenario(method="POST", content=b'{"event": 1}'),
    "post-10-mb": Scenario(method="POST", content=MEGABYTES),
    "chunked-10-mb": Scenario(method="POST", content=MEGABYTES, framing="chunked"),
    "delete": Scenario(method="DELETE"),
    "204": Scenario("/nothing", status=204, answer=b""),
    "trailers": Scenario("/trailers", answer=b"trailers"),
}
SCENARIOS = KEPT_ALIVE | {
    "head": Scenario(method="HEAD", answer=b""),
    "early-413": Scenario("/too-large", "POST", MEGABYTES, status=413, answer=b"too large"),
    "early-413-chunked": Scenario("/too-large", "POST", MEGABYTES, "chunked", 413, b"too large"),
}
