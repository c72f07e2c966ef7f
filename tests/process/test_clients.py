"""Real clients that HTTP_PROXY points at the proxy: what they send arrives, and what is sick is cut off."""

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import aiohttp
import httpx
import pytest
import requests
from support.outage import LocalUpstream, assert_abandoned, outage, received, silent_upstream
from support.process import PATIENCE_S, Reply, RunningProxy, until

MEGABYTES = random.Random(0).randbytes(10_000_000)  # noqa: S311 -- no secret

Content = bytes | Iterator[bytes]


class Call(Protocol):
    """Sends one request; an iterator as content is sent in chunks.

    Raises:
        TimeoutError: the client has given up.
    """

    def __call__(
        self, method: str, url: str, content: Content = b"", timeout: float = PATIENCE_S
    ) -> Reply: ...


@contextmanager
def requests_client() -> Iterator[Call]:
    with requests.Session() as session:

        def call(method: str, url: str, content: Content = b"", timeout: float = PATIENCE_S) -> Reply:
            try:
                answer = session.request(method, url, data=content, timeout=timeout)
            except requests.Timeout as error:
                raise TimeoutError from error
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status_code, headers, answer.content)

        yield call


@contextmanager
def httpx_client() -> Iterator[Call]:
    with httpx.Client() as client:

        def call(method: str, url: str, content: Content = b"", timeout: float = PATIENCE_S) -> Reply:
            try:
                answer = client.request(method, url, content=content or None, timeout=timeout)
            except httpx.TimeoutException as error:
                raise TimeoutError from error
            return Reply(answer.status_code, dict(answer.headers), answer.content)

        yield call


@contextmanager
def aiohttp_client() -> Iterator[Call]:
    with asyncio.Runner() as runner:
        session = runner.run(_aiohttp_session())

        async def send(method: str, url: str, content: Content, timeout_s: float) -> Reply:
            whole = io.BytesIO(content) if content and isinstance(content, bytes) else None
            data = whole if isinstance(content, bytes) else _one_by_one(content)
            limit = aiohttp.ClientTimeout(total=timeout_s)
            async with session.request(method, url, data=data, timeout=limit) as answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Reply(answer.status, headers, await answer.read())

        def call(method: str, url: str, content: Content = b"", timeout: float = PATIENCE_S) -> Reply:
            return runner.run(send(method, url, content, timeout))

        try:
            yield call
        finally:
            runner.run(session.close())


async def _aiohttp_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(trust_env=True)


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


Client = Callable[[], AbstractContextManager[Call]]
CLIENTS = pytest.mark.parametrize(
    "client",
    [
        pytest.param(requests_client, id="requests"),
        pytest.param(httpx_client, id="httpx"),
        pytest.param(aiohttp_client, id="aiohttp"),
    ],
)

PointAt = Callable[[RunningProxy], None]


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> PointAt:
    """Sets HTTP_PROXY for the clients that are made afterwards, and nothing else of the kind."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def point(proxy: RunningProxy) -> None:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)

    return point


@CLIENTS
def test_requests_arrive_and_answers_come_back(client: Client, point_at: PointAt) -> None:
    with RunningProxy() as proxy, LocalUpstream() as upstream:
        point_at(proxy)
        with client() as call:
            got = call("GET", upstream.url)
            assert (got.status, got.headers["x-upstream"]) == (200, "local")
            assert "breaker-proxy-" in got.headers["via"]
            assert json.loads(got.content) == received("GET")

            posted = call("POST", upstream.url, MEGABYTES)
            assert (posted.status, json.loads(posted.content)) == (200, received("POST", MEGABYTES))

            streamed = call(
                "POST", upstream.url, (MEGABYTES[at : at + 65_537] for at in range(0, 10**7, 65_537))
            )
            expected = received("POST", MEGABYTES, chunked=True)
            assert (streamed.status, json.loads(streamed.content)) == (200, expected)

            head = call("HEAD", upstream.url)
            assert (head.status, head.headers["x-upstream"], head.content) == (200, "local", b"")
            assert int(head.headers["content-length"]) > 0
        assert upstream.seen == [f"{method} /hook?event=1" for method in ("GET", "POST", "POST", "HEAD")]
        labels = {"entry": "forward", "code_class": "2xx", "source": "upstream"}
        assert proxy.metric("requests_total", **labels) == 4


@CLIENTS
def test_a_dead_upstream_is_cut_off_until_it_is_back(client: Client, point_at: PointAt) -> None:
    with RunningProxy(circuit={"open": "1s"}) as proxy, LocalUpstream() as upstream:
        point_at(proxy)
        with client() as call:
            outage(proxy, upstream, lambda: call("POST", upstream.url, b"event"))


@CLIENTS
def test_a_healthy_upstream_goes_on_beside_a_dead_one(client: Client, point_at: PointAt) -> None:
    with RunningProxy() as proxy, LocalUpstream() as healthy, LocalUpstream() as dead:
        dead.kill()
        point_at(proxy)
        with client() as call:
            assert [call("GET", dead.url).status for _ in range(6)] == [502] * 5 + [503]
            assert call("GET", healthy.url).status == 200


@CLIENTS
def test_a_silent_upstream_is_cut_off_by_clients_that_give_up(client: Client, point_at: PointAt) -> None:
    with RunningProxy(circuit={"abandoned_after": "500ms"}) as proxy, silent_upstream() as authority:
        point_at(proxy)
        with client() as call:
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    call("POST", f"http://{authority}/", b"event", timeout=0.7)
            assert_abandoned(proxy, authority, lambda: call("POST", f"http://{authority}/", b"event"))


def test_a_silent_upstream_is_cut_off_with_the_defaults(point_at: PointAt) -> None:
    with RunningProxy() as proxy, silent_upstream() as authority:
        point_at(proxy)

        def give_up(_number: int) -> None:
            with requests_client() as call, pytest.raises(TimeoutError):
                call("POST", f"http://{authority}/", b"event", timeout=4)

        with ThreadPoolExecutor(5) as workers:
            list(workers.map(give_up, range(5)))
        with requests_client() as call:
            assert_abandoned(proxy, authority, lambda: call("GET", f"http://{authority}/"))


def test_clients_that_give_up_too_soon_say_nothing(point_at: PointAt) -> None:
    with RunningProxy() as proxy, silent_upstream() as authority:
        point_at(proxy)
        with requests_client() as call:
            for _ in range(6):
                with pytest.raises(TimeoutError):
                    call("GET", f"http://{authority}/", timeout=0.1)
        until(lambda: proxy.metric("in_flight") == 0, "a call does not end")
        assert proxy.metric("calls_total", outcome="failure") == 0
