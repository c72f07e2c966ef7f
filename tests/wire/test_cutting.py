"""Ends that must not be taken for another: a cut answer for a whole one, last words for none."""

import asyncio
import socket

import pytest
from support.client import Client, request
from support.narrow import narrow_legs
from support.sidecar import Start
from support.turns import turns, until
from support.upstream import Do, Expect, ScriptedUpstream, Send, Step, Wait

from proxy.core.policy import CircuitPolicy
from proxy.wire.upstream import UpstreamConnection

ONE_FAILURE = CircuitPolicy(consecutive_failures=1)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
TO_THE_END = b"HTTP/1.0 200 OK\r\n\r\nhalf"


@pytest.mark.parametrize(
    ("response", "steps", "moves", "outcome"),
    [
        (CHUNKED, [], 0, "failure(truncated)"),
        (CHUNKED, [Send(b"zz\r\n"), Do.STALL], 0, "failure(malformed)"),
        (TO_THE_END, [Do.RESET], 0, "failure(truncated)"),
        (TO_THE_END, [Do.STALL], 60, "failure(truncated)"),
    ],
    ids=["no last chunk", "bad chunk", "reset", "silence"],
)
async def test_a_cut_response_to_an_http_1_0_client_ends_with_a_reset(
    start: Start, response: bytes, steps: list[Step], moves: float, outcome: str
) -> None:
    """It would take an orderly end for the end of the content."""
    proxy = await start(circuit=ONE_FAILURE)
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(), Send(response), Wait(go_on), *steps]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(f"GET http://{upstream.authority}/ HTTP/1.0\r\n\r\n".encode())
            await client.reader.readuntil(b"half")
            go_on.set()
            await turns()
            proxy.clock.now += moves
            with pytest.raises(ConnectionResetError):
                await client.rest()
    assert str((await proxy.report()).outcome) == outcome
    assert proxy.state(upstream.authority) == "open"


async def test_a_tunnel_whose_upstream_resets_ends_with_a_reset(start: Start) -> None:
    """Through it may go what ends with the connection as well."""
    proxy = await start(circuit=ONE_FAILURE)
    go_on = asyncio.Event()
    async with ScriptedUpstream([Send(TO_THE_END), Wait(go_on), Do.RESET]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", upstream.authority))
            assert await client.reader.readuntil(b"half") == ESTABLISHED + TO_THE_END
            go_on.set()
            with pytest.raises(ConnectionResetError):
                await client.rest()
    exchange = await proxy.report()
    assert exchange.error is not None
    assert str(exchange.outcome) == "success"


async def test_the_last_bytes_of_a_client_arrive_although_the_upstream_closed_first(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    legs = narrow_legs(monkeypatch)
    proxy = await start()
    read_on, all_read = asyncio.Event(), Expect(b"the end")
    script = [Send(b"bye"), Do.HALF_CLOSE, Wait(read_on), all_read]
    async with ScriptedUpstream(script) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", upstream.authority))
            assert await client.rest() == ESTABLISHED + b"bye"
            sent = 0
            # What the upstream does not read waits with us; less than what would stop the client.
            while legs[0].transport.get_write_buffer_size() < 8000:
                await client.send(b"z" * 4000)
                sent += 4000
                await turns(5)
            await client.send(b"the end")
            client.writer.write_eof()
            await until(legs[0].transport.is_closing)
            assert len(proxy.exchanges) == 0
            read_on.set()
            exchange = await proxy.report()
            await (await upstream.connection(0)).until(b"the end")
        assert bytes(upstream.connections[0].received) == b"z" * sent + b"the end"
    assert exchange.error is None
    assert exchange.request_bytes == sent + len(b"the end")
    assert str(exchange.outcome) == "success"


async def test_an_upstream_that_refuses_an_upload_and_resets_has_answered(start: Start) -> None:
    rounds, size = 20, 1_000_000
    proxy = await start(circuit=ONE_FAILURE)
    async with ScriptedUpstream([Expect(), Send(REFUSAL), Do.RESET]) as upstream:
        for number in range(1, rounds + 1):
            async with await Client.connect(proxy.port) as client:
                head = request("POST", f"http://{upstream.authority}/", f"Content-Length: {size}")
                client.writer.write(head + b"x" * size)
                answer = await client.answer("POST")
                client.writer.transport.abort()
            assert (answer.status, answer.content) == (413, b"big")
            assert str((await proxy.report(number)).outcome) == "alive"
    assert proxy.state(upstream.authority) == "closed"


async def test_a_refusal_is_read_although_what_we_sent_met_the_reset_before(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream closes with content unread, between our last look at the socket and our write."""
    proxy = await start(circuit=ONE_FAILURE)
    loop, write = asyncio.get_running_loop(), UpstreamConnection.write
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        for number in range(1, 11):
            async with await Client.connect(proxy.port) as client:
                await client.send(request("POST", url, "Content-Length: 20") + b"unread")
                accepted, _ = await loop.sock_accept(listening)
                await loop.sock_recv(accepted, 1)

                def refuse_and_write(
                    self: UpstreamConnection, part: bytes, upstream: socket.socket = accepted
                ) -> None:
                    upstream.send(REFUSAL)
                    upstream.close()
                    write(self, part)

                with monkeypatch.context() as patch:
                    patch.setattr(UpstreamConnection, "write", refuse_and_write)
                    await client.send(b"more")
                    answer = await client.answer("POST")
            assert (answer.status, answer.content) == (413, b"big")
            exchange = await proxy.report(number)
            assert exchange.request_bytes == len(b"unreadmore")
            assert str(exchange.outcome) == "alive"
