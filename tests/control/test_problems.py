"""Refusals of one shape, ours and aiohttp's."""

import pytest
from aiohttp import web
from support.api import refusal, serving

from proxy.control.problems import Problem, as_documents


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Problem(403, "foreign_origin", "no"), (403, "foreign_origin")),
        (Problem(503, "no_room", "full", {"Retry-After": "10"}), (503, "no_room")),
        (web.HTTPNotFound(), (404, "not_found")),
        (web.HTTPMethodNotAllowed("PUT", ["GET", "HEAD"]), (405, "method_not_allowed")),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), (413, "content_too_large")),
        (web.HTTPBadRequest(text="secret"), (400, "bad_request")),
    ],
)
async def test_a_refusal_is_a_document(raised: Exception, expected: tuple[int, str]) -> None:
    async def refuses(_request: web.Request) -> web.Response:
        raise raised

    served = web.Application(middlewares=[as_documents])
    served.router.add_get("/", refuses)
    async with serving(served) as client:
        answer = await client.get("/")
    assert refusal(answer) == expected
    assert "secret" not in answer.text
    assert answer.headers.get("Retry-After") == ("10" if expected[0] == 503 else None)
    assert answer.headers.get("Allow") == ("GET,HEAD" if expected[0] == 405 else None)


async def test_anything_else_passes() -> None:
    async def answers(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    served = web.Application(middlewares=[as_documents])
    served.router.add_get("/", answers)
    async with serving(served) as client:
        assert (await client.get("/")).text == "ok"
