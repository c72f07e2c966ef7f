"""A circuit that lets one call through at a time recovers, whichever way its calls come."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import Enum

import pytest
from support import interception
from support.client import Client, get
from support.sidecar import SETTINGS, Running, Start
from support.tls_client import TlsClient
from support.turns import until
from support.upstream import OK, Do, Expect, Script, ScriptedUpstream, Send, Take, tls_upstream

from proxy.core.policy import CircuitPolicy, Endpoint, Listen
from proxy.core.quantities import Seconds
from proxy.core.route import Route, UpstreamUrl

# One call at a time in every respect, so that none may wait for another that waits for it.
ONE_SLOT = CircuitPolicy(
    consecutive_failures=1,
    open=Seconds(30),
    half_open_in_flight=1,
    recovery_threshold=3,
    max_in_flight=1,
)
# The lease of a probe: the sum of what each step may take, and 5 s.
LEASE_S = 50
LISTEN = Listen(proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, reverse=Endpoint("127.0.0.1", 0))
FAILURE = b"HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# What is no request, so that a tunnel carries it unseen.
BYTES, ANSWER = b"\0hello", b"\0hi"


class Way(Enum):
    """How a call comes to the circuit."""

    FORWARD = "forward"
    REVERSE = "reverse"
    INTERCEPTED = "intercepted"
    TUNNEL = "tunnel"
    PLAIN_IN_TUNNEL = "plain HTTP inside of a CONNECT that is tunnelled"
    PLAIN_IN_INTERCEPTED = "plain HTTP inside of a CONNECT that is intercepted"


class Calls:
    """Calls to one upstream, all in one way.

    Args:
        way: by which they come.
        proxy: through which they go.
        upstream: whom they are for.
    """

    def __init__(self, way: Way, proxy: Running, upstream: ScriptedUpstream) -> None:
        self.key = upstream.authority
        self.proxy = proxy
        self.upstream = upstream
        self._way = way

    @property
    def state(self) -> str | None:
        """Of the circuit."""
        return self.proxy.state(self.key)

    async def connect(self) -> Client:
        """A client that can ask."""
        port = self.proxy.port
        if self._way is Way.INTERCEPTED:
            return await TlsClient.through(port, self.key)
        if self._way is Way.REVERSE:
            port = self.proxy.sidecar.reverse_port
        client = await Client.connect(port)
        if self._way in {Way.TUNNEL, Way.PLAIN_IN_TUNNEL, Way.PLAIN_IN_INTERCEPTED}:
            await client.connected(self.key)
        return client

    async def ask(self, client: Client) -> None:
        """Sends what a client has to say."""
        if self._way is Way.TUNNEL:
            await client.send(BYTES)
        elif self._way is Way.FORWARD:
            await client.send(get(f"http://{self.key}/hook"))
        else:
            await client.send(f"GET /hook HTTP/1.1\r\nHost: {self.key}\r\n\r\n".encode())

    async def works(self, client: Client) -> bool:
        """Asks, and tells whether the answer is one of an upstream that works."""
        await self.ask(client)
        if self._way is Way.TUNNEL:
            try:
                return await client.reader.read(len(ANSWER)) == ANSWER
            except ConnectionResetError:
                return False
        return (await client.answer()).status == 200

    async def is_over(self) -> None:
        """Waits until no call is under way, and none holds a place in the circuit."""
        await until(lambda: not self.proxy.sidecar.data_plane.handler.in_flight)
        circuit = self.proxy.sidecar.circuits.get(self.key)
        assert circuit is not None
        assert circuit.in_flight == 0

    async def fail(self) -> None:
        """Opens the circuit, and lets its time pass."""
        async with await self.connect() as client:
            assert not await self.works(client)
        await self.is_over()
        assert self.state == "open"
        self.proxy.leap(ONE_SLOT.open)


@asynccontextmanager
async def calling(
    way: Way, start: Start, *scripts: Script, policy: CircuitPolicy = ONE_SLOT
) -> AsyncIterator[Calls]:
    """Calls to an upstream whose first connection fails; these follow, and then it works."""
    fails: Script = [Take(len(BYTES)), Do.RESET] if way is Way.TUNNEL else [Expect(), Send(FAILURE)]
    works: Script = [Expect(), Send(OK)] * 4
    if way is Way.TUNNEL:
        works = [Take(len(BYTES)), Send(ANSWER), Do.STALL]
    made = tls_upstream if way is Way.INTERCEPTED else ScriptedUpstream
    async with made(fails, *scripts, works) as upstream:
        route = Route(upstream=UpstreamUrl.parse(f"http://{upstream.authority}"))
        is_intercepted = way in {Way.INTERCEPTED, Way.PLAIN_IN_INTERCEPTED}
        sections = interception.sections() if is_intercepted else {}
        proxy = await start(circuit=policy, listen=LISTEN, routes=(route,), **sections)
        yield Calls(way, proxy, upstream)


async def recovered(calls: Calls) -> list[str | None]:
    """The states behind each of so many probes as it takes, each by a client of its own."""
    states = []
    for _ in range(ONE_SLOT.recovery_threshold):
        async with await calls.connect() as client:
            assert await calls.works(client)
            states.append(calls.state)
        await calls.is_over()
    return states


@pytest.mark.parametrize("way", Way, ids=lambda way: way.name)
async def test_clients_of_one_call_each(start: Start, way: Way) -> None:
    async with calling(way, start) as calls:
        await calls.fail()
        assert await recovered(calls) == ["half_open", "half_open", "closed"]


@pytest.mark.parametrize("way", [way for way in Way if way is not Way.TUNNEL], ids=lambda way: way.name)
async def test_one_client_for_all_calls(start: Start, way: Way) -> None:
    async with calling(way, start) as calls:
        await calls.fail()
        states = []
        async with await calls.connect() as client:
            for _ in range(3):
                assert await calls.works(client)
                states.append(calls.state)
                await calls.is_over()
        assert states == ["half_open", "half_open", "closed"]


@pytest.mark.parametrize("way", Way, ids=lambda way: way.name)
async def test_a_probe_whose_client_leaves_gives_its_place_back(start: Start, way: Way) -> None:
    async with calling(way, start, [Do.STALL]) as calls:
        await calls.fail()
        async with await calls.connect() as client:
            await calls.ask(client)
            await (await calls.upstream.connection(1)).until(b"h")
        await calls.is_over()
        assert calls.state == "half_open"
        assert await recovered(calls) == ["half_open", "half_open", "closed"]


@pytest.mark.parametrize("way", Way, ids=lambda way: way.name)
async def test_a_probe_that_fails_gives_its_place_back(start: Start, way: Way) -> None:
    fails: Script = [Take(len(BYTES)), Do.RESET] if way is Way.TUNNEL else [Expect(), Send(FAILURE)]
    async with calling(way, start, fails) as calls:
        await calls.fail()
        await calls.fail()
        # It has been open for twice as long.
        calls.proxy.leap(ONE_SLOT.open)
        assert await recovered(calls) == ["half_open", "half_open", "closed"]


async def test_a_tunnel_without_a_word_holds_its_place_for_a_lease(start: Start) -> None:
    """Then others may try; what comes of it later changes nothing."""
    policy = replace(ONE_SLOT, max_in_flight=2)
    async with calling(Way.FORWARD, start, [Do.STALL], policy=policy) as calls:
        await calls.fail()
        async with await Client.connect(calls.proxy.port) as silent, await calls.connect() as client:
            await silent.connected(calls.key)
            await calls.ask(client)
            refused = await client.answer()
            assert (refused.status, refused.header("X-Breaker-Reason")) == (503, "circuit_half_open")
            calls.proxy.leap(LEASE_S)
            assert await calls.works(client)
        await calls.is_over()
        assert calls.state == "half_open"
        assert await recovered(calls) == ["half_open", "closed", "closed"]
