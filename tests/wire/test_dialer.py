"""What the kernel answers to a dial, which address is tried next, and what a cancelled try leaves behind."""

import asyncio
import errno
import itertools
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.dns import DnsServer, Trouble
from support.legs import leg
from support.ports import refusing, unresponsive
from support.process import free_port
from support.upstream import OK, Do, ScriptedUpstream, Send

from proxy.core.acl import NOWHERE, OwnListeners
from proxy.core.address import IpAddress, Network
from proxy.core.answers import MOST_PER_FAMILY
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.errors import (
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    DestinationIpUnroutable,
    DnsError,
    LocalLimit,
    ProxyError,
)
from proxy.core.exchange import FOREVER, Awaited, Entry, Exchange
from proxy.core.policies import Policies
from proxy.core.policy import Dns, Endpoint, Settings, Timeouts
from proxy.core.quantities import Seconds
from proxy.core.target import Target
from proxy.wire.dialer import Dialer
from proxy.wire.resolver import Resolver
from proxy.wire.upstream import UpstreamConnection
from proxy.wire.upstream_tls import UpstreamTls

leaves_nothing = pytest.mark.usefixtures("start")

ROOT = Path(__file__).parent.parent.parent
TIMEOUTS = Timeouts(dns=Seconds(7), connect=Seconds(11))
ANY = Egress(addresses=AllowedAddresses.ANY)
POLICY = Policies(Settings(timeouts=TIMEOUTS, egress=ANY)).general


@asynccontextmanager
async def dialling(*servers: Endpoint) -> AsyncIterator[Dialer]:
    """A dialer whose clock moves by a second at each look: 1000, 1001, 1002."""
    resolver = Resolver(Dns(servers=servers), 600, time.monotonic)
    dialer = Dialer(itertools.count(1000.0).__next__)
    dialer.configure(resolver, UpstreamTls())
    yield dialer
    await resolver.close()


def target_of(host: str, port: int) -> Target:
    return Target("http", host, port, "/", f"{host}:{port}")


def exchange_of() -> Exchange:
    return Exchange(Entry.FORWARD, "GET", 0)


async def turns(count: int = 100) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@leaves_nothing
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_connection_with_what_it_took(host: str) -> None:
    async with ScriptedUpstream([Send(OK), Do.STALL]) as upstream, dialling() as dialer:
        exchange = exchange_of()
        connection = await dialer.connect(exchange, target_of(host, upstream.port), POLICY, leg)
        assert connection.address == "127.0.0.1"
        assert (exchange.dns_s, exchange.connect_s) == (1, 1)
        assert (exchange.awaited, exchange.deadline) == (Awaited.NOTHING, FOREVER)
        connection.abort()


@leaves_nothing
async def test_an_upstream_that_refuses() -> None:
    exchange = exchange_of()
    with refusing() as port:
        async with dialling() as dialer:
            with pytest.raises(ConnectionRefused) as caught:
                await dialer.connect(exchange, target_of("127.0.0.1", port), POLICY, leg)
    assert caught.value.details == "the upstream's address answered: ECONNREFUSED"
    assert str(caught.value.outcome) == "failure(refused)"
    # The wait is still named: whoever is told of the failure may ask who owed.
    assert (exchange.awaited, exchange.deadline) == (Awaited.CONNECTION, 1012)
    assert exchange.connect_s is None


@leaves_nothing
@pytest.mark.parametrize("host", ["255.255.255.255", "224.0.0.1", "fe80::1"])
async def test_an_address_to_which_no_way_leads(host: str) -> None:
    """The kernel itself refuses these for TCP, at once: broadcast, multicast, link-local without a link."""
    async with dialling() as dialer:
        with pytest.raises(DestinationIpUnroutable) as caught:
            await dialer.connect(exchange_of(), target_of(host, 9), POLICY, leg)
    assert str(caught.value.outcome) == "failure(unreachable)"


