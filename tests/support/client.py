"""A raw client: bytes out, and the answer read by h11, which is strict."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Self

import h11

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """One response as a strict parser reads it."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    content: bytes
    interim: list[int]

    def header(self, name: str) -> str | None:
        """The value of the only field with this name."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, values
        return values[0] if values else None


class Client:
    """One connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._unread = b""

    @classmethod
    async def connect(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def connected(self, authority: str, behind: bytes = b"") -> None:
        """Sends a CONNECT, with what is behind it in the same segment, and reads that its tunnel stands."""
        await self.send(request("CONNECT", authority) + behind)
        assert await self.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED

    async def send(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """Reads one response to a request with this method.

        Raises:
            h11.RemoteProtocolError: it is malformed, or cut.
        """
        parser = h11.Connection(h11.CLIENT)
        target = "a:1" if method == "CONNECT" else "/"
        parser.send(h11.Request(method=method, target=target, headers=[("Host", "a")]))
        parser.send(h11.EndOfMessage())
        head: h11.Response | None = None
        interim: list[int] = []
        content = b""
        if self._unread:
            parser.receive_data(self._unread)
            self._unread = b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await self.reader.read(65536))
            elif isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                content += event.data
            else:
                assert isinstance(event, h11.EndOfMessage) or event is h11.PAUSED, event
                break
        assert head is not None
        self._unread = parser.trailing_data[0]
        headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers.raw_items()]
        return Answer(head.status_code, bytes(head.reason).decode("latin-1"), headers, content, interim)

    async def hears(self) -> bool:
        """Waits for the first bytes of what comes next, and leaves them; False if the other side closes."""
        self._unread = self._unread or await self.reader.read(65536)
        return bool(self._unread)

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        rest = self._unread + await self.reader.read(-1)
        self._unread = b""
        return rest

    def reset(self) -> None:
        """Ends the connection with a RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


async def tunnel(port: int, authority: str, behind: bytes = b"") -> Client:
    """A client whose tunnel stands; `behind` came together with its CONNECT."""
    client = await Client.connect(port)
    await client.connected(authority, behind)
    return client


def get(url: str, *extra: str) -> bytes:
    """A GET in absolute-form."""
    return request("GET", url, *extra)


def request(method: str, url: str, *extra: str, content: bytes = b"") -> bytes:
    """A request whose Host field is that of the URL; `extra` are whole field lines."""
    host = url.split("/")[2] if "://" in url else url
    lines = [f"{method} {url} HTTP/1.1", f"Host: {host}", *extra]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content
