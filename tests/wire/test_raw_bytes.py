"""The table of raw bytes (tests/wire/raw): each case fed whole, byte by byte, and cut at each position."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from itertools import accumulate, repeat
from typing import Self

import h11
import pytest
from support.sidecar import Running, Start
from support.turns import turns
from wire.raw import CASES, CUT_ANSWERS, UPLOAD, UPLOAD_SIZE
from wire.raw.case import ESTABLISHED, WHOLE_REFUSED, Case, Own
from wire.raw.feeder import Feeder, Reads
from wire.raw.upstream import StrictUpstream, one_chunk

from proxy.core.policy import CircuitPolicy, Limits
from proxy.core.quantities import Bytes
from proxy.wire.deadlines import TICK_S

# Every text is cut at each of its first positions; of a longer one the end matters as well.
FIRST_CUTS, LAST_CUTS = 512, 64
# Far longer than any answer takes on a busy machine; a case whose answer does not come fails by it.
PATIENCE_S = 10.0
OVERDUE = Own(status=408, reason="client_timeout", closes=True)
SECTIONS = {
    "limits": Limits(max_head=Bytes(4096), max_fields=16),
    # The cases follow one another on one circuit: nothing of this is about circuits.
    "circuit": CircuitPolicy(consecutive_failures=0, failure_ratio=0),
}


class Conversation:
    """Says one case again and again, and looks at what comes of it."""

    def __init__(self, case: Case, upstream: StrictUpstream, proxy: Running, reads: Reads) -> None:
        self._case = case
        self._upstream = upstream
        self._proxy = proxy
        self._reads = reads
        self._client: Feeder | None = None
        self._arrived = 0
        self._method = case.sent.lstrip().partition(b" ")[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Leaves; nothing may come of that either."""
        if self._client is not None:
            self._client.socket.close()
        await turns(10)
        if failed is None:
            assert self._upstream.total == self._arrived

    async def say(self, sent: list[bytes], then: list[bytes]) -> None:
        """Says it once, in these pieces."""
        case, upstream = self._case, self._upstream
        upstream.begin(case)
        client = self._client
        if client is None:
            client = self._client = Feeder(self._proxy.port, self._reads)
        client.received = b""
        late = False
        try:
            async with asyncio.timeout(PATIENCE_S):
                await client.feed(sent, insists=not case.client_owes)
                if case.first:
                    while len(client.received) < len(case.first) and not client.ended:
                        await client.turn()
                    assert client.received == case.first
                    await client.feed(then)
                while not self._is_over(client):
                    await client.turn()
                    if case.client_owes and upstream.unfinished.startswith(case.unfinished):
                        self._proxy.clock.now += 1
        except TimeoutError:
            late = True  # what is missing is told by what follows
        for _ in range(3):
            await client.turn()
        self._arrived += len(self._check(client, sent).requests)
        assert not late, "the proxy does not read, or says nothing"
        # Inside of a CONNECT the next one would be something else.
        if case.closes or case.raw or ESTABLISHED in case.received:
            client.socket.close()
            self._client = None

    def _is_over(self, client: Feeder) -> bool:
        """Whether all has come, or something has come that should not have."""
        case = self._case
        if client.ended:
            return True
        if case.closes or len(self._upstream.arrived) < len(case.requests):
            return False
        if len(self._upstream.raw) < len(case.raw):
            return False
        received = one_chunk(client.received)
        if case.own is not None:
            return own_answer(received[len(case.received) :], self._method) is not None
        # Until its last chunk a response may be longer than it is with a single one.
        chunked = b"\r\nTransfer-Encoding: chunked\r\n" in case.received
        return received == case.received if chunked else len(received) >= len(case.received)

    def _check(self, client: Feeder, sent: list[bytes]) -> Case:
        """Returns which of the permitted cases it was."""
        case, upstream = self._case, self._upstream
        if case.read_alone and _is_dropped(case, sent, client.received):
            case = replace(case, requests=(), received=b"", own=WHOLE_REFUSED)
        assert upstream.malformed == b""
        assert upstream.arrived == list(case.requests)
        assert upstream.raw == case.raw
        if case.unfinished:
            assert upstream.unfinished.startswith(case.unfinished) or not upstream.unfinished
        else:
            assert upstream.unfinished == b""
        received = one_chunk(client.received)
        if case.own is None:
            assert received == case.received
            assert client.ended is case.closes
            return case
        assert received[: len(case.received)] == case.received
        answer = own_answer(received[len(case.received) :], self._method)
        assert answer is not None, received
        if case.client_owes and answer == OVERDUE:
            assert client.ended
            return case
        self._check_own(answer, case.own, client)
        return case

    @staticmethod
    def _check_own(answer: Own, expected: Own, client: Feeder) -> None:
        assert answer.status == expected.status
        if expected.reason is not None:
            assert answer.reason == expected.reason
        if expected.closes is not None:
            assert answer.closes is expected.closes
            assert client.ended is expected.closes


def _is_dropped(case: Case, sent: list[bytes], received: bytes) -> bool:
    """Whether this has to be, or is, the other one of two permitted outcomes (see `Case.read_alone`)."""
    if len(case.read_alone) in accumulate(map(len, sent)):
        return False
    # Of a fault that comes in two reads, the first may show it, or not yet.
    return len(sent) == 1 or received.startswith(b"HTTP/1.1 400 ")


