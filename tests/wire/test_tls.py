"""TLS over real sockets, on both loops and from both sides, against Python's ssl.

`Peer` is the other end; what our end is told, in order, is in `Notes.said`.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
from support import certificates
from support.certificates import NAME
from support.legs import leg
from support.tls_peer import Forger, Peer
from support.turns import turns, until

from proxy.core.errors import HttpResponseIncomplete
from proxy.wire.reading import READ_SIZE, Door
from proxy.wire.tls import TlsTransport
from proxy.wire.unsent import keep_little

pytestmark = pytest.mark.usefixtures("start")

# More than two kernels take.
PLENTY = bytes(range(250)) * 80_000
# The content of a record (RFC 8446 section 5.1).
RECORD_BYTES = 2**14


class Notes(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.sizes: list[int] = []
        self.said: list[object] = []
        self.full = False
        self.closes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("TlsTransport", transport)
        self.said.append("made")

    def data_received(self, data: bytes) -> None:
        self.content += data
        self.sizes.append(len(data))

    def eof_received(self) -> bool:
        self.said.append("eof")
        return self.closes

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append(exc)

    @property
    def is_lost(self) -> bool:
        return self.said[-1] is None or isinstance(self.said[-1], Exception)

    async def lost(self) -> object:
        """Waits for the end; returns the reason."""
        await until(lambda: self.is_lost)
        return self.said[-1]

    async def received(self, content: bytes) -> None:
        await until(lambda: len(self.content) >= len(content))
        assert self.content == content


class Ends:
    """Our end of a connection, and the peer's."""

    def __init__(self, tls: TlsTransport, peer: Peer) -> None:
        self.tls = tls
        self.peer = peer

    async def shake(self, behind: bytes = b"", *, with_end: bool = False) -> None:
        await asyncio.gather(self.tls.handshake(), self.peer.shake(behind, with_end=with_end))

    async def fail(self) -> tuple[BaseException | None, BaseException | None]:
        """What both say to a handshake that fails at the latest when the peer wants to read."""

        async def theirs() -> None:
            await self.peer.shake()
            await self.peer.rest()

        ours, heard = await asyncio.gather(self.tls.handshake(), theirs(), return_exceptions=True)
        return ours, heard

    async def carried(self, notes: Notes | None = None) -> Notes:
        await self.shake()
        notes = notes or Notes()
        self.tls.carry(notes)
        return notes


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        return one, listening.accept()[0]


@asynccontextmanager
async def ends(
    *,
    serves: bool = False,
    version: str | None = None,
    ours: ssl.SSLContext | None = None,
    theirs: ssl.SSLContext | None = None,
) -> AsyncIterator[Ends]:
    """Both ends of a connection on which no word has been said; ours is a client's unless it `serves`."""
    server, client = certificates.server(), certificates.client(version=version)
    ours = ours or (server if serves else client)
    theirs = theirs or (client if serves else server)
    one, other = tcp_pair()
    tls = TlsTransport(ours, server_side=serves, server_hostname=None if serves else NAME)
    await asyncio.get_running_loop().create_connection(lambda: tls, sock=one)
    reader, writer = await asyncio.open_connection(sock=other)
    try:
        yield Ends(tls, Peer(reader, writer, theirs, NAME if serves else None, serves=not serves))
    finally:
        writer.transport.abort()
        # Whatever the test was about, it has ended, or ends now that the peer is gone.
        await until(tls.is_closing)


def whole(content: bytes | bytearray) -> bool:
    """Whether it is PLENTY, of which pytest would show for minutes how it is not."""
    return content == PLENTY


SIDES = pytest.mark.parametrize("serves", [False, True], ids=["client", "server"])
VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])


# With what others have.


@VERSIONS
async def test_it_is_a_client_to_the_servers_of_asyncio(version: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server(version=version))
    tls = TlsTransport(certificates.client(), server_side=False, server_hostname=NAME)
    await asyncio.get_running_loop().create_connection(lambda: tls, *listening.sockets[0].getsockname())
    await tls.handshake()
    notes = Notes()
    tls.carry(notes)
    tls.writelines([b"hel", b"lo"])
    assert await notes.lost() is None
    assert notes.content == b"hello"
    assert notes.said == ["made", "eof", None]
    listening.close()
    await listening.wait_closed()


