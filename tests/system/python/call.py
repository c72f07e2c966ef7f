"""A Python client as a process: one call a line of standard input, one answer a line of standard output."""

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import aiohttp
import httpx
import requests
import urllib3
from requests.adapters import HTTPAdapter

PIECE = 65_537

Content = bytes | Iterator[bytes] | None
Answer = tuple[int, dict[str, str], bytes]
# Method, URL, content (in chunks if it is an iterator), and for how many seconds to be patient.
Call = Callable[[str, str, Content, float], Answer]


@contextmanager
def requests_client(retries: int | urllib3.Retry = 0) -> Iterator[Call]:
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retries))

        def call(method: str, url: str, content: Content, patience_s: float) -> Answer:
            try:
                answer = session.request(method, url, data=content, timeout=patience_s)
            except requests.Timeout as error:
                raise TimeoutError from error
            return answer.status_code, dict(answer.headers), answer.content

        yield call


def retrying_requests_client() -> AbstractContextManager[Call]:
    return requests_client(urllib3.Retry(3, status_forcelist=[503]))


@contextmanager
def urllib_client() -> Iterator[Call]:
    def call(method: str, url: str, content: Content, patience_s: float) -> Answer:
        request = urllib.request.Request(url, content, method=method)  # noqa: S310 -- a test's own URL
        try:
            answer = urllib.request.urlopen(request, timeout=patience_s)  # noqa: S310 -- the same
        except HTTPError as error:
            answer = error
        with answer:
            return answer.status, dict(answer.headers), answer.read()

    yield call


@contextmanager
def urllib3_client() -> Iterator[Call]:
    # It reads no variables.
    with urllib3.ProxyManager(os.environ["http_proxy"]) as pool:

        def call(method: str, url: str, content: Content, patience_s: float) -> Answer:
            answer = pool.request(method, url, body=content, timeout=patience_s)
            return answer.status, dict(answer.headers), answer.data

        yield call


@contextmanager
def httpx_client() -> Iterator[Call]:
    with httpx.Client() as client:

        def call(method: str, url: str, content: Content, patience_s: float) -> Answer:
            try:
                answer = client.request(method, url, content=content, timeout=patience_s)
            except httpx.TimeoutException as error:
                raise TimeoutError from error
            return answer.status_code, dict(answer.headers), answer.content

        yield call


@contextmanager
def aiohttp_client() -> Iterator[Call]:
    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(trust_env=True)

    async def one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    with asyncio.Runner() as runner:
        session = runner.run(opened())

        async def send(method: str, url: str, content: Content, patience_s: float) -> Answer:
            data = content if content is None or isinstance(content, bytes) else one_by_one(content)
            limit = aiohttp.ClientTimeout(total=patience_s)
            async with session.request(method, url, data=data, timeout=limit) as answer:
                return answer.status, dict(answer.headers), await answer.read()

        try:
            yield lambda *arguments: runner.run(send(*arguments))
        finally:
            runner.run(session.close())


CLIENTS: dict[str, Callable[[], AbstractContextManager[Call]]] = {
    "requests": requests_client,
    "requests-retrying": retrying_requests_client,
    "urllib": urllib_client,
    "urllib3": urllib3_client,
    "httpx": httpx_client,
    "aiohttp": aiohttp_client,
}


def answered(call: Call, asked: dict[str, Any]) -> dict[str, Any]:
    whole = Path(asked["content"]).read_bytes()
    pieces = (whole[at : at + PIECE] for at in range(0, len(whole), PIECE))
    content: Content = {"none": None, "whole": whole, "chunked": pieces}[asked["framing"]]
    try:
        status, headers, received = call(asked["method"], asked["url"], content, asked["timeout_ms"] / 1000)
    except TimeoutError:
        return {"timeout": True}
    except (requests.RequestException, httpx.HTTPError, aiohttp.ClientError) as error:
        return {"error": str(error)}
    Path(asked["into"]).write_bytes(received)
    return {"status": status, "headers": {name.lower(): value for name, value in headers.items()}}


if __name__ == "__main__":
    with CLIENTS[sys.argv[1]]() as chosen:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(answered(chosen, json.loads(line))) + "\n")
            sys.stdout.flush()
