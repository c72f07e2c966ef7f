"""Requests that are kept for later: read whole, stored durably, and only then answered 202.

Whatever stands in the way (no room, no disk, too much content) leaves the refusal that there was: 503.
"""

import json
from collections import Counter
from typing import Protocol
from uuid import uuid4

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from proxy.core.budget import HELD_BYTES
from proxy.core.defer import Defer
from proxy.core.deferred import CONTENT_TOO_LARGE, TOO_MANY_AT_ONCE, Deferred, NotStoredError
from proxy.core.errors import DestinationUnavailable, HttpRequestError, ProxyError
from proxy.core.exchange import Awaited, Entry, Source
from proxy.core.fallback import DeferOrder
from proxy.core.headers import Fields, Framing
from proxy.core.refusals import ORDER, REJECTION_REASONS
from proxy.wire.call import Call
from proxy.wire.delivering import Clocks
from proxy.wire.written import CLOSE, KEEP, LINGER

DELIVERY_ID = b"x-breaker-delivery-id"
# Where it can be asked for, on the admin port (`control/deferred_api.py`).
LOOK_UP = "/api/v1/deferred/requests"
# Ours to say, or for this hop alone; what remains goes upstream as it came.
_DROPPED = frozenset({b"host", b"expect", DELIVERY_ID})
_TUNNEL, _DEFERRED = Entry.TUNNEL, Entry.DEFERRED


class Keeps(Protocol):
    """Where requests are kept."""

    async def put(self, request: Deferred) -> None:
        """Keeps one durably, or raises NotStoredError."""

    def waits(self, queue: str) -> bool:
        """Whether anything waits for a circuit."""


class Deferring:
    """Takes requests in.

    Args:
        store: keeps them.
        name: of this proxy, for `Proxy-Status`.
        clocks: monotonic seconds, and seconds since 1970.

    Attributes:
        held_bytes: content of requests that are being read or stored.
        not_stored: how many were refused that were to be kept, by why (NOT_STORED).
    """

    def __init__(self, store: Keeps, name: str, clocks: Clocks) -> None:
        self._store = store
        self._name = name
        self._clock, self._wall_clock = clocks
        self._methods: frozenset[str] = frozenset()
        self._max_content = 0
        self.held_bytes = 0
        self.not_stored = Counter[str]()

    def configure(self, settings: Defer) -> None:
        """Goes on with `methods` and `max_content`."""
        self._methods = frozenset(settings.methods)
        self._max_content = int(settings.max_content)

    def keep_order(self, call: Call, host: str, endpoint: str | None) -> None:
        """Has a live call wait behind those that are kept already, where their order is strict.

        Raises:
            DestinationUnavailable: 503, so that it is kept in turn.
        """
        if call.policy.fallback.order is not DeferOrder.STRICT or not self._may_be_kept(call):
            return
        key = endpoint or host
        if self._store.waits(key):
            raise DestinationUnavailable(
                "earlier requests wait for delivery",
                reason=ORDER,
                phrase=f"Order kept for {key}",
                retry_after_s=1,
            )

    def takes(self, call: Call, error: ProxyError) -> bool:
        """Whether a request is kept that was refused so."""
        is_refusal = error.refused and (error.reason in REJECTION_REASONS or error.reason == ORDER)
        return is_refusal and call.policy.fallback.defer and self._may_be_kept(call)

    def _may_be_kept(self, call: Call) -> bool:
        exchange = call.exchange
        return (
            exchange.entry is not _TUNNEL
            and exchange.entry is not _DEFERRED
            and exchange.fell_back_for is None
            and exchange.method in self._methods
            and exchange.body.length <= self._max_content
            and not call.head.has(b"upgrade")
        )

    async def take_in(self, call: Call, refusal: ProxyError) -> web.StreamResponse:
        """Reads the whole request, stores it, and answers 202.

        Raises:
            ProxyError: the refusal, where it cannot be kept; 400 or 408, the request is at fault.
        """
        exchange = call.exchange
        held = exchange.body.length if exchange.body.framing is Framing.LENGTH else self._max_content
        if self.held_bytes + held > HELD_BYTES:
            self.not_stored[TOO_MANY_AT_ONCE] += 1
            raise refusal
        self.held_bytes += held
        try:
            content = await self._whole(call)
            exchange.wait_over(self._clock())
            request = self._request(call, refusal, content)
            await self._store.put(request)
        except NotStoredError as error:
            self.not_stored[error.reason] += 1
            raise refusal from None
        finally:
            self.held_bytes -= held
        return self._accept(call, refusal, request.id)

    async def _whole(self, call: Call) -> bytes:
        """All of the content.

        Raises:
            NotStoredError: that is more than is kept.
        """
        content, exchange = call.request.content, call.exchange
        whole = bytearray(content.read_nowait(-1))
        if not whole and not content.at_eof() and call.head.expects_continue and call.request.transport:
            call.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(whole) <= self._max_content and not content.at_eof():
            exchange.wait_for(Awaited.REQUEST_CONTENT, call.policy.timeouts.body_idle, self._clock())
            try:
                whole += await content.readany()
            except (RequestPayloadError, HttpProcessingError) as error:
                raise HttpRequestError("the content of the request is malformed") from error
        if len(whole) > self._max_content:
            raise NotStoredError(CONTENT_TOO_LARGE)
        exchange.request_bytes = len(whole)
        return bytes(whole)

    def _request(self, call: Call, refusal: ProxyError, content: bytes) -> Deferred:
        target, fields = call.target, call.head.kept
        kept: Fields = [field for field in fields if field[0].lower() not in _DROPPED]
        host = target.circuit
        key = call.policy.circuit.key
        return Deferred(
            id=uuid4().hex,
            queue=key.endpoint(host, target.origin_form, call.request.raw_headers) or host,
            circuit=host,
            reason=refusal.reason,
            stored_at=self._wall_clock(),
            target=target,
            method=call.request.method,
            fields=kept,
            content=content,
            content_bytes=len(content),
        )

    def _accept(self, call: Call, refusal: ProxyError, request_id: str) -> web.StreamResponse:
        """Answers 202 (RFC 9110 section 15.3.3)."""
        exchange, transport = call.exchange, call.request.transport
        exchange.fell_back_for = refusal.reason
        exchange.status, exchange.source = 202, Source.PROXY
        if transport is None:
            return CLOSE
        keep = not call.client.writing_paused and call.may_follow
        content = (
            json.dumps(
                {"id": request_id, "reason": refusal.reason, "look_up": f"{LOOK_UP}/{request_id}"}
            ).encode()
            + b"\n"
        )
        lines = [
            "HTTP/1.1 202 Accepted",
            f'Proxy-Status: {self._name}; details="deferred: {refusal.reason}"',
            f"X-Breaker-Reason: {refusal.reason}",
            f"X-Breaker-Delivery-Id: {request_id}",
            "Cache-Control: no-store",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            *([] if keep else ["Connection: close"]),
        ]
        exchange.begun = True
        transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + content)
        return KEEP if keep else LINGER
