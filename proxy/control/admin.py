"""What the admin port answers: whether the process lives, whether it is ready, and its metrics.

Nothing here changes anything, and nothing here is secret, so nobody is asked who he is. `/livez` says only
that the event loop turns: a process must not be restarted because an upstream is sick.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from proxy.control.metrics import Metrics

# No request here has content that means anything.
_MAX_CONTENT_BYTES = 1024

_INDEX = """\
breaker-proxy: the admin port

/livez    200 while the process runs; it never depends on upstreams
/readyz   200 when the proxy takes requests, else 503 and the reason
/metrics  for Prometheus, as text or as OpenMetrics
"""


def application(metrics: Metrics, readiness: Callable[[], str | None]) -> web.Application:
    """Builds the application of the admin port.

    Args:
        metrics: what `/metrics` shows.
        readiness: says in a few words why the proxy is not ready, or None when it is.
    """
    # One at a time: each scrape keeps a thread busy, and threads share one interpreter lock with the traffic.
    encoding = asyncio.Lock()

    async def index(_request: web.Request) -> web.Response:
        return web.Response(text=_INDEX)

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        reason = readiness()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def prometheus(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", ()))
        async with encoding:
            content, content_type = await asyncio.to_thread(metrics.snapshot().render, accept)
        return web.Response(body=content, headers={"Content-Type": content_type})

    admin = web.Application(client_max_size=_MAX_CONTENT_BYTES)
    admin.router.add_get("/", index)
    admin.router.add_get("/livez", livez)
    admin.router.add_get("/readyz", readyz)
    admin.router.add_get("/metrics", prometheus)
    admin.on_response_prepare.append(_finish_head)
    return admin


async def _finish_head(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    # aiohttp has put its version and Python's there by now.
    response.headers.popall("Server", None)
