"""The load of the benchmark: kept-alive clients that send the next request as soon as they have the answer.

Prints nothing; it ends when all requests are answered.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

import uvloop
from upstream import ANSWER_END

CONTENT_BYTES = 1024


class Client(asyncio.Protocol):
    """One connection, kept alive.

    Args:
        request: which is sent again and again.
        left: gives something as long as there is one more to be sent, by this client or another.
        done: called when the connection has ended.
    """

    def __init__(self, request: bytes, left: Iterator[int], done: Callable[[], None]) -> None:
        self._request = request
        self._left = left
        self._done = done
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        """Sends the next one when the answer is whole."""
        self._unread += data
        if self._unread.endswith((ANSWER_END, b"0\r\n\r\n")):
            if not self._unread.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the proxy answered {self._unread[:80]!r}")
            self._unread = b""
            self._next()

    def connection_lost(self, _: Exception | None) -> None:
        """Is done."""
        self._done()

    def _next(self) -> None:
        if self._transport is None:
            return
        if next(self._left, None) is None:
            self._transport.close()
        else:
            self._transport.write(self._request)


def drive(port: int, upstream: int, requests: int, connections: int) -> None:
    """Sends so many requests to the upstream through the proxy, over so many connections."""
    uvloop.run(_drive(port, upstream, requests, connections))


def request_of(prefix: str, upstream: int) -> bytes:
    """The request; the prefix is the scheme and authority of an absolute-form, or empty."""
    return (
        f"POST {prefix}/hooks/7c1b?attempt=1 HTTP/1.1\r\nHost: 127.0.0.1:{upstream}\r\n"
        "User-Agent: dispatcher/1.0\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        "X-Signature: t=1763884800,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd\r\n"
        f"Content-Length: {CONTENT_BYTES}\r\n\r\n"
    ).encode() + b"x" * CONTENT_BYTES


async def _drive(port: int, upstream: int, requests: int, connections: int) -> None:
    request = request_of(f"http://127.0.0.1:{upstream}", upstream)
    left = iter(range(requests))
    loop = asyncio.get_running_loop()
    ended: list[asyncio.Future[None]] = []
    for _ in range(connections):
        over = loop.create_future()
        ended.append(over)

        def client(over: "asyncio.Future[None]" = over) -> Client:
            return Client(request, left, lambda: over.set_result(None))

        await loop.create_connection(client, "127.0.0.1", port)
    await asyncio.gather(*ended)
