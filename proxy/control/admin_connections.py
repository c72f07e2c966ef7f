"""The connections of the admin port: a few at once, and no echo of what cannot be read.

Where the port is not on loopback anybody in the network may connect to it, and health must be told all the
same. So there is room for `MOST_CONNECTIONS`, and a newcomer takes the place of the one whose last request
began the longest ago: health checks, scrapes and actions are over in no time, and whoever reads events comes
back by itself and misses nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from proxy.control.problems import of_status

# Within the descriptors that core/budget.py leaves for what is not traffic (FIXED).
MOST_CONNECTIONS = 40
# As aiohttp's own servers are told; the annotation there knows only of loggers.
_NO_ACCESS_LOG: dict[str, Any] = {"access_log": None}

Serving = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class AdminRunner(web.AppRunner):
    """Runs an application on `AdminConnections`; arguments as of its base."""

    async def _make_server(self) -> web.Server:
        # Where runners of aiohttp differ from each other; if that ends, test_admin_connections.py fails.
        made = await super()._make_server()
        return AdminConnections(made.request_handler, request_factory=made.request_factory)


class AdminConnections(web.Server):
    """Makes the connections, and ends the one that has been unused for the longest when there are too many.

    Args:
        serve: answers a request.
        options: as of the base.
    """

    def __init__(self, serve: Serving, **options: Any) -> None:
        super().__init__(self._serve, **options)
        self._answer = serve
        # The longest unused one first.
        self._used: dict[web.RequestHandler, asyncio.Transport] = {}

    def __call__(self) -> web.RequestHandler:
        """Makes the protocol of a new connection."""
        return _AdminConnection(self, loop=asyncio.get_running_loop(), **_NO_ACCESS_LOG)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Takes one more in."""
        super().connection_made(handler, transport)
        self._used[handler] = transport
        if len(self._used) > MOST_CONNECTIONS:
            # It must go at once; to be closed it would wait for a peer that may read nothing.
            self._used.pop(next(iter(self._used))).abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Takes one out."""
        self._used.pop(handler, None)
        super().connection_lost(handler, exc)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = self._used.pop(request.protocol, None)
        if transport is not None:
            self._used[request.protocol] = transport
        return await self._answer(request)


class _AdminConnection(web.RequestHandler):
    """A connection whose peer is told in our own words that it makes no sense."""

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 -- aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 -- the same
        message: str | None = None,  # noqa: ARG002 -- the same
    ) -> web.StreamResponse:
        """Answers what aiohttp could not parse; neither the answer nor the log repeats it."""
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            status = HTTPStatus.BAD_REQUEST
        response = of_status(status).answer()
        finish_head(response)
        # Else aiohttp's version and Python's come there.
        response.headers["Server"] = "breaker-proxy"
        response.force_close()
        return response


def finish_head(response: web.StreamResponse) -> None:
    """Puts the fields into the head of an answer that every answer of the admin port has."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    # No page of another origin may take it in as a script or an image, whose errors would tell something.
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
