"""Faults of TLS, with upstreams and with clients, and of what is inside of a CONNECT."""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import replace
from functools import partial

from faults.by_upstreams import Provoke
from faults.stage import Stage
from support.certificates import self_signed, server, stranger
from support.client import request
from support.clients import taken_in
from support.sidecar import SETTINGS
from support.upstream import Do, Expect, Refuse, Script, ScriptedUpstream, Send, Take, Wait

from proxy.core.egress import SniRules
from proxy.core.exchange import Entry
from proxy.core.https import TlsVersion
from proxy.core.policy import CircuitPolicy

# Where scripted upstreams listen.
HERE = "127.0.0.1"
# RFC 8446 section 6: a record of an alert, of two bytes; fatal, handshake_failure.
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"
HELLO = b"\x16\x03"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhalf"


# The upstream's TLS.


def showing(context: ssl.SSLContext, **wanted: object) -> Provoke:
    """What calls an upstream that speaks TLS in this way, and says nothing in it."""

    async def provoke(stage: Stage) -> None:
        await stage.upstream_over_tls(context, [Do.STALL], **wanted)
        await stage.ask()

    return provoke


def refusing(context: ssl.SSLContext, **wanted: object) -> Provoke:
    """What calls an upstream whose TLS does not do with ours."""

    async def provoke(stage: Stage) -> None:
        await stage.upstream_over_tls(None, [Refuse(context), Do.STALL], **wanted)
        await stage.ask()

    return provoke


def instead_of_tls(*script: Take | Send | Do) -> Provoke:
    """What calls an upstream over TLS that does this instead, and then closes."""

    async def provoke(stage: Stage) -> None:
        await _hello_to(stage, [Take(len(HELLO)), *script])

    return provoke


async def _hello_to(stage: Stage, script: Script) -> None:
    """An upstream that follows a script has got a ClientHello, in a tunnel that of the client."""
    upstream = await stage.upstream_over_tls(None, script)
    if stage.entry is Entry.TUNNEL:
        await stage.establish()
        await stage.client.send(Handshake(stage).said())
    else:
        await stage.ask()
    await (await upstream.connection(0)).until(HELLO)


async def silent_tls(stage: Stage) -> None:
    await _hello_to(stage, [Do.STALL])
    # Within a tunnel it is not told from any other silence.
    stage.proxy.clock.now += 30 if stage.entry is Entry.TUNNEL else 5


async def leaves_in_silent_tls(stage: Stage) -> None:
    await _hello_to(stage, [Do.STALL])
    stage.proxy.clock.now += 4
    stage.leave()


async def cut_without_close_notify(stage: Stage) -> None:
    go_on = asyncio.Event()
    script = [Expect(), Send(UNTIL_CLOSE), Wait(go_on), Do.CUT, Do.STALL]
    await stage.upstream_over_tls(server(HERE), script)
    await stage.ask()
    assert await stage.client.hears()
    go_on.set()


# The upstream at the other end of a tunnel.


async def tunnel_silent(stage: Stage) -> None:
    upstream = await stage.upstream([Do.STALL])
    await stage.establish()
    await stage.client.send(b"\0hello")
    await (await upstream.connection(0)).until(b"hello")
    stage.proxy.clock.now += 30


async def tunnel_closed(stage: Stage) -> None:
    await stage.upstream([Take(6)])
    await stage.establish()
    await stage.client.send(b"\0hello")


async def closed_before_anything(stage: Stage, after_s: float) -> None:
    """The upstream closes its end of a tunnel so long after the 200."""
    go_on = asyncio.Event()
    await stage.upstream([Wait(go_on)])
    await stage.establish()
    stage.proxy.clock.now += after_s
    go_on.set()


async def tunnel_idle(stage: Stage) -> None:
    await stage.upstream([Do.STALL])
    await stage.establish()
    stage.proxy.clock.now += 3600


async def tunnel_reset(stage: Stage) -> None:
    await stage.upstream([Take(6), Send(b"hi"), Take(3), Do.RESET])
    await stage.establish()
    await stage.client.send(b"\0hello")
    assert await stage.client.reader.readexactly(2) == b"hi"
    await stage.client.send(b"bye")


# The client, and what it says behind the 200 of its CONNECT.


