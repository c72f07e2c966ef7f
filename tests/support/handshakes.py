"""TLS handshakes over loopback, by Python's own client."""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shown:
    """What a client has seen; the names are those of the certificate, as Python tells them."""

    names: tuple[tuple[str, str], ...]
    version: str | None
    protocol: str | None


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> Shown:
    """Connects, and closes in order.

    Raises:
        ssl.SSLError: the client does not accept what it is shown.
    """
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        tls: Any = writer.get_extra_info("ssl_object")
        told = tls.getpeercert()
        shown = Shown(
            told.get("subjectAltName", ()),
            tls.version(),
            tls.selected_alpn_protocol(),
        )
        writer.close()
        await writer.wait_closed()
        await ended.wait()
    return shown


def memory_files() -> int:
    """How many files in memory for the keys of leaves are open."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += "memfd:leaf" in str(link.readlink())
    return found
