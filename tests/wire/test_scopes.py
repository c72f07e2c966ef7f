"""The engine on the wire: endpoints beside their host, settings of single upstreams, what refusals say."""

import asyncio

import pytest
from support.client import Client, get, request
from support.sidecar import Running, Start
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Wait

from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, Mode, Timeouts, Upstream
from proxy.core.quantities import Seconds
from proxy.core.scope import CircuitKey

BY_PATH = CircuitPolicy(key=CircuitKey.parse("path"), consecutive_failures=2, failure_ratio=0)


def answer_of(status: int, *fields: str) -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"HTTP/1.1 {status} X\r\n{lines}Content-Length: 0\r\n\r\n".encode()


def script(*answers: bytes) -> list[Step]:
    return [step for answer in answers for step in (Expect(), Send(answer))]


async def call(client: Client, url: str, *fields: str) -> tuple[int, str | None]:
    await client.send(get(url, *fields))
    answer = await client.answer()
    return answer.status, answer.header("X-Breaker-Reason")


def endpoint(proxy: Running, host: str, path: str) -> str | None:
    key = BY_PATH.key.endpoint(host, path, ())
    return proxy.state(key) if key is not None else None


async def test_one_tenants_broken_hook_does_not_cut_off_the_others(start: Start) -> None:
    proxy = await start(circuit=BY_PATH)
    oops = answer_of(500)
    async with ScriptedUpstream(script(oops, oops, OK, OK)) as upstream:
        url = f"http://{upstream.authority}"
        async with await Client.connect(proxy.port) as client:
            assert await call(client, f"{url}/hooks/a?key=1") == (500, None)
            assert await call(client, f"{url}/hooks/a?key=2") == (500, None)
            assert await call(client, f"{url}/hooks/a?key=3") == (503, "circuit_open")
            assert await call(client, f"{url}/hooks/b") == (200, None)
        assert endpoint(proxy, upstream.authority, "/hooks/a") == "open"
        assert proxy.state(upstream.authority) == "closed"


async def test_a_silent_host_trips_although_every_endpoint_is_called_once(start: Start) -> None:
    proxy = await start(circuit=BY_PATH)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        for number in range(2):
            async with await Client.connect(proxy.port) as client:
                await client.send(get(f"http://{upstream.authority}/hooks/{number}"))
                await (await upstream.connection(number)).until(b"GET")
                proxy.clock.now += 4
            await proxy.report(number + 1)
        assert proxy.state(upstream.authority) == "open"
        async with await Client.connect(proxy.port) as client:
            assert await call(client, f"http://{upstream.authority}/hooks/new") == (503, "circuit_open")


async def test_a_dead_host_is_the_hosts_fault_and_not_its_endpoints(start: Start) -> None:
    proxy = await start(circuit=BY_PATH)
    async with ScriptedUpstream([]) as upstream:
        authority = upstream.authority
    async with await Client.connect(proxy.port) as client:
        for path in ("a", "b"):
            assert await call(client, f"http://{authority}/{path}") == (502, "connection_refused")
        assert await call(client, f"http://{authority}/c") == (503, "circuit_open")
    assert proxy.state(authority) == "open"
    assert endpoint(proxy, authority, "/a") is None


async def test_the_field_that_tells_the_endpoint_is_ours_and_goes_no_further(start: Start) -> None:
    policy = CircuitPolicy(key=CircuitKey.parse("header:X-Tenant"), consecutive_failures=1)
    proxy = await start(circuit=policy)
    async with ScriptedUpstream(script(answer_of(500), OK, OK)) as upstream:
        url = f"http://{upstream.authority}/"
        async with await Client.connect(proxy.port) as client:
            assert await call(client, url, "x-tenant: a") == (500, None)
            assert await call(client, url, "X-Tenant: a") == (503, "circuit_open")
            assert await call(client, url, "X-Tenant: b") == (200, None)
            assert await call(client, url) == (200, None)
        assert b"enant" not in upstream.connections[0].received


