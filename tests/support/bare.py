"""A bare aiohttp server, with nothing of the proxy's around it: what the library itself does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

# Far longer than any test takes.
_PATIENCE_S = 20.0

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 400 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Written(web.StreamResponse):
    """An answer that has been written already; notes what aiohttp asks of it."""

    def __init__(self, *, keep_alive: bool = True) -> None:
        super().__init__()
        self.kept = keep_alive
        self.asked: list[str] = []

    @property
    def keep_alive(self) -> bool:
        self.asked.append("keep_alive")
        return self.kept

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self.asked.append("prepare")
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        self.asked.append(f"write_eof({data!r})")


class Connection(web.RequestHandler):
    """Notes what `handle_error` is told, and answers it with REFUSED."""

    def __init__(self, server: "Bare", **settings: Any) -> None:
        super().__init__(server, **settings)
        self.server = server

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        self.server.faults.append((status, exc, request, message))
        if request.transport is not None:
            request.transport.write(REFUSED)
        return Written(keep_alive=False)


class HalfOpen(Connection):
    """Stays open when the client closes its side."""

    def eof_received(self) -> Any:
        return True


class Bare(web.Server):
    """Makes connections with these settings.

    Attributes:
        seen: the requests that came to `handle` without a handler of the test's own.
        contents: the content of each.
        faults: what `handle_error` was told: status, exception, request, message.
        made: the connections so far.
    """

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None,
        *,
        connection: Callable[..., web.RequestHandler] = Connection,
        handler_cancellation: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(handle or self.handle, handler_cancellation=handler_cancellation)
        self.seen: list[web.BaseRequest] = []
        self.contents: list[bytes] = []
        self.faults: list[tuple[int, BaseException | None, web.BaseRequest, str | None]] = []
        self.made: list[web.RequestHandler] = []
        self._connection = connection
        self._settings = {
            "loop": asyncio.get_running_loop(),
            "access_log": None,
            "auto_decompress": False,
            **settings,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Reads the content and answers OK."""
        self.seen.append(request)
        self.contents.append(await request.content.read() if request.method != "CONNECT" else b"")
        return answered(request)

    def __call__(self) -> web.RequestHandler:
        connection = self._connection(self, **self._settings)
        self.made.append(connection)
        return connection


class Held:
    """A handler that holds each request until it is told to go, or cancelled."""

    def __init__(self, *, keep_alive: bool = True) -> None:
        self.keep_alive = keep_alive
        self.requests: list[web.BaseRequest] = []
        self.go = asyncio.Event()
        self.cancelled = False
        self.ended = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.ended = True
        if request.transport is None:
            return Written()
        return answered(request, keep_alive=self.keep_alive)


def answered(request: web.BaseRequest, *, keep_alive: bool = True) -> Written:
    """Writes OK past aiohttp, as the proxy does."""
    assert request.transport is not None
    request.transport.write(OK)
    return Written(keep_alive=keep_alive)


@asynccontextmanager
async def listening(server: web.Server) -> AsyncIterator[int]:
    """Serves on a port of loopback.

    Raises:
        TimeoutError: what the test waits for does not come; a library that behaves otherwise is no hang.
    """
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.shutdown(1)
