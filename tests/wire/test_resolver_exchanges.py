"""What clients get, and circuits are told, when names do not resolve; and while older answers help out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.client import Client
from support.dns import DnsServer, Known, Record, Trouble
from support.metrics import nonzero, samples
from support.names import forgotten
from support.ports import refusing
from support.sidecar import Clock, Running, Start
from support.turns import until
from support.upstream import OK, Expect, ScriptedUpstream, Send

from proxy.core.exchange import Exchange
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policy import Dns, Endpoint, Timeouts, Upstream
from proxy.core.quantities import Seconds

METHODS = ["GET", "CONNECT"]
MANY = [f"192.0.2.{number}" for number in range(200)]


def request(method: str, authority: str) -> bytes:
    target = authority if method == "CONNECT" else f"http://{authority}/"
    return f"{method} {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()


async def asked(proxy: Running, method: str, authority: str, status: int) -> Exchange:
    """Sends a request; returns what is reported of it."""
    number = len(proxy.exchanges) + 1
    client = await Client.connect(proxy.port)
    await client.send(request(method, authority))
    answer = await client.answer(method)
    assert answer.status == status
    client.writer.close()
    return await proxy.report(number)


def told(exchange: Exchange) -> tuple[str | None, str]:
    return exchange.error.error_type if exchange.error is not None else None, str(exchange.outcome)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("known", "error", "outcome", "result"),
    [
        (Trouble.NXDOMAIN, "dns_error", "failure(dns)", "not_found"),
        ([], "dns_error", "failure(dns)", "not_found"),
        ("nowhere.test", "dns_error", "failure(dns)", "not_found"),
        (Trouble.SERVFAIL, "dns_error", "neutral", "failed"),
        (Trouble.REFUSED, "dns_error", "neutral", "failed"),
        (Trouble.GARBAGE, "dns_error", "neutral", "failed"),
        (Record(addresses=MANY, truncated=True), "dns_error", "neutral", "failed"),
        (Record(six=Trouble.SERVFAIL), "dns_error", "neutral", "failed"),
    ],
    ids=["NXDOMAIN", "NODATA", "dangling", "SERVFAIL", "REFUSED", "garbage", "truncated", "half"],
)
async def test_a_name_that_does_not_resolve(
    start: Start, method: str, known: Known, error: str, outcome: str, result: str
) -> None:
    async with DnsServer({"a.test": known}) as server:
        proxy = await start(dns=Dns(servers=(server.endpoint,)))
        assert told(await asked(proxy, method, "a.test:80", 502)) == (error, outcome)
    assert nonzero(samples(proxy.sidecar.metrics), "dns_lookups_total") == {
        f"dns_lookups_total{{result={result}}}": 1
    }


@pytest.mark.parametrize("method", METHODS)
async def test_nobody_listens_where_the_server_should_be(start: Start, method: str) -> None:
    with refusing() as port:
        proxy = await start(dns=Dns(servers=(Endpoint("127.0.0.1", port),)))
        assert told(await asked(proxy, method, "a.test:80", 502)) == ("dns_error", "neutral")


@pytest.mark.parametrize("method", METHODS)
async def test_a_server_that_does_not_answer(start: Start, method: str) -> None:
    """The clock stands still, so this is the resolver's own bound."""
    async with DnsServer({"a.test": Trouble.SILENT}) as server:
        proxy = await start(dns=Dns(servers=(server.endpoint,)), timeouts=Timeouts(dns=Seconds(0.2)))
        assert told(await asked(proxy, method, "a.test:80", 504)) == ("dns_timeout", "neutral")


@pytest.mark.parametrize("trouble", [Trouble.SERVFAIL, Trouble.REFUSED, Trouble.SILENT])
async def test_an_older_answer_helps_out_and_recovery_needs_no_restart(
    start: Start, trouble: Trouble
) -> None:
    names: dict[str, Known] = {"a.test": ["127.0.0.1"]}
    scripts = [[Expect(), Send(OK)] for _ in range(4)]
    async with DnsServer(names) as server, ScriptedUpstream(*scripts) as upstream:
        proxy = await start(
            dns=Dns(servers=(server.endpoint,)),
            timeouts=Timeouts(dns=Seconds(2), upstream_idle=Seconds(0)),
        )
        authority = f"a.test:{upstream.port}"
        assert told(await asked(proxy, "GET", authority, 200)) == (None, "success")
        names["a.test"] = trouble
        await forgotten(server, proxy.sidecar.data_plane.provisions.resolver)
        proxy.clock.now += 1
        assert told(await asked(proxy, "GET", authority, 200)) == (None, "success")
        found = nonzero(samples(proxy.sidecar.metrics), "dns_lookups_total")
        assert found == {"dns_lookups_total{result=answered}": 1, "dns_lookups_total{result=stale}": 1}
        # What the server has not answered, c-ares gives up in its own time.
        await until(lambda: not proxy.sidecar.data_plane.provisions.resolver.under_way)
        names["a.test"] = ["127.0.0.1"]
        await forgotten(server, proxy.sidecar.data_plane.provisions.resolver)
        proxy.clock.now += 30
        assert told(await asked(proxy, "GET", authority, 200)) == (None, "success")
        found = nonzero(samples(proxy.sidecar.metrics), "dns_lookups_total")
        assert found == {"dns_lookups_total{result=answered}": 2, "dns_lookups_total{result=stale}": 1}


