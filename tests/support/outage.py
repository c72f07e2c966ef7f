"""Upstreams that fail in the ways that matter, and the stories of what the proxy then tells clients."""

import asyncio
import hashlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Self
from weakref import WeakSet

from aiohttp import web
from anyio.from_thread import BlockingPortal, start_blocking_portal

from support.process import CLOSED, HALF_OPEN, OPEN, PATIENCE_S, Reply, RunningProxy, until


@dataclass(frozen=True)
class Verbatim:
    """An answer that is sent byte for byte at the head of its request, before any content is read."""

    text: bytes
    reset: bool = False
    """Whether the connection is reset right behind it."""


class LocalUpstream:
    """An HTTP server on loopback that says what it has received; it can be killed and started again.

    Args:
        host: a name that means 127.0.0.1 to the proxy.
        answers: for targets that are answered in another way; may be changed while it runs.
        tls: its side of TLS, if it is to speak HTTPS.
        keep: is given the content of each request that has arrived whole, if not answered in another way.

    Attributes:
        seen: the method and path of each request since the last start.
        expected: how many requests it has told to go on with 100.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        answers: Mapping[str, Verbatim] | None = None,
        tls: ssl.SSLContext | None = None,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        self.seen: list[str] = []
        self.expected = 0
        self._host = host
        self._answers = {} if answers is None else answers
        self._tls = tls
        self._keep = keep
        self._resources = ExitStack()
        self._portal: BlockingPortal | None = None
        self._runner: web.ServerRunner | None = None
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        # Bound and not listening: connections are refused, and nobody else takes the port meanwhile.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: int = self._reserved.getsockname()[1]

    @property
    def authority(self) -> str:
        """Its host and port, which is the name of its circuit."""
        return f"{self._host}:{self.port}"

    @property
    def origin(self) -> str:
        """Its scheme, host and port."""
        return f"{'http' if self._tls is None else 'https'}://{self.authority}"

    @property
    def url(self) -> str:
        """The URL of a resource of its own."""
        return f"{self.origin}/hook?event=1"

    def __enter__(self) -> Self:
        self._resources.enter_context(self._reserved)
        self._portal = self._resources.enter_context(start_blocking_portal())
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._resources:
            self.kill()

    def start(self) -> None:
        """Begins to listen, on the same port each time."""
        self.seen.clear()
        assert self._portal is not None
        self._portal.call(self._start)

    def kill(self) -> None:
        """Stops to listen and drops all connections; nothing if it does not listen."""
        assert self._portal is not None
        self._portal.call(self._kill)

    async def _start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self._tls)
        await site.start()

    async def _kill(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        # With TLS it would wait for the peer's last word.
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        self._transports.add(request.transport)
        self.seen.append(f"{request.method} {request.raw_path}")
        if request.raw_path in self._answers:
            return _VerbatimResponse(self._answers[request.raw_path])
        if "Expect" in request.headers:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.expected += 1
        digest = hashlib.sha256()
        length = 0
        kept: list[bytes] = []
        with suppress(asyncio.CancelledError):
            async for piece in request.content.iter_any():
                digest.update(piece)
                length += len(piece)
                if self._keep is not None:
                    kept.append(piece)
            if self._keep is not None:
                self._keep(b"".join(kept))
        received = {
            "method": request.method,
            "target": request.raw_path,
            "length": length,
            "sha256": digest.hexdigest(),
            "chunked": request.headers.get("Transfer-Encoding") == "chunked",
        }
        return web.json_response(received, headers={"X-Upstream": "local"})


class _VerbatimResponse(web.StreamResponse):
    """What makes aiohttp send a `Verbatim` and nothing of its own."""

    def __init__(self, answer: Verbatim) -> None:
        super().__init__()
        self._answer = answer

    @property
    def keep_alive(self) -> bool:
        return b"Connection: close" not in self._answer.text

    async def prepare(self, request: web.BaseRequest) -> None:
        assert request.transport is not None
        request.transport.write(self._answer.text)
        if self._answer.reset:
            request.transport.abort()

    async def write_eof(self, data: bytes = b"") -> None:
        """It has been written."""


def received(method: str, content: bytes = b"", *, chunked: bool = False) -> dict[str, object]:
    """What a `LocalUpstream` says when such a request for its `url` has arrived whole."""
    digest = hashlib.sha256(content).hexdigest()
    arrived: dict[str, object] = {"method": method, "target": "/hook?event=1", "length": len(content)}
    return arrived | {"sha256": digest, "chunked": chunked}


def assert_refused(reply: Reply, circuit: str) -> None:
    """The proxy says that the circuit is open, in all the fields it has for that."""
    assert reply.status == 503
    assert reply.headers["x-breaker-reason"] == "circuit_open"
    assert int(reply.headers["retry-after"]) >= 1
    expected = rf'breaker-proxy-[0-9a-f]{{8}}; error=destination_unavailable; .*next-hop="{circuit}"'
    assert re.fullmatch(expected, reply.headers["proxy-status"])


def outage(
    proxy: RunningProxy,
    upstream: LocalUpstream,
    call: Callable[[], Reply],
    refused: Callable[[Reply, str], None] = assert_refused,
) -> None:
    """The upstream is killed: five calls fail, the next is refused. It is back: three close the circuit.

    Args:
        proxy: with its defaults, but `circuit.open` a few seconds.
        upstream: in health.
        call: sends one request to it through the proxy.
        refused: asserts that a reply is the refusal of the open circuit.
    """
    circuit = upstream.authority
    assert call().status == 200
    upstream.kill()
    # A call on a connection that is just dying would say nothing about the upstream.
    until(lambda: proxy.metric("pool_connections", state="idle") == 0, "a dead connection stays in the pool")
    until(lambda: proxy.metric("tunnels") == 0, "a dead tunnel stays")
    assert [call().status for _ in range(5)] == [502] * 5
    refused(call(), circuit)
    assert proxy.state(circuit) == OPEN
    assert proxy.metric("circuit_failures_total", circuit=circuit, scope="host", kind="refused") == 5

    upstream.start()
    assert_recovers(proxy, upstream, call, refused)


def assert_recovers(
    proxy: RunningProxy,
    upstream: LocalUpstream,
    call: Callable[[], Reply],
    refused: Callable[[Reply, str], None] = assert_refused,
) -> None:
    """The open circuit of an upstream in health, which has seen nothing yet, closes after three calls."""
    circuit = upstream.authority
    end = monotonic() + PATIENCE_S
    while (reply := call()).status == 503:
        refused(reply, circuit)
        assert upstream.seen == []
        assert monotonic() < end, "the circuit stays open"
    assert reply.status == 200
    assert proxy.state(circuit) == HALF_OPEN
    assert [call().status for _ in range(2)] == [200] * 2
    assert proxy.state(circuit) == CLOSED
    assert len(upstream.seen) == 3


@contextmanager
def silent_upstream(host: str = "127.0.0.1") -> Iterator[str]:
    """Accepts connections and never answers; gives its host (a name that means 127.0.0.1) and port."""
    # Nobody calls accept(): that the backlog takes the connections is all a client ever sees.
    with socket.create_server(("127.0.0.1", 0), backlog=32) as listener:
        yield f"{host}:{listener.getsockname()[1]}"


def assert_abandoned(
    proxy: RunningProxy,
    circuit: str,
    call: Callable[[], Reply],
    refused: Callable[[Reply, str], None] = assert_refused,
) -> None:
    """Five abandoned calls have opened the circuit, and no timeout of the proxy's has run out."""
    # The proxy hears of the last client's leaving a moment after that client.
    until(lambda: proxy.state(circuit) == OPEN, "the circuit does not open")
    refused(call(), circuit)
    assert proxy.metric("circuit_failures_total", circuit=circuit, scope="host", kind="abandoned") == 5
    assert proxy.metric("circuit_calls_total", circuit=circuit, scope="host", outcome="failure") == 5
