"""Kept-alive connections: who gets one, how many rest, and for how long."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest
from support import certificates
from support.sidecar import SETTINGS, Clock, Start
from support.turns import until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Wait

from proxy.core.acl import OwnListeners
from proxy.core.address import Network
from proxy.core.egress import Egress
from proxy.core.errors import DestinationIpProhibited
from proxy.core.exchange import Entry, Exchange
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policies import Policies, UpstreamPolicy
from proxy.core.policy import Dns, Limits, Settings, Upstream
from proxy.core.target import Target
from proxy.wire.dialer import Dialer
from proxy.wire.local import is_local
from proxy.wire.pool import Pool
from proxy.wire.resolver import Resolver
from proxy.wire.upstream import UpstreamConnection
from proxy.wire.upstream_tls import UpstreamTls

# Answers as many requests as come.
SERVE = [Expect(), Send(OK)] * 10
# Calls any address.
POLICY = Policies(SETTINGS).general
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"

MakePool = Callable[..., Pool]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make_pool(start: Start, clock: Clock) -> AsyncIterator[MakePool]:
    """Makes pools; `idle_s` is `upstream_idle`."""
    del start  # for its proof that nothing is left over
    resolver = Resolver(Dns(), 5, time.monotonic)
    pools = []

    def make(*, idle_s: float = 4, idle_per_host: int = 64, idle_total: int = 512) -> Pool:
        limits = Limits(idle_per_host=idle_per_host, idle_total=idle_total)
        dialer = Dialer(clock)
        dialer.configure(resolver, UpstreamTls())
        pool = Pool(dialer, clock)
        pool.configure(limits, idle_s, Policies(Settings()))
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()
        assert repr(pool) == "<Pool idle=0 hosts=0>"
    await resolver.close()


def target_of(upstream: ScriptedUpstream, scheme: str = "http", host: str = "127.0.0.1") -> Target:
    return Target(scheme, host, upstream.port, "/", upstream.authority)


def exchange_of() -> Exchange:
    return Exchange(Entry.FORWARD, "GET", 0)


async def lend(pool: Pool, exchange: Exchange, target: Target, policy: UpstreamPolicy) -> UpstreamConnection:
    """A kept-alive connection if there is one, else a new one."""
    kept = pool.take(exchange, target, policy, pool.clock())
    return kept if kept is not None else await pool.dial(exchange, target, policy)


async def ask(connection: UpstreamConnection) -> None:
    """One whole exchange."""
    connection.begin("GET", 4096, 128)
    connection.write(b"GET / HTTP/1.1\r\n\r\n")
    connection.request_sent()
    await connection.next_head()
    while await connection.content():
        pass


async def call(pool: Pool, target: Target) -> UpstreamConnection:
    """Borrows a connection for one whole exchange; returns which one it was."""
    with await lend(pool, exchange_of(), target, POLICY) as connection:
        await ask(connection)
    return connection


async def calls_at_once(pool: Pool, target: Target, count: int) -> list[UpstreamConnection]:
    """So many exchanges at the same time, given back in the order of the list."""
    loans = [await lend(pool, exchange_of(), target, POLICY) for _ in range(count)]
    connections = []
    for loan in loans:
        with loan as connection:
            await ask(connection)
        connections.append(connection)
    return connections


async def until_gone(connection: UpstreamConnection) -> None:
    """Waits until the socket of a connection is closed."""
    while connection.transport is not None:
        await asyncio.sleep(0)


async def test_a_connection_that_rests_is_lent_again(make_pool: MakePool) -> None:
    pool = make_pool()
    async with ScriptedUpstream(SERVE) as upstream:
        exchanges = [exchange_of(), exchange_of()]
        connections = []
        for exchange in exchanges:
            with await lend(pool, exchange, target_of(upstream), POLICY) as connection:
                assert pool.idle == 0
                await ask(connection)
            assert repr(pool) == "<Pool idle=1 hosts=1>"
            connections.append(connection)
        assert connections[0] is connections[1]
        assert [exchange.reused for exchange in exchanges] == [False, True]
        assert [exchange.address for exchange in exchanges] == ["127.0.0.1"] * 2
        assert len(upstream.connections) == 1


async def test_a_connection_is_lent_to_one_at_a_time_the_latest_first(make_pool: MakePool) -> None:
    pool = make_pool()
    async with ScriptedUpstream(SERVE) as upstream:
        target = target_of(upstream)
        first, second = await calls_at_once(pool, target, 2)
        assert first is not second
        assert repr(pool) == "<Pool idle=2 hosts=1>"
        with await lend(pool, exchange_of(), target, POLICY) as latest:
            with await lend(pool, exchange_of(), target, POLICY) as earlier:
                assert (latest, earlier) == (second, first)
                assert pool.idle == 0


async def test_connections_are_kept_apart_by_host_and_port(make_pool: MakePool) -> None:
    pool = make_pool()
    async with ScriptedUpstream(SERVE) as upstream, ScriptedUpstream(SERVE) as other:
        targets = [target_of(upstream), target_of(upstream, host="localhost"), target_of(other)]
        connections = [await call(pool, target) for target in targets]
        assert len(set(connections)) == 3
        assert repr(pool) == "<Pool idle=3 hosts=3>"
        assert [await call(pool, target) for target in targets] == connections


@pytest.mark.parametrize(("scheme", "other"), [("http", "https"), ("https", "http")])
async def test_connections_are_kept_apart_by_scheme(make_pool: MakePool, scheme: str, other: str) -> None:
    """An endpoint's plain connections are not lent to who is to speak TLS to the same port, nor its TLS."""
    trusting = Upstream(match=HostPattern("*"), tls=Overlay({"ca": certificates.authority_path()}))
    policy = Policies(replace(SETTINGS, upstreams=(trusting,))).of("127.0.0.1", 443)
    pool = make_pool()
    tls = certificates.server("127.0.0.1") if scheme == "https" else None
    async with ScriptedUpstream(SERVE, tls=tls) as upstream:
        target = target_of(upstream, scheme=scheme)
        with await lend(pool, exchange_of(), target, policy) as connection:
            await ask(connection)
        assert pool.take(exchange_of(), target_of(upstream, scheme=other), policy, pool.clock()) is None
        assert repr(pool) == "<Pool idle=1 hosts=1>"
        with await lend(pool, exchange_of(), target, policy) as again:
            await ask(again)
        assert again is connection
        assert len(upstream.connections) == 1


