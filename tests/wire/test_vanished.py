"""What the kernel is told of peers that vanish; that it acts on it is shown in tests/system."""

import socket

import pytest
from support.client import Client, get, request
from support.clients import connections
from support.sidecar import Start
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send

from proxy.core.policy import Seconds, Timeouts
from proxy.wire.tunnel import Tunnel
from proxy.wire.vanished import options

TCP = socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("body_idle_s", "idle_s", "probe_s", "user_ms"),
    [(60, 30, 7, 65_000), (3600, 60, 15, 3_605_000), (0.1, 1, 1, 5100), (1e12, 60, 15, 2**31 - 1)],
)
def test_the_numbers(body_idle_s: float, idle_s: int, probe_s: int, user_ms: int) -> None:
    assert options(body_idle_s) == (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (TCP, socket.TCP_KEEPIDLE, idle_s),
        (TCP, socket.TCP_KEEPINTVL, probe_s),
        (TCP, socket.TCP_KEEPCNT, 4),
        (TCP, socket.TCP_USER_TIMEOUT, user_ms),
    )


def of(transport: object) -> list[int]:
    """What is set of keep-alive, idle seconds, and the user timeout."""
    raw = transport.get_extra_info("socket")  # type: ignore[attr-defined]
    asked = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (TCP, socket.TCP_KEEPIDLE),
        (TCP, socket.TCP_USER_TIMEOUT),
    ]
    return [raw.getsockopt(*option) for option in asked]


async def test_both_sides_of_an_exchange_and_of_a_tunnel_are_watched(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(body_idle=Seconds(20), head=Seconds(10)))
    (listener,) = proxy.sidecar.listeners.values()
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 200
            (connection,) = listener.connections
            assert of(connection.transport) == [1, 10, 25_000]
            (resting,) = proxy.sidecar.pool._idle  # noqa: SLF001
            assert of(resting.transport) == [1, 10, 25_000]
    async with ScriptedUpstream([Do.STALL]) as upstream, await Client.connect(proxy.port) as client:
        await client.send(request("CONNECT", upstream.authority))
        await client.reader.readuntil(b"\r\n\r\n")
        tunnel = next(end.tunnel for end in connections(proxy) if isinstance(end.tunnel, Tunnel))
        assert of(tunnel._client.transport) == [1, 10, 0]  # noqa: SLF001
        assert of(tunnel._upstream) == [1, 10, 0]  # noqa: SLF001
    await proxy.report(2)
