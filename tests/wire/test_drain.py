"""The drain: what holds it and what does not, what is told meanwhile, and how what is left is ended."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from support.client import Client, get, request, tunnel
from support.clients import connections, taken_in
from support.interception import sections, trusting
from support.narrow import NarrowClient, narrow_legs
from support.sidecar import Running, Start
from support.tls_client import TlsClient, inside
from support.turns import turns, until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Wait, tls_upstream
from support.ways import ACCEPT, LISTEN, OPAQUE

from proxy.core.egress import Egress
from proxy.core.policy import CircuitPolicy, Drain, Limits, Timeouts
from proxy.core.quantities import Seconds
from proxy.core.route import PathPrefix, Route, UpstreamUrl
from proxy.wire import drain
from proxy.wire.drain import IDLE_AFTER_S
from proxy.wire.resolver import Resolver

QUIET_S, TIMEOUT_S = 3, 100
DRAIN = Drain(quiet=Seconds(QUIET_S), timeout=Seconds(TIMEOUT_S))
# Nothing but the drain ends anything here.
TIMEOUTS = Timeouts(head=Seconds(1000), body_idle=Seconds(1000), request_head=Seconds(1000))
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
# More than a narrow window holds, and less than stops the upstream.
LAST = bytes(range(256)) * 60
TICKS = 5
# So many turns after its beginning, the stop has told everybody.
_TURNS_TO_END = 5


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked in every turn, so that nobody has to wait for that."""
    monkeypatch.setattr(drain, "_TICK_S", 0)


@dataclass
class Stage:
    """A sidecar that drains, whom it serves, and how that goes on."""

    start: Start
    patch: pytest.MonkeyPatch
    resources: AsyncExitStack
    go: asyncio.Event = field(default_factory=asyncio.Event)
    clients: list[Client] = field(default_factory=list)
    running: Running | None = None
    task: asyncio.Task[None] | None = None

    @property
    def proxy(self) -> Running:
        assert self.running is not None
        return self.running

    @property
    def is_drained(self) -> bool:
        assert self.task is not None
        return self.task.done()

    async def upstream(self, *steps: Step, tls: bool = False) -> ScriptedUpstream:
        made = tls_upstream(steps) if tls else ScriptedUpstream(steps)
        return await self.resources.enter_async_context(made)

    async def begin(self, **changes: object) -> None:
        self.running = await self.start(**{"drain": DRAIN, "timeouts": TIMEOUTS} | changes)

    async def client(self, made: Awaitable[Client] | None = None) -> Client:
        client = await (made or Client.connect(self.proxy.port))
        self.clients.append(client)
        return await self.resources.enter_async_context(client)

    async def drain(self) -> None:
        """Begins."""
        self.task = asyncio.create_task(self.proxy.sidecar.drain())
        await turns()

    async def after(self, seconds: float) -> bool:
        """Whether it is over when so much more time has passed."""
        self.proxy.clock.now += seconds
        await turns()
        return self.is_drained

    async def is_over_when_quiet(self) -> None:
        """It is over once nothing has been under way for `drain.quiet`, and not sooner."""
        assert not await self.after(QUIET_S - 0.1)
        assert await self.after(0.1)


Play = Callable[[Stage], Awaitable[None]]


