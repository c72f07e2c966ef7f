"""A connection of our own to our own line, on which what was kept for later is sent as by any client.

It is a pair of sockets within the process. So the line, its connections and all that they bound are
the same for a delivery as for a call; only its target is named by what was stored, and its answer is thrown
away: what came of it stands in its exchange.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from proxy.core.deferred import Deferred
from proxy.core.exchange import Entry, Exchange
from proxy.core.target import Target
from proxy.wire.call import Call
from proxy.wire.client import ClientConnection
from proxy.wire.naming import Naming

_READ_AT_ONCE = 64 * 1024


class ByDelivery:
    """Names the target of a request that was kept, and holds on to its exchange.

    Args:
        request: as it was stored.

    Attributes:
        exchange: of the delivery, once it has begun.
    """

    def __init__(self, request: Deferred) -> None:
        self._target = request.target
        self.exchange: Exchange | None = None

    def entry(self, method: str) -> Entry:  # noqa: ARG002 -- all come in by this one
        """By which entry a request comes in."""
        return Entry.DEFERRED

    def target(self, call: Call) -> Target:
        """What the request is for."""
        self.exchange = call.exchange
        return self._target


async def send(
    request: Deferred,
    connection: Callable[[Naming], ClientConnection],
    naming: Callable[[ByDelivery], Naming],
) -> Exchange | None:
    """Sends a request on the line, and waits until its answer is over.

    Args:
        request: as it was stored.
        connection: makes the protocol of a client's connection.
        naming: names targets by these names.

    Returns:
        How it ended; None if it has not even begun.
    """
    names = ByDelivery(request)
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(lambda: connection(naming(names)), theirs)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    reader, writer = await asyncio.open_connection(sock=ours, limit=_READ_AT_ONCE)
    try:
        writer.write(request_bytes(request))
        # Reset: its answer has been cut. That is for its exchange to tell.
        with suppress(OSError):
            while await reader.read(_READ_AT_ONCE):
                pass
    finally:
        writer.close()
    return names.exchange


def request_bytes(request: Deferred) -> bytes:
    """A stored request as it stands on a connection."""
    fields = list(request.fields)
    if not any(name.lower() == b"content-length" for name, _ in fields):
        fields.append((b"Content-Length", b"%d" % request.content_bytes))
    fields += [(b"X-Breaker-Delivery-Id", request.id.encode("ascii")), (b"Connection", b"close")]
    lines = [f"{request.method} {request.target.origin_form} HTTP/1.1".encode("ascii"), b"Host: deferred"]
    lines += [name + b": " + value for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.content