@leaves_nothing
async def test_a_name_that_does_not_exist_is_not_dialled() -> None:
    async with DnsServer({}) as server, dialling(server.endpoint) as dialer:
        exchange = exchange_of()
        with pytest.raises(DnsError) as caught:
            await dialer.connect(exchange, target_of("absent.test", 80), POLICY, leg)
        assert str(caught.value.outcome) == "failure(dns)"
        assert exchange.dns_s is None


@leaves_nothing
@pytest.mark.parametrize("order", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])
async def test_an_address_that_refuses_is_not_the_last_word(order: list[str]) -> None:
    async with ScriptedUpstream([Do.STALL]) as upstream, DnsServer({"two.test": order}) as server:
        async with dialling(server.endpoint) as dialer:
            connection = await dialer.connect(
                exchange_of(), target_of("two.test", upstream.port), POLICY, leg
            )
            assert connection.address == "127.0.0.1"
            connection.abort()


@leaves_nothing
async def test_the_other_family_is_tried_as_well() -> None:
    async with (
        ScriptedUpstream([Do.STALL]) as upstream,
        DnsServer({"both.test": ["::1", "127.0.0.1"]}) as server,
    ):
        async with dialling(server.endpoint) as dialer:
            connection = await dialer.connect(
                exchange_of(), target_of("both.test", upstream.port), POLICY, leg
            )
            assert connection.address == "127.0.0.1"
            connection.abort()


@leaves_nothing
async def test_an_address_that_does_not_answer_does_not_hold_up_the_other() -> None:
    """RFC 8305 section 5, by the real delay of 250 ms."""
    with unresponsive() as port:
        with socket.create_server(("127.0.0.2", port)):
            async with DnsServer({"two.test": ["127.0.0.1", "127.0.0.2"]}) as server:
                async with dialling(server.endpoint) as dialer:
                    connection = await dialer.connect(exchange_of(), target_of("two.test", port), POLICY, leg)
                    assert connection.address == "127.0.0.2"
                    connection.abort()