@pytest.fixture
async def stage(start: Start, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as resources:
        playing = Stage(start, monkeypatch, resources)
        yield playing
        if playing.task is not None:
            playing.task.cancel()


# What holds it.


async def request_under_way(stage: Stage) -> None:
    upstream = await stage.upstream(Expect(), Wait(stage.go), Send(OK))
    await stage.begin()
    client = await stage.client()
    await client.send(get(f"http://{upstream.authority}/"))
    await (await upstream.connection(0)).until(b"\r\n\r\n")


async def route_under_way(stage: Stage) -> None:
    upstream = await stage.upstream(Expect(), Wait(stage.go), Send(OK))
    url = UpstreamUrl.parse(f"http://{upstream.authority}")
    await stage.begin(listen=LISTEN, routes=(Route(path=PathPrefix("/a"), upstream=url),))
    client = await stage.client(Client.connect(stage.proxy.sidecar.reverse_port))
    await client.send(b"GET /a HTTP/1.1\r\nHost: proxy\r\n\r\n")
    await (await upstream.connection(0)).until(b"\r\n\r\n")


async def intercepted_under_way(stage: Stage) -> None:
    upstream = await stage.upstream(Expect(), Wait(stage.go), Send(OK), tls=True)
    await stage.begin(**sections())
    client = await stage.client(TlsClient.through(stage.proxy.port, upstream.authority))
    await client.send(inside("GET", upstream.authority))
    await (await upstream.connection(0)).until(b"\r\n\r\n")


async def content_under_way(stage: Stage) -> None:
    upstream = await stage.upstream(Expect(b"half"), Wait(stage.go), Send(OK))
    await stage.begin()
    client = await stage.client()
    await client.send(request("POST", f"http://{upstream.authority}/", "Content-Length: 8") + b"half")
    await (await upstream.connection(0)).until(b"half")


async def event_stream(stage: Stage) -> None:
    """Its silence is no end: what makes it a request and no tunnel is that we see where it ends."""
    upstream = await stage.upstream(Expect(), Send(EVENTS), Wait(stage.go))
    await stage.begin()
    client = await stage.client()
    await client.send(get(f"http://{upstream.authority}/"))
    await client.reader.readuntil(b"data: 1\n\n")


async def not_intercepted_after_all(stage: Stage) -> None:
    """Its client has said that it speaks HTTP/2 only, and waits for its tunnel."""
    lookup = asyncio.Event()
    resolve = Resolver.resolve

    async def late(self: Resolver, *arguments: Any) -> Any:
        lookup.set()
        await stage.go.wait()
        return await resolve(self, *arguments)

    stage.patch.setattr(Resolver, "resolve", late)
    await stage.begin(**sections())
    client = await TlsClient.standing(stage.proxy.port, "localhost:9", trusting("h2"))
    await stage.client(_itself(client))
    await client.send_raw(client.inside.hello())
    await lookup.wait()


async def last_bytes(stage: Stage) -> None:
    """The exchange is over, and its client is slow to read what is left of the answer."""
    content = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(LAST), LAST)
    upstream = await stage.upstream(Expect(), Send(content))
    await stage.begin()
    client = await NarrowClient.connect_to(stage.proxy)
    await stage.client(_itself(client))
    await client.send(get(f"http://{upstream.authority}/"))
    await stage.proxy.report()
    assert client.proxy_side.get_write_buffer_size()

    async def read() -> None:
        await stage.go.wait()
        client.read_on()

    reading = asyncio.create_task(read())
    stage.resources.callback(reading.cancel)


async def _itself(client: Client) -> Client:
    return client


HOLD: list[Play] = [
    request_under_way,
    route_under_way,
    intercepted_under_way,
    content_under_way,
    event_stream,
    not_intercepted_after_all,
    last_bytes,
]


@pytest.mark.parametrize("play", HOLD)
async def test_what_is_under_way_holds_it(stage: Stage, play: Play) -> None:
    await play(stage)
    await stage.drain()
    assert not await stage.after(QUIET_S)
    assert not await stage.after(QUIET_S)
    stage.go.set()
    sidecar = stage.proxy.sidecar
    await until(
        lambda: not sidecar.data_plane.handler.in_flight and not sidecar.data_plane.clients.are_written_to
    )
    await turns(TICKS)
    if play is last_bytes:
        # Nothing has ended since, but what was written is only now gone.
        assert stage.is_drained
    else:
        await stage.is_over_when_quiet()


@pytest.mark.parametrize("play", HOLD)
async def test_nothing_holds_it_beyond_its_timeout(stage: Stage, play: Play) -> None:
    await play(stage)
    await stage.drain()
    assert not await stage.after(TIMEOUT_S - 1)
    assert await stage.after(1)


# What does not hold it.


async def nothing(stage: Stage) -> None:
    await stage.begin()


async def idle_client(stage: Stage) -> None:
    upstream = await stage.upstream(Expect(), Send(OK), Do.STALL)
    await stage.begin()
    client = await stage.client()
    await client.send(get(f"http://{upstream.authority}/"))
    assert (await client.answer()).status == 200


async def within_a_head(stage: Stage) -> None:
    taken = taken_in(stage.patch)
    await stage.begin()
    client = await stage.client()
    await client.send(b"GET http://a/ HTTP/1.1\r\nHost")
    await taken.until(10)


