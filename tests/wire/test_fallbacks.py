"""Redirects, on the wire: what goes where, with which marks, and what it costs whose circuit."""

import asyncio
from typing import Any

import pytest
from support.client import Client, get, request
from support.sidecar import Running, Start
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Take, Wait

from proxy.core.fallback import Fallback, FallbackOn, RedirectUrl
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policy import CircuitPolicy, OpenAction, Timeouts, Upstream
from proxy.core.quantities import Seconds
from proxy.core.scope import CircuitKey

FAIL = [Expect(), Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops")] * 50
SERVE = [Expect(), Send(OK)] * 50
ON_FAILURE = FallbackOn.FAILURE


def falling_back(
    upstream: ScriptedUpstream, to: str, circuit: dict[str, Any] | None = None, **fallback: Any
) -> tuple[Upstream, ...]:
    """The settings of an upstream whose circuit opens with the first failure, and where it redirects to."""
    made = Fallback(redirect=RedirectUrl.parse(to), **fallback)
    written = {"consecutive_failures": 1, **(circuit or {})}
    return (Upstream(match=HostPattern.parse(upstream.authority), circuit=Overlay(written), fallback=made),)


async def trip(client: Client, upstream: ScriptedUpstream) -> None:
    await client.send(get(f"http://{upstream.authority}/"))
    assert (await client.answer()).status == 500


def state(proxy: Running, upstream: ScriptedUpstream) -> str | None:
    return proxy.state(upstream.authority)


async def test_what_an_open_circuit_refuses_goes_elsewhere_with_its_content(start: Start) -> None:
    async with ScriptedUpstream(FAIL) as sick, ScriptedUpstream([Expect(b"event"), Send(OK)]) as inbox:
        to = f"http://{inbox.authority}/in/{{host}}/{{path}}?{{query}}"
        proxy = await start(upstreams=falling_back(sick, to))
        async with await Client.connect(proxy.port) as client:
            await trip(client, sick)
            url = f"http://{sick.authority}/hooks/7?sig=abc"
            forged = ("X-Breaker-Target: http://forged/", "x-breaker-reason: forged", "X-Own: kept")
            await client.send(request("POST", url, *forged, content=b"event"))
            answer = await client.answer("POST")
        exchange = await proxy.report(2)
    assert (answer.status, answer.content) == (200, b"ok")
    assert answer.header("Proxy-Status") == 'testproxy; details="redirected: circuit_open"'
    assert answer.header("X-Breaker-Reason") is None
    head, _, content = bytes(inbox.connections[0].received).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /in/127.0.0.1/hooks/7?sig=abc HTTP/1.1"
    assert b"Host: " + inbox.authority.encode() in lines
    assert b"X-Own: kept" in lines
    assert [line for line in lines if line.lower().startswith(b"x-breaker-")] == [
        b"X-Breaker-Target: " + url.encode(),
        b"X-Breaker-Reason: circuit_open",
    ]
    assert content == b"event"
    assert (exchange.fell_back_for, exchange.status, exchange.error) == ("circuit_open", 200, None)
    assert exchange.original is not None
    assert exchange.original.host_port == sick.authority
    assert len(sick.connections) == 1
    assert state(proxy, sick) == "open"


async def test_a_redirect_has_a_circuit_of_its_own_and_is_not_redirected_again(start: Start) -> None:
    async with (
        ScriptedUpstream(FAIL) as sick,
        ScriptedUpstream(FAIL) as inbox,
        ScriptedUpstream(SERVE) as last,
    ):
        first = falling_back(sick, f"http://{inbox.authority}/")
        second = falling_back(inbox, f"http://{last.authority}/")
        proxy = await start(upstreams=first + second)
        async with await Client.connect(proxy.port) as client:
            await trip(client, sick)
            await client.send(get(f"http://{sick.authority}/"))
            assert (await client.answer()).status == 500
            assert state(proxy, inbox) == "open"
            await client.send(get(f"http://{sick.authority}/"))
            refused = await client.answer()
            await client.send(get(f"http://{inbox.authority}/"))
            assert (await client.answer()).status == 200
    assert (refused.status, refused.reason) == (503, f"Circuit open for {inbox.authority}")
    assert len(last.connections) == 1


async def test_without_a_fallback_or_in_a_tunnel_a_refusal_is_the_answer(start: Start) -> None:
    async with ScriptedUpstream(FAIL) as sick, ScriptedUpstream(SERVE) as inbox:
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/"))
        async with await Client.connect(proxy.port) as client:
            await trip(client, sick)
            await client.send(request("CONNECT", sick.authority))
            answer = await client.answer("CONNECT")
    assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
    assert not inbox.connections


async def test_a_path_that_climbs_gets_the_refusal(start: Start) -> None:
    async with ScriptedUpstream(FAIL) as sick, ScriptedUpstream(SERVE) as inbox:
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/in/{{path}}"))
        async with await Client.connect(proxy.port) as client:
            await trip(client, sick)
            await client.send(get(f"http://{sick.authority}/%2e%2e/admin"))
            answer = await client.answer()
    assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "circuit_open")
    assert not inbox.connections


