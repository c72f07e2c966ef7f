"""Where a fault is provoked: one exchange under test, by one entry, and what came of it."""

import ssl
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import h11
import pytest
from faults.rows import Cell, End
from support import certificates, credentials, interception
from support.client import Answer, Client, request
from support.ports import refusing, unresponsive
from support.sidecar import SETTINGS, Running, Start
from support.tls_client import TlsClient
from support.turns import until
from support.upstream import Script, ScriptedUpstream

from proxy.core.errors import ProxyError
from proxy.core.exchange import Entry, Exchange
from proxy.core.https import HttpsMode
from proxy.core.policy import Endpoint, Listen
from proxy.core.route import Route, UpstreamUrl

WITH_ROUTES = Listen(
    proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, reverse=Endpoint("127.0.0.1", 0)
)
# It costs no upstream anything, and the proxy answers it by itself, also where it asks for a token.
_IS_ANYBODY_THERE = request("OPTIONS", "http://a/there", "Max-Forwards: 0", credentials.field())


def route_to(authority: str, scheme: str = "http") -> Route:
    """The route that leads all requests to an upstream."""
    return Route(upstream=UpstreamUrl.parse(f"{scheme}://{authority}"))


@dataclass
class Stage:
    """One exchange under test.

    Attributes:
        entry: how it comes in.
        authority: of its upstream.
        method: with which it was asked for.
        client: whose it is; the last one that was connected.
        owed: what the client has yet to send of its content.
        scheme: of the upstream; interception is for `https` alone.
        opens: whether a client that is to be intercepted does its part up to where its TLS stands; else the
            exchange under test is its CONNECT.
        server_name: for whom it asks in its TLS, if that is not whom its CONNECT is for.
    """

    entry: Entry
    start: Start
    patch: pytest.MonkeyPatch
    ends: AsyncExitStack
    proxy: Running = field(init=False)
    client: Client = field(init=False)
    authority: str = field(init=False, default="")
    method: str = field(init=False, default="GET")
    owed: bytes = field(init=False, default=b"")
    scheme: str = field(init=False, default="http")
    opens: bool = field(init=False, default=True)
    server_name: str = field(init=False, default="")
    _opened: int = field(init=False, default=0)
    _stands: bool = field(init=False, default=False)
    _has_left: bool = field(init=False, default=False)
    _before: int = field(init=False, default=0)
    _begun_before: int = field(init=False, default=0)
    _booked_before: dict[str, int] = field(init=False, default_factory=dict)

    # Upstreams, of which the first to come is that of the route.

    async def upstream(self, *scripts: Script, **sections: object) -> ScriptedUpstream:
        """Begins with an upstream that follows scripts, behind TLS where the request is to be intercepted."""
        tls = certificates.server("127.0.0.1") if self.entry is Entry.INTERCEPTED else None
        return await self._upstream(tls, scripts, sections)

    async def upstream_over_tls(
        self, tls: ssl.SSLContext | None, *scripts: Script, **wanted: object
    ) -> ScriptedUpstream:
        """Begins with an upstream that is called over TLS, by each entry but the tunnel's.

        Args:
            tls: how it speaks that; None if it does not.
            scripts: which it follows.
            wanted: what the proxy wants of its TLS (`tls:`).
        """
        if self.entry is not Entry.TUNNEL:
            self.scheme = "https"
        mode = HttpsMode.INTERCEPT if self.entry is Entry.INTERCEPTED else HttpsMode.TUNNEL
        return await self._upstream(tls, scripts, interception.sections(https=mode, **wanted))

    async def _upstream(
        self, tls: ssl.SSLContext | None, scripts: tuple[Script, ...], sections: dict[str, object]
    ) -> ScriptedUpstream:
        upstream = await self.ends.enter_async_context(ScriptedUpstream(*scripts, tls=tls))
        await self.begin(upstream.authority, **sections)
        return upstream

    async def refused(self, **sections: object) -> None:
        """Begins with an upstream that is not there."""
        await self.begin(f"127.0.0.1:{self.ends.enter_context(refusing())}", **sections)

    async def unresponsive(self, **sections: object) -> None:
        """Begins with an upstream that answers no connect."""
        await self.begin(f"127.0.0.1:{self.ends.enter_context(unresponsive())}", **sections)

    async def begin(self, authority: str = "upstream.invalid:80", **sections: object) -> None:
        """Starts the proxy, and connects a client."""
        self.authority = authority
        if self.entry is Entry.REVERSE:
            routes = (route_to(authority, self.scheme),)
            sections = {"listen": WITH_ROUTES, "routes": routes} | sections
        elif self.entry is Entry.INTERCEPTED:
            self.scheme = "https"
            sections = interception.sections() | sections
        self.proxy = await self.start(**sections)
        await self.connect()

    @property
    def port(self) -> int:
        """Where clients of this entry connect."""
        return self.proxy.sidecar.reverse_port if self.entry is Entry.REVERSE else self.proxy.port

    # The client.

    async def connect(self) -> None:
        """Connects one more client, whose exchange is the one under test from now on."""
        if self.entry is Entry.INTERCEPTED and self.opens:
            self.client = await self.ends.enter_async_context(await self._intercepted())
        else:
            self.client = await self.ends.enter_async_context(await Client.connect(self.port))

    async def _intercepted(self) -> Client:
        """A client within the TLS of its CONNECT, which has been reported and is no part of the test."""
        client = await TlsClient.through(self.port, self.authority, host=self.server_name)
        self._opened += 1
        await until(lambda: len(self.proxy.exchanges) - len(self._exchanges) == self._opened)
        return client

    async def establish(self) -> None:
        """Sends a CONNECT, whose tunnel stands from then on; what is in it is under test, to its end."""
        self.method = "CONNECT"
        await self.client.connected(self.authority)
        self._stands = True

    def request(
        self, method: str, *fields: str, content: bytes = b"", path: str = "/hook", version: str = "1.1"
    ) -> bytes:
        """A request for the upstream by this entry; a tunnel has one method alone."""
        self.method = method = "CONNECT" if self.entry is Entry.TUNNEL else method
        if self.entry is Entry.TUNNEL:
            target, host = self.authority, self.authority
        elif self.entry is Entry.FORWARD:
            target, host = f"{self.scheme}://{self.authority}{path}", self.authority
        elif self.entry is Entry.REVERSE:
            target, host = path, "hooks.test"
        else:
            target, host = path, self.authority
        lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *fields]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + content

    async def ask(self, method: str = "GET", *fields: str, content: bytes = b"") -> None:
        """Sends a request for the upstream."""
        await self.client.send(self.request(method, *fields, content=content))

    def leave(self) -> None:
        """Has the client leave; that is how the exchange under test ends."""
        self._has_left = True
        self.client.close()

    async def is_under_way(self) -> None:
        """Waits until an exchange waits for somebody."""
        await until(lambda: len(self.proxy.sidecar.data_plane.deadlines))

    async def is_over(self) -> Answer:
        """Reads the whole answer to what is no part of the test yet."""
        answer = await self.client.answer(self.method)
        await until(lambda: not self.proxy.sidecar.data_plane.handler.in_flight)
        return answer

    def ready(self) -> None:
        """Says that what has been until now is no part of the test."""
        self._before = len(self._exchanges)
        self._begun_before = self.proxy.sidecar.data_plane.handler.begun
        self._booked_before = self._booked()

    # What came of it.

    @property
    def _exchanges(self) -> list[Exchange]:
        """All that ended, but for the CONNECTs that only opened the way for others."""
        is_opening = self.entry is Entry.INTERCEPTED and self.opens
        return [e for e in self.proxy.exchanges if not (is_opening and e.entry is Entry.TUNNEL)]

    async def report(self, number: int = 1) -> Exchange:
        """Waits until this many exchanges have been reported; returns the last of them."""
        await self.proxy.report(number + self._opened)
        return self._exchanges[-1]

    async def result(self) -> Cell:
        """Everything about the exchange under test that the matrix tells, once it is over."""
        gets = await self._gets()
        exchange = await self.report(self._before + 1)
        error = exchange.error
        booked = [outcome for outcome, n in self._booked().items() if n > self._booked_before.get(outcome, 0)]
        begun = self.proxy.sidecar.data_plane.handler.begun - self._begun_before
        # What is reported is what was booked, and neutral is booked as nothing.
        assert booked == [outcome for outcome in [str(exchange.outcome)] if outcome != "neutral"]
        assert not booked or begun
        answer = gets if isinstance(gets, Answer) else None
        retry = None if answer is None else answer.header("Retry-After")
        if answer is not None:
            self._agrees(answer, error)
            assert exchange.status == answer.status
        if gets is End.CLOSED:
            assert exchange.status == 200
        return Cell(
            gets=answer.status if answer is not None else gets,  # type: ignore[arg-type]
            error="" if error is None else error.error_type,
            reason="" if error is None else error.reason,
            books=str(exchange.outcome) if begun else None,
            retry_after_s=None if retry is None else int(retry),
            keeps=answer is not None and await self._keeps(answer),
        )

    async def _gets(self) -> Answer | End:
        if self._has_left:
            assert (await self.report(self._before + 1)).client_left
            return End.LEFT
        if self._stands:
            with suppress(ConnectionResetError):
                await self.client.rest()
            self.client.close()
            return End.CLOSED
        try:
            return await self.client.answer(self.method) if await self.client.hears() else End.NOTHING
        except ConnectionResetError:
            return End.RESET
        except h11.RemoteProtocolError as error:
            return _cut(error)

    def _agrees(self, answer: Answer, error: ProxyError | None) -> None:
        """An answer of ours says so in all of its fields, and another one in none."""
        assert answer.header("X-Breaker-Reason") == (error.reason if error is not None else None)
        told = answer.header("Proxy-Status") or ""
        assert told.startswith(f"testproxy; error={error.error_type}; " if error is not None else "")
        assert bool(told) is (error is not None)

    async def _keeps(self, answer: Answer) -> bool:
        """Whether the connection takes another request: what the answer says of it has to be true."""
        if answer.header("Connection") == "close":
            if self.entry is Entry.INTERCEPTED:
                # TLS has no half-close that would tell it at once: it has its time to close by itself.
                self.proxy.clock.now += 2
            assert await self.client.rest() == b""
            return False
        there = _IS_ANYBODY_THERE
        if self.entry is Entry.INTERCEPTED:
            there = f"OPTIONS * HTTP/1.1\r\nHost: {self.authority}\r\nMax-Forwards: 0\r\n\r\n".encode()
        await self.client.send(self.owed + there)
        assert (await self.client.answer("OPTIONS")).header("X-Breaker-Reason") == "max_forwards"
        return True

    def _booked(self) -> dict[str, int]:
        """What the circuits have counted, by outcome."""
        totals = self.proxy.sidecar.circuits.totals
        calls = {verdict.value: n for verdict, n in totals.calls.items() if verdict.value != "failure"}
        return calls | {f"failure({kind.value})": n for kind, n in totals.failures.items()}


def _cut(error: h11.RemoteProtocolError) -> End:
    """A client hears that an answer is not whole, and not that it is malformed."""
    assert "without sending complete message body" in str(error)
    return End.CUT