async def idle_inside_of_tls(stage: Stage) -> None:
    await stage.begin(**sections())
    await stage.client(TlsClient.through(stage.proxy.port, "localhost:9"))
    await stage.proxy.report()


async def connect_without_a_hello(stage: Stage) -> None:
    await stage.begin(**sections())
    await stage.client(TlsClient.standing(stage.proxy.port, "localhost:9"))
    assert stage.proxy.sidecar.data_plane.handler.in_flight == 1


@pytest.mark.parametrize(
    "play", [nothing, idle_client, within_a_head, idle_inside_of_tls, connect_without_a_hello]
)
async def test_where_nothing_is_under_way_it_is_over_after_quiet(stage: Stage, play: Play) -> None:
    await play(stage)
    await stage.drain()
    await stage.is_over_when_quiet()


async def fresh_tunnel(stage: Stage) -> None:
    upstream = await stage.upstream(Do.STALL)
    await stage.begin()
    await stage.client(tunnel(stage.proxy.port, upstream.authority))


async def silent_tunnel(stage: Stage) -> None:
    """Its client has spoken, and what it waits for nobody can see."""
    upstream = await stage.upstream(Do.STALL)
    await stage.begin()
    await stage.client(tunnel(stage.proxy.port, upstream.authority, OPAQUE))
    await (await upstream.connection(0)).until(OPAQUE)


async def used_tunnel(stage: Stage) -> None:
    upstream = await stage.upstream(Expect(OPAQUE), Send(b"answer"), Do.STALL)
    await stage.begin()
    client = await stage.client(tunnel(stage.proxy.port, upstream.authority, OPAQUE))
    await client.reader.readexactly(len(b"answer"))


async def websocket(stage: Stage) -> None:
    upstream = await stage.upstream(Expect(), Send(ACCEPT), Do.STALL)
    await stage.begin()
    client = await stage.client()
    await client.send(get(f"http://{upstream.authority}/", "Upgrade: websocket", "Connection: Upgrade"))
    await client.reader.readuntil(b"\r\n\r\n")


TUNNELS: list[Play] = [fresh_tunnel, silent_tunnel, used_tunnel, websocket]


@pytest.mark.parametrize("play", TUNNELS)
async def test_a_tunnel_holds_it_until_it_has_been_idle_for_a_second(stage: Stage, play: Play) -> None:
    await play(stage)
    stage.proxy.clock.now += IDLE_AFTER_S - 0.1
    await stage.drain()
    # Nothing has ended, so that `quiet` is counted from the beginning.
    assert not await stage.after(0.1)
    assert await stage.after(QUIET_S - 0.1)


@pytest.mark.parametrize("speaks", ["client", "upstream"])
async def test_a_tunnel_that_is_used_holds_it(stage: Stage, speaks: str) -> None:
    asked = [asyncio.Event() for _ in range(10)]
    steps: list[Step] = [step for event in asked for step in (Wait(event), Send(b"!"))]
    upstream = await stage.upstream(Send(b"hi"), *(steps if speaks == "upstream" else []), Do.STALL)
    await stage.begin()
    client = await stage.client(tunnel(stage.proxy.port, upstream.authority))
    await client.reader.readexactly(2)
    await stage.drain()
    for number, event in enumerate(asked, 1):
        assert not await stage.after(IDLE_AFTER_S - 0.1)
        if speaks == "client":
            await client.send(OPAQUE)
            await (await upstream.connection(0)).until(OPAQUE * number)
        else:
            event.set()
            await client.reader.readexactly(1)
    assert not await stage.after(IDLE_AFTER_S - 0.1)
    assert await stage.after(0.1)


async def test_a_tunnel_whose_client_does_not_read_holds_it(stage: Stage) -> None:
    upstream = await stage.upstream(Send(LAST), Do.STALL)
    await stage.begin()
    client = await NarrowClient.connect_to(stage.proxy)
    await stage.client(_itself(client))
    await client.send(request("CONNECT", upstream.authority))
    await until(client.proxy_side.get_write_buffer_size)
    await stage.drain()
    assert not await stage.after(QUIET_S + IDLE_AFTER_S)
    client.read_on()
    await until(lambda: stage.is_drained)


