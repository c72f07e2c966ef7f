"""How the name servers are asked, and what c-ares does meanwhile."""

import asyncio
import socket
from contextlib import suppress
from functools import partialmethod
from pathlib import Path

import pytest
from aiodns import DNSResolver
from aiodns.error import ARES_ENODATA, ARES_ENOTFOUND, ARES_ESERVFAIL, ARES_ETIMEOUT, DNSError
from support.dns import DnsServer, Known, Record, Trouble
from support.names import resolving
from support.turns import until

from proxy.core.answers import Lookup
from proxy.core.errors import DnsError, DnsTimeout
from proxy.core.policy import Dns, Search
from proxy.core.slots import Slots
from proxy.wire.name_servers import NameServers, translated

# Nothing is left over afterwards.
pytestmark = pytest.mark.usefixtures("start")

FOUR = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("192.0.2.1", 81))
OTHER_FOUR = (*FOUR[:4], ("192.0.2.2", 81))


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (ARES_ENOTFOUND, Lookup.NOT_FOUND),
        (ARES_ENODATA, Lookup.NOT_FOUND),
        (ARES_ETIMEOUT, Lookup.TIMED_OUT),
        (ARES_ESERVFAIL, Lookup.FAILED),
    ],
)
async def test_what_an_error_says_of_the_name(code: int, result: Lookup) -> None:
    assert translated(DNSError(code)) is result


async def test_what_was_given_up_holds_a_slot_until_c_ares_has_ended_it() -> None:
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": Record(addresses=["192.0.2.1"], after=answer)}
    async with DnsServer(names) as server:
        slots = Slots(16)
        servers = NameServers(Dns(servers=(server.endpoint,)), 600, slots)
        asking = asyncio.create_task(servers.ask("a.test"))
        await server.question("a.test", 2)
        assert slots.taken == 0
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (slots.taken, len(slots)) == (1, 1)
        answer.set()
        await until(lambda: not slots.taken)
        await servers.close()
    assert len(slots) == 0


async def test_closing_ends_what_was_given_up() -> None:
    async with DnsServer({"a.test": Trouble.SILENT}) as server:
        slots = Slots(16)
        servers = NameServers(Dns(servers=(server.endpoint,)), 600, slots)
        asking = asyncio.create_task(servers.ask("a.test"))
        await server.question("a.test")
        asking.cancel()
        await asyncio.wait({asking})
        await servers.close()
        await until(lambda: not slots.taken)


async def test_queries_that_were_given_up_count_until_c_ares_has_ended_them() -> None:
    async with DnsServer({"a.test": Trouble.SILENT}) as server:
        async with resolving(server, timeout_s=0.05) as resolver:
            with pytest.raises(DnsTimeout):
                await resolver.resolve("a.test", 80)
            assert resolver.under_way == 1
            while resolver.under_way:
                await asyncio.sleep(0)


async def test_c_ares_forgets_what_it_heard_too_late() -> None:
    """Asked directly, it would say for an hour what it heard after the resolver had given up."""
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": Record(after=answer)}
    async with DnsServer(names) as server, resolving(server, timeout_s=0.05) as resolver:
        with pytest.raises(DnsTimeout):
            await resolver.resolve("a.test", 80)
        answer.set()
        while resolver.under_way:
            await asyncio.sleep(0)
        asked = len(server.asked)
        while len(server.asked) == asked:
            with suppress(DNSError):
                await resolver._servers._channels[True].getaddrinfo("a.test")  # noqa: SLF001 -- see above


async def test_time_is_used_up_although_the_tries_of_a_fast_server_are_over_sooner() -> None:
    """A server that has been fast is asked again after 250 ms, and three tries are over within 2 s."""
    names: dict[str, Known] = {f"{number}.test": ["192.0.2.1"] for number in range(5)}
    names["silent.test"] = Trouble.SILENT
    async with DnsServer(names) as server, resolving(server, timeout_s=600) as resolver:
        for number in range(5):
            await resolver.resolve(f"{number}.test", 80)
        look_up = asyncio.create_task(resolver.resolve("silent.test", 81))
        await server.question("silent.test", 2 * 3 + 1)
        names["silent.test"] = ["192.0.2.1"]
        assert await look_up == [FOUR]


# Where each name is looked for, by `dns.search`, with the search domain one.test and `ndots:3`.
SEARCHED = [
    (Search.AUTO, "web", ["web.one.test", "web"]),
    (Search.AUTO, "web.four", ["web.four"]),
    (Search.ON, "web", ["web.one.test", "web"]),
    (Search.ON, "web.four", ["web.four.one.test", "web.four"]),
    (Search.ON, "a.b.c.d", ["a.b.c.d", "a.b.c.d.one.test"]),
    (Search.OFF, "web", ["web"]),
    (Search.OFF, "web.four", ["web.four"]),
    (Search.ON, "web.", ["web"]),
]


@pytest.fixture
def search_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """c-ares takes them from here as it does from /etc/resolv.conf, but only one."""
    monkeypatch.setenv("LOCALDOMAIN", "one.test")
    monkeypatch.setenv("RES_OPTIONS", "ndots:3")


@pytest.mark.usefixtures("search_domain")
@pytest.mark.parametrize(("search", "host", "asked"), SEARCHED)
async def test_which_names_are_tried_with_the_search_domains(
    search: Search, host: str, asked: list[str]
) -> None:
    async with DnsServer({}) as server, resolving(server, search=search) as resolver:
        with pytest.raises(DnsError) as caught:
            await resolver.resolve(host, 80)
    assert str(caught.value.outcome) == "failure(dns)"
    assert list(dict.fromkeys(name for name, _ in server.asked)) == asked


@pytest.mark.usefixtures("search_domain")
async def test_a_single_label_is_found_in_the_search_domain() -> None:
    async with DnsServer({"web.one.test": ["192.0.2.1"]}) as server, resolving(server) as resolver:
        assert await resolver.resolve("web", 81) == [FOUR]


async def test_the_hosts_file_comes_before_all_servers_and_its_changes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c-ares takes the path from the environment if a flag says so; without it, it is /etc/hosts."""
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 four.test web\n")
    monkeypatch.setenv("CARES_HOSTS", str(hosts))
    from_environment = partialmethod(DNSResolver.getaddrinfo, flags=1 << 8)
    monkeypatch.setattr(DNSResolver, "getaddrinfo", from_environment)
    names: dict[str, Known] = {"four.test": ["192.0.2.99", "2001:db8::99"]}
    async with DnsServer(names) as server, resolving(server, ttl_min=0) as resolver:
        assert await resolver.resolve("four.test", 81) == [FOUR]
        assert await resolver.resolve("web", 81) == [FOUR]
        assert server.asked == []
        hosts.write_text("192.0.2.2 four.test\n")
        assert await resolver.resolve("four.test", 81) == [OTHER_FOUR]
        assert server.asked == []
