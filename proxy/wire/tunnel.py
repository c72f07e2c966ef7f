"""One tunnel: say that it stands, then carry bytes both ways until both sides are done.

The permit settles at the first evidence: bytes from the upstream are a success, unless they refuse TLS; an
upstream that closes without a byte, or says nothing to a client that has spoken, is a failure. Until then a
client that closes its side is leaving; after that it is a half-close, which passes on, and the other side may
take its time. What a client says first tells whether it speaks TLS, and to whom, or plain HTTP: then there is
no more to do here, as its requests can be seen.

Who may have a tunnel is the affair of `tunnels.py`.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, cast

from proxy.core.errors import ConnectionTerminated, HttpResponseIncomplete, ProxyError, TlsAlertReceived
from proxy.core.exchange import FOREVER, Awaited
from proxy.core.outcome import NEUTRAL, SUCCESS, FailureKind, failed
from proxy.wire.beginning import Beginning
from proxy.wire.call import Call
from proxy.wire.reading import ReadsLittle
from proxy.wire.unsent import is_writing, unsent
from proxy.wire.vanished import allow_stalling

# How long the other side may be silent once one side has closed.
HALF_CLOSED_S = 60.0

_FAILED = failed(FailureKind.TUNNEL)


class Tunnel(ReadsLittle):
    """One tunnel, and the upstream's end of it; the client's end calls the `client_` methods."""

    __slots__ = (
        "__weakref__", "_beginning", "_client", "_client_ended", "_client_full", "_clock", "_done",
        "_early", "_error", "_established", "_exchange", "_has_spoken", "_head_s", "_heard_at", "_hello_s",
        "_idle_s", "_permit", "_unsent_down", "_unsent_up", "_upstream", "_upstream_ended",
        "_upstream_full", "_upstream_lost",
    )  # fmt: skip

    def __init__(self, call: Call, clock: Callable[[], float], beginning: Beginning | None = None) -> None:
        self._exchange = call.exchange
        self._permit = call.permit
        self._client = call.client
        self._clock = clock
        timeouts = call.policy.timeouts
        self._hello_s: float = timeouts.request_head
        self._head_s: float = timeouts.head
        self._idle_s: float = timeouts.tunnel_idle
        self._upstream: asyncio.Transport | None = None
        self._established = self._heard_at = 0.0
        self._upstream_lost = False
        self._early: list[bytes] | None = None
        self._beginning = beginning
        self._has_spoken = False
        self._client_ended = False
        self._client_full = self._upstream_full = False
        self._upstream_ended = False
        self._unsent_down = 0
        self._unsent_up = 0
        self._done: asyncio.Future[None] | None = None
        self._error: ProxyError | None = None

    async def run(self, answer: bytes) -> None:
        """Says that the tunnel stands, and relays.

        Args:
            answer: the head that says so; empty if the client has been told before, and has said something.

        Raises:
            ProxyError: the tunnel came to nothing; no answer can say so any more.
        """
        transport = self._client.transport
        if transport is None or (self._upstream_lost and not self._early):
            raise ConnectionTerminated("the upstream closed the connection at once", outcome=_FAILED)
        self._done = asyncio.get_running_loop().create_future()
        self._exchange.begun = True
        # It may take for ever.
        self._exchange.ends_at = FOREVER
        self._established = self._heard_at = self._clock()
        if answer:
            transport.write(answer)
        self._exchange.wait_for(Awaited.TUNNEL_BYTES, self._idle_s, self._established)
        # An upstream that has spoken by now has spoken first, whatever came behind the request.
        while self._early:
            self.data_received(self._early.pop(0))
        self._client.take_over(self)
        if not answer:
            # What it has said since was held, and the client perhaps paused for that.
            self.client_sent(b"")
            transport.resume_reading()
        if self._client.writing_paused:
            # The answer was enough for that, and nobody has told us.
            self.client_paused()
        if self._upstream_full:
            # What came behind the request was enough; taking over has made the client be read again.
            transport.pause_reading()
        if not self.is_http:
            self._hear_upstream()
        await self._done
        if self._error is not None:
            raise self._error

    def _hear_upstream(self) -> None:
        """Lets its side begin, and end if it has ended meanwhile."""
        if self._upstream is None:
            self._end(None)
        elif self._upstream_ended:
            if not self._pass_eof_on():
                self._upstream.close()
        elif not self._client_full:
            self._upstream.resume_reading()

    @property
    def is_http(self) -> bool:
        """Whether it has ended, as its client speaks HTTP: who sees the requests can do better."""
        return self._beginning is not None and self._beginning.is_http

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Drops what is left of the upstream's side. The client's may have a successor by now.
        if self._client.tunnel is self:
            self._client.tunnel = None
        if self._upstream is not None:
            self._upstream.abort()

    def release(self) -> tuple[asyncio.Transport | None, bytes]:
        """Gives up both sides, where the client speaks HTTP.

        Returns:
            The upstream's connection, None if that is of no use any more; and what the client has sent.
        """
        upstream, self._upstream = self._upstream, None
        if upstream is not None and (self._upstream_ended or self._has_spoken):
            upstream.abort()
            upstream = None
        return upstream, b"" if self._beginning is None else self._beginning.held

    # The client's side, called by the listener.

    def client_sent(self, sent: bytes) -> None:
        """Passes bytes on to the upstream, the first ones when it is clear what they are."""
        now = self._heard_at = self._clock()
        if self._beginning is not None:
            sent = self._hear(self._beginning, sent, now)
        if sent and self._error is None:
            self._pass_on(sent, now)

    def _pass_on(self, sent: bytes, now: float) -> None:
        self._exchange.request_bytes += len(sent)
        if self._permit.settled:
            self._exchange.deadline = now + self._idle_s
        elif self._exchange.awaited is not Awaited.TUNNEL_FIRST_BYTES:
            self._exchange.wait_for(Awaited.TUNNEL_FIRST_BYTES, self._head_s, now)
        if self._upstream is not None:
            self._upstream.write(sent)

    def _hear(self, beginning: Beginning, sent: bytes, now: float) -> bytes:
        """Returns what passes on of what the client says first."""
        was_http = beginning.is_http
        try:
            passing = beginning.hear(sent, now)
        except ProxyError as error:
            self._fail(error)
            return b""
        if beginning.is_http and not was_http:
            # Its requests get permits of their own, and this connection has shown nothing: it is for them.
            self._exchange.outcome = NEUTRAL
            self._permit.settle(NEUTRAL, now)
            for transport in (self._upstream, self._client.transport):
                if transport is not None:
                    transport.pause_reading()
            self._finish()
        elif beginning.holds_hello and self._exchange.awaited is not Awaited.CLIENT_TLS:
            self._exchange.wait_for(Awaited.CLIENT_TLS, self._hello_s, now)
        return passing

    def _let_pass(self, beginning: Beginning, now: float) -> None:
        """Passes on what was held, clear or not."""
        try:
            held = beginning.let_pass()
        except ProxyError as error:
            self._fail(error)
            return
        if held:
            self._pass_on(held, now)

    def client_ended(self) -> bool:
        """Passes a half-close on; before the permit has settled it is leaving, and where HTTP is spoken."""
        if not self._permit.settled or self._upstream is None or self.is_http:
            return False
        self._client_ended = True
        if self._upstream_ended or not self._upstream.can_write_eof():
            # What is on its way to the upstream still gets there; then the connection is lost, orderly.
            # Within TLS there is no half-close.
            self._upstream.close()
        else:
            # asyncio raises if the other side has reset the connection, of which the loop has yet to tell.
            with suppress(OSError):
                self._upstream.write_eof()
        self._half_closed()
        return True

    def client_lost(self) -> None:
        """Ends the tunnel; the listener has cancelled the exchange."""
        self._finish()

    def sweep(self, now: float) -> None:
        """Renews the deadline while either side still takes what was written to it, however slowly.

        What looks like the beginning of a request passes on as it is if no more of that comes.
        """
        if self._beginning is not None and self._beginning.is_overdue(now):
            self._let_pass(self._beginning, now)
        down, up = unsent(self._client.transport), unsent(self._upstream)
        if (down < self._unsent_down or up < self._unsent_up) and self._permit.settled:
            self._exchange.deadline = now + self._idle_s
        self._unsent_down, self._unsent_up = down, up

    def is_idle(self, since: float) -> bool:
        """Whether no byte has come since then, either way, and none waits to be written."""
        return self._heard_at <= since and not is_writing(self._client.transport, self._upstream)

    def client_paused(self) -> None:
        """Stops reading from the upstream while the client is slow."""
        self._client_full = True
        if self._upstream is not None and not self._upstream_ended:
            self._upstream.pause_reading()

    def client_resumed(self) -> None:
        """Reads on from the upstream."""
        self._client_full = False
        if self._upstream is not None and not self._upstream_ended:
            self._upstream.resume_reading()

    # The upstream's side, called by its transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._upstream = cast("asyncio.Transport", transport)  # uvloop's is none of its subclasses
        peer = transport.get_extra_info("peername")
        self._exchange.address = peer[0] if peer else None

    def data_received(self, data: bytes) -> None:
        """Passes bytes on to the client; the first ones are the evidence that the upstream works."""
        if self._done is None:
            # The client must have its 200 first. A loop may read once more after it was told to pause.
            self._early = [*(self._early or ()), data]
            if self._upstream is not None:
                self._upstream.pause_reading()
            return
        if self.is_http:
            # It has spoken before it was asked, so that its connection is of no use for that.
            self._has_spoken = True
            return
        now = self._heard_at = self._clock()
        self._exchange.response_bytes += len(data)
        if not self._permit.settled:
            self._judge(data, now)
        if self._permit.settled:
            self._exchange.deadline = now + self._idle_s
        if self._client.transport is not None:
            self._client.transport.write(data)

    def _judge(self, data: bytes, now: float) -> None:
        """Settles the permit by what the upstream says first."""
        outcome = SUCCESS
        beginning = self._beginning
        if beginning is not None:
            said = beginning.judge(data)
            if said is None:
                return
            outcome = said
            if beginning.alert is not None:
                # The alert passes on, and ends the tunnel by itself, whoever closes first; this is why.
                self._exchange.error = TlsAlertReceived(f"the upstream refused TLS: {beginning.alert}")
            self._let_pass(beginning, now)
            self._beginning = None
        for transport in (self._client.transport, self._upstream):
            allow_stalling(transport)  # no sooner: those of HTTP have no more time than others
        self._exchange.head_s = now - self._established
        self._exchange.outcome = outcome
        self._permit.settle(outcome, now)
        self._exchange.wait_for(Awaited.TUNNEL_BYTES, self._idle_s, now)

    def eof_received(self) -> bool:
        """Passes a half-close on; without a byte before it, or in TLS, it is the end."""
        self._upstream_ended = True
        return self._done is None or self._pass_eof_on()

    def _pass_eof_on(self) -> bool:
        transport = self._client.transport
        if not self._permit.settled or self._client_ended or self.is_http or transport is None:
            return False
        if not transport.can_write_eof():
            return False
        with suppress(OSError):  # as above
            transport.write_eof()
        self._half_closed()
        return self._upstream is not None and self._upstream.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """The upstream is gone."""
        self._upstream_lost = True
        self._upstream = None
        if self._done is not None:
            self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        """Judges how the upstream ended the tunnel; where HTTP is spoken it is called anew."""
        if not self._permit.settled:
            spoken = self._exchange.awaited is Awaited.TUNNEL_FIRST_BYTES
            quick = self._clock() - self._established <= self._permit.policy.abandoned_after
            how = "in the middle of an alert" if self._exchange.response_bytes else "without a byte"
            outcome = _FAILED if spoken or quick else NEUTRAL
            self._error = ConnectionTerminated(f"the upstream closed the tunnel {how}", outcome=outcome)
        elif exc is not None and not self.is_http and self._error is None and self._exchange.error is None:
            self._exchange.ends_by_close = True
            self._error = HttpResponseIncomplete("the upstream reset the tunnel", outcome=SUCCESS)
        self._finish()

    def pause_writing(self) -> None:
        """Stops reading from the client while the upstream is slow."""
        self._upstream_full = True
        if self._client.transport is not None:
            self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        """Reads on from the client."""
        self._upstream_full = False
        if self._client.transport is not None:
            self._client.transport.resume_reading()

    def _half_closed(self) -> None:
        self._idle_s = min(self._idle_s, HALF_CLOSED_S)
        self._exchange.deadline = self._clock() + self._idle_s

    def _fail(self, error: ProxyError) -> None:
        self._error = error
        self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
