"""Names to addresses, asked of a real DNS server."""

import asyncio
import socket

import pytest
from support.dns import DnsServer, Known, Trouble

from proxy.core.errors import DnsError, DnsTimeout, ProxyError
from proxy.wire.resolver import Resolver

# Nothing is left over afterwards.
pytestmark = pytest.mark.usefixtures("start")

NAMES: dict[str, Known] = {
    "four.test": ["192.0.2.1"],
    "two.four.test": ["192.0.2.1", "192.0.2.2"],
    "six.test": ["2001:db8::1"],
    "both.test": ["192.0.2.1", "2001:db8::1"],
    "alias.test": "both.test",
    "dangling.test": "nowhere.test",
    "empty.test": [],
    "silent.test": Trouble.SILENT,
    "servfail.test": Trouble.SERVFAIL,
    "refused.test": Trouble.REFUSED,
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
    ],
)
async def test_a_name_has_the_addresses_of_both_families(host: str, infos: set[object]) -> None:
    async with DnsServer(NAMES) as server:
        resolver = Resolver([server.authority], timeout_s=5)
        found = await resolver.resolve(host, 81)
        await resolver.close()
    assert len(found) == len(infos)
    assert set(found) == infos
    assert {kind for _, kind in server.asked} == {"A", "AAAA"}


@pytest.mark.parametrize(
    ("host", "error", "outcome"),
    [
        ("absent.test", DnsError, "failure(dns)"),
        ("empty.test", DnsError, "failure(dns)"),
        ("dangling.test", DnsError, "failure(dns)"),
        ("127.1", DnsError, "failure(dns)"),
        ("servfail.test", DnsError, "neutral"),
        ("refused.test", DnsError, "neutral"),
        ("a..test", DnsError, "neutral"),
        ("a" * 64 + ".test", DnsError, "neutral"),
    ],
    ids=[
        "NXDOMAIN",
        "NODATA",
        "dangling CNAME",
        "short IPv4",
        "SERVFAIL",
        "REFUSED",
        "no label",
        "long label",
    ],
)
async def test_only_a_name_that_does_not_exist_says_something_of_the_upstream(
    host: str, error: type[ProxyError], outcome: str
) -> None:
    async with DnsServer(NAMES) as server:
        resolver = Resolver([server.authority], timeout_s=5)
        with pytest.raises(error) as caught:
            await resolver.resolve(host, 80)
        await resolver.close()
    assert str(caught.value.outcome) == outcome
    assert caught.value.status == 502


async def test_a_server_that_does_not_answer_is_a_timeout_and_no_fault_of_the_upstream() -> None:
    async with DnsServer(NAMES) as server:
        resolver = Resolver([server.authority], timeout_s=0.1)
        with pytest.raises(DnsTimeout) as caught:
            await resolver.resolve("silent.test", 80)
        await resolver.close()
    assert str(caught.value.outcome) == "neutral"
    assert server.asked.count(("silent.test", "A")) == 2, "asked twice in the time given"


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
    async with DnsServer(NAMES) as server:
        resolver = Resolver([server.authority], timeout_s=5)
        found = await resolver.resolve(host, 80)
        await resolver.close()
    assert found == [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]
    assert server.asked == []


async def test_localhost_is_this_machine_and_no_server_is_asked() -> None:
    async with DnsServer(NAMES) as server:
        resolver = Resolver([server.authority], timeout_s=5)
        addresses = {info[4][0] for info in await resolver.resolve("localhost", 80)}
        await resolver.close()
    assert "127.0.0.1" in addresses
    assert addresses <= {"127.0.0.1", "::1"}
    assert server.asked == []


async def test_close_ends_the_look_ups_under_way() -> None:
    async with DnsServer(NAMES) as server:
        resolver = Resolver([server.authority], timeout_s=600)
        waiting = [asyncio.create_task(resolver.resolve("silent.test", 80)) for _ in range(3)]
        await server.question("silent.test")
        await resolver.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [(type(end), str(getattr(end, "outcome", None))) for end in ends] == [(DnsError, "neutral")] * 3


async def test_a_look_up_can_be_cancelled_and_the_next_one_works() -> None:
    async with DnsServer(NAMES) as server:
        resolver = Resolver([server.authority], timeout_s=600)
        waiting = asyncio.create_task(resolver.resolve("silent.test", 80))
        await server.question("silent.test")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await resolver.resolve("four.test", 81) == [FOUR]
        await resolver.close()
