"""Which requests may be followed by another on the client's connection.

Each is answered by ourselves, since no route fits, so that nothing but the request decides.
"""

from typing import NamedTuple

import pytest
from support.client import Client
from support.sidecar import SETTINGS, Running, Start
from support.turns import turns

from proxy.core.policy import Endpoint, Listen
from proxy.core.route import PathPrefix, Route, UpstreamUrl
from proxy.wire.call import MAX_DISCARDED

HERE = Endpoint("127.0.0.1", 0)
NOWHERE = {
    "listen": Listen(proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, reverse=HERE),
    "routes": (Route(upstream=UpstreamUrl.parse("http://127.0.0.1:1"), path=PathPrefix("/never")),),
}
NEXT = b"DELETE /next HTTP/1.1\r\nHost: a\r\n\r\n"


class Row(NamedTuple):
    """A request, and what its client sends behind the answer."""

    what: str
    fields: bytes
    content: bytes
    rest: bytes
    follows: bool
    version: bytes = b"1.1"


def length(count: int) -> bytes:
    return b"Content-Length: %d\r\n" % count


CHUNKED = b"Transfer-Encoding: chunked\r\n"
EXPECT = b"Expect: 100-continue\r\n"
MOST = MAX_DISCARDED

ROWS = [
    Row("no content", b"", b"", b"", follows=True),
    Row("close", b"Connection: close\r\n", b"", b"", follows=False),
    Row("close among others", b"Connection: X-One, Close\r\n", b"", b"", follows=False),
    Row("1.0", b"", b"", b"", follows=False, version=b"1.0"),
    Row("1.0 and keep-alive", b"Connection: keep-alive\r\n", b"", b"", follows=False, version=b"1.0"),
    # Whoever upgrades sends another protocol behind its request, which only a 101 would make sense of.
    Row("h2c", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"", b"", follows=False),
    Row("websocket", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"", b"", follows=False),
    Row("upgrade that connection does not name", b"Upgrade: h2c\r\n", b"", b"", follows=False),
    Row("empty content", length(0), b"", b"", follows=True),
    Row("whole content", length(5), b"event", b"", follows=True),
    Row("part of the content", length(5), b"ev", b"ent", follows=True),
    Row("none of the content", length(5), b"", b"event", follows=True),
    Row("as much as is thrown away", length(MOST), b"", b"x" * MOST, follows=True),
    Row("more than that", length(MOST + 1), b"", b"x" * (MOST + 1), follows=False),
    Row("as much is left", length(MOST + 5), b"event", b"x" * MOST, follows=True),
    Row("more is left", length(MOST + 6), b"event", b"x" * (MOST + 1), follows=False),
    # RFC 9110 section 10.1.1: it may be waiting for a 100, and never send its content.
    Row("expects a 100", EXPECT + length(5), b"", b"event", follows=False),
    Row("has sent a part without a 100", EXPECT + length(5), b"ev", b"ent", follows=False),
    Row("has sent all without a 100", EXPECT + length(5), b"event", b"", follows=True),
    Row("expects a 100 for nothing", EXPECT, b"", b"", follows=True),
    Row("chunks to come", CHUNKED, b"", b"0\r\n\r\n", follows=False),
    Row("some chunks", CHUNKED, b"5\r\nevent\r\n", b"0\r\n\r\n", follows=False),
    Row("all but the last byte", CHUNKED, b"5\r\nevent\r\n0\r\n\r", b"\n", follows=False),
    Row("whole chunks", CHUNKED, b"5\r\nevent\r\n0\r\n\r\n", b"", follows=True),
    # aiohttp would take its first field for one of the next request.
    Row("trailers", CHUNKED, b"5\r\nevent\r\n0\r\nX: 0\r\n\r\n", b"", follows=False),
]


async def asked(client: Client, row: Row, behind: bytes = b"") -> bool:
    """Sends the request of a row; returns whether another one may follow, by the answer."""
    head = b"POST /a HTTP/%b\r\nHost: a\r\n%b\r\n" % (row.version, row.fields)
    await client.send(head + row.content + behind)
    answer = await client.answer("POST")
    assert answer.header("X-Breaker-Reason") == "no_route"
    assert answer.header("Connection") in (None, "close")
    return answer.header("Connection") is None


def methods(proxy: Running) -> list[str]:
    return [exchange.method for exchange in proxy.exchanges]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
async def test_whether_another_request_may_follow(start: Start, row: Row) -> None:
    proxy = await start(**NOWHERE)
    async with await Client.connect(proxy.sidecar.reverse_port) as client:
        follows = await asked(client, row)
        assert follows is row.follows
        if follows or row.rest:
            await client.send(row.rest + NEXT)
        if follows:
            assert (await client.answer()).header("X-Breaker-Reason") == "no_route"
        else:
            assert await client.rest() == b""
        await turns()
    assert methods(proxy) == (["POST", "DELETE"] if follows else ["POST"])


# What comes behind a request that says it is the last one is refused by aiohttp's parser, together with it.
WHOLE = [row for row in ROWS if not row.rest and row.version == b"1.1" and b"lose" not in row.fields]


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row.what)
async def test_the_same_where_the_next_request_has_come_already(start: Start, row: Row) -> None:
    proxy = await start(**NOWHERE)
    async with await Client.connect(proxy.sidecar.reverse_port) as client:
        follows = await asked(client, row, NEXT)
        # Behind chunks it cannot be told from a trailer.
        assert follows is (row.follows and row.fields != CHUNKED)
        if follows:
            assert (await client.answer()).header("X-Breaker-Reason") == "no_route"
        else:
            assert await client.rest() == b""
        await turns()
    assert methods(proxy) == (["POST", "DELETE"] if follows else ["POST"])