@pytest.mark.parametrize("response", [CLOSING, OK + b"more"], ids=["close", "excess"])
async def test_a_connection_that_is_not_fit_ends(make_pool: MakePool, response: bytes) -> None:
    pool = make_pool()
    async with ScriptedUpstream([Expect(), Send(response), Do.STALL]) as upstream:
        connection = await call(pool, target_of(upstream))
        assert pool.idle == 0
        await until_gone(connection)


async def test_a_loan_that_ends_in_the_middle_ends_the_connection(make_pool: MakePool) -> None:
    pool = make_pool()
    async with ScriptedUpstream([Expect(), Do.STALL]) as upstream:

        async def wait_for_a_head() -> None:
            with await lend(pool, exchange_of(), target_of(upstream), POLICY) as connection:
                await ask(connection)

        task = asyncio.create_task(wait_for_a_head())
        peer = await upstream.connection(0)
        await peer.until(b"GET")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.idle == 0
        while not peer.ended:
            await asyncio.sleep(0)


async def test_beyond_idle_per_host_the_longest_idle_ends(make_pool: MakePool) -> None:
    pool = make_pool(idle_per_host=2)
    async with ScriptedUpstream(SERVE) as upstream, ScriptedUpstream(SERVE) as other:
        elsewhere = await call(pool, target_of(other))
        first, second, third = await calls_at_once(pool, target_of(upstream), 3)
        await until_gone(first)
        assert not second.is_lost
        assert not third.is_lost
        assert not elsewhere.is_lost
        assert repr(pool) == "<Pool idle=3 hosts=2>"


async def test_beyond_idle_total_the_longest_idle_of_all_ends(make_pool: MakePool) -> None:
    pool = make_pool(idle_total=2)
    async with ScriptedUpstream(SERVE) as upstream, ScriptedUpstream(SERVE) as other:
        longest = await call(pool, target_of(other))
        first, second = await calls_at_once(pool, target_of(upstream), 2)
        await until_gone(longest)
        assert not first.is_lost
        assert not second.is_lost
        assert repr(pool) == "<Pool idle=2 hosts=1>"


