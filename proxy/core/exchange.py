"""One request and its answer, or one tunnel: the facts that the report tells, and who owes the next move.

At any moment one side owes (design section 4): a wait names itself with `Awaited`, and whatever ends the
exchange then (our deadline, the client's leaving, the end of a probe's lease) is judged by it. The sweep that
watches the deadlines is in `wire/deadlines.py`; here is no clock.
"""

from enum import Enum

from proxy.core import errors
from proxy.core.headers import NO_BODY, Body
from proxy.core.outcome import NEUTRAL, FailureKind, Outcome, failed
from proxy.core.target import Target

FOREVER = float("inf")
# An upstream that took content so short a time before the end of a probe's lease is at work.
TOOK_LATELY_S = 5.0
_TOTAL_OVER = "the exchange took longer than timeouts.total"


class Side(Enum):
    """Who can owe the next move."""

    PROXY = "proxy"
    UPSTREAM = "upstream"
    CLIENT = "client"


class Awaited(Enum):
    """What an exchange waits for, who owes it, and the error if it does not come in time.

    Attributes:
        owed_by: the side whose move is awaited.
        upstream_owes: whether that is the upstream; asked several times in every exchange.
        in_tunnel: whether it is awaited in a tunnel.
    """

    NOTHING = "nothing", Side.PROXY, errors.ProxyInternalError, ""
    ADDRESS = "address", Side.PROXY, errors.DnsTimeout, "the resolver did not answer in time"
    CONNECTION = (
        "connection",
        Side.UPSTREAM,
        errors.ConnectionTimeout,
        "the upstream did not accept a connection in time",
    )
    TLS = (
        "TLS with the upstream",
        Side.UPSTREAM,
        errors.ConnectionTimeout,
        "the upstream did not finish the TLS handshake in time",
        failed(FailureKind.TLS),
    )
    CLIENT_TLS = (
        "the client's TLS",
        Side.CLIENT,
        errors.ClientTimeout,
        "the client did not finish the TLS handshake in time",
    )
    REQUEST_CONTENT = (
        "request content",
        Side.CLIENT,
        errors.ClientTimeout,
        "the content of the request did not arrive in time",
    )
    UPSTREAM_WINDOW = (
        "upstream's window",
        Side.UPSTREAM,
        errors.ConnectionWriteTimeout,
        "the upstream stopped reading the request",
    )
    RESPONSE_HEAD = (
        "response head",
        Side.UPSTREAM,
        errors.HttpResponseTimeout,
        "the upstream sent no response head in time",
    )
    RESPONSE_CONTENT = (
        "response content",
        Side.UPSTREAM,
        errors.ConnectionReadTimeout,
        "the upstream stopped sending its response",
    )
    CLIENT_WINDOW = (
        "client's window",
        Side.CLIENT,
        errors.ClientTimeout,
        "the client stopped reading the response",
    )
    TUNNEL_FIRST_BYTES = (
        "first bytes through the tunnel",
        Side.UPSTREAM,
        errors.ConnectionReadTimeout,
        "the upstream said nothing through the tunnel",
        failed(FailureKind.TUNNEL),
        True,
    )
    TUNNEL_BYTES = (
        "bytes through the tunnel",
        Side.CLIENT,
        errors.ConnectionReadTimeout,
        "the tunnel was idle",
        NEUTRAL,
        True,
    )

    def __init__(  # noqa: PLR0917 -- the columns of the table above
        self,
        what: str,
        owed_by: Side,
        error: type[errors.ProxyError],
        details: str,
        outcome: Outcome | None = None,
        in_tunnel: bool = False,  # noqa: FBT001, FBT002 -- as above
    ) -> None:
        self.what = what
        self.owed_by = owed_by
        self.error = error
        self.details = details
        self.outcome = outcome or error.outcome
        self.in_tunnel = in_tunnel
        self.upstream_owes = owed_by is Side.UPSTREAM


