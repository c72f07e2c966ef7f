"""The upstream of the benchmark: answers each POST of a known length with as little work as there is.

    python upstream.py CONTENT_BYTES [PEM]

With a file of key and certificates it speaks TLS. Prints its port.
"""

import asyncio
import ssl
import sys
from typing import cast

import uvloop

ANSWER_END = b'{"taken": true}'
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER_END), ANSWER_END)
)


class Connection(asyncio.Protocol):
    """Answers each request on one connection.

    Args:
        content_bytes: of each request.
    """

    def __init__(self, content_bytes: int) -> None:
        self._content_bytes = content_bytes
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Has somebody to answer."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answers each that is whole."""
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            whole = end + 4 + self._content_bytes
            if len(self._unread) < whole:
                return
            self._unread = self._unread[whole:]
            if self._transport is not None:
                self._transport.write(_ANSWER)


async def _serve(content_bytes: int, *pem: str) -> None:
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pem)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(content_bytes), "127.0.0.1", 0, ssl=context
    )
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 -- the harness reads it
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), *sys.argv[2:]))
