"""The line that every exchange walks, on one screen.

    begin -> name the target -> find its policy -> authorize -> admit -> carry: forward or tunnel -> settle
      -> report once

What a circuit refuses may have a fallback; it walks once more then, from the policy of its new target on.

Only two things vary: how the target is named, and how the bytes are carried. Every request that a client
sends ends in exactly one report, whatever happens on the way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from proxy.core.errors import Draining, HttpRequestError, ProxyError, ProxyInternalError
from proxy.core.exchange import Entry, Exchange, Source
from proxy.core.https import HttpsMode
from proxy.core.outcome import NEUTRAL, of_leaving, of_loss
from proxy.core.permit import Permit
from proxy.core.policies import Policies
from proxy.core.policy import OpenAction
from proxy.core.registry import Circuits
from proxy.core.target import Target
from proxy.wire.call import Call
from proxy.wire.client import ClientConnection
from proxy.wire.deadlines import Deadlines
from proxy.wire.fallbacks import Fallbacks
from proxy.wire.responses import render
from proxy.wire.written import CLOSE, KEEP, LINGER

Carry = Callable[[Call], Awaitable[web.StreamResponse]]
# Gives the answer, or None for what must be tunnelled after all.
Intercept = Callable[[Call], Awaitable[web.StreamResponse | None]]

# Members are looked up on their class in Python; these are asked in every exchange.
_TUNNEL, _INTERCEPT = Entry.TUNNEL, HttpsMode.INTERCEPT
_DROP = OpenAction.CLOSE


class Report(Protocol):
    """Who is told of each exchange at its end."""

    def __call__(self, exchange: Exchange, now: float) -> None:
        """Tells it; must not raise."""


class Handler:
    """Handles the requests of all entries.

    Args:
        name: of this proxy, a token, in the fields of our own answers.
        circuits: admits.
        deadlines: watches what is awaited.
        carries: how each entry's bytes are carried.
        report: told once of each exchange.
        fallbacks: where what is refused may go instead.
        clock: monotonic seconds.

    Attributes:
        in_flight: exchanges on the line now.
        begun: how many calls have been admitted so far.
        carried: how many of those have ended, but for those that were refused all the same.
        is_stopping: whether no exchange may begin any more.
    """

    def __init__(
        self,
        *,
        name: str,
        circuits: Circuits,
        deadlines: Deadlines,
        carries: dict[Entry, Carry],
        report: Report,
        fallbacks: Fallbacks,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._circuits = circuits
        self._deadlines = deadlines
        self._carries = carries
        self._report = report
        self.fallbacks = fallbacks
        self._clock = clock
        self.in_flight = 0
        self.begun = 0
        self.carried = 0
        self.is_stopping = False

    def configure(self, policies: Policies, intercept: Intercept | None) -> None:
        """Goes on with these settings; an exchange under way keeps those it has found.

        Args:
            policies: the settings of each upstream.
            intercept: opens a CONNECT whose content is to be seen; None where nothing is.
        """
        self._policies, self._intercept = policies, intercept

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Walks the line with one request."""
        client = _client_of(request)
        naming = client.naming
        if client.is_lingering:
            # It has been told that it was too slow, in the moment in which its head was whole after all.
            return LINGER
        call = Call(Exchange(naming.entry(request.method), request.method, self._clock()), request, client)
        exchange = call.exchange
        client.exchange_begins(exchange, request.content)
        self.in_flight += 1
        try:
            answer = await self._walk(call, naming.name(call))
        except ProxyError as error:
            exchange.error = error
            answer = self._answer(call, error)
        except Exception:  # the one place where a bug of ours becomes an answer
            client.logger.exception("fault in an exchange")
            fault = exchange.error = ProxyInternalError("a fault of the proxy itself")
            answer = self._answer(call, fault)
        finally:
            client.exchange_ends()
            self.in_flight -= 1
            self._report(exchange, self._clock())
        return answer

    async def _walk(self, call: Call, target: Target) -> web.StreamResponse:
        """Walks from the policy on; what is refused or has failed may walk once more, to its fallback."""
        try:
            return await self._pass(call, target)
        except ProxyError as error:
            elsewhere = self.fallbacks.instead_of(call, error, self._clock())
            keeps, refusal = self.fallbacks.keeps, error
            if elsewhere is None and (keeps is None or not keeps.takes(call, error)):
                raise
        if elsewhere is None and keeps is not None:
            with self._deadlines.watch(call.exchange):
                return await keeps.take_in(call, refusal)
        return await self._pass(call, elsewhere or target)

    async def _pass(self, call: Call, target: Target) -> web.StreamResponse:
        exchange = call.exchange
        # When it was begun, or has fallen back; nobody has been waited for since.
        now = exchange.owed_since
        target, policy = self._policies.find(target)
        exchange.target, call.target, call.policy = target, target, policy
        if self.is_stopping:
            raise Draining("the proxy is shutting down")
        # Before admission: who is denied neither uses a probe nor learns of a circuit, nor makes one.
        policy.acl.authorize(exchange, target)
        if exchange.entry is _TUNNEL and policy.https is _INTERCEPT and self._intercept is not None:
            # No circuit and no upstream: the requests inside come to this line by themselves.
            with self._deadlines.watch(exchange):
                succession = await self._intercept(call)
            if succession is not None:
                return succession
            now = self._clock()
            # It is admitted only now: its circuit must not go back to the settings of before a reload.
            target, policy = self._policies.find(target)
            call.policy = policy
            policy.acl.authorize(exchange, target)
        host = target.circuit
        endpoint = None
        if exchange.entry is not _TUNNEL:  # a tunnel hides what would tell its endpoint
            endpoint = policy.circuit.key.endpoint(host, target.origin_form, call.request.raw_headers)
            if policy.timeouts.total:
                exchange.ends_at = exchange.started + policy.timeouts.total
        if self.fallbacks.keeps is not None:
            self.fallbacks.keeps.keep_order(call, host, endpoint)
        with self._circuits.admit(host, policy.circuit, exchange, now, endpoint) as permit:
            self.begun += 1
            call.permit = permit
            return await self._carry(call, permit)

    def refuse(self, request: web.BaseRequest, error: ProxyError) -> web.StreamResponse:
        """Answers a request that could not be parsed, so that it never got onto the line."""
        client = _client_of(request)
        if client.is_lingering:
            # It has had its last answer.
            return LINGER
        self._tell_off(
            Exchange(client.naming.entry(request.method), request.method, self._clock()), client, error
        )
        return LINGER

    def turn_away(self, client: ClientConnection, error: ProxyError) -> None:
        """Answers a client that has sent no whole request, and closes its connection."""
        exchange = Exchange(client.naming.entry(""), "", self._clock())
        if error.refused and self._policies.general.open_action is _DROP:
            exchange.error = error
            self._report(exchange, self._clock())
            client.leave()
        else:
            self._tell_off(exchange, client, error)
            client.linger()

    def _tell_off(self, exchange: Exchange, client: ClientConnection, error: ProxyError) -> None:
        exchange.error = error
        if client.transport is not None:
            exchange.status = error.status
            exchange.begun = True
            client.transport.write(
                render(error, name=self._name, method=exchange.method, next_hop=None, keep_alive=False)
            )
        self._report(exchange, self._clock())

    async def _carry(self, call: Call, permit: Permit) -> web.StreamResponse:
        """Carries the exchange, and settles its permit by how it ended."""
        exchange = call.exchange
        counts = 1
        try:
            with self._deadlines.watch(exchange):
                return await self._carries[exchange.entry](call)
        except ProxyError as error:
            if error.refused or error.denies:
                counts = 0
            if not permit.settled:
                now = self._clock()
                exchange.outcome = of_loss(
                    error.outcome,
                    client_owed_s=exchange.client_owed_s(now),
                    abandoned_after_s=permit.policy.abandoned_after,
                )
                permit.settle(exchange.outcome, now)
            raise
        except asyncio.CancelledError:
            # Either the client has left, or the process ends: then nothing can be said of the upstream.
            exchange.client_left = call.client.is_lost
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
        finally:
            self.carried += counts

    def _answer(self, call: Call, error: ProxyError) -> web.StreamResponse:
        """Writes our own answer, or cuts one that has begun."""
        exchange, request, client = call.exchange, call.request, call.client
        transport = request.transport
        if exchange.begun:
            client.cut(ends_by_close=exchange.ends_by_close)
            return CLOSE if request.content.is_eof() else LINGER
        if transport is None:
            return CLOSE
        if error.refused and call.policy.open_action is _DROP:
            client.leave()
            return CLOSE
        keep = (
            error.keeps_alive
            # One that does not read its answers gets no more of them.
            and not client.writing_paused
            and request.method != "CONNECT"
            and call.may_follow
        )
        next_hop = exchange.target.host_port if exchange.target is not None else None
        answer = render(error, name=self._name, method=request.method, next_hop=next_hop, keep_alive=keep)
        exchange.status = error.connect_status if request.method == "CONNECT" else error.status
        exchange.source = Source.PROXY
        exchange.begun = True
        transport.write(answer)
        if keep:
            return KEEP
        # What is behind a request at fault, or a refused CONNECT (RFC 9931), is read and thrown away.
        lingers = isinstance(error, HttpRequestError) or request.method == "CONNECT"
        return LINGER if lingers or call.may_send_on else CLOSE


def _client_of(request: web.BaseRequest) -> ClientConnection:
    client = request.protocol
    if not isinstance(client, ClientConnection):
        raise TypeError("the line is for the listener's own connections")
    return client
