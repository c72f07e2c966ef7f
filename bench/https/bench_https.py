"""What a request costs in CPU time plain, tunnelled, intercepted and originated, and what a connection costs.

    python bench/https/bench_https.py [--rounds 7] [--requests 10000] [--connections 64] [--news 1000]

The request, its answer, the pinning and the account of CPU time are those of bench/forward. One proxy serves
all ways in turn, so that the noise of the machine falls on all; the first round counts for none. What is told
is the median, in microseconds of the proxy's main thread, and its ratio to the plain way, in the same run.

- kept alive: POSTs over connections that stand before the clock is read. In a tunnel client and upstream have
  agreed on TLS with each other; intercepted, each of them with the proxy; originated, the upstream alone.
- new: a connection to the proxy with its CONNECT, its handshake and one POST. In a tunnel the proxy makes a
  connection to the upstream for each; by the other ways it keeps those that it has. The certificate that an
  intercepted client sees has been made before (bench/leaves tells what that costs).
"""

import argparse
import asyncio
import os
import ssl
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trustme
import uvloop
from load import CONTENT_BYTES, Client, request_of
from processes import cpu_s, process
from upstream import ANSWER_END

_UPSTREAM = Path(__file__).parent.parent / "forward" / "upstream.py"
_AT_ONCE = 8
_PLAIN = "plain"
_SETTINGS = """
version: 1
listen: {{proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}}
egress: {{addresses: any}}
intercept: {{ephemeral: true, directory: {trust}, extra_roots: [{ca}]}}
upstreams:
  - {{match: "127.0.0.1:{intercepted}", https: intercept, tls: {{ca: {ca}}}}}
  - {{match: "127.0.0.1:{originated}", https: originate, tls: {{ca: {ca}}}}}
"""


@dataclass(frozen=True)
class _Way:
    """How requests come to an upstream.

    Attributes:
        upstream: its port.
        request: as its client sends it.
        context: of the TLS inside of a CONNECT; None where the proxy is sent the request itself.
    """

    upstream: int
    request: bytes
    context: ssl.SSLContext | None


class _Answer(asyncio.Protocol):
    """Waits for one answer.

    Args:
        end: with which it ends.
    """

    def __init__(self, end: bytes) -> None:
        self._end = end
        self._received = b""
        self.whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(self._end):
            if not self._received.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the proxy answered {self._received[:80]!r}")
            self.whole.set_result(None)


async def _open(port: int, way: _Way) -> asyncio.Transport:
    """A connection on which the request can be sent."""
    loop = asyncio.get_running_loop()
    transport, answer = await loop.create_connection(lambda: _Answer(b"\r\n\r\n"), "127.0.0.1", port)
    if way.context is None:
        return transport
    authority = f"127.0.0.1:{way.upstream}"
    transport.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    await answer.whole
    tls = await loop.start_tls(transport, asyncio.Protocol(), way.context, server_hostname="127.0.0.1")
    return cast("asyncio.Transport", tls)


async def _once(transport: asyncio.Transport, request: bytes) -> None:
    """Sends one request, and reads its answer."""
    answer = _Answer(ANSWER_END)
    transport.set_protocol(answer)
    transport.write(request)
    await answer.whole


async def _served(transport: asyncio.Transport, request: bytes, left: Iterator[int]) -> None:
    """Sends requests on a connection as long as there are any, and closes it."""
    over = asyncio.get_running_loop().create_future()
    client = Client(request, left, lambda: over.set_result(None))
    transport.set_protocol(client)
    client.connection_made(transport)
    await over


async def _kept_alive(
    port: int, way: _Way, requests: int, connections: int, meter: Callable[[], float]
) -> float:
    """CPU seconds of so many requests over connections that stand."""
    transports = [await _open(port, way) for _ in range(connections)]
    # Each sends one before, so that those to the upstream stand as well.
    await asyncio.gather(*(_once(transport, way.request) for transport in transports))
    left = iter(range(requests))
    before = meter()
    await asyncio.gather(*(_served(transport, way.request, left) for transport in transports))
    return meter() - before


async def _new(port: int, way: _Way, news: int, meter: Callable[[], float]) -> float:
    """CPU seconds of so many connections with one request each."""
    left = iter(range(news))

    async def one_after_another() -> None:
        while next(left, None) is not None:
            await _served(await _open(port, way), way.request, iter(range(1)))

    before = meter()
    await asyncio.gather(*(one_after_another() for _ in range(_AT_ONCE)))
    return meter() - before


def _tell(what: str, spent: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(each) for name, each in spent.items()}
    for name, each in spent.items():
        sys.stdout.write(
            f"{what:10} {name:11} {medians[name]:7.1f} us (from {min(each):.1f} to {max(each):.1f});"
            f" {medians[name] / medians[_PLAIN]:5.2f} of plain\n"
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--news", type=int, default=1000)
    wanted = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = trustme.CA()
        ca, pem, trust = folder / "ca.pem", folder / "upstream.pem", folder / "trust"
        authority.cert_pem.write_to_path(str(ca))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))

        def start(*command: str, core: int) -> tuple[int, int]:
            return stack.enter_context(process(*command, core=core))

        os.sched_setaffinity(0, {cores[-1]})
        upstream = (str(_UPSTREAM), str(CONTENT_BYTES))
        _, plain = start(*upstream, core=cores[-1])
        tunnelled, intercepted, originated = (start(*upstream, str(pem), core=cores[-1])[1] for _ in range(3))
        settings = folder / "config.yaml"
        settings.write_text(
            _SETTINGS.format(ca=ca, trust=trust, intercepted=intercepted, originated=originated),
            encoding="utf-8",
        )
        pid, port = start("-m", "proxy", "run", "--config", str(settings), core=cores[0])
        trusting = ssl.create_default_context(cafile=trust / "ca-bundle.crt")

        def absolute(upstream: int) -> bytes:
            return request_of(f"http://127.0.0.1:{upstream}", upstream)

        ways = {
            _PLAIN: _Way(plain, absolute(plain), None),
            "tunnelled": _Way(tunnelled, request_of("", tunnelled), trusting),
            "intercepted": _Way(intercepted, request_of("", intercepted), trusting),
            "originated": _Way(originated, absolute(originated), None),
        }
        kept: dict[str, list[float]] = {name: [] for name in ways}
        new: dict[str, list[float]] = {name: [] for name in ways}

        def meter() -> float:
            return cpu_s(pid)

        for number in range(wanted.rounds + 1):
            for name, way in ways.items():
                a_request = uvloop.run(_kept_alive(port, way, wanted.requests, wanted.connections, meter))
                a_connection = uvloop.run(_new(port, way, wanted.news, meter))
                if number:
                    kept[name].append(a_request / wanted.requests * 1e6)
                    new[name].append(a_connection / wanted.news * 1e6)
    _tell("kept alive", kept)
    _tell("new", new)


if __name__ == "__main__":
    main()