@asynccontextmanager
async def running_clock(clock: Clock) -> AsyncIterator[None]:
    """The proxy's time goes on with the loop's, by which the resolver waits."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ahead_s = clock.now - loop.time()
        while True:
            clock.now = loop.time() + ahead_s
            await asyncio.sleep(0)

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


OWN = HostPattern("a.test", None)


@pytest.mark.parametrize(
    "sections",
    [
        {"upstreams": (Upstream(match=OWN, timeouts=Overlay({"dns": Seconds(1)})),)},
        {"upstreams": (Upstream(match=OWN, timeouts=Overlay({"total": Seconds(1)})),)},
        {"timeouts": Timeouts(dns=Seconds(5), total=Seconds(1), upstream_idle=Seconds(0))},
    ],
    ids=["its dns", "its total", "total"],
)
async def test_an_older_answer_helps_out_before_the_time_of_the_exchange_is_up(
    start: Start, sections: dict[str, Any]
) -> None:
    names: dict[str, Known] = {"a.test": ["127.0.0.1"]}
    scripts = [[Expect(), Send(OK)] for _ in range(2)]
    general = {"timeouts": Timeouts(dns=Seconds(5), upstream_idle=Seconds(0))}
    async with DnsServer(names) as server, ScriptedUpstream(*scripts) as upstream:
        proxy = await start(**{"dns": Dns(servers=(server.endpoint,)), **general, **sections})
        authority = f"a.test:{upstream.port}"
        assert told(await asked(proxy, "GET", authority, 200)) == (None, "success")
        names["a.test"] = Trouble.SILENT
        await forgotten(server, proxy.sidecar.data_plane.provisions.resolver)
        proxy.clock.now += 1
        async with running_clock(proxy.clock):
            assert told(await asked(proxy, "GET", authority, 200)) == (None, "success")
    found = nonzero(samples(proxy.sidecar.metrics), "dns_lookups_total")
    assert found == {"dns_lookups_total{result=answered}": 1, "dns_lookups_total{result=stale}": 1}


async def test_an_upstream_with_more_time_for_its_name_than_others_has_it(start: Start) -> None:
    answer = asyncio.Event()
    names = {"a.test": Record(addresses=["127.0.0.1"], after=answer)}
    own = Upstream(match=OWN, timeouts=Overlay({"dns": Seconds(4)}))
    async with DnsServer(names) as server, ScriptedUpstream([Expect(), Send(OK)]) as upstream:
        proxy = await start(
            dns=Dns(servers=(server.endpoint,)), timeouts=Timeouts(dns=Seconds(0.1)), upstreams=(own,)
        )
        asking = asyncio.create_task(asked(proxy, "GET", f"a.test:{upstream.port}", 200))
        # c-ares asks for the second time after half a second, or a quarter, which is beyond the others' time.
        await server.question("a.test", 4)
        answer.set()
        assert told(await asking) == (None, "success")


async def test_a_name_that_is_remembered_as_absent_still_fails_the_upstream(start: Start) -> None:
    async with DnsServer({}) as server:
        proxy = await start(dns=Dns(servers=(server.endpoint,)))
        for _ in range(2):
            assert told(await asked(proxy, "GET", "a.test:80", 502)) == ("dns_error", "failure(dns)")
        assert len(server.asked) == 2
    found = nonzero(samples(proxy.sidecar.metrics), "dns_lookups_total")
    assert found == {"dns_lookups_total{result=not_found}": 1, "dns_lookups_total{result=negative}": 1}


async def test_an_address_is_not_counted_among_the_look_ups(start: Start) -> None:
    async with ScriptedUpstream([Expect(), Send(OK)]) as upstream:
        proxy = await start()
        await asked(proxy, "GET", f"127.0.0.1:{upstream.port}", 200)
    assert nonzero(samples(proxy.sidecar.metrics), "dns_lookups_total") == {}