async def test_settings_of_single_upstreams(start: Start) -> None:
    async with ScriptedUpstream(script(answer_of(500), OK)) as one, ScriptedUpstream([Do.STALL]) as other:
        circuit = Overlay[CircuitPolicy]({"consecutive_failures": 1})
        timeouts = Overlay[Timeouts]({"head": Seconds(3)})
        proxy = await start(
            upstreams=(
                Upstream(match=HostPattern("127.0.0.1", one.port), circuit=circuit),
                Upstream(match=HostPattern("*"), timeouts=timeouts),
            )
        )
        async with await Client.connect(proxy.port) as client:
            assert await call(client, f"http://{one.authority}/") == (500, None)
            assert await call(client, f"http://{one.authority}/") == (503, "circuit_open")
            await client.send(get(f"http://{other.authority}/"))
            await (await other.connection(0)).until(b"GET")
            proxy.clock.now += 3
            assert (await client.answer()).status == 504
        assert proxy.state(other.authority) == "closed"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ((), "30"),
        (("Retry-After: 100",), "100"),
        (("Retry-After: 9999999999",), "300"),
        (("Retry-After: soon",), "30"),
        (("Retry-After: Mon, 23 Nov 2026 10:01:40 GMT", "Date: Mon, 23 Nov 2026 10:00:00 GMT"), "100"),
        (("Retry-After: Mon, 23 Nov 2026 09:00:00 GMT", "Date: Mon, 23 Nov 2026 10:00:00 GMT"), "30"),
    ],
    ids=["none", "seconds", "huge", "garbage", "date", "past"],
)
async def test_retry_after_lengthens_the_opening(start: Start, fields: tuple[str, ...], seconds: str) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream(script(answer_of(503, *fields))) as upstream:
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).status == 503
            await client.send(get(f"http://{upstream.authority}/"))
            refusal = await client.answer()
    assert refusal.header("X-Breaker-Reason") == "circuit_open"
    assert refusal.header("Retry-After") == seconds


async def test_observing_refuses_nothing_and_counts_what_it_would_have_refused(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1, mode=Mode.OBSERVE))
    async with ScriptedUpstream(script(answer_of(500), OK)) as upstream:
        async with await Client.connect(proxy.port) as client:
            assert await call(client, f"http://{upstream.authority}/") == (500, None)
            assert await call(client, f"http://{upstream.authority}/") == (200, None)
        assert proxy.state(upstream.authority) == "open"
    assert proxy.sidecar.circuits.totals.rejected == {("circuit_open", False): 1}


async def test_too_many_in_flight_of_one_upstream(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(max_in_flight=1))
    go_on = asyncio.Event()
    async with (
        ScriptedUpstream([Expect(), Wait(go_on), Send(OK)]) as upstream,
        await Client.connect(proxy.port) as first,
        await Client.connect(proxy.port) as second,
    ):
        await first.send(get(f"http://{upstream.authority}/"))
        await (await upstream.connection(0)).until(b"GET")
        assert await call(second, f"http://{upstream.authority}/") == (503, "too_many_in_flight")
        go_on.set()
        assert (await first.answer()).status == 200


async def test_a_probe_whose_content_is_cut_is_reported_as_it_was_booked(start: Start) -> None:
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    async with ScriptedUpstream(script(answer_of(500)), [Expect(), Send(half)]) as upstream:
        async with await Client.connect(proxy.port) as client:
            assert await call(client, f"http://{upstream.authority}/") == (500, None)
            proxy.clock.now += 30
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.rest()).endswith(b"half")
        assert str((await proxy.report(2)).outcome) == "success"
        assert proxy.state(upstream.authority) == "half_open"


async def test_a_probe_whose_client_uploads_slowly_keeps_its_circuit_half_open(start: Start) -> None:
    """The trap: a slow upload as a probe reopens a healthy circuit; its lease ends while the client owes."""
    proxy = await start(circuit=CircuitPolicy(consecutive_failures=1))
    async with ScriptedUpstream(script(answer_of(500)), [Expect(b"done"), Send(OK)]) as upstream:
        url = f"http://{upstream.authority}/"
        async with await Client.connect(proxy.port) as client:
            assert await call(client, url) == (500, None)
            proxy.clock.now += 30
            await client.send(request("POST", url, "Content-Length: 8"))
            await (await upstream.connection(1)).until(b"\r\n\r\n")
            proxy.clock.now += 49
            await client.send(b"half")
            await (await upstream.connection(1)).until(b"half")
            proxy.clock.now += 10
            await client.send(b"done")
            assert (await client.answer("POST")).status == 200
        await proxy.report(2)
        assert proxy.state(upstream.authority) == "half_open"
