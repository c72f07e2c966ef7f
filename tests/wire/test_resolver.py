"""Names to addresses, asked of a real DNS server; what is remembered is in test_resolver_memory.py."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

import pytest
from support.dns import DnsServer, Known, Record, Trouble
from support.names import resolving
from support.ports import refusing

from proxy.core.answers import Lookup
from proxy.core.errors import DnsError, DnsTimeout
from proxy.core.policy import Endpoint
from proxy.wire.resolver import Resolver

# Nothing is left over afterwards.
pytestmark = pytest.mark.usefixtures("start")

MANY = [f"192.0.2.{number}" for number in range(200)]
NAMES: dict[str, Known] = {
    "four.test": ["192.0.2.1"],
    "two.four.test": ["192.0.2.1", "192.0.2.2"],
    "six.test": ["2001:db8::1"],
    "both.test": ["192.0.2.1", "2001:db8::1"],
    "alias.test": "both.test",
    "chain.test": "alias.test",
    "dangling.test": "nowhere.test",
    "empty.test": [],
    "silent.test": Trouble.SILENT,
    "servfail.test": Trouble.SERVFAIL,
    "refused.test": Trouble.REFUSED,
    "garbage.test": Trouble.GARBAGE,
    "wrong-id.test": Trouble.WRONG_ID,
    "endless.test": Trouble.ENDLESS,
    "truncated.test": Record(addresses=MANY, truncated=True),
    "four-only.test": Record(addresses=["192.0.2.1"], six=Trouble.SERVFAIL),
    "six-only.test": Record(addresses=["2001:db8::1"], four=Trouble.REFUSED),
    "six-silent.test": Record(addresses=["192.0.2.1"], six=Trouble.SILENT),
    "four-fails.test": Record(four=Trouble.SERVFAIL),
    "six-fails.test": Record(six=Trouble.SERVFAIL),
}
FOUR = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("192.0.2.1", 81))
OTHER_FOUR = (*FOUR[:4], ("192.0.2.2", 81))
SIX = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("2001:db8::1", 81, 0, 0))


@pytest.mark.parametrize(
    ("host", "infos"),
    [
        ("four.test", {FOUR}),
        ("two.four.test", {FOUR, OTHER_FOUR}),
        ("six.test", {SIX}),
        ("both.test", {FOUR, SIX}),
        ("alias.test", {FOUR, SIX}),
        ("chain.test", {FOUR, SIX}),
        ("four-only.test", {FOUR}),
        ("six-only.test", {SIX}),
        ("six-silent.test", {FOUR}),
    ],
)
async def test_a_name_has_the_addresses_of_both_families(host: str, infos: set[object]) -> None:
    async with DnsServer(NAMES) as server, resolving(server, timeout_s=2) as resolver:
        found = await resolver.resolve(host, 81)
    assert len(found) == len(infos)
    assert set(found) == infos
    assert {kind for _, kind in server.asked} == {"A", "AAAA"}
    assert server.with_edns == len(server.asked)
    assert nonzero(resolver.lookups) == {Lookup.ANSWERED: 1}


def nonzero(lookups: dict[Lookup, int]) -> dict[Lookup, int]:
    return {result: number for result, number in lookups.items() if number}


@pytest.mark.parametrize(
    ("host", "result", "outcome"),
    [
        ("absent.test", Lookup.NOT_FOUND, "failure(dns)"),
        ("empty.test", Lookup.NOT_FOUND, "failure(dns)"),
        ("dangling.test", Lookup.NOT_FOUND, "failure(dns)"),
        ("endless.test", Lookup.NOT_FOUND, "failure(dns)"),
        ("servfail.test", Lookup.FAILED, "neutral"),
        ("refused.test", Lookup.FAILED, "neutral"),
        ("four-fails.test", Lookup.FAILED, "neutral"),
        ("six-fails.test", Lookup.FAILED, "neutral"),
        ("truncated.test", Lookup.FAILED, "neutral"),
        ("garbage.test", Lookup.FAILED, "neutral"),
        ("a..test", Lookup.FAILED, "neutral"),
        ("a" * 64 + ".test", Lookup.FAILED, "neutral"),
    ],
    ids=[
        "NXDOMAIN",
        "NODATA",
        "dangling CNAME",
        "CNAME of itself",
        "SERVFAIL",
        "REFUSED",
        "SERVFAIL, NODATA",
        "NODATA, SERVFAIL",
        "truncated without TCP",
        "garbage",
        "no label",
        "long label",
    ],
)
async def test_only_a_name_that_does_not_exist_says_something_of_the_upstream(
    host: str, result: Lookup, outcome: str
) -> None:
    async with DnsServer(NAMES) as server, resolving(server) as resolver:
        with pytest.raises(DnsError) as caught:
            await resolver.resolve(host, 80)
    assert str(caught.value.outcome) == outcome
    assert caught.value.status == 502
    assert nonzero(resolver.lookups) == {result: 1}


async def test_that_there_is_no_address_is_believed_only_where_both_families_say_so() -> None:
    """The later answer says that there is none, and c-ares tells only that."""
    later = asyncio.Event()

    class Ordered(DnsServer):
        async def answer(self, query: bytes, *, by_tcp: bool = False) -> bytes | None:
            reply = await super().answer(query, by_tcp=by_tcp)
            if self.asked[-1][1] == "AAAA":
                await later.wait()
            return reply

    async with Ordered({"a.test": Record(four=Trouble.SERVFAIL)}) as server, resolving(server) as resolver:
        look_up = asyncio.create_task(resolver.resolve("a.test", 80))
        # Each server is asked three times before c-ares takes its SERVFAIL for the last word.
        while server.asked.count(("a.test", "A")) < 3:
            await server.question("a.test", len(server.asked) + 1)
        later.set()
        with pytest.raises(DnsError) as caught:
            await look_up
    assert str(caught.value.outcome) == "neutral"


async def test_nobody_listens_there() -> None:
    with refusing() as port:
        async with resolving(Endpoint("127.0.0.1", port)) as resolver:
            with pytest.raises(DnsError) as caught:
                await resolver.resolve("four.test", 80)
    assert str(caught.value.outcome) == "neutral"
    assert nonzero(resolver.lookups) == {Lookup.FAILED: 1}


@pytest.mark.parametrize("host", ["silent.test", "wrong-id.test"])
async def test_no_answer_is_a_timeout_and_no_fault_of_the_upstream(host: str) -> None:
    async with DnsServer(NAMES) as server, resolving(server, timeout_s=0.3) as resolver:
        with pytest.raises(DnsTimeout) as caught:
            await resolver.resolve(host, 80)
        assert str(caught.value.outcome) == "neutral"
        assert nonzero(resolver.lookups) == {Lookup.TIMED_OUT: 1}
        assert server.asked.count((host, "A")) >= 2, "asked again in the time given"
        while resolver.under_way:
            await asyncio.sleep(0)


async def test_a_truncated_answer_is_asked_for_again_by_tcp_and_what_is_used_of_it_is_bounded() -> None:
    async with DnsServer(NAMES, tcp=True) as server, resolving(server) as resolver:
        found = await resolver.resolve("truncated.test", 80)
    assert sorted(server.asked_by_tcp) == [("truncated.test", "A"), ("truncated.test", "AAAA")]
    assert len(found) == 8
    assert len(set(found)) == 8
    assert {info[4][0] for info in found} <= set(MANY)


@pytest.mark.parametrize("trouble", [Trouble.SILENT, Trouble.SERVFAIL, Trouble.REFUSED])
async def test_where_one_server_fails_the_next_one_is_asked(trouble: Trouble) -> None:
    async with DnsServer({"four.test": trouble}) as first, DnsServer(NAMES) as second:
        async with resolving(first, second, timeout_s=2) as resolver:
            assert await resolver.resolve("four.test", 81) == [FOUR]
            asked = len(first.asked)
            assert asked
            assert len(await resolver.resolve("both.test", 81)) == 2
            assert len(first.asked) == asked, "the one that works is preferred from then on"


async def test_where_nobody_listens_the_next_server_is_asked() -> None:
    with refusing() as port:
        async with DnsServer(NAMES) as second, resolving(Endpoint("127.0.0.1", port), second) as resolver:
            assert await resolver.resolve("four.test", 81) == [FOUR]


async def test_a_server_that_comes_back_answers_without_a_restart() -> None:
    async with DnsServer(NAMES) as server:
        port = server.port
    async with resolving(server) as resolver:
        for host in ("four.test", "six.test"):
            with pytest.raises(DnsError):
                await resolver.resolve(host, 81)
        async with DnsServer(NAMES, port=port):
            assert await resolver.resolve("four.test", 81) == [FOUR]
            assert await resolver.resolve("six.test", 81) == [SIX]
    assert nonzero(resolver.lookups) == {Lookup.FAILED: 2, Lookup.ANSWERED: 2}


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("192.0.2.1", socket.AF_INET, ("192.0.2.1", 80)),
        ("127.0.0.1", socket.AF_INET, ("127.0.0.1", 80)),
        ("2001:db8::1", socket.AF_INET6, ("2001:db8::1", 80, 0, 0)),
        ("::ffff:192.0.2.1", socket.AF_INET6, ("::ffff:192.0.2.1", 80, 0, 0)),
    ],
)
async def test_an_address_is_its_own_and_no_server_is_asked(
    host: str, family: int, address: tuple[object, ...]
) -> None:
    async with DnsServer(NAMES) as server, resolving(server) as resolver:
        found = await resolver.resolve(host, 80)
    assert found == [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]
    assert server.asked == []
    assert nonzero(resolver.lookups) == {}


async def test_localhost_is_this_machine_and_no_server_is_asked() -> None:
    async with DnsServer(NAMES) as server, resolving(server) as resolver:
        addresses = {info[4][0] for info in await resolver.resolve("localhost", 80)}
    assert "127.0.0.1" in addresses
    assert addresses <= {"127.0.0.1", "::1"}
    assert server.asked == []


async def test_close_ends_the_look_ups_under_way() -> None:
    async with DnsServer(NAMES) as server:
        async with resolving(server, timeout_s=600) as resolver:
            asked = [asyncio.create_task(resolver.resolve("silent.test", 80)) for _ in range(3)]
            await server.question("silent.test")
            # This one has not yet begun.
            asked.append(asyncio.create_task(resolver.resolve("four.test", 80)))
            await asyncio.sleep(0)
            await resolver.close()
            assert resolver.under_way == 0
        ends = await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(DnsError):
            await resolver.resolve("four.test", 80)
    assert [(type(end), str(getattr(end, "outcome", None))) for end in ends] == [(DnsError, "neutral")] * 4


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_no_descriptor_is_left_by_ten_thousand_look_ups() -> None:
    # It takes long, and the process runs on uvloop.
    count = 10_000 if type(asyncio.get_running_loop()).__module__.startswith("uvloop") else 1000
    kinds: tuple[Known, ...] = (Trouble.SERVFAIL, Trouble.NXDOMAIN, ["192.0.2.1"], [])
    names = {f"{number}.test": kinds[number % 4] for number in range(count)}
    async with DnsServer(names) as server, resolving(server) as resolver:
        await asyncio.gather(*map(resolving_of(resolver), list(names)[:500]))
        before = descriptors()
        for first in range(500, count, 500):
            await asyncio.gather(*map(resolving_of(resolver), list(names)[first : first + 500]))
        # c-ares may have a socket or a file of its own open at either moment, whatever came between.
        assert descriptors() <= before + 5
    assert nonzero(resolver.lookups) == {
        Lookup.ANSWERED: count // 4,
        Lookup.NOT_FOUND: count // 2,
        Lookup.FAILED: count // 4,
    }


def resolving_of(resolver: Resolver) -> Callable[[str], Coroutine[None, None, None]]:
    """Look-ups whose failure does not matter."""

    async def resolve(name: str) -> None:
        with suppress(DnsError):
            await resolver.resolve(name, 80)

    return resolve
