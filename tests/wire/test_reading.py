"""However much has come, so much of it is read at once, on both loops and by both sides of the proxy."""

import asyncio
from typing import cast

import pytest
from support.turns import until

from proxy.wire.reading import READ_SIZE, Door, ReadsLittle

# More than two kernels take.
TOTAL = 32_000_000


class Inside(asyncio.Protocol):
    """Notes how much it is told at once, and what else happens."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.said: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        transport.set_protocol(Door(self))
        transport.write(bytes(TOTAL))

    def data_received(self, data: bytes) -> None:
        self.sizes.append(len(data))

    def eof_received(self) -> bool:
        self.said.append("eof")
        return False

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append(f"lost {exc}")


class Outside(ReadsLittle):
    """Sends more than is read at once, and notes how much it gets."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        transport.write(bytes(TOTAL))
        transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self.sizes.append(len(data))

    def eof_received(self) -> bool:
        return False


@pytest.mark.usefixtures("start")
async def test_little_is_read_at_once_and_nothing_is_lost() -> None:
    inside = Inside()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: inside, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, outside = await loop.create_connection(Outside, "127.0.0.1", port)
    await until(lambda: sum(outside.sizes) == TOTAL and inside.said[-1:] == ["lost None"])
    assert sum(inside.sizes) == TOTAL
    assert max(inside.sizes) <= READ_SIZE
    assert max(outside.sizes) <= READ_SIZE
    assert inside.said == ["pause", "resume", "eof", "lost None"]
    server.close()
    await server.wait_closed()