async def test_use_makes_a_connection_the_latest_again(make_pool: MakePool) -> None:
    pool = make_pool(idle_total=2)
    async with (
        ScriptedUpstream(SERVE) as one,
        ScriptedUpstream(SERVE) as two,
        ScriptedUpstream(SERVE) as three,
    ):
        first = await call(pool, target_of(one))
        second = await call(pool, target_of(two))
        assert await call(pool, target_of(one)) is first
        await call(pool, target_of(three))
        await until_gone(second)
        assert not first.is_lost


@pytest.mark.parametrize("limit", ["idle_per_host", "idle_total"])
async def test_a_limit_of_0_keeps_nothing(make_pool: MakePool, limit: str) -> None:
    pool = make_pool(**{limit: 0})
    async with ScriptedUpstream(SERVE) as upstream:
        for number in range(2):
            connection = await call(pool, target_of(upstream))
            assert repr(pool) == "<Pool idle=0 hosts=0>"
            await until_gone(connection)
            assert len(upstream.connections) == number + 1


async def test_the_limits_bound_what_rests_and_not_what_is_lent(make_pool: MakePool) -> None:
    pool = make_pool(idle_per_host=1, idle_total=1)
    async with ScriptedUpstream(SERVE) as upstream:
        target = target_of(upstream)
        with ExitStack() as loans:
            for _ in range(5):
                await ask(loans.enter_context(await lend(pool, exchange_of(), target, POLICY)))
            assert len(upstream.connections) == 5
        assert pool.idle == 1


async def test_the_sweep_ends_what_has_been_idle_for_upstream_idle(make_pool: MakePool, clock: Clock) -> None:
    pool = make_pool(idle_s=4)
    async with ScriptedUpstream(SERVE) as upstream, ScriptedUpstream(SERVE) as other:
        first = await call(pool, target_of(upstream))
        clock.now = 1001
        second = await call(pool, target_of(other))
        pool.sweep(1003.9)
        assert pool.idle == 2
        pool.sweep(1004)
        assert repr(pool) == "<Pool idle=1 hosts=1>"
        await until_gone(first)
        assert not second.is_lost
        pool.sweep(1005)
        assert pool.idle == 0
        await until_gone(second)


async def test_what_is_too_old_is_not_lent_although_no_sweep_has_come_round(
    make_pool: MakePool, clock: Clock
) -> None:
    pool = make_pool(idle_s=4)
    async with ScriptedUpstream(SERVE) as upstream:
        target = target_of(upstream)
        older, old = await calls_at_once(pool, target, 2)
        clock.now += 3.9
        assert await call(pool, target) is old
        clock.now += 3.9
        # Now `older` has been idle for 7.8 s and `old` for 3.9 s.
        assert await call(pool, target) is old
        clock.now += 4
        fresh = await call(pool, target)
        assert fresh not in (older, old)
        assert repr(pool) == "<Pool idle=1 hosts=1>"
        await until_gone(older)
        await until_gone(old)


@pytest.mark.parametrize(
    "end", [[], [Do.RESET], [Send(b"HTTP/1.1 408 Bye\r\n\r\n"), Do.STALL]], ids=["closed", "reset", "spoke"]
)
async def test_a_connection_that_the_upstream_ends_leaves_the_pool(
    make_pool: MakePool, end: list[Do | Send]
) -> None:
    pool = make_pool()
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(), Send(OK), Wait(go_on), *end], SERVE) as upstream:
        connection = await call(pool, target_of(upstream))
        assert pool.idle == 1
        go_on.set()
        while pool.idle:
            await asyncio.sleep(0)
        assert repr(pool) == "<Pool idle=0 hosts=0>"
        await until_gone(connection)
        assert await call(pool, target_of(upstream)) is not connection


async def test_a_connection_on_loan_that_ends_is_not_the_pools_to_forget(make_pool: MakePool) -> None:
    pool = make_pool()
    async with ScriptedUpstream([Expect(), Send(OK), Expect(), Do.RESET]) as upstream:
        target = target_of(upstream)
        await call(pool, target)
        with await lend(pool, exchange_of(), target, POLICY) as connection:
            connection.begin("GET", 4096, 128)
            connection.write(b"GET / HTTP/1.1\r\n\r\n")
            await until_gone(connection)
        assert repr(pool) == "<Pool idle=0 hosts=0>"


