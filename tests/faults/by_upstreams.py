"""Faults on the way to the upstream, and its own."""

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from faults.stage import WITH_ROUTES, Stage
from support.dns import DnsServer, Known, Trouble
from support.narrow import narrow_legs
from support.ports import reserved
from support.sidecar import SETTINGS
from support.turns import turns, until
from support.upstream import OK, Do, Expect, Script, Send, Wait

from proxy.core.egress import Egress
from proxy.core.policy import Dns, Endpoint, Limits, Timeouts
from proxy.core.quantities import Bytes, Seconds
from proxy.wire.upstream import UpstreamConnection

Provoke = Callable[[Stage], Awaitable[None]]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TEN = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
SMALL_HEAD = Limits(max_head=Bytes(4096))
# More than the kernels of both sides take of an upload.
UPLOAD = 8 * 1024 * 1024


# On the way.


async def refused(stage: Stage) -> None:
    await stage.refused()
    await stage.ask()


async def unreachable(stage: Stage) -> None:
    # The kernel itself refuses a broadcast address for TCP, at once.
    await stage.begin("255.255.255.255:9")
    await stage.ask()


async def connect_timeout(stage: Stage) -> None:
    await stage.unresponsive(timeouts=Timeouts(connect=Seconds(3)))
    await stage.ask()
    await stage.is_under_way()
    stage.proxy.clock.now += 3


async def asking_for(stage: Stage, name: str, egress: Egress = SETTINGS.egress, **names: Known) -> DnsServer:
    """Asks for a name of a DNS server that knows these."""
    server = await stage.ends.enter_async_context(DnsServer({f"{name}.test": n for name, n in names.items()}))
    dns = Dns(servers=(Endpoint("127.0.0.1", server.port),))
    await stage.begin(f"{name}.test:80", dns=dns, egress=egress)
    await stage.ask()
    return server


async def no_such_name(stage: Stage) -> None:
    await asking_for(stage, "absent")


async def resolver_fails(stage: Stage) -> None:
    await asking_for(stage, "broken", broken=Trouble.SERVFAIL)


async def resolver_silent(stage: Stage) -> None:
    server = await asking_for(stage, "silent", silent=Trouble.SILENT)
    await server.question("silent.test")
    stage.proxy.clock.now += 5


async def address_denied(stage: Stage) -> None:
    await stage.refused(egress=Egress())
    await stage.ask()


async def addresses_of_name_denied(stage: Stage) -> None:
    await asking_for(stage, "inside", egress=Egress(), inside=["127.0.0.1", "10.0.0.1", "::1"])


async def own_listener(stage: Stage) -> None:
    port = stage.ends.enter_context(reserved())
    listen = replace(WITH_ROUTES, proxy=Endpoint("127.0.0.1", port))
    await stage.begin(f"127.0.0.1:{port}", listen=listen)
    await stage.ask()


async def no_descriptor(stage: Stage) -> None:
    await stage.upstream([Do.STALL])
    await until(lambda: len(stage.proxy.sidecar.data_plane.clients))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        await stage.ask()
        await stage.report()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Its answer.


async def scripted(stage: Stage, *script: Send | Do) -> None:
    """The upstream reads the request, and does this; what comes behind it is its end."""
    await stage.upstream([Expect(), *script], limits=SMALL_HEAD)
    await stage.ask()


async def silent(stage: Stage) -> None:
    upstream = await stage.upstream([Do.STALL])
    await stage.ask()
    await (await upstream.connection(0)).until(b"\r\n\r\n")
    stage.proxy.clock.now += 30