@VERSIONS
async def test_it_is_a_server_to_blocking_sockets(version: str) -> None:
    """Put on a connection that another protocol had before, and had paused."""
    one, other = tcp_pair()
    raw, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=one)
    raw.pause_reading()

    def asked() -> bytes:
        with certificates.client(version=version).wrap_socket(other, server_hostname=NAME) as their:
            their.sendall(b"hello")
            return their.recv(100)

    asking = asyncio.create_task(asyncio.to_thread(asked))
    tls = TlsTransport(certificates.server(), server_side=True)
    raw.set_protocol(tls)
    tls.connection_made(raw)
    await tls.handshake()
    notes = Notes()
    tls.carry(notes)
    await notes.received(b"hello")
    tls.write(b"olleh")
    assert await asking == b"olleh"
    # Python's ssl closes without a close_notify.
    assert isinstance(await notes.lost(), ConnectionResetError)


# The handshake.


@VERSIONS
@pytest.mark.parametrize("size", [1, 5, 100, 10_000], ids=["a byte", "its header", "some", "all"])
async def test_what_a_client_has_said_already_is_heard(version: str, size: int) -> None:
    async with ends(serves=True, version=version) as both:
        hello = both.peer.hello()
        shaking = asyncio.create_task(both.tls.handshake(hello[:size]))
        both.peer.writer.write(hello[size:])
        await both.peer.shake(b"more")
        await shaking
        notes = Notes()
        both.tls.carry(notes)
        await notes.received(b"more")


async def test_a_client_may_say_hello_byte_by_byte() -> None:
    async with ends(serves=True) as both:
        hello = both.peer.hello()
        await until(lambda: both.tls.get_extra_info("socket") is not None)
        shaking = asyncio.create_task(both.tls.handshake(hello[:1]))
        for at in range(1, len(hello)):
            both.peer.writer.write(hello[at : at + 1])
            await turns(3)
        await both.peer.shake()
        await shaking
        both.tls.abort()


async def test_what_a_client_says_before_we_listen_comes_behind_what_was_read_already() -> None:
    async with ends(serves=True) as both:
        hello = both.peer.hello()
        both.peer.writer.write(hello[50:])
        await turns()
        await asyncio.gather(both.tls.handshake(hello[:50]), both.peer.shake())
        both.tls.abort()


@pytest.mark.parametrize(("serves", "version"), [(True, "1.3"), (True, "1.2"), (False, "1.2")])
async def test_what_comes_with_the_last_of_the_handshake_waits_for_a_protocol(
    *, serves: bool, version: str
) -> None:
    content = PLENTY[:50_000]
    async with ends(serves=serves, version=version) as both:
        await both.shake(content, with_end=True)
        both.peer.writer.write_eof()
        await turns()
        notes = Notes()
        both.tls.carry(notes)
        assert notes.said == ["made"]
        assert notes.content == b""
        assert await notes.lost() is None
        assert notes.content == content
        assert notes.said == ["made", "eof", None]


async def test_a_connection_that_breaks_before_it_is_used_gives_all_that_had_come() -> None:
    async with ends(serves=True) as both:
        await both.shake(b"last words")
        await turns()
        both.peer.reset()
        # The loop does not read on, and so does not notice by itself.
        both.tls.resume_reading()
        notes = Notes()
        both.tls.carry(notes)
        assert isinstance(await notes.lost(), ConnectionError)
        assert notes.content == b"last words"


async def test_a_connection_that_is_lost_before_it_is_used_says_so_to_who_uses_it() -> None:
    async with ends(serves=True) as both:
        await both.shake()
        with pytest.raises(RuntimeError):
            both.tls.get_protocol()
        both.peer.reset()
        await until(lambda: both.tls.get_extra_info("socket") is None)
        notes = Notes()
        both.tls.carry(notes)
        keep_little(both.tls)
        assert notes.said == ["made"]
        assert isinstance(await notes.lost(), ConnectionError)
        assert len(notes.said) == 2
        with pytest.raises(ConnectionError):
            await both.tls.handshake()


UNCONVINCING = {
    "of an unknown CA": (certificates.server(is_trusted=False), "unable to get local issuer", "UNKNOWN_CA"),
    "for another name": (certificates.server("other.test"), "Hostname mismatch", "BAD_CERTIFICATE"),
    "expired": (certificates.server(is_expired=True), "has expired", "CERTIFICATE_EXPIRED"),
}


@VERSIONS
@pytest.mark.parametrize(("theirs", "why", "alert"), UNCONVINCING.values(), ids=UNCONVINCING)
async def test_a_certificate_that_does_not_convince(
    version: str, theirs: ssl.SSLContext, why: str, alert: str
) -> None:
    async with ends(version=version, theirs=theirs) as both:
        error, heard = await both.fail()
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert why in error.verify_message
        assert isinstance(heard, ssl.SSLError)
        assert alert in str(heard.reason)


