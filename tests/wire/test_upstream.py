"""One connection to an upstream, over a real socket: what arrives, how it ends, and who waits for whom."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from support.legs import Owner, leg
from support.turns import until
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step, Take, Wait

from proxy.core.errors import (
    ConnectionTerminated,
    HttpProtocolError,
    HttpResponseIncomplete,
    KeptAliveClosed,
    ProxyError,
    TlsAlertReceived,
    TlsProtocolError,
)
from proxy.wire.upstream import HIGH_WATER, UpstreamConnection

# Nothing is left over afterwards.
pytestmark = pytest.mark.usefixtures("start")

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK_LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n"
PLENTY = 8 * 1024 * 1024
TURNS = 500
OWNER = Owner()


@asynccontextmanager
async def connected(upstream: ScriptedUpstream) -> AsyncIterator[UpstreamConnection]:
    OWNER.ended.clear()
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: leg(OWNER), "127.0.0.1", upstream.port
    )
    yield connection
    connection.abort()


def ask(connection: UpstreamConnection, request: bytes = REQUEST, method: str = "GET") -> None:
    """Sends a whole request."""
    connection.begin(method, 4096, 128)
    connection.write(request)
    connection.request_sent()


# Read through functions, since a type checker takes an attribute to stay as it was asserted.
def fit(connection: UpstreamConnection) -> bool:
    return connection.reusable


def held_back(connection: UpstreamConnection) -> bool:
    return connection.writing_paused


async def content_of(connection: UpstreamConnection) -> bytes:
    """All content of the response that has begun."""
    content = connection.take()
    while not connection.response.complete:
        content += await connection.content()
    return content


async def turns() -> None:
    """Gives whatever could happen the time to happen."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_two_exchanges_on_one_connection() -> None:
    script = [
        Expect(),
        Send(OK),
        Expect(b"second"),
        Send(CHUNKED + b"3\r\nyes\r\n"),
        Send(b"0\r\n\r\n"),
        Do.STALL,
    ]
    async with ScriptedUpstream(script) as upstream, connected(upstream) as connection:
        assert (connection.address, connection.reused) == ("127.0.0.1", False)
        ask(connection)
        assert (await connection.next_head()).status == 200
        assert await content_of(connection) == b"ok"
        assert fit(connection)
        connection.rest()
        assert connection.reused
        ask(connection, b"second")
        assert not fit(connection)
        await connection.next_head()
        assert await content_of(connection) == b"yes"
        assert fit(connection)
        assert upstream.connections[0].received == REQUEST + b"second"
        assert repr(connection) == "<UpstreamConnection 127.0.0.1 open reused=True>"


async def test_interim_heads_come_one_by_one_before_the_final_one() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    async with ScriptedUpstream([Expect(), Send(interim + OK), Do.STALL]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            assert [(await connection.next_head()).status for _ in range(4)] == [100, 103, 200, 200]
            assert await content_of(connection) == b"ok"


@pytest.mark.parametrize(
    ("steps", "error", "outcome"),
    [
        ([], ConnectionTerminated, "failure(reset)"),
        ([Do.RESET], ConnectionTerminated, "failure(reset)"),
        ([Send(OK_LINE)], ConnectionTerminated, "failure(reset)"),
        ([Send(OK_LINE), Do.RESET], ConnectionTerminated, "failure(reset)"),
        ([Do.HALF_CLOSE, Do.STALL], ConnectionTerminated, "failure(reset)"),
        ([Send(b"nonsense\r\n"), Do.STALL], HttpProtocolError, "failure(malformed)"),
        ([Send(b"nonsense\r\n")], HttpProtocolError, "failure(malformed)"),
    ],
    ids=["closed", "reset", "cut", "cut by a reset", "half-closed", "nonsense", "nonsense, closed"],
)
async def test_an_end_before_the_head(steps: Sequence[Step], error: type[ProxyError], outcome: str) -> None:
    async with ScriptedUpstream([Expect(), *steps]) as upstream, connected(upstream) as connection:
        ask(connection)
        with pytest.raises(error) as caught:
            await connection.next_head()
        assert str(caught.value.outcome) == outcome
        assert not fit(connection)


def alert_of(reason: str) -> ssl.SSLError:
    error = ssl.SSLError()
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", TlsAlertReceived),
        ("TLSV1_ALERT_UNKNOWN_CA", TlsAlertReceived),
        ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", TlsProtocolError),
    ],
)
async def test_tls_that_ends_before_the_head_says_why(reason: str, error: type[ProxyError]) -> None:
    """RFC 8446 section 4.4.2.4: whether a certificate of ours will do is heard behind the handshake."""
    connection = leg()
    with connection:
        ask(connection)
        head = asyncio.ensure_future(connection.next_head())
        await asyncio.sleep(0)
        connection.connection_lost(alert_of(reason))
        with pytest.raises(error) as caught:
            await head
        assert str(caught.value.outcome) == "failure(tls)"


