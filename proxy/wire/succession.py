"""A client's connection that goes on as another one: what is inside of a CONNECT, plain or after TLS.

The exchange of the CONNECT ends first, and is reported; then a connection of its own takes the requests. All
of that is one turn of the loop, in which nothing can come from the client.
"""

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from proxy.wire.client import ClientConnection
from proxy.wire.naming import Naming
from proxy.wire.tls import TlsTransport
from proxy.wire.written import Written


class Succession(Written):
    """Tells aiohttp that the exchange is over, and has another connection go on behind it.

    Args:
        client: whose connection it is.
        naming: for the requests that come now.
        transport: the connection as it is to be used: the client's own, or TLS upon it.
        early: what has been received of the first request, bytes or none.
    """

    def __init__(
        self, client: ClientConnection, naming: Naming, transport: asyncio.Transport, early: bytes = b""
    ) -> None:
        super().__init__(keep_alive=False)
        self._client = client
        self._naming = naming
        self._transport = transport
        self._early = early

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Lets the successor begin; nothing is written."""
        client, transport = self._client, self._transport
        # Cancels the task that this is called by, which has nothing to do any more.
        client.detach()
        successor = client.successor(self._naming)
        if isinstance(transport, TlsTransport):
            transport.carry(successor)
        elif not transport.is_closing():
            successor.connection_made(transport)
            # Before it gets what has come, which may be so much that it has the client wait.
            transport.resume_reading()
            if self._early:
                successor.data_received(self._early)
        return request.writer
