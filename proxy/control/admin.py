"""What the admin port answers: whether the process lives, whether it is ready, its metrics, page and API.

The API is for those whom `trust.py` lets in, and so is everything that there is not. The rest changes nothing
and is not secret, so nobody is asked who he is. `/livez` says only that the event loop turns: a process must
not be restarted because an upstream is sick.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.control import page
from proxy.control.admin_connections import finish_head
from proxy.control.api import ROOT, Api
from proxy.control.metrics import Metrics
from proxy.control.problems import as_documents
from proxy.control.trust import Trust

# A note with each character written as two escapes.
_MAX_CONTENT_BYTES = 4096

_INDEX = f"""\
breaker-proxy: the admin port

/livez    200 while the process runs; it never depends on upstreams
/readyz   200 when the proxy takes requests, else 503 and the reason
/metrics  for Prometheus, as text or as OpenMetrics
/         for browsers: the live page
{ROOT}/  the API: circuits, events, config, version, openapi.json
"""


def application(
    metrics: Metrics,
    readiness: Callable[[], str | None],
    api: Api,
    trust: Trust,
    *,
    remark: Callable[[], str | None] = lambda: None,
) -> web.Application:
    """Builds the application of the admin port.

    Args:
        metrics: what `/metrics` shows.
        readiness: says in a few words why the proxy is not ready, or None when it is.
        api: what is under /api/v1.
        trust: who may use that.
        remark: says what is wrong all the same, for `/readyz` to tell, or None.
    """
    # One at a time: each scrape keeps a thread busy, and threads share one interpreter lock with the traffic.
    encoding = asyncio.Lock()

    async def index(request: web.Request) -> web.Response:
        is_page = page.is_wanted(request.headers)
        response = page.index(request) if is_page else web.Response(text=_INDEX)
        response.headers["Vary"] = "Accept"
        return response

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        reason, wrong = readiness(), remark()
        status, word = (200, "ok") if reason is None else (503, reason)
        return web.Response(status=status, text=f"{word}\n" + (f"{wrong}\n" if wrong else ""))

    async def prometheus(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", ()))
        async with encoding:
            if request.transport is None or request.transport.is_closing():
                # Connections are few, but each that was given up has left its request here.
                raise ConnectionResetError
            content, content_type = await asyncio.to_thread(metrics.snapshot().render, accept)
        return web.Response(body=content, headers={"Content-Type": content_type})

    for_everybody: dict[str, Handler] = {
        "/": index,
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": prometheus,
        **page.handlers(),
    }
    is_for_everybody = set(for_everybody.values())

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        # By what the router has found, so that no spelling of a path gets past.
        if request.match_info.handler not in is_for_everybody:
            trust.check(request.headers, request.remote)
        return await handler(request)

    async def end_streams(_admin: web.Application) -> None:
        api.events.close()

    admin = web.Application(client_max_size=_MAX_CONTENT_BYTES, middlewares=[as_documents, guard])
    for path, handler in for_everybody.items():
        admin.router.add_get(path, handler)
    api.add_to(admin.router)
    admin.on_shutdown.append(end_streams)
    admin.on_response_prepare.append(_finish_head)
    return admin


async def _finish_head(_request: web.Request, response: web.StreamResponse) -> None:
    finish_head(response)
    # aiohttp has put its version and Python's there by now.
    response.headers.popall("Server", None)