async def test_a_tunnel_whose_upstream_does_not_read_holds_it(stage: Stage) -> None:
    legs = narrow_legs(stage.patch)
    upstream = await stage.upstream(Send(b"hi"), Wait(stage.go), Do.STALL)
    await stage.begin()
    client = await stage.client(tunnel(stage.proxy.port, upstream.authority))
    await client.reader.readexactly(2)
    client.writer.write(b"\0" * 64_000_000)
    await until(legs[0].transport.get_write_buffer_size)
    await turns()
    await stage.drain()
    assert not await stage.after(QUIET_S + IDLE_AFTER_S)
    legs[0].widen()
    stage.go.set()
    await until(lambda: stage.proxy.sidecar.data_plane.clients.resting(stage.proxy.clock.now))
    assert await stage.after(IDLE_AFTER_S)


async def _refused(stage: Stage, upstream: ScriptedUpstream, count: int) -> None:
    """So many requests, each on a connection of its own, are refused by a circuit."""
    for _ in range(count):
        async with await Client.connect(stage.proxy.port) as client:
            await client.send(get(f"http://{upstream.authority}/"))
            assert (await client.answer()).header("X-Breaker-Reason") == "circuit_open"


async def test_refusals_do_not_hold_it(stage: Stage) -> None:
    upstream = await stage.upstream(Do.RESET)
    await stage.begin(circuit=CircuitPolicy(consecutive_failures=1))
    client = await stage.client()
    await client.send(get(f"http://{upstream.authority}/"))
    assert (await client.answer()).status == 502
    await stage.drain()
    for _ in range(2 * QUIET_S - 1):
        await _refused(stage, upstream, 3)
        assert not await stage.after(0.5)
    await _refused(stage, upstream, 3)
    assert await stage.after(0.5)


async def test_calls_that_a_limit_refuses_behind_their_admission_do_not_hold_it(stage: Stage) -> None:
    upstream = await stage.upstream(Do.STALL)
    await stage.begin(limits=Limits(max_tunnels=1))
    await stage.client(tunnel(stage.proxy.port, upstream.authority))
    stage.proxy.clock.now += IDLE_AFTER_S
    await stage.drain()
    assert not await stage.after(QUIET_S - 0.1)
    async with await Client.connect(stage.proxy.port) as client:
        await client.send(request("CONNECT", upstream.authority))
        assert (await client.answer("CONNECT")).header("X-Breaker-Reason") == "local_limit"
    assert await stage.after(0.1)


async def test_addresses_that_are_denied_do_not_hold_it(stage: Stage) -> None:
    """A name has to be resolved for that, by an exchange that has begun."""
    await stage.begin(egress=Egress())
    await stage.drain()
    assert not await stage.after(QUIET_S - 0.1)
    async with await Client.connect(stage.proxy.port) as client:
        await client.send(get("http://localhost:9/"))
        assert (await client.answer()).header("X-Breaker-Reason") == "address_denied"
    assert stage.proxy.sidecar.data_plane.handler.begun
    assert await stage.after(0.1)


async def test_failed_calls_count_like_others(stage: Stage) -> None:
    upstream = await stage.upstream(Do.RESET)
    await stage.begin()
    await stage.drain()
    assert not await stage.after(QUIET_S - 0.1)
    async with await Client.connect(stage.proxy.port) as client:
        await client.send(get(f"http://{upstream.authority}/"))
        assert (await client.answer()).status == 502
    await stage.is_over_when_quiet()


# What is told meanwhile.


async def test_each_answer_is_the_last_one_on_its_connection(stage: Stage) -> None:
    """That of the upstream, one of our own, and one inside of TLS."""
    upstream = await stage.upstream(*[Expect(), Send(OK)] * 3)
    await stage.begin()
    client = await stage.client()
    await client.send(get(f"http://{upstream.authority}/1"))
    assert (await client.answer()).header("Connection") is None
    await stage.drain()
    await client.send(get(f"http://{upstream.authority}/2"))
    answer = await client.answer()
    assert (answer.status, answer.header("Connection")) == (200, "close")
    assert await client.rest() == b""
    # The connection to the upstream is none of its business.
    assert len(upstream.connections) == 1
    other = await stage.client()
    await other.send(request("OPTIONS", f"http://{upstream.authority}/", "Max-Forwards: 0"))
    answer = await other.answer("OPTIONS")
    assert (answer.header("X-Breaker-Reason"), answer.header("Connection")) == ("max_forwards", "close")
    assert await other.rest() == b""


