"""How many tunnels there may be, and how many of them to one host."""

import socket
from contextlib import AsyncExitStack

import pytest
from support.client import Answer, Client, request
from support.sidecar import Running, Start
from support.turns import until
from support.upstream import Do, ScriptedUpstream

from proxy.core.policy import CircuitPolicy, Limits

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
FULL = "limits.max_tunnels tunnels are open"


async def _tunnel(proxy: Running, upstream: ScriptedUpstream) -> Client:
    client = await Client.connect(proxy.port)
    await client.send(request("CONNECT", upstream.authority))
    assert await client.reader.readexactly(len(ESTABLISHED)) == ESTABLISHED
    return client


async def _refused(proxy: Running, upstream: ScriptedUpstream) -> Answer:
    async with await Client.connect(proxy.port) as client:
        await client.send(request("CONNECT", upstream.authority))
        answer = await client.answer("CONNECT")
        assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "local_limit")
        assert await client.rest() == b""
    return answer


@pytest.mark.parametrize(("max_tunnels", "of_one_host"), [(1, 1), (3, 3), (4, 3), (5, 4), (8, 6)], ids=str)
async def test_a_host_leaves_a_quarter_of_the_tunnels_to_others(
    start: Start, max_tunnels: int, of_one_host: int
) -> None:
    proxy = await start(limits=Limits(max_tunnels=max_tunnels), circuit=CircuitPolicy(consecutive_failures=1))
    tunnels = proxy.sidecar.data_plane.tunnels
    async with (
        ScriptedUpstream([Do.STALL]) as quiet,
        ScriptedUpstream([Do.STALL]) as other,
        AsyncExitStack() as clients,
    ):
        for _ in range(of_one_host):
            first = await clients.enter_async_context(await _tunnel(proxy, quiet))
        answer = await _refused(proxy, quiet)
        kept = (
            f"the upstream has {of_one_host} tunnels, and a quarter of limits.max_tunnels is kept for others"
        )
        detail = kept if of_one_host < max_tunnels else FULL
        assert f'details="{detail}"' in str(answer.header("Proxy-Status"))
        for _ in range(max_tunnels - of_one_host):
            await clients.enter_async_context(await _tunnel(proxy, other))
        assert FULL in str((await _refused(proxy, other)).header("Proxy-Status"))
        hosts = 1 + (of_one_host < max_tunnels)
        assert repr(tunnels) == f"<Tunnels {max_tunnels} of {max_tunnels}, to {hosts} hosts>"
        assert tunnels.of_host[quiet.authority] == of_one_host
        # A place that is given back is anybody's who may have one.
        first.close()
        await until(lambda: tunnels.open < max_tunnels)
        await clients.enter_async_context(await _tunnel(proxy, quiet))
        assert proxy.state(quiet.authority) != "open"
    await until(lambda: not tunnels.open)
    assert tunnels.of_host == {}


async def test_a_tunnel_that_comes_to_nothing_gives_its_place_back(start: Start) -> None:
    proxy = await start(limits=Limits(max_tunnels=1))
    with socket.socket() as unheard:  # bound, and not listening
        unheard.bind(("127.0.0.1", 0))
        for _ in range(2):
            async with await Client.connect(proxy.port) as client:
                await client.send(request("CONNECT", f"127.0.0.1:{unheard.getsockname()[1]}"))
                assert (await client.answer("CONNECT")).status == 502
            assert proxy.sidecar.data_plane.tunnels.of_host == {}
