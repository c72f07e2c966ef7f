"""Interception: the client's TLS ends here, so that the requests inside of its CONNECT walk the line.

The CONNECT itself costs no upstream anything: it is answered at once, and what the client says then decides.
Its TLS gets a certificate of our own CA. Plain HTTP needs none. A client that cannot speak HTTP/1.1 gets its
tunnel after all; what is neither is closed.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol

from proxy.core.errors import ClientTlsClosed, ClientTlsFailed
from proxy.core.exchange import Awaited, Source
from proxy.core.first_bytes import Kind
from proxy.core.opening import Opening
from proxy.core.policy import Limits
from proxy.wire.call import Call
from proxy.wire.responses import CONNECT_ESTABLISHED
from proxy.wire.succession import Succession
from proxy.wire.tls import TlsTransport
from proxy.wire.tls_errors import of_client

_HTTP_1_1 = "http/1.1"
# So much of what comes behind the ClientHello waits here; it is TLS 1.3's early data at most.
_MOST_AHEAD_BYTES = 64 * 1024


class Certificates(Protocol):
    """Who has certificates for the names of others."""

    async def context(self, host: str) -> ssl.SSLContext:
        """The server's side of TLS for this host.

        Raises:
            ProxyInternalError: there is none.
        """


class Listening:
    """Keeps what the client sends behind the answer to its CONNECT, until that says what it is."""

    __slots__ = ("_call", "_changed", "opening")

    def __init__(self, call: Call, max_head: int) -> None:
        self._call = call
        self._changed: asyncio.Future[None] | None = None
        self.opening = Opening(max_head)

    async def heard(self) -> Kind:
        """Waits until it is clear what the client speaks."""
        while self.opening.kind is Kind.UNDECIDED:
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
        return self.opening.kind

    def client_sent(self, sent: bytes) -> None:
        """Keeps it."""
        self.opening.add(sent)
        if len(self.opening.received) > _MOST_AHEAD_BYTES and self._call.client.transport is not None:
            self._call.client.transport.pause_reading()
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def client_ended(self) -> bool:
        """Before anything stands it is leaving."""
        return False

    def client_lost(self) -> None:
        """The listener cancels the exchange."""

    def sweep(self, now: float) -> None:
        """There is nothing yet that the client could be slow to read."""

    def is_idle(self, since: float) -> bool:  # noqa: ARG002 -- as in a tunnel
        """Nobody has asked anything yet; a client that gets its tunnel after all waits for that."""
        return self._call.opening is None

    def client_paused(self) -> None:
        """Nothing is written but the 200."""

    def client_resumed(self) -> None:
        """Nothing waits to be written."""


class Interception:
    """Opens CONNECTs whose content is to be seen.

    Args:
        certificates: for the hosts of others.
        clock: monotonic seconds.
    """

    def __init__(self, certificates: Certificates, clock: Callable[[], float]) -> None:
        self._certificates = certificates
        self._clock = clock

    def configure(self, limits: Limits) -> None:
        """Goes on with `max_head`."""
        self._max_head = limits.max_head

    async def open(self, call: Call) -> Succession | None:
        """Answers a CONNECT and hears what its client speaks.

        Returns:
            What goes on in place of the client's connection; None if that is to be tunnelled, behind what
            has been heard (`call.opening`).

        Raises:
            ClientTlsFailed, ClientTlsClosed, CaNotTrusted: neutral; nothing can be answered any more.
            ClientTimeout: the same, from the deadline.
            ProxyInternalError: the same; there is no certificate to be had.
        """
        try:
            return await self._opened(call)
        except asyncio.CancelledError:
            call.exchange.client_left = call.client.is_lost
            raise

    async def _opened(self, call: Call) -> Succession | None:
        exchange, client = call.exchange, call.client
        transport = client.transport
        if transport is None:
            raise ClientTlsFailed("the client has left")
        exchange.begun = True
        exchange.status = 200
        exchange.source = Source.PROXY
        transport.write(CONNECT_ESTABLISHED)
        listening = Listening(call, self._max_head)
        exchange.wait_for(Awaited.CLIENT_TLS, call.policy.timeouts.request_head, self._clock())
        client.take_over(listening)
        kind = await listening.heard()
        opening = listening.opening
        if kind is Kind.HTTP:
            transport.pause_reading()
            naming = client.naming.inside(call, "http")
            return Succession(client, naming, transport, bytes(opening.received))
        if kind is not Kind.TLS or opening.hello is None:
            raise ClientTlsFailed("the client speaks neither TLS nor HTTP/1")
        hello = opening.hello
        exchange.server_name = hello.server_name
        if hello.protocols is not None and _HTTP_1_1 not in hello.protocols:
            exchange.tunnelled_because = "the client's TLS does not offer http/1.1 (ALPN)"
            call.opening = opening
            return None
        return await self._end_tls(call, opening, hello.server_name or call.target.host, transport)

    async def _end_tls(
        self, call: Call, opening: Opening, name: str, transport: asyncio.Transport
    ) -> Succession:
        """Shakes hands with the client, as the server that it wants."""
        # A client that asks for another name gets a certificate for that, or it could not read the refusal.
        exchange, client, target = call.exchange, call.client, call.target
        exchange.wait_over(self._clock())
        context = await self._certificates.context(name)
        tls = TlsTransport(context, server_side=True)
        transport.set_protocol(tls)
        tls.connection_made(transport)
        exchange.wait_for(Awaited.CLIENT_TLS, call.policy.timeouts.request_head, self._clock())
        try:
            await tls.handshake(bytes(opening.received))
        except BaseException as error:
            # Its connection has ended as another protocol's. It shall know, but not while this is under way:
            # it would cancel us.
            asyncio.get_running_loop().call_soon(client.detach)
            if isinstance(error, ssl.SSLError):
                raise of_client(error) from error
            if isinstance(error, ConnectionError):
                exchange.client_left = True
                raise ClientTlsClosed("the client closed the connection in the TLS handshake") from error
            raise
        exchange.wait_over(self._clock())
        is_misdirected = name != target.host
        return Succession(client, client.naming.inside(call, "https", is_misdirected=is_misdirected), tls)
