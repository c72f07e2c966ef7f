"""What the kernel is told of peers that vanish; that it acts on it is shown in tests/system."""

import asyncio
import socket

import pytest
from support.client import Client, get, request
from support.clients import connections
from support.interception import sections
from support.sidecar import Start
from support.tls_client import TlsClient, inside
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Wait, tls_upstream

from proxy.core.policy import Timeouts
from proxy.core.quantities import Seconds
from proxy.wire.tunnel import Tunnel
from proxy.wire.vanished import options

TCP = socket.IPPROTO_TCP
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


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
    (listener,) = proxy.sidecar.data_plane.listeners.values()
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 200
            (connection,) = listener.connections
            assert of(connection.transport) == [1, 10, 25_000]
            (resting,) = proxy.sidecar.data_plane.pool._idle  # noqa: SLF001
            assert of(resting.transport) == [1, 10, 25_000]
    go = asyncio.Event()
    async with ScriptedUpstream([Wait(go), Send(b"first"), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(request("CONNECT", upstream.authority))
            await client.reader.readuntil(b"\r\n\r\n")
            tunnel = next(end.tunnel for end in connections(proxy) if isinstance(end.tunnel, Tunnel))
            legs = tunnel._client.transport, tunnel._upstream  # noqa: SLF001
            # As long as it may turn out to be HTTP.
            assert [of(leg) for leg in legs] == [[1, 10, 25_000]] * 2
            go.set()
            await client.reader.readexactly(5)
            assert [of(leg) for leg in legs] == [[1, 10, 0]] * 2
    await proxy.report(2)


async def test_a_websocket_may_stall_on_both_sides(start: Start) -> None:
    proxy = await start(timeouts=Timeouts(body_idle=Seconds(20), head=Seconds(10)))
    async with ScriptedUpstream([Expect(), Send(ACCEPT), Do.STALL]) as upstream:
        async with await Client.connect(proxy.port) as client:
            asked = get(f"http://{upstream.authority}/", "Upgrade: websocket", "Connection: Upgrade")
            await client.send(asked)
            await client.reader.readuntil(b"\r\n\r\n")
            tunnel = next(end.tunnel for end in connections(proxy) if isinstance(end.tunnel, Tunnel))
            legs = tunnel._client.transport, tunnel._upstream  # noqa: SLF001
            assert [of(leg) for leg in legs] == [[1, 10, 0]] * 2
    await proxy.report()


@pytest.mark.parametrize("is_intercepted", [True, False])
async def test_http_inside_of_a_connect_is_watched_as_any_other(
    start: Start, *, is_intercepted: bool
) -> None:
    timeouts = Timeouts(body_idle=Seconds(20), head=Seconds(10))
    proxy = await start(**sections() if is_intercepted else {}, timeouts=timeouts)
    script = [Expect(), Send(OK), Do.STALL]
    upstream = tls_upstream(script) if is_intercepted else ScriptedUpstream(script)
    async with upstream:
        if is_intercepted:
            client: Client = await TlsClient.through(proxy.port, upstream.authority)
        else:
            client = await Client.connect(proxy.port)
            await client.send(request("CONNECT", upstream.authority))
            await client.reader.readuntil(b"\r\n\r\n")
        async with client:
            await client.send(inside("GET", upstream.authority))
            assert (await client.answer()).status == 200
            (end,) = connections(proxy)
            (resting,) = proxy.sidecar.data_plane.pool._idle  # noqa: SLF001
            assert of(end.transport) == of(resting.transport) == [1, 10, 25_000]
    await proxy.report(2)
