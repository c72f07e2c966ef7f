"""One GB through the process in each direction: it arrives whole, and the memory does not grow with it."""

import random
import re
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from select import select
from threading import Event
from typing import Self

import pytest
from support.process import PATIENCE_S, RunningProxy

TOTAL = 1_000_000_000
ALLOWED = 20_000_000
# How long nothing can be sent before it is clear that nobody takes it, and how long all of it may take.
STALLED_S = 0.2
TOTAL_S = 60.0
# Of a length that fits no buffer, so that a piece lost, repeated or moved changes the checksum.
PATTERN = random.Random(0).randbytes(1_000_003)  # noqa: S311 -- no secret

pytestmark = pytest.mark.timeout(180)


def pieces() -> Iterator[bytes]:
    """The content, piece by piece."""
    whole, rest = divmod(TOTAL, len(PATTERN))
    for _ in range(whole):
        yield PATTERN
    yield PATTERN[:rest]


class Sender:
    """Sends the content to a socket.

    Attributes:
        stalled: set once the other side takes no more, or all is sent.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.stalled = Event()

    def content(self, *, chunked: bool) -> int:
        """Sends the content; returns its checksum."""
        checksum = 0
        try:
            for piece in pieces():
                checksum = zlib.adler32(piece, checksum)
                self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                self._send(b"0\r\n\r\n")
        finally:
            self.stalled.set()
        return checksum

    def _send(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            _, writable, _ = select([], [self._connection], [], STALLED_S)
            if writable:
                rest = rest[self._connection.send(rest) :]
            else:
                self.stalled.set()


class Reader:
    """Reads a head, then content, from a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb", buffering=1024 * 1024)

    def head(self) -> bytes:
        return b"".join(iter(self._file.readline, b"\r\n")).lower()

    def content(self, *, chunked: bool) -> int:
        """Reads the content; returns its checksum.

        Raises:
            AssertionError: it has another length than it should.
        """
        checksum = 0
        length = 0
        for piece in self._chunks() if chunked else self._bytes(TOTAL):
            checksum = zlib.adler32(piece, checksum)
            length += len(piece)
        assert length == TOTAL
        return checksum

    def close(self) -> None:
        self._file.close()

    def _bytes(self, count: int) -> Iterator[bytes]:
        while count and (piece := self._file.read(min(count, 1024 * 1024))):
            count -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._file.readline(), 16):
            yield from self._bytes(size)
            assert self._file.readline() == b"\r\n"
        assert self._file.readline() == b"\r\n"


class Line:
    """A client, the proxy, and an upstream; leaving the `with` judges what the proxy's memory has become."""

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._resident = 0

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self._proxy = resources.enter_context(RunningProxy())
            self._listener = resources.enter_context(socket.create_server(("127.0.0.1", 0)))
            self._listener.settimeout(PATIENCE_S)
            self.authority = b"127.0.0.1:%d" % self._listener.getsockname()[1]
            self._threads = resources.enter_context(ThreadPoolExecutor(1))
            address = ("127.0.0.1", self._proxy.proxy_port)
            self.client = resources.enter_context(socket.create_connection(address, PATIENCE_S))
            self.at_client = Reader(self.client)
            resources.callback(self.at_client.close)
            self._resident = self._memory("VmRSS")
            self._resources = resources.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._resources:
            if kind is None:
                assert self._memory("VmHWM") - self._resident < ALLOWED
                assert self._memory("VmRSS") - self._resident < ALLOWED

    def accept(self) -> None:
        """Takes the proxy's connection to the upstream."""
        self.upstream = self._resources.enter_context(self._listener.accept()[0])
        self.upstream.settimeout(PATIENCE_S)
        self.at_upstream = Reader(self.upstream)
        self._resources.callback(self.at_upstream.close)

    def carry(self, sender: socket.socket, reader: Reader, *, chunked: bool = False) -> None:
        """Sends the content through, and proves that it arrives as it was sent, to a reader that is late."""
        sending = Sender(sender)
        sent = self._threads.submit(sending.content, chunked=chunked)
        # A reader that keeps up would never fill what buffers there are.
        assert sending.stalled.wait(TOTAL_S)
        arrived = reader.content(chunked=chunked)
        assert arrived == sent.result()

    def _memory(self, name: str) -> int:
        """A line of /proc/PID/status, in bytes: VmRSS is what is resident, VmHWM the most that ever was."""
        status = Path(f"/proc/{self._proxy.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


FRAMINGS = {"content-length": b"Content-Length: %d\r\n" % TOTAL, "chunked": b"Transfer-Encoding: chunked\r\n"}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("upwards", [True, False], ids=["upload", "download"])
def test_forwarding_takes_no_memory(framing: str, *, upwards: bool) -> None:
    chunked = framing == "chunked"
    with Line() as line:
        request = b"POST" if upwards else b"GET"
        line.client.sendall(
            b"%b http://%b/ HTTP/1.1\r\nHost: a\r\n%b\r\n"
            % (request, line.authority, FRAMINGS[framing] if upwards else b"")
        )
        line.accept()
        assert line.at_upstream.head().startswith(request.lower() + b" / http/1.1\r\n")
        if upwards:
            line.carry(line.client, line.at_upstream, chunked=chunked)
            line.upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            line.upstream.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n" % FRAMINGS[framing])
        answer = line.at_client.head()
        assert answer.startswith(b"http/1.1 200 ok\r\n")
        if not upwards:
            assert FRAMINGS[framing].lower() in answer
            line.carry(line.upstream, line.at_client, chunked=chunked)


@pytest.mark.parametrize("upwards", [True, False], ids=["upload", "download"])
def test_a_tunnel_takes_no_memory(*, upwards: bool) -> None:
    with Line() as line:
        line.client.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (line.authority, line.authority))
        line.accept()
        assert line.at_client.head() == b"http/1.1 200 connection established\r\n"
        if upwards:
            line.carry(line.client, line.at_upstream)
        else:
            line.carry(line.upstream, line.at_client)
