"""What may be said of a circuit: JSON of a known shape and nothing else."""

import gzip
import json
from typing import Any

import pytest
from aiohttp import web
from support.api import refusal, serving

from proxy.control.problems import as_documents
from proxy.control.steering import MOST_OF_A_NOTE, Action, read

JSON = {"Content-Type": "application/json"}


def reading() -> web.Application:
    """Answers with what it has read."""

    async def reads(request: web.Request) -> web.Response:
        wish = await read(request, Action(request.match_info["action"]).kind)
        return web.json_response([wish.ttl_s, wish.note])

    served = web.Application(middlewares=[as_documents], client_max_size=4096)
    served.router.add_post("/{action}", reads)
    return served


async def said(content: bytes, action: str = "open", **headers: str) -> Any:
    fields = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    async with serving(reading()) as client:
        answer = await client.post(f"/{action}", content=content, headers=fields)
    return answer.json() if answer.status_code == 200 else refusal(answer)


@pytest.mark.parametrize(
    ("content", "read_as"),
    [
        ({}, [None, ""]),
        ({"ttl": None, "note": ""}, [None, ""]),
        ({"ttl": "10m", "note": "until they mend it"}, [600.0, "until they mend it"]),
        ({"ttl": "1ms"}, [0.001, ""]),
        ({"ttl": "1.5h"}, [5400.0, ""]),
        ({"ttl": "99999m"}, [5_999_940.0, ""]),
        ({"note": "läuft wieder 😀"}, [None, "läuft wieder 😀"]),
        ({"note": "😀" * MOST_OF_A_NOTE}, [None, "😀" * MOST_OF_A_NOTE]),
    ],
)
async def test_what_is_said(content: dict[str, Any], read_as: list[Any]) -> None:
    assert await said(json.dumps(content).encode()) == read_as


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_has_several_spellings(content_type: str) -> None:
    assert await said(b"{}", Content_Type=content_type) == [None, ""]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"open"',
        b"{",
        b"{}{}",
        b"ttl=10m",
        b"\xff",
        b'{"note": "\xff"}',
        b'{"note": "\\ud800"}',
        b'{"note": 1}',
        b'{"note": null}',
        b'{"note": "a\\nb"}',
        b'{"note": "a\\n"}',
        b'{"note": "a\\u0000"}',
        b'{"note": "a\\u001b[2J"}',
        b'{"note": "a\\u202eb"}',
        b'{"note": "a\\u2028b"}',
        b'{"note": "' + b"x" * (MOST_OF_A_NOTE + 1) + b'"}',
        b'{"ttl": "0s"}',
        b'{"ttl": "10"}',
        b'{"ttl": 10}',
        b'{"ttl": "-1s"}',
        b'{"ttl": "10m "}',
        b'{"ttl": "10m\\n"}',
        b'{"ttl": "1000h"}',
        b'{"ttl": "100000s"}',
        b'{"ttl": "1d"}',
        b'{"ttl": ""}',
        b'{"until": "tomorrow"}',
        b"[" * 4000,
    ],
    ids=repr,
)
async def test_anything_else_is_refused(content: bytes) -> None:
    assert await said(content) == (400, "bad_request")


@pytest.mark.parametrize("action", ["reset", "auto"])
async def test_what_does_not_last_has_no_ttl(action: str) -> None:
    assert await said(b'{"note": "why"}', action) == [None, "why"]
    assert await said(b'{"ttl": "10m"}', action) == (400, "bad_request")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json-patch+json",
        "application/jsonp",
        "text/plain; application/json",
        "application/json; charset=utf-16",
        "application/json, text/plain",
    ],
)
async def test_what_is_not_json_is_refused_whatever_it_holds(content_type: str) -> None:
    assert await said(b"{}", Content_Type=content_type) == (415, "not_json")


async def test_so_is_what_does_not_say_what_it_is() -> None:
    async with serving(reading()) as client:
        assert refusal(await client.post("/open", content=b"{}")) == (415, "not_json")


async def test_encoded_content_is_not_decoded() -> None:
    bomb = gzip.compress(b'{"note": "' + b" " * 10_000_000 + b'"}')
    assert await said(bomb, Content_Encoding="gzip") == (415, "encoded_content")
    assert await said(b"{}", Content_Encoding="identity") == [None, ""]


async def test_content_is_bounded() -> None:
    assert await said(b'{"note": "' + b" " * 5000) == (413, "content_too_large")
