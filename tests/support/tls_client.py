"""A client with TLS inside of its CONNECT, all of whose bytes are the test's to send."""

import asyncio
import ssl
from contextlib import suppress
from typing import Any, Self, cast

from support.client import ESTABLISHED, Client, request
from support.interception import trusting, unnamed
from support.tls_peer import Peer

_READ_BYTES = 65536


class Inside(Peer):
    """A client's end that stands in place of the StreamReader and the StreamWriter of what it carries.

    Attributes:
        was_cut: whether the connection ended without a close_notify.
    """

    was_cut = False

    @property
    def transport(self) -> asyncio.WriteTransport:
        """The connection's."""
        return self.writer.transport

    def get_extra_info(self, name: str) -> Any:
        """What is known of the connection."""
        return self.writer.get_extra_info(name)

    async def last_flight(self) -> bytes:
        """What ends the handshake, which the test sends by itself."""
        self.writer.write(self.hello())
        while True:
            self._incoming.write(await self.reader.read(_READ_BYTES))
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                # A second hello, for the curve that the proxy wants.
                self.writer.write(self.outgoing.read())
            else:
                return self.outgoing.read()

    async def read(self, count: int = -1) -> bytes:
        """What has come, at most so much; everything up to the end for -1."""
        if count >= 0:
            return await self._some(count)
        pieces = []
        while piece := await self._some():
            pieces.append(piece)
        return b"".join(pieces)

    async def readexactly(self, count: int) -> bytes:
        """So much."""
        received = b""
        while len(received) < count:
            piece = await self._some(count - len(received))
            if not piece:
                raise asyncio.IncompleteReadError(received, count)
            received += piece
        return received

    async def readuntil(self, separator: bytes) -> bytes:
        """Everything up to there, byte by byte."""
        received = b""
        while not received.endswith(separator):
            received += await self.readexactly(1)
        return received

    async def _some(self, count: int = _READ_BYTES) -> bytes:
        try:
            return await super()._some(count)
        except ConnectionAbortedError:
            self.was_cut = True
            return b""

    def write(self, text: bytes) -> None:
        """Encrypts."""
        self.writer.write(self.encrypted(text))

    def encrypted(self, text: bytes) -> bytes:
        """The records with this content."""
        if text:
            self.tls.write(text)
        return self.outgoing.read()

    async def drain(self) -> None:
        """Waits while the proxy is slow."""
        await self.writer.drain()

    def close_notify(self) -> bytes:
        """The record that says that nothing more comes."""
        # The other side's is still to come.
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.outgoing.read()

    def close(self) -> None:
        """Closes the connection, without a word."""
        self.writer.close()


class TlsClient(Client):
    """A client with TLS inside of its CONNECT.

    Attributes:
        inside: what it reads and writes.
    """

    def __init__(self, inside: Inside) -> None:
        super().__init__(cast("asyncio.StreamReader", inside), cast("asyncio.StreamWriter", inside))
        self.inside = inside

    @classmethod
    async def dialled(
        cls, port: int, authority: str, context: ssl.SSLContext | None = None, *, host: str | None = ""
    ) -> Self:
        """A client that has connected, and said nothing.

        Args:
            port: the proxy's.
            authority: of the CONNECT to come.
            context: trusts the sidecars' CA by default.
            host: which certificate it wants, by default the authority's; None: any, and without SNI.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if host is None:
            return cls(Inside(reader, writer, unnamed()))
        host = host or authority.rpartition(":")[0].strip("[]")
        return cls(Inside(reader, writer, context or trusting(), host))

    @classmethod
    async def standing(
        cls,
        port: int,
        authority: str,
        context: ssl.SSLContext | None = None,
        *extra: str,
        host: str | None = "",
    ) -> Self:
        """The same, behind the 200 to its CONNECT; `extra` are fields of that."""
        client = await cls.dialled(port, authority, context, host=host)
        await client.connect_to(authority, *extra)
        return client

    @classmethod
    async def through(
        cls,
        port: int,
        authority: str,
        context: ssl.SSLContext | None = None,
        *extra: str,
        host: str | None = "",
    ) -> Self:
        """The same, behind the handshake."""
        client = await cls.standing(port, authority, context, *extra, host=host)
        await client.inside.shake()
        return client

    async def connect_to(self, authority: str, *extra: str, behind: bytes = b"") -> None:
        """Sends the CONNECT, and what comes in the same segment; reads the 200."""
        self.inside.writer.write(request("CONNECT", authority, *extra) + behind)
        assert await self.inside.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED

    async def send_raw(self, text: bytes) -> None:
        """Sends past TLS."""
        self.inside.writer.write(text)
        await self.inside.writer.drain()


def inside(method: str, authority: str, path: str = "/", *extra: str, content: bytes = b"") -> bytes:
    """A request in origin-form."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}", *extra]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content