async def slow_head(stage: Stage) -> None:
    legs = narrow_legs(stage.patch)
    drops = (b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n", b"Y: 2\r\n")
    gates = [asyncio.Event() for _ in drops]
    script: Script = [
        Expect(),
        *(step for gate, text in zip(gates, drops, strict=True) for step in (Wait(gate), Send(text))),
        Do.STALL,
    ]
    await stage.upstream(script)
    await stage.ask()
    received = 0
    await stage.is_under_way()
    for gate, text in zip(gates, drops, strict=True):
        gate.set()
        received += len(text)
        await until(lambda received=received: legs and legs[0].received == received)  # type: ignore[misc]
        stage.proxy.clock.now += 10


async def in_content(stage: Stage, *script: Send) -> None:
    """The upstream has begun its content, and goes on so when that has arrived."""
    go_on = asyncio.Event()
    await stage.upstream([Expect(), script[0], Wait(go_on), *script[1:]])
    await stage.ask()
    assert await stage.client.hears()
    go_on.set()


async def reset_in_content(stage: Stage) -> None:
    go_on = asyncio.Event()
    await stage.upstream([Expect(), Send(TEN + b"half"), Wait(go_on), Do.RESET])
    await stage.ask()
    assert await stage.client.hears()
    go_on.set()


async def silent_content(stage: Stage) -> None:
    await stage.upstream([Expect(), Send(TEN + b"half"), Do.STALL])
    await stage.ask()
    assert await stage.client.hears()
    stage.proxy.clock.now += 60


async def cut_for_http_1_0(stage: Stage) -> None:
    await stage.upstream([Expect(), Send(CHUNKED + b"4\r\nhalf\r\n")])
    await stage.client.send(stage.request("GET", version="1.0"))


async def kept_alive(stage: Stage, method: str, content: bytes) -> None:
    """The upstream closes a connection as it gets its second request there."""
    end = content or b"\r\n\r\n"
    upstream = await stage.upstream([Expect(end), Send(OK), Expect(end)], [Expect(end), Send(OK), Do.STALL])
    length = f"Content-Length: {len(content)}"
    await stage.ask(method, length, content=content)
    assert (await stage.is_over()).status == 200
    await until(lambda: stage.proxy.sidecar.data_plane.pool.idle)
    stage.ready()
    await stage.ask(method, length, content=content)
    await until(lambda: upstream.connections[0].received.count(b"/hook") == 2)


async def upload_not_read(stage: Stage) -> None:
    legs = narrow_legs(stage.patch)
    # Its kernel would take a last kilobyte at any time.
    stage.patch.setattr(UpstreamConnection, "resume_writing", lambda _: None)
    await stage.upstream([Expect(), Wait(asyncio.Event())])
    stage.client.writer.write(stage.request("POST", f"Content-Length: {UPLOAD}") + b"x" * UPLOAD)
    await until(lambda: legs and legs[0].forwarding.writing_paused)
    await turns()
    stage.proxy.clock.now += 30


PROVOKE: dict[str, Provoke] = {
    "refused": refused,
    "unreachable": unreachable,
    "connect_timeout": connect_timeout,
    "no_such_name": no_such_name,
    "resolver_fails": resolver_fails,
    "resolver_silent": resolver_silent,
    "address_denied": address_denied,
    "addresses_of_name_denied": addresses_of_name_denied,
    "own_listener": own_listener,
    "no_descriptor": no_descriptor,
    "silent": silent,
    "slow_head": slow_head,
    "reset_before_head": lambda stage: scripted(stage, Do.RESET),
    "closed_before_head": scripted,
    "cut_in_head": lambda stage: scripted(stage, Send(b"HTTP/1.1 200 OK\r\nContent-")),
    "malformed_head": lambda stage: scripted(stage, Send(b"SSH-2.0-OpenSSH\r\n"), Do.STALL),
    "large_head": lambda stage: scripted(stage, Send(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5000), Do.STALL),
    "too_many_fields_of_response": lambda stage: scripted(
        stage, Send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 129 + b"\r\n"), Do.STALL
    ),
    "coding_of_response": lambda stage: scripted(
        stage, Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), Do.STALL
    ),
    "too_many_interim": lambda stage: scripted(
        stage, Send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17), Do.STALL
    ),
    "switch_unasked": lambda stage: scripted(
        stage,
        Send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        Do.STALL,
    ),
    "reset_in_content": reset_in_content,
    "short_content": lambda stage: in_content(stage, Send(TEN + b"half")),
    "no_last_chunk": lambda stage: in_content(stage, Send(CHUNKED + b"4\r\nhalf\r\n")),
    "bad_chunk": lambda stage: in_content(stage, Send(CHUNKED + b"4\r\nhalf\r\n"), Send(b"zz\r\n")),
    "silent_content": silent_content,
    "cut_for_http_1_0": cut_for_http_1_0,
    "kept_alive_repeated": partial(kept_alive, method="GET", content=b""),
    "kept_alive_closed": partial(kept_alive, method="POST", content=b"event"),
    "upload_not_read": upload_not_read,
}