async def test_inside_of_tls_each_answer_is_the_last_one_as_well(stage: Stage) -> None:
    upstream = await stage.upstream(*[Expect(), Send(OK)] * 2, tls=True)
    await stage.begin(**sections())
    client = await stage.client(TlsClient.through(stage.proxy.port, upstream.authority))
    await client.send(inside("GET", upstream.authority))
    assert (await client.answer()).header("Connection") is None
    await stage.drain()
    await client.send(inside("GET", upstream.authority))
    answer = await client.answer()
    assert (answer.status, answer.header("Connection")) == (200, "close")
    client.close()
    await until(lambda: not stage.proxy.sidecar.data_plane.clients)


@pytest.mark.parametrize("comes", ["in one segment", "later"])
async def test_what_is_pipelined_behind_the_last_answer_is_not_processed(stage: Stage, comes: str) -> None:
    """RFC 9112 section 9.6: the server MUST NOT; and its client reads the answer, whatever it sends."""
    upstream = await stage.upstream(Expect(), Wait(stage.go), Send(OK), Do.STALL)
    await stage.begin()
    first, second = (get(f"http://{upstream.authority}/{number}") for number in (1, 2))
    client = await stage.client()
    await client.send(first + second if comes == "in one segment" else first)
    await (await upstream.connection(0)).until(b"/1")
    await stage.drain()
    if comes == "later":
        await client.send(second)
    stage.go.set()
    answer = await client.answer()
    assert (answer.status, answer.header("Connection")) == (200, "close")
    # More is sent than would be read: closing at once would reset the connection.
    await client.send(second * 100)
    assert await client.rest() == b""
    assert b"/2" not in upstream.connections[0].received
    assert len(stage.proxy.exchanges) == 1


# The end.


async def stopped(stage: Stage) -> None:
    """Ends it, and fails if it waits for anybody."""
    stage.patch.setattr(drain, "LAST_WORDS_S", 60.0)
    async with asyncio.timeout(5):
        await stage.proxy.sidecar.stop()


async def told(client: Client, method: str = "GET") -> None:
    answer = await client.answer(method)
    assert (answer.status, answer.header("X-Breaker-Reason")) == (503, "draining")
    assert answer.header("Connection") == "close"
    assert answer.header("Retry-After") == "1"


def past_the_loop(client: Client, text: bytes) -> None:
    """Has the kernel take it at once."""
    writer = client.inside.writer if isinstance(client, TlsClient) else client.writer
    assert os.write(writer.get_extra_info("socket").fileno(), text) == len(text)


async def test_requests_that_have_arrived_are_told(stage: Stage) -> None:
    """On a kept connection, inside of TLS, and on one that has not even been accepted."""
    await stage.begin(**sections())
    kept = await stage.client()
    await kept.send(request("OPTIONS", "http://a.test/", "Max-Forwards: 0"))
    await kept.answer("OPTIONS")
    within = await TlsClient.through(stage.proxy.port, "localhost:9")
    await stage.client(_itself(within))
    await stage.proxy.report(2)
    await turns()
    new = socket.create_connection(("127.0.0.1", stage.proxy.port))
    new.sendall(get("http://localhost:9/"))
    past_the_loop(kept, get("http://localhost:9/"))
    past_the_loop(within, within.inside.encrypted(inside("GET", "localhost:9")))
    await stopped(stage)
    await told(await stage.client(_on(new)))
    await told(kept)
    await told(within)
    assert [exchange.error.reason for exchange in stage.proxy.exchanges[2:] if exchange.error] == [
        "draining"
    ] * 3


async def _on(raw: socket.socket) -> Client:
    raw.settimeout(0)
    return Client(*await asyncio.open_connection(sock=raw))


async def test_one_in_the_middle_of_a_head_is_told(stage: Stage) -> None:
    await within_a_head(stage)
    (connection,) = connections(stage.proxy)
    assert not connection.is_idle
    stopping = asyncio.create_task(stage.proxy.sidecar.stop())
    client = stage.clients[-1]
    await told(client)
    assert await client.rest() == b""
    client.close()
    async with asyncio.timeout(drain.LAST_WORDS_S):
        await stopping


