"""A real DNS server on loopback: what it knows is data.

Each name has its addresses, of both families at will; none at all is NODATA. Another name is an alias
(CNAME), a `Trouble` says how the server fails, and a name that is not there is NXDOMAIN.
"""

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum
from ipaddress import ip_address
from typing import Self, cast

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSRecord


class Trouble(Enum):
    """How the server fails."""

    SILENT = None
    SERVFAIL = RCODE.SERVFAIL
    REFUSED = RCODE.REFUSED


Known = Sequence[str] | str | Trouble


class DnsServer:
    """Answers on 127.0.0.1, UDP port 0, while its `async with` lasts.

    Attributes:
        asked: name and type of each question, in order, without the last dot.
    """

    def __init__(self, names: Mapping[str, Known]) -> None:
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self._names = names
        self._changed = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def question(self, name: str) -> None:
        """Waits until somebody has asked for this name."""
        while all(name != asked for asked, _ in self.asked):
            self._changed.clear()
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Endpoint(self), local_addr=("127.0.0.1", 0)
        )
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.abort()

    def answer(self, query: bytes) -> bytes | None:
        """The answer to a query, None if there is none."""
        question = DNSRecord.parse(query)
        name, kind = str(question.q.qname).rstrip("."), QTYPE[question.q.qtype]
        self.asked.append((name, kind))
        self._changed.set()
        reply = question.reply()
        known = self._names.get(name)
        if isinstance(known, str):
            reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(known)))
            name, known = known, self._names.get(known)
        if known is Trouble.SILENT:
            return None
        if isinstance(known, Trouble):
            reply.header.rcode = known.value
        elif known is None:
            reply.header.rcode = RCODE.NXDOMAIN
        else:
            for address in known:
                record = A if ip_address(address).version == 4 else AAAA
                if record.__name__ == kind:
                    reply.add_answer(RR(name, question.q.qtype, rdata=record(address)))
        return bytes(reply.pack())


class _Endpoint(asyncio.DatagramProtocol):
    """The server's socket."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)
