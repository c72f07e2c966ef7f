"""The line that every exchange walks, on one screen.

    begin -> name the target -> find its policy -> admit -> carry: forward or tunnel -> settle -> report once

Only two things vary: how the target is named, and how the bytes are carried. Every request that a client
sends ends in exactly one report, whatever happens on the way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import HttpVersion10, HttpVersion11, web

from proxy.core.errors import (
    HeadTooLarge,
    HttpRequestError,
    ProxyError,
    ProxyInternalError,
    ProxyInternalResponse,
    VersionNotSupported,
)
from proxy.core.exchange import Entry, Exchange
from proxy.core.headers import Framing, request_body, size_of
from proxy.core.outcome import NEUTRAL, of_leaving
from proxy.core.permit import Permit
from proxy.core.policies import Policies, UpstreamPolicy
from proxy.core.registry import Circuits
from proxy.core.target import Target, from_absolute_form, from_authority_form
from proxy.wire.deadlines import Deadlines
from proxy.wire.listener import CLOSE, KEEP, ClientConnection
from proxy.wire.responses import render

Carry = Callable[[Exchange, Target, UpstreamPolicy, web.BaseRequest, Permit], Awaitable[web.StreamResponse]]


class Report(Protocol):
    """Who is told of each exchange at its end."""

    def __call__(self, exchange: Exchange, now: float) -> None:
        """Tells it; must not raise."""


class Handler:
    """Handles the requests of all entries.

    Args:
        name: of this proxy, a token, in the fields of our own answers.
        circuits: admits.
        policies: the settings of each upstream.
        deadlines: watches what is awaited.
        carries: how each entry's bytes are carried.
        report: told once of each exchange.
        clock: monotonic seconds.
        max_head: bytes of a request's head, at most.

    Attributes:
        in_flight: exchanges on the line now.
        begun: how many have been admitted so far, for drain; who calls an open circuit does not hold it.
    """

    def __init__(
        self,
        *,
        name: str,
        circuits: Circuits,
        policies: Policies,
        deadlines: Deadlines,
        carries: dict[Entry, Carry],
        report: Report,
        clock: Callable[[], float],
        max_head: int,
    ) -> None:
        self._name = name
        self._circuits = circuits
        self._policies = policies
        self._deadlines = deadlines
        self._carries = carries
        self._report = report
        self._clock = clock
        self._max_head = max_head
        self.in_flight = 0
        self.begun = 0
        self._idle = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Walks the line with one request."""
        exchange = self._begin(request)
        client = request.protocol
        if isinstance(client, ClientConnection):
            client.exchange_begins(request.content)
        self.in_flight += 1
        self._idle.clear()
        try:
            target = exchange.target = _name_target(exchange, request, self._max_head)
            policy = self._policies.of(target.host, target.port)
            host = target.host_port
            endpoint = _endpoint(exchange, host, policy, request)
            with self._circuits.admit(host, policy.circuit, exchange, exchange.started, endpoint) as permit:
                self.begun += 1
                return await self._carry(exchange, target, policy, request, permit)
        except ProxyError as error:
            exchange.error = error
            return self._answer(exchange, request)
        except Exception:  # the one place where a bug of ours becomes an answer
            request.protocol.logger.exception("fault in an exchange")
            exchange.error = ProxyInternalError("a fault of the proxy itself")
            return self._answer(exchange, request)
        finally:
            if isinstance(client, ClientConnection):
                client.exchange_ends()
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
            self._report(exchange, self._clock())

    async def idle(self) -> None:
        """Waits until nothing is in flight."""
        if self.in_flight:
            await self._idle.wait()

    def refuse(self, request: web.BaseRequest, error: ProxyError) -> web.StreamResponse:
        """Answers a request that could not be parsed, so that it never got onto the line."""
        exchange = self._begin(request)
        exchange.error = error
        answer = self._answer(exchange, request)
        self._report(exchange, self._clock())
        return answer

    def _begin(self, request: web.BaseRequest) -> Exchange:
        entry = Entry.TUNNEL if request.method == "CONNECT" else Entry.FORWARD
        return Exchange(entry, request.method, self._clock())

    async def _carry(
        self,
        exchange: Exchange,
        target: Target,
        policy: UpstreamPolicy,
        request: web.BaseRequest,
        permit: Permit,
    ) -> web.StreamResponse:
        """Carries the exchange, and settles its permit by how it ended."""
        try:
            with self._deadlines.watch(exchange):
                return await self._carries[exchange.entry](exchange, target, policy, request, permit)
        except ProxyError as error:
            if not permit.settled:
                exchange.outcome = error.outcome
                permit.settle(error.outcome, self._clock())
            raise
        except asyncio.CancelledError:
            # Either the client has left, or the process ends: then nothing can be said of the upstream.
            client = request.protocol
            exchange.client_left = isinstance(client, ClientConnection) and client.is_lost
            if not permit.settled:
                now = self._clock()
                exchange.outcome = NEUTRAL
                if exchange.client_left:
                    exchange.outcome = of_leaving(
                        upstream_owed_s=exchange.upstream_owed_s(now),
                        abandoned_after_s=permit.policy.abandoned_after,
                    )
                permit.settle(exchange.outcome, now)
            raise

    def _answer(self, exchange: Exchange, request: web.BaseRequest) -> web.StreamResponse:
        """Writes our own answer, or cuts one that has begun."""
        error = exchange.error
        client = request.protocol
        transport = request.transport
        if exchange.begun and isinstance(client, ClientConnection):
            client.cut(ends_by_close=exchange.ends_by_close)
        if error is None or transport is None or exchange.begun:
            return CLOSE
        keep = (
            not isinstance(error, HttpRequestError | ProxyInternalResponse)
            # One that does not read its answers gets no more of them.
            and not client.writing_paused
            and request.method != "CONNECT"
            and request.keep_alive
            and request.version == HttpVersion11
            and _discarded(request)
        )
        next_hop = exchange.target.host_port if exchange.target is not None else None
        answer = render(error, name=self._name, method=request.method, next_hop=next_hop, keep_alive=keep)
        exchange.status = error.connect_status if request.method == "CONNECT" else error.status
        exchange.begun = True
        transport.write(answer)
        return KEEP if keep else CLOSE