# A member is looked up on its class in Python; these are read in every exchange.
_NOTHING = Awaited.NOTHING
_CLIENT, _CLIENT_WINDOW = Side.CLIENT, Awaited.CLIENT_WINDOW


class Entry(Enum):
    """How the target was named; the `entry` label of the metrics."""

    FORWARD = "forward"
    TUNNEL = "tunnel"
    REVERSE = "reverse"
    INTERCEPTED = "intercepted"
    DEFERRED = "deferred"


class Source(Enum):
    """Whose answer the client got."""

    UPSTREAM = "upstream"
    PROXY = "proxy"


# A member is looked up on its class in Python; it is read in every exchange.
_BY_PROXY = Source.PROXY


class Exchange:
    """What is known of one exchange so far.

    The facts have their defaults on the class, since most exchanges change few of them.

    Attributes:
        entry: how its target was named.
        method: of the request.
        started: monotonic seconds, like `owed_since` and `deadline`.
        ends_at: when it is over in any case (`timeouts.total`).
        body: the framing of the request.
        client_name: whose token the client has given (`listen.credentials_file`), None where none is asked.
        unenforced: why it would have been refused, were the rules on hosts not only to report
            (`egress.hosts.mode`); None where they let it pass.
        request_bytes, response_bytes: content passed on, without heads and chunk framing.
        fell_back_for: why it goes, or has gone, elsewhere than where it was for; None for others.
        original: what it was for then.
        begun: the client has received bytes of the answer, so that no other answer can follow.
        ends_by_close: the client takes the end of the connection for the end of the answer.
        server_name: whom a client in a tunnel has asked for in its TLS (SNI), None if nothing is known.
        tunnelled_because: why a tunnel was not intercepted although its upstream is to be; None for others.
        dns_s, connect_s, tls_s, head_s: how long each phase took, None where there was none.
        upstream_s: for how long the upstream has owed so far, in seconds, up to the last change of who owes;
            in a tunnel without the time that connecting took.
        own_s: for how long nobody was waited for, in seconds, up to the last wait.
        unread_s: for how long the client has read nothing at a time, at most. Meanwhile the upstream was not
            read either, so that its end is noticed only afterwards.
        upstream_took_at: when the upstream last took content.
        lease_at: when the lease of the probe ends that this exchange is; for ever if it is none.
        at_lease: what the facts said then, once something has changed since.
        owed_by_lease_s: and what `upstream_s_at_lease` was.
    """

    target: Target | None = None
    body: Body = NO_BODY
    client_name: str | None = None
    address: str | None = None
    status: int | None = None
    source: Source = _BY_PROXY
    error: errors.ProxyError | None = None
    outcome: Outcome = NEUTRAL
    unenforced: str | None = None
    fell_back_for: str | None = None
    original: Target | None = None
    client_left: bool = False
    begun: bool = False
    ends_by_close: bool = False
    reused: bool = False
    request_bytes: int = 0
    response_bytes: int = 0
    server_name: str | None = None
    tunnelled_because: str | None = None
    dns_s: float | None = None
    connect_s: float | None = None
    tls_s: float | None = None
    head_s: float | None = None
    awaited: Awaited = _NOTHING
    owed_since: float = 0.0
    deadline: float = FOREVER
    ends_at: float = FOREVER
    upstream_s: float = 0.0
    own_s: float = 0.0
    unread_s: float = 0.0
    upstream_took_at: float = -FOREVER
    lease_at: float = FOREVER
    at_lease: Outcome | None = None
    owed_by_lease_s: float = 0.0

    def __init__(self, entry: Entry, method: str, started: float) -> None:
        self.entry = entry
        self.method = method
        self.started = self.owed_since = started

    def __repr__(self) -> str:
        target = "nowhere" if self.target is None else self.target.host_port
        return f"<Exchange {self.entry.value} {self.method} {target} awaits {self.awaited.what}>"

    def wait_for(self, awaited: Awaited, timeout_s: float, now: float) -> None:
        """Says what is waited for from now on, and for how long at most."""
        if now >= self.lease_at:
            self._keep_facts()
        if self.awaited.upstream_owes:
            self.upstream_s += now - self.owed_since
        elif self.awaited is _NOTHING:
            self.own_s += now - self.owed_since
        elif self.awaited is _CLIENT_WINDOW:
            self.unread_s = max(self.unread_s, now - self.owed_since)
        self.owed_since = now
        self.awaited = awaited
        deadline = now + timeout_s
        self.deadline = min(self.ends_at, deadline)
        if awaited.in_tunnel:
            self.upstream_s = 0.0

    def wait_over(self, now: float) -> None:
        """Says that nobody owes anything: we are at work ourselves."""
        self.wait_for(_NOTHING, FOREVER, now)
        self.deadline = FOREVER

    def fall_back(self, reason: str, now: float) -> None:
        """Says that it goes elsewhere: what is known of its first upstream is no fact of the next.

        Args:
            reason: why, a token.
            now: monotonic seconds.
        """
        self.wait_over(now)
        self.fell_back_for, self.original = reason, self.target
        self.source = _BY_PROXY
        self.status = self.address = self.dns_s = self.connect_s = self.tls_s = self.head_s = None
        self.outcome, self.at_lease = NEUTRAL, None
        self.reused = False
        self.upstream_s = self.owed_by_lease_s = 0.0
        self.upstream_took_at = -FOREVER
        self.lease_at = self.ends_at = FOREVER

    def client_took(self, now: float) -> None:
        """Says that the client has read some of what it was sent: it has as much time again for the next."""
        if self.awaited is _CLIENT_WINDOW:
            self.wait_for(_CLIENT_WINDOW, self.deadline - self.owed_since, now)

    def upstream_took(self, now: float) -> None:
        """Says that the upstream has taken content: what was written has left our buffers."""
        if now >= self.lease_at:
            self._keep_facts()
        self.upstream_took_at = now

    def _keep_facts(self) -> None:
        # The lease is judged as of its end by whoever looks next, which may be long after it.
        self.owed_by_lease_s = self.upstream_s_at_lease()
        self.at_lease = self.verdict_at_lease()
        self.lease_at = FOREVER

    def verdict_at_lease(self) -> Outcome:
        """What the end of a probe's lease says of the upstream; its head has not arrived, or it were judged.

        Nothing, if the upstream was taking content; else what the deadline of this wait would have said,
        which is nothing as well where another side owes.
        """
        if self.at_lease is not None:
            return self.at_lease
        if self.upstream_took_at >= self.lease_at - TOOK_LATELY_S:
            return NEUTRAL
        return self.awaited.outcome

    def upstream_s_at_lease(self) -> float:
        """For how long the upstream had owed when the lease ended."""
        return self.total_upstream_s(self.lease_at) if self.at_lease is None else self.owed_by_lease_s

    def total_upstream_s(self, now: float) -> float:
        """For how long the upstream has owed the next move, all waits together."""
        return self.upstream_s + self.upstream_owed_s(now)

    def total_own_s(self, now: float) -> float:
        """For how long nobody was waited for: what the exchange has taken by the proxy's own doing."""
        return self.own_s + (now - self.owed_since if self.awaited is _NOTHING else 0.0)

    def upstream_owed_s(self, now: float) -> float:
        """For how long the upstream has owed the next move; 0 if another side owes it."""
        return now - self.owed_since if self.awaited.upstream_owes else 0.0

    def client_owed_s(self, now: float) -> float:
        """For how long the client has owed the next move, or has read nothing at some time before."""
        return max(self.unread_s, now - self.owed_since) if self.awaited.owed_by is _CLIENT else self.unread_s

    def timed_out(self) -> errors.ProxyError:
        """The error for a deadline that passed, by what was awaited."""
        awaited = self.awaited
        if self.deadline == self.ends_at:
            # Whose fault it is has not changed by that: the one who owes.
            return errors.HttpResponseTimeout(_TOTAL_OVER, outcome=awaited.outcome)
        return awaited.error(awaited.details, outcome=awaited.outcome)