async def test_tls_that_ends_while_the_connection_rested_says_nothing() -> None:
    connection = leg()
    connection.rest()
    with connection:
        ask(connection)
        connection.connection_lost(alert_of("TLSV1_ALERT_INTERNAL_ERROR"))
        with pytest.raises(KeptAliveClosed):
            await connection.next_head()


async def test_tls_that_ends_in_the_middle_of_the_content_leaves_it_incomplete() -> None:
    connection = leg()
    with connection:
        ask(connection)
        connection.data_received(OK_LINE + b"\r\npart")
        assert (await connection.next_head()).status == 200
        assert await connection.content() == b"part"
        connection.connection_lost(alert_of("TLSV1_ALERT_INTERNAL_ERROR"))
        with pytest.raises(HttpResponseIncomplete):
            await connection.content()


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ([], "neutral"),
        ([Do.RESET], "neutral"),
        ([Send(OK_LINE)], "failure(reset)"),
    ],
    ids=["closed", "reset", "cut"],
)
async def test_the_end_of_a_kept_alive_connection_says_nothing_unless_a_response_began(
    steps: Sequence[Step], outcome: str
) -> None:
    async with ScriptedUpstream([Expect(), Send(OK), Expect(), *steps]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            connection.rest()
            ask(connection)
            with pytest.raises(ConnectionTerminated) as caught:
                await connection.next_head()
            assert str(caught.value.outcome) == outcome


@pytest.mark.parametrize(
    ("head", "end", "error"),
    [
        (OK_LINE + b"Content-Length: 9\r\n\r\nhalf", [], HttpResponseIncomplete),
        (OK_LINE + b"Content-Length: 9\r\n\r\nhalf", [Do.RESET], HttpResponseIncomplete),
        (CHUNKED + b"4\r\nhalf\r\n", [], HttpResponseIncomplete),
        (CHUNKED + b"4\r\nhalf\r\n", [Do.RESET], HttpResponseIncomplete),
        (CHUNKED + b"4\r\nhalf\r\n", [Send(b"0\r\n")], HttpResponseIncomplete),
        (CHUNKED + b"4\r\nhalf\r\n", [Send(b"zz\r\n"), Do.STALL], HttpProtocolError),
        (OK_LINE + b"\r\nhalf", [Do.RESET], HttpResponseIncomplete),
    ],
    ids=[
        "length",
        "length, reset",
        "chunked",
        "chunked, reset",
        "last chunk cut",
        "bad chunk",
        "until close, reset",
    ],
)
async def test_an_end_in_the_middle_of_the_content(
    head: bytes, end: Sequence[Step], error: type[ProxyError]
) -> None:
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(), Send(head), Wait(go_on), *end]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            # A reset may overtake what was not read.
            assert (connection.take() or await connection.content()) == b"half"
            go_on.set()
            with pytest.raises(error):
                await connection.content()
            assert not fit(connection)


async def test_content_that_ends_with_the_connection_is_whole_at_its_end() -> None:
    go_on = asyncio.Event()
    script = [Expect(), Send(OK_LINE + b"\r\nun"), Wait(go_on), Send(b"til")]
    async with ScriptedUpstream(script) as upstream, connected(upstream) as connection:
        ask(connection)
        await connection.next_head()
        go_on.set()
        assert await content_of(connection) == b"until"
        assert await connection.content() == b""
        assert not fit(connection)
        # It closes without being told to: nobody is left to read from.
        while connection.transport is not None:
            await asyncio.sleep(0)


