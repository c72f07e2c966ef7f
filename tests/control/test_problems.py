"""Refusals of one shape, ours and aiohttp's."""

import asyncio

import httpx
import pytest
from aiohttp import web
from structlog.testing import capture_logs
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


async def test_a_fault_of_ours_is_a_document_and_one_line_without_what_was_sent() -> None:
    async def fails(request: web.Request) -> web.Response:
        raise ValueError(f"{request.match_info['key']} {await request.text()}")

    served = web.Application(middlewares=[as_documents])
    served.router.add_post("/circuits/{key}", fails)
    with capture_logs() as lines:
        async with serving(served) as client:
            answer = await client.post("/circuits/s3cret", content=b"s3cret")
            again = await client.post("/circuits/s3cret", content=b"s3cret")
    assert refusal(answer) == refusal(again) == (500, "internal_error")
    assert "s3cret" not in answer.text + str(lines)
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("fault in the admin port", "error")
    ] * 2
    assert lines[0]["path"] == "/circuits/{key}"
    assert lines[0]["exception"].endswith("ValueError")
    assert "in fails" in lines[0]["exception"]


async def test_a_fault_in_an_answer_that_has_begun_cuts_it(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"some")
        raise ValueError

    served = web.Application(middlewares=[as_documents])
    served.router.add_get("/", fails)
    with capture_logs() as lines:
        async with serving(served) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/")
    assert [line["event"] for line in lines] == ["fault in the admin port"]
    assert caplog.records == []


async def test_one_who_leaves_before_all_is_sent_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def reads(request: web.Request) -> web.Response:
        began.set()
        try:
            return web.Response(text=await request.text())
        finally:
            ended.set()

    served = web.Application(middlewares=[as_documents])
    served.router.add_post("/", reads)
    with capture_logs() as lines:
        async with serving(served) as client:
            _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
            await began.wait()
            writer.transport.abort()
            await ended.wait()
    assert (lines, caplog.records) == ([], [])


async def test_anything_else_passes() -> None:
    async def answers(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    served = web.Application(middlewares=[as_documents])
    served.router.add_get("/", answers)
    async with serving(served) as client:
        assert (await client.get("/")).text == "ok"
