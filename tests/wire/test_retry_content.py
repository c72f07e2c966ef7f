"""What is kept of a request's content for a second try: what could be needed, and nothing else."""

import gc

import pytest
from support.client import Client, get, request
from support.sidecar import Running, Start
from support.turns import turns
from support.upstream import OK, Do, Expect, Script, ScriptedUpstream, Send, Step, Take

MOST = 64 * 1024
FIRST: list[Step] = [Expect(), Send(OK)]
ends = pytest.mark.parametrize("end", [[], [Do.RESET]], ids=["closed", "reset"])


async def kept(proxy: Running, upstream: ScriptedUpstream, client: Client) -> None:
    """One exchange, behind which the upstream's connection rests."""
    await client.send(get(f"http://{upstream.authority}/kept"))
    assert (await client.answer()).status == 200
    assert proxy.sidecar.data_plane.pool.idle == 1


def kept_bytes(proxy: Running) -> int:
    """How many bytes the only exchange under way holds for a second try."""
    assert proxy.sidecar.data_plane.handler.in_flight == 1
    # Those of exchanges that are over.
    gc.collect()
    (relay,) = [each for each in gc.get_objects() if type(each).__qualname__ == "_Relay"]
    return sum(len(part) for part in gc.get_referents(relay) if isinstance(part, bytes | bytearray))


@ends
@pytest.mark.parametrize(("size", "count"), [(1, 700), (60, MOST // 60)])
async def test_many_small_chunks_are_sent_again_byte_for_byte(
    start: Start, size: int, count: int, end: Script
) -> None:
    """Their framing does not count, although it is more than what is kept of content: it is in proportion."""
    proxy = await start()
    last = b"\r\n0\r\n\r\n"
    pieces = [b"%0*d" % (size, number % 10**size) for number in range(count)]
    serve = [Expect(last), Send(OK), Do.STALL]
    async with ScriptedUpstream([*FIRST, Expect(last), *end], serve) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            await client.send(request("PUT", f"http://{upstream.authority}/", "Transfer-Encoding: chunked"))
            peer = upstream.connections[0]
            sent = len(await peer.until(b"chunked\r\nVia: 1.1 testproxy\r\n\r\n"))
            for piece in pieces:
                framed = b"%x\r\n%b\r\n" % (size, piece)
                await client.send(framed)
                sent += len(framed)
                while len(peer.received) < sent:
                    peer.changed.clear()
                    await peer.changed.wait()
            await client.send(b"0\r\n\r\n")
            assert (await client.answer("PUT")).status == 200
        again = bytes(upstream.connections[1].received)
        assert again == bytes(peer.received).partition(b"\r\n\r\n")[2]
        assert again.endswith(b"".join(b"%x\r\n%b\r\n" % (size, piece) for piece in pieces) + b"0\r\n\r\n")
        exchange = await proxy.report(2)
    assert (exchange.request_bytes, str(exchange.outcome)) == (size * count, "success")


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("is_reused", [False, True], ids=["fresh", "reused"])
@pytest.mark.parametrize("size", [MOST // 2, MOST + 1])
async def test_content_is_kept_only_where_it_could_be_sent_again(
    start: Start, size: int, method: str, *, is_reused: bool
) -> None:
    """Half of it comes with the head, half of it later."""
    proxy = await start()
    serve = [Expect(), Take(size), Do.STALL]
    async with ScriptedUpstream([*FIRST, *serve] if is_reused else serve) as upstream:
        async with await Client.connect(proxy.port) as client:
            if is_reused:
                await kept(proxy, upstream, client)
            whole = request(method, f"http://{upstream.authority}/", content=b"x" * (size - 5) + b"-last")
            await client.send(whole[: -(size // 2)])
            await turns()
            await client.send(whole[-(size // 2) :])
            await (await upstream.connection(0)).until(b"-last")
            await turns()
            held = kept_bytes(proxy)
        is_kept = is_reused and method == "PUT" and size <= MOST
        assert (held >= size) if is_kept else (held == 0)
    await proxy.report(2 if is_reused else 1)


async def test_nothing_is_kept_for_a_third_try(start: Start) -> None:
    proxy = await start()
    size = MOST // 2
    again = [Expect(), Take(size), Do.STALL]
    async with ScriptedUpstream([*FIRST, Expect(), Take(size)], again) as upstream:
        async with await Client.connect(proxy.port) as client:
            await kept(proxy, upstream, client)
            text = request("PUT", f"http://{upstream.authority}/", content=b"x" * (size - 5) + b"-last")
            await client.send(text)
            await (await upstream.connection(1)).until(b"-last")
            await turns()
            assert kept_bytes(proxy) == 0
    await proxy.report(2)
