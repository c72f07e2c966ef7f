"""A real DNS server on loopback: what it knows is data.

Each name has its addresses, of both families at will; none at all is NODATA. Another name is an alias
(CNAME), a `Trouble` says how the server fails, and a name that is not there is NXDOMAIN. A `Record` says
more. The mapping may be changed while the server runs.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Self, cast

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, SOA, A, DNSRecord

from proxy.core.policy import Endpoint


class Trouble(Enum):
    """How the server fails, or seems to."""

    SILENT = "nothing is answered"
    SERVFAIL = RCODE.SERVFAIL
    REFUSED = RCODE.REFUSED
    NXDOMAIN = RCODE.NXDOMAIN
    WRONG_ID = "the answer is to another question"
    GARBAGE = "the answer is no message"
    ENDLESS = "the name is an alias of itself"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the server knows of a name.

    Attributes:
        addresses: of both families.
        alias: the name that it is another one for; then it has no addresses of its own.
        ttl: of each of its records, in seconds.
        four, six: what goes wrong with questions for IPv4, for IPv6.
        truncated: over UDP only the head of the answer comes.
        after: each answer waits for this.
    """

    addresses: Sequence[str] = ()
    alias: str | None = None
    ttl: int = 0
    four: Trouble | None = None
    six: Trouble | None = None
    truncated: bool = False
    after: asyncio.Event | None = None

    def trouble(self, kind: str) -> Trouble | None:
        """What goes wrong with this kind of question."""
        return self.six if kind == "AAAA" else self.four


Known = Sequence[str] | str | Trouble | Record

_ABSENT = Record(four=Trouble.NXDOMAIN, six=Trouble.NXDOMAIN)
# What a zone says of names without an answer: that this holds for an hour.
_START_OF_AUTHORITY = SOA("ns.test", "admin.test", (1, 3600, 600, 86400, 3600))


class DnsServer:
    """Answers on 127.0.0.1 while its `async with` lasts.

    Args:
        names: what it knows.
        port: UDP, and TCP if asked for; 0 takes a free one.
        tcp: whether it answers over TCP as well.

    Attributes:
        asked: name and type of each question, in order, without the last dot; over UDP and TCP.
        asked_by_tcp: the same, over TCP.
        with_edns: how many questions had an OPT record.
    """

    def __init__(self, names: Mapping[str, Known], *, port: int = 0, tcp: bool = False) -> None:
        self.asked: list[tuple[str, str]] = []
        self.asked_by_tcp: list[tuple[str, str]] = []
        self.with_edns = 0
        self.port = port
        self._names = names
        self._tcp = tcp
        self._changed = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port)

    async def question(self, name: str, number: int = 1) -> None:
        """Waits until this name has been asked for so often."""
        while sum(name == asked for asked, _ in self.asked) < number:
            self._changed.clear()
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        if self._tcp:
            self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Endpoint(self), local_addr=("127.0.0.1", self.port)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._server is not None:
            self._server.close()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def answer(self, query: bytes, *, by_tcp: bool = False) -> bytes | None:
        """The answer to a query, None if there is none."""
        question = DNSRecord.parse(query)
        name, kind = str(question.q.qname).rstrip("."), QTYPE[question.q.qtype]
        self.asked.append((name, kind))
        if by_tcp:
            self.asked_by_tcp.append((name, kind))
        self.with_edns += any(record.rtype == QTYPE.OPT for record in question.ar)
        self._changed.set()
        reply = question.reply()
        record = self._record(name)
        if record.after is not None:
            await record.after.wait()
            # It may have been changed meanwhile.
            record = self._record(name)
        if record.truncated and not by_tcp:
            reply.header.tc = 1
            return bytes(reply.pack())
        while record.alias is not None:
            reply.add_answer(RR(name, QTYPE.CNAME, ttl=record.ttl, rdata=CNAME(record.alias)))
            name, record = record.alias, self._record(record.alias)
        return _completed(reply, name, kind, record)

    def begin(self, query: bytes, send: "asyncio.DatagramTransport", address: tuple[str, int]) -> None:
        """Answers a datagram, now or later."""

        async def answer() -> None:
            reply = await self.answer(query)
            if reply is not None and not send.is_closing():
                send.sendto(reply, address)

        task = asyncio.get_running_loop().create_task(answer())
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection over TCP: messages with their length before them (RFC 7766)."""
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                reply = await self.answer(await reader.readexactly(length), by_tcp=True)
                if reply is not None:
                    writer.write(len(reply).to_bytes(2) + reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _record(self, name: str) -> Record:
        known = self._names.get(name, _ABSENT)
        if isinstance(known, Record):
            return known
        if isinstance(known, Trouble):
            return Record(four=known, six=known)
        return Record(alias=known) if isinstance(known, str) else Record(addresses=known)


def _completed(reply: DNSRecord, name: str, kind: str, record: Record) -> bytes | None:
    """The answer with what is known of the name at the end of all aliases."""
    trouble = record.trouble(kind)
    if trouble is Trouble.SILENT:
        return None
    if trouble is Trouble.GARBAGE:
        return b"\xff" * 64
    if trouble is Trouble.WRONG_ID:
        reply.header.id ^= 1
    elif trouble is Trouble.ENDLESS:
        reply.add_answer(RR(name, QTYPE.CNAME, ttl=60, rdata=CNAME(name)))
    elif trouble is not None:
        reply.header.rcode = trouble.value
    else:
        for address in record.addresses:
            family = A if ip_address(address).version == 4 else AAAA
            if family.__name__ == kind:
                reply.add_answer(RR(name, reply.q.qtype, ttl=record.ttl, rdata=family(address)))
    if not reply.rr:
        reply.add_auth(RR("test", QTYPE.SOA, ttl=3600, rdata=_START_OF_AUTHORITY))
    return bytes(reply.pack())


class _Endpoint(asyncio.DatagramProtocol):
    """The server's socket."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None:
            self._server.begin(data, self._transport, addr)