async def test_one_in_the_middle_of_content_gets_to_read_it(stage: Stage) -> None:
    """Closing while it sends would reset the connection, and break what it writes before it reads."""
    upstream = await stage.upstream(Expect(b"half"), Do.STALL)
    await stage.begin()
    client = await stage.client()
    await client.send(request("POST", f"http://{upstream.authority}/", "Content-Length: 1000000") + b"half")
    await (await upstream.connection(0)).until(b"half")
    async with sending_meanwhile(stage, client):
        await told(client, "POST")
        assert await client.rest() == b""


@asynccontextmanager
async def sending_meanwhile(stage: Stage, client: Client) -> AsyncIterator[None]:
    """A client that sends on through the stop, and only then reads."""
    transport = cast("asyncio.Transport", client.writer.transport)
    transport.pause_reading()
    stopping = asyncio.create_task(stage.proxy.sidecar.stop())
    await turns()
    for _ in range(10):
        await client.send(bytes(5_000))
        await turns()
    transport.resume_reading()
    yield
    client.close()
    await stopping


async def test_one_whose_content_nobody_waited_for_gets_to_read_its_answer(stage: Stage) -> None:
    upstream = await stage.upstream(Do.RESET)
    await stage.begin(circuit=CircuitPolicy(consecutive_failures=1))
    url = f"http://{upstream.authority}/"
    client = await stage.client()
    await client.send(get(url))
    assert (await client.answer()).status == 502
    await client.send(request("POST", url, "Content-Length: 60000") + b"some")
    await stage.proxy.report(2)
    async with sending_meanwhile(stage, client):
        answer = await client.answer("POST")
        assert (answer.header("X-Breaker-Reason"), answer.header("Connection")) == ("circuit_open", None)
        assert await client.rest() == b""


async def test_inside_of_tls_an_answer_has_an_orderly_end(stage: Stage) -> None:
    stage.patch.setattr(drain, "LAST_WORDS_S", 0.1)
    upstream = await stage.upstream(Expect(b"half"), Do.STALL, tls=True)
    await stage.begin(**sections())
    client = await TlsClient.through(stage.proxy.port, upstream.authority)
    await stage.client(_itself(client))
    await client.send(inside("POST", upstream.authority, "/", "Content-Length: 8") + b"half")
    await (await upstream.connection(0)).until(b"half")
    await stage.proxy.sidecar.stop()
    await told(client, "POST")
    assert await client.rest() == b""
    assert not client.inside.was_cut


async def test_one_who_goes_on_sending_for_ever_does_not_hold_it(stage: Stage) -> None:
    stage.patch.setattr(drain, "LAST_WORDS_S", 0.1)
    await content_under_way(stage)
    async with asyncio.timeout(5):
        await stage.proxy.sidecar.stop()
    await told(stage.clients[-1], "POST")


async def test_one_who_reads_nothing_does_not_hold_it(stage: Stage) -> None:
    stage.patch.setattr(drain, "LAST_WORDS_S", 0.1)
    await last_bytes(stage)
    async with asyncio.timeout(5):
        await stage.proxy.sidecar.stop()
    assert not stage.proxy.sidecar.data_plane.clients


@pytest.mark.parametrize("turn", range(1, 8))
async def test_an_upstream_that_answers_just_then_is_in_time_or_too_late(stage: Stage, turn: int) -> None:
    """Its client gets one whole answer, and nothing behind it."""
    legs = narrow_legs(stage.patch)
    await request_under_way(stage)
    stopping = asyncio.create_task(stage.proxy.sidecar.stop())
    await turns(turn)
    # As the loop would, in its turn before that task's.
    legs[0].forwarding.data_received(OK)
    await stopping
    answer = await stage.clients[0].answer()
    assert answer.status in ((200, 503) if turn < _TURNS_TO_END else (503,))
    assert answer.header("Connection") == "close"
    assert await stage.clients[0].rest() == b""


@pytest.mark.parametrize("play", [*TUNNELS, event_stream, connect_without_a_hello])
async def test_what_has_begun_is_cut(stage: Stage, play: Play) -> None:
    await play(stage)
    await stopped(stage)
    client = stage.clients[-1]
    with suppress(ConnectionError):
        assert b"503" not in await client.rest()
    assert stage.proxy.exchanges[-1].error is not None
    assert stage.proxy.exchanges[-1].error.reason == "draining"
    assert str(stage.proxy.exchanges[-1].outcome) in ("neutral", "success")
