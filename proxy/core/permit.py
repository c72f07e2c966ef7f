"""Leave to send one call, and whose fault it is if it fails.

The line asks the table for a permit, tells it how far the call has come, and settles it once:

    with circuits.admit(host, policy, exchange, now, endpoint) as permit:
        ...                               # connecting: what fails here is the host's fault
        permit.connected(now)
        ...                               # waiting for the head: the endpoint's, and perhaps the host's
        outcome = permit.head(status, retry_after_at, now)
        ...                               # content: the endpoint's
        permit.settle(outcome, now)

Only the first verdict counts. A permit that is left without one is neutral. Settle it as NEUTRAL with
the time where that is known: a probe whose lease has ended by then is judged by that, whoever looked first.

Where a host has a circuit for each endpoint besides its own, connection evidence is booked in the host's
circuit and HTTP evidence in the endpoint's. Two things go to both: silence on a connection that stands is the
endpoint's failure and counts in the host's run, once for each endpoint; and any response is a success of the
host. A tunnel has no endpoint, and all its evidence is its host's.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from proxy.core.breaker import Circuit
from proxy.core.evidence import NEVER
from proxy.core.exchange import Entry, Exchange
from proxy.core.outcome import (
    ALIVE,
    CONNECTION_KINDS,
    NEUTRAL,
    SILENT_KINDS,
    SUCCESS,
    FailureKind,
    Outcome,
    Verdict,
    of_status,
)
from proxy.core.policy import CircuitPolicy
from proxy.core.scope import By
from proxy.core.seats import Seat

# A member is looked up on its class in Python; these are asked on every call.
_BY_HOST, _TUNNEL = By.HOST, Entry.TUNNEL
# All calls that no endpoint can be told for count as one, or a client could trip the host with one hook.
_NO_ENDPOINT = ""


class Permit:
    """Leave to send one call, of one circuit or of two.

    Args:
        policy: the settings of its circuits.
        exchange: the call.
        ended: told of each of its circuits when the exchange has ended.
        host: the seat in the host's circuit; None if nobody keeps account of the call.
        endpoint: the seat in the endpoint's circuit, if it has one.

    Attributes:
        settled: whether the call has had its verdict.
    """

    __slots__ = (
        "_ended", "_endpoint", "_exchange", "_has_head", "_has_two_scopes", "_host", "_is_connected",
        "_retry_after_at", "_upstream_s", "policy", "settled",
    )  # fmt: skip

    def __init__(
        self,
        policy: CircuitPolicy,
        exchange: Exchange,
        ended: Callable[[Circuit], None],
        host: Seat | None = None,
        endpoint: Seat | None = None,
    ) -> None:
        self.policy = policy
        self.settled = False
        self._exchange = exchange
        self._ended = ended
        self._host = host
        self._endpoint = endpoint
        self._has_two_scopes = policy.key.by is not _BY_HOST and exchange.entry is not _TUNNEL
        self._is_connected = False
        self._has_head = False
        self._retry_after_at = NEVER
        self._upstream_s: float | None = None

    def __repr__(self) -> str:
        seats = [seat.circuit.key for seat in (self._host, self._endpoint) if seat is not None]
        return f"<Permit {' and '.join(seats) or 'of no circuit'}{' settled' if self.settled else ''}>"

    @property
    def is_probe(self) -> bool:
        """Whether the call is to tell if the upstream has recovered."""
        return any(seat is not None and seat.is_probe for seat in (self._host, self._endpoint))

    def connected(self, now: float) -> None:  # noqa: ARG002 -- each step of a call tells its time
        """Says that a connection stands, TLS included, or that one was reused."""
        self._is_connected = True

    def head(self, status: int, retry_after_at: float | None, now: float) -> Outcome:
        """Says that the head of the response has arrived; a probe is judged by it at once.

        Args:
            status: 200-999; interim responses are no answer.
            retry_after_at: when the upstream wants to be called again, in monotonic seconds, by its
                Retry-After on receipt; None without one, or with one that makes no sense.
            now: monotonic seconds.

        Returns:
            What the permit is to be settled with once the response is complete.
        """
        outcome = of_status(status, self.policy)
        self._has_head = True
        self._upstream_s = self._exchange.total_upstream_s(now)
        if retry_after_at is not None:
            self._retry_after_at = retry_after_at
        host, endpoint = self._host, self._endpoint
        if self._has_two_scopes:
            if host is not None:
                self._tell(host, SUCCESS, now)
            if endpoint is not None and endpoint.is_probe:
                self._tell(endpoint, outcome, now, is_whole=True)
                self.settled = True
        elif host is not None and host.is_probe:
            self._tell(host, outcome, now, is_whole=True)
            self.settled = True
        return outcome

    def settle(self, outcome: Outcome, now: float) -> None:
        """Books what the call said of the upstream; only the first verdict counts."""
        if self.settled:
            outcome = NEUTRAL
        self.settled = True
        host, endpoint = self._host, self._endpoint
        if not self._has_two_scopes:
            if host is not None:
                self._tell(host, outcome, now, is_whole=True)
            return
        of_host, of_endpoint = self._split(outcome)
        if endpoint is not None:
            self._tell(endpoint, of_endpoint, now, is_whole=True)
        if host is None:
            return
        if of_host.kind in SILENT_KINDS and self._is_connected:
            silent = _NO_ENDPOINT if endpoint is None else endpoint.circuit.key
            self._tell(host, of_host, now, silent_endpoint=silent)
        else:
            self._tell(host, of_host, now)

    def _split(self, outcome: Outcome) -> tuple[Outcome, Outcome]:
        """What the end of a call says of the host, and what of the endpoint; rule by rule, the first fits."""
        if outcome.verdict is Verdict.NEUTRAL:
            return NEUTRAL, NEUTRAL
        if self._has_head:
            return NEUTRAL, outcome  # the host has had its success at the head
        if outcome.kind in CONNECTION_KINDS or (outcome.kind is not None and not self._is_connected):
            return outcome, NEUTRAL
        if outcome.kind in SILENT_KINDS:
            return outcome, outcome
        # Something answered. If that was no HTTP, it is none of the responses that clear the host's run.
        return ALIVE if outcome.kind is FailureKind.MALFORMED else SUCCESS, outcome

    def _tell(
        self,
        seat: Seat,
        outcome: Outcome,
        now: float,
        *,
        is_whole: bool = False,
        silent_endpoint: str | None = None,
    ) -> None:
        """Books a verdict; `is_whole` if all that is known of the call is this circuit's concern."""
        circuit = seat.circuit
        if seat.told:
            circuit.touched = now
            return
        seat.told = True
        upstream_s = self._upstream_s
        if upstream_s is None:
            upstream_s = self._exchange.total_upstream_s(now)
        circuit.book(
            seat,
            outcome,
            now,
            upstream_s=upstream_s,
            slow=is_whole and upstream_s >= self.policy.slow_call,
            retry_after_at=self._retry_after_at if is_whole else NEVER,
            silent_endpoint=silent_endpoint,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for seat in (self._host, self._endpoint):
            if seat is not None:
                seat.circuit.leave(seat)
                self._ended(seat.circuit)