@VERSIONS
async def test_a_client_that_does_not_trust_us_says_so(version: str) -> None:
    ours = certificates.server(is_trusted=False)
    async with ends(serves=True, version=version, ours=ours) as both:
        error, heard = await both.fail()
        assert isinstance(error, ssl.SSLError)
        assert "ALERT_UNKNOWN_CA" in error.reason
        assert isinstance(heard, ssl.SSLCertVerificationError)


@SIDES
async def test_no_version_in_common(*, serves: bool) -> None:
    """The server says so to the client, whichever of them we are."""
    server, client = certificates.server(version="1.3"), certificates.client(version="1.2")
    async with ends(
        serves=serves, ours=server if serves else client, theirs=client if serves else server
    ) as both:
        ours, theirs = await both.fail()
        server_says, client_hears = (ours, theirs) if serves else (theirs, ours)
        assert isinstance(server_says, ssl.SSLError)
        assert server_says.reason == "UNSUPPORTED_PROTOCOL"
        assert isinstance(client_hears, ssl.SSLError)
        assert "PROTOCOL_VERSION" in client_hears.reason


@SIDES
@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(70_000)], ids=["HTTP", "zeros"])
async def test_what_is_no_tls(*, serves: bool, garbage: bytes) -> None:
    async with ends(serves=serves) as both:
        both.peer.writer.write(garbage)
        with pytest.raises(ssl.SSLError):
            await both.tls.handshake()
        with suppress(ConnectionError):
            await both.peer.reader.read()


@SIDES
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_peer_that_leaves_the_handshake(*, serves: bool, how: str, when: str) -> None:
    async with ends(serves=serves) as both:
        shaking = None
        if when == "meanwhile":
            shaking = asyncio.create_task(both.tls.handshake())
            await turns()
            assert not shaking.done()
        if how == "close":
            both.peer.writer.close()
        else:
            both.peer.reset()
        await turns()
        with pytest.raises(ConnectionError):
            await (shaking or both.tls.handshake())


@SIDES
async def test_a_handshake_that_is_given_up(*, serves: bool) -> None:
    async with ends(serves=serves) as both:
        shaking = asyncio.create_task(both.tls.handshake())
        await turns()
        shaking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shaking
        assert both.tls.is_closing()
        # Cut, behind what a client has said by then.
        assert bool(await both.peer.reader.read()) is not serves
        assert both.tls.get_extra_info("socket") is None


async def test_a_handshake_that_is_aborted() -> None:
    async with ends() as both:
        shaking = asyncio.create_task(both.tls.handshake())
        await turns()
        both.tls.close()
        with pytest.raises(ConnectionError):
            await shaking


# How it ends.


@SIDES
@VERSIONS
async def test_our_close_comes_behind_what_was_written(*, serves: bool, version: str) -> None:
    async with ends(serves=serves, version=version) as both:
        notes = await both.carried()
        both.tls.write(PLENTY)
        both.tls.close()
        both.tls.write(b"too late")
        both.tls.close()
        assert both.tls.is_closing()
        assert whole(await both.peer.rest())
        assert await notes.lost() is None
        assert notes.said == ["made", None]


@SIDES
@VERSIONS
async def test_a_peers_close_is_an_end(*, serves: bool, version: str) -> None:
    async with ends(serves=serves, version=version) as both:
        notes = await both.carried()
        both.tls.write(PLENTY)
        await both.peer.send(b"last words")
        both.peer.end()
        # What had been written still comes, and a close_notify behind it.
        assert whole(await both.peer.rest())
        assert await notes.lost() is None
        assert notes.content == b"last words"
        assert notes.said == ["made", "eof", None]


@SIDES
async def test_a_connection_that_is_cut(*, serves: bool) -> None:
    async with ends(serves=serves) as both:
        notes = await both.carried()
        await both.peer.send(b"half a wo")
        both.peer.writer.write_eof()
        assert isinstance(await notes.lost(), ConnectionResetError)
        assert notes.content == b"half a wo"
        assert "eof" not in notes.said


async def test_garbage_behind_the_handshake() -> None:
    async with ends() as both:
        notes = await both.carried()
        await both.peer.send(b"right")
        both.peer.writer.write(b"wrong" * 10)
        error = await notes.lost()
        assert isinstance(error, ssl.SSLError)
        assert notes.content == b"right"
        with pytest.raises(ssl.SSLError, match="ALERT"):
            await both.peer.rest()


