"""TLS between a connection and whoever speaks over it, as a server and as a client, the same on both loops.

The loops have TLS of their own (`start_tls`), which does not do here: it cannot be given bytes that were read
before, so that a ClientHello that came together with its CONNECT hangs it; it has 256 KiB of buffers for each
connection; uvloop's reads on for 30 s after a close; and the two tell alerts, a close and a truncation in
different ways.

What a peer can make us keep is bounded. While nobody takes what arrives, it waits as it came, encrypted, and
nothing more is read.

There is no half-close. A peer's close_notify is its end: what we have written still goes out, then we close
as well, unless the protocol says that it will (`eof_received`). A connection that ends without one was cut
(RFC 8446 section 6.1), and is told of as lost: content that ends by close is complete only with a
close_notify (RFC 9112 section 9.8).

Deadlines are the caller's.
"""

import asyncio
import ssl
from typing import Any, cast

from proxy.wire.reading import READ_SIZE, ReadsLittle, shared, what_waits
from proxy.wire.records import Records

# So much may OpenSSL have to say to a peer that does not read: answers to requests for new keys.
_MOST_ANSWERS_BYTES = 16 * 1024
# So much is still read and passed on from a connection that has broken.
_MOST_REST_BYTES = 64 * 1024


class TlsTransport(ReadsLittle, asyncio.Transport):
    """The protocol of a raw transport, and the transport of the protocol that it is given by `carry`.

    Put it on a connection either as the protocol that the loop makes it with, or later, by `set_protocol` of
    the raw transport and `connection_made`. Then await `handshake`, then call `carry`.

    Args:
        context: certificates and settings.
        server_side: whether the peer is the client.
        server_hostname: for clients, the name or address that the certificate must be for; goes out as SNI.

    Raises:
        ValueError: the name is none that TLS could carry.
    """

    __slots__ = (
        "_answered_bytes",
        "_error",
        "_has_eof",
        "_held",
        "_is_closing",
        "_is_due",
        "_is_end_told",
        "_is_full",
        "_is_lost",
        "_is_paused",
        "_loop",
        "_protocol",
        "_raw",
        "_records",
        "_shaken",
    )

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        # Without asyncio's, which would make a dictionary for get_extra_info.
        self._records = Records(context, server_side=server_side, server_hostname=server_hostname)
        self._loop = asyncio.get_running_loop()
        self._raw: asyncio.Transport | None = None
        self._protocol: asyncio.Protocol | None = None
        # What to wait for during the handshake.
        self._shaken: asyncio.Future[None] | None = None
        # What has come and is not decrypted yet.
        self._held = b""
        # Whether nobody takes what arrives; whether what was held is about to be passed on.
        self._is_paused = True
        self._is_due = False
        # Whether the peer is slow, and how much OpenSSL has said to it meanwhile.
        self._is_full = False
        self._answered_bytes = 0
        # How it ends: the peer has closed the raw connection; we close it, or have; why; it is gone.
        self._has_eof = False
        self._is_closing = self._is_end_told = False
        self._error: Exception | None = None
        self._is_lost = False

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else "closing" if self._is_closing else "open"
        return f"<TlsTransport {self._records.session.version()} {state}>"

    # The handshake.

    async def handshake(self, early: bytes = b"") -> None:
        """Agrees on keys, and verifies whom the context says to; on failure the peer is told why.

        However it fails, also by being cancelled, the connection is closed.

        Args:
            early: what has already been read from the peer.

        Raises:
            ssl.SSLCertVerificationError: the peer's certificate does not convince.
            ssl.SSLError: the peer speaks no TLS, or none that we accept, or has refused ours.
            ConnectionError: the peer has closed or broken the connection meanwhile.
        """
        if self._raw is None:
            raise ConnectionResetError("the connection was lost before the TLS handshake")
        held, self._held = self._held, b""
        shaken = self._shaken = self._loop.create_future()
        try:
            self._shake(memoryview(early + held))
            if self._has_eof:
                self.eof_received()
            # Whoever had the connection before may have paused it.
            self._raw.resume_reading()
            await shaken
        except BaseException:
            # After a failure that the peer is being told of, it closes already.
            if not self._is_closing:
                self.abort()
            raise
        finally:
            self._shaken = None

    def _is_shaking(self) -> bool:
        return self._shaken is not None and not self._shaken.done()

    def _shake(self, received: memoryview) -> None:
        try:
            rest = self._records.shake(received)
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._answer()
        if rest is not None and self._shaken is not None:
            self._held = rest
            self._shaken.set_result(None)

    def carry(self, protocol: asyncio.BaseProtocol) -> None:
        """Connects a protocol to it, which gets what has arrived soon, after this call.

        Args:
            protocol: one with `data_received`; it is not asked for a buffer of its own.
        """
        self._protocol = cast("asyncio.Protocol", protocol)
        self._is_paused = False
        self._pass_on_soon()
        protocol.connection_made(self)
        if self._is_full:
            self._protocol.pause_writing()

    # Called by the raw transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the raw transport."""
        self._raw = cast("asyncio.Transport", transport)  # uvloop's is none of its subclasses

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what has been read, without a copy."""
        self._take(shared(nbytes))

    def data_received(self, data: bytes) -> None:
        """Takes what has been read."""
        self._take(memoryview(data))

    def _take(self, received: memoryview) -> None:
        if self._is_closing or self._records.is_ended:
            return
        if self._is_shaking():
            self._shake(received)
        elif self._is_paused or self._is_due:
            # A loop may read once more after it was told to pause; and before `carry` it was not told.
            self._held += received
            self._pause_raw()
        else:
            self._feed(received)

    def eof_received(self) -> bool:
        """The peer has closed; without a close_notify before it, it has cut the connection."""
        self._has_eof = True
        if self._is_shaking():
            self._fail(ConnectionResetError("the peer closed the connection in the TLS handshake"))
        elif not self._is_paused and not self._is_due:
            self._tell_end()
        # We close it ourselves, when all that has come is passed on.
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The raw connection is gone."""
        raw, self._raw = self._raw, None
        try:
            if exc is not None and raw is not None and not self._is_closing:
                self._take_the_rest(raw)
        finally:
            self._is_lost = True
            if self._error is None and not self._records.is_ended:
                self._error = exc
            if self._shaken is not None and not self._shaken.done():
                self._shaken.set_exception(_broken(exc))
            elif self._protocol is not None:
                self._tell_lost(self._protocol)

    def _take_the_rest(self, raw: asyncio.Transport) -> None:
        """Passes on what had arrived before the connection broke, for instance an early answer, or an alert.

        Whoever had paused is not asked; there will be no other occasion.
        """
        rest = self._held
        for received in what_waits(raw):
            rest += received
            if len(rest) >= _MOST_REST_BYTES:
                break
        self._held = b""
        if self._protocol is not None:
            self._is_paused = self._is_due = False
        self._take(memoryview(rest))

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write."""
        self._is_full = True
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The peer has taken most of what we wrote."""
        self._is_full = False
        self._answered_bytes = 0
        if self._protocol is not None:
            self._protocol.resume_writing()

    # What has arrived.

    def _feed(self, received: memoryview) -> None:
        """Decrypts and passes on what has come, and holds the rest as soon as the protocol pauses."""
        for at in range(0, len(received), READ_SIZE):
            self._decrypt(received[at : at + READ_SIZE])
            if self._is_closing or self._records.is_ended:
                break
            if self._is_paused:
                self._held = bytes(received[at + READ_SIZE :])
                break
        if not self._is_paused:
            self._tell_end()

    def _decrypt(self, received: memoryview) -> None:
        content, error = self._records.decrypt(received)
        if content and self._protocol is not None:
            self._protocol.data_received(content)
        if error is None:
            self._answer()
        else:
            self._fail(error)

    def _tell_end(self) -> None:
        """Says how the peer has ended, if it has, and ends our side."""
        if self._is_closing or self._protocol is None or self._is_end_told:
            return
        if self._records.is_ended:
            self._is_end_told = True
            if not self._protocol.eof_received():
                self.close()
        elif self._has_eof:
            self._fail(ConnectionResetError("the peer closed the connection without a close_notify"))

    def _tell_lost(self, protocol: asyncio.Protocol) -> None:
        error, self._error = self._error, None
        self._protocol = None
        self._is_closing = True
        self._held = b""
        protocol.connection_lost(error)

    def _answer(self) -> None:
        """Sends what OpenSSL has to say; a peer that has it say much, and does not read, is given up."""
        answer = self._records.unsent
        if not answer or self._raw is None or self._is_closing:
            return
        self._raw.write(answer)
        if self._is_full:
            self._answered_bytes += len(answer)
            if self._answered_bytes > _MOST_ANSWERS_BYTES:
                self._fail(ConnectionAbortedError("the peer asks for more and more answers and reads none"))

    def _fail(self, error: Exception) -> None:
        """Ends the connection; the last that the peer gets is OpenSSL's alert, if there is one."""
        if self._is_closing:
            return
        self._is_closing = True
        self._held = b""
        if self._shaken is not None and not self._shaken.done():
            self._shaken.set_exception(error)
        else:
            self._error = error
        if self._raw is None:
            return
        alert = self._records.unsent
        if alert and not self._raw.get_write_buffer_size():
            self._raw.write(alert)
            self._raw.close()
        else:
            # A peer that does not read would not get it either, and keep the connection open.
            self._raw.abort()

    # Called by the protocol: reading.

    def pause_reading(self) -> None:
        """Passes nothing on until `resume_reading`, not even what has been read already."""
        self._is_paused = True
        self._pause_raw()

    def resume_reading(self) -> None:
        """Reads on; what was held comes first, and not within this call."""
        if not self._is_paused or self._protocol is None:
            return
        self._is_paused = False
        if self._held or self._has_eof or self._records.is_ended:
            self._pass_on_soon()
        elif self._raw is not None and not self._is_due:
            self._raw.resume_reading()

    def is_reading(self) -> bool:
        """Whether what arrives is passed on."""
        return not self._is_paused and not self.is_closing()

    def _pause_raw(self) -> None:
        if self._raw is not None:
            self._raw.pause_reading()

    def _pass_on_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        """Passes on what was held, up to the end of the connection if that has come."""
        if not self._is_due:
            return
        self._is_due = False
        protocol = self._protocol
        try:
            if not self._is_paused and not self._is_closing:
                held, self._held = self._held, b""
                self._feed(memoryview(held))
        except BaseException:
            # A fault of the protocol's. Where a loop passes something on, it closes the connection for it.
            self.abort()
            raise
        finally:
            if self._is_lost and protocol is not None:
                self._tell_lost(protocol)
        if self._raw is not None and not self._is_paused:
            self._raw.resume_reading()

    # Called by the protocol: writing, and the end.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts and sends; dropped when the connection is being closed."""
        if self._raw is None or self._is_closing or not data:
            return
        try:
            sent = self._records.encrypt(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        if isinstance(sent, bytes):
            self._raw.write(sent)
        else:
            self._raw.writelines(sent)

    def can_write_eof(self) -> bool:
        """Never: there is no half-close."""
        return False

    def write_eof(self) -> None:
        """Is not possible.

        Raises:
            NotImplementedError: always, as with TLS of the loops.
        """
        raise NotImplementedError("TLS has no half-close")

    def close(self) -> None:
        """Closes behind what was written, with a close_notify, and does not wait for the peer's."""
        if self._is_closing:
            return
        if self._raw is None or self._protocol is None:
            self.abort()
            return
        self._is_closing = True
        self._held = b""
        self._raw.write(self._records.end())
        self._raw.close()

    def abort(self) -> None:
        """Closes at once, dropping what was not sent; the peer sees that it was cut."""
        self._is_closing = True
        self._held = b""
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._is_closing or self._raw is None or self._raw.is_closing()

    # Called by the protocol: the rest of a transport.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Has another protocol told of all that happens from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told.

        Raises:
            RuntimeError: nobody.
        """
        if self._protocol is None:
            raise RuntimeError("carries no protocol")
        return self._protocol

    def get_write_buffer_size(self) -> int:
        """How many encrypted bytes wait in the raw transport's buffer."""
        return 0 if self._raw is None else self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Those of the raw transport, low and high, in bytes."""
        return (0, 0) if self._raw is None else self._raw.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets those of the raw transport, in bytes."""
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection; once it is lost, its socket and addresses are not."""
        if name == "ssl_object":
            return self._records.session
        if name == "sslcontext":
            return self._records.session.context
        return default if self._raw is None else self._raw.get_extra_info(name, default)


def _broken(error: Exception | None) -> ConnectionError:
    """What whoever waits for the handshake is told of a raw connection that is gone."""
    if isinstance(error, ConnectionError):
        return error
    broken = ConnectionAbortedError("the connection was lost in the TLS handshake")
    broken.__cause__ = error
    return broken