def _endpoint(exchange: Exchange, host: str, policy: UpstreamPolicy, request: web.BaseRequest) -> str | None:
    """The name of the endpoint's circuit; a tunnel hides what would tell it."""
    if exchange.entry is Entry.TUNNEL or exchange.target is None:
        return None
    return policy.circuit.key.endpoint(host, exchange.target.origin_form, request.raw_headers)


def _discarded(request: web.BaseRequest) -> bool:
    """Drops the content that has arrived; returns whether that was all of it."""
    if request.content.exception() is None:
        request.content.read_nowait(-1)
    return request.content.at_eof()


def _name_target(exchange: Exchange, request: web.BaseRequest, max_head: int) -> Target:
    """What the request is for; refuses what must not go on before it costs anybody anything."""
    # aiohttp bounds each field, and their number.
    if len(request.raw_path) + size_of(request.raw_headers) > max_head:
        raise HeadTooLarge("the head of the request exceeds limits.max_head")
    if request.version not in (HttpVersion10, HttpVersion11):
        raise VersionNotSupported("the request is neither HTTP/1.0 nor HTTP/1.1")
    exchange.body = request_body(request.raw_headers, http_1_1=request.version == HttpVersion11)
    if exchange.entry is Entry.FORWARD:
        target = from_absolute_form(request.raw_path, request.method)
        if target.scheme != "http":
            raise HttpRequestError("https goes through CONNECT: set HTTPS_PROXY to the proxy's address too")
        return target
    if exchange.body.framing is not Framing.NONE:
        raise HttpRequestError("CONNECT has no content")
    return from_authority_form(request.raw_path)