class Handshake:
    """A client's side of TLS, a step at a time.

    Args:
        stage: whose client it is.
        name: for whom it asks; None for nobody.
        protocols: which it offers (ALPN).
    """

    def __init__(self, stage: Stage, name: str | None = None, *protocols: str) -> None:
        context = stranger(*protocols)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._client = stage.client
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name or "127.0.0.1")

    def said(self) -> bytes:
        """What it has to say next; the first time that is its ClientHello."""
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    async def fails(self) -> None:
        """Shakes hands until it refuses the certificate, and says so."""
        while True:
            try:
                await self._client.send(self.said())
            except ssl.SSLCertVerificationError:
                await self._client.send(self._outgoing.read())
                return
            self._incoming.write(await self._client.reader.read(65536))


async def _connect(stage: Stage, says: bytes = b"") -> None:
    """A client that is to be intercepted has sent its CONNECT; what it says next is under test."""
    stage.opens = False
    await stage.refused()
    await stage.establish()
    await stage.client.send(says)


async def ca_not_trusted(stage: Stage) -> None:
    await _connect(stage)
    await Handshake(stage).fails()


async def not_tls(stage: Stage) -> None:
    await _connect(stage, b"\0hello")


async def slow_hello(stage: Stage) -> None:
    stage.opens = False
    taken = taken_in(stage.patch)
    await stage.upstream([Do.STALL])
    await stage.establish()
    begin = Handshake(stage).said()[:9]
    before = taken.count
    await stage.client.send(begin)
    await taken.until(before + len(begin))
    stage.proxy.clock.now += 15


async def leaves_before_tls(stage: Stage) -> None:
    await _connect(stage)
    stage.leave()


async def no_http_1_1(stage: Stage) -> None:
    stage.opens = False
    await stage.refused(circuit=CircuitPolicy(consecutive_failures=1))
    await stage.establish()
    await stage.client.send(Handshake(stage, None, "h2").said())


async def no_http_1_1_and_open(stage: Stage) -> None:
    await no_http_1_1(stage)
    await stage.report()
    stage.ready()
    await stage.connect()
    await stage.establish()
    await stage.client.send(Handshake(stage, None, "h2").said())


async def server_name_differs(stage: Stage) -> None:
    stage.server_name = "other.test"
    await stage.begin()
    await stage.ask()


async def authority_differs(stage: Stage) -> None:
    await stage.begin()
    stage.authority = "other.test:80"
    await stage.ask()


async def connect_inside(stage: Stage) -> None:
    await stage.begin()
    await stage.client.send(request("CONNECT", stage.authority))


async def server_name_denied(stage: Stage) -> None:
    # Of an address in a CONNECT no name tells who it is.
    upstream = await stage.ends.enter_async_context(ScriptedUpstream([Do.STALL]))
    egress = replace(SETTINGS.egress, sni=SniRules.ENFORCE)
    await stage.begin(f"localhost:{upstream.port}", egress=egress)
    await stage.establish()
    await stage.client.send(Handshake(stage, "other.test").said())


PROVOKE: dict[str, Provoke] = {
    "certificate_expired": showing(server(HERE, is_expired=True)),
    "certificate_self_signed": showing(self_signed()),
    "certificate_of_unknown_ca": showing(server(HERE, is_trusted=False)),
    "certificate_for_another": showing(server("other.test")),
    "old_version": refusing(server(HERE, version="1.2"), min_version=TlsVersion.TLS_1_3),
    "wants_certificate": refusing(server(HERE, version="1.2", asks_clients=True)),
    "wants_certificate_late": refusing(server(HERE, version="1.3", asks_clients=True)),
    "alert": instead_of_tls(Send(ALERT)),
    "no_tls": instead_of_tls(Send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")),
    "closed_in_tls": instead_of_tls(),
    "reset_in_tls": instead_of_tls(Do.RESET),
    "silent_tls": silent_tls,
    "leaves_in_silent_tls": leaves_in_silent_tls,
    "cut_without_close_notify": cut_without_close_notify,
    "tunnel_silent": tunnel_silent,
    "tunnel_closed": tunnel_closed,
    "tunnel_closed_at_once": partial(closed_before_anything, after_s=0),
    "tunnel_closed_later": partial(closed_before_anything, after_s=4),
    "tunnel_idle": tunnel_idle,
    "tunnel_reset": tunnel_reset,
    "ca_not_trusted": ca_not_trusted,
    "not_tls": not_tls,
    "slow_hello": slow_hello,
    "leaves_before_tls": leaves_before_tls,
    "no_http_1_1": no_http_1_1,
    "no_http_1_1_and_open": no_http_1_1_and_open,
    "server_name_differs": server_name_differs,
    "authority_differs": authority_differs,
    "connect_inside": connect_inside,
    "server_name_denied": server_name_denied,
}
