"""Fields behind chunked content: passed on to who gets chunks, without those that are no trailers."""

from collections.abc import Callable

import h11
import pytest
from support.client import Client, get
from support.sidecar import Start
from support.turns import turns
from support.upstream import Do, Expect, ScriptedUpstream, Send, Step

from proxy.core.policy import CircuitPolicy, Limits
from proxy.core.quantities import Bytes

HEAD = b"HTTP/1.1 200 OK\r\nA: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"2\r\nok\r\n"
OURS = b"HTTP/1.1 200 OK\r\nA: 0\r\nTransfer-Encoding: chunked\r\nVia: 1.1 testproxy\r\n\r\n"


Sent = Callable[[bytes], list[Step]]


def at_once(text: bytes) -> list[Step]:
    return [Expect(), Send(text)]


def one_by_one(text: bytes) -> list[Step]:
    return [Expect(), *(Send(text[at : at + 1]) for at in range(len(text)))]


@pytest.mark.parametrize("sent", [at_once, one_by_one], ids=["at once", "one by one"])
@pytest.mark.parametrize(
    ("trailers", "passed"),
    [
        (b"", b""),
        (b"X-Sum: 1\r\n", b"X-Sum: 1\r\n"),
        (b"b:  2\r\nA: \xff\r\nB:\r\na: 1\r\n", b"b: 2\r\nA: \xff\r\nB: \r\na: 1\r\n"),
        (b"Host: a\r\nA: 1\r\nTransfer-Encoding: gzip\r\n", b"A: 1\r\n"),
        (b"X-Breaker-Reason: circuit_open\r\nProxy-Status: testproxy\r\nSet-Cookie: a\r\n", b""),
        (b"Connection: close\r\nKeep-Alive: timeout=1\r\nTrailer: A\r\nA: 1\r\n", b"A: 1\r\n"),
    ],
    ids=["none", "one", "several", "framing", "only what is none", "hop by hop"],
)
async def test_trailers_pass(start: Start, trailers: bytes, passed: bytes, sent: Sent) -> None:
    proxy = await start()
    script = sent(HEAD + CHUNK + b"0\r\n" + trailers + b"\r\n")
    async with ScriptedUpstream(script * 2) as upstream, await Client.connect(proxy.port) as client:
        for _ in range(2):
            await client.send(get(f"http://{upstream.authority}/"))
            assert await client.reader.readuntil(b"\r\n\r\n") == OURS
            content = b""
            while (size := await client.reader.readline()) != b"0\r\n":
                content += (await client.reader.readexactly(int(size, 16) + 2))[:-2]
            lines = [line := await client.reader.readline()]
            while line != b"\r\n":
                lines.append(line := await client.reader.readline())
            assert (content, b"".join(lines)) == (b"ok", passed + b"\r\n")
        assert len(upstream.connections) == 1, "behind trailers there is another exchange"


async def test_an_http_1_0_client_gets_content_without_trailers(start: Start) -> None:
    proxy = await start()
    script = at_once(HEAD + CHUNK + b"0\r\nX-Sum: 1\r\n\r\n")
    async with ScriptedUpstream(script) as upstream, await Client.connect(proxy.port) as client:
        await client.send(f"GET http://{upstream.authority}/ HTTP/1.0\r\nTE: trailers\r\n\r\n".encode())
        answer = await client.rest()
    assert answer == b"HTTP/1.1 200 OK\r\nA: 0\r\nVia: 1.1 testproxy\r\nConnection: close\r\n\r\nok"


async def test_content_that_ends_with_the_connection_gets_no_trailers(start: Start) -> None:
    """What looks like them is content."""
    proxy = await start()
    text = b"0\r\nX-Sum: 1\r\n\r\n"
    async with ScriptedUpstream(at_once(b"HTTP/1.1 200 OK\r\n\r\n" + text)) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).content == text


@pytest.mark.parametrize(
    ("trailers", "error", "outcome"),
    [
        (b"X: " + b"y" * 2000 + b"\r\n\r\n", "http_response_header_section_size", "failure(malformed)"),
        (b"X: 1\r\n" * 17 + b"\r\n", "http_response_header_section_size", "failure(malformed)"),
        (b"X: a\0b\r\n\r\n", "http_protocol_error", "failure(malformed)"),
        (b"X : 1\r\n\r\n", "http_protocol_error", "failure(malformed)"),
        # llhttp does not let this one be filtered.
        (b"Content-Length: 2\r\n\r\n", "http_protocol_error", "failure(malformed)"),
        (b"X: 1\r\n", "http_response_incomplete", "failure(truncated)"),
    ],
    ids=["large", "many", "nul", "space", "length", "cut"],
)
async def test_bad_trailers_cut_the_response(start: Start, trailers: bytes, error: str, outcome: str) -> None:
    proxy = await start(
        circuit=CircuitPolicy(consecutive_failures=1), limits=Limits(max_head=Bytes(1024), max_fields=16)
    )
    async with ScriptedUpstream([Expect(), Send(HEAD + CHUNK), Send(b"0\r\n" + trailers)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            with pytest.raises(h11.RemoteProtocolError):
                await client.answer()
        exchange = await proxy.report()
    assert exchange.error is not None
    assert (exchange.error.error_type, str(exchange.outcome)) == (error, outcome)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ("TE: trailers\r\nConnection: TE", "TE: trailers\r\nConnection: TE\r\n"),
        ("te: gzip;q=0.5, Trailers", "TE: trailers\r\nConnection: TE\r\n"),
        ("TE: gzip\r\nConnection: TE", ""),
        ("Connection: TE", ""),
        ("Trailer: X", ""),
    ],
)
async def test_what_a_client_takes_is_asked_of_the_upstream(start: Start, fields: str, asked: str) -> None:
    proxy = await start()
    async with ScriptedUpstream([Expect(), Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/", fields))
        head = await (await upstream.connection(0)).until(b"\r\n\r\n")
        kept = f"{fields}\r\n" if fields.startswith("Trailer") else ""
        assert head.decode() == (
            f"GET / HTTP/1.1\r\nHost: {upstream.authority}\r\n{kept}{asked}Via: 1.1 testproxy\r\n\r\n"
        )
        await turns()