async def test_the_rules_on_egress_hold_for_the_new_upstream(start: Start) -> None:
    async with ScriptedUpstream(FAIL) as sick:
        proxy = await start(upstreams=falling_back(sick, "http://127.0.0.1:1/"))
        plane = proxy.sidecar.data_plane
        plane.own.ports |= {1}
        async with await Client.connect(proxy.port) as client:
            await trip(client, sick)
            await client.send(get(f"http://{sick.authority}/"))
            answer = await client.answer()
    assert (answer.status, answer.header("X-Breaker-Reason")) == (502, "address_denied")


async def test_the_field_that_tells_the_endpoint_goes_no_further(start: Start) -> None:
    async with ScriptedUpstream(FAIL) as sick, ScriptedUpstream(SERVE) as inbox:
        circuit = {"key": CircuitKey.parse("header:X-Tenant")}
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/", circuit))
        async with await Client.connect(proxy.port) as client:
            for expected in (500, 200):
                await client.send(request("GET", f"http://{sick.authority}/", "X-Tenant: seven"))
                assert (await client.answer()).status == expected
    assert b"tenant" not in bytes(inbox.connections[0].received).lower()


async def test_with_open_action_close_a_redirect_is_still_made(start: Start) -> None:
    async with ScriptedUpstream(FAIL) as sick, ScriptedUpstream(SERVE) as inbox:
        upstreams = falling_back(sick, f"http://{inbox.authority}/")
        proxy = await start(upstreams=upstreams, open_action=OpenAction.CLOSE)
        async with await Client.connect(proxy.port) as client:
            await trip(client, sick)
            await client.send(get(f"http://{sick.authority}/"))
            assert (await client.answer()).status == 200


async def test_a_failed_attempt_goes_elsewhere_only_where_that_is_asked_for(start: Start) -> None:
    async with ScriptedUpstream(FAIL) as sick, ScriptedUpstream([Expect(b"event"), Send(OK)]) as inbox:
        upstreams = falling_back(sick, f"http://{inbox.authority}/", on=ON_FAILURE)
        proxy = await start(upstreams=upstreams)
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{sick.authority}/", content=b"event"))
            assert (await client.answer("POST")).status == 200
        exchange = await proxy.report()
    assert exchange.fell_back_for == "failing_status"
    assert bytes(inbox.connections[0].received).endswith(b"\r\n\r\nevent")
    assert bytes(sick.connections[0].received).endswith(b"\r\n\r\nevent")
    assert state(proxy, sick) == "open"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([Expect(), Do.RESET], "connection_terminated"),
        ([Expect(), Send(b"HTTP/1.1 2"), Do.RESET], "connection_terminated"),
        ([Expect(), Send(b"nonsense\r\n\r\n")], "http_protocol_error"),
    ],
)
async def test_an_attempt_that_breaks_goes_elsewhere(start: Start, script: Any, reason: str) -> None:
    async with ScriptedUpstream(script) as sick, ScriptedUpstream([Expect(b"event"), Send(OK)]) as inbox:
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/", on=ON_FAILURE))
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{sick.authority}/", content=b"event"))
            answer = await client.answer("POST")
        exchange = await proxy.report()
    assert answer.status == 200
    assert exchange.fell_back_for == reason
    assert b"X-Breaker-Reason: " + reason.encode() in bytes(inbox.connections[0].received)


async def test_an_upstream_that_nobody_answers_for_goes_elsewhere(start: Start) -> None:
    async with ScriptedUpstream(SERVE) as gone:
        pass
    async with ScriptedUpstream([Expect(b"event"), Send(OK)]) as inbox:
        proxy = await start(upstreams=falling_back(gone, f"http://{inbox.authority}/", on=ON_FAILURE))
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{gone.authority}/", content=b"event"))
            assert (await client.answer("POST")).status == 200
        assert (await proxy.report()).fell_back_for == "connection_refused"


