"""The other end of a TLS connection, driven step by step by Python's ssl and by nothing of the proxy's."""

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_READ_BYTES = 65536
# Types of records and of handshake messages (RFC 8446 sections 5.1 and 4).
APPLICATION, HANDSHAKE, KEY_UPDATE = 23, 22, 24


def hello(name: str | None = None) -> bytes:
    """A whole ClientHello of OpenSSL's; without a name it asks for nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    said = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname=name).do_handshake()
    return said.read()


class Peer:
    """One end, over streams without TLS, which decides which of its bytes go out, when, and with what.

    Args:
        reader: of the connection.
        writer: of the connection.
        context: what it shows and trusts.
        name: for clients, whom they ask for; None asks for nobody.
        serves: whether it is the server.

    Attributes:
        outgoing: what it has to say and has not sent.
        tls: its state.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext,
        name: str | None = None,
        *,
        serves: bool = False,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self.outgoing, server_side=serves, server_hostname=name)
        self._got = bytearray()

    def hello(self) -> bytes:
        """What a client says first, for the test to send."""
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    async def shake(self, behind: bytes = b"", *, with_end: bool = False) -> None:
        """Shakes hands, and sends what is to come behind that together with its last bytes.

        Raises:
            ssl.SSLError: one side does not accept the other; our alert has been sent.
            ConnectionError: the other side has closed the connection.
        """
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._go_on()
            except ssl.SSLError:
                # With the alert that says why.
                self.writer.write(self.outgoing.read())
                raise
            else:
                break
        if behind:
            self.tls.write(behind)
        if with_end:
            self._end()
        self.writer.write(self.outgoing.read())

    async def _go_on(self) -> None:
        self.writer.write(self.outgoing.read())
        received = await self.reader.read(_READ_BYTES)
        if not received:
            raise ConnectionAbortedError("closed without a close_notify")
        self._incoming.write(received)

    async def send(self, content: bytes) -> None:
        self.tls.write(content)
        self.writer.write(self.outgoing.read())
        await self.writer.drain()

    async def receive(self, size: int) -> bytes:
        """Reads so much.

        Raises:
            ConnectionError: the connection was cut before.
            ssl.SSLError: an alert has come.
        """
        while len(self._got) < size:
            self._got += await self._some()
        got = bytes(self._got[:size])
        del self._got[:size]
        return got

    async def rest(self) -> bytes:
        """Reads up to a close_notify; raises as `receive` does."""
        while some := await self._some():
            self._got += some
        got, self._got = bytes(self._got), bytearray()
        return got

    async def _some(self, count: int = _READ_BYTES) -> bytes:
        while True:
            try:
                return self.tls.read(count)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                await self._go_on()

    def _end(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()

    def end(self) -> None:
        """Sends a close_notify."""
        self._end()
        self.writer.write(self.outgoing.read())

    def reset(self) -> None:
        """Breaks the connection."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Forger:
    """Makes a client's records of TLS 1.3 as no library would (RFC 8446 sections 5.2, 5.3, 7.1 and 7.2).

    Args:
        keys: the file that the client's context has logged its keys to; nothing may have been sent since.
    """

    def __init__(self, keys: Path) -> None:
        lines = (line.split() for line in keys.read_text().splitlines())
        self._secret = next(bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0")
        self._sent = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        full = b"tls13 " + label
        info = struct.pack("!HB", length, len(full)) + full + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(self._secret)

    def record(self, content: bytes, kind: int = APPLICATION) -> bytes:
        """The next record; of content that may be empty."""
        inner = content + bytes([kind])
        header = struct.pack("!BHH", APPLICATION, 0x0303, len(inner) + 16)
        nonce = int.from_bytes(self._expand(b"iv", 12)) ^ self._sent
        self._sent += 1
        return header + AESGCM(self._expand(b"key", 32)).encrypt(nonce.to_bytes(12), inner, header)

    def key_update(self) -> bytes:
        """A message that says that new keys are used from now on, and asks the same of the other side."""
        update = self.record(struct.pack("!I", KEY_UPDATE << 24 | 1) + b"\1", HANDSHAKE)
        self._secret, self._sent = self._expand(b"traffic upd", 48), 0
        return update
