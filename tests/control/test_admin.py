"""The admin port, asked by a real client."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import httpx
import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.api import AdminPort, refusal, serving
from support.exchanges import ended
from support.metrics import metrics_of

from proxy.control.metrics import Metrics
from proxy.core.exchange import Entry

PATHS = ["/", "/livez", "/readyz", "/metrics"]


def admin(
    metrics: Metrics | None = None,
    readiness: Callable[[], str | None] = lambda: None,
    remark: Callable[[], str | None] = lambda: None,
) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return serving(AdminPort(metrics=metrics, readiness=readiness, remark=remark).application())


async def test_it_lives_and_is_ready() -> None:
    async with admin() as client:
        for path in ("/livez", "/readyz"):
            answer = await client.get(path)
            assert (answer.status_code, answer.text) == (200, "ok\n")
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_not_ready_tells_why_and_lives_nevertheless() -> None:
    reason: list[str | None] = ["draining"]
    async with admin(readiness=lambda: reason[0]) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "draining\n")
        assert (await client.get("/livez")).status_code == 200
        reason[0] = None
        assert (await client.get("/readyz")).status_code == 200


async def test_what_is_wrong_all_the_same_is_told_and_it_stays_ready() -> None:
    wrong = "the configuration could not be reloaded"
    reason: list[str | None] = [None]
    async with admin(readiness=lambda: reason[0], remark=lambda: wrong) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (200, f"ok\n{wrong}\n")
        reason[0] = "draining"
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, f"draining\n{wrong}\n")


async def test_the_index_names_every_path() -> None:
    async with admin() as client:
        answer = await client.get("/")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        for path in PATHS:
            assert path in answer.text


async def test_metrics_as_text() -> None:
    metrics = metrics_of()
    metrics.observe(ended(Entry.FORWARD, "GET", status=200, request_bytes=5), 1.0)
    async with admin(metrics) as client:
        answer = await client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = {
            (sample.name, sample.labels.get("direction")): sample.value
            for family in parse_text(answer.text)
            for sample in family.samples
        }
        assert found["breaker_proxy_bytes_total", "request"] == 5


@pytest.mark.parametrize(
    "accept",
    [
        [("Accept", "application/openmetrics-text;version=1.0.0")],
        [("Accept", "text/html"), ("Accept", "application/openmetrics-text")],
    ],
)
async def test_metrics_as_openmetrics(accept: list[tuple[str, str]]) -> None:
    async with admin() as client:
        answer = await client.get("/metrics", headers=accept)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert list(parse_openmetrics(answer.text))  # type: ignore[no-untyped-call]  # it has no types


async def test_scrapes_at_the_same_time_all_get_an_answer() -> None:
    answers = []

    async def scrape(client: httpx.AsyncClient) -> None:
        answers.append((await client.get("/metrics")).status_code)

    async with admin() as client, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(scrape, client)
    assert answers == [200] * 5


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_content(path: str) -> None:
    async with admin() as client:
        answer, got = await client.head(path), await client.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Type"] == got.headers["Content-Type"]
        # The process' own metrics move from one request to the next, by some digits.
        may_differ = 50 if path == "/metrics" else 0
        assert abs(int(answer.headers["Content-Length"]) - int(got.headers["Content-Length"])) <= may_differ


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/livez/", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/nothing", 404),
        ("POST", "/livez", 405),
        ("DELETE", "/metrics", 405),
        ("OPTIONS", "/", 405),
    ],
)
async def test_nothing_else_is_answered(method: str, path: str, status: int) -> None:
    async with admin() as client:
        answer = await client.request(method, path)
        assert answer.status_code == status
        reasons = {404: "not_found", 405: "method_not_allowed"}
        assert refusal(answer) == (status, reasons[status])
        if status == 405:
            assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_every_answer_is_fresh_unsniffed_and_names_no_version(method: str, path: str) -> None:
    async with admin(readiness=lambda: "starting") as client:
        answer = await client.request(method, path)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Server" not in answer.headers


async def test_health_and_metrics_ask_nobody_who_he_is() -> None:
    class NobodysToken:
        def check(self, token: str) -> bool:
            assert token
            return False

    async with serving(AdminPort(token=NobodysToken()).application()) as client:
        for path in PATHS:
            answer = await client.get(path, headers={"Host": "evil.test", "Origin": "http://evil.test"})
            assert answer.status_code == 200
        for path in ("/nothing", "/api", "/api/v1/circuits", "/livez%2F", "/LIVEZ"):
            assert (await client.get(path)).status_code == 401
        # A method that there is not is no way in either.
        assert (await client.post("/metrics")).status_code == 401


async def test_content_that_nobody_asked_for_is_passed_over() -> None:
    async with admin() as client:
        for _ in range(2):
            answer = await client.request("GET", "/livez", content=b"x" * 300_000)
            assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_what_a_handler_reads_is_bounded() -> None:
    async def reads(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    served = AdminPort().application()
    served.router.add_post("/reads", reads)
    async with serving(served) as client:
        assert (await client.post("/reads", content=b"x" * 4096)).status_code == 200
        answer = await client.post("/reads", content=b"x" * 4097)
        assert refusal(answer) == (413, "content_too_large")
        assert "Server" not in answer.headers


async def test_nothing_is_rendered_for_those_who_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = metrics_of()
    rendered: list[None] = []
    go_on = threading.Event()
    snapshot = metrics.snapshot

    def slow() -> Any:
        rendered.append(None)
        return snapshot()

    monkeypatch.setattr(metrics, "snapshot", slow)
    monkeypatch.setattr(asyncio, "to_thread", _held(go_on))
    async with admin(metrics) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.get, "/metrics")
            await anyio.sleep(0.1)
            for _ in range(5):
                with anyio.move_on_after(0.05):
                    await client.get("/metrics")
            go_on.set()
        assert (await client.get("/metrics")).status_code == 200
    assert len(rendered) == 2


def _held(go_on: threading.Event) -> Any:
    to_thread = asyncio.to_thread

    async def held(function: Any, *arguments: Any) -> Any:
        await to_thread(go_on.wait)
        return await to_thread(function, *arguments)

    return held
