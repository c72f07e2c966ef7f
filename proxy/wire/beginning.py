"""The beginning of a tunnel: what each side says first, and what that tells.

What a client says first is held until it is clear: TLS, and to whom; plain HTTP, whose requests can be seen;
or anything else, which passes on. What the upstream says first is what the tunnel's permit settles on.
"""

from proxy.core.acl import Acl
from proxy.core.exchange import Exchange
from proxy.core.first_bytes import ALERT_BYTES, Kind, alert_name, fatal_alert
from proxy.core.opening import Opening
from proxy.core.outcome import SUCCESS, FailureKind, Outcome, failed
from proxy.core.target import Target

# How long the beginning of what may be a request is held: who speaks another protocol may wait for an answer.
HELD_S = 0.3


class Beginning:
    """What has been said so far.

    Args:
        exchange: gets the name that the client asks for.
        target: of the CONNECT.
        acl: the rules on such names.
        opening: collects what the client says.

    Attributes:
        is_http: whether the client speaks HTTP and the upstream has said nothing: then nothing passes on, and
            the requests are for others to see.
        alert: with which the upstream has refused TLS, None if it has not.
    """

    __slots__ = (
        "_acl", "_exchange", "_is_tls", "_opening", "_said", "_since", "_target", "alert", "is_http",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, target: Target, acl: Acl, opening: Opening) -> None:
        self._exchange = exchange
        self._target = target
        self._acl = acl
        self._opening: Opening | None = opening
        self._since = 0.0
        self._is_tls = False
        self._said = b""
        self.is_http = False
        self.alert: str | None = None

    @property
    def held(self) -> bytes:
        """What the client has said and has not passed on."""
        return b"" if self._opening is None else bytes(self._opening.received)

    @property
    def holds_hello(self) -> bool:
        """Whether that is a part of a ClientHello; no upstream could say anything to it yet."""
        return self._opening is not None and self._opening.begins_tls

    def hear(self, sent: bytes, now: float) -> bytes:
        """Takes what the client says, and returns what passes on now, with what was held.

        Raises:
            HttpRequestDenied: `egress.sni` forbids whom it asks for.
        """
        opening = self._opening
        if opening is None:
            return sent
        if not opening.received:
            self._since = now
        kind = opening.add(sent)
        if kind is Kind.HTTP:
            self.is_http = True
            return b""
        return b"" if kind is Kind.UNDECIDED else self.let_pass()

    def is_overdue(self, now: float) -> bool:
        """Whether what is held has to pass on as it is, as no more of a request comes."""
        opening = self._opening
        return (
            opening is not None
            and bool(opening.received)
            and not opening.begins_tls
            and not self.is_http
            and now - self._since >= HELD_S
        )

    def let_pass(self) -> bytes:
        """Returns what was held, which is nothing that could be clearer any more.

        Raises:
            HttpRequestDenied: `egress.sni` forbids whom it asks for.
        """
        opening, self._opening = self._opening, None
        if opening is None:
            return b""
        self._is_tls = opening.begins_tls
        if opening.may_lead_to_tls:
            hello = opening.hello
            if hello is not None:
                self._exchange.server_name = hello.server_name
            self._acl.authorize_hello(self._exchange, self._target, hello)
        return bytes(opening.received)

    def judge(self, said: bytes) -> Outcome | None:
        """What the upstream's first bytes say of it: that it refuses TLS, or else that it works.

        Returns:
            None while it has said too little for that.
        """
        self._said += said[:ALERT_BYTES]
        if self._is_tls:
            alert = fatal_alert(self._said)
            if alert is Kind.UNDECIDED:
                return None
            if alert is not None:
                self.alert = alert_name(alert)
                return failed(FailureKind.TLS)
        return SUCCESS
