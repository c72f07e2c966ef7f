"""What the resolver remembers, who shares a query, and what is served while the servers fail."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from math import inf

import pytest
from support.dns import DnsServer, Known, Record, Trouble
from support.names import forgotten, resolving
from support.ports import refusing
from support.sidecar import Clock
from support.turns import turns

from proxy.core.answers import FAILING_S, RETRY_S
from proxy.core.errors import ConnectionLimitReached, DnsError, DnsTimeout
from proxy.core.policy import Dns, Endpoint
from proxy.core.quantities import Seconds
from proxy.wire import resolver as module
from proxy.wire.resolver import Resolver

# Nothing is left over afterwards.
pytestmark = pytest.mark.usefixtures("start")

OLD, NEW = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def addresses(resolver: Resolver, name: str = "a.test", time_s: float = inf) -> list[str]:
    return [info[4][0] for info in await resolver.resolve(name, 80, time_s)]


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


async def cancelled(*tasks: "asyncio.Task[list[str]]") -> None:
    """Has their clients leave, in this order."""
    for task in tasks:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_names_of_one_domain_do_not_take_all_queries(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody waits for them any more, and where only c-ares has not yet ended them."""
    monkeypatch.setattr(module, "MOST_QUERIES", 16)
    monkeypatch.setattr(module, "MOST_UNAWAITED", 3)
    silent = [f"{number}.slow.test" for number in range(9)]
    names: dict[str, Known] = {"a.test": [OLD], "b.test": [NEW]}
    names |= dict.fromkeys(silent, Trouble.SILENT)
    async with DnsServer(names) as server, resolving(server, clock=clock, timeout_s=600) as resolver:
        waiting = [asyncio.create_task(addresses(resolver, name)) for name in silent]
        await server.question("8.slow.test")
        with pytest.raises(ConnectionLimitReached) as caught:
            await addresses(resolver, "new.slow.test")
        assert (caught.value.status, caught.value.reason) == (503, "local_limit")
        assert await addresses(resolver) == [OLD]
        await cancelled(*waiting)
        await turns()
        assert resolver.under_way == 9
        with pytest.raises(ConnectionLimitReached):
            await addresses(resolver, "new.slow.test")
        assert await addresses(resolver, "b.test") == [NEW]
        await resolver.close()
    await settled(resolver)
    assert counted(resolver) == {"limited": 2, "answered": 2, "cancelled": 9}


async def test_queries_that_nobody_waits_for_are_bounded_and_the_oldest_is_given_up(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_UNAWAITED", 2)
    answer = asyncio.Event()
    names: dict[str, Known] = {f"{each}.test": Record(addresses=[OLD], after=answer) for each in "abcd"}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        waiting = [asyncio.create_task(addresses(resolver, name)) for name in names]
        await server.question("d.test", 2)
        await cancelled(waiting[0])
        # Somebody waits for this one again.
        again = asyncio.create_task(addresses(resolver, "a.test"))
        await turns()
        await cancelled(*waiting[1:])
        await turns()
        assert resolver.under_way == 4, "c-ares still asks for the one that was given up"
        answer.set()
        await settled(resolver)
        assert await again == [OLD]
        asked = len(server.asked)
        for name in ("a.test", "c.test", "d.test"):
            assert await addresses(resolver, name) == [OLD]
        assert len(server.asked) == asked, "these have been remembered"
        assert await addresses(resolver, "b.test") == [OLD]
    assert counted(resolver) == {"cancelled": 4, "joined": 1, "cached": 3, "answered": 1}


async def test_who_asks_for_a_name_that_was_just_given_up_asks_anew(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_UNAWAITED", 0)
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": Record(addresses=[OLD], after=answer)}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        first = asyncio.create_task(addresses(resolver))
        await server.question("a.test", 2)
        # Both have their turn at once: the first one leaves, and its query is only about to end.
        first.cancel()
        second = asyncio.create_task(addresses(resolver))
        await turns()
        assert resolver.under_way == 2
        answer.set()
        assert await second == [OLD]
        with pytest.raises(asyncio.CancelledError):
            await first
    assert counted(resolver) == {"cancelled": 1, "answered": 1}


async def test_a_query_beside_a_stale_answer_may_be_given_up_before_it_begins(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock) as resolver:
        await addresses(resolver)
        names["a.test"] = Trouble.SERVFAIL
        await forgotten(server, resolver)
        clock.now += 1
        assert await addresses(resolver) == [OLD]
        monkeypatch.setattr(module, "MOST_UNAWAITED", 0)
        clock.now += RETRY_S
        asked = len(server.asked)
        assert await addresses(resolver) == [OLD]
        await turns()
        assert resolver.under_way == 0
        monkeypatch.setattr(module, "MOST_UNAWAITED", 1)
        assert await addresses(resolver) == [OLD]
        await turns()
        assert (resolver.under_way, len(server.asked)) == (0, asked), "the next one begins a second later"
        clock.now += RETRY_S
        assert await addresses(resolver) == [OLD]
        assert resolver.under_way == 1
    assert counted(resolver) == {"answered": 1, "stale": 4}


async def test_who_joined_a_query_late_asks_again_when_its_time_is_up(clock: Clock) -> None:
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": Record(addresses=[NEW], after=answer)}
    async with DnsServer(names) as server, resolving(server, clock=clock, timeout_s=0.5) as resolver:
        first, *joined = [asyncio.create_task(addresses(resolver)) for _ in range(4)]
        with pytest.raises(DnsTimeout):
            await first
        answer.set()
        assert await asyncio.gather(*joined) == [[NEW]] * 3
    assert counted(resolver) == {"timed_out": 1, "answered": 1, "joined": 2}


async def test_the_time_of_the_caller_says_how_soon_an_older_answer_is_used(clock: Clock) -> None:
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock, timeout_s=600) as resolver:
        await addresses(resolver)
        names["a.test"] = Trouble.SILENT
        await forgotten(server, resolver)
        clock.now += 1
        # The resolver's own patience is 1.8 s.
        async with asyncio.timeout(1.2):
            assert await addresses(resolver, time_s=0.1) == [OLD]
    assert counted(resolver) == {"answered": 1, "stale": 1}


async def test_where_the_older_answer_has_become_too_old_the_query_is_waited_for(clock: Clock) -> None:
    answer = asyncio.Event()
    names: dict[str, Known] = {"a.test": [OLD]}
    async with DnsServer(names) as server, resolving(server, clock=clock, stale=10) as resolver:
        await addresses(resolver)
        names["a.test"] = Record(addresses=[NEW], after=answer)
        await forgotten(server, resolver)
        clock.now += 1
        waiting = asyncio.create_task(addresses(resolver, time_s=0.1))
        await server.question("a.test", 4)
        clock.now += 10
        # Far more than half of the caller's time, which is up by the caller's clock only.
        assert not (await asyncio.wait({waiting}, timeout=0.5))[0]
        answer.set()
        assert await waiting == [NEW]
    assert counted(resolver) == {"answered": 2}


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