@SIDES
async def test_abort_cuts(*, serves: bool) -> None:
    async with ends(serves=serves) as both:
        notes = await both.carried()
        both.tls.abort()
        assert await notes.lost() is None
        assert both.tls.get_extra_info("socket") is None
        assert both.tls.get_extra_info("peername", "none") == "none"
        assert both.tls.get_write_buffer_size() == 0
        both.tls.write(b"too late")
        both.tls.close()
        keep_little(both.tls)
        with pytest.raises(ConnectionError):
            await both.peer.rest()


async def test_what_has_come_before_a_connection_breaks_is_passed_on() -> None:
    """We write, the peer answers early and breaks the connection; the loop notices when it writes."""
    async with ends() as both:
        notes = await both.carried()
        both.tls.pause_reading()
        await turns()
        await both.peer.send(b"413")
        both.peer.end()
        # It has not read what we wrote.
        both.tls.write(PLENTY)
        await turns()
        both.peer.reset()
        await notes.lost()
        assert notes.content == b"413"


async def test_an_upstream_that_cuts_its_response_is_not_taken_for_one_that_has_ended_it() -> None:
    for ends_well in (True, False):
        async with ends() as both:
            await both.shake()
            connection = leg()
            both.tls.carry(connection)
            connection.begin("GET", 4096, 128)
            await both.peer.send(b"HTTP/1.1 200 OK\r\n\r\nas far as")
            assert (await connection.next_head()).status == 200
            if ends_well:
                both.peer.end()
            else:
                both.peer.writer.close()
            assert await connection.content() == b"as far as"
            if ends_well:
                assert await connection.content() == b""
            else:
                with pytest.raises(HttpResponseIncomplete):
                    await connection.content()


# Back-pressure.


@SIDES
@VERSIONS
async def test_a_slow_peer_stops_the_writer_and_gets_all(*, serves: bool, version: str) -> None:
    async with ends(serves=serves, version=version) as both:
        notes = await both.carried()
        keep_little(both.tls)
        most = 0

        async def write() -> None:
            nonlocal most
            for at in range(0, len(PLENTY), READ_SIZE):
                await until(lambda: not notes.full)
                both.tls.write(PLENTY[at : at + READ_SIZE])
                most = max(most, both.tls.get_write_buffer_size())
            both.tls.close()

        writing = asyncio.create_task(write())
        await until(lambda: notes.full)
        await turns()
        assert not writing.done()
        assert whole(await both.peer.rest())
        await writing
        assert await notes.lost() is None
        assert most < 3 * READ_SIZE