@leaves_nothing
async def test_a_dial_of_one_address_takes_no_place_of_a_race(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It opens one socket in any case."""
    monkeypatch.setattr("proxy.wire.dialer.MAX_RACES", 1)
    with unresponsive() as port, socket.create_server(("127.0.0.2", port)):
        names = {"slow.test": ["127.0.0.1", "127.0.0.2"]}
        async with DnsServer(names) as server, dialling(server.endpoint) as dialer:

            def dial(host: str, port: int) -> asyncio.Task[UpstreamConnection]:
                return asyncio.create_task(dialer.connect(exchange_of(), target_of(host, port), POLICY, leg))

            alone = dial("127.0.0.1", port)
            await turns()
            racing = await dial("slow.test", port)
            assert racing.address == "127.0.0.2", "the one before it took no place"
            racing.abort()
            alone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await alone


@leaves_nothing
@pytest.mark.parametrize("most", [0, 1])
async def test_without_a_place_for_a_race_the_next_address_waits_for_the_one_before_it(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.wire.dialer.MAX_RACES", most)
    with unresponsive() as port, socket.create_server(("127.0.0.2", port)):
        async with DnsServer({"two.test": ["127.0.0.1", "127.0.0.2"]}) as server:
            async with dialling(server.endpoint) as dialer:
                task = asyncio.create_task(
                    dialer.connect(exchange_of(), target_of("two.test", port), POLICY, leg)
                )
                # Twice the delay after which the next one is tried in a race.
                done, _ = await asyncio.wait({task}, timeout=0.5 if most == 0 else 10)
                assert bool(done) is (most == 1)
                if done:
                    (await task).abort()
                task.cancel()
                with pytest.raises(asyncio.CancelledError) if not done else nullcontext():
                    await task


@leaves_nothing
async def test_without_a_place_for_a_race_the_good_address_is_reached_behind_one_that_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.wire.dialer.MAX_RACES", 0)
    async with ScriptedUpstream([Do.STALL]) as upstream:
        async with DnsServer({"two.test": ["127.0.0.2", "127.0.0.1"]}) as server:
            async with dialling(server.endpoint) as dialer:
                target = target_of("two.test", upstream.port)
                connection = await dialer.connect(exchange_of(), target, POLICY, leg)
                assert connection.address == "127.0.0.1"
                connection.abort()


@leaves_nothing
async def test_all_addresses_refuse() -> None:
    with refusing() as port:
        async with DnsServer({"two.test": ["127.0.0.1", "127.0.0.2"]}) as server:
            async with dialling(server.endpoint) as dialer:
                with pytest.raises(ConnectionRefused):
                    await dialer.connect(exchange_of(), target_of("two.test", port), POLICY, leg)


@pytest.mark.parametrize(
    ("number", "error", "outcome"),
    [
        (errno.ECONNREFUSED, ConnectionRefused, "failure(refused)"),
        (errno.ETIMEDOUT, ConnectionTimeout, "failure(connect_timeout)"),
        (errno.ECONNRESET, ConnectionTerminated, "failure(reset)"),
        (errno.ENETUNREACH, DestinationIpUnroutable, "failure(unreachable)"),
        (errno.EHOSTUNREACH, DestinationIpUnroutable, "failure(unreachable)"),
        (errno.EACCES, DestinationIpUnroutable, "failure(unreachable)"),
        (errno.EPERM, DestinationIpUnroutable, "failure(unreachable)"),
        (errno.EINVAL, DestinationIpUnroutable, "failure(unreachable)"),
        (errno.EAFNOSUPPORT, DestinationIpUnroutable, "failure(unreachable)"),
        (errno.EMFILE, LocalLimit, "neutral"),
        (errno.ENFILE, LocalLimit, "neutral"),
        (errno.ENOBUFS, LocalLimit, "neutral"),
        (errno.ENOMEM, LocalLimit, "neutral"),
        (errno.EADDRNOTAVAIL, LocalLimit, "neutral"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_what_the_kernel_answers_is_told(number: int, error: type[ProxyError], outcome: str) -> None:
    """Most of these cannot be had from a kernel at will, so here is a loop whose kernel says them."""

    class Answering(asyncio.SelectorEventLoop):
        async def sock_connect(self, *_: object) -> None:
            raise OSError(number, os.strerror(number))

    async def dial() -> None:
        async with dialling() as dialer:
            await dialer.connect(exchange_of(), target_of("127.0.0.1", 80), POLICY, leg)

    with asyncio.Runner(loop_factory=Answering) as runner, pytest.raises(error) as caught:
        runner.run(dial())
    assert str(caught.value.outcome) == outcome
    assert (caught.value.reason == "local_limit") is (error is LocalLimit)


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ((errno.ECONNREFUSED, errno.EHOSTUNREACH), ConnectionRefused),
        ((errno.ENETUNREACH, errno.ECONNREFUSED), ConnectionRefused),
        ((errno.ETIMEDOUT, errno.ECONNREFUSED), ConnectionRefused),
        ((errno.ETIMEDOUT, errno.EHOSTUNREACH), ConnectionTimeout),
        ((errno.ECONNRESET, errno.EHOSTUNREACH), ConnectionTerminated),
        ((errno.ENETUNREACH, errno.EHOSTUNREACH), DestinationIpUnroutable),
        ((errno.EHOSTUNREACH, errno.EHOSTUNREACH), DestinationIpUnroutable),
        ((errno.EMFILE, errno.ECONNREFUSED), LocalLimit),
        ((errno.ECONNREFUSED, errno.EADDRNOTAVAIL), LocalLimit),
        ((errno.ENETUNREACH, errno.ENOBUFS), LocalLimit),
    ],
    ids=lambda value: "+".join(map(errno.errorcode.__getitem__, value)) if isinstance(value, tuple) else "",
)
def test_of_several_answers_the_one_that_says_most_counts(
    numbers: tuple[int, int], error: type[ProxyError]
) -> None:
    answers = dict(zip(("127.0.0.1", "127.0.0.2"), numbers, strict=True))
    assert sorted(dialled(answers, list(answers), error=error)) == sorted(answers)


def dialled(
    answers: dict[str, int],
    known: list[str],
    egress: Egress = ANY,
    error: type[ProxyError] = ConnectionRefused,
    own: OwnListeners = NOWHERE,
) -> list[str]:
    """Dials a name in vain, by a kernel that gives these answers, and ECONNREFUSED for all other addresses.

    Returns:
        The addresses that were tried, in order.
    """
    tried: list[str] = []

    class Answering(asyncio.SelectorEventLoop):
        async def sock_connect(self, _: socket.socket, address: Any) -> None:
            tried.append(address[0])
            number = answers.get(address[0], errno.ECONNREFUSED)
            raise OSError(number, os.strerror(number))

    async def dial() -> None:
        policy = Policies(Settings(timeouts=TIMEOUTS, egress=egress), own).general
        async with DnsServer({"many.test": known}) as server, dialling(server.endpoint) as dialer:
            await dialer.connect(exchange_of(), target_of("many.test", 80), policy, leg)

    with asyncio.Runner(loop_factory=Answering) as runner, pytest.raises(error):
        runner.run(dial())
    return tried


def test_of_each_family_at_most_four_addresses_are_tried() -> None:
    four, six = (
        [f"127.0.0.{number}" for number in range(1, 10)],
        [f"fd00::{number}" for number in range(1, 10)],
    )
    tried = dialled({}, [*four, *six])
    assert len(tried) == len(set(tried)) == 8
    assert len(set(tried) & set(four)) == len(set(tried) & set(six)) == 4


def test_no_more_addresses_are_looked_at_than_are_tried() -> None:
    """The rules ask of each that they let pass whether it is ours."""
    looked_at: list[str] = []

    def is_local(address: IpAddress) -> bool:
        looked_at.append(str(address))
        return False

    own = OwnListeners(is_local)
    own.ports = frozenset({80})
    known = [
        f"{network}{number}" for network in ("127.0.0.", "fd00::") for number in range(1, MOST_PER_FAMILY + 1)
    ]
    tried = dialled({}, known, own=own)
    assert len(looked_at) == 8
    assert set(looked_at) == set(tried)


def test_what_may_not_be_called_takes_no_others_place() -> None:
    """Among the addresses of a family that are remembered."""
    known = [f"127.0.0.{number}" for number in range(1, MOST_PER_FAMILY + 1)]
    allowed = Egress(allow=tuple(map(Network.parse, known[-4:])))
    assert sorted(dialled({}, [*known, "::1"], allowed)) == known[-4:]


def test_a_connection_that_meets_itself_is_one_that_nobody_accepts() -> None:
    """The kernel may choose for the client's end the very port that it is to connect to; here it does."""
    sockets: list[socket.socket] = []

    class Choosing(asyncio.SelectorEventLoop):
        async def sock_connect(self, sock: socket.socket, address: Any) -> None:
            sock.bind(address)
            await super().sock_connect(sock, address)
            assert sock.getpeername() == sock.getsockname()
            sockets.append(sock)

    async def dial(host: str, port: int) -> None:
        async with dialling() as dialer:
            await dialer.connect(exchange_of(), target_of(host, port), POLICY, leg)

    for host in ("127.0.0.1", "::1"):
        with asyncio.Runner(loop_factory=Choosing) as runner, pytest.raises(ConnectionRefused) as caught:
            runner.run(dial(host, free_port()))
        assert str(caught.value.outcome) == "failure(refused)"
    assert [sock.fileno() for sock in sockets] == [-1, -1]


def test_a_connection_that_is_reset_at_once_is_made_and_then_lost() -> None:
    class Hurrying(asyncio.SelectorEventLoop):
        """Its peer is done with the connection before anybody has looked at it."""

        async def sock_connect(self, sock: socket.socket, address: Any) -> None:
            await super().sock_connect(sock, address)
            accepted, _ = listener.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            with pytest.raises(OSError, match="not connected"):
                sock.getpeername()

    async def dial() -> None:
        async with dialling() as dialer:
            target = target_of("127.0.0.1", listener.getsockname()[1])
            connection = await dialer.connect(exchange_of(), target, POLICY, leg)
            connection.begin("GET", 4096, 128)
            with pytest.raises(ConnectionTerminated):
                await connection.next_head()
            connection.abort()
            await turns()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        with asyncio.Runner(loop_factory=Hurrying) as runner:
            runner.run(dial())


WITHOUT_DESCRIPTORS = """
import asyncio, os, resource, sys, time
import uvloop
from proxy.core.errors import LocalLimit
from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.exchange import Entry, Exchange
from proxy.core.policies import Policies
from proxy.core.policy import Dns, Settings
from proxy.core.target import Target
from proxy.wire.dialer import Dialer
from proxy.wire.resolver import Resolver
from proxy.wire.upstream_tls import UpstreamTls

async def main():
    resolver = Resolver(Dns(), 5, time.monotonic)
    dialer = Dialer(lambda: 0.0)
    dialer.configure(resolver, UpstreamTls())
    target = Target("http", "127.0.0.1", int(sys.argv[2]), "/", "a")
    policy = Policies(Settings(egress=Egress(addresses=AllowedAddresses.ANY))).general
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
    try:
        await dialer.connect(Exchange(Entry.FORWARD, "GET", 0), target, policy, asyncio.Protocol)
    except LocalLimit as error:
        print(error.status, error.reason, error.outcome)

(uvloop if sys.argv[1] == "uvloop" else asyncio).run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_without_a_descriptor_left_it_is_our_limit_and_no_fault_of_the_upstream(loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "-c", WITHOUT_DESCRIPTORS, loop, port],
            cwd=ROOT,
            capture_output=True,
            check=False,
            text=True,
            timeout=30,
        )
    assert (run.stdout, run.stderr, run.returncode) == ("503 local_limit neutral\n", "", 0)


@leaves_nothing
async def test_while_the_name_is_awaited_we_owe() -> None:
    async with DnsServer({"silent.test": Trouble.SILENT}) as server, dialling(server.endpoint) as dialer:
        exchange = exchange_of()
        task = asyncio.create_task(dialer.connect(exchange, target_of("silent.test", 80), POLICY, leg))
        await server.question("silent.test")
        assert (exchange.awaited, exchange.owed_since, exchange.deadline) == (Awaited.ADDRESS, 1000, 1007)
        assert exchange.upstream_owed_s(1005) == 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@leaves_nothing
async def test_while_the_connection_is_awaited_the_upstream_owes_and_cancelling_leaves_no_socket() -> None:
    with unresponsive() as port:
        async with dialling() as dialer:
            exchange = exchange_of()
            task = asyncio.create_task(dialer.connect(exchange, target_of("127.0.0.1", port), POLICY, leg))
            await turns()
            assert not task.done()
            assert (exchange.awaited, exchange.owed_since, exchange.deadline) == (
                Awaited.CONNECTION,
                1001,
                1012,
            )
            assert exchange.upstream_owed_s(1005) == 4
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@leaves_nothing
@pytest.mark.parametrize("names", [["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]], ids=["one", "two"])
async def test_cancelling_at_any_moment_leaves_no_socket(names: list[str]) -> None:
    """After each number of turns of the loop until the connection stands; `start` counts the sockets."""
    connected = False
    count = 0
    async with ScriptedUpstream([Do.STALL]) as upstream, DnsServer({"a.test": names}) as server:
        async with dialling(server.endpoint) as dialer:
            while not connected:
                host = "127.0.0.1" if len(names) == 1 else "a.test"
                task = asyncio.create_task(
                    dialer.connect(exchange_of(), target_of(host, upstream.port), POLICY, leg)
                )
                await turns(count)
                connected = task.done()
                task.cancel()
                for end in await asyncio.gather(task, return_exceptions=True):
                    assert isinstance(end, UpstreamConnection | asyncio.CancelledError)
                    if isinstance(end, UpstreamConnection):
                        end.abort()
                count += 1
    assert count > 2
