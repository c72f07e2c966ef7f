"""What clients get, and circuits are told, when names do not resolve; and while older answers help out."""

import pytest
from support.client import Client
from support.dns import DnsServer, Known, Record, Trouble
from support.metrics import nonzero, samples
from support.names import forgotten
from support.ports import refusing
from support.sidecar import Running, Start
from support.upstream import OK, Expect, ScriptedUpstream, Send

from proxy.core.exchange import Exchange
from proxy.core.policy import Dns, Endpoint, Seconds, Timeouts

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
            timeouts=Timeouts(dns=Seconds(0.4), upstream_idle=Seconds(0)),
        )
        authority = f"a.test:{upstream.port}"
        assert told(await asked(proxy, "GET", authority, 200)) == (None, "success")
        names["a.test"] = trouble
        await forgotten(server, proxy.sidecar._resolver)  # noqa: SLF001 -- see there
        proxy.clock.now += 1
        assert told(await asked(proxy, "GET", authority, 200)) == (None, "success")
        found = nonzero(samples(proxy.sidecar.metrics), "dns_lookups_total")
        assert found == {"dns_lookups_total{result=answered}": 1, "dns_lookups_total{result=stale}": 1}
        names["a.test"] = ["127.0.0.1"]
        await forgotten(server, proxy.sidecar._resolver)  # noqa: SLF001 -- see there
        proxy.clock.now += 30
        assert told(await asked(proxy, "GET", authority, 200)) == (None, "success")
        found = samples(proxy.sidecar.metrics)
        assert found["dns_lookups_total{result=stale}"] == 1
        # The query that nobody answered may still have been under way.
        assert sum(found[f"dns_lookups_total{{result={result}}}"] for result in ("answered", "joined")) == 2


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
