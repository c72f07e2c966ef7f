"""Where a request may go that its circuit refuses, or whose attempt has failed (`fallback:` of its upstream).

It is redirected once at most. The new upstream learns from two fields what the request was for and why it
comes: `X-Breaker-Target` and `X-Breaker-Reason`. What a client writes into fields of these names goes no
further, and neither does the field that tells the endpoint of the first upstream, which is meant for us.
"""

from typing import Protocol

from aiohttp import web

from proxy.core.errors import ProxyError, ProxyInternalError, ProxyInternalResponse
from proxy.core.exchange import Entry, Exchange
from proxy.core.fallback import FallbackOn
from proxy.core.headers import Head
from proxy.core.redirect import redirected
from proxy.core.refusals import REJECTION_REASONS
from proxy.core.target import Target
from proxy.wire.call import Call

TARGET, REASON = b"X-Breaker-Target", b"X-Breaker-Reason"
_MARKS = {TARGET.lower(), REASON.lower()}
# Members are looked up on their class in Python; these are read in every exchange.
_FAILURE = FallbackOn.FAILURE
# A tunnel hides its requests, and what was kept for an upstream is for that one alone.
_STAY = frozenset({Entry.TUNNEL, Entry.DEFERRED})


class Keeps(Protocol):
    """Keeps requests for later; see `deferring.py`."""

    def keep_order(self, call: Call, host: str, endpoint: str | None) -> None:
        """Refuses a live call that must wait behind others."""

    def takes(self, call: Call, error: ProxyError) -> bool:
        """Whether a request is kept that was refused so."""

    async def take_in(self, call: Call, refusal: ProxyError) -> web.StreamResponse:
        """Stores it, and answers."""


class Fallbacks:
    """Decides where a request goes instead.

    Attributes:
        keeps: keeps requests for later; None where nothing is kept.
    """

    def __init__(self) -> None:
        self.keeps: Keeps | None = None

    def may_redirect(self, call: Call) -> bool:
        """Whether a request goes elsewhere if its attempt fails, so that its content has to be kept."""
        return call.policy.fallback.on is _FAILURE and _elsewhere(call) is not None

    def instead_of(self, call: Call, error: ProxyError, now: float) -> Target | None:
        """Where a request goes that has ended with an error; None if nowhere, and then nothing has changed.

        Args:
            call: its policy has been found.
            error: how it has ended.
            now: monotonic seconds.
        """
        if not (_is_refusal(error) or (call.taken is not None and _is_failure(call.exchange, error))):
            return None
        elsewhere = _elsewhere(call)
        if elsewhere is None:
            return None
        original = call.target
        ours = call.policy.circuit.key.header.encode("ascii")
        dropped = _MARKS if ours in {b"", b"host"} else {*_MARKS, ours}
        head = call.head = Head(
            field for field in call.request.raw_headers if field[0].lower() not in dropped
        )
        url = f"{original.scheme}://{original.authority or original.host_port}{original.origin_form}"
        head.kept += [(TARGET, url.encode("ascii")), (REASON, error.reason.encode("ascii"))]
        call.exchange.fall_back(error.reason, now)
        return elsewhere


def _elsewhere(call: Call) -> Target | None:
    exchange, fallback = call.exchange, call.policy.fallback
    if fallback.redirect is None or exchange.fell_back_for is not None or exchange.entry in _STAY:
        return None
    return redirected(fallback.redirect, call.target, is_internal=fallback.internal)


def _is_refusal(error: ProxyError) -> bool:
    """Whether it is a circuit that has refused: a limit of ours would refuse the next as well."""
    return error.refused and error.reason in REJECTION_REASONS


def _is_failure(exchange: Exchange, error: ProxyError) -> bool:
    """Whether an attempt has failed, and not the request or the proxy."""
    if exchange.begun or error.refused or error.denies:
        return False
    return not isinstance(error, ProxyInternalResponse | ProxyInternalError)