class Slow(Notes):
    """Takes no more after each piece until it is asked to."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        assert self.transport.is_reading()
        self.transport.pause_reading()
        assert not self.transport.is_reading()


@SIDES
@VERSIONS
async def test_a_slow_reader_stops_the_peer_and_gets_all(*, serves: bool, version: str) -> None:
    async with ends(serves=serves, version=version) as both:
        notes = await both.carried(Slow())

        async def send() -> None:
            await both.peer.send(PLENTY)
            both.peer.end()

        sending = asyncio.create_task(send())
        while not notes.is_lost:
            before = len(notes.sizes)
            async with asyncio.timeout(10):
                while len(notes.sizes) == before and not notes.is_lost:
                    await asyncio.sleep(0)
            await turns(2)
            assert len(notes.sizes) <= before + 1
            assert not sending.done() or len(notes.content) > READ_SIZE
            both.tls.resume_reading()
        await sending
        assert whole(notes.content)
        # A record that began in one piece of what was received may end in the next one.
        assert max(notes.sizes) <= READ_SIZE + RECORD_BYTES
        assert notes.said == ["made", "eof", None]


class Hasty(Notes):
    """Pauses and reads on within each call, and sends what it gets back."""

    depth = 0

    def data_received(self, data: bytes) -> None:
        self.depth += 1
        assert self.depth == 1
        super().data_received(data)
        self.transport.pause_reading()
        self.transport.resume_reading()
        self.transport.pause_reading()
        self.transport.resume_reading()
        self.transport.write(data)
        self.depth -= 1


async def test_reading_on_within_a_call_calls_later_and_in_order() -> None:
    content = PLENTY[:500_000]
    async with ends() as both:
        notes = await both.carried(Hasty())
        # Small records as well, of which many come at once.
        for at in range(0, 1000, 10):
            both.peer.tls.write(content[at : at + 10])
        both.peer.tls.write(content[1000:])
        both.peer.writer.write(both.peer.outgoing.read())
        assert await both.peer.receive(len(content)) == content
        assert bytes(notes.content) == content


@SIDES
async def test_a_protocol_may_close_behind_the_peers_end(*, serves: bool) -> None:
    async with ends(serves=serves) as both:
        notes = Notes()
        notes.closes = True
        await both.carried(notes)
        both.peer.end()
        await until(lambda: notes.said == ["made", "eof"])
        both.tls.pause_reading()
        both.tls.resume_reading()
        both.tls.write(b"later")
        assert await both.peer.receive(5) == b"later"
        # As the loop does for a FIN.
        assert both.tls.eof_received()
        assert notes.said == ["made", "eof"]
        both.tls.close()
        assert await both.peer.rest() == b""
        assert await notes.lost() is None


async def test_a_paused_connection_says_later_how_it_ended() -> None:
    async with ends() as both:
        notes = await both.carried()
        both.tls.pause_reading()
        await both.peer.send(b"last words")
        both.peer.end()
        both.peer.writer.close()
        await turns()
        assert notes.said == ["made"]
        assert not notes.content
        both.tls.resume_reading()
        assert not notes.content
        assert await notes.lost() is None
        assert notes.content == b"last words"
        assert notes.said == ["made", "eof", None]


class Faulty(Notes):
    """Has a fault."""

    def data_received(self, data: bytes) -> None:
        raise ZeroDivisionError(data)


async def test_a_fault_of_the_protocol_ends_the_connection() -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told["exception"]))
    async with ends(serves=True) as both:
        await both.shake(b"held until it is carried")
        await turns()
        notes = Faulty()
        both.tls.carry(notes)
        await notes.lost()
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


# What a peer may make it do.


@asynccontextmanager
async def forged(tmp_path: Path) -> AsyncIterator[tuple[Ends, Notes, Forger]]:
    client = certificates.client(version="1.3")
    client.keylog_filename = str(tmp_path / "keys")
    async with ends(serves=True, theirs=client) as both:
        notes = await both.carried()
        yield both, notes, Forger(tmp_path / "keys")


async def test_a_peer_may_change_its_keys_and_ask_for_others(tmp_path: Path) -> None:
    async with forged(tmp_path) as (both, notes, forger):
        sent = b""
        for number in b"123":
            sent += forger.record(bytes([number])) + forger.key_update()
        both.peer.writer.write(sent + forger.record(b"4"))
        await notes.received(b"1234")
        # Python's ssl, which has not asked for it, follows.
        both.tls.write(b"with new keys")
        assert await both.peer.receive(13) == b"with new keys"


async def test_a_peer_that_asks_for_more_and_more_keys_and_reads_none_is_given_up(tmp_path: Path) -> None:
    async with forged(tmp_path) as (both, notes, forger):
        keep_little(both.tls)
        while not notes.full:
            both.tls.write(bytes(READ_SIZE))
            await turns(1)
        held = both.tls.get_write_buffer_size()
        requests = b"".join(forger.key_update() for _ in range(2000))
        both.peer.writer.write(requests)
        assert isinstance(await notes.lost(), ConnectionAbortedError | ssl.SSLError)
        assert held < 3 * READ_SIZE


async def test_a_peer_that_sends_records_of_nothing_does_not_stop_the_loop(tmp_path: Path) -> None:
    async with forged(tmp_path) as (both, notes, forger):
        both.peer.writer.write(b"".join(forger.record(b"") for _ in range(30)) + forger.record(b"some"))
        await notes.received(b"some")
        both.peer.writer.write(b"".join(forger.record(b"") for _ in range(2000)))
        # OpenSSL has enough of them.
        assert isinstance(await notes.lost(), ssl.SSLError)


# As a transport.


async def test_what_it_says_of_the_connection() -> None:
    async with ends() as both:
        notes = await both.carried()
        assert both.tls.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert isinstance(both.tls.get_extra_info("sslcontext"), ssl.SSLContext)
        assert both.tls.get_extra_info("peername") == both.peer.writer.get_extra_info("sockname")
        assert both.tls.get_protocol() is notes
        assert not both.tls.can_write_eof()
        with pytest.raises(NotImplementedError):
            both.tls.write_eof()
        both.tls.set_write_buffer_limits(20_000, 10_000)
        assert both.tls.get_write_buffer_limits() == (10_000, 20_000)
        assert repr(both.tls) == "<TlsTransport TLSv1.3 open>"


async def test_a_door_and_its_successor_get_what_is_decrypted() -> None:
    async with ends() as both:
        first, second = await both.carried(), Notes()
        both.tls.set_protocol(Door(second))
        await both.peer.send(b"for the second")
        await second.received(b"for the second")
        assert not first.content
        both.peer.end()
        await until(lambda: second.said == ["eof", None])
