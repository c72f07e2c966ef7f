"""The API for deferred requests, asked by a real client, before a real store."""

import asyncio
import json
import socket
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing
from support.api import EPOCH_S, AdminPort, get, refusal, serving
from support.deferred import deferred, ids, opened

from proxy.control import deferred_api, deferred_queries
from proxy.core.deferred import TOO_OLD, UNAVAILABLE, Deferred, NotStoredError
from proxy.store.deferred_store import DeferredStore

ROOT = "/api/v1/deferred"
REQUESTS = f"{ROOT}/requests"


def named(number: int) -> str:
    return f"{REQUESTS}/{number:032x}"


@asynccontextmanager
async def kept(folder: Path, count: int = 0) -> AsyncIterator[tuple[DeferredStore, httpx.AsyncClient]]:
    """A store with so many requests, and a client of the API before it."""
    async with opened(folder / "deferred.db") as store:
        for number in range(1, count + 1):
            await store.put(deferred(number))
        async with serving(AdminPort(kept=store).application()) as client:
            yield store, client


async def test_without_a_path_nothing_is_kept_and_that_is_told() -> None:
    async with serving(AdminPort().application()) as client:
        asked = [
            await client.get(ROOT),
            await client.get(REQUESTS),
            await client.get(named(1)),
            await client.delete(named(1)),
            await client.get(f"{ROOT}/export"),
            *[
                await client.post(path, json={})
                for path in (
                    f"{named(1)}/put-back",
                    *(f"{ROOT}/{word}" for word in ("put-back", "delete", "pause", "resume")),
                )
            ],
        ]
        for answer in asked:
            assert refusal(answer) == (404, "not_deferring"), answer.url


async def test_what_is_kept_in_numbers(tmp_path: Path) -> None:
    async with kept(tmp_path) as (store, client):
        await store.put(deferred(1, queue="a.test:80", stored_at=EPOCH_S - 5))
        await store.put(deferred(2, queue="a.test:80", stored_at=EPOCH_S - 4))
        await store.put(deferred(3, queue="b.test:80", stored_at=EPOCH_S - 90))
        await store.put(deferred(4))
        await store.bury(f"{4:032x}", EPOCH_S, TOO_OLD)
        seen = await get(client, ROOT)
        assert (seen["waiting"], seen["dead_letters"], seen["oldest_age_s"]) == (3, 1, 90.0)
        assert seen["stored_bytes"] == store.stored_bytes > 0
        assert (seen["is_paused"], seen["fault"], seen["queues_total"]) == (False, None, 2)
        assert [(each["queue"], each["waiting"], each["oldest_age_s"]) for each in seen["queues"]] == [
            ("a.test:80", 2, 5.0),
            ("b.test:80", 1, 90.0),
        ]


async def test_circuits_say_what_waits_for_them(tmp_path: Path) -> None:
    async with opened(tmp_path / "deferred.db") as store:
        port = AdminPort(kept=store)
        port.rig.fail(5, 0.0, "a.test:80")
        port.rig.succeed(1, 0.0, "b.test:80")
        async with serving(port.application()) as client:
            page = await get(client, "/api/v1/circuits")
            assert [page["deferred"], *(each["deferred"] for each in page["circuits"])] == [None] * 3
            await store.put(deferred(1, queue="a.test:80", stored_at=EPOCH_S - 5))
            await store.put(deferred(2, queue="gone.test:80", stored_at=EPOCH_S - 9))
            page = await get(client, "/api/v1/circuits")
            assert page["deferred"] == {"waiting": 2, "oldest_age_s": 9.0}
            kept = {"waiting": 1, "oldest_age_s": 5.0}
            assert [each["deferred"] for each in page["circuits"]] == [kept, None]
            assert (await get(client, "/api/v1/circuits/a.test:80"))["deferred"] == kept


async def test_pages_follow_each_other_to_the_end(tmp_path: Path) -> None:
    async with kept(tmp_path, 7) as (store, client):
        found: list[str] = []
        after: int | None = 0
        while after is not None:
            page = await get(client, f"{REQUESTS}?limit=3&after={after}")
            found += [each["id"] for each in page["requests"]]
            after = page["next_after"]
        assert found == [f"{number:032x}" for number in range(1, 8)]
        await store.bury(f"{2:032x}", EPOCH_S, TOO_OLD)
        await store.put(deferred(8, queue="other.test:80"))
        for query, numbers in (
            ("state=dead", [2]),
            ("state=waiting&queue=other.test:80", [8]),
            ("queue=none.test:80", []),
        ):
            page = await get(client, f"{REQUESTS}?{query}")
            assert [int(each["id"], 16) for each in page["requests"]] == numbers


@pytest.mark.parametrize(
    "query",
    [
        "state=alive",
        "state=",
        "queue=",
        "state=dead&state=dead",
        "limit=0",
        "limit=501",
        "after=-1",
        "after=x",
        "q=x",
        f"queue={'x' * 301}",
    ],
)
async def test_a_query_that_cannot_be(tmp_path: Path, query: str) -> None:
    async with kept(tmp_path) as (_, client):
        assert refusal(await client.get(f"{REQUESTS}?{query}")) == (400, "bad_request")


async def test_one_request_and_none(tmp_path: Path) -> None:
    async with kept(tmp_path, 1) as (_, client):
        one = await get(client, named(1))
        assert (one["id"], one["state"], one["method"]) == (f"{1:032x}", "waiting", "POST")
        for path in (named(2), f"{REQUESTS}/x", f"{REQUESTS}/{'A' * 32}"):
            assert refusal(await client.get(path)) == (404, "no_such_request")
            assert refusal(await client.delete(path)) == (404, "no_such_request")
            assert refusal(await client.post(f"{path}/put-back", json={})) == (404, "no_such_request")