async def test_a_connection_that_ends_behind_its_response_is_not_fit() -> None:
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(), Send(OK), Wait(go_on)]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            assert await content_of(connection) == b"ok"
            assert fit(connection)
            go_on.set()
            while not connection.is_lost:
                await asyncio.sleep(0)
            assert not fit(connection)


async def test_a_connection_whose_content_waits_to_be_taken_is_not_fit() -> None:
    head = OK_LINE + b"Content-Length: %d\r\n\r\n" % (HIGH_WATER + 1)
    async with ScriptedUpstream([Expect(), Send(head + b"z" * (HIGH_WATER + 1)), Do.STALL]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            while not connection.response.complete:
                await asyncio.sleep(0)
            assert not fit(connection)
            assert len(connection.take()) == HIGH_WATER + 1
            assert fit(connection)


@pytest.mark.parametrize(
    ("response", "reusable"),
    [
        (OK, True),
        (CHUNKED + b"0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (OK_LINE + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", False),
        (OK + b"more", False),
        (OK + OK, False),
    ],
    ids=["length", "chunked", "204", "500", "HTTP/1.0", "close", "excess", "second response"],
)
async def test_which_responses_leave_a_connection_fit_for_another(response: bytes, *, reusable: bool) -> None:
    async with ScriptedUpstream([Expect(), Send(response), Do.STALL]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            await content_of(connection)
            assert fit(connection) is reusable


async def test_a_connection_with_an_unfinished_request_or_response_is_not_fit() -> None:
    go_on = asyncio.Event()
    script = [Expect(b"half"), Send(OK[:-1]), Wait(go_on), Send(OK[-1:]), Do.STALL]
    async with ScriptedUpstream(script) as upstream, connected(upstream) as connection:
        assert not fit(connection)
        connection.begin("POST", 4096, 128)
        connection.write(b"half")
        await connection.next_head()
        assert not fit(connection), "both are unfinished"
        connection.request_sent()
        assert not fit(connection), "the response is"
        go_on.set()
        assert await content_of(connection) == b"ok"
        assert fit(connection)
        connection.begin("POST", 4096, 128)
        assert not fit(connection), "nothing is known of the next one"


async def test_a_complete_response_to_an_unfinished_request_leaves_no_fit_connection() -> None:
    script = [Expect(), Send(OK), Expect(b"half"), Send(OK), Do.STALL]
    async with ScriptedUpstream(script) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            assert fit(connection)
            connection.begin("POST", 4096, 128)
            connection.write(b"half")
            await connection.next_head()
            assert await content_of(connection) == b"ok"
            assert not fit(connection)


@pytest.mark.parametrize(
    "steps",
    [[], [Do.RESET], [Do.HALF_CLOSE, Do.STALL], [Send(b"x"), Do.STALL], [Send(OK), Do.STALL]],
    ids=["closed", "reset", "half-closed", "byte", "response"],
)
async def test_what_happens_on_an_idle_connection_is_its_end_and_told_at_once(steps: Sequence[Step]) -> None:
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(), Send(OK), Wait(go_on), *steps]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            assert fit(connection)
            connection.rest()
            go_on.set()
            await until(lambda: OWNER.ended)
            assert OWNER.ended.pop(0) is connection
            assert connection.is_lost
            while connection.transport is not None:
                await asyncio.sleep(0)
            ask(connection)
            with pytest.raises(ConnectionTerminated) as caught:
                await connection.next_head()
            assert str(caught.value.outcome) == "neutral"
            assert repr(connection) == "<UpstreamConnection 127.0.0.1 lost reused=True>"


async def test_a_connection_that_is_held_serves_no_other_exchange_until_it_is_released() -> None:
    async with ScriptedUpstream([Expect(), Send(OK), Do.STALL]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            assert await content_of(connection) == b"ok"
            assert fit(connection)
            # Held, it would see neither its end nor the next response.
            connection.hold()
            assert not fit(connection)
            connection.release()
            assert fit(connection)


async def test_a_held_upstream_sends_no_more_than_what_is_under_way() -> None:
    head = OK_LINE + b"Content-Length: %d\r\n\r\n" % PLENTY
    go_on = asyncio.Event()
    script = [Expect(), Send(head), Wait(go_on), Send(b"z" * PLENTY), Do.STALL]
    async with ScriptedUpstream(script) as upstream, connected(upstream) as connection:
        ask(connection)
        await connection.next_head()
        connection.hold()
        go_on.set()
        await turns()
        # A loop may read once more after it was told to pause.
        assert connection.response.buffered <= 256 * 1024
        # Taking what has come does not release it.
        held = len(connection.take())
        await turns()
        assert connection.response.buffered == 0
        connection.release()
        assert held + len(await content_of(connection)) == PLENTY


async def test_an_upstream_that_is_not_read_is_held_back() -> None:
    head = OK_LINE + b"Content-Length: %d\r\n\r\n" % PLENTY
    async with ScriptedUpstream([Expect(), Send(head + b"z" * PLENTY), Do.STALL]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            await connection.next_head()
            while connection.response.buffered <= HIGH_WATER:
                await asyncio.sleep(0)
            await turns()
            # One read beyond the mark; both loops read up to 256 KiB at once.
            assert HIGH_WATER < connection.response.buffered <= HIGH_WATER + 256 * 1024
            assert len(await content_of(connection)) == PLENTY
            assert fit(connection)


async def test_we_are_held_back_by_an_upstream_that_does_not_read() -> None:
    go_on = asyncio.Event()
    async with ScriptedUpstream([Wait(go_on), Take(PLENTY), Send(OK), Do.STALL]) as upstream:
        async with connected(upstream) as connection:
            connection.begin("POST", 4096, 128)
            await connection.drain()
            connection.write(b"z" * PLENTY)
            assert held_back(connection)
            drained = asyncio.create_task(connection.drain())
            await turns()
            assert not drained.done()
            go_on.set()
            await drained
            assert not held_back(connection)
            connection.request_sent()
            assert (await connection.next_head()).status == 200


@pytest.mark.parametrize("end", [Do.RESET, Do.HALF_CLOSE])
async def test_who_waits_to_write_is_told_of_the_end(end: Do) -> None:
    go_on, never = asyncio.Event(), asyncio.Event()
    async with ScriptedUpstream([Wait(go_on), end, Wait(never)]) as upstream:
        async with connected(upstream) as connection:
            connection.begin("POST", 4096, 128)
            connection.write(b"z" * PLENTY)
            drained = asyncio.create_task(connection.drain())
            await asyncio.sleep(0)
            assert held_back(connection)
            go_on.set()
            await drained
            assert connection.is_lost
            assert not held_back(connection)
            connection.write(b"dropped")


async def test_a_wait_that_was_cancelled_leaves_the_connection_as_it_was() -> None:
    go_on = asyncio.Event()
    async with ScriptedUpstream([Expect(), Wait(go_on), Send(OK), Do.STALL]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            waiting = asyncio.create_task(connection.next_head())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            go_on.set()
            assert (await connection.next_head()).status == 200


async def test_an_aborted_connection_is_gone_for_both_sides() -> None:
    async with ScriptedUpstream([Expect(), Send(OK_LINE), Do.STALL]) as upstream:
        async with connected(upstream) as connection:
            ask(connection)
            waiting = asyncio.create_task(connection.next_head())
            peer = await upstream.connection(0)
            await peer.until(REQUEST)
            connection.abort()
            with pytest.raises(ConnectionTerminated):
                await waiting
            while not peer.ended:
                await asyncio.sleep(0)
            connection.abort()


async def test_there_is_no_response_before_an_exchange() -> None:
    async with ScriptedUpstream([Do.STALL]) as upstream, connected(upstream) as connection:
        with pytest.raises(RuntimeError):
            _ = connection.response
