"""The ways by which a client can name an upstream, so that one table of cases goes through all of them."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress
from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Tls
from proxy.core.overlay import Overlay
from proxy.core.policy import Dns, Endpoint, Listen, Upstream
from proxy.core.route import PathPrefix, Route, UpstreamUrl
from support import certificates
from support.client import Client, get, request
from support.dns import DnsServer
from support.sidecar import Running, Start
from support.upstream import OK, Do, Expect, ScriptedUpstream, Send, Step

# Far longer than any answer takes. Whatever should not have been called does not answer.
_PATIENCE_S = 5.0
# Stands for the internet; every other address of loopback is private.
PUBLIC = "127.0.0.2"
# No HTTP and no TLS, so that a tunnel only carries it; whoever waits for the end of a head answers it.
OPAQUE = b"\0opaque\r\n\r\n"
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(Network.parse, texts))


def patterns(*texts: str) -> tuple[HostPattern, ...]:
    return tuple(map(HostPattern.parse, texts))


@dataclass(frozen=True)
class Told:
    """What a client was answered, byte for byte."""

    head: bytes
    content: bytes = b""

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def phrase(self) -> str:
        return self.head.partition(b"\r\n")[0].split(b" ", 2)[2].decode()

    def field(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key == name:
                return value
        return None

    @property
    def reason(self) -> str | None:
        return self.field("X-Breaker-Reason")

    @property
    def setting(self) -> str:
        """The setting that Proxy-Status names."""
        status = self.field("Proxy-Status") or ""
        return status.partition('details="')[2].partition(" ")[0]


@dataclass(frozen=True)
class Way:
    """How a client asks.

    Attributes:
        script: what an upstream does that answers it.
        passed: the status that says that the upstream was reached.
        internal: whether a route calls the upstream internal; None is no route.
        scheme: that the request, or the route, names.
        is_originated: whether that becomes https.
    """

    name: str
    script: tuple[Step, ...] = (Expect(), Send(OK))
    passed: int = 200
    internal: bool | None = None
    scheme: str = "http"
    is_originated: bool = False

    @property
    def is_https(self) -> bool:
        """Whether the upstream is called over TLS."""
        return self.scheme == "https" or self.is_originated

    def upstream(self, host: str, port: int) -> ScriptedUpstream:
        """One that answers what comes this way, by whatever name it was called."""
        tls = certificates.server() if self.is_https else None
        return ScriptedUpstream(self.script, host=host, port=port, tls=tls)

    def entries(self, entries: tuple[Upstream, ...]) -> tuple[Upstream, ...]:
        """The settings of upstreams, so that over TLS they are believed."""
        if not self.is_https:
            return entries
        tls: Overlay[Tls] = Overlay({"ca": certificates.authority_path(), "server_name": certificates.NAME})
        https = HttpsMode.ORIGINATE if self.is_originated else HttpsMode.TUNNEL
        everybody = Upstream(match=HostPattern.parse("*"))
        return tuple(replace(entry, tls=tls, https=https) for entry in (*entries, everybody))

    def __str__(self) -> str:
        return self.name

    @property
    def egress(self) -> Egress:
        """The rules under which of loopback only PUBLIC may be called, which a refusal names as `setting`."""
        if self.internal:
            return Egress(deny=networks("0.0.0.0/31", "127.0.0.1", "127.0.0.3", "::/127", "10.0.0.0/8"))
        return Egress(allow=networks(PUBLIC))

    @property
    def setting(self) -> str:
        """The setting that refuses, by `egress`."""
        return "egress.deny" if self.internal else "egress.addresses"

    @property
    def denied_status(self) -> int:
        """The status where a rule forbids a host."""
        return 502 if self is TUNNEL else 403

    def key(self, authority: str) -> str:
        """The circuit of an upstream."""
        return f"{authority}+internal" if self.internal else authority

    async def begin(
        self, start: Start, *authorities: str, dns: DnsServer | None = None, **sections: Any
    ) -> Running:
        """Starts a sidecar; by routes only these upstreams can be named."""
        sections.setdefault("egress", self.egress)
        sections["upstreams"] = self.entries(sections.get("upstreams", ()))
        if dns is not None:
            sections["dns"] = Dns(servers=(Endpoint("127.0.0.1", dns.port),))
        if self.internal is not None:
            sections.setdefault("listen", LISTEN)
            sections["routes"] = tuple(
                Route(
                    path=PathPrefix(f"/{authority}"),
                    upstream=UpstreamUrl.parse(f"{self.scheme}://{authority}"),
                    internal=self.internal,
                )
                for authority in authorities
            )
        return await start(**sections)

    def request(self, authority: str, *extra: str) -> bytes:
        """What asks for an upstream."""
        if self is TUNNEL:
            return request("CONNECT", authority, *extra)
        if self is WEBSOCKET:
            extra = (*extra, "Upgrade: websocket", "Connection: Upgrade")
        if self.internal is None:
            return get(f"{self.scheme}://{authority}/", *extra)
        return (
            b"\r\n".join([f"GET /{authority}/ HTTP/1.1".encode(), b"Host: proxy", *map(str.encode, extra)])
            + END
        )

    def port(self, proxy: Running) -> int:
        """The listener of the proxy that is asked."""
        return proxy.port if self.internal is None else proxy.sidecar.reverse_port

    async def ask(self, proxy: Running, authority: str, behind: bytes = b"") -> Told:
        """Asks by a connection of its own, and waits until the exchange is over."""
        reports = len(proxy.exchanges) + 1
        async with asyncio.timeout(_PATIENCE_S), await Client.connect(self.port(proxy)) as client:
            await client.send(self.request(authority) + behind)
            told = await hear(client)
            if told.status == 200 and self is TUNNEL:
                await client.send(OPAQUE)
                assert (await client.reader.readexactly(len(OK))) == OK
            elif behind:
                assert await client.rest() == b""
        await proxy.report(reports)
        return told


async def hear(client: Client) -> Told:
    """The answer to what was sent."""
    head = await client.reader.readuntil(END)
    length = Told(head).field("Content-Length")
    return Told(head, await client.reader.readexactly(int(length or 0)))


END = b"\r\n\r\n"
LISTEN = Listen(
    proxy=Endpoint("127.0.0.1", 0), admin=Endpoint("127.0.0.1", 0), reverse=Endpoint("127.0.0.1", 0)
)
FORWARD = Way("forward")
TUNNEL = Way("tunnel")
WEBSOCKET = Way("websocket", (Expect(), Send(ACCEPT), Do.STALL), 101)
REVERSE = Way("reverse", internal=False)
INTERNAL = Way("internal", internal=True)
HTTPS = Way("https", scheme="https")
HTTPS_ROUTE = Way("https route", internal=False, scheme="https")
HTTPS_INTERNAL = Way("internal https", internal=True, scheme="https")
ORIGINATED = Way("originated", is_originated=True)
ORIGINATED_INTERNAL = Way("internal originated", internal=True, is_originated=True)
WAYS = (
    FORWARD,
    TUNNEL,
    WEBSOCKET,
    REVERSE,
    INTERNAL,
    HTTPS,
    HTTPS_ROUTE,
    HTTPS_INTERNAL,
    ORIGINATED,
    ORIGINATED_INTERNAL,
)
# Any address may be called.
ANY = Egress(addresses=AllowedAddresses.ANY)