async def test_a_dead_letter_is_put_back_once(tmp_path: Path) -> None:
    async with kept(tmp_path, 2) as (store, client):
        await store.bury(f"{1:032x}", EPOCH_S, TOO_OLD)
        with structlog.testing.capture_logs() as lines:
            answer = await client.post(f"{named(1)}/put-back", json={"note": "mended"})
        assert answer.json()["state"] == "waiting"
        # As if it had just come: `max_age` begins anew.
        assert answer.json()["stored_at"] == "2001-09-09T01:46:40.000+00:00"
        assert await ids(store) == [2, 1]
        assert [(line["event"], line["note"]) for line in lines] == [("deferred request put back", "mended")]
        assert refusal(await client.post(f"{named(1)}/put-back", json={})) == (409, "not_dead")


async def test_one_is_deleted(tmp_path: Path) -> None:
    async with kept(tmp_path, 2) as (store, client):
        assert (await client.delete(named(1))).json() == {"changed": 1, "has_more": False}
        assert await ids(store) == [2]
        assert refusal(await client.get(named(1))) == (404, "no_such_request")


async def test_many_are_put_back_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred_queries, "MOST_CHANGED", 3)
    async with kept(tmp_path, 6) as (store, client):
        for number in range(1, 5):
            await store.bury(f"{number:032x}", EPOCH_S, TOO_OLD)
        answer = await client.post(f"{ROOT}/put-back", json={})
        assert answer.json() == {"changed": 3, "has_more": True}
        assert await ids(store, is_dead=True) == [4]
        answer = await client.post(f"{ROOT}/delete", json={"state": "dead"})
        assert answer.json() == {"changed": 1, "has_more": False}
        assert await ids(store) == [5, 6, 1, 2, 3]
        answer = await client.post(f"{ROOT}/delete", json={"state": "waiting", "queue": "none.test:80"})
        assert answer.json() == {"changed": 0, "has_more": False}
        # What is to be deleted must be said.
        for wish in ({}, {"state": "all"}, {"state": "dead", "x": 1}):
            assert refusal(await client.post(f"{ROOT}/delete", json=wish)) == (400, "bad_request")
        assert refusal(await client.post(f"{ROOT}/delete", content=b"{}")) == (415, "not_json")
        assert len(await ids(store)) == 5


async def test_pause_and_resume_outlive_a_restart(tmp_path: Path) -> None:
    async with kept(tmp_path) as (store, client):
        assert (await client.post(f"{ROOT}/pause", json={})).json() == {"is_paused": True}
        assert store.is_paused
    async with kept(tmp_path) as (store, client):
        assert (await get(client, ROOT))["is_paused"]
        assert (await client.post(f"{ROOT}/resume", json={})).json() == {"is_paused": False}
        assert not store.is_paused


async def test_the_export_has_everything(tmp_path: Path) -> None:
    async with kept(tmp_path, 250) as (store, client):
        large = bytes(range(256)) * 1024
        await store.put(deferred(251, content=large))
        await store.bury(f"{3:032x}", EPOCH_S, TOO_OLD)
        answer = await client.get(f"{ROOT}/export")
        assert answer.headers["Content-Type"] == "application/jsonl"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [int(line["id"], 16) for line in lines] == list(range(1, 252))
        assert b64decode(lines[-1]["content"]) == large
        answer = await client.get(f"{ROOT}/export?state=dead")
        assert [json.loads(line)["died_of"] for line in answer.text.splitlines()] == ["too_old"]
        assert (await client.get(f"{ROOT}/export?queue=none.test:80")).text == ""


class Halting:
    """A store whose export goes on when it is told to, and fails behind its first request."""

    def __init__(self, store: DeferredStore) -> None:
        self._store = store
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def export(self, **_: Any) -> AsyncIterator[Deferred]:
        yield deferred(1)
        await self.go_on.wait()
        raise NotStoredError(UNAVAILABLE, "the disk is gone")


async def test_two_exports_at_a_time_and_half_a_one_is_cut(tmp_path: Path) -> None:
    async with opened(tmp_path / "deferred.db") as store:
        halting = Halting(store)
        async with serving(AdminPort(kept=halting).application()) as client:
            async with (
                client.stream("GET", f"{ROOT}/export"),
                client.stream("GET", f"{ROOT}/export") as second,
            ):
                lines = second.aiter_lines()
                assert json.loads(await anext(lines))["id"] == f"{1:032x}"
                assert refusal(await client.get(f"{ROOT}/export")) == (503, "busy")
                halting.go_on.set()
                with pytest.raises(httpx.TransportError):
                    [line async for line in lines]
            # Both have given their places back.
            for _ in range(3):
                with pytest.raises(httpx.TransportError):
                    await client.get(f"{ROOT}/export")


async def test_a_disk_that_does_not_work_or_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "none" / "deferred.db") as store:
        async with serving(AdminPort(kept=store).application()) as client:
            assert "No such file" in (await get(client, ROOT))["fault"]
            for path in (REQUESTS, named(1), f"{ROOT}/export"):
                assert refusal(await client.get(path)) == (503, "store_unavailable")
            assert refusal(await client.post(f"{ROOT}/pause", json={})) == (503, "store_unavailable")
    monkeypatch.setattr(deferred_api, "_DISK_PATIENCE_S", 0.01)
    fifo, other = socket.socketpair()
    with fifo, other:
        async with kept(tmp_path) as (store, client):
            # The thread of the disk waits here as it would for the disk.
            held = store._writer.ask(lambda _: fifo.recv(1))  # noqa: SLF001 -- nothing else holds a disk
            assert refusal(await client.get(REQUESTS)) == (503, "store_slow")
            other.send(b".")
            assert await held == b"."
