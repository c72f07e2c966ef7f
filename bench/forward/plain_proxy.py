"""The peer: the proxy that one writes first with aiohttp, `web.Server` in front and `ClientSession` behind.

It streams both ways and leaves the hop-by-hop fields out: no circuits, no metrics, no log, no limits.

    python plain_proxy.py [--uvloop]

Prints its port.
"""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, web
from multidict import CIMultiDict, CIMultiDictProxy

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "transfer-encoding"}
    | {"upgrade"}
)  # fmt: skip


def _end_to_end(headers: "CIMultiDictProxy[str]") -> "CIMultiDict[str]":
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)


async def _serve() -> None:
    async with ClientSession(auto_decompress=False) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            async with session.request(
                request.method,
                request.url,
                headers=_end_to_end(request.headers),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            ) as upstream:
                answer = web.StreamResponse(
                    status=upstream.status, reason=upstream.reason, headers=_end_to_end(upstream.headers)
                )
                await answer.prepare(request)
                async for piece in upstream.content.iter_any():
                    await answer.write(piece)
                await answer.write_eof()
                return answer

        loop = asyncio.get_running_loop()
        server = await loop.create_server(web.Server(handle), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 -- the harness reads it
        await server.serve_forever()


if __name__ == "__main__":
    (uvloop if "--uvloop" in sys.argv else asyncio).run(_serve())
