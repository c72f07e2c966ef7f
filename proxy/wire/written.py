"""What the line returns to aiohttp: that the answer has been written to the transport already."""

import asyncio
from typing import Protocol, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter


class Lingers(Protocol):
    """A client's connection that can wait for its client's end."""

    def linger(self) -> "asyncio.Future[None]":
        """Closes our side, and throws away what still comes."""


class Written(web.StreamResponse):
    """Tells aiohttp that the answer has been written to the transport already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._kept = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether the connection takes another request."""
        return self._kept

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Writes nothing."""
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes nothing."""


class Last(Written):
    """The same, for a last answer whose client may still be sending: it shall get to read it."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Writes nothing, and waits until the client has ended, or long enough."""
        # The line is for the listener's own connections.
        await cast("Lingers", request.protocol).linger()
        return request.writer


# They carry nothing of an exchange, so one of each is enough.
KEEP = Written(keep_alive=True)
CLOSE = Written(keep_alive=False)
LINGER = Last(keep_alive=False)
