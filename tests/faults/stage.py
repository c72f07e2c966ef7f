"""Where a fault is provoked: one exchange under test, by one entry, and what came of it."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import h11
import pytest
from faults.matrix import Cell, End
from support import credentials
from support.client import Answer, Client, request
from support.ports import refusing, unresponsive
from support.sidecar import SETTINGS, Running, Start
from support.turns import until
from support.upstream import Script, ScriptedUpstream

from proxy.core.errors import ProxyError
from proxy.core.exchange import Entry
from proxy.core.policy import Endpoint, Listen
from proxy.core.route import Route, UpstreamUrl

WITH_ROUTES = Listen(
    proxy=SETTINGS.listen.proxy, admin=SETTINGS.listen.admin, reverse=Endpoint("127.0.0.1", 0)
)
# It costs no upstream anything, and the proxy answers it by itself, also where it asks for a token.
_IS_ANYBODY_THERE = request("OPTIONS", "http://a/there", "Max-Forwards: 0", credentials.field())


def route_to(authority: str) -> Route:
    """The route that leads all requests to an upstream."""
    return Route(upstream=UpstreamUrl.parse(f"http://{authority}"))


@dataclass
class Stage:
    """One exchange under test.

    Attributes:
        entry: how it comes in.
        authority: of its upstream.
        method: with which it was asked for.
        client: whose it is; the last one that was connected.
        owed: what the client has yet to send of its content.
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
    _before: int = field(init=False, default=0)
    _begun_before: int = field(init=False, default=0)
    _booked_before: dict[str, int] = field(init=False, default_factory=dict)

    # Upstreams, of which the first to come is that of the route.

    async def upstream(self, *scripts: Script, **sections: object) -> ScriptedUpstream:
        """Begins with an upstream that follows scripts."""
        upstream = await self.ends.enter_async_context(ScriptedUpstream(*scripts))
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
            sections = {"listen": WITH_ROUTES, "routes": (route_to(authority),)} | sections
        self.proxy = await self.start(**sections)
        await self.connect()

    @property
    def port(self) -> int:
        """Where clients of this entry connect."""
        return self.proxy.sidecar.reverse_port if self.entry is Entry.REVERSE else self.proxy.port

    # The client.

    async def connect(self) -> None:
        """Connects one more client, whose exchange is the one under test from now on."""
        self.client = await self.ends.enter_async_context(await Client.connect(self.port))

    def request(
        self, method: str, *fields: str, content: bytes = b"", path: str = "/hook", version: str = "1.1"
    ) -> bytes:
        """A request for the upstream by this entry; a tunnel has one method alone."""
        self.method = method = "CONNECT" if self.entry is Entry.TUNNEL else method
        if self.entry is Entry.TUNNEL:
            target, host = self.authority, self.authority
        elif self.entry is Entry.FORWARD:
            target, host = f"http://{self.authority}{path}", self.authority
        else:
            target, host = path, "hooks.test"
        lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *fields]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + content

    async def ask(self, method: str = "GET", *fields: str, content: bytes = b"") -> None:
        """Sends a request for the upstream."""
        await self.client.send(self.request(method, *fields, content=content))

    async def is_under_way(self) -> None:
        """Waits until an exchange waits for somebody."""
        await until(lambda: len(self.proxy.sidecar.deadlines))

    async def is_over(self) -> Answer:
        """Reads the whole answer to what is no part of the test yet."""
        answer = await self.client.answer(self.method)
        await until(lambda: not self.proxy.sidecar.handler.in_flight)
        return answer

    def ready(self) -> None:
        """Says that what has been until now is no part of the test."""
        self._before = len(self.proxy.exchanges)
        self._begun_before = self.proxy.sidecar.handler.begun
        self._booked_before = self._booked()

    # What came of it.

    async def result(self) -> Cell:
        """Everything about the exchange under test that the matrix tells, once it is over."""
        gets = await self._gets()
        exchange = await self.proxy.report(self._before + 1)
        error = exchange.error
        booked = [outcome for outcome, n in self._booked().items() if n > self._booked_before.get(outcome, 0)]
        begun = self.proxy.sidecar.handler.begun - self._begun_before
        # What is reported is what was booked, and neutral is booked as nothing.
        assert booked == [outcome for outcome in [str(exchange.outcome)] if outcome != "neutral"]
        assert not booked or begun
        answer = gets if isinstance(gets, Answer) else None
        retry = None if answer is None else answer.header("Retry-After")
        if answer is not None:
            self._agrees(answer, error)
            assert exchange.status == answer.status
        return Cell(
            gets=answer.status if answer is not None else gets,  # type: ignore[arg-type]
            error="" if error is None else error.error_type,
            reason="" if error is None else error.reason,
            books=str(exchange.outcome) if begun else None,
            retry_after_s=None if retry is None else int(retry),
            keeps=answer is not None and await self._keeps(answer),
        )

    async def _gets(self) -> Answer | End:
        if self.client.writer.is_closing():
            assert (await self.proxy.report(self._before + 1)).client_left
            return End.LEFT
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
            assert await self.client.rest() == b""
            return False
        await self.client.send(self.owed + _IS_ANYBODY_THERE)
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