@lru_cache(maxsize=256)
def own_answer(text: bytes, method: bytes) -> Own | None:
    """An answer as h11 reads it; None if it is not whole. Nothing may follow it."""
    if not text:
        return None
    parser = h11.Connection(h11.CLIENT)
    if method in (b"HEAD", b"CONNECT"):
        parser.send(h11.Request(method=method, target="a:1", headers=[("Host", "a")]))
    else:
        parser.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(text)
    answer: Own | None = None
    while (event := parser.next_event()) is not h11.NEED_DATA:
        if isinstance(event, h11.Response):
            fields = dict(event.headers)
            reason = fields.get(b"x-breaker-reason")
            answer = Own(
                status=event.status_code,
                reason=reason.decode() if reason is not None else None,
                closes=fields.get(b"connection") == b"close",
            )
        elif isinstance(event, h11.EndOfMessage):
            assert parser.trailing_data[0] == b"", parser.trailing_data
            return answer
    return None


def filled_in(case: Case, up: bytes, closed: bytes) -> Case:
    """The case with the authorities that it names."""

    def fill(value: object) -> object:
        if isinstance(value, bytes):
            port = up.rpartition(b":")[2]
            return value.replace(b"{up}", up).replace(b"{port}", port).replace(b"{closed}", closed)
        if isinstance(value, tuple):
            return tuple(fill(item) for item in value)
        return value

    return Case(**{name: fill(value) for name, value in vars(case).items()})  # type: ignore[arg-type]


def cut_everywhere(case: Case) -> Iterator[tuple[str, list[bytes], list[bytes]]]:
    """What the client sends whole, byte by byte, and cut once at each position."""
    sent, then = case.sent, case.then
    yield "whole", [sent], [then]
    yield "byte by byte", _bytes_of(sent), _bytes_of(then)
    for at in _cuts(sent):
        yield f"in two, cut behind {sent[max(0, at - 20) : at]!r}", _cut(at, sent), [then]
    for at in _cuts(then):
        yield f"in two, cut behind {then[max(0, at - 20) : at]!r}", [sent], _cut(at, then)


def _cuts(text: bytes) -> list[int]:
    """Where to cut; between the beginning and the end of what is very long it is all the same."""
    return [at for at in range(1, len(text)) if at <= FIRST_CUTS or len(text) - at <= LAST_CUTS]


def _bytes_of(text: bytes) -> list[bytes]:
    return [text[at : at + 1] for at in range(len(text))]


def _cut(at: int, text: bytes) -> list[bytes]:
    return [text[:at], text[at:]]


@pytest.fixture(scope="module", autouse=True)
def no_garbage() -> Iterator[None]:
    """What was there before is not kept for ever by `few_objects`."""
    gc.collect()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def few_objects() -> None:
    """What was there before need not be looked at for garbage behind each of so many tests."""
    gc.freeze()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nothing listens, and nothing else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_request_arrives_exactly_or_is_refused(
    start: Start, case: Case, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The deadlines are looked at in each turn of the loop.
    monkeypatch.setattr("proxy.wire.deadlines.TICK_S", 0.0 if case.client_owes else TICK_S)
    proxy = await start(**SECTIONS)
    async with StrictUpstream() as upstream:
        case = filled_in(case, b"127.0.0.1:%d" % upstream.port, b"127.0.0.1:%d" % closed_port)
        async with Conversation(case, upstream, proxy, Reads(monkeypatch, upstream)) as conversation:
            for how, sent, then in cut_everywhere(case):
                try:
                    await conversation.say(sent, then)
                except BaseException as failure:
                    failure.add_note(f"fed {how}")
                    raise


@pytest.mark.parametrize("case", CUT_ANSWERS, ids=lambda case: case.name)
async def test_an_answer_in_pieces_comes_back_the_same(
    start: Start, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start(**SECTIONS)
    async with StrictUpstream() as upstream:
        case = filled_in(case, b"127.0.0.1:%d" % upstream.port, b"")
        async with Conversation(case, upstream, proxy, Reads(monkeypatch, upstream)) as conversation:
            (answer,) = case.answers
            upstream.split = _bytes_of
            await conversation.say([case.sent], [])
            for at in range(1, len(answer)):
                upstream.split = partial(_cut, at)
                try:
                    await conversation.say([case.sent], [])
                except BaseException as failure:
                    failure.add_note(f"cut behind {answer[max(0, at - 20) : at]!r}")
                    raise


async def test_an_upload_of_100_mb_ends_where_the_upstream_refuses_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head is cut everywhere; its content, from then on, is only streamed."""
    proxy = await start(**SECTIONS)
    async with StrictUpstream() as upstream:
        case = filled_in(UPLOAD, b"127.0.0.1:%d" % upstream.port, b"")
        reads = Reads(monkeypatch, upstream)
        for how, head, _ in cut_everywhere(case):
            upstream.begin(case)
            with Feeder(proxy.port, reads) as client:
                await client.feed(head)
                async with asyncio.timeout(PATIENCE_S):
                    sent = await client.stream(repeat(b"x" * 65536, UPLOAD_SIZE // 65536))
                assert client.received == case.received, how
            assert sent < UPLOAD_SIZE // 2, how
            assert upstream.arrived == [], how
            assert upstream.unfinished.startswith(case.unfinished), how
            await turns()