async def test_close_ends_all_that_rest(make_pool: MakePool) -> None:
    pool = make_pool()
    async with ScriptedUpstream(SERVE) as upstream, ScriptedUpstream(SERVE) as other:
        connections = await calls_at_once(pool, target_of(upstream), 2)
        connections.append(await call(pool, target_of(other)))
        pool.close()
        for connection in connections:
            await until_gone(connection)
        assert repr(pool) == "<Pool idle=0 hosts=0>"


async def test_a_connection_is_vetted_again_when_it_is_lent(make_pool: MakePool) -> None:
    """A listener of ours has come to be where it leads."""
    own = OwnListeners(is_local)
    policy = Policies(SETTINGS, own).general
    pool = make_pool()
    async with ScriptedUpstream(SERVE) as upstream:
        target = target_of(upstream)
        with await lend(pool, exchange_of(), target, policy) as connection:
            await ask(connection)
        assert pool.idle == 1
        own.ports = frozenset({upstream.port})
        assert pool.take(exchange_of(), target, policy, pool.clock()) is None
        assert repr(pool) == "<Pool idle=0 hosts=0>"
        await until_gone(connection)
        with pytest.raises(DestinationIpProhibited):
            await pool.dial(exchange_of(), target, policy)
        assert len(upstream.connections) == 1


async def test_connections_are_kept_apart_by_the_rules_on_addresses(make_pool: MakePool) -> None:
    """What a route has called as internal, or under older rules, is not for those who may not."""
    settings = replace(SETTINGS, egress=Egress(allow=(Network.parse("127.0.0.1"),)))
    policies, others = Policies(settings), Policies(replace(settings))
    pool = make_pool()
    async with ScriptedUpstream(SERVE) as upstream:
        target = target_of(upstream)
        internal = policies.of(target.host, target.port, is_internal=True)
        with await lend(pool, exchange_of(), target, internal) as first:
            await ask(first)
        for policy in (policies.general, others.general, others.of("a", 80, is_internal=True)):
            assert pool.take(exchange_of(), target, policy, pool.clock()) is None
        assert pool.idle == 1
        assert pool.take(exchange_of(), target, internal, pool.clock()) is first
        first.abort()


async def adopted(pool: Pool, target: Target, policy: UpstreamPolicy = POLICY) -> asyncio.Transport:
    """Gives the pool a connection that others have made, and paused."""
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol, "127.0.0.1", target.port
    )
    transport.pause_reading()
    pool.adopt(transport, target, policy)
    return transport


async def test_an_adopted_connection_is_lent_as_a_new_one(make_pool: MakePool) -> None:
    pool = make_pool()
    async with ScriptedUpstream(SERVE) as upstream:
        target = target_of(upstream)
        transport = await adopted(pool, target)
        assert repr(pool) == "<Pool idle=1 hosts=1>"
        for is_reused in (False, True):
            exchange = exchange_of()
            with await lend(pool, exchange, target, POLICY) as connection:
                assert connection.transport is transport
                await ask(connection)
            assert (exchange.reused, exchange.address) == (is_reused, "127.0.0.1")
        assert len(upstream.connections) == 1


async def test_an_adopted_connection_is_for_its_own_rules_alone(make_pool: MakePool) -> None:
    pool = make_pool()
    others = Policies(SETTINGS).general
    async with ScriptedUpstream(SERVE) as upstream:
        target = target_of(upstream)
        transport = await adopted(pool, target, others)
        with await lend(pool, exchange_of(), target, POLICY) as connection:
            assert connection.transport is not transport
            await ask(connection)


async def test_an_adopted_connection_rests_no_longer_than_others(make_pool: MakePool, clock: Clock) -> None:
    pool = make_pool()
    async with ScriptedUpstream(SERVE) as upstream:
        await adopted(pool, target_of(upstream))
        clock.now += 4
        pool.sweep(clock.now)
        assert pool.idle == 0


@pytest.mark.parametrize("step", [Send(b"x"), Do.RESET, Do.HALF_CLOSE], ids=str)
async def test_an_adopted_connection_that_ends_is_nobodys(make_pool: MakePool, step: Step) -> None:
    pool = make_pool()
    go_on = asyncio.Event()
    async with ScriptedUpstream([Wait(go_on), step, Do.STALL]) as upstream:
        await adopted(pool, target_of(upstream))
        go_on.set()
        await until(lambda: pool.idle == 0)
