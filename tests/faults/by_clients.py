"""Faults of clients, and of their requests."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from faults.by_upstreams import Provoke, asking_for
from faults.stage import Stage
from support.clients import connections
from support.credentials import OTHER, field, line
from support.dns import Trouble
from support.sidecar import SETTINGS
from support.turns import turns, until
from support.upstream import Do, Expect, ScriptedUpstream, Send

from proxy.core.egress import Egress, Hosts
from proxy.core.exchange import Entry
from proxy.core.host_pattern import HostPattern
from proxy.core.ports import Ports
from proxy.core.route import PathPrefix, Route, UpstreamUrl

# More than the kernels of both sides and the client's own buffer hold.
LONG = 32 * 1024 * 1024
TOO_LARGE = 40_000
TOO_MANY = 129


async def slow_request_head(stage: Stage) -> None:
    await stage.begin()
    await stage.client.send(stage.request("GET")[:-2])
    await until(lambda: not all(client.is_idle for client in connections(stage.proxy)))
    stage.proxy.clock.now += 15


async def slow_request_content(stage: Stage) -> None:
    upstream = await stage.upstream([Do.STALL])
    await stage.ask("POST", "Content-Length: 10", content=b"half")
    await (await upstream.connection(0)).until(b"half")
    stage.proxy.clock.now += 60


async def stops_reading(stage: Stage) -> None:
    await stage.upstream(
        [Expect(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG), Send(b"x" * LONG), Do.STALL]
    )
    await stage.ask()
    # An intercepted client's connection has gone on as another one, and the first of them goes.
    await until(lambda: len(connections(stage.proxy)) == 1)
    (client,) = connections(stage.proxy)
    # A reader that nobody asks stops its transport by itself, once it holds enough.
    await until(lambda: not stage.client.writer.transport.is_reading())  # type: ignore[attr-defined]
    await until(lambda: client.writing_paused)
    await turns(200)
    assert client.writing_paused
    stage.proxy.clock.now += 60
    await stage.report()


async def leave(stage: Stage, after_s: float) -> None:
    stage.proxy.clock.now += after_s
    stage.leave()


async def leaves_while_resolving(stage: Stage) -> None:
    server = await asking_for(stage, "silent", silent=Trouble.SILENT)
    await server.question("silent.test")
    await leave(stage, 4)


async def leaves_while_connecting(stage: Stage) -> None:
    await stage.unresponsive()
    await stage.ask()
    await stage.is_under_way()
    await leave(stage, 4)


async def _in_silence(stage: Stage) -> ScriptedUpstream:
    upstream = await stage.upstream([Do.STALL])
    await stage.ask()
    await (await upstream.connection(0)).until(b"\r\n\r\n")
    return upstream


async def leaves_in_silence(stage: Stage) -> None:
    await _in_silence(stage)
    await leave(stage, 4)


async def leaves_at_once(stage: Stage) -> None:
    if stage.entry is Entry.TUNNEL:
        await stage.unresponsive()
        await stage.ask()
        await stage.is_under_way()
    else:
        await _in_silence(stage)
    await leave(stage, 0)


# Their requests: no upstream is called.


def asking(method: str, *fields: str, version: str = "1.1") -> Provoke:
    """What sends a request with these fields."""

    async def provoke(stage: Stage) -> None:
        await stage.begin()
        await stage.client.send(stage.request(method, *fields, version=version))

    return provoke


async def target_too_long(stage: Stage) -> None:
    await stage.begin()
    stage.authority = "a" * TOO_LARGE + ":80"
    await stage.client.send(stage.request("GET", path="/" + "a" * TOO_LARGE))


async def no_token(stage: Stage) -> None:
    tokens = Path(stage.ends.enter_context(TemporaryDirectory())) / "tokens"
    tokens.write_text(line())
    await stage.begin(listen=replace(SETTINGS.listen, credentials_file=str(tokens)))
    await stage.ask("GET", field(token=OTHER))


async def origin_form(stage: Stage) -> None:
    await stage.begin()
    await stage.client.send(b"GET /hook HTTP/1.1\r\nHost: a\r\n\r\n")


async def no_route(stage: Stage) -> None:
    there = Route(upstream=UpstreamUrl.parse("http://a"), path=PathPrefix("/there"))
    await stage.begin(routes=(there,))
    await stage.ask()


async def odd_host(stage: Stage) -> None:
    """Where a route names the upstream, the host of the request still finds the route."""
    await stage.begin()
    stage.authority = "0x7f.1:80"
    asked = stage.request("GET").replace(b"Host: hooks.test", b"Host: 0x7f.1")
    await stage.client.send(asked)


async def host_denied(stage: Stage) -> None:
    await stage.begin(egress=Egress(hosts=Hosts(deny=(HostPattern("*.invalid"),))))
    await stage.ask()


async def port_denied(stage: Stage) -> None:
    await stage.begin(egress=Egress(connect_ports=Ports.parse([443])))
    await stage.ask()


PROVOKE: dict[str, Provoke] = {
    "slow_request_head": slow_request_head,
    "slow_request_content": slow_request_content,
    "stops_reading": stops_reading,
    "leaves_while_resolving": leaves_while_resolving,
    "leaves_while_connecting": leaves_while_connecting,
    "leaves_in_silence": leaves_in_silence,
    "leaves_at_once": leaves_at_once,
    "bad_request": asking("GET", "Host: b"),
    "target_too_long": target_too_long,
    "request_head_too_large": asking("GET", *["X: " + "y" * (TOO_LARGE // 10)] * 10),
    "request_field_too_long": asking("GET", "X: " + "y" * TOO_LARGE),
    "too_many_fields": asking("GET", *["X: y"] * TOO_MANY),
    "unknown_version": asking("GET", version="2.0"),
    "unknown_coding": asking("POST", "Transfer-Encoding: gzip, chunked"),
    "no_token": no_token,
    "origin_form": origin_form,
    "no_route": no_route,
    "odd_host": odd_host,
    "host_denied": host_denied,
    "port_denied": port_denied,
    "loop": asking("GET", "Via: 1.1 testproxy"),
    "max_forwards": asking("OPTIONS", "Max-Forwards: 0"),
    "max_forwards_of_trace": asking("TRACE", "Max-Forwards: 0"),
}
