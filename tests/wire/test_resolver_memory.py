"""What the resolver remembers, who shares a query, and what is served while the servers fail."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from aiodns.error import DNSError
from support.dns import DnsServer, Known, Record, Trouble
from support.names import forgotten, resolving
from support.ports import refusing
from support.sidecar import Clock

from proxy.core.answers import FAILING_S, RETRY_S
from proxy.core.errors import ConnectionLimitReached, DnsError, DnsTimeout
from proxy.core.policy import Dns, Endpoint, Seconds
from proxy.wire import resolver as module
from proxy.wire.resolver import Resolver

# Nothing is left over afterwards.
pytestmark = pytest.mark.usefixtures("start")

OLD, NEW = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def addresses(resolver: Resolver, name: str = "a.test") -> list[str]:
    return [info[4][0] for info in await resolver.resolve(name, 80)]


def counted(resolver: Resolver) -> dict[str, int]:
    return {result.value: number for result, number in resolver.lookups.items() if number}


async def settled(resolver: Resolver) -> None:
    """Waits until no query is under way."""
    while resolver.under_way:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("known", "fresh_s"),
    [
        (Record(addresses=[OLD], ttl=60), 60),
        (Record(addresses=[OLD], ttl=0), 1),
        (Record(addresses=[OLD], ttl=3600), 300),
        (Record(alias="long.test", ttl=20), 20),
        (Record(alias="short.test", ttl=3600), 10),
    ],
    ids=["in between", "0", "more than the most", "of the alias", "behind the alias"],
)
async def test_an_answer_is_used_for_as_long_as_it_says(clock: Clock, known: Known, fresh_s: int) -> None:
    names: dict[str, Known] = {
        "a.test": known,
        "long.test": Record(addresses=[OLD], ttl=3600),
        "short.test": Record(addresses=[OLD], ttl=10),
    }
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        assert await addresses(resolver) == [OLD]
        names["a.test"] = Record(addresses=[NEW], ttl=5)
        await forgotten(server, resolver)
        asked = len(server.asked)
        clock.now += fresh_s - 0.001
        assert await addresses(resolver) == [OLD]
        assert len(server.asked) == asked
        clock.now += 0.001
        assert await addresses(resolver) == [NEW]
        assert len(server.asked) == asked + 2
    assert counted(resolver) == {"answered": 2, "cached": 1}


async def test_both_families_count_and_the_shorter_time_holds(clock: Clock) -> None:
    names: dict[str, Known] = {"a.test": Record(addresses=[OLD, "2001:db8::1"], ttl=60)}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        assert sorted(await addresses(resolver)) == [OLD, "2001:db8::1"]
        clock.now += 59
        assert sorted(await addresses(resolver)) == [OLD, "2001:db8::1"]
    assert counted(resolver) == {"answered": 1, "cached": 1}


async def test_a_ttl_of_0_serves_those_who_wait_and_nobody_after_them(clock: Clock) -> None:
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock, ttl_min=0) as resolver:
        found = await asyncio.gather(addresses(resolver), addresses(resolver))
        assert list(found) == [[OLD], [OLD]]
        assert len(server.asked) == 2
        names["a.test"] = [NEW]
        await forgotten(server, resolver)
        assert await addresses(resolver) == [NEW]
    assert counted(resolver) == {"answered": 2, "joined": 1}


@pytest.mark.parametrize("absent", [Trouble.NXDOMAIN, []])
async def test_that_a_name_does_not_exist_is_remembered(clock: Clock, absent: Known) -> None:
    names: dict[str, Known] = {"a.test": absent}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        for _ in range(2):
            with pytest.raises(DnsError) as caught:
                await addresses(resolver)
            assert str(caught.value.outcome) == "failure(dns)"
        assert len(server.asked) == 2
        names["a.test"] = [NEW]
        await forgotten(server, resolver)
        clock.now += 5
        # The zone says that it will not exist for an hour, which c-ares would believe.
        assert await addresses(resolver) == [NEW]
    assert counted(resolver) == {"not_found": 1, "negative": 1, "answered": 1}


@pytest.mark.parametrize("trouble", [Trouble.SERVFAIL, Trouble.REFUSED])
async def test_that_the_servers_fail_is_not_remembered(clock: Clock, trouble: Trouble) -> None:
    names: dict[str, Known] = {"a.test": trouble}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        with pytest.raises(DnsError):
            await addresses(resolver)
        names["a.test"] = [NEW]
        await forgotten(server, resolver)
        assert await addresses(resolver) == [NEW]
    assert counted(resolver) == {"failed": 1, "answered": 1}


async def test_c_ares_does_not_keep_what_the_settings_forbid(clock: Clock) -> None:
    """It would for an hour, by what the zone says."""
    names: dict[str, Known] = {"a.test": Record(addresses=[OLD], ttl=3600)}
    absences: tuple[Known, ...] = ([], Trouble.NXDOMAIN)
    async with (
        DnsServer(names) as server,
        resolving(server, clock=clock, ttl_min=0, ttl_max=0, negative=0, stale=0) as resolver,
    ):
        assert await addresses(resolver) == [OLD]
        for absent in absences:
            names["a.test"] = absent
            await forgotten(server, resolver)
            with pytest.raises(DnsError):
                await addresses(resolver)
        names["a.test"] = [NEW]
        await forgotten(server, resolver)
        assert await addresses(resolver) == [NEW]


async def test_c_ares_forgets_after_each_query_by_itself(clock: Clock) -> None:
    """Soon; without that it would say the same for an hour, and this would not end."""
    names: dict[str, Known] = {"a.test": []}
    settings = Dns(ttl_min=Seconds(0), ttl_max=Seconds(0), negative=Seconds(0), stale=Seconds(0))
    async with DnsServer(names) as server:
        resolver = Resolver(replace(settings, servers=(server.endpoint,)), 20, clock)
        with pytest.raises(DnsError):
            await addresses(resolver)
        names["a.test"] = [NEW]
        asked: list[str] = []
        while asked != [NEW]:
            with suppress(DnsError):
                asked = await addresses(resolver)
        await resolver.close()


async def test_c_ares_forgets_what_it_heard_too_late(clock: Clock) -> None:
    """Asked directly, it would say for an hour what it heard after the resolver had given up."""
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": Record(after=answer)}
    async with DnsServer(names) as server, resolving(server, clock=clock, timeout_s=0.05) as resolver:
        with pytest.raises(DnsTimeout):
            await addresses(resolver)
        answer.set()
        await settled(resolver)
        asked = len(server.asked)
        while len(server.asked) == asked:
            with suppress(DNSError):
                await resolver._channels[True].getaddrinfo("a.test")  # noqa: SLF001 -- see above


async def test_many_wait_for_one_query_and_who_leaves_does_not_end_it(clock: Clock) -> None:
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": Record(addresses=[OLD], after=answer)}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        waiting = [asyncio.create_task(addresses(resolver)) for _ in range(100)]
        await server.question("a.test", 2)
        assert resolver.under_way == 1
        # Among them the first, whose query it is.
        for task in waiting[::2]:
            task.cancel()
        ends = await asyncio.gather(*waiting[::2], return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}
        answer.set()
        assert await asyncio.gather(*waiting[1::2]) == [[OLD]] * 50
        assert len(server.asked) == 2
    assert counted(resolver) == {"cancelled": 50, "joined": 50}


async def test_a_query_that_nobody_waits_for_any_more_still_fills_the_memory(clock: Clock) -> None:
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": Record(addresses=[OLD], after=answer)}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        waiting = asyncio.create_task(addresses(resolver))
        await server.question("a.test", 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert resolver.under_way == 1
        answer.set()
        await settled(resolver)
        assert await addresses(resolver) == [OLD]
        assert len(server.asked) == 2
    assert counted(resolver) == {"cancelled": 1, "cached": 1}


async def test_each_of_those_who_wait_gets_an_error_of_its_own(clock: Clock) -> None:
    async with DnsServer({}) as server, resolving(server, clock=clock) as resolver:
        ends = await asyncio.gather(*(addresses(resolver) for _ in range(3)), return_exceptions=True)
    assert [type(end) for end in ends] == [DnsError] * 3
    assert len(set(map(id, ends))) == 3
    assert counted(resolver) == {"not_found": 3}


async def test_the_queries_under_way_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_QUERIES", 2)
    names: dict[str, Known] = {"a.test": [OLD], "b.test": Trouble.SILENT, "c.test": Trouble.SILENT}
    async with DnsServer(names) as server, resolving(server, clock=clock, timeout_s=600) as resolver:
        await addresses(resolver)
        waiting = [asyncio.create_task(addresses(resolver, name)) for name in ("b.test", "c.test")]
        await server.question("c.test")
        assert await addresses(resolver) == [OLD], "what is remembered needs no query"
        with pytest.raises(ConnectionLimitReached) as caught:
            await addresses(resolver, "d.test")
        assert (caught.value.status, caught.value.reason) == (503, "local_limit")
        assert str(caught.value.outcome) == "neutral"
        clock.now += 400
        assert await addresses(resolver) == [OLD], "what is stale is better than nothing"
        await resolver.close()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert counted(resolver) == {"answered": 1, "cached": 1, "limited": 1, "stale": 1, "failed": 2}


async def test_queries_that_were_given_up_count_until_c_ares_has_ended_them(clock: Clock) -> None:
    async with DnsServer({"a.test": Trouble.SILENT}) as server:
        async with resolving(server, clock=clock, timeout_s=0.05) as resolver:
            with pytest.raises(DnsTimeout):
                await addresses(resolver)
            assert resolver.under_way == 1
            await settled(resolver)


FAILURES = [Trouble.SERVFAIL, Trouble.REFUSED, Trouble.GARBAGE, Trouble.SILENT]


@pytest.mark.parametrize("trouble", FAILURES)
async def test_while_the_servers_fail_an_older_answer_is_used(clock: Clock, trouble: Trouble) -> None:
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock, timeout_s=1.5) as resolver:
        await addresses(resolver)
        names["a.test"] = trouble
        await forgotten(server, resolver)
        clock.now += 1
        assert await addresses(resolver) == [OLD]
        assert counted(resolver) == {"answered": 1, "stale": 1}
        await settled(resolver)
        clock.now += 600
        with pytest.raises((DnsError, DnsTimeout)) as caught:
            await addresses(resolver)
        assert str(caught.value.outcome) == "neutral"


async def test_where_nobody_listens_any_more_an_older_answer_is_used(clock: Clock) -> None:
    async with DnsServer({"a.test": [OLD]}) as server:
        async with resolving(server, clock=clock) as resolver:
            await addresses(resolver)
            await forgotten(server, resolver)
            await server.__aexit__()
            clock.now += 1
            assert await addresses(resolver) == [OLD]
    assert counted(resolver) == {"answered": 1, "stale": 1}


async def test_a_name_that_has_gone_is_no_trouble_and_nothing_older_is_used(clock: Clock) -> None:
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        await addresses(resolver)
        del names["a.test"]
        await forgotten(server, resolver)
        clock.now += 1
        with pytest.raises(DnsError):
            await addresses(resolver)
        names["a.test"] = Trouble.SERVFAIL
        await forgotten(server, resolver)
        clock.now += 5
        with pytest.raises(DnsError) as caught:
            await addresses(resolver)
        assert str(caught.value.outcome) == "neutral"
    assert counted(resolver) == {"answered": 1, "not_found": 1, "failed": 1}


async def test_after_a_failure_nobody_waits_one_query_at_a_time_tries_again_and_the_new_answer_is_used(
    clock: Clock,
) -> None:
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        await addresses(resolver)
        names["a.test"] = Trouble.SERVFAIL
        await forgotten(server, resolver)
        clock.now += 1
        assert await addresses(resolver) == [OLD]
        names["a.test"] = Record(addresses=[NEW], after=answer)
        await forgotten(server, resolver)
        asked = sum(name == "a.test" for name, _ in server.asked)
        assert await addresses(resolver) == [OLD]
        assert resolver.under_way == 0, "too early"
        clock.now += RETRY_S
        assert [await addresses(resolver) for _ in range(10)] == [[OLD]] * 10
        await server.question("a.test", asked + 2)
        assert await addresses(resolver) == [OLD]
        assert resolver.under_way == 1
        answer.set()
        await settled(resolver)
        assert await addresses(resolver) == [NEW]
    assert counted(resolver) == {"answered": 1, "stale": 13, "cached": 1}


async def test_long_after_a_failure_the_answer_is_waited_for_again(clock: Clock) -> None:
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        await addresses(resolver)
        names["a.test"] = Trouble.SERVFAIL
        await forgotten(server, resolver)
        clock.now += 1
        assert await addresses(resolver) == [OLD]
        names["a.test"] = [NEW]
        await forgotten(server, resolver)
        clock.now += FAILING_S
        assert await addresses(resolver) == [NEW]
    assert counted(resolver) == {"answered": 2, "stale": 1}


async def test_with_an_older_answer_at_hand_a_slow_server_is_not_waited_for_to_the_end(clock: Clock) -> None:
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock, timeout_s=600) as resolver:
        await addresses(resolver)
        names["a.test"] = Record(addresses=[NEW], after=answer)
        await forgotten(server, resolver)
        clock.now += 1
        assert await asyncio.gather(*(addresses(resolver) for _ in range(3))) == [[OLD]] * 3
        assert resolver.under_way == 1, "the query goes on"
        assert await addresses(resolver) == [OLD]
        answer.set()
        await settled(resolver)
        assert await addresses(resolver) == [NEW]
    assert counted(resolver) == {"answered": 1, "stale": 4, "cached": 1}


async def test_without_stale_nothing_older_is_used(clock: Clock) -> None:
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock, stale=0) as resolver:
        await addresses(resolver)
        names["a.test"] = Trouble.SERVFAIL
        await forgotten(server, resolver)
        clock.now += 1
        with pytest.raises(DnsError):
            await addresses(resolver)
    assert counted(resolver) == {"answered": 1, "failed": 1}


async def test_servers_that_are_back_are_used_without_a_restart(clock: Clock) -> None:
    with refusing() as port:
        pass
    async with resolving(Endpoint("127.0.0.1", port), clock=clock) as resolver:
        async with DnsServer({"a.test": [OLD]}, port=port) as server:
            await addresses(resolver)
            await forgotten(server, resolver)
        clock.now += 1
        assert await addresses(resolver) == [OLD]
        async with DnsServer({"a.test": [NEW]}, port=port):
            clock.now += RETRY_S
            assert await addresses(resolver) == [OLD]
            await settled(resolver)
            assert await addresses(resolver) == [NEW]
    assert counted(resolver) == {"answered": 1, "stale": 2, "cached": 1}
