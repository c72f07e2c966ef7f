"""Events as they happen: to those who keep up, fall behind, come back, leave, and do not read."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from aiohttp import web
from support.api import AdminPort, refusal, serving
from support.circuits import HOST

from proxy.control import events
from proxy.core.overrides import Force

EVENTS = "/api/v1/events"


@asynccontextmanager
async def reading(client: httpx.AsyncClient, last_id: str | None = None) -> AsyncIterator["Reader"]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    async with client.stream("GET", EVENTS, headers=headers, timeout=10) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        yield Reader(answer.aiter_lines())


class Reader:
    """Reads one event after the other, as the HTML standard says."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def block(self) -> dict[str, str]:
        """The fields up to the next empty line; a comment is the field without a name."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                return fields
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        raise EOFError

    async def told(self) -> tuple[str, Any]:
        """The next event, by its type and its data."""
        block = await self.block()
        return block["event"], json.loads(block["data"])

    async def note(self) -> str:
        """The note of the next transition."""
        event, told = await self.told()
        assert event == "transition", told
        note: str = told["transition"]["note"]
        return note


def happen(port: AdminPort, *notes: str) -> None:
    for note in notes:
        port.rig.circuits.force(HOST, port.rig.policy, Force.OPEN, port.clock(), note=note)


async def test_what_happens_is_told_from_then_on() -> None:
    port = AdminPort()
    happen(port, "before")
    async with serving(port.application()) as client, reading(client) as reader:
        begun = await reader.block()
        assert begun == {"retry": "2000", "id": port.events.newest_id}
        port.clock.now = 5.0
        happen(port, "now")
        block = await reader.block()
        assert (block["event"], block["id"]) == ("transition", port.events.newest_id)
        assert json.loads(block["data"]) == {
            "id": port.events.newest_id,
            "key": HOST,
            "scope": "host",
            "transition": {
                "at": "2001-09-09T01:46:45.000+00:00",
                "from_state": "open",
                "to_state": "open",
                "reason": "forced_open",
                "cause": None,
                "open_s": None,
                "level": 0,
                "note": "now",
            },
        }
        happen(port, "a", "b")
        assert [await reader.note(), await reader.note()] == ["a", "b"]


async def test_whoever_comes_back_gets_what_came_in_between() -> None:
    port = AdminPort()
    async with serving(port.application()) as client:
        happen(port, "heard")
        last_id = port.events.newest_id
        happen(port, "a", "b")
        async with reading(client, last_id) as reader:
            await reader.block()
            assert [await reader.note(), await reader.note()] == ["a", "b"]
        # The list says where the events go on.
        listed = (await client.get("/api/v1/circuits")).json()
        happen(port, "c")
        async with reading(client, listed["last_event_id"]) as reader:
            await reader.block()
            assert await reader.note() == "c"


async def test_whoever_is_behind_by_more_than_is_kept_is_told_how_many_it_missed() -> None:
    port = AdminPort()
    async with serving(port.application()) as client:
        first = port.events.newest_id
        happen(port, *map(str, range(events.MOST_KEPT + 7)))
        async with reading(client, first) as reader:
            await reader.block()
            assert await reader.told() == ("missed", {"missed": 7})
            assert [await reader.note() for _ in range(events.MOST_KEPT)] == [
                str(number) for number in range(7, events.MOST_KEPT + 7)
            ]


@pytest.mark.parametrize(
    "last_id", ["", "x", "00000000-1", "{process}-", "{process}-3", "{process}--1", "{process}-" + "9" * 5000]
)
async def test_to_whoever_was_told_by_another_process_all_is_new(last_id: str) -> None:
    port = AdminPort()
    happen(port, "a", "b")
    process = port.events.newest_id.partition("-")[0]
    async with serving(port.application()) as client:
        async with reading(client, last_id.format(process=process)) as reader:
            assert await reader.told() == ("missed", {"missed": None})
            assert [await reader.note(), await reader.note()] == ["a", "b"]


async def test_silence_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.01)
    port = AdminPort()
    async with serving(port.application()) as client, reading(client) as reader:
        await reader.block()
        assert await reader.block() == {"": "keep-alive"}
        happen(port, "now")
        while (block := await reader.block()) == {"": "keep-alive"}:
            pass
        assert block["event"] == "transition"


async def test_there_are_only_so_many_readers_and_who_leaves_makes_room() -> None:
    port = AdminPort()
    async with serving(port.application()) as client:
        async with reading(client) as leaving:
            await leaving.block()
            async with anyio.create_task_group() as group:
                stop = anyio.Event()
                began = [anyio.Event() for _ in range(events.MOST_READERS - 1)]

                async def read_on(begun: anyio.Event) -> None:
                    async with reading(client) as reader:
                        await reader.block()
                        begun.set()
                        await stop.wait()

                for each in began:
                    group.start_soon(read_on, each)
                for each in began:
                    await each.wait()
                answer = await client.get(EVENTS)
                assert refusal(answer) == (503, "too_many_readers")
                assert answer.headers["Retry-After"] == "10"
                stop.set()
        # All have left by closing their connections; nothing was written to them since, nor soon will be.
        assert port.events.readers == events.MOST_READERS
        with anyio.fail_after(events.KEEP_ALIVE_S / 3):
            while True:
                async with client.stream("GET", EVENTS) as answer:
                    if answer.status_code == 200:
                        break


async def test_whoever_does_not_read_is_dropped_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_STALLED_S", 0.1)
    port = AdminPort()
    async with serving(port.application()) as client:
        async with client.stream("GET", EVENTS) as stuck:
            assert stuck.status_code == 200
            # More than the sockets and the buffers between take.
            with anyio.fail_after(20):
                while port.events.readers:
                    happen(port, *["x" * 200] * 200)
                    await client.get("/livez")


async def test_head_is_get_without_a_stream() -> None:
    port = AdminPort()
    async with serving(port.application()) as client:
        answer = await client.head(EVENTS)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
        assert port.events.readers == 0
        answer = await client.post(EVENTS)
        assert refusal(answer) == (405, "method_not_allowed")


async def test_at_the_end_all_streams_end_at_once() -> None:
    port = AdminPort()
    served = port.application()
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=30)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, at = runner.addresses[0]
    async with httpx.AsyncClient(base_url=f"http://{host}:{at}", trust_env=False) as client:
        async with reading(client) as reader:
            await reader.block()
            with anyio.fail_after(5):
                await runner.cleanup()
            with pytest.raises(EOFError):
                await reader.block()
    assert port.events.readers == 0
