"""What live traffic notices while 10,000 deferred requests are delivered to an upstream that has come back.

    make bench-backlog ARGS="[--requests 10000] [--endpoints 1] [--rounds 3] [--rate 200]"

Two upstreams: a healthy one, which is called at a steady rate throughout, and one that is down while the
requests for it are stored, each of 1 KiB. A round measures how long the healthy calls take, first while all
is stored and nothing can be delivered, then from the moment in which the other listens again to the last
delivery. Calls are sent at their time whether or not earlier ones have been answered, and timed from then.
The proxy is pinned to the first core; load and both upstreams have the last one.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from time import perf_counter

import uvloop
from load import CONTENT_BYTES, request_of
from processes import cpu_s, process
from upstream import Connection

_SETTINGS = """
version: 1
listen: {{proxy: "127.0.0.1:0", admin: "127.0.0.1:{admin}"}}
egress: {{addresses: any}}
defer: {{path: "{path}", max_events: 1000000}}
circuit: {{open: 2s, open_max: 2s, open_jitter: 0}}
upstreams: [{{match: "127.0.0.1:{sick}", fallback: {{defer: true}}, circuit: {{key: path}}}}]
"""
_FILLERS = 32
_CALLERS = 64
_QUIET_S = 10.0


class _Sick:
    """An upstream that is down, and can be started and stopped on the same port."""

    def __init__(self) -> None:
        self._socket = _bound(0)
        self.port = int(self._socket.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._connections: list[_Ended] = []

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=self._socket)

    def stop(self) -> None:
        """Is down again: nothing listens, and no connection stays."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.abort()
        self._connections.clear()
        self._socket = _bound(self.port)

    def _connection(self) -> "_Ended":
        made = _Ended(CONTENT_BYTES)
        self._connections.append(made)
        return made


class _Ended(Connection):
    """A connection that can be ended."""

    def __init__(self, content_bytes: int) -> None:
        super().__init__(content_bytes)
        self._own: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is there."""
        super().connection_made(transport)
        self._own = transport

    def abort(self) -> None:
        """Ends it at once."""
        if self._own is not None:
            self._own.abort()  # type: ignore[attr-defined]  # a transport of TCP


def _bound(port: int) -> socket.socket:
    """A socket that has the port, and does not listen."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


class _Caller:
    """One connection to the proxy, kept alive."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, request: bytes) -> int:
        """The status of the answer."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if length := re.search(rb"(?i)content-length: (\d+)", head):
            await self._reader.readexactly(int(length[1]))
        else:
            await self._reader.readuntil(b"0\r\n\r\n")
        if b"close" in head.lower().partition(b"connection:")[2][:10]:
            self._writer.close()
            self._reader = self._writer = None
        return int(head[9:12])


async def _waiting(port: int) -> int:
    """How many wait. Asked of the API: to render all metrics takes the proxy longer than a call does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/v1/deferred HTTP/1.0\r\nHost: localhost\r\n\r\n")
    content = await reader.read()
    writer.close()
    return int(json.loads(content.partition(b"\r\n\r\n")[2])["waiting"])


async def _metric(port: int, name: str) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    content = (await reader.read()).decode()
    writer.close()
    return sum(
        float(line.rpartition(" ")[2])
        for line in content.splitlines()
        if line.startswith(f"breaker_proxy_{name}")
    )


async def _fill(port: int, request: bytes, requests: int, endpoints: int) -> float:
    """Sends until so many were accepted; how many that was in a second."""
    begin, end = request.split(b"7c1b", 1)
    left = requests
    began = perf_counter()

    async def send() -> None:
        nonlocal left
        caller = _Caller(port)
        while left > 0:
            left -= 1
            if await caller.call(begin + b"%04d" % (left % endpoints) + end) != HTTPStatus.ACCEPTED:
                left += 1

    await asyncio.gather(*(send() for _ in range(_FILLERS)))
    return requests / (perf_counter() - began)


async def _timed(
    callers: "asyncio.Queue[_Caller]", request: bytes, rate: float, is_over: Callable[[], Awaitable[bool]]
) -> list[float]:
    """How long calls took that were sent at a steady rate, in seconds."""
    took: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def call(due: float) -> None:
        caller = await callers.get()
        status = await caller.call(request)
        took.append(perf_counter() - due)
        callers.put_nowait(caller)
        if status != HTTPStatus.OK:
            raise SystemExit(f"a healthy call was answered {status}")

    due = perf_counter()
    looked = due
    while True:
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - perf_counter()))
        task = asyncio.create_task(call(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if due - looked > 1:
            looked = due
            if await is_over():
                break
    await asyncio.gather(*tasks)
    return took


def _p(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _measure(pid: int, port: int, admin: int, sick: _Sick, wanted: argparse.Namespace) -> None:
    well = await asyncio.get_running_loop().create_server(lambda: Connection(CONTENT_BYTES), "127.0.0.1", 0)
    healthy = int(well.sockets[0].getsockname()[1])
    live = request_of(f"http://127.0.0.1:{healthy}", healthy)
    later = request_of(f"http://127.0.0.1:{sick.port}", sick.port)
    callers: asyncio.Queue[_Caller] = asyncio.Queue()
    for _ in range(_CALLERS):
        callers.put_nowait(_Caller(port))
    ratios = []
    for number in range(wanted.rounds):
        stored_per_s = await _fill(port, later, wanted.requests, wanted.endpoints)
        end = perf_counter() + _QUIET_S

        async def is_quiet_over(end: float = end) -> bool:
            await _waiting(admin)
            return perf_counter() >= end

        before = await _timed(callers, live, wanted.rate, is_quiet_over)
        openings = await _metric(admin, 'transitions_total{to_state="open"}')
        depth = await _metric(admin, "deferred_depth")
        await sick.start()
        began, cpu_before = perf_counter(), cpu_s(pid)

        async def is_drained() -> bool:
            return await _waiting(admin) == 0

        during = await _timed(callers, live, wanted.rate, is_drained)
        took_s, cpu = perf_counter() - began, cpu_s(pid) - cpu_before
        reopened = await _metric(admin, 'transitions_total{to_state="open"}') - openings
        dead = await _metric(admin, "deferred_dead_letters")
        sick.stop()
        ratios.append(_p(during, 0.99) / _p(before, 0.99))
        _tell(
            f"round {number + 1}: {depth:.0f} stored ({stored_per_s:.0f}/s), delivered in {took_s:.0f} s"
            f" ({cpu / took_s:.0%} CPU), {dead:.0f} dead, opened again {reopened:.0f} times; healthy p50"
            f" {_p(before, 0.5):.2f} -> {_p(during, 0.5):.2f} ms, p99 {_p(before, 0.99):.2f} ->"
            f" {_p(during, 0.99):.2f} ms, {ratios[-1]:.2f} x"
        )
    _tell(f"p99 of healthy calls during the deliveries: {statistics.median(ratios):.2f} x of that before")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=1, help="over how many circuits they are spread")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=200.0, help="healthy calls a second")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="on the disk to measure")
    wanted = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=wanted.directory)))
        sick = _Sick()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            admin = int(free.getsockname()[1])
        settings = folder / "config.yaml"
        settings.write_text(_SETTINGS.format(admin=admin, path=folder / "deferred.db", sick=sick.port))
        pid, port = stack.enter_context(
            process("-m", "proxy", "run", "--config", str(settings), core=cores[0])
        )
        uvloop.run(_measure(pid, port, admin, sick, wanted))


if __name__ == "__main__":
    main()