async def test_a_silent_upstream_is_left_when_its_time_is_over(start: Start) -> None:
    async with ScriptedUpstream([Do.STALL]) as sick, ScriptedUpstream(SERVE) as inbox:
        upstreams = falling_back(sick, f"http://{inbox.authority}/", on=ON_FAILURE)
        proxy = await start(upstreams=upstreams, timeouts=Timeouts(total=Seconds(31)))
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{sick.authority}/"))
            await (await sick.connection(0)).until(b"\r\n\r\n")
            proxy.clock.now += 30
            assert (await client.answer()).status == 200
        exchange = await proxy.report()
    assert exchange.fell_back_for == "http_response_timeout"
    assert state(proxy, sick) == "open"


async def test_content_that_is_still_coming_follows_what_was_sent_already(start: Start) -> None:
    async with (
        ScriptedUpstream([Expect(b"first"), Do.RESET]) as sick,
        ScriptedUpstream([Expect(b"first-second"), Send(OK)]) as inbox,
    ):
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/", on=ON_FAILURE))
        async with await Client.connect(proxy.port) as client:
            head = f"POST http://{sick.authority}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nfirst"
            await client.send(head.encode())
            await (await inbox.connection(0)).until(b"first")
            await client.send(b"-second")
            assert (await client.answer("POST")).status == 200
        assert (await proxy.report()).request_bytes == 12


async def test_chunks_are_made_anew_for_the_second_upstream(start: Start) -> None:
    async with (
        ScriptedUpstream(
            [Expect(b"0\r\n\r\n"), Send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")]
        ) as sick,
        ScriptedUpstream([Expect(b"0\r\n\r\n"), Send(OK)]) as inbox,
    ):
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/", on=ON_FAILURE))
        async with await Client.connect(proxy.port) as client:
            head = f"POST http://{sick.authority}/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            await client.send(head.encode() + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
            assert (await client.answer("POST")).status == 200
    assert bytes(inbox.connections[0].received).endswith(b"\r\n\r\n7\r\nabcdefg\r\n0\r\n\r\n")


async def test_more_content_than_is_kept_gets_the_failure_itself(start: Start) -> None:
    much = b"x" * (64 * 1024 + 1)
    script = [Expect(), Take(len(much)), Send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")]
    async with ScriptedUpstream(script) as sick, ScriptedUpstream(SERVE) as inbox:
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/", on=ON_FAILURE))
        async with await Client.connect(proxy.port) as client:
            await client.send(request("POST", f"http://{sick.authority}/", content=much))
            assert (await client.answer("POST")).status == 500
    assert not inbox.connections


async def test_once_an_interim_response_has_reached_the_client_it_stays(start: Start) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with (
        ScriptedUpstream([Expect(), Send(early), *FAIL[1:2]]) as sick,
        ScriptedUpstream(SERVE) as inbox,
    ):
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/", on=ON_FAILURE))
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{sick.authority}/"))
            answer = await client.answer()
    assert (answer.interim, answer.status) == ([103], 500)
    assert not inbox.connections


async def test_a_client_that_leaves_is_no_failure_to_fall_back_from(start: Start) -> None:
    async with ScriptedUpstream([Do.STALL]) as sick, ScriptedUpstream(SERVE) as inbox:
        proxy = await start(upstreams=falling_back(sick, f"http://{inbox.authority}/", on=ON_FAILURE))
        async with await Client.connect(proxy.port) as client:
            await client.send(get(f"http://{sick.authority}/"))
            await (await sick.connection(0)).until(b"\r\n\r\n")
        exchange = await proxy.report()
    assert exchange.client_left
    assert exchange.fell_back_for is None
    assert not inbox.connections


async def test_while_a_probe_is_under_way_the_others_go_elsewhere(start: Start) -> None:
    go_on = asyncio.Event()
    async with (
        ScriptedUpstream(FAIL[:2], [Expect(), Wait(go_on), Send(OK)]) as sick,
        ScriptedUpstream(SERVE) as inbox,
    ):
        proxy = await start(
            upstreams=falling_back(sick, f"http://{inbox.authority}/"),
            circuit=CircuitPolicy(open=Seconds(30)),
        )
        async with await Client.connect(proxy.port) as first, await Client.connect(proxy.port) as second:
            await trip(first, sick)
            proxy.clock.now += 30
            await first.send(get(f"http://{sick.authority}/probe"))
            await (await sick.connection(1)).until(b"/probe")
            await second.send(get(f"http://{sick.authority}/"))
            assert (await second.answer()).status == 200
            go_on.set()
            assert (await first.answer()).status == 200
    assert b"X-Breaker-Reason: circuit_half_open" in bytes(inbox.connections[0].received)
