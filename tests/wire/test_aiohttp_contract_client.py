"""Why the upstream leg is our own: what aiohttp's client does to requests and responses.

Each test names one fact. If they all fail one day, the upstream leg could be aiohttp's.
"""

import asyncio

import aiohttp
import pytest
from support.turns import turns, until
from support.upstream import Do, Expect, ScriptedUpstream, Send

pytestmark = pytest.mark.usefixtures("start")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def sent(path: str, *fields: tuple[str, str]) -> bytes:
    """The head that the upstream receives."""
    async with ScriptedUpstream([Expect(), Send(OK)]) as upstream, aiohttp.ClientSession() as session:
        async with session.get(f"http://{upstream.authority}{path}", headers=fields) as response:
            assert response.status == 200
        return bytes(upstream.connections[0].received)


async def test_the_client_rewrites_urls() -> None:
    head = await sent("/a/../%7e?b=%2f&&#c")
    assert head.startswith(b"GET /~?b=/&& HTTP/1.1\r\n")


async def test_the_client_adds_fields() -> None:
    head = await sent("/")
    for name in (b"Accept", b"Accept-Encoding", b"User-Agent"):
        assert b"\r\n" + name + b": " in head


async def test_the_client_drops_a_field_that_differs_only_in_case() -> None:
    head = await sent("/", ("X-A", "1"), ("x-a", "2"))
    assert b"\r\nx-a: 2\r\n" in head
    assert b"X-A" not in head


async def test_the_client_does_not_send_bytes_that_are_not_utf_8() -> None:
    head = await sent("/", ("X", b"a\xffb".decode("utf-8", "surrogateescape")))
    assert b"\r\nX: ab\r\n" in head


async def test_the_client_hides_interim_responses_and_trailers() -> None:
    answer = (
        b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nok\r\n0\r\nT: 1\r\n\r\n"
    )
    async with ScriptedUpstream([Expect(), Send(answer)]) as upstream, aiohttp.ClientSession() as session:
        async with session.get(f"http://{upstream.authority}/") as response:
            assert response.status == 200
            assert await response.read() == b"ok"
            assert set(response.headers) == {"Transfer-Encoding"}
            assert response.history == ()


async def test_the_client_waits_for_ever_for_a_100() -> None:
    async with ScriptedUpstream([Do.STALL]) as upstream, aiohttp.ClientSession() as session:
        url = f"http://{upstream.authority}/"
        asking = asyncio.ensure_future(session.post(url, data=b"content", expect100=True))
        connection = await upstream.connection(0)
        await connection.until(b"\r\n\r\n")
        await turns(1000)
        assert not asking.done()
        assert b"content" not in connection.received
        asking.cancel()
        await until(asking.done)
